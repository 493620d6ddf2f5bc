"""Pausing, resuming and withdrawing: audited, carried out by the worker, and seen by both."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from config.http import ApiError, Call
from relay.messages import PauseRecording, RecordingPaused, StopRecording
from signaling.recorded import PauseWish, Recorded
from signaling.store import Session
from tests.signaling.conftest import World
from tests.signaling.test_attested import bearer, code_of


class Orders:
    """``Rooms.order`` that takes every command."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    async def order(self, _session: Session, command: Any) -> None:
        self.given.append(command)


class Audited:
    """Recordings whose audit log is a list."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self.consents = self
        self.withdrawn: list[Any] = []

    async def withdraw(self, session_id: int, entry: Any) -> None:
        self.entries.append(entry)
        self.withdrawn.append((session_id, entry.user_id))

    async def note(self, entry: Any) -> None:
        self.entries.append(entry)


class Request:
    def __init__(self, session: Session) -> None:
        self.match_info = {"id": str(session.public_id)}


def desk(world: World) -> tuple[Recorded, Orders, Audited]:
    control, orders, audited = world.control, Orders(), Audited()
    parts: Any = (control.director, control.sessions, orders, audited, control.closer._announcer, world.clock)
    return Recorded(*parts), orders, audited


def ask(session: Session, who: Any, body: Any = None) -> Call:
    request: Any = Request(session)
    return Call(request, who, body)


async def test_a_pause_is_audited_ordered_and_shown_until_it_is_over(world: World) -> None:
    session = await world.connect()
    recorded, orders, audited = desk(world)
    shown = await recorded.pause(ask(session, world.ada, PauseWish(max_s=30)))
    assert shown.recording == "paused"
    assert shown.recording_paused_until_ms == world.clock.wall_ms() + 30_000
    assert isinstance(orders.given[0], PauseRecording)
    assert (orders.given[0].for_ms, audited.entries[0].action) == (30_000, "recording.paused")
    paused = RecordingPaused(
        **world.worker.common(session), recording_public_id=str(session.recording_public_id), paused=False
    )
    await world.control.follower.on_event(paused)  # its time ran out
    found = await world.control.director.find(world.client, session.public_id)
    assert found.recording == "recording"
    await recorded.pause(ask(session, world.ada, PauseWish()))
    resumed = await recorded.resume(ask(session, world.ada))
    assert (resumed.recording, resumed.recording_paused_until_ms) == ("recording", None)
    assert orders.given[-1].for_ms == 0


async def test_consent_taken_back_ends_the_recording_and_not_the_call(world: World) -> None:
    session = await world.connect()
    recorded, orders, audited = desk(world)
    shown = await recorded.withdraw(ask(session, world.client))
    assert (shown.recording, shown.state) == ("stopped", "connecting")
    assert isinstance(orders.given[0], StopRecording)
    assert audited.entries[0].action == "recording.consent_withdrawn"
    assert audited.withdrawn == [(session.id, world.client.user_id)]
    with pytest.raises(ApiError, match="not_recording"):
        await recorded.pause(ask(session, world.ada, PauseWish()))


async def test_strangers_find_nothing(world: World) -> None:
    session = await world.connect()
    recorded, orders, _ = desk(world)
    with pytest.raises(ApiError, match="not_found"):
        await recorded.pause(ask(session, world.ben, PauseWish()))
    assert not orders.given


async def test_pages_are_told_what_to_announce_and_say_that_they_did(
    world: World, client_of_world: TestClient[Any, Any]
) -> None:
    session = await world.connect()
    answer = await world.control.director.join(world.client, world.join(session))
    assert answer.announcement is not None
    path, headers = (
        f"/api/v1/sessions/{session.public_id}/recording/announced",
        bearer(client_of_world, world, world.client),
    )
    said = {"key": "made-by-the-page", "version": answer.announcement.version, "how": "tone"}
    assert (await client_of_world.post(path, json=said, headers=headers)).status == 200
    assert world.recordings.announcements.told == [
        (session.tenant_id, session.id, world.client.user_id, "made-by-the-page", answer.announcement.version, "tone")
    ]
    unknown = await client_of_world.post(path, json={**said, "version": "2999-01-1"}, headers=headers)
    assert await code_of(unknown) == (409, "unknown_announcement")
    stranger = await client_of_world.post(path, json=said, headers=bearer(client_of_world, world, world.ben))
    assert stranger.status == 404
    await world.control.director.end(world.client, session.public_id)
    over = await client_of_world.post(path, json=said, headers=headers)
    assert await code_of(over) == (409, "not_recording")
    assert len(world.recordings.announcements.told) == 1
