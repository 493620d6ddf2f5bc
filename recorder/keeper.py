"""What a recorder does beside recording, never in its way: jobs, deletions, anchors of the audit log."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator
from typing import Final

from config.clock import Clock
from config.database import AWAY
from config.keys import SigningKey
from config.logs import get_log
from config.objects import ObjectStoreError, remove_half_written
from config.settings import Settings
from recorder import upkeep
from recorder.catalogue import Recordings
from recorder.job_pool import JobPool
from recorder.jobs import Jobs
from recorder.leftovers import Leftovers
from recorder.lifecycle import Lifecycle

log = get_log("recorder.keeper")

JOBS_EVERY_S: Final = 1.0
LIFECYCLE_EVERY_S: Final = 60.0
TIDY_EVERY_S: Final = 6 * 3600.0
"""How often the whole object directory is walked for what was left half written."""


class Keeper:
    """Runs until cancelled, in one task: one thing at a time, but for the jobs, which have processes of their own."""

    def __init__(self, recordings: Recordings, key: SigningKey, clock: Clock, settings: Settings) -> None:
        self._jobs = Jobs(recordings, clock)
        self._leftovers = Leftovers(recordings, clock)
        self._pool = JobPool(self._jobs, settings)
        self._lifecycle = Lifecycle(recordings, key, clock, settings.object_lock)
        self._recordings = recordings
        self._spool_dir = settings.spool_dir
        self._sweep_parts = functools.partial(remove_half_written, settings.objects_dir, settings.data / "keys")

    async def run(self) -> None:
        """Work through what waits, again and again."""
        try:
            await self._run()
        finally:
            await self._pool.close()

    async def _run(self) -> None:
        looked_s = tidied_s = 0.0
        while True:
            try:
                while await self._jobs.prepare():
                    pass
                await self._pool.fill()
                if time.monotonic() - looked_s >= LIFECYCLE_EVERY_S or looked_s == 0.0:
                    looked_s = time.monotonic()
                    await self._lifecycle.anchor()
                    await self._lifecycle.sweep_gone()
                    await self._jobs.expire_exports()
                    await self._leftovers.sweep()
                    await self._sweep_spool()
                    while await self._lifecycle.expire():
                        pass
                if time.monotonic() - tidied_s >= TIDY_EVERY_S or tidied_s == 0.0:
                    tidied_s = time.monotonic()
                    await asyncio.to_thread(self._sweep_parts)
            except AWAY as error:
                log.warning("waiting for PostgreSQL", why=f"{type(error).__name__}: {error}")
            except ObjectStoreError as error:
                log.warning("waiting for the object store", why=str(error))
            except Exception:  # noqa: BLE001 - a loop's boundary: logged once, the next round tries again
                log.fault("keeping failed")
            await asyncio.sleep(JOBS_EVERY_S)

    async def _sweep_spool(self) -> None:
        """Of recordings that are gone, what was spooled goes too, wrapped key and all: kept, or still tried."""
        parts = await asyncio.to_thread(upkeep.all_parts, self._spool_dir)
        gone = set(await self._recordings.gone([part.parent.name for part in parts])) if parts else set()
        for part in parts:
            if part.parent.name in gone:
                await asyncio.to_thread(upkeep.remove, part)
                log.info("spool of a recording that is gone deleted", directory=str(part))


@contextlib.asynccontextmanager
async def keeping(keeper: Keeper) -> AsyncIterator[None]:
    """The keeper beside what is done in the block."""
    task = asyncio.create_task(keeper.run(), name="keeper")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
