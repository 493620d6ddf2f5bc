"""Numbers for events: each user's rise by one, and the newest events stay readable under them.

What is told at about the same time goes to Redis in one command: while one is on its way, the next gathers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from config.clock import Clock
from config.connections import UNREACHABLE

KEPT_MAX: Final = 256
"""Events kept per user; the oldest go first, and a client that needs them reads the state again."""
TTL_S: Final = 3600
AT_ONCE_MAX: Final = 64
"""Events in one command, which holds up all others of Redis for as long as it takes."""

_APPEND: Final = """
local numbers = {}
for i = 1, #KEYS, 2 do
  local log, newest = KEYS[i], KEYS[i + 1]
  local n = redis.call('incr', newest)
  if n == 1 then n = tonumber(ARGV[1]); redis.call('set', newest, string.format('%.0f', n)) end
  local id = string.format('%.0f-0', n)
  local added = redis.pcall('xadd', log, 'maxlen', ARGV[2], id, 'e', ARGV[i + 3], 'd', ARGV[i + 4])
  redis.call('expire', log, ARGV[3])
  redis.call('expire', newest, ARGV[3])
  numbers[#numbers + 1] = (type(added) == 'table' and added.err) and 0 or n
end
return numbers
"""


class Numbered(NamedTuple):
    """An event to be numbered and kept."""

    key: str
    """Of the user's log."""
    event: str
    data: bytes
    """JSON."""


class _Wish(NamedTuple):
    events: Sequence[Numbered]
    numbers: asyncio.Future[list[int | None]]


class Numbers:
    """See the module's docstring."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._clock = clock
        self._append = redis.register_script(_APPEND)
        self._wishes: deque[_Wish] = deque()
        """Of tasks that wait for them, so no more than there are tasks that tell something."""
        self._appending: asyncio.Task[None] | None = None

    async def append(self, events: Sequence[Numbered]) -> list[int | None]:
        """Keep these, in order; their numbers, None where Redis would not. Raises what redis-py raises."""
        loop = asyncio.get_running_loop()
        wish = _Wish(events, loop.create_future())
        self._wishes.append(wish)
        if self._appending is None or self._appending.done():
            self._appending = loop.create_task(self._append_all(), name="number events")
        return await wish.numbers

    async def _append_all(self) -> None:
        try:
            while self._wishes:
                await self._append_some()
        finally:
            while self._wishes:  # only when cancelled
                self._wishes.popleft().numbers.cancel()

    async def _append_some(self) -> None:
        wishes = [self._wishes.popleft()]
        size = len(wishes[0].events)
        while self._wishes and size + len(self._wishes[0].events) <= AT_ONCE_MAX:
            wishes.append(self._wishes.popleft())
            size += len(wishes[-1].events)
        try:
            numbers = iter(await self._carry_out([event for wish in wishes for event in wish.events]))
        except asyncio.CancelledError:
            self._wishes.extendleft(reversed(wishes))
            raise
        except Exception as error:  # noqa: BLE001 - each who waits for it is told, and says so
            if isinstance(error, UNREACHABLE):  # those behind need not wait to find that out for themselves
                wishes += self._wishes
                self._wishes.clear()
            for wish in wishes:
                if not wish.numbers.done():
                    wish.numbers.set_exception(error)
            return
        for wish in wishes:
            told = [next(numbers) or None for _ in wish.events]
            if not wish.numbers.done():
                wish.numbers.set_result(told)

    async def _carry_out(self, events: Sequence[Numbered]) -> list[int]:
        keys = [key for what in events for key in (what.key, newest_key(what.key))]
        args: list[Any] = [self._clock.wall_ms(), KEPT_MAX, TTL_S]
        for what in events:
            args += (what.event, what.data)
        numbers: list[int] = await self._append(keys=keys, args=args)
        if len(numbers) != len(events):
            raise ValueError(f"{len(numbers)} numbers for {len(events)} events")
        return numbers


def newest_key(key: str) -> str:
    """Where the number of a log's newest event is."""
    return f"{key}:n"
