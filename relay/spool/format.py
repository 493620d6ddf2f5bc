"""The spool's bytes, version 1. All integers are big-endian.

| file | header: magic ``TPSP``, u8 version, u32 file number, u8 key id length, key id, 32 bytes salt, u32 CRC-32 |
|---|---|
| block | header: magic ``TPBK``, u64 index from 0, u32 plaintext length, u32 CRC-32; then ciphertext, 16 bytes tag |
| record | u8 kind, u64 arrival_ns, u32 length, bytes; any number of whole records make a block's plaintext |

**Encryption.** AES-256-GCM under a key of the file's own: HKDF-SHA256 of the recording's data key, with the file's
random 32-byte salt, and with the SHA-256 of ``part.json`` and the file header as info. The nonce is the block index.

*No (key, nonce) pair is ever used twice:* two files share a key only if 256 random bits collide, whatever recording,
epoch or worker they belong to; inside a file the index only rises, a file is created exclusively, is never opened for
writing again, and is given up after any failed write, so no index is tried twice with other contents.

*Nothing can be altered, moved, swapped or repeated unseen:* a changed ``part.json`` or file header gives another key;
block header, recording, epoch and file number are authenticated with each block. What remains possible is to cut a
file at its end, as a crash may do; an orderly end shows by the ``end`` event in the file and ``closed`` beside it. The
CRCs tell a header damaged on disk from a block that is still being written.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FORMAT_VERSION: Final = 1
DATA_KEY_BYTES: Final = 32
BLOCK_BYTES_MAX: Final = 256 * 1024
"""Most plaintext in a block; a header that claims more is damaged."""
KEY_ID_BYTES_MAX: Final = 255
RECORD_BYTES_MAX: Final = 64 * 1024
"""Most bytes in one record; longer ones are not written."""
FILES_MAX: Final = 512
"""Streams in one part. Later ones are not recorded, which is reported as trouble."""

LOCK_NAME: Final = "lock"
PART_NAME: Final = "part.json"
CLOSED_NAME: Final = "closed"

_FILE_MAGIC: Final = b"TPSP"
_BLOCK_MAGIC: Final = b"TPBK"
_FILE_HEAD: Final = struct.Struct("!4sBIB")
_SALT_BYTES: Final = 32
_BLOCK_HEAD: Final = struct.Struct("!4sQI")
_CRC: Final = struct.Struct("!I")
_RECORD_HEAD: Final = struct.Struct("!BQI")
_SENDER_REPORT: Final = struct.Struct("!IQI")
_TAG_BYTES: Final = 16
BLOCK_HEAD_BYTES: Final = _BLOCK_HEAD.size + _CRC.size
FILE_HEAD_BYTES_MAX: Final = _FILE_HEAD.size + KEY_ID_BYTES_MAX + _SALT_BYTES + _CRC.size
RECORD_HEAD_BYTES: Final = _RECORD_HEAD.size

_new: Final = tuple.__new__  # what a NamedTuple's own does, without its wrapper: there is one for each packet
_RTP: Final = 1
_SENDER_REPORT_KIND: Final = 2
_EVENT: Final = 3


_Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class SpoolError(Exception):
    """The spool cannot be written or read; the text says why."""


class SpoolCorrupt(SpoolError):
    """Bytes that are no torn tail do not authenticate: damaged disk or tampering."""

    def __init__(self, file_number: int, offset: int, why: str) -> None:
        super().__init__(f"spool file {file_number} at byte {offset}: {why}")
        self.file_number = file_number
        self.offset = offset


class PartParticipant(msgspec.Struct, frozen=True, kw_only=True):
    """One user whose media may be in the part."""

    user_id: int
    public_id: str
    name: str
    role: str
    """``client`` or ``provider``."""


class PartHeader(msgspec.Struct, frozen=True, kw_only=True):
    """``part.json``: what a part belongs to, and how its times become wall time."""

    version: int = FORMAT_VERSION
    tenant_id: _Id
    session_id: _Id
    session_public_id: str
    recording_public_id: str
    epoch: _Id
    """The room epoch: one part per epoch."""
    worker_id: Annotated[str, msgspec.Meta(pattern="^[^\0]*$")]
    key_id: str
    """The master key that wraps the data key."""
    wrapped_key: bytes
    """The recording's data key, wrapped (base64 in the file)."""
    started_wall_ms: int
    started_monotonic_ns: int
    """The same instant on both clocks: wall_ms = started_wall_ms + (arrival_ns - started_monotonic_ns) / 1e6."""
    participants: tuple[PartParticipant, ...]


class SpoolTrack(msgspec.Struct, frozen=True, kw_only=True):
    """What one spool file holds: one received stream. Written as the file's first record, a ``track`` event."""

    user_id: int
    source: str
    """``microphone``, ``camera`` or ``screen``."""
    ssrc: int
    kind: str
    """``audio`` or ``video``."""
    clock_rate: int
    codecs: dict[int, str]
    """Payload type → codec name as in SDP."""


class RtpRecord(NamedTuple):
    """One RTP packet, decrypted, RTX unwrapped, without padding, in order of arrival."""

    arrival_ns: int
    packet: bytes


class SenderReportRecord(NamedTuple):
    """The sender's pairing of its NTP and RTP clocks (RFC 3550 §6.4.1)."""

    arrival_ns: int
    ssrc: int
    ntp64: int
    """NTP time, 32.32 fixed point."""
    rtp_timestamp: int


class TrackEventRecord(NamedTuple):
    """Something that happened to the track: ``event`` is ``track``, ``muted``, ``lost`` (packets that the spool had no
    room for) or ``end``; readers skip events that they do not know."""

    arrival_ns: int
    event: str
    fields: dict[str, Any]


Record = RtpRecord | SenderReportRecord | TrackEventRecord


def encode_rtp(arrival_ns: int, packet: bytes) -> bytes:
    """The bytes of an ``RtpRecord``."""
    return _RECORD_HEAD.pack(_RTP, arrival_ns, len(packet)) + packet


def encode_record(record: Record) -> bytes:
    """One record's bytes."""
    match record:
        case RtpRecord(arrival_ns, packet):
            return encode_rtp(arrival_ns, packet)
        case SenderReportRecord(arrival_ns, ssrc, ntp64, rtp_timestamp):
            body = _SENDER_REPORT.pack(ssrc, ntp64, rtp_timestamp)
            return _RECORD_HEAD.pack(_SENDER_REPORT_KIND, arrival_ns, len(body)) + body
        case TrackEventRecord(arrival_ns, event, fields):
            body = msgspec.json.encode({"event": event, **fields})
            return _RECORD_HEAD.pack(_EVENT, arrival_ns, len(body)) + body


def decode_records(plaintext: bytes) -> list[Record]:
    """The records of an authenticated block; kinds of later versions are skipped.

    Raises ``ValueError`` where the plaintext is no sequence of records: it was authentic, so its writer is at fault.
    """
    records: list[Record] = []
    offset, end, unpack_head = 0, len(plaintext), _RECORD_HEAD.unpack_from
    while offset < end:
        if end - offset < RECORD_HEAD_BYTES:
            raise ValueError("a record's header is cut")
        kind, arrival_ns, length = unpack_head(plaintext, offset)
        start = offset + RECORD_HEAD_BYTES
        offset = start + length
        if offset > end:
            raise ValueError("a record is cut")
        if kind == _RTP:
            records.append(_new(RtpRecord, (arrival_ns, plaintext[start:offset])))
        elif (other := _decode_other(kind, arrival_ns, plaintext[start:offset])) is not None:
            records.append(other)
    return records


def _decode_other(kind: int, arrival_ns: int, body: bytes) -> Record | None:
    if kind == _SENDER_REPORT_KIND:
        if len(body) != _SENDER_REPORT.size:
            raise ValueError("a sender report has another length")
        return SenderReportRecord(arrival_ns, *_SENDER_REPORT.unpack(body))
    if kind == _EVENT:
        fields = msgspec.json.decode(body, type=dict[str, Any])
        return TrackEventRecord(arrival_ns, str(fields.pop("event", "")), fields)
    return None


def encode_file_head(file_number: int, key_id: str, salt: bytes) -> bytes:
    """A spool file's header. ``key_id`` is at most ``KEY_ID_BYTES_MAX`` of UTF-8."""
    name = key_id.encode()
    head = _FILE_HEAD.pack(_FILE_MAGIC, FORMAT_VERSION, file_number, len(name)) + name + salt
    return head + _CRC.pack(zlib.crc32(head))


def decode_file_head(data: bytes, file_number: int) -> bytes | None:
    """The header at the start of ``data``, or None while it is not whole yet. Raises ``SpoolCorrupt``."""
    if len(data) < _FILE_HEAD.size:
        return None
    magic, version, number, key_id_length = _FILE_HEAD.unpack_from(data)
    if magic != _FILE_MAGIC:
        raise SpoolCorrupt(file_number, 0, "not a spool file")
    size = _FILE_HEAD.size + key_id_length + _SALT_BYTES
    if len(data) < size + _CRC.size:
        return None
    if _CRC.unpack_from(data, size)[0] != zlib.crc32(data[:size]):
        raise SpoolCorrupt(file_number, 0, "the file header is damaged")
    if version != FORMAT_VERSION:
        raise SpoolError(f"spool file {file_number} has format version {version}; this program reads {FORMAT_VERSION}")
    if number != file_number:
        raise SpoolCorrupt(file_number, 0, f"the file header belongs to file {number}")
    return data[: size + _CRC.size]


class BlockSeal:
    """Seals and opens the blocks of one file."""

    def __init__(self, data_key: bytes, part_json: bytes, file_head: bytes, context: tuple[str, int, int]) -> None:
        """``context``: recording public id, epoch and file number, authenticated with each block."""
        if len(data_key) != DATA_KEY_BYTES:
            raise SpoolError(f"a data key has {DATA_KEY_BYTES} bytes, not {len(data_key)}")
        salt = file_head[-_SALT_BYTES - _CRC.size : -_CRC.size]
        info = b"turnpike spool 1" + hashlib.sha256(part_json).digest() + file_head
        self._cipher = AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(data_key))
        recording, epoch, file_number = context
        self._context = recording.encode() + struct.pack("!BQI", 0, epoch, file_number)

    def seal(self, index: int, plaintext: bytes) -> bytes:
        """The whole block: header, ciphertext, tag. Never call twice with one index."""
        head = _BLOCK_HEAD.pack(_BLOCK_MAGIC, index, len(plaintext))
        head += _CRC.pack(zlib.crc32(head))
        return head + self._cipher.encrypt(_nonce(index), plaintext, self._context + head)

    def open(self, index: int, block: bytes | memoryview) -> bytes:
        """The plaintext of a whole block. Raises ``cryptography.exceptions.InvalidTag``."""
        head = block[:BLOCK_HEAD_BYTES]
        return self._cipher.decrypt(_nonce(index), block[BLOCK_HEAD_BYTES:], self._context + head)


def block_bytes(head: bytes | memoryview, index: int) -> int:
    """Length of the whole block with this header, whose index must be ``index``. Raises ``ValueError``."""
    magic, found, length = _BLOCK_HEAD.unpack_from(head)
    if magic != _BLOCK_MAGIC or _CRC.unpack_from(head, _BLOCK_HEAD.size)[0] != zlib.crc32(head[: _BLOCK_HEAD.size]):
        raise ValueError("the block header is damaged")
    if found != index:
        raise ValueError(f"block {found} stands where block {index} belongs")
    if length > BLOCK_BYTES_MAX:
        raise ValueError("the block is longer than any")
    return BLOCK_HEAD_BYTES + int(length) + _TAG_BYTES


def _nonce(index: int) -> bytes:
    return index.to_bytes(12, "big")


def file_name(file_number: int) -> str:
    """``0001.spool`` for 1."""
    return f"{file_number:04d}.spool"
