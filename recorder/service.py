"""The recorder's process: one job for each part in the spool, none in the way of another, or of live calls.

A part that cannot be recorded is tried again, ever later; one that no trying mends is in the end left alone, with the
reason noted and its spool kept. A part that kills the whole process is worked on in a process of its own, where it can
harm none but itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from config.clock import Clock, SystemClock
from config.database import Database
from config.keys import KeyRing, SigningKey, UnknownKey, WrappedKeys
from config.logs import get_log, setup_logs
from config.metrics import OpsServer
from config.objects import ObjectStoreError
from config.objects_open import open_keys, open_objects
from config.process import PARENT, die_with_parent, stand_back
from config.settings import Settings
from recorder import metrics, upkeep
from recorder.catalogue import Recordings
from recorder.errors import RecorderError, Unavailable
from recorder.job import PartJob, Services
from recorder.keeper import Keeper, keeping
from recorder.root import Signer
from recorder.store import Store, UnknownRecording
from relay.recording import free_bytes
from relay.spool import SpoolError, find_parts, open_part

log = get_log("recorder")

SCAN_S: Final = 0.5
"""How often the spool is looked through for new parts."""
SIGN_S: Final = 1.0
"""How often recordings are looked for that can be signed: their parts were done before their sessions were."""
SWEEP_S: Final = 20.0
"""How often remnants and recordings without media are looked for."""
GRACE_MS: Final = 60_000
"""How long after a session's end its spool may still turn up."""
TRIES_MAX: Final = 6
TRY_WAIT_S: Final = 1.0
"""Pause after the first failure; doubled after each, up to ``TRY_WAIT_MAX_S``."""
TRY_WAIT_MAX_S: Final = 300.0
HOPELESS: Final = (RecorderError, SpoolError, UnknownKey)
"""What trying again does not mend: after ``TRIES_MAX`` tries such a part waits for a person, its spool in place. After
any other fault it is tried again for ever, and counted as stuck."""
SET_ASIDE_TRIES: Final = 10
"""After this many tries, some ten minutes, the catalogue calls a stuck part failed, so that the rest of its recording
can be signed, held and erased; its spool stays, and it is tried every ``SET_ASIDE_WAIT_S``."""
SET_ASIDE_WAIT_S: Final = 3600.0
EPOCH_DIGITS_MAX: Final = 18
JOBS_MAX: Final = 256
"""Parts worked on at once, but for stuck ones; more wait in the spool."""
DRAIN_S: Final = 15.0
"""How long a recorder that is told to stop goes on with parts whose calls are over."""
LOCK_NAME: Final = "recorder.lock"
THREADS: Final = 1
"""That read and mux. Nearly all of it is Python, so that more would only wait for each other."""
SWITCH_S: Final = 0.02
"""How long a thread may keep the others waiting: nothing here is urgent, and each change costs."""
NICENESS: Final = 10
GARBAGE_EVERY: Final = 50_000
"""Objects made between two searches for cycles: packets are many, and none of them is in one."""
EXIT_FAILED, EXIT_HOPELESS = 3, 4

Worked = Callable[[], Awaitable[str]]


def is_hopeless(error: Exception) -> bool:
    """Whether trying again does not mend it."""
    return isinstance(error, HOPELESS) and not isinstance(error, Unavailable)


class Recorder:
    """Watches a spool directory. ``run`` until cancelled; then ``drain``."""

    def __init__(self, settings: Settings, services: Services, clock: Clock) -> None:
        self._settings = settings
        self._services = services
        self._clock = clock
        self._tasks: dict[Path, asyncio.Task[None]] = {}
        self._jobs: dict[Path, PartJob] = {}
        self._stuck: set[Path] = set()
        self._swept_s = 0.0
        self._signed_s = 0.0

    async def run(self) -> None:
        """Take up every part that appears."""
        while True:
            await self._scan()
            metrics.PARTS.set(len(self._tasks))
            metrics.STUCK.set(len(self._stuck))
            free = await asyncio.to_thread(free_bytes, self._settings.spool_dir)
            metrics.SPOOL_FREE.set(free)
            metrics.SPOOL_LOW.set(free < self._settings.spool_free_min_bytes)
            metrics.LAG.set(max((job.unstored_s for job in self._jobs.values()), default=0.0))
            await asyncio.sleep(SCAN_S)

    async def drain(self) -> None:
        """Finish the parts whose calls are over, for a bounded time; leave the others to the next start."""
        until = time.monotonic() + DRAIN_S
        while time.monotonic() < until and await self._any_over():
            await self._scan()
            await asyncio.sleep(SCAN_S)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _any_over(self) -> bool:
        for directory in await asyncio.to_thread(find_parts, self._settings.spool_dir):
            if not upkeep.is_kept(directory) and not await asyncio.to_thread(_writer_alive, directory, self._services):
                return True
        return False

    async def _scan(self) -> None:
        spool_dir = self._settings.spool_dir
        for directory in await asyncio.to_thread(find_parts, spool_dir):
            room = len(self._tasks) - len(self._stuck) < JOBS_MAX
            if directory not in self._tasks and room and not upkeep.is_kept(directory):
                task = asyncio.create_task(self._work(directory), name=f"part {directory.name}")
                self._tasks[directory] = task
                task.add_done_callback(lambda _, directory=directory: self._forget(directory))  # type: ignore[misc]
        if time.monotonic() - self._signed_s >= SIGN_S:
            self._signed_s = time.monotonic()
            with contextlib.suppress(Unavailable, ObjectStoreError):
                await self._services.signer.sign_complete()
        if time.monotonic() - self._swept_s >= SWEEP_S:
            self._swept_s = time.monotonic()
            await asyncio.to_thread(upkeep.remove_remnants, spool_dir)
            with contextlib.suppress(Unavailable):
                await self._services.store.give_up_unrecorded(self._clock.wall_ms() - GRACE_MS)

    def _forget(self, directory: Path) -> None:
        self._tasks.pop(directory, None)
        self._stuck.discard(directory)
        self._jobs.pop(directory, None)

    async def _work(self, directory: Path) -> None:
        """Work on one part until it is done or given up. Never raises but when cancelled."""
        alone = await asyncio.to_thread(upkeep.crashes, directory) >= upkeep.CRASHES_MAX
        work: Worked = (lambda: self._alone(directory)) if alone else (lambda: self._together(directory))
        for attempt in itertools.count(1):
            try:
                state = await work()
            except asyncio.CancelledError:
                await asyncio.to_thread(upkeep.forget_attempts, directory)
                raise
            except Exception as error:  # noqa: BLE001 - one part's fault must not stop the others
                if not await asyncio.to_thread(upkeep.is_there, directory):
                    return  # its recording was erased meanwhile
                metrics.FAILURES.inc()
                log.fault("cannot record a part", directory=str(directory), attempt=attempt)
                why, wait_s = f"{type(error).__name__}: {error}", TRY_WAIT_MAX_S
                if attempt >= TRIES_MAX:
                    if is_hopeless(error) and await self._give_up(directory, why):
                        return
                    self._stuck.add(directory)  # what is not stored is never given up: somebody is to look at it
                if attempt >= SET_ASIDE_TRIES and await self._set_aside(directory, f"{why} (it is tried again)"):
                    wait_s = SET_ASIDE_WAIT_S
                await asyncio.sleep(min(TRY_WAIT_S * 2 ** min(attempt - 1, 20), wait_s))
            else:
                metrics.FINISHED.labels(state).inc()
                log.info("part recorded", recording=directory.parent.name, epoch=directory.name, state=state)
                return

    async def _together(self, directory: Path) -> str:
        await asyncio.to_thread(upkeep.note_attempt, directory)
        job = self._jobs[directory] = PartJob(directory, self._services)
        try:
            return await job.run()
        finally:
            await asyncio.to_thread(upkeep.forget_attempts, directory)

    async def _alone(self, directory: Path) -> str:
        """Work on the part in a process of its own. Raises ``RecorderError`` where that is hopeless,
        ``ChildProcessError`` where it dies or fails."""
        settings = self._settings
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "recorder.service",
            str(directory),
            env={
                **os.environ,
                "TURNPIKE_DATA": str(settings.data),
                "DATABASE_URL": settings.database_url or "",
                "TURNPIKE_SEGMENT_MS": str(settings.segment_ms),
                PARENT: str(os.getpid()),
            },
        )
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            raise
        if status:
            died = f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            told = f"the process that worked on this part alone {died}"
            raise RecorderError(told) if status == EXIT_HOPELESS else ChildProcessError(told)
        return "done"

    async def _give_up(self, directory: Path, why: str) -> bool:
        """Leave the part to a person; whether the catalogue could be told."""
        if not await self._set_aside(directory, why, live=True):
            return False
        try:
            await asyncio.to_thread(upkeep.keep, directory, why)
        except OSError as error:
            log.error("cannot leave a part alone", directory=str(directory), why=str(error))
            return False
        metrics.FINISHED.labels("failed").inc()
        log.error("part given up, its spool is kept", directory=str(directory), why=why)
        return True

    async def _set_aside(self, directory: Path, why: str, *, live: bool = False) -> bool:
        """Tell the catalogue that the part failed, unless (without ``live``) its call goes on; False: not told yet."""
        try:
            with open_part(directory, lambda _key_id, _wrapped: bytes(32)) as reader:
                if not live and reader.writer_alive and not reader.closed:
                    return False
            part = await self._services.store.begin_part(reader.header)
            if part.state == "recording":
                await self._services.store.finish_part(part, why)
        except (SpoolError, UnknownRecording):  # the header is damaged: the directory names the part as well
            return await self._tell_by_name(directory, why)
        except FileNotFoundError:
            return True  # erased meanwhile
        except Exception:  # noqa: BLE001 - as in ``_work``: PostgreSQL or the disk is away, or refuses
            log.fault("cannot tell that a part failed", directory=str(directory))
            return False
        return True

    async def _tell_by_name(self, directory: Path, why: str) -> bool:
        """``_set_aside`` of a part whose header says nothing that holds."""
        if not (directory.name.isascii() and directory.name.isdigit() and len(directory.name) <= EPOCH_DIGITS_MAX):
            return True  # no worker of ours made it
        try:
            await self._services.store.fail_unreadable(directory.parent.name, int(directory.name), why)
        except UnknownRecording:
            return True  # nobody knows that name
        except Exception:  # noqa: BLE001 - as above
            log.fault("cannot tell that a part failed", directory=str(directory))
            return False
        return True


def _writer_alive(directory: Path, services: Services) -> bool:
    try:
        with open_part(
            directory, lambda key_id, wrapped: services.keys.unwrap(key_id, wrapped, directory.parent.name)
        ) as reader:
            return reader.writer_alive and not reader.closed
    except Exception:  # noqa: BLE001 - unreadable, so nothing is to be waited for
        return True


@contextlib.asynccontextmanager
async def only_recorder(spool_dir: Path) -> AsyncIterator[None]:
    """Wait until no other recorder works on the spool; then keep others out. The kernel lets go when we die."""
    await asyncio.to_thread(spool_dir.mkdir, parents=True, exist_ok=True, mode=0o700)
    with await asyncio.to_thread((spool_dir / LOCK_NAME).open, "ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(SCAN_S)
        yield


async def _open_database(settings: Settings) -> Database:
    """The application's database, waited for."""
    if settings.database_url is None:
        raise RecorderError("no DATABASE_URL")
    wait_s = 0.25
    while True:
        try:
            return await Database.open(settings.database_url, name="recorder", max_size=4)
        except (OSError, TimeoutError) as error:
            log.warning("waiting for PostgreSQL", why=str(error), retry_s=wait_s)
        except Exception as error:  # noqa: BLE001 - starting up, shutting down, too many clients: all pass
            log.warning("waiting for PostgreSQL", why=f"{type(error).__name__}: {error}", retry_s=wait_s)
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, 5.0)


@contextlib.asynccontextmanager
async def services_of(settings: Settings) -> AsyncIterator[Services]:
    """What jobs need, from the settings."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="mux") as executor:
        async with await _open_database(settings) as database:
            objects, keys, store = open_objects(settings), KeyRing.from_settings(settings), Store(database)
            wrapped, signing = WrappedKeys(open_keys(settings)), SigningKey.from_settings(settings)
            clock = SystemClock()
            signer = Signer(store, objects, keys, wrapped, signing, clock, settings.object_lock)
            recordings = Recordings(database, keys, wrapped, objects, clock)
            yield Services(store, objects, keys, executor, settings.segment_ms, signer, recordings)


async def main(settings: Settings) -> int:
    """The recorder role: runs until cancelled, then finishes what can be finished promptly."""
    stand_back(NICENESS)
    gc.collect()
    gc.freeze()  # what was imported stays: it need not be looked through again and again
    gc.set_threshold(GARBAGE_EVERY)
    sys.setswitchinterval(SWITCH_S)
    async with only_recorder(settings.spool_dir), services_of(settings) as services:
        checks = {"database": services.store.ping}
        async with OpsServer(settings.ops_host, settings.ops_port, checks) as ops:
            log.info("recorder up", spool=str(settings.spool_dir), ops=ops.url)
            recorder = Recorder(settings, services, SystemClock())
            async with keeping(Keeper(services.recordings, services.signer.key, SystemClock(), settings)):
                try:
                    await recorder.run()
                finally:
                    await recorder.drain()
    return 0


async def main_alone(settings: Settings, directory: Path) -> int:
    """Work on one part only, for a recorder that the part has killed before."""
    async with services_of(settings) as services:
        try:
            await PartJob(directory, services).run()
        except Exception as error:  # noqa: BLE001 - the outermost boundary of this process: logged, told by the status
            log.fault("cannot record a part", directory=str(directory))
            return EXIT_HOPELESS if is_hopeless(error) else EXIT_FAILED
    return 0


if __name__ == "__main__":
    setup_logs("recorder")
    die_with_parent(signal.SIGTERM, int(os.environ.get(PARENT, "0")) or None)
    sys.exit(asyncio.run(main_alone(Settings(), Path(sys.argv[1]))))
