"""Numbers for many events at once: few commands, and nobody's trouble is another's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from config.clock import VirtualClock
from signaling.numbering import AT_ONCE_MAX, Numbered, Numbers


def event(key: str, n: int = 0) -> Numbered:
    return Numbered(key, "session.cost", b'{"n":%d}' % n)


@pytest.fixture
def numbers(redis: Redis, clock: VirtualClock) -> Numbers:
    return Numbers(redis, clock)


async def test_what_is_told_at_the_same_time_goes_in_few_commands(
    numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    append = numbers._append

    async def counted(keys: list[str], args: list[Any]) -> Any:
        sizes.append(len(keys) // 2)
        return await append(keys=keys, args=args)

    monkeypatch.setattr(numbers, "_append", counted)
    told = await asyncio.gather(*(numbers.append([event(f"a{n}"), event(f"b{n}")]) for n in range(100)))
    assert all(None not in pair for pair in told)
    assert sum(sizes) == 200
    assert max(sizes) <= AT_ONCE_MAX
    assert len(sizes) <= 200 // AT_ONCE_MAX + 2


async def test_numbers_of_one_user_rise_in_the_order_of_telling(numbers: Numbers, redis: Redis) -> None:
    told = await asyncio.gather(*(numbers.append([event("log", n)]) for n in range(150)))
    seqs = [seq for (seq,) in told if seq is not None]
    assert seqs == list(range(seqs[0], seqs[0] + 150))
    entries: Any = await redis.xrange("log")
    assert [fields[b"d"] for _, fields in entries] == [b'{"n":%d}' % n for n in range(150)]


async def test_a_log_that_cannot_be_written_costs_only_its_own_events_their_numbers(
    numbers: Numbers, redis: Redis
) -> None:
    await redis.set("broken", "no stream")
    good, bad = await asyncio.gather(numbers.append([event("good")]), numbers.append([event("broken")]))
    assert good[0] is not None
    assert bad == [None]


async def test_an_answer_for_other_events_leaves_nobody_waiting(
    numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def short(**_: Any) -> Any:
        return [1]

    monkeypatch.setattr(numbers, "_append", short)
    with pytest.raises(ValueError, match="1 numbers for 2 events"):
        await asyncio.wait_for(numbers.append([event("log"), event("log")]), 1)


async def test_one_who_waits_no_more_holds_up_nobody(numbers: Numbers) -> None:
    tasks = [asyncio.create_task(numbers.append([event("log", n)])) for n in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    first, _, last = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(first, list)
    assert isinstance(last, list)


async def test_everybody_learns_that_redis_is_away_and_the_next_are_numbered(
    numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = numbers._append

    tries = 0

    async def away(**_: Any) -> Any:
        nonlocal tries
        tries += 1
        raise RedisConnectionError("gone")

    monkeypatch.setattr(numbers, "_append", away)
    told = [event("log", n) for n in range(AT_ONCE_MAX)]
    failed = await asyncio.gather(*(numbers.append(told) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in failed] == [RedisConnectionError] * 3
    assert tries == 1  # each may take all of a command's tries, which is long
    monkeypatch.setattr(numbers, "_append", append)
    assert None not in await numbers.append([event("log")])
