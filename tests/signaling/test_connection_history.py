"""What is kept of how people's pages were connected."""

from __future__ import annotations

from typing import Any

import pytest
from asyncpg import PostgresConnectionError
from redis.asyncio import Redis

from billing.terms import Mark
from config.ids import DEFAULT_TENANT, SHARDS
from relay.messages import ParticipantConnected, ParticipantConnecting, ParticipantDisconnected
from signaling import connection_history
from signaling.connection_history import ConnectionHistory
from signaling.store import Session
from tests.signaling.conftest import World


async def told(world: World, session: Session) -> list[tuple[str, str, str]]:
    changes = await world.control.connections.of_session(session.tenant_id, session.id)
    names = {world.client.public_id: "client", world.ada.public_id: "ada"}
    return [(names[change.user_id], change.state, change.reason) for change in changes]


async def say(world: World, session: Session, kind: Any, user_id: int, **fields: Any) -> None:
    world.clock.advance_ms(100)
    await world.worker.tell(kind(**world.worker.common(session), user_id=user_id, **fields))
    await world.read()


async def test_every_change_of_a_connection_is_kept_in_order_and_once(world: World) -> None:
    session = await world.connect()
    ada, client = world.ada.user_id, world.client.user_id
    await say(world, session, ParticipantConnecting, ada)
    await say(world, session, ParticipantConnected, ada, connect_ms=80)
    await say(world, session, ParticipantConnecting, client)
    await say(world, session, ParticipantConnected, client, connect_ms=90)
    await say(world, session, ParticipantDisconnected, client, reason="timeout")
    back = ParticipantConnected(**world.worker.common(session), user_id=client, connect_ms=0)
    await world.worker.tell(back, back)  # at the same moment, and twice
    await world.read()
    await say(world, session, ParticipantDisconnected, ada, reason="closed")
    assert await told(world, session) == [
        ("ada", "connecting", ""),
        ("ada", "connected", ""),
        ("client", "connecting", ""),
        ("client", "connected", ""),
        ("client", "reconnecting", "timeout"),
        ("client", "connected", ""),
        ("ada", "closed", ""),
    ]
    changes = await world.control.connections.of_session(DEFAULT_TENANT, session.id)
    assert [change.connect_ms for change in changes if change.state == "connected"] == [80, 90, None]


async def test_a_move_is_told_of_both_sides_and_so_is_what_the_old_worker_says_last(world: World) -> None:
    session = await world.call()
    await say(world, session, ParticipantConnected, world.ada.user_id, connect_ms=80)
    moved = await world.control.sessions.move(
        session,
        now_ms=world.clock.wall_ms() + 1_000,
        why="lost",
        worker_id=world.worker.worker_id,
        room_epoch=type(session.room_epoch)(session.room_epoch + 1),
        recording=session.recording,
    )
    assert moved is not None
    world.clock.advance_ms(1_900)
    await say(world, session, ParticipantDisconnected, world.ada.user_id, reason="closed")
    await say(world, moved, ParticipantConnected, world.ada.user_id, connect_ms=70)
    assert sorted((await told(world, session))[1:3]) == [("ada", "moved", "lost"), ("client", "moved", "lost")]
    assert [change[1] for change in await told(world, session)] == [
        "connected",
        "moved",
        "moved",
        "closed",
        "connected",
    ]


async def test_strangers_and_floods_of_changes_are_not_kept(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(connection_history, "OF_SESSION_MAX", 3)
    session = await world.connect()
    await say(world, session, ParticipantConnecting, world.ben.user_id)
    for _ in range(5):
        await say(world, session, ParticipantConnecting, world.ada.user_id)
    assert await told(world, session) == [("ada", "connecting", "")] * 3


async def test_changes_wait_while_the_database_is_away(world: World) -> None:
    session = await world.connect()
    event = ParticipantConnecting(**world.worker.common(session), user_id=world.ada.user_id)

    class Away:
        def transaction(self, _: object) -> Any:
            raise PostgresConnectionError("away")

    history = ConnectionHistory(world.control.connections._database)
    database, history._database = history._database, Away()  # type: ignore[assignment]
    history.take(session, event)
    assert await history.keep() is False
    assert await told(world, session) == []
    history._database = database
    assert await history.keep() is True
    assert await told(world, session) == [("ada", "connecting", "")]


async def test_changes_are_acknowledged_once_they_are_written_and_hold_up_nothing_else(
    world: World, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, history = await world.call(), world.control.connections
    log = f"tp:media:{session.id % SHARDS}"

    async def away(*_: object) -> None:
        raise PostgresConnectionError("away")

    with monkeypatch.context() as patched:
        patched.setattr(history, "_write", away)
        await say(world, session, ParticipantConnected, world.ada.user_id, connect_ms=80)
        await world.worker.live(session, 30_000)
        await world.read()
        assert world.control.meter.mark(session.id) == Mark(1, 30_000)
        assert await redis.xlen(log) == 1, "what is not written could be read by the next leaseholder"
    await world.read()
    assert await redis.xlen(log) == 0
    assert await told(world, session) == [("ada", "connected", "")]


async def test_a_change_that_cannot_be_written_holds_up_no_other(world: World) -> None:
    session, history = await world.connect(), world.control.connections
    common = world.worker.common(session)
    history.take(session, ParticipantConnecting(**{**common, "session_id": 10**9}, user_id=world.ada.user_id))
    history.take(session, ParticipantConnecting(**common, user_id=world.ada.user_id))
    assert await history.keep() is True
    assert await told(world, session) == [("ada", "connecting", "")]
