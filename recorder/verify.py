"""Does the store still hold what was recorded? Every object against the catalogue, every chain, every manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

from config.ids import DEFAULT_TENANT, TenantId
from config.keys import UnknownKey
from config.objects import ObjectMissing
from recorder.catalogue import Details, Recordings
from recorder.errors import SegmentCorrupt
from recorder.finish import read_segment
from recorder.manifest import FORMAT, FORMAT_VERSION, Entry, canonical, chain_next, chain_start
from recorder.playback import PlainCache, open_stream
from recorder.segments import Name, Sealer

PROBLEMS_MAX: Final = 100


class Verification(NamedTuple):
    """What a verification found."""

    ok: bool
    problems: list[str]
    segments: int
    """How many segments were read and found good."""


class ExportedStream(NamedTuple):
    """A stream's seekable file, decrypted."""

    n: int
    participant_id: str
    source: str
    content_type: str
    offset_ms: int
    duration_ms: int
    data: bytes


async def verify(recordings: Recordings, recording_public_id: str, tenant: TenantId = DEFAULT_TENANT) -> Verification:
    """Read everything of a recording and check it. Raises ``ObjectStoreError`` while the store is away."""
    recording = await recordings.find(tenant, recording_public_id)
    if recording is None:
        return Verification(False, ["there is no such recording"], 0)
    problems: list[str] = []
    if recording.state != "ready":
        problems.append(f"the recording is {recording.state}: {recording.failure or 'not complete'}")
    try:
        sealer = await recordings.sealer(recording)
    except UnknownKey:
        return Verification(False, [*problems, "the data key cannot be unwrapped"], 0)
    good = 0
    for part in await recordings.parts(recording):
        entries = [each for each in await recordings.entries(recording) if each.epoch == part["epoch"]]
        problems += _check_chain(recording, part, entries)
        problems += await _check_manifest(recordings, part, entries)
        for entry in entries:
            name = Name(tenant, recording.public_id, part["epoch"], entry.stream, entry.segment)
            problem = await _check_segment(recordings, sealer, name, entry)
            good += problem is None
            problems += [problem] if problem else []
    async for problem in _check_files(recordings, recording):
        problems.append(problem)
    return Verification(not problems, problems[:PROBLEMS_MAX], good)


async def export_streams(
    recordings: Recordings, recording_public_id: str, tenant: TenantId = DEFAULT_TENANT
) -> list[ExportedStream]:
    """All streams of a recording, decrypted in memory: for tests and measurements, not audited.

    Raises ``SegmentCorrupt``, ``ObjectStoreError``, ``KeyError``.
    """
    recording = await recordings.find(tenant, recording_public_id)
    if recording is None:
        raise KeyError(recording_public_id)
    users = {each.user_id: each.public_id for each in recording.participants}
    out = []
    for stream in recording.streams:
        file = await open_stream(recordings, recording, stream.n)
        if file is None:
            raise KeyError(stream.n)
        data = b"".join([chunk async for chunk in file.read(0, file.size, PlainCache(0))])
        out.append(
            ExportedStream(
                stream.n,
                next((public for user, public in users.items() if user == stream.user_id), ""),
                stream.source,
                stream.content_type,
                stream.start_ms - recording.started_at_ms,
                stream.end_ms - stream.start_ms,
                data,
            )
        )
    return out


def _check_chain(recording: Details, part: dict[str, Any], entries: list[Entry]) -> list[str]:
    chain = chain_start(recording.public_id, part["epoch"])
    for entry in entries:
        chain = chain_next(chain, entry.digest())
    if chain != part["chain"] or len(entries) != part["entries"]:
        return [f"part {part['epoch']}: the chain of the catalogue does not hold"]
    return []


async def _check_manifest(recordings: Recordings, part: dict[str, Any], entries: list[Entry]) -> list[str]:
    where = f"part {part['epoch']}"
    if part["manifest_key"] is None:
        return [f"{where}: there is no manifest"]
    try:
        data = await recordings.objects.get(part["manifest_key"])
    except ObjectMissing:
        return [f"{where}: the manifest is missing"]
    if hashlib.sha256(data).digest() != part["manifest_sha256"]:
        return [f"{where}: the manifest is not what was stored"]
    manifest = json.loads(data)
    if manifest["format"] != FORMAT or manifest["version"] != FORMAT_VERSION:
        return [f"{where}: the manifest has a format that this program does not know"]
    chain = bytes.fromhex(manifest["chain"]["before"])
    for shown in manifest["chain"]["entries"]:
        fields = {name: value for name, value in shown.items() if name not in ("entry_sha256", "chain")}
        chain = chain_next(chain, hashlib.sha256(canonical(fields)).digest())
        if chain.hex() != shown["chain"]:
            return [f"{where}: the chain of the manifest does not hold"]
    if chain != part["chain"] or len(manifest["chain"]["entries"]) != len(entries):
        return [f"{where}: manifest and catalogue disagree"]
    return []


async def _check_segment(recordings: Recordings, sealer: Sealer, name: Name, entry: Entry) -> str | None:
    try:
        await read_segment(recordings.objects, sealer, name, entry)
    except SegmentCorrupt as error:
        return str(error)
    return None


async def _check_files(recordings: Recordings, recording: Details) -> AsyncIterator[str]:
    """The files that are played, byte for byte."""
    for stream in recording.streams:
        digest = hashlib.sha256()
        try:
            file = await open_stream(recordings, recording, stream.n)
            if file is not None:
                async for chunk in file.read(0, file.size, PlainCache(0)):
                    digest.update(chunk)
        except SegmentCorrupt as error:
            yield f"stream {stream.n}: {error}"
            continue
        if digest.digest() != stream.file_sha256:
            yield f"stream {stream.n} is not the file that was made of it"
