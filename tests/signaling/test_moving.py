"""Rooms that move to another worker: after a death, a stall, a fault, a drain; and what the bill makes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from billing.reconcile import examine
from config.clock import VirtualClock
from config.ids import DEFAULT_TENANT
from config.keys import UnknownKey
from config.objects import ObjectStoreError
from relay.bus import bury
from relay.messages import CloseRoom, OpenRoom, Refused, RoomClosed, StartRecording
from signaling.lifecycle import State
from signaling.moving import MOVES_MAX
from signaling.store import Session, SessionStore
from tests.signaling.conftest import FakeWorker, World


@pytest.fixture
async def spare(redis: Redis, clock: VirtualClock, world: World) -> AsyncIterator[FakeWorker]:
    """A second worker, which takes rooms only when the first one does not."""
    async with FakeWorker(redis, clock, "worker-2") as worker:
        worker.load = 0.5
        await worker.tell_status()
        await world.control.rooms.refresh()
        yield worker


async def stop_telling(redis: Redis, worker: FakeWorker) -> None:
    """Its status expires."""
    await redis.delete(f"tp:worker:{worker.worker_id}")


async def charged(world: World) -> int:
    wallet = await world.control.billing.wallet(DEFAULT_TENANT, world.client.user_id, "client")
    return 5000 - wallet.balance_minor


async def live_for(world: World, worker: FakeWorker, session: Session, live_ms: int) -> None:
    await worker.live(session, live_ms)
    await world.read()


async def resume(world: World, worker: FakeWorker, session: Session) -> Session:
    await worker.flow(session)
    await world.read()
    return await world.get(session)


async def test_the_end_of_a_workers_process_moves_its_room_at_once(
    world: World, spare: FakeWorker, redis: Redis
) -> None:
    session = await world.call()
    await live_for(world, world.worker, session, 30_000)
    await bury(redis, "test", 1)
    await spare.tell_status()  # both are process 1 here: this one lives
    await world.sweep()
    moved = await world.get(session)
    assert (moved.worker_id, moved.room_epoch, moved.state) == ("worker-2", 2, State.INTERRUPTED)
    opened = spare.rooms[session.id].opened
    assert (opened.epoch, opened.granted_live_ms) == (2, 90_000)
    assert (await world.events(world.client, "session.updated"))[-1]["room_epoch"] == 2
    assert (await resume(world, spare, moved)).state is State.ACTIVE


async def test_a_worker_that_is_silent_while_others_are_heard_is_given_up_in_half_a_second(
    world: World, spare: FakeWorker, redis: Redis
) -> None:
    session = await world.call()
    world.clock.advance_ms(10_000)
    await stop_telling(redis, world.worker)
    await world.sweep()
    assert (await world.get(session)).room_epoch == 1
    await world.sweep(after_ms=501)
    assert (await world.get(session)).worker_id == "worker-2"


async def test_a_registry_that_came_back_empty_moves_nothing(world: World, redis: Redis) -> None:
    session = await world.call()
    world.clock.advance_ms(10_000)
    await stop_telling(redis, world.worker)
    await world.sweep()
    await world.sweep(after_ms=4_000)
    assert (await world.get(session)).state is State.ACTIVE
    await world.worker.tell_status()
    await world.sweep(after_ms=4_000)
    assert ((await world.get(session)).state, (await world.get(session)).room_epoch) == (State.ACTIVE, 1)


async def test_with_no_other_worker_the_call_waits_and_goes_on_where_one_comes_up(
    world: World, redis: Redis, clock: VirtualClock
) -> None:
    session = await world.call()
    await bury(redis, "test", 1)
    await world.sweep()
    waiting = await world.get(session)
    assert (waiting.state, waiting.room_epoch, waiting.worker_id) == (State.INTERRUPTED, 1, "worker-1")
    async with FakeWorker(redis, clock, "worker-3") as restarted:
        await world.sweep(after_ms=5_000)
        moved = await world.get(session)
        assert (moved.worker_id, moved.room_epoch) == ("worker-3", 2)
        assert moved.deadline_at_ms == waiting.deadline_at_ms
        assert session.id in restarted.rooms


async def test_no_worker_in_time_ends_the_call_as_dropped_with_its_last_evidence(world: World, redis: Redis) -> None:
    session = await world.call()
    await live_for(world, world.worker, session, 60_000)
    await bury(redis, "test", 1)
    await world.sweep()
    await world.sweep(after_ms=60_001)
    over = await world.over(session)
    assert (over.state, over.end_reason) == (State.ENDED, "dropped")
    await world.sweep(after_ms=2_001)
    assert (await world.get(session)).settled_at_ms is not None
    assert await charged(world) == 199


async def test_live_time_of_all_epochs_is_billed_and_the_books_agree(
    world: World, spare: FakeWorker, redis: Redis
) -> None:
    session = await world.call()
    await live_for(world, world.worker, session, 25_000)
    await bury(redis, "test", 1)
    await spare.tell_status()
    await world.sweep()
    moved = await resume(world, spare, await world.get(session))
    await live_for(world, spare, moved, 35_000)
    await world.tick()
    assert (await world.events(world.client, "session.cost"))[-1]["live_ms"] == 60_000
    await world.control.director.end(world.client, session.public_id)
    await world.over(session)
    assert await charged(world) == 199
    await world.control.leases.refresh()
    wrong = [f.name for f in await examine(world.control.billing.database) if f.disagreeing]
    assert wrong == []


async def test_a_call_that_ends_before_the_new_room_was_heard_of_is_billed_for_the_old_one(
    world: World, spare: FakeWorker, redis: Redis
) -> None:
    session = await world.call()
    await live_for(world, world.worker, session, 60_000)
    await bury(redis, "test", 1)
    await spare.tell_status()
    await world.sweep()
    await world.control.director.end(world.client, session.public_id)
    await world.over(session)
    assert await charged(world) == 199


async def test_a_stalled_worker_is_told_to_close_and_its_late_evidence_counts_for_nothing(
    world: World, spare: FakeWorker, redis: Redis
) -> None:
    session = await world.call()
    await live_for(world, world.worker, session, 30_000)
    world.clock.advance_ms(10_000)
    await stop_telling(redis, world.worker)
    await world.sweep()
    await world.sweep(after_ms=501)
    moved = await world.get(session)
    assert moved.room_epoch == 2
    await live_for(world, world.worker, session, 90_000)  # it woke up
    await world.worker.tell_status()
    await world.sweep()
    assert session.id not in world.worker.rooms
    assert (await world.get(session)).state is State.INTERRUPTED
    await world.control.director.end(world.client, session.public_id)
    await world.over(session)
    assert await charged(world) == 199 // 2


async def test_recording_goes_on_under_the_new_epoch(world: World, spare: FakeWorker, redis: Redis) -> None:
    session = await world.call()
    await bury(redis, "test", 1)
    await spare.tell_status()
    await world.sweep()
    moved = await world.get(session)
    assert moved.recording == "recording"
    assert spare.rooms[session.id].recording == session.recording_public_id
    command = next(c for c in spare.commands if isinstance(c, StartRecording))
    assert command.epoch == 2


@pytest.mark.parametrize("error", [UnknownKey("rec_1"), ObjectStoreError("the store of keys is away")])
async def test_a_call_moves_on_unrecorded_when_its_recording_has_no_key_any_more(
    world: World, spare: FakeWorker, redis: Redis, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    session = await world.call()

    async def erased(*_: object) -> Any:
        raise error

    monkeypatch.setattr(world.recordings, "create", erased)
    await bury(redis, "test", 1)
    await spare.tell_status()
    await world.sweep()
    moved = await world.get(session)
    assert (moved.worker_id, moved.recording) == ("worker-2", "failed")
    assert (await resume(world, spare, moved)).state is State.ACTIVE


async def test_a_drained_workers_rooms_are_closed_there_first_and_billed_to_the_millisecond(
    world: World, spare: FakeWorker
) -> None:
    session = await world.call()
    await live_for(world, world.worker, session, 59_000)
    world.worker.rooms[session.id].live_ms = 60_000  # not told yet
    world.worker.draining = True
    await world.worker.tell_status()
    await world.sweep()
    moved = await world.get(session)
    assert (moved.worker_id, moved.room_epoch) == ("worker-2", 2)
    assert [type(c) for c in world.worker.commands if isinstance(c, CloseRoom)] == [CloseRoom]
    await world.control.director.end(world.client, session.public_id)
    await world.over(session)
    assert await charged(world) == 199


async def test_a_drain_with_nowhere_to_go_leaves_calls_alone(world: World) -> None:
    session = await world.call()
    world.worker.draining = True
    await world.worker.tell_status()
    await world.sweep()
    assert ((await world.get(session)).state, session.id in world.worker.rooms) == (State.ACTIVE, True)


async def test_a_room_that_its_worker_closed_is_opened_again(world: World, spare: FakeWorker) -> None:
    session = await world.call()
    del world.worker.rooms[session.id]
    await world.worker.tell(RoomClosed(**world.worker.common(session), reason="fault", live_ms=30_000))
    await world.read()
    await world.control.mover.finish()
    moved = await world.get(session)
    assert (moved.worker_id, moved.room_epoch) == ("worker-2", 2)


async def test_a_call_that_loses_every_room_is_not_moved_for_ever(world: World, spare: FakeWorker) -> None:
    session = await world.call()
    for n in range(MOVES_MAX + 3):
        worker = world.worker if session.worker_id == "worker-1" else spare
        worker.rooms.pop(session.id, None)
        await worker.tell(RoomClosed(**worker.common(session), reason="fault", live_ms=n))
        await world.read()
        await world.control.mover.finish()
        session = await world.get(session)
    assert session.room_epoch == 1 + MOVES_MAX
    assert session.state is State.INTERRUPTED


async def test_workers_that_refuse_leave_the_room_to_the_next_sweep(
    world: World, spare: FakeWorker, redis: Redis
) -> None:
    session = await world.call()
    spare.refuse[OpenRoom] = Refused(code="worker_full", message="full")
    await bury(redis, "test", 1)
    await spare.tell_status()
    await world.sweep()
    assert ((await world.get(session)).state, (await world.get(session)).room_epoch) == (State.INTERRUPTED, 1)
    del spare.refuse[OpenRoom]
    await world.sweep()
    assert (await world.get(session)).room_epoch == 2


async def test_a_session_that_ends_while_its_room_moves_leaves_no_room_behind(
    world: World, spare: FakeWorker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await world.call()
    original = SessionStore.move

    async def hang_up_first(store: SessionStore, *args: Any, **kwargs: Any) -> Any:
        await world.control.director.end(world.client, session.public_id)
        return await original(store, *args, **kwargs)

    monkeypatch.setattr(SessionStore, "move", hang_up_first)
    await bury(redis, "test", 1)
    await spare.tell_status()
    await world.sweep()
    assert spare.rooms == {}
    await world.sweep(after_ms=2_001)
    over = await world.over(session)
    assert (over.end_reason, over.settled_at_ms is not None) == ("client_left", True)
