"""One job, done by a process of its own, below everything else in priority.

``python -m recorder.job_work TENANT JOB LEASE``, where the lease is that of whoever claimed the job.

The event loop reads and stores; a thread decodes and encodes, and asks the loop for bytes. What passes between them is
in memory only: pieces of a few megabytes, sealed before they are stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

from config.clock import Clock, SystemClock
from config.database import AWAY
from config.ids import TenantId
from config.keys import SigningKey, UnknownKey
from config.launch import die_with_parent
from config.logs import get_log, setup_logs
from config.objects import ObjectStoreError
from config.process import PARENT, bound_memory, stand_back
from config.settings import Settings
from recorder import bundle, preview
from recorder.catalogue import Details, Recordings
from recorder.compose import ComposeFailed, Person, compose
from recorder.compose_read import Clip
from recorder.errors import SegmentCorrupt
from recorder.jobs import LEASE_MS, Cancelled, Job, Jobs
from recorder.playback import PlainCache, open_stream
from recorder.products import BUNDLE, PIECE_BYTES, ProductWriter

log = get_log("recorder.job_work")

T = TypeVar("T")
NICENESS: Final = 19
MEMORY_MAX: Final = 2 * 1024**3
"""Whatever somebody sent to be decoded, the calls on this machine keep their memory."""
RENEW_S: Final = 5.0
READ_BYTES: Final = 1024 * 1024
CACHED_BYTES: Final = 32 * 1024 * 1024
WAIT_S: Final = 120.0
"""Longest wait of the thread for one read or store; the store has given up by then."""
EXIT_FAILED: Final = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Tools:
    """What jobs are done with."""

    recordings: Recordings
    key: SigningKey
    clock: Clock

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.recordings, self.clock)


class _Bytes(Protocol):
    size: int

    def read(self, start: int, end: int, cache: PlainCache) -> AsyncIterator[bytes]: ...


class Running:
    """A job that is being done: its lease, its progress, and the way from its thread to the loop."""

    def __init__(self, job: Job, tools: Tools, recording: Details) -> None:
        self.job = job
        self.tools = tools
        self.recording = recording
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._progress = 0
        self._leased_until_s = time.monotonic() + LEASE_MS / 1000

    def progress(self, share: float) -> None:
        """From any thread: how much is done, 0–1. Raises ``Cancelled`` when no more is wanted."""
        self._progress = max(0, min(99, int(share * 100)))
        if self._stop.is_set():
            raise Cancelled

    async def hold(self) -> None:
        """Before anything is stored. Raises ``Cancelled`` when no more is wanted, or when, for want of PostgreSQL, the
        job may be another's by now: nobody would delete what is stored then."""
        if self._stop.is_set():
            raise Cancelled
        if time.monotonic() >= self._leased_until_s:
            try:
                await self._renew()
            except AWAY as error:
                log.warning("the lease ran out", job=self.job.public_id, why=str(error))
                raise Cancelled from error

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """From the thread: have the loop do it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)

    async def renew(self) -> None:
        """Hold the lease until somebody takes it away."""
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self._renew()
            except Cancelled:
                self._stop.set()
                return
            except AWAY as error:
                log.warning("lease not renewed", job=self.job.public_id, why=str(error))

    async def _renew(self) -> None:
        began_s = time.monotonic()
        await self.tools.jobs.renew(self.job, self._progress)
        self._leased_until_s = began_s + LEASE_MS / 1000

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        """Do it in a thread; when cancelled, it stops at the next sign of progress."""
        try:
            return await asyncio.to_thread(work, *args)
        except asyncio.CancelledError:
            self._stop.set()
            raise


async def do(job: Job, tools: Tools) -> str:
    """Do a claimed job: how it ended. Raises what asyncpg raises while PostgreSQL is away, and what nobody expected."""
    recording = await tools.recordings.find(job.tenant_id, job.recording_public_id)
    if recording is None or not recording.allows(job.kind):
        await tools.jobs.fail(job, "The recording is not ready any more.", for_good=True)
        return "failed"
    running = Running(job, tools, recording)
    keeping = asyncio.create_task(running.renew(), name=f"lease {job.public_id}")
    try:
        await WORK[job.kind](running)
    except Cancelled:
        return "cancelled"
    except (SegmentCorrupt, UnknownKey, ComposeFailed) as error:
        log.error("job failed", job=job.public_id, why=f"{type(error).__name__}: {error}")
        await tools.jobs.fail(job, f"The recording cannot be used: {error}", for_good=True)
        return "failed"
    except (ObjectStoreError, TimeoutError) as error:
        log.warning("job waits for the store", job=job.public_id, why=str(error))
        await tools.jobs.fail(job, f"The store could not be reached: {error}", for_good=False)
        return "waiting"
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    return "done"


async def _export(running: Running) -> None:
    job, total = running.job, sum(stream.file_bytes or 0 for stream in running.recording.streams)

    async def progress(done: int) -> None:
        running.progress(done / max(1, total))

    tools = running.tools
    about = {"export": job.public_id, "reason": job.reason, "made_at_ms": tools.clock.wall_ms()}
    plan = await bundle.make_plan(tools.recordings, running.recording, tools.key, about, progress)
    documents, members = await asyncio.to_thread(bundle.pack, plan)
    sink = await _Sink.open(running)
    await running.in_thread(sink.write, documents)
    await tools.jobs.finish(job, [await sink.finish(BUNDLE, "application/octet-stream", 0, 0)], plan=members)


async def _composition(running: Running) -> None:
    job, recording = running.job, running.recording
    layout, duration_ms = str(job.layout), recording.duration_ms or 0
    clips, people = await _clips(running), [person for person, _ in _people(recording)]
    sink = await _Sink.open(running)
    width, height = await running.in_thread(compose, sink, layout, people, clips, duration_ms, running.progress)
    content_type = "audio/mp4" if layout == "audio" else "video/mp4"
    await running.tools.jobs.finish(job, [await sink.finish(layout, content_type, width, height)])


async def _preview(running: Running) -> None:
    recording, made = running.recording, []
    people, clips, duration_ms = _people(recording), await _clips(running), recording.duration_ms or 0
    persons = [person for person, _ in people]
    picture = await running.in_thread(preview.thumbnail, persons, clips, duration_ms)
    if picture is not None:
        sink = await _Sink.open(running)
        await running.in_thread(sink.write, picture[0])
        made.append(await sink.finish("thumbnail", "image/jpeg", *picture[1:]))
    peaks = await running.in_thread(preview.waveform, people, clips, duration_ms, running.progress)
    sink = await _Sink.open(running)
    await running.in_thread(sink.write, peaks)
    made.append(await sink.finish("waveform", "application/json", 0, 0))
    await running.tools.jobs.finish(running.job, made)


WORK: Final[dict[str, Callable[[Running], Awaitable[None]]]] = {
    "export": _export,
    "composition": _composition,
    "preview": _preview,
}


def _people(recording: Details) -> list[tuple[Person, str]]:
    return [(Person(each.user_id, each.name), each.public_id) for each in recording.participants]


async def _clips(running: Running) -> list[Clip]:
    """The recording's streams, read through the one verified way."""
    recording, cache, out = running.recording, PlainCache(CACHED_BYTES), []
    for stream in recording.streams:
        file = await open_stream(running.tools.recordings, recording, stream.n)
        if file is None:
            raise SegmentCorrupt(f"stream {stream.n} is not complete")
        out.append(
            Clip(
                user_id=stream.user_id,
                source=stream.source,
                start_ms=stream.start_ms - recording.started_at_ms,
                end_ms=stream.end_ms - recording.started_at_ms,
                video=stream.video_codec is not None,
                audio=stream.audio,
                open=lambda file=file: _Source(running, file, cache),  # type: ignore[misc]
            )
        )
    return out


class _Source:
    """A stored file as FFmpeg reads it, from the thread."""

    def __init__(self, running: Running, file: _Bytes, cache: PlainCache) -> None:
        self._running = running
        self._file = file
        self._cache = cache
        self._at = 0
        self._held = (0, b"")

    def read(self, size: int) -> bytes:
        end = min(self._at + size, self._file.size)
        if self._at >= end:
            return b""
        start, data = self._held
        if not start <= self._at < start + len(data):
            start = self._at
            data = self._running.wait_for(self._fetch(start, min(start + READ_BYTES, self._file.size)))
            self._held = (start, data)
        out = data[self._at - start : end - start]
        self._at += len(out)
        return out

    async def _fetch(self, start: int, end: int) -> bytes:
        return b"".join([piece async for piece in self._file.read(start, end, self._cache)])

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at


class _Sink:
    """A product as FFmpeg writes it, from the thread: the first piece is held back: its head is written last."""

    def __init__(self, running: Running, writer: ProductWriter) -> None:
        self._running = running
        self._writer = writer
        self._first = bytearray()
        self._rest = bytearray()
        self._index = 1
        self._at = self._end = 0

    @classmethod
    async def open(cls, running: Running) -> _Sink:
        number = await running.tools.jobs.begin_product(running.job)
        sealer = await running.tools.recordings.sealer(running.recording)
        return cls(running, ProductWriter(running.tools.recordings, running.recording, sealer, number))

    def write(self, data: bytes) -> int:
        if self._at < self._end:
            if self._at + len(data) > len(self._first):
                raise ComposeFailed("what was written before cannot be changed any more")
            self._first[self._at : self._at + len(data)] = data
        else:
            room = PIECE_BYTES - len(self._first)
            self._first += data[:room]
            self._rest += data[room:]
            self._end += len(data)
        self._at += len(data)
        while len(self._rest) >= PIECE_BYTES:
            self._running.wait_for(self._store(bytes(self._rest[:PIECE_BYTES])))
            del self._rest[:PIECE_BYTES]
        return len(data)

    async def _store(self, piece: bytes) -> None:
        await self._running.hold()
        await self._writer.store(self._index, piece)
        self._index += 1

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    async def finish(self, kind: str, content_type: str, width: int, height: int) -> dict[str, Any]:
        """Store what is left and check all of it: the product's row."""
        if self._rest:
            await self._store(bytes(self._rest))
        await self._running.hold()
        await self._writer.store(0, bytes(self._first))
        duration_ms = 0 if kind in ("thumbnail", BUNDLE) else self._running.recording.duration_ms or 0
        about = {"kind": kind, "content_type": content_type, "width": width, "height": height}
        tools = self._running.tools
        return await self._writer.finish(
            tools.key, tools.clock, self._running.job.public_id, {**about, "duration_ms": duration_ms}
        )


async def main(settings: Settings, tenant: TenantId, public_id: str, lease: int) -> int:
    """Do one job that the caller has claimed, by that lease; returns an exit status."""
    from recorder.service import services_of

    async with services_of(settings) as services:
        tools = Tools(services.recordings, services.signer.key, SystemClock())
        job = await tools.jobs.find(tenant, public_id)
        if job is None or job.state != "running" or job.lease != lease:
            return 0
        try:
            await tools.jobs.renew(job)  # from here on our own clock tells how long we may go on
            state = await do(job, tools)
        except Cancelled:
            return 0
        except Exception:  # noqa: BLE001 - the outermost boundary of this process: logged once, told by the status
            log.fault("job failed", job=public_id)
            return EXIT_FAILED
        log.info("job over", job=public_id, kind=job.kind, recording=job.recording_public_id, state=state)
    return 0


if __name__ == "__main__":
    own = Settings()
    setup_logs("recorder-job", own.log_level, own.log_format)
    stand_back(NICENESS)  # as far down as it goes, whatever was inherited
    bound_memory(MEMORY_MAX)
    with contextlib.suppress(OSError):
        die_with_parent(signal.SIGTERM, int(os.environ.get(PARENT, "0")) or None)
    sys.exit(asyncio.run(main(own, TenantId(int(sys.argv[1])), sys.argv[2], int(sys.argv[3]))))
