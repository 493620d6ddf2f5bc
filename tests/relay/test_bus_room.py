"""The bus holds only what is on its way: what was read is gone, and what nobody reads is bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from config.ids import WorkerId
from relay.bus import MEDIA_LOG_MAX, ControlBus, MediaLog, WorkerBus
from relay.messages import CloseRoom, Command, Done, MediaEvidence, Reply


def evidence(seq: int) -> MediaEvidence:
    return MediaEvidence(
        tenant_id=1,
        session_id=1,
        epoch=1,
        worker_id="w",
        at_ms=0,
        seq=seq,
        live_ms=seq,
        granted_live_ms=90_000,
        running=True,
    )


async def done(_: Command) -> Reply:
    return Done()


async def test_commands_and_replies_are_gone_once_they_were_read(redis: Redis) -> None:
    async with ControlBus(redis) as control, WorkerBus(redis, WorkerId("w"), done):
        for _ in range(5):
            await control.call(WorkerId("w"), CloseRoom(tenant_id=1, session_id=1, epoch=1, reason="test"))
        async with asyncio.timeout(10):
            while await redis.xlen("tp:cmd:w") or await redis.xlen(f"tp:reply:{control.control_id}"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_media_events_are_gone_once_they_are_acknowledged(redis: Redis) -> None:
    log = MediaLog(redis)
    async with WorkerBus(redis, WorkerId("w"), done) as worker:
        await worker.tell_events([evidence(seq) for seq in range(10)])
        events = await log.read({1})
        assert [event.seq for _, _, event in events if isinstance(event, MediaEvidence)] == list(range(10))
        assert await redis.xlen("tp:media:1") == 10
        await log.acknowledge([(shard, entry) for shard, entry, _ in events])
        assert await redis.xlen("tp:media:1") == 0


async def test_unread_events_of_a_shard_can_be_looked_at_and_stay(redis: Redis) -> None:
    log = MediaLog(redis)
    other = msgspec.structs.replace(evidence(7), session_id=65)  # of the same shard
    async with WorkerBus(redis, WorkerId("w"), done) as worker:
        await worker.tell_events([evidence(1), other, evidence(2)])
    taken = await log.read({1})
    assert [event.seq for event in await log.unread(1) if isinstance(event, MediaEvidence)] == [1, 7, 2]
    await log.acknowledge([(shard, entry) for shard, entry, _ in taken])
    assert await log.unread(1) == []


async def test_pending_events_that_cannot_be_acknowledged_yet_hold_up_no_new_ones(redis: Redis) -> None:
    before, log = MediaLog(redis), MediaLog(redis)
    async with WorkerBus(redis, WorkerId("w"), done) as worker:
        await worker.tell_events([evidence(seq) for seq in range(600)])  # more than one read takes
        while len(await before.read({1})) > 500:
            pass
        await worker.tell_events([evidence(600)])
        events = [event for _ in range(4) for _, _, event in await log.read({1}, 50)]
    seen = [event.seq for event in events if isinstance(event, MediaEvidence)]
    assert seen == list(range(601))


async def test_log_that_nobody_reads_stays_within_its_bound(redis: Redis) -> None:
    async with WorkerBus(redis, WorkerId("w"), done) as worker:
        for start in range(0, MEDIA_LOG_MAX + 1_000, 500):
            await worker.tell_events([evidence(start + n) for n in range(500)])
    assert await redis.xlen("tp:media:1") <= MEDIA_LOG_MAX + 100
    memory = await redis.memory_usage("tp:media:1")
    assert memory is not None
    assert memory * 64 < 256 * 1024 * 1024


async def test_readers_survive_what_nobody_expected(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    class Odd:
        """A connection that does, once in a while, what redis-py never says it does."""

        def __init__(self) -> None:
            self.odd = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(redis, name)

        async def xread(self, *args: Any, **kwargs: Any) -> Any:
            self.odd += 1
            if self.odd % 2:
                raise RuntimeError("the handler is closed")
            return await redis.xread(*args, **kwargs)

    asks, hears = Odd(), Odd()
    async with ControlBus(asks) as control, WorkerBus(hears, WorkerId("w"), done):  # type: ignore[arg-type]
        command = CloseRoom(tenant_id=1, session_id=1, epoch=1, reason="test")
        for _ in range(3):
            assert await control.call(WorkerId("w"), command) == Done()
    assert min(asks.odd, hears.odd) > 1
    assert {record.message for record in caplog.records if record.exc_info} == {
        "reading replies failed, goes on",
        "reading commands failed, goes on",
    }
