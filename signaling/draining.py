"""``turnpike drain WORKER``: have a worker take no more rooms, and wait until control has moved those that it holds.

The worker stays up, empty, until whoever runs it stops it. Stopping one (SIGTERM) drains it by itself.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

from config.connections import open_redis
from config.ids import WorkerId
from config.settings import Settings
from relay.bus import BUS_ERRORS, ControlBus, WorkerUnreachable
from relay.messages import Done, Drain
from relay.messages_status import WorkerStatus

LOOK_EVERY_S: Final = 0.5
EXIT_NOT_FOUND: Final = 3
EXIT_NOT_EMPTY: Final = 4
EXIT_FAULT: Final = 1


def find(workers: list[WorkerStatus], name: str) -> WorkerStatus | str:
    """The one worker whose id is, or begins with, ``name``; else what is wrong."""
    exact = [worker for worker in workers if worker.worker_id == name]
    found = exact or [worker for worker in workers if worker.worker_id.startswith(name)]
    if len(found) == 1:
        return found[0]
    ids = ", ".join(worker.worker_id for worker in (found or workers)) or "none"
    return f"{'several workers are' if found else 'no worker is'} called {name}; there are: {ids}"


async def main(settings: Settings, name: str, wait_s: float) -> int:
    """Drain; the exit status tells whether its rooms are gone (0), or some are left (4), or there is no such worker."""
    if settings.redis_url is None:
        raise ValueError("drain needs REDIS_URL")
    redis = open_redis(settings.redis_url, name="turnpike-drain")
    try:
        async with ControlBus(redis) as bus:
            worker = find(await bus.workers(), name)
            if isinstance(worker, str):
                sys.stderr.write(f"turnpike: {worker}\n")
                return EXIT_NOT_FOUND
            reply = await bus.call(WorkerId(worker.worker_id), Drain())
            if not isinstance(reply, Done):
                sys.stderr.write(f"turnpike: {worker.worker_id} refused: {reply}\n")
                return EXIT_FAULT
            return await _wait(bus, worker, wait_s)
    except (*BUS_ERRORS, WorkerUnreachable) as error:
        sys.stderr.write(f"turnpike: {error}\n")
        return EXIT_FAULT
    finally:
        await redis.aclose()


async def _wait(bus: ControlBus, worker: WorkerStatus, wait_s: float) -> int:
    deadline = time.monotonic() + wait_s
    rooms = len(worker.rooms)
    while rooms and time.monotonic() < deadline:
        await asyncio.sleep(LOOK_EVERY_S)
        now = next((w for w in await bus.workers() if w.worker_id == worker.worker_id), None)
        rooms = 0 if now is None else len(now.rooms)
    others = [w for w in await bus.workers() if not w.draining and w.worker_id != worker.worker_id]
    left = f"{rooms} rooms left" if rooms else "no rooms left"
    hint = "" if others or not rooms else "; there is no other worker to take them"
    sys.stdout.write(f"{worker.worker_id} takes no more rooms, {left}{hint}\n")
    return EXIT_NOT_EMPTY if rooms and wait_s else 0
