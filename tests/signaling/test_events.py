"""Numbered events: no gap, bounded, and above all that was seen when Redis comes back empty."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from config.clock import VirtualClock
from config.connections import open_redis
from config.ids import TenantId, UserId
from signaling.events import Events
from signaling.numbering import KEPT_MAX
from signaling.server_events import PresenceEvent, WarningEvent

TENANT, USER = TenantId(1), UserId(7)


class Emitted:
    """Stands for the sockets."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any, str | list[str] | None]] = []

    async def emit(self, event: str, data: Any = None, *, room: str | list[str] | None = None) -> None:
        self.sent.append((event, data, room))


@pytest.fixture
def emitted() -> Emitted:
    return Emitted()


@pytest.fixture
def events(redis: Redis, emitted: Emitted, clock: VirtualClock) -> Events:
    return Events(redis, emitted, clock)


def warning(n: int) -> WarningEvent:
    return WarningEvent(session_id=f"ses_{n}", remaining_ms=n)


async def test_numbers_have_no_gap_even_from_many_tellers(events: Events, emitted: Emitted) -> None:
    start = await events.newest(TENANT, USER)
    await asyncio.gather(*(events.tell(TENANT, USER, "session.warning", warning(n)) for n in range(50)))
    assert sorted(data["seq"] for _, data, _ in emitted.sent) == list(range(start + 1, start + 51))
    missed = await events.since(TENANT, USER, start)
    assert (len(missed.events), missed.complete, missed.newest) == (50, True, start + 50)
    assert [event["seq"] for event in missed.events] == list(range(start + 1, start + 51))


async def test_users_are_numbered_and_told_apart(events: Events, emitted: Emitted) -> None:
    await events.tell(TENANT, USER, "session.warning", warning(1))
    await events.tell(TenantId(2), USER, "session.warning", warning(2))
    assert [room for _, _, room in emitted.sent] == ["user:1:7", "user:2:7"]
    assert len((await events.since(TENANT, USER, 0)).events) == 1


async def test_what_is_no_longer_kept_is_said_to_be_incomplete(events: Events) -> None:
    start = await events.newest(TENANT, USER)
    for n in range(KEPT_MAX + 10):
        await events.tell(TENANT, USER, "session.warning", warning(n))
    missed = await events.since(TENANT, USER, start)
    assert (len(missed.events), missed.complete) == (KEPT_MAX, False)
    assert (await events.since(TENANT, USER, start + 10)).complete is True


async def test_after_redis_came_back_empty_numbers_are_above_all_that_were_seen(
    events: Events, redis: Redis, clock: VirtualClock
) -> None:
    for n in range(5):
        await events.tell(TENANT, USER, "session.warning", warning(n))
    seen = await events.newest(TENANT, USER)
    await redis.flushall()
    clock.advance_ms(1_000)
    await events.tell(TENANT, USER, "session.warning", warning(6))
    missed = await events.since(TENANT, USER, seen)
    assert (missed.complete, [event["data"]["remaining_ms"] for event in missed.events]) == (False, [6])


async def test_without_redis_events_still_go_to_this_process_unnumbered(
    emitted: Emitted, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("config.connections.RETRIES", 0)
    nowhere = open_redis("redis://127.0.0.1:1/0")
    await Events(nowhere, emitted, clock).tell(TENANT, USER, "session.warning", warning(1))
    await nowhere.aclose()
    assert emitted.sent == [("session.warning", {"seq": None, "data": warning(1).model_dump()}, "user:1:7")]


async def test_an_event_with_another_events_content_is_a_fault(events: Events) -> None:
    with pytest.raises(TypeError):
        await events.tell(TENANT, USER, "wallet.changed", PresenceEvent(user_id="usr_1", presence="online"))
