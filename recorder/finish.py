"""When a part's media is all stored: read every object back, check it, and make each stream seekable."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib

from config.objects import ObjectLock, ObjectMissing, ObjectStore
from recorder.errors import SegmentCorrupt
from recorder.manifest import Entry
from recorder.matroska import Cue, MatroskaError, Splitter, read_cluster, seekable_front
from recorder.muxer import VIDEO_TRACK
from recorder.segments import FRONT, Name, Sealer
from recorder.store import StreamRow


@dataclasses.dataclass(frozen=True, slots=True)
class Derivative:
    """The seekable file of a stream: a front, then the stream's clusters as they lie in its segments."""

    front_key: str
    front_bytes: int
    front_object_sha256: bytes
    file_bytes: int
    file_sha256: bytes


async def read_segment(objects: ObjectStore, sealer: Sealer, name: Name, entry: Entry) -> bytes:
    """A segment's plaintext, checked against the catalogue. Raises ``SegmentCorrupt``, ``ObjectStoreError``."""
    return await read_object(objects, sealer, name, entry.object_key, entry.object_sha256, entry.plain_sha256)


async def read_object(
    objects: ObjectStore, sealer: Sealer, name: Name, key: str, object_sha256: bytes, plain_sha256: bytes | None
) -> bytes:
    """An object's plaintext, checked. Raises ``SegmentCorrupt``, ``ObjectStoreError``."""
    if key != name.key:
        raise SegmentCorrupt(f"{key} is catalogued in place of {name.key}")
    try:
        data = await objects.get(key)
    except ObjectMissing:
        raise SegmentCorrupt(f"{key} is missing") from None
    return await asyncio.to_thread(_open, sealer, name, data, object_sha256, plain_sha256)


async def _read_again(objects: ObjectStore, sealer: Sealer, name: Name, skip: int) -> bytes:
    """What was checked before: its seal says whether it is still the same."""
    data = await objects.get(name.key)
    plaintext = await asyncio.to_thread(sealer.open, name, data)
    return plaintext[skip:]


def _open(sealer: Sealer, name: Name, data: bytes, object_sha256: bytes, plain_sha256: bytes | None) -> bytes:
    if hashlib.sha256(data).digest() != object_sha256:
        raise SegmentCorrupt(f"{name.key} is not what was stored")
    plaintext = sealer.open(name, data)
    if plain_sha256 is not None and hashlib.sha256(plaintext).digest() != plain_sha256:
        raise SegmentCorrupt(f"{name.key} holds other media than was catalogued")
    return plaintext


class _Index:
    """What the front needs to know of the clusters."""

    def __init__(self) -> None:
        self.cues: list[Cue] = []
        self.bytes = 0
        self._splitter = Splitter()

    @property
    def header(self) -> bytes:
        return self._splitter.header

    def add(self, plaintext: bytes) -> None:
        for cluster in self._splitter.feed(plaintext):
            info = read_cluster(cluster, VIDEO_TRACK)
            if info.key_ms is not None:
                self.cues.append(Cue(info.key_ms, self.bytes))
            self.bytes += len(cluster)


async def make_seekable(
    objects: ObjectStore,
    sealer: Sealer,
    name: Name,
    stream: StreamRow,
    entries: list[Entry],
    lock: ObjectLock | None,
) -> Derivative:
    """Verify a stream's segments and store its front. ``name``: of the stream's front.

    Reads everything twice, one segment at a time, so that the hash of the whole file is known and memory is bounded.
    Raises ``SegmentCorrupt``, ``ObjectStoreError``.
    """
    index = _Index()
    for entry in entries:
        plaintext = await read_segment(objects, sealer, _segment(name, entry), entry)
        try:
            await asyncio.to_thread(index.add, plaintext)
        except MatroskaError as error:
            raise SegmentCorrupt(f"{entry.object_key}: {error}") from error
    duration_ms = stream.end_ms - stream.start_ms
    front = seekable_front(index.header, index.cues, VIDEO_TRACK, index.bytes, duration_ms)
    digest = hashlib.sha256(front)
    for place, entry in enumerate(entries):
        digest.update(await _read_again(objects, sealer, _segment(name, entry), len(index.header) if place == 0 else 0))
    sealed = sealer.seal(name, front)
    sha256 = hashlib.sha256(sealed).digest()
    await objects.put(name.key, sealed, sha256=sha256, lock=lock)
    await read_object(objects, sealer, name, name.key, sha256, None)
    return Derivative(name.key, len(front), sha256, len(front) + index.bytes, digest.digest())


def _segment(front: Name, entry: Entry) -> Name:
    return dataclasses.replace(front, segment=entry.segment)


def front_name(tenant_id: int, recording: str, stream: StreamRow) -> Name:
    """The name of a stream's front."""
    return Name(tenant_id, recording, stream.epoch, stream.n, FRONT)
