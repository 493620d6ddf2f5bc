"""The export bundle: what somebody outside needs to play a recording, and to see that nothing was changed.

``bundle.json`` is signed and names every other file with its hash; the roots and manifests lie in it as they are in the
store, the media decrypted, whose hashes stand in the manifests; ``story.json`` (chat and events), ``audit.json`` (who
did what with it) and ``lock.json`` (how long it is kept, and holds) as they were when the bundle was made.

The documents are stored sealed with the recording's key, as a product of the job; the plan in the catalogue has names,
sizes and checksums. All is decrypted while it is sent: so nothing of it is ever on a disk in the clear, and nothing of
it can be read once the key is destroyed.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from config.keys import SigningKey
from config.objects import ObjectMissing
from recorder import audit, zipstream
from recorder.catalogue import Details, Recordings
from recorder.errors import SegmentCorrupt
from recorder.finish import read_object
from recorder.manifest import canonical
from recorder.missing import span_ms
from recorder.playback import PlainCache, StreamFile, open_stream
from recorder.products import ProductFile
from recorder.segments import STORY, Name, recording_prefix
from recorder.signed import BUNDLE_FORMAT, ROOT_FORMAT, Unsigned, envelope, opened
from recorder.zipstream import Member

README: Final = """\
This is the export of one recorded call.

media/       what each participant sent, as WebM or Matroska files; bundle.json says when each begins, and
             which parts of the call are missing, if any could not be stored
story.json   the chat, and what happened to the session
parts/       the manifests: every track, clock, gap and stored segment, chained by hashes
root-*.json  the signature over all manifests, made when the session was over
audit.json   who did what with the recording, and why; rows about others only as hashes
lock.json    for how long the recording is kept, and legal holds
bundle.json  the hashes of all these files, signed

To check it:  turnpike verify THIS_FILE --key PUBLIC_KEY
The public key is published by the installation at /api/v1/recordings/signing-key.
"""
DOCUMENTS_BYTES_MAX: Final = 64 * 1024 * 1024
Progress = Callable[[int], Awaitable[None]]
"""Told how many bytes of media were read so far."""


class Planned(NamedTuple):
    """A member of the bundle that is being made."""

    member: Member
    document: bytes | None
    stream: int | None


class Packed(NamedTuple):
    """A member of a bundle that is made: a document, by its place among all documents, or a stream."""

    member: Member
    at: int | None
    stream: int | None


async def make_plan(
    recordings: Recordings, recording: Details, key: SigningKey, about: dict[str, Any], progress: Progress
) -> list[Planned]:
    """Read and check everything that the bundle will hold. Raises ``SegmentCorrupt``, ``ObjectStoreError``."""
    planned: list[Planned] = []
    shown: list[dict[str, Any]] = []
    done = 0
    for stream in recording.streams:
        file = await open_stream(recordings, recording, stream.n)
        if file is None:
            raise SegmentCorrupt(f"stream {stream.n} is not complete")
        digest, crc = hashlib.sha256(), 0
        async for piece in file.read(0, file.size, PlainCache(0)):
            digest.update(piece)
            crc = zlib.crc32(piece, crc)
            done += len(piece)
            await progress(done)
        if digest.digest() != stream.file_sha256:
            raise SegmentCorrupt(f"stream {stream.n} is not the file that was made of it")
        person = next(each for each in recording.participants if each.user_id == stream.user_id)
        ending = "webm" if "webm" in stream.content_type else "mkv"
        name = f"media/{stream.n:02d}-{person.role}-{stream.source}.{ending}"
        planned.append(Planned(Member(name, file.size, crc), None, stream.n))
        offset_ms = stream.start_ms - recording.started_at_ms
        shown.append({"name": name, "bytes": file.size, "sha256": digest.hexdigest(), "stream": stream.n})
        shown[-1] |= {"participant": person.public_id, "epoch": stream.epoch, "offset_ms": offset_ms}
    documents = await _documents(recordings, recording)
    for name, data in documents.items():
        planned.append(_document(name, data))
        shown.append({"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    if sum(map(len, documents.values())) > DOCUMENTS_BYTES_MAX:
        raise SegmentCorrupt("the manifests are too large for a bundle")
    people = [{"id": p.public_id, "name": p.name, "role": p.role} for p in recording.participants]
    statement = {**about, "recording": recording.public_id, "session": recording.session_public_id}
    statement |= {"tenant": recording.tenant_id, "participants": people, "files": shown}
    statement["missing"] = missing_of(recording)
    return [_document("bundle.json", envelope(key, BUNDLE_FORMAT, statement)), *planned]


async def _documents(recordings: Recordings, recording: Details) -> dict[str, bytes]:
    """All but media and ``bundle.json``, by name."""
    out = {"README.txt": README.encode()}
    prefix = recording_prefix(recording.tenant_id, recording.public_id)
    async for key in recordings.objects.keys(prefix + "root-"):
        out[key[len(prefix) :]] = await recordings.objects.get(key)
    for epoch, data in await manifests(recordings, recording):
        out[f"parts/{epoch}/manifest.json"] = data
    if recording.story_key is not None:
        out["story.json"] = await read_story(recordings, recording, recording.story_key)
    async with recordings.database.transaction(recording.tenant_id) as connection:
        out["audit.json"] = canonical(await audit.extract(connection, recording.tenant_id, recording.public_id))
        holds = await connection.fetch(
            "select h.public_id as id, h.reason, (extract(epoch from h.placed_at) * 1000)::bigint as placed_at_ms,"
            " (extract(epoch from h.released_at) * 1000)::bigint as released_at_ms, h.release_reason from legal_hold h"
            " where h.tenant_id = $1 and h.recording_id = $2 order by h.id",
            recording.tenant_id,
            recording.id,
        )
    lock = {"retain_until_ms": recording.retain_until_ms, "held": recording.held, "holds": [dict(h) for h in holds]}
    return {**out, "lock.json": canonical(lock)}


def missing_of(recording: Details) -> list[dict[str, Any]]:
    """The parts that are not there, and between which times (from the recording's start) they lie."""
    out = []
    for part in recording.missing:
        from_ms, to_ms = (
            None if each is None else each - recording.started_at_ms for each in span_ms(part.epoch, recording.streams)
        )
        out.append({"epoch": part.epoch, "failure": part.failure, "from_ms": from_ms, "to_ms": to_ms})
    return out


async def manifests(recordings: Recordings, recording: Details) -> list[tuple[int, bytes]]:
    """(Epoch, manifest) of each part that has one, as they were stored. Raises ``SegmentCorrupt``,
    ``ObjectStoreError``."""
    return [
        (part["epoch"], await _stored(recordings, part["manifest_key"], part["manifest_sha256"]))
        for part in await recordings.parts(recording)
        if part["manifest_key"] is not None
    ]


async def read_story(recordings: Recordings, recording: Details, key: str) -> bytes:
    """Chat and events of the session, as JSON: what the root names. Raises ``SegmentCorrupt``, ``UnknownKey``,
    ``ObjectStoreError``."""
    sealer = await recordings.sealer(recording)
    name = Name(recording.tenant_id, recording.public_id, 0, 0, STORY)
    root_key, root_sha256 = recording.root_key, recording.root_sha256
    if root_key is None or root_sha256 is None:
        raise SegmentCorrupt(f"{recording.public_id} is not signed")
    try:
        told = opened(await _stored(recordings, root_key, root_sha256), ROOT_FORMAT).statement["story"]
        sha256 = bytes.fromhex(told["sha256"]) if told["key"] == key else b""
    except (Unsigned, KeyError, TypeError, ValueError):
        raise SegmentCorrupt(f"{root_key} names no story") from None
    return await read_object(recordings.objects, sealer, name, key, sha256, None)


async def _stored(recordings: Recordings, key: str, sha256: bytes) -> bytes:
    try:
        data = await recordings.objects.get(key)
    except ObjectMissing:
        raise SegmentCorrupt(f"{key} is missing") from None
    if hashlib.sha256(data).digest() != sha256:
        raise SegmentCorrupt(f"{key} is not what was stored")
    return data


def _document(name: str, data: bytes) -> Planned:
    return Planned(Member(name, len(data), zlib.crc32(data)), data, None)


def pack(plan: list[Planned]) -> tuple[bytes, str]:
    """All documents, one after the other; and what else is to be known of the bundle, as JSON."""
    documents, rows = bytearray(), []
    for each in plan:
        member = each.member
        at = None if each.document is None else len(documents)
        documents += each.document or b""
        rows.append([member.name, member.size, member.crc32, at, each.stream])
    return bytes(documents), json.dumps(rows)


def unpack(text: str) -> list[Packed]:
    """What ``pack`` packed, but for the documents."""
    return [Packed(Member(name, size, crc32), at, stream) for name, size, crc32, at, stream in json.loads(text)]


class Bundle:
    """A bundle as bytes. ``documents``: all of them, as they were stored."""

    def __init__(
        self, recordings: Recordings, recording: Details, plan: Sequence[Packed], documents: ProductFile
    ) -> None:
        self._recordings = recordings
        self._recording = recording
        self._plan = plan
        self._documents = documents
        self._stretches = zipstream.layout([each.member for each in plan])
        self.size = self._stretches[-1].start + self._stretches[-1].size

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from ``start`` to before ``end``.

        Raises ``SegmentCorrupt``, ``UnknownKey``, ``ObjectStoreError``.
        """
        for stretch in self._stretches:
            first, last = max(start, stretch.start), min(end, stretch.start + stretch.size)
            if first >= last:
                continue
            first, last = first - stretch.start, last - stretch.start
            each = self._plan[stretch.member]
            if stretch.data is not None:
                yield stretch.data[first:last]
            elif each.at is not None:
                async for piece in self._documents.read(each.at + first, each.at + last, PlainCache(0)):
                    yield piece
            else:
                async for piece in (await self._file(each)).read(first, last, PlainCache(0)):
                    yield piece

    async def _file(self, planned: Packed) -> StreamFile:
        file = await open_stream(self._recordings, self._recording, planned.stream or 0)
        if file is None or file.size != planned.member.size:
            raise SegmentCorrupt(f"{planned.member.name} is not what was planned")
        return file
