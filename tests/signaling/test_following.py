"""What happens to sessions by itself: media, money, deadlines, dead workers, and controls that died half-way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from billing.service import Billing
from config.ids import DEFAULT_TENANT, SessionId, TenantId
from relay.bus import bury
from relay.messages import (
    Event,
    GrantUsedUp,
    MediaInterrupted,
    MediaResumed,
    MediaStarted,
    NegotiationNeeded,
    RecordingStopped,
)
from signaling.last_words import LastWords
from signaling.lifecycle import State, Trigger
from signaling.store import Session, SessionStore
from signaling.timeline_store import TimelineStore
from tests.signaling.conftest import YES, World


async def held(world: World) -> tuple[int, int]:
    wallet = await world.control.billing.wallet(DEFAULT_TENANT, world.client.user_id, "client")
    return wallet.balance_minor, wallet.held_minor


async def interrupt(world: World, session: Session) -> None:
    await world.worker.tell(MediaInterrupted(**world.worker.common(session), user_id=world.ada.user_id))
    await world.read()


async def test_media_makes_a_call_active_interrupted_and_active_again(world: World) -> None:
    session = await world.call()
    assert (session.state, session.started_at_ms) == (State.ACTIVE, world.clock.wall_ms())
    await interrupt(world, session)
    assert (await world.get(session)).state is State.INTERRUPTED
    await world.worker.tell(MediaResumed(**world.worker.common(session)))
    await world.read()
    again = await world.get(session)
    assert (again.state, again.deadline_at_ms) == (State.ACTIVE, None)


async def test_evidence_that_runs_stands_in_for_a_lost_start(world: World) -> None:
    session = await world.connect()
    await world.worker.live(session, 1_000)
    await world.read()
    assert (await world.get(session)).state is State.ACTIVE


async def test_events_of_another_epoch_are_dropped(world: World) -> None:
    session = await world.connect()
    late = {**world.worker.common(session), "epoch": 0}
    await world.worker.tell(MediaStarted(**late))
    await world.read()
    assert (await world.get(session)).state is State.CONNECTING


async def test_nobody_back_in_time_ends_the_call_as_dropped(world: World) -> None:
    session = await world.call()
    await world.worker.live(session, 30_000)
    await world.read()
    await interrupt(world, session)
    await world.sweep(after_ms=59_999)
    assert (await world.get(session)).state is State.INTERRUPTED
    await world.sweep(after_ms=1)
    over = await world.over(session)
    assert (over.state, over.end_reason) == (State.ENDED, "dropped")
    assert await held(world) == (5000 - 199 // 2, 0)


async def test_a_clock_that_is_set_back_lengthens_no_wait_for_long(world: World) -> None:
    session = await world.call()
    await interrupt(world, session)
    world.clock.step_wall_ms(-3_600_000)
    await world.sweep()
    waiting = await world.get(session)
    assert waiting.state is State.INTERRUPTED
    assert waiting.deadline_at_ms == world.clock.wall_ms() + 60_000
    await world.sweep(after_ms=59_999)
    assert (await world.get(session)).state is State.INTERRUPTED
    await world.sweep(after_ms=1)
    assert (await world.over(session)).end_reason == "dropped"


async def test_a_call_that_never_connects_fails_and_costs_nothing(world: World) -> None:
    session = await world.connect()
    assert (await held(world))[1] > 0
    await world.sweep(after_ms=30_001)
    over = await world.over(session)
    assert (over.state, over.end_reason) == (State.FAILED, "never_connected")
    assert await held(world) == (5000, 0)
    assert over.settled_at_ms is not None


async def test_the_call_ends_when_the_money_is_used_up(world: World) -> None:
    await world.control.billing.set_rate(DEFAULT_TENANT, world.ada.user_id, "video", 4_000, "USD")
    session = await world.call()
    paid_ms = world.worker.rooms[session.id].granted_ms
    assert 75_000 <= paid_ms < 75_015  # the last millisecond for which 50.00 is enough
    for live_ms in (14_000, 16_000, 46_000, 66_000, 74_000):
        await world.worker.live(session, live_ms)
        await world.read()
        await world.tick()
    assert [w["remaining_ms"] for w in await world.events(world.client, "session.warning")] == [60_000, 30_000, 10_000]
    await world.worker.live(session, paid_ms, running=False)
    await world.worker.tell(GrantUsedUp(**world.worker.common(session), live_ms=paid_ms))
    await world.read()
    assert world.control.shards._hurry.is_set()
    await world.tick()
    over = await world.over(session)
    assert (over.state, over.end_reason) == (State.ENDED, "balance_exhausted")
    assert await held(world) == (0, 0)


async def test_warnings_are_given_while_nothing_can_be_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.control.billing.set_rate(DEFAULT_TENANT, world.ada.user_id, "video", 4_000, "USD")
    session = await world.call()

    async def away(*_: object, **__: object) -> None:
        raise OSError("PostgreSQL is away")

    monkeypatch.setattr(TimelineStore, "add", away)
    for live_ms in (14_000, 16_000, 46_000):
        await world.worker.live(session, live_ms)
        await world.read()
        await world.tick()
    assert [w["remaining_ms"] for w in await world.events(world.ada, "session.warning")] == [60_000, 30_000]


async def test_what_a_dead_worker_told_last_is_billed_where_the_call_ended_as_it_died(
    world: World, redis: Redis
) -> None:
    session = await world.call()
    await world.worker.live(session, 30_000)
    await world.read()
    await world.worker.live(session, 60_000)  # nobody has read this yet
    world.worker.silent = True
    await bury(redis, "test", 1)
    await world.control.rooms.refresh()
    await world.control.director.end(world.client, session.public_id)
    await world.over(session)
    await world.sweep(after_ms=2_001)
    assert (await world.get(session)).settled_at_ms is not None
    assert await held(world) == (5000 - 199, 0)


async def test_last_words_of_a_shard_are_read_once_for_all_who_found_the_loss_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, read = LastWords(world.control.rooms, world.control.meter), []

    async def unread(shard: int) -> list[Event]:
        read.append(shard)
        await asyncio.sleep(0)
        if len(read) == 4:
            raise OSError("Redis is away")
        return []

    monkeypatch.setattr(world.control.rooms, "unread", unread)
    found = words.now
    await asyncio.gather(*(words.take(SessionId(1 + 64 * n), found) for n in range(100)))
    await words.take(SessionId(2), found)
    assert read == [1, 2]
    await words.take(SessionId(1), found)
    assert read == [1, 2], "read after it was found lost"
    await words.take(SessionId(65), words.now)
    assert read == [1, 2, 1], "lost later"
    later = words.now
    with pytest.raises(OSError, match="away"):
        await words.take(SessionId(1), later)
    await words.take(SessionId(1), later)
    assert read == [1, 2, 1, 1, 1], "what failed is read again"


async def test_a_top_up_in_the_last_minute_extends_the_call(world: World) -> None:
    await world.control.billing.set_rate(DEFAULT_TENANT, world.ada.user_id, "video", 4_000, "USD")
    session = await world.call()
    await world.worker.live(session, 70_000)
    await world.read()
    await world.tick()
    await world.control.billing.top_up(DEFAULT_TENANT, world.client.user_id, 4_000, "more-money", "Top-up")
    await world.worker.live(session, 72_000)
    await world.read()
    await world.tick()
    assert 135_000 <= world.worker.rooms[session.id].granted_ms < 135_015
    assert (await world.get(session)).state is State.ACTIVE


async def test_cost_is_told_to_each_side_in_its_own_terms(world: World) -> None:
    session = await world.call()
    await world.worker.live(session, 60_000)
    await world.read()
    await world.tick()
    client = (await world.events(world.client, "session.cost"))[-1]
    provider = (await world.events(world.ada, "session.cost"))[-1]
    assert (client["cost_minor"], client["balance_minor"], client["earnings_minor"]) == (199, 4801, None)
    assert (provider["cost_minor"], provider["balance_minor"], provider["earnings_minor"]) == (199, None, 139)
    assert client["running"] is True
    assert client["remaining_ms"] > 1_000_000


async def test_redis_away_is_no_reason_to_take_workers_for_dead(world: World) -> None:
    session = await world.call()
    world.control.rooms._read_at_ns = None
    world.clock.advance_ms(60_000)
    assert world.control.rooms.find_lost([session]) == set()


async def test_a_recording_that_stops_is_shown(world: World) -> None:
    session = await world.call()
    assert session.recording_public_id is not None
    await world.worker.tell(
        RecordingStopped(**world.worker.common(session), recording_public_id=session.recording_public_id)
    )
    await world.read()
    assert (await world.get(session)).recording == "stopped"


async def test_a_page_is_asked_to_negotiate_again(world: World) -> None:
    session = await world.call()
    await world.worker.tell(NegotiationNeeded(**world.worker.common(session), user_id=world.client.user_id))
    await world.read()
    assert await world.events(world.client, "room.renegotiate") == [{"session_id": session.public_id}]
    assert await world.events(world.ada, "room.renegotiate") == []


async def test_a_room_that_no_session_knows_is_closed(world: World) -> None:
    session = await world.connect()
    room = world.worker.rooms[session.id]
    await world.control.director.end(world.client, session.public_id)
    await world.over(session)
    world.worker.rooms[session.id] = room
    await world.worker.tell_status()
    await world.sweep()
    assert session.id in world.worker.rooms
    await world.sweep(after_ms=10_001)
    assert world.worker.rooms == {}


# --- a control process dies between two steps -------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code may handle it."""


def kill_at(monkeypatch: pytest.MonkeyPatch, owner: type[Any], name: str) -> None:
    """The process dies at the first call of that method."""
    original = getattr(owner, name)

    async def die(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(owner, name, original)
        raise Killed

    monkeypatch.setattr(owner, name, die)


async def test_killed_before_it_rang_the_request_expires(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_at(monkeypatch, SessionStore, "apply")
    wish = world.wish()
    with pytest.raises(Killed):
        await world.control.director.request(world.client, wish)
    await world.sweep(after_ms=30_001)
    again = await world.control.director.request(world.client, wish)
    assert again.state is State.EXPIRED


async def test_killed_before_it_rang_the_same_request_rings(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_at(monkeypatch, SessionStore, "apply")
    wish = world.wish()
    with pytest.raises(Killed):
        await world.control.director.request(world.client, wish)
    assert (await world.control.director.request(world.client, wish)).state is State.RINGING


@pytest.mark.parametrize("step", ["open_session", "open", "record"])
async def test_killed_while_accepting_the_call_fails_and_costs_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    owner: type[Any] = Billing if step == "open_session" else type(world.control.rooms)
    session = await world.ring()
    kill_at(monkeypatch, owner, step)
    with pytest.raises(Killed):
        await world.control.director.accept(world.ada, session.public_id, YES)
    await world.sweep(after_ms=30_001)
    await world.sweep(after_ms=10_001)
    over = await world.over(session)
    assert (over.state, over.end_reason) == (State.FAILED, "never_connected")
    assert over.settled_at_ms is not None
    assert await held(world) == (5000, 0)
    assert world.worker.rooms == {}


@pytest.mark.parametrize("step", ["close", "settle", "note"])
async def test_killed_while_winding_up_the_next_process_settles(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    session = await world.call()
    await world.worker.live(session, 60_000)
    await world.read()
    await world.control.sessions.apply(session.tenant_id, session.id, Trigger.CLIENT_END, now_ms=world.clock.wall_ms())
    over = await world.get(session)
    owners = {"close": type(world.control.rooms), "settle": Billing, "note": SessionStore}
    kill_at(monkeypatch, owners[step], step)
    with pytest.raises(Killed):
        await world.control.closer.wind_up(over)
    await world.sweep(after_ms=2_001)
    over = await world.over(session)
    assert over.settled_at_ms is not None
    assert await held(world) == (5000 - 199, 0)
    await world.sweep(after_ms=2_001)
    assert (await world.get(session)).revision == over.revision


async def test_money_held_after_the_end_is_released(world: World) -> None:
    """The accept of a process was so slow that the session was over and settled before the hold."""
    session = await world.connect()
    await world.control.sessions.apply(session.tenant_id, session.id, Trigger.CLIENT_END, now_ms=world.clock.wall_ms())
    await world.control.sessions.note(
        session.tenant_id, session.id, "settled", now_ms=world.clock.wall_ms(), settled_at_ms=world.clock.wall_ms()
    )
    assert (await held(world))[1] > 0
    await world.control.follower.heal_meters({session.id % 64})
    assert await held(world) == (5000, 0)


async def test_meters_of_calls_that_go_on_are_healed_without_looking_at_each(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await world.call()
    assert await world.control.billing.unsettled({session.id % 64}) == [(session.tenant_id, session.id)]
    await world.sweep()
    looked: list[int] = []
    get = world.control.sessions.get

    async def counted(tenant: TenantId, session_id: SessionId) -> Session | None:
        looked.append(session_id)
        return await get(tenant, session_id)

    monkeypatch.setattr(world.control.sessions, "get", counted)
    await world.control.follower.heal_meters({session.id % 64})
    assert looked == []
