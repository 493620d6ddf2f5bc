"""What workers told of their rooms before they died, and nobody has read yet: it is still to be billed.

Whoever moves a lost room or settles a session without its worker takes these words in first. A shard's log is read as a
whole for all who ask: a worker that dies leaves hundreds of rooms behind, in a few shards.
"""

from __future__ import annotations

import asyncio

from billing.meter import Meter
from config.ids import SessionId, shard_of
from signaling.rooms import Rooms

EVENTS_AT_ONCE = 250
"""Events taken in between two turns of everybody else's."""


class LastWords:
    """Reads the logs of shards into the meter. Evidence is cumulative, so that it is read again costs nothing."""

    def __init__(self, rooms: Rooms, meter: Meter) -> None:
        self._rooms = rooms
        self._meter = meter
        self._begun = 0
        self._newest: dict[int, tuple[int, asyncio.Task[None]]] = {}
        """Shard → the number of its newest reading, and the reading."""

    @property
    def now(self) -> int:
        """This moment, for ``take``: readings that begin later have a higher number."""
        return self._begun

    async def take(self, session_id: SessionId, since: int) -> None:
        """Have everything in the meter that was told of a session before the moment ``since``; one reading of its shard
        that began after it is enough for all. Raises what redis-py raises."""
        shard = shard_of(session_id)
        number, reading = self._newest.get(shard, (0, None))
        if reading is None or number <= since or (reading.done() and _failed(reading)):
            self._begun += 1
            reading = asyncio.create_task(self._read(shard), name=f"last words of shard {shard}")
            reading.add_done_callback(_failed)  # looked at, should everybody who waited be gone
            self._newest[shard] = (self._begun, reading)
        await asyncio.shield(reading)

    async def _read(self, shard: int) -> None:
        for number, event in enumerate(await self._rooms.unread(shard), 1):
            self._meter.take(event)
            if number % EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)


def _failed(reading: asyncio.Task[None]) -> bool:
    return reading.cancelled() or reading.exception() is not None
