"""The evidence log on a real Redis: told and acknowledged in one command each, whatever state Redis is in."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from config.ids import SHARDS, WorkerId
from relay.bus import MediaLog, WorkerBus
from relay.messages import Done, MediaInterrupted, Reply

MANY = 600
"""More than go into one command."""


def event(n: int) -> MediaInterrupted:
    return MediaInterrupted(tenant_id=1, session_id=n % 100, epoch=1, worker_id="w", at_ms=n, user_id=7)


async def carry_out(_: Any) -> Reply:
    return Done()


@pytest.fixture
def bus(redis: Redis) -> WorkerBus:
    return WorkerBus(redis, WorkerId("w"), carry_out)


async def everything(log: MediaLog) -> list[tuple[int, bytes, Any]]:
    found: list[tuple[int, bytes, Any]] = []
    while more := await log.read(set(range(SHARDS)), block_ms=1):
        found += more
    return found


async def test_events_of_a_shard_come_in_order_and_are_gone_when_acknowledged(bus: WorkerBus, redis: Redis) -> None:
    log = MediaLog(redis)
    await bus.tell_events([event(n) for n in range(MANY)])
    found = await everything(log)
    assert sorted(one.at_ms for _, _, one in found) == list(range(MANY))
    for shard in range(SHARDS):
        told = [one.at_ms for its, _, one in found if its == shard]
        assert told == sorted(told)
    await log.acknowledge([(shard, entry_id) for shard, entry_id, _ in found])
    assert await everything(MediaLog(redis)) == []
    assert [await redis.xlen(f"tp:media:{shard}") for shard in range(SHARDS)] == [0] * SHARDS


async def test_a_log_that_is_no_log_any_more_holds_up_no_acknowledgement(bus: WorkerBus, redis: Redis) -> None:
    log = MediaLog(redis)
    await bus.tell_events([event(1), event(2)])
    found = await everything(log)
    await redis.set(f"tp:media:{found[0][0]}", "something else")
    await log.acknowledge([(shard, entry_id) for shard, entry_id, _ in found])
    assert await redis.xlen(f"tp:media:{found[1][0]}") == 0
    with pytest.raises(ResponseError):
        await bus.tell_events([event(1)])


async def test_scripts_that_redis_forgot_are_loaded_again(bus: WorkerBus, redis: Redis) -> None:
    log = MediaLog(redis)
    for n in range(2):
        await redis.script_flush()
        await bus.tell_events([event(n)])
        found = await everything(log)
        await redis.script_flush()
        await log.acknowledge([(shard, entry_id) for shard, entry_id, _ in found])
        assert [one.at_ms for _, _, one in found] == [n]
    assert await everything(MediaLog(redis)) == []
