"""What a recorder does beside recording, never in its way: exports, deletions, anchors of the audit log."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

from config.clock import Clock
from config.database import AWAY
from config.keys import SigningKey
from config.logs import get_log
from config.objects import ObjectStoreError
from recorder.catalogue import Recordings
from recorder.exports import Exports
from recorder.lifecycle import Lifecycle

log = get_log("recorder.keeper")

EXPORTS_EVERY_S: Final = 1.0
LIFECYCLE_EVERY_S: Final = 60.0


class Keeper:
    """Runs until cancelled, in one task: one thing at a time."""

    def __init__(self, recordings: Recordings, key: SigningKey, clock: Clock) -> None:
        self._exports = Exports(recordings, clock)
        self._lifecycle = Lifecycle(recordings, key, clock)
        self._key = key

    async def run(self) -> None:
        """Work through what waits, again and again."""
        looked_s = 0.0
        while True:
            try:
                while await self._exports.work(self._key):
                    pass
                if time.monotonic() - looked_s >= LIFECYCLE_EVERY_S or looked_s == 0.0:
                    looked_s = time.monotonic()
                    await self._lifecycle.anchor()
                    await self._lifecycle.sweep_gone()
                    while await self._lifecycle.expire():
                        pass
            except AWAY as error:
                log.warning("waiting for PostgreSQL", why=f"{type(error).__name__}: {error}")
            except ObjectStoreError as error:
                log.warning("waiting for the object store", why=str(error))
            except Exception:  # noqa: BLE001 - a loop's boundary: logged once, the next round tries again
                log.fault("keeping failed")
            await asyncio.sleep(EXPORTS_EVERY_S)


@contextlib.asynccontextmanager
async def keeping(keeper: Keeper) -> AsyncIterator[None]:
    """The keeper beside what is done in the block."""
    task = asyncio.create_task(keeper.run(), name="keeper")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
