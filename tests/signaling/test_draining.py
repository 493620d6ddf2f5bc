"""``turnpike drain``: which worker, and how it ends."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from config.clock import VirtualClock
from config.settings import Settings
from relay.bus import ControlBus
from relay.messages import Drain
from signaling import draining
from tests.signaling.conftest import FakeRoom, FakeWorker


@pytest.fixture
def on_bus(settings: Settings, redis_url: str) -> Settings:
    return settings.model_copy(update={"redis_url": redis_url})


async def test_an_empty_worker_is_drained_at_once(
    worker: FakeWorker, on_bus: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await draining.main(on_bus, "worker", wait_s=5) == 0
    assert [type(command) for command in worker.commands] == [Drain]
    assert capsys.readouterr().out == "worker-1 takes no more rooms, no rooms left\n"


async def test_rooms_that_nobody_moves_are_told(
    worker: FakeWorker, on_bus: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "LOOK_EVERY_S", 0.01)
    worker.rooms[1] = FakeRoom(opened=type("Opened", (), {"epoch": 1})())
    await worker.tell_status()
    assert await draining.main(on_bus, "worker-1", wait_s=0.05) == draining.EXIT_NOT_EMPTY
    assert "1 rooms left; there is no other worker to take them" in capsys.readouterr().out


async def test_a_name_that_fits_none_or_several_is_refused(
    redis: Redis, clock: VirtualClock, worker: FakeWorker, on_bus: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with FakeWorker(redis, clock, "worker-2"):
        assert await draining.main(on_bus, "other", wait_s=1) == draining.EXIT_NOT_FOUND
        assert await draining.main(on_bus, "worker", wait_s=1) == draining.EXIT_NOT_FOUND
    assert worker.commands == []
    said = capsys.readouterr().err
    assert "no worker is called other; there are: worker-1, worker-2" in said
    assert "several workers are called worker" in said


async def test_a_worker_that_ended_is_not_told_of_any_more(redis: Redis, clock: VirtualClock) -> None:
    async with ControlBus(redis) as bus:
        async with FakeWorker(redis, clock, "worker-9"):
            assert [w.worker_id for w in await bus.workers()] == ["worker-9"]
        assert await bus.registry() == []
