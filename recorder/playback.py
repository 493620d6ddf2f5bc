"""Streams as they are played: any range of bytes, decrypted on the way out; nothing decrypted is kept on disk."""

from __future__ import annotations

import bisect
import dataclasses
import re
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final

from config.objects import ObjectStore
from recorder.catalogue import Details, Recordings
from recorder.errors import SegmentCorrupt
from recorder.finish import front_name, read_object, read_segment
from recorder.manifest import Entry
from recorder.segments import Name, Sealer
from recorder.store import StreamRow

CACHED_BYTES_MAX: Final = 48 * 1024 * 1024
"""Plaintext of segments kept in memory for all players together; the least recently used goes first."""
CHUNK_BYTES: Final = 256 * 1024
RANGE_CHARS_MAX: Final = 64
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class RangeBeyond(Exception):
    """No byte of the file lies in the wanted range (RFC 9110 §15.5.17)."""


def read_range(text: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last that a Range header asks for; None: the whole file.

    Several ranges, other units and malformed headers are ignored, as RFC 9110 §14.2 allows. Raises ``RangeBeyond``.
    """
    match = _RANGE.fullmatch(text.strip()) if text is not None and len(text) <= RANGE_CHARS_MAX else None
    if match is None or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if first == "":
        if int(last) == 0 or size == 0:
            raise RangeBeyond
        return max(0, size - int(last)), size
    start = int(first)
    end = min(size, int(last) + 1) if last else size
    if last and int(last) < start:
        return None
    if start >= size:
        raise RangeBeyond
    return start, end


class PlainCache:
    """Decrypted segments by object key, bounded in bytes."""

    def __init__(self, max_bytes: int = CACHED_BYTES_MAX) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> bytes | None:
        plaintext = self._held.get(key)
        if plaintext is not None:
            self._held.move_to_end(key)
        return plaintext

    def put(self, key: str, plaintext: bytes) -> None:
        if key in self._held or len(plaintext) > self._max_bytes:
            return
        self._held[key] = plaintext
        self._bytes += len(plaintext)
        while self._bytes > self._max_bytes:
            _, dropped = self._held.popitem(last=False)
            self._bytes -= len(dropped)


@dataclasses.dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of the file and where it comes from."""

    start: int
    skip: int
    """Bytes of the object's plaintext that are not part of the file: the live file's header."""
    size: int
    entry: Entry | None
    """None: the front."""


class StreamFile:
    """One stream's seekable file: its front, then the clusters of its segments."""

    def __init__(
        self, recording: Details, stream: StreamRow, entries: list[Entry], objects: ObjectStore, sealer: Sealer
    ) -> None:
        """Raises ``SegmentCorrupt`` where the catalogue does not add up."""
        self.size = stream.file_bytes or 0
        self.content_type = stream.content_type
        self._front = front_name(recording.tenant_id, recording.public_id, stream)
        self._stream = stream
        self._objects = objects
        self._sealer = sealer
        self._pieces = [_Piece(0, 0, stream.front_bytes or 0, None)]
        at = self._pieces[0].size
        for entry in entries:
            skip = stream.header_bytes if entry.segment == 0 else 0
            self._pieces.append(_Piece(at, skip, entry.plain_bytes - skip, entry))
            at += entry.plain_bytes - skip
        self._starts = [piece.start for piece in self._pieces]
        if at != self.size or [entry.segment for entry in entries] != list(range(len(entries))):
            raise SegmentCorrupt(f"stream {stream.n} of {recording.public_id} is not complete")

    @property
    def etag(self) -> str:
        """A strong entity tag: the hash of the file."""
        return f'"{(self._stream.file_sha256 or b"").hex()}"'

    async def read(self, start: int, end: int, cache: PlainCache) -> AsyncIterator[bytes]:
        """The bytes from ``start`` to before ``end``. Raises ``SegmentCorrupt``, ``ObjectStoreError``."""
        index = bisect.bisect_right(self._starts, start) - 1
        while start < end:
            piece = self._pieces[index]
            plaintext = await self._plaintext(piece, cache)
            stop = min(end, piece.start + piece.size)
            while start < stop:
                size = min(CHUNK_BYTES, stop - start)
                offset = start - piece.start + piece.skip
                yield plaintext[offset : offset + size]
                start += size
            index += 1

    async def _plaintext(self, piece: _Piece, cache: PlainCache) -> bytes:
        entry = piece.entry
        name = self._front if entry is None else dataclasses.replace(self._front, segment=entry.segment)
        plaintext = cache.get(name.key)
        if plaintext is None:
            plaintext = await self._fetch(name, entry)
            cache.put(name.key, plaintext)
        if len(plaintext) != piece.size + piece.skip:
            raise SegmentCorrupt(f"{name.key} has another length than was catalogued")
        return plaintext

    async def _fetch(self, name: Name, entry: Entry | None) -> bytes:
        if entry is not None:
            return await read_segment(self._objects, self._sealer, name, entry)
        stream = self._stream
        sha256 = stream.front_object_sha256 or b""
        return await read_object(self._objects, self._sealer, name, stream.front_key or "", sha256, None)


async def open_stream(recordings: Recordings, recording: Details, n: int) -> StreamFile | None:
    """A stream's file; None when there is no such stream. Raises ``SegmentCorrupt``, ``UnknownKey``."""
    stream = next((each for each in recording.streams if each.n == n), None)
    if stream is None:
        return None
    entries = await recordings.entries(recording, n)
    return StreamFile(recording, stream, entries, recordings.objects, await recordings.sealer(recording))
