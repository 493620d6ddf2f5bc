"""When a part's media is all stored: read every object back, check it, and make each stream seekable."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib

from config.objects import ObjectLock, ObjectMissing, ObjectStore
from recorder.errors import SegmentCorrupt
from recorder.manifest import Entry
from recorder.matroska import VIDEO_TRACK, seekable_front
from recorder.segments import FRONT, Index, Name, Sealer
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
    data = await _get(objects, name, key)
    return await asyncio.to_thread(_open, sealer, name, data, object_sha256, plain_sha256)


async def _get(objects: ObjectStore, name: Name, key: str) -> bytes:
    if key != name.key:
        raise SegmentCorrupt(f"{key} is catalogued in place of {name.key}")
    try:
        return await objects.get(key)
    except ObjectMissing:
        raise SegmentCorrupt(f"{key} is missing") from None


def _open(sealer: Sealer, name: Name, data: bytes, object_sha256: bytes, plain_sha256: bytes | None) -> bytes:
    if hashlib.sha256(data).digest() != object_sha256:
        raise SegmentCorrupt(f"{name.key} is not what was stored")
    plaintext = sealer.open(name, data)
    if plain_sha256 is not None and hashlib.sha256(plaintext).digest() != plain_sha256:
        raise SegmentCorrupt(f"{name.key} holds other media than was catalogued")
    return plaintext


async def make_seekable(
    objects: ObjectStore,
    sealer: Sealer,
    name: Name,
    index: Index,
    duration_ms: int,
    entries: list[Entry],
    lock: ObjectLock | None,
) -> Derivative:
    """Verify a stream's segments and store its front. ``name``: of the stream's front.

    Reads everything once, one segment at a time: the index is known from the muxing, and the segments read back are
    checked to be the very ones that were made then. Raises ``SegmentCorrupt``, ``ObjectStoreError``.
    """
    front = seekable_front(index.header, index.cues, VIDEO_TRACK, index.clusters_bytes, duration_ms)
    digest, skip = hashlib.sha256(front), len(index.header)
    for entry in entries:
        data = await _get(objects, _segment(name, entry), entry.object_key)
        await asyncio.to_thread(_add, digest, skip, sealer, _segment(name, entry), data, entry)
        skip = 0
    sealed = sealer.seal(name, front)
    sha256 = hashlib.sha256(sealed).digest()
    await objects.put(name.key, sealed, sha256=sha256, lock=lock)
    await read_object(objects, sealer, name, name.key, sha256, None)
    return Derivative(name.key, len(front), sha256, len(front) + index.clusters_bytes, digest.digest())


def _add(digest: hashlib._Hash, skip: int, sealer: Sealer, name: Name, data: bytes, entry: Entry) -> None:
    plaintext = _open(sealer, name, data, entry.object_sha256, entry.plain_sha256)
    digest.update(memoryview(plaintext)[skip:])


def _segment(front: Name, entry: Entry) -> Name:
    return dataclasses.replace(front, segment=entry.segment)


def front_name(tenant_id: int, recording: str, stream: StreamRow) -> Name:
    """The name of a stream's front."""
    return Name(tenant_id, recording, stream.epoch, stream.n, FRONT)
