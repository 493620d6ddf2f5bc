"""What people want of sessions, on real PostgreSQL and Valkey with a scripted worker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config.http import ApiError
from config.ids import DEFAULT_TENANT
from relay.messages import CloseRoom, OpenRoom, Refused, StartRecording
from signaling.client_messages import SetMuted
from signaling.lifecycle import State, Trigger
from signaling.messages import Consent
from tests.signaling.conftest import NO, YES, World


async def refused(work: Any) -> str:
    with pytest.raises(ApiError) as caught:
        await work
    return caught.value.code


async def test_a_call_goes_from_request_to_receipt(world: World) -> None:
    session = await world.ring()
    assert session.state is State.RINGING
    assert [view["state"] for view in await world.events(world.ada, "session.ringing")] == ["ringing"]
    accepted = await world.control.director.accept(world.ada, session.public_id, YES)
    assert (accepted.state, accepted.room_epoch, accepted.recording) == (State.CONNECTING, 1, "recording")
    await world.worker.flow(accepted)
    await world.worker.live(accepted, 10_000)
    await world.read()
    assert (await world.get(session)).state is State.ACTIVE
    await world.worker.live(accepted, 61_000)
    await world.read()
    await world.tick()
    ended = await world.control.director.end(world.client, session.public_id)
    assert (ended.state, ended.end_reason) == (State.ENDED, "client_left")
    over = await world.over(session)
    assert over.settled_at_ms is not None
    assert over.recording == "stopped"
    assert world.recordings.ended == [session.id]
    receipt = await world.control.billing.receipt(DEFAULT_TENANT, session.id)
    assert receipt is not None
    assert (receipt.billed_ms, receipt.charged_minor) == (61_000, 61 * 199 // 60)
    assert receipt.provider_minor + receipt.platform_minor == receipt.charged_minor
    costs = await world.events(world.client, "session.cost")
    assert costs[-1]["cost_minor"] == receipt.charged_minor
    assert costs[-1]["balance_minor"] == 5000 - receipt.charged_minor
    assert (await world.events(world.ada, "session.cost"))[-1]["earnings_minor"] == receipt.provider_minor
    states = [view["state"] for view in await world.events(world.client, "session.updated")]
    assert states == ["ringing", "accepted", "connecting", "active", "ended", "ended"]


async def test_the_same_request_key_makes_one_session(world: World) -> None:
    wish = world.wish()
    first, second = await asyncio.gather(
        world.control.director.request(world.client, wish), world.control.director.request(world.client, wish)
    )
    assert first.id == second.id
    again = await world.control.director.request(world.client, wish)
    assert (again.id, again.state) == (first.id, State.RINGING)


async def test_a_request_key_used_for_another_provider_is_refused(world: World) -> None:
    wish = world.wish()
    await world.control.director.request(world.client, wish)
    other = wish.model_copy(update={"provider_id": world.ben.public_id})
    assert await refused(world.control.director.request(world.client, other)) == "request_key_used"


async def test_a_busy_provider_is_not_rung_twice(world: World) -> None:
    await world.ring()
    assert await refused(world.ring()) == "provider_busy"


async def test_two_clients_of_the_same_moment_do_not_share_a_provider(world: World) -> None:
    answers = await asyncio.gather(world.ring(), world.ring(), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["ApiError", "Session"]


async def test_an_offline_or_unavailable_provider_is_not_rung(world: World) -> None:
    await world.control.people.set_available(DEFAULT_TENANT, world.ada.user_id, False, 0)
    assert await refused(world.ring()) == "provider_unavailable"
    await world.control.people.set_available(DEFAULT_TENANT, world.ada.user_id, True, 1)
    world.clock.advance_ms(31_000)
    assert await refused(world.ring()) == "provider_unavailable"


async def test_a_client_without_money_is_told_before_it_rings(world: World) -> None:
    await world.control.billing.set_rate(DEFAULT_TENANT, world.ada.user_id, "video", 600_000, "USD")
    assert await refused(world.ring()) == "insufficient_funds"


async def test_one_client_cannot_ring_everybody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signaling.director.LIVE_PER_CLIENT_MAX", 1)
    await world.ring()
    assert await refused(world.ring(world.ben)) == "too_many_sessions"


async def test_requests_of_the_same_moment_are_counted_one_after_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signaling.director.LIVE_PER_CLIENT_MAX", 1)
    answers = await asyncio.gather(world.ring(), world.ring(world.ben), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["ApiError", "Session"]


async def test_an_acceptance_whose_process_died_is_carried_on_when_it_is_repeated(world: World) -> None:
    session = await world.ring()
    await world.control.sessions.apply(
        session.tenant_id, session.id, Trigger.ACCEPT, now_ms=world.clock.wall_ms(), actor=world.ada.user_id
    )
    again = await world.control.director.accept(world.ada, session.public_id, YES)
    assert again.state is State.ACCEPTED, "perhaps another process is at it"
    world.clock.advance_ms(6_000)
    again = await world.control.director.accept(world.ada, session.public_id, YES)
    assert (again.state, again.room_epoch) == (State.CONNECTING, 1)


async def test_an_outdated_consent_text_is_refused(world: World) -> None:
    old = Consent(version="old", accepted=True)
    assert await refused(world.ring(consent=old)) == "consent_outdated"
    session = await world.ring()
    assert await refused(world.control.director.accept(world.ada, session.public_id, old)) == "consent_outdated"


async def test_without_both_consents_nothing_is_recorded(world: World) -> None:
    connected = await world.connect(NO)
    assert (connected.recording, connected.recording_public_id) == ("off", None)
    assert not any(isinstance(command, StartRecording) for command in world.worker.commands)


async def test_two_accepts_open_one_room(world: World) -> None:
    session = await world.ring()
    director = world.control.director
    await asyncio.gather(
        director.accept(world.ada, session.public_id, YES), director.accept(world.ada, session.public_id, YES)
    )
    assert sum(isinstance(command, OpenRoom) for command in world.worker.commands) == 1
    assert (await world.get(session)).state is State.CONNECTING


async def test_two_hang_ups_settle_once(world: World) -> None:
    session = await world.call()
    await world.worker.live(session, 30_000)
    await world.read()
    director = world.control.director
    ends = await asyncio.gather(
        director.end(world.client, session.public_id), director.end(world.ada, session.public_id)
    )
    assert ends[0].end_reason == ends[1].end_reason
    over = await world.over(session)
    assert over.settled_at_ms is not None
    wallet = await world.control.billing.wallet(DEFAULT_TENANT, world.client.user_id, "client")
    assert (wallet.balance_minor, wallet.held_minor) == (5000 - 199 // 2, 0)


async def test_hanging_up_while_the_room_opens_gives_room_and_money_back(world: World) -> None:
    session = await world.ring()
    director = world.control.director
    await asyncio.gather(
        director.accept(world.ada, session.public_id, YES),
        director.end(world.client, session.public_id),
        return_exceptions=True,
    )
    over = await world.over(session)
    if not over.over:  # the hang-up came first and cancelled the ringing, or last and ended the call
        pytest.fail(f"still {over.state}")
    await world.sweep(after_ms=3_000)
    await world.control.follower.heal_meters(set(range(64)))
    wallet = await world.control.billing.wallet(DEFAULT_TENANT, world.client.user_id, "client")
    assert (wallet.balance_minor, wallet.held_minor) == (5000, 0)
    assert world.worker.rooms == {}


async def test_declined_cancelled_and_missed_calls_cost_nothing(world: World) -> None:
    director = world.control.director
    declined = await director.decline(world.ada, (await world.ring()).public_id)
    cancelled = await director.cancel(world.client, (await world.ring()).public_id)
    missed = await world.ring()
    await world.sweep(after_ms=29_000)
    assert (await world.get(missed)).state is State.RINGING
    await world.sweep(after_ms=1_001)
    missed = await world.get(missed)
    assert [s.state for s in (declined, cancelled, missed)] == [State.DECLINED, State.CANCELLED, State.MISSED]
    assert [s.end_reason for s in (declined, cancelled, missed)] == [
        "provider_declined",
        "client_cancelled",
        "no_answer",
    ]
    assert await refused(director.accept(world.ada, missed.public_id, YES)) == "session_over"
    wallet = await world.control.billing.wallet(DEFAULT_TENANT, world.client.user_id, "client")
    assert wallet.available_minor == 5000


async def test_strangers_see_no_session_and_staff_only_read(world: World) -> None:
    session = await world.ring()
    director = world.control.director
    assert await refused(director.find(world.ben, session.public_id)) == "not_found"
    assert await refused(director.accept(world.ben, session.public_id, YES)) == "not_found"
    assert await refused(director.accept(world.client, session.public_id, YES)) == "forbidden"
    assert await refused(director.end(world.people["compliance"], session.public_id)) == "not_found"
    assert (await director.find_to_read(world.people["compliance"], session.public_id)).id == session.id
    assert await refused(director.request(world.ada, world.wish(world.ben))) == "forbidden"


async def test_a_worker_that_is_full_is_passed_over(world: World) -> None:
    world.worker.refuse[OpenRoom] = Refused(code="worker_full", message="full")
    session = await world.ring()
    assert await refused(world.control.director.accept(world.ada, session.public_id, YES)) == "no_capacity"
    over = await world.over(session)
    assert (over.state, over.end_reason) == (State.FAILED, "server_error")
    wallet = await world.control.billing.wallet(DEFAULT_TENANT, world.client.user_id, "client")
    assert wallet.held_minor == 0


async def test_joining_negotiates_and_tells_what_is_muted(world: World) -> None:
    session = await world.connect()
    director = world.control.director
    await director.mute(world.ada, SetMuted(session_id=session.public_id, muted={"camera": True}))
    await director.mute(world.ada, SetMuted(session_id=session.public_id, muted={"microphone": True}))
    answer = await director.join(world.client, world.join(session))
    assert (answer.sdp, answer.room_epoch) == ("v=0 answer", 1)
    assert answer.tracks[0].user_id == world.ada.public_id
    assert answer.muted == {world.ada.public_id: {"camera": True, "microphone": True}}
    told = await world.events(world.client, "room.muted")
    assert told[-1]["muted"] == {"camera": True, "microphone": True}


async def test_joining_is_refused_before_and_after_the_call(world: World) -> None:
    session = await world.ring()
    director = world.control.director
    assert await refused(director.join(world.client, world.join(session))) == "room_not_open"
    await director.accept(world.ada, session.public_id, YES)
    world.worker.rooms.clear()
    assert await refused(director.join(world.client, world.join(session))) == "unknown_room"
    await director.end(world.client, session.public_id)
    assert await refused(director.join(world.client, world.join(session))) == "session_over"


async def test_ending_closes_the_room_with_the_reason(world: World) -> None:
    session = await world.call()
    await world.control.director.end(world.ada, session.public_id)
    await world.over(session)
    closes = [command for command in world.worker.commands if isinstance(command, CloseRoom)]
    assert [command.reason for command in closes] == ["provider_left"]


async def test_where_calls_must_be_recorded_one_that_cannot_be_is_refused(world: World) -> None:
    world.control.director._unrecorded_refused = True
    world.worker.refuse[StartRecording] = Refused(code="spool_full", message="too little free disk")
    session = await world.ring()
    assert await refused(world.control.director.accept(world.ada, session.public_id, YES)) == "cannot_record"
    found = await world.control.director.find(world.client, session.public_id)
    assert (found.over, found.state) == (True, "failed")
    assert any(isinstance(command, CloseRoom) for command in world.worker.commands)
