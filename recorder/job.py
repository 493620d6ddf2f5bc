"""One part from the spool into the object store: the shell around ``pipeline``.

Whatever is away — PostgreSQL, the object store — is waited for, and the spool stays until everything is stored, read
back and verified. A job may be killed anywhere and begun again: it makes the same segments and skips the stored ones.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from config.keys import KeyRing, UnknownKey
from config.logs import get_log
from config.objects import ObjectExists, ObjectLock, ObjectMissing, ObjectStore, ObjectStoreError
from recorder import manifest, metrics, upkeep
from recorder.catalogue import Recordings
from recorder.errors import Diverged, RecorderError, Unavailable
from recorder.finish import front_name, make_seekable
from recorder.manifest import Entry
from recorder.pipeline import Output, Pipeline, Round, RunBegan, RunEnded
from recorder.root import Signer
from recorder.segments import Index, Name, Sealer, Segment
from recorder.store import PartRow, Store, StreamRow
from relay.spool import PartHeader

log = get_log("recorder.job")

T = TypeVar("T")
POLL_S: Final = 1.0
"""How often the spool of a live call is looked at: what one look costs beside its packets, it costs once a second."""
WAIT_MIN_S, WAIT_MAX_S = 0.25, 10.0
"""Pauses between tries while something is away."""
DIVERGED_MAX: Final = 5
DIVERGED_SINGLY: Final = 2
"""So often one stream alone is stored anew; then all of the part. After another version, or with segments of another
length, all of them are different, and a long call has hundreds."""
MANIFESTS_SKIPPED_MAX: Final = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Services:
    """What jobs work with."""

    store: Store
    objects: ObjectStore
    keys: KeyRing
    executor: Executor
    """Threads for reading and muxing."""
    segment_ms: int
    signer: Signer
    recordings: Recordings


class PartJob:
    """Works on one part until it is complete."""

    def __init__(self, directory: Path, services: Services) -> None:
        self.directory = directory
        self.live = True
        """Whether the part's writer was alive when last looked at."""
        self.unstored_s = 0.0
        """How much recorded media is in the spool only."""
        self._services = services
        self._sealer: Sealer | None = None
        self._streams: dict[int, StreamRow] = {}
        self._indexes: dict[int, Index] = {}
        """Of the runs that are complete, by run."""
        self._known: dict[tuple[int, int], Entry] = {}
        self._manifest_entries = 0
        self._manifest_chain = b""
        self._stored_until_ms = 0
        self._diverged_times = 0
        self._working: asyncio.Future[Any] | None = None

    async def run(self) -> str:
        """Until the part is stored and its spool deleted: the recording's state then (``finishing``: not yet signed).

        Raises what makes the part unusable: ``SpoolError``, ``RecorderError``, ``UnknownKey``, OSError of the spool.
        """
        for _ in range(DIVERGED_MAX):
            try:
                return await self._run()
            except Diverged as error:
                metrics.DIVERGED.inc()
                log.warning("muxed differently than before", directory=str(self.directory), stream=error.stream)
        raise RecorderError("the part is muxed differently every time")

    async def _run(self) -> str:
        services = self._services
        pipeline = await self._in_thread(lambda: Pipeline(self.directory, self._unwrap, services.segment_ms))
        try:
            header = pipeline.core.header
            part = await self._persist(lambda: services.store.begin_part(header))
            state = part.state  # where it is ready, all was done but for the deletion of the spool
            if state != "ready":
                await self._record(pipeline, part)
                state = await self._finish(pipeline, part)
        finally:
            if self._working is not None:
                await asyncio.wait([self._working])  # a thread cannot be cancelled, and must not lose its files
            pipeline.close()
        if (why := await asyncio.to_thread(upkeep.damage, self.directory)) is not None:
            await asyncio.to_thread(upkeep.keep, self.directory, why)
        else:
            await asyncio.to_thread(upkeep.remove, self.directory)
        return state

    def _unwrap(self, key_id: str, wrapped: bytes) -> bytes:
        # The directory is named after the recording; a header that names another one gets no key.
        data_key = self._services.keys.unwrap(key_id, wrapped, self.directory.parent.name)
        self._sealer = Sealer(data_key, key_id)
        return data_key

    async def _record(self, pipeline: Pipeline, part: PartRow) -> None:
        self._streams.clear()
        self._indexes.clear()
        self._known = {(entry.stream, entry.segment): entry for entry in part.entries}
        self._manifest_entries, self._manifest_chain = len(part.entries), part.chain
        while True:
            round_: Round = await self._in_thread(pipeline.round)
            for output in round_.outputs:
                await self._take(pipeline, part, output)
            core = pipeline.core
            stored_ms = max(self._stored_until_ms, core.header.started_wall_ms)
            self.unstored_s = max(0.0, (core.wall_ms(core.now_ns) - stored_ms) / 1000)
            if round_.done:
                return
            if len(part.entries) - self._manifest_entries >= manifest.ENTRIES_PER_MANIFEST:
                await self._write_manifest(pipeline, part)
            if not round_.busy:
                await asyncio.sleep(POLL_S)

    async def _take(self, pipeline: Pipeline, part: PartRow, output: Output) -> None:
        store = self._services.store
        match output:
            case RunBegan(run, run_format):
                start_ms = pipeline.core.wall_ms(run.start_ns)
                self._streams[run.index] = await self._persist(
                    lambda: store.begin_stream(part, run, run_format, start_ms)
                )
            case Segment():
                await self._store_segment(part, self._streams[output.run], output)
            case RunEnded(run, index):
                self._indexes[run.index] = index
                stream = self._streams[run.index]
                await self._persist(
                    lambda: store.change_stream(
                        part,
                        stream,
                        ended=True,
                        end_ms=pipeline.core.wall_ms(run.end_ns),
                        video_frames=run.video_frames,
                        audio_ms=run.audio_ms,
                    )
                )

    async def _store_segment(self, part: PartRow, stream: StreamRow, segment: Segment) -> None:
        services, header = self._services, part.header
        known = self._known.get((stream.n, segment.number))
        if known is None:
            await self._persist(lambda: services.store.revive(part))
            name = Name(header.tenant_id, header.recording_public_id, header.epoch, stream.n, segment.number)
            sealing = partial(_sealed, self._checked_sealer(), name, segment.plaintext)
            data, object_sha256, plain_sha256 = await self._in_thread(sealing)
            try:
                await self._persist(
                    lambda: services.objects.put(name.key, data, sha256=object_sha256, lock=self._lock(part))
                )
            except ObjectExists:
                await self._diverged(part, stream)
            entry = Entry(
                epoch=header.epoch,
                stream=stream.n,
                segment=segment.number,
                object_key=name.key,
                object_bytes=len(data),
                object_sha256=object_sha256,
                plain_bytes=len(segment.plaintext),
                plain_sha256=plain_sha256,
                start_ms=segment.start_ms,
                end_ms=segment.end_ms,
            )
            await self._persist(lambda: services.store.add_segment(part, stream, entry, segment.header_bytes))
            metrics.SEGMENTS.inc()
            metrics.BYTES.inc(len(data))
        elif known.plain_sha256 != hashlib.sha256(segment.plaintext).digest():
            await self._diverged(part, stream)
        self._stored_until_ms = max(self._stored_until_ms, stream.start_ms + segment.end_ms)

    async def _diverged(self, part: PartRow, stream: StreamRow) -> None:
        self._diverged_times += 1
        alone = self._diverged_times <= DIVERGED_SINGLY
        for each in [stream] if alone else [each for each in part.streams if not each.superseded]:
            await self._persist(lambda: self._services.store.change_stream(part, each, superseded=True))  # noqa: B023 - awaited here
        raise Diverged(stream.n)

    async def _finish(self, pipeline: Pipeline, part: PartRow) -> str:
        services, header = self._services, part.header
        self.live = False
        await self._persist(lambda: services.store.revive(part))
        await self._persist(lambda: services.store.finishing(part))
        sealer = self._checked_sealer()
        for stream in [each for each in part.streams if not each.superseded and each.run not in self._streams]:
            # Begun by an earlier recorder, not made this time: what it stored stays as evidence.
            await self._persist(lambda: services.store.change_stream(part, stream, superseded=True))  # noqa: B023 - awaited here
        for run, stream in self._streams.items():
            entries = [entry for entry in part.entries if entry.stream == stream.n]
            if not entries:  # its very first frame could not be muxed: the manifest says why
                await self._persist(lambda: services.store.change_stream(part, stream, superseded=True))  # noqa: B023 - awaited here
                continue
            name, index = front_name(header.tenant_id, header.recording_public_id, stream), self._indexes[run]
            if sum(entry.plain_bytes for entry in entries) != len(index.header) + index.clusters_bytes:
                await self._diverged(part, stream)  # an earlier recorder stored more of it than there is now
            length_ms = stream.end_ms - stream.start_ms
            try:
                made = await self._persist(
                    partial(make_seekable, services.objects, sealer, name, index, length_ms, entries, self._lock(part))
                )
            except ObjectExists:
                await self._diverged(part, stream)
            await self._persist(lambda: services.store.change_stream(part, stream, **dataclasses.asdict(made)))  # noqa: B023 - awaited here
        if not await self._has_last_manifest(part):
            await self._write_manifest(pipeline, part)
            await self._write_manifest(pipeline, part, final=True)
        if pipeline.corrupt:  # noted before the catalogue says that all is done, lest a successor deletes the spool
            await asyncio.to_thread(upkeep.note_damage, self.directory, "; ".join(pipeline.core.problems))
        state = await self._persist(lambda: services.store.finish_part(part, None))
        if state != "finishing":
            return state
        return await self._persist(lambda: services.signer.sign(header.tenant_id, part.recording_id)) or state

    def _lock(self, part: PartRow) -> ObjectLock | None:
        return self._services.signer.lock(part.retain_until_ms)

    async def _has_last_manifest(self, part: PartRow) -> bool:
        """Whether the last manifest was stored and noted before, over the same entries: it stays then. Another would
        take its place in a store that overwrites, and the chain of manifests would lack it."""
        key = manifest.final_key(part.header)
        if part.manifest_key != key:
            return False
        try:
            stored = await self._persist(lambda: self._services.objects.get(key))
        except ObjectMissing:
            return False
        if hashlib.sha256(stored).digest() != part.manifest_sha256:
            return False
        return len(json.loads(stored)["chain"]["entries"]) == len(part.entries)

    async def _write_manifest(self, pipeline: Pipeline, part: PartRow, *, final: bool = False) -> None:
        """Store the next numbered manifest, or the last one. A number taken by a recorder that died is skipped."""
        header = part.header
        first = 0 if final else self._manifest_entries
        for _ in range(MANIFESTS_SKIPPED_MAX):
            data = manifest.part_manifest(
                header,
                number=part.manifests,
                final=final,
                chain_before=manifest.chain_start(header.recording_public_id, header.epoch)
                if final
                else self._manifest_chain,
                entries=part.entries[first:],
                streams=[_stream_json(header, stream, self._streams, pipeline) for stream in part.streams],
                media={**pipeline.core.described(), "late_records": pipeline.merge.late},
                previous_sha256=part.manifest_sha256,
            )
            sha256 = hashlib.sha256(data).digest()
            key = manifest.final_key(header) if final else manifest.number_key(header, part.manifests)
            try:
                await self._persist(lambda: self._services.objects.put(key, data, sha256=sha256, lock=self._lock(part)))  # noqa: B023 - awaited here
            except ObjectExists:
                if final:
                    log.warning("the manifest was stored before", recording=header.recording_public_id)
                    stored = await self._persist(lambda: self._services.objects.get(key))  # noqa: B023 - awaited here
                    sha256 = hashlib.sha256(stored).digest()
                else:
                    part.manifests += 1
                    continue
            await self._persist(lambda: self._services.store.note_manifest(part, key, sha256))  # noqa: B023 - awaited here
            self._manifest_entries, self._manifest_chain = len(part.entries), part.chain
            return
        raise RecorderError("no free number for a manifest")

    def _checked_sealer(self) -> Sealer:
        if self._sealer is None:
            raise UnknownKey(self.directory.name)
        return self._sealer

    async def _in_thread(self, work: Callable[[], T]) -> T:
        self._working = asyncio.get_running_loop().run_in_executor(self._services.executor, work)
        result: T = await asyncio.shield(self._working)
        self._working = None
        return result

    async def _persist(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it, however long PostgreSQL or the object store are away."""
        wait_s = WAIT_MIN_S
        while True:
            try:
                return await work()
            except (Unavailable, ObjectStoreError) as error:
                metrics.RETRIES.labels("database" if isinstance(error, Unavailable) else "store").inc()
                log.warning("waiting for storage", why=str(error), directory=str(self.directory), retry_s=wait_s)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, WAIT_MAX_S)


def _sealed(sealer: Sealer, name: Name, plaintext: bytes) -> tuple[bytes, bytes, bytes]:
    """The object, its hash, and the plaintext's."""
    data = sealer.seal(name, plaintext)
    return data, hashlib.sha256(data).digest(), hashlib.sha256(plaintext).digest()


def _stream_json(
    header: PartHeader, stream: StreamRow, current: dict[int, StreamRow], pipeline: Pipeline
) -> dict[str, Any]:
    """A stream in the manifest."""
    users = {each.user_id: each.public_id for each in header.participants}
    derivative = None
    if stream.front_key is not None and stream.file_sha256 is not None and stream.front_object_sha256 is not None:
        derivative = {
            "front_key": stream.front_key,
            "front_bytes": stream.front_bytes,
            "front_object_sha256": stream.front_object_sha256.hex(),
            "file_bytes": stream.file_bytes,
            "file_sha256": stream.file_sha256.hex(),
        }
    return {
        "n": stream.n,
        "run": stream.run,
        "participant": users.get(stream.user_id, ""),
        "source": stream.source,
        "content_type": stream.content_type,
        "video_codec": stream.video_codec,
        "width": stream.width,
        "height": stream.height,
        "audio": stream.audio,
        "start_ms": stream.start_ms,
        "end_ms": stream.end_ms,
        "ended": stream.ended,
        "superseded": stream.superseded,
        "header_bytes": stream.header_bytes,
        "video_frames": stream.video_frames,
        "audio_ms": stream.audio_ms,
        "derivative": derivative,
    }
