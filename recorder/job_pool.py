"""Has jobs done: at most so many at once, each in a process of its own, where it can harm nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import Final

from config.database import AWAY
from config.logs import get_log
from config.process import PARENT
from config.settings import Settings
from recorder import metrics
from recorder.jobs import Cancelled, Job, Jobs

log = get_log("recorder.job_pool")

RENEW_S: Final = 5.0
STOP_S: Final = 5.0
LAST_MAX_S: Final = 6 * 3600.0
"""A job's process that has not ended after this long is killed; the try counts as failed."""


class JobPool:
    """The jobs that this recorder's processes are doing."""

    def __init__(self, jobs: Jobs, settings: Settings) -> None:
        self._jobs = jobs
        self._settings = settings
        self._tasks: set[asyncio.Task[None]] = set()

    async def fill(self) -> None:
        """Begin what waits, as far as there is room. Raises what asyncpg raises while PostgreSQL is away."""
        while len(self._tasks) < self._settings.jobs:
            job = await self._jobs.claim()
            if job is None:
                return
            task = asyncio.create_task(self._run(job), name=f"job {job.public_id}")
            self._tasks.add(task)
            task.add_done_callback(self._forget)
            metrics.JOBS.set(len(self._tasks))

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        metrics.JOBS.set(len(self._tasks))

    async def close(self) -> None:
        """End the processes; their jobs wait for the next recorder."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, job: Job) -> None:
        """Hold the job from its claim to its end: how long a process takes to start says nothing about its life."""
        renewing = asyncio.create_task(self._renew(job), name=f"lease {job.public_id}")
        try:
            await self._do(job)
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _renew(self, job: Job) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self._jobs.renew(job)
            except Cancelled:
                return  # its process finds out by itself
            except AWAY as error:
                log.warning("lease not renewed", job=job.public_id, why=str(error))

    async def _do(self, job: Job) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "recorder.job_work", str(job.tenant_id), job.public_id, str(job.lease)),
            env=_environment(self._settings),
            start_new_session=True,  # see ``config.process.stand_back``
        )
        try:
            async with asyncio.timeout(LAST_MAX_S):
                status = await process.wait()
        except (asyncio.CancelledError, TimeoutError) as error:
            await _end(process)
            if isinstance(error, TimeoutError):
                await self._jobs.fail(job, "The job took far too long.", for_good=False)
                return
            with contextlib.suppress(Exception):  # on the way out: else the lease runs out
                await self._jobs.put_back(job)
            raise
        metrics.JOBS_DONE.labels(job.kind, "ended" if status == 0 else "died").inc()
        if status:
            why = f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            log.error("a job's process failed", job=job.public_id, why=why)
            try:
                await self._jobs.fail(job, f"The process that did it {why}.", for_good=False)
            except Exception:  # noqa: BLE001 - a task's boundary: the lease runs out, and the job is begun anew
                log.fault("a job's end is not noted", job=job.public_id)


def _environment(settings: Settings) -> dict[str, str]:
    """What makes the same settings in a child."""
    own = {
        "TURNPIKE_DATA": str(settings.data.resolve()),
        "DATABASE_URL": settings.database_url or "",
        "TURNPIKE_OBJECT_LOCK": settings.object_lock,
        "TURNPIKE_LOG_LEVEL": settings.log_level,
        PARENT: str(os.getpid()),
    }
    for name in ("objects", "objects_endpoint", "objects_region", "keys"):
        value = getattr(settings, name)
        if value is not None:
            own[f"TURNPIKE_{name.upper()}"] = value
    return {**os.environ, **own}


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
