"""Segments: whole clusters of a few seconds, sealed so that they can be stored anywhere and never confused.

A stored object, version 1 (integers big-endian)::

    magic ``TPSG``, u8 version, u8 key id length, key id, 32 bytes synthetic IV, ciphertext, 16 bytes tag

**Encryption.** The recording's data key gives, by HKDF-SHA256, one key for the synthetic IV. That IV is the
HMAC-SHA256 of the object's name (recording, epoch, stream, segment or front) and its plaintext. HKDF of the data key
with the IV as salt gives the AES-256-GCM key of this object alone; the nonce is zero; name and header are the AAD.

*No (key, nonce) pair is used for two plaintexts:* other plaintext or another name gives another IV, hence another key,
unless HMAC-SHA256 collides. *The same plaintext under the same name gives the same object,* so a recorder that was
killed between storing and noting it stores it again without harm. *Objects cannot be moved, swapped or altered unseen:*
their name is authenticated. Whoever sees two objects learns only whether they are the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from recorder.errors import SegmentCorrupt
from recorder.matroska import VIDEO_TRACK, Cue, read_cluster

FORMAT_VERSION: Final = 1
FRONT: Final = 0xFFFF_FFFF
"""In place of a segment number: the front that makes a stream seekable."""
STORY: Final = 0xFFFF_FFFE
"""In place of a segment number, in epoch 0: the chat and the events of the session."""
PRODUCT_EPOCH: Final = 0
"""Products, such as compositions, are named like streams of this epoch, which no room has."""
SEGMENT_BYTES_MAX: Final = 32 * 1024 * 1024
"""A segment is closed before it grows larger, whatever its length in time."""
_MAGIC: Final = b"TPSG"
_HEAD: Final = struct.Struct("!4sBB")
_IV_BYTES: Final = 32
_TAG_BYTES: Final = 16
_NONCE: Final = bytes(12)


@dataclasses.dataclass(frozen=True, slots=True)
class Name:
    """What an object is."""

    tenant_id: int
    recording: str
    """Public id."""
    epoch: int
    stream: int
    segment: int
    """From 0, or ``FRONT``, or ``STORY``."""

    @property
    def key(self) -> str:
        """Its key in the object store."""
        if self.segment == STORY:
            return f"{recording_prefix(self.tenant_id, self.recording)}story"
        last = "front" if self.segment == FRONT else f"{self.segment:05d}.seg"
        return f"{part_prefix(self.tenant_id, self.recording, self.epoch)}{self.stream:02d}-{last}"

    def context(self) -> bytes:
        """What is authenticated with it."""
        return self.recording.encode() + struct.pack("!BQQII", 0, self.tenant_id, self.epoch, self.stream, self.segment)


def part_prefix(tenant_id: int, recording: str, epoch: int) -> str:
    """What all keys of a part begin with."""
    return f"{recording_prefix(tenant_id, recording)}{epoch}/"


def recording_prefix(tenant_id: int, recording: str) -> str:
    """What all keys of a recording begin with."""
    return f"recordings/{tenant_id}/{recording}/"


class Sealer:
    """Seals and opens the objects of one recording."""

    def __init__(self, data_key: bytes, key_id: str) -> None:
        self._data_key = data_key
        self._iv_key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"turnpike segment iv 1").derive(data_key)
        self._prefix = _HEAD.pack(_MAGIC, FORMAT_VERSION, len(key_id.encode())) + key_id.encode()

    def seal(self, name: Name, plaintext: bytes) -> bytes:
        """The object to store."""
        context = name.context()
        mac = hmac.new(self._iv_key, struct.pack("!I", len(context)) + context, hashlib.sha256)
        mac.update(plaintext)
        head = self._prefix + mac.digest()
        return head + self._cipher(head[-_IV_BYTES:]).encrypt(_NONCE, plaintext, head + context)

    def open(self, name: Name, data: bytes) -> bytes:
        """The plaintext. Raises ``SegmentCorrupt``."""
        size = len(self._prefix) + _IV_BYTES
        head = data[:size]
        if len(data) < size + _TAG_BYTES or not head.startswith(self._prefix):
            raise SegmentCorrupt(f"{name.key} is not an object of this recording's key and format")
        try:
            return self._cipher(head[-_IV_BYTES:]).decrypt(_NONCE, data[size:], head + name.context())
        except InvalidTag:
            raise SegmentCorrupt(f"{name.key} was altered") from None

    def _cipher(self, iv: bytes) -> AESGCM:
        info = b"turnpike segment 1"
        return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=iv, info=info).derive(self._data_key))


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """A few seconds of one run, not yet sealed."""

    run: int
    number: int
    plaintext: bytes
    header_bytes: int
    """How much of it is the file's header: all of it comes before the first cluster of segment 0."""
    start_ms: int
    """From the run's start."""
    end_ms: int


@dataclasses.dataclass(slots=True)
class Index:
    """What the front that makes a run's file seekable needs to know of it."""

    header: bytes = b""
    """The live file's."""
    cues: list[Cue] = dataclasses.field(default_factory=list)
    clusters_bytes: int = 0


class Segmenter:
    """Groups one run's clusters, and notes where its key frames are."""

    def __init__(self, run: int, segment_ms: int) -> None:
        self.index = Index()
        self._run = run
        self._segment_ms = segment_ms
        self._number = 0
        self._clusters: list[bytes] = []
        self._bytes = 0
        self._start_ms = 0

    def push(self, header: bytes, clusters: list[bytes]) -> list[Segment]:
        """Take in clusters that are complete; the segments that these complete. ``header``: the file's."""
        done = []
        index = self.index
        index.header = index.header or header
        for cluster in clusters:
            time_ms, key_ms = read_cluster(cluster, VIDEO_TRACK)
            if key_ms is not None:
                index.cues.append(Cue(key_ms, index.clusters_bytes))
            index.clusters_bytes += len(cluster)
            if self._clusters and (
                time_ms - self._start_ms >= self._segment_ms or self._bytes + len(cluster) > SEGMENT_BYTES_MAX
            ):
                done.append(self._take(time_ms))
            if not self._clusters:
                self._start_ms = time_ms if self._number else 0
            self._clusters.append(cluster)
            self._bytes += len(cluster)
        return done

    def finish(self, end_ms: int) -> list[Segment]:
        """The last segment, which ends with the run."""
        return [self._take(max(end_ms, self._start_ms))] if self._clusters else []

    def _take(self, end_ms: int) -> Segment:
        header = self.index.header if self._number == 0 else b""
        segment = Segment(
            self._run, self._number, header + b"".join(self._clusters), len(header), self._start_ms, end_ms
        )
        self._number += 1
        self._clusters, self._bytes = [], 0
        return segment
