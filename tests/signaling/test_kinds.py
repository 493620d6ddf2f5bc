"""A change of kind: who has to agree, what is charged from when on, and what the worker lets flow."""

from __future__ import annotations

import asyncio

import pytest

from config.http import ApiError
from relay.messages import Refused, SetKind
from signaling.kinds import ASKED_LASTS_MS
from signaling.messages import SendMessage
from signaling.store import Session
from signaling.views import session_view
from tests.signaling.conftest import World

RATES = {"chat": 99, "audio": 149, "video": 199}


async def audio_call(world: World) -> Session:
    session = await world.control.director.request(world.client, world.wish(kind="audio"))
    session = await world.control.director.accept(world.ada, session.public_id, world.wish().consent)
    await world.worker.flow(session)
    await world.read()
    return await world.get(session)


async def test_dearer_kind_takes_both_and_is_charged_from_that_moment(world: World) -> None:
    session, kinds = await audio_call(world), world.control.kinds
    await world.worker.live(session, 60_000)
    asked = await kinds.ask(world.ada, session.public_id, "video", 199)
    assert (asked.kind, asked.asked_kind, asked.asked_by) == ("audio", "video", world.ada.user_id)
    view = session_view(asked)
    assert view.asked is not None
    assert (view.asked.rate.minor_per_minute, view.asked.by) == (199, world.ada.public_id)
    assert (await world.events(world.client, "session.updated"))[-1]["asked"]["kind"] == "video"
    assert world.worker.rooms[session.id].kind == "audio", "nothing flows that nobody has agreed to pay"

    agreed = await kinds.ask(world.client, session.public_id, "video", 199)
    assert (agreed.kind, agreed.minor_per_minute, agreed.asked_kind) == ("video", 199, None)
    assert world.worker.rooms[session.id].kind == "video"
    await world.worker.live(agreed, 120_000)
    await world.read()
    await world.tick()
    cost = (await world.events(world.client, "session.cost"))[-1]
    assert cost["cost_minor"] == 149 + 199
    await world.control.director.end(world.client, session.public_id)
    await world.over(session)
    receipt = await world.control.billing.receipt(session.tenant_id, session.id)
    assert receipt is not None
    assert receipt.charged_minor == 149 + 199
    assert [(line.label, line.amount_minor) for line in receipt.lines] == [
        ("Audio call, 1:00 min", 149),
        ("Video call, 1:00 min", 199),
    ]


async def test_client_who_asks_has_confirmed_and_the_provider_agrees(world: World) -> None:
    session, kinds = await audio_call(world), world.control.kinds
    await kinds.ask(world.client, session.public_id, "video", 199)
    again = await kinds.ask(world.client, session.public_id, "video", 199)
    assert again.kind == "audio", "asking twice is not agreeing"
    assert (await kinds.ask(world.ada, session.public_id, "video", 199)).kind == "video"


async def test_cheaper_kind_needs_no_agreement_and_ends_the_video_at_once(world: World) -> None:
    session, kinds = await world.call(), world.control.kinds
    changed = await kinds.ask(world.ada, session.public_id, "audio", 149)
    assert (changed.kind, changed.minor_per_minute) == ("audio", 149)
    assert world.worker.rooms[session.id].kind == "audio"
    back = await kinds.ask(world.client, session.public_id, "chat", 99)
    assert (back.kind, world.worker.rooms[session.id].kind) == ("chat", "chat")
    same = await kinds.ask(world.client, session.public_id, "chat", 99)
    assert same.revision == back.revision, "what is so already changes nothing"


async def test_rate_that_was_not_shown_is_not_agreed_to(world: World) -> None:
    session, kinds = await audio_call(world), world.control.kinds
    with pytest.raises(ApiError) as refused:
        await kinds.ask(world.client, session.public_id, "video", 150)
    assert (refused.value.code, refused.value.details) == ("rate_changed", {"minor_per_minute": 199})
    assert (await world.get(session)).asked_kind is None


async def test_agreement_that_is_sent_twice_at_once_changes_the_terms_once(world: World) -> None:
    session, kinds = await audio_call(world), world.control.kinds
    await world.worker.live(session, 30_000)
    await kinds.ask(world.ada, session.public_id, "video", 199)
    agreed = await asyncio.gather(*(kinds.ask(world.client, session.public_id, "video", 199) for _ in range(4)))
    assert {one.kind for one in agreed} == {"video"}
    terms = await world.control.billing.terms(session.tenant_id, session.id)
    assert terms is not None
    assert (terms.rate.kind, terms.revision) == ("video", 2)


async def test_declined_or_late_agreement_changes_nothing(world: World) -> None:
    session, kinds = await audio_call(world), world.control.kinds
    await kinds.ask(world.ada, session.public_id, "video", 199)
    kept = await kinds.keep(world.client, session.public_id)
    assert (kept.kind, kept.asked_kind) == ("audio", None)
    await kinds.ask(world.ada, session.public_id, "video", 199)
    world.clock.advance_ms(ASKED_LASTS_MS)
    late = await kinds.ask(world.client, session.public_id, "video", 199)
    assert (late.kind, late.asked_by) == ("audio", world.client.user_id), "it is a request of their own now"


async def test_without_money_for_it_nothing_changes(world: World) -> None:
    session, kinds = await audio_call(world), world.control.kinds
    await world.control.billing.set_rate(session.tenant_id, session.provider.user_id, "video", 100_000, "USD")
    await kinds.ask(world.ada, session.public_id, "video", 100_000)
    with pytest.raises(ApiError) as refused:
        await kinds.ask(world.client, session.public_id, "video", 100_000)
    assert (refused.value.status, refused.value.code) == (402, "insufficient_funds")
    assert (await world.get(session)).kind == "audio"
    assert world.worker.rooms[session.id].kind == "audio"


async def test_only_in_the_call_and_only_its_people(world: World) -> None:
    session, kinds = await world.ring(), world.control.kinds
    with pytest.raises(ApiError) as early:
        await kinds.ask(world.client, session.public_id, "audio", 149)
    assert early.value.code == "wrong_state"
    with pytest.raises(ApiError) as stranger:
        await kinds.ask(world.ben, session.public_id, "audio", 149)
    assert stranger.value.status == 404


async def test_half_a_change_is_carried_on_by_what_is_charged(world: World) -> None:
    """Whoever changed the terms died before anybody was told."""
    session = await audio_call(world)
    await world.worker.live(session, 10_000)
    rates = {
        rate.kind: rate
        for rate in (await world.control.billing.rates(1, [session.provider.user_id]))[  # type: ignore[arg-type]
            session.provider.user_id
        ]
    }
    await world.control.billing.change_kind(session.tenant_id, session.id, 1, 10_000, rates["video"])
    await world.read()
    await world.worker.live(session, 12_000)
    await world.read()
    await world.tick()
    healed = await world.get(session)
    assert (healed.kind, healed.minor_per_minute) == ("video", 199)
    grants = [c for c in world.worker.commands if type(c).__name__ == "SetGrant"]
    assert (grants[-1].kind, grants[-1].revision) == ("video", 2)  # type: ignore[union-attr]


async def test_worker_that_does_not_answer_leaves_all_as_it_was(world: World) -> None:
    session, kinds = await world.call(), world.control.kinds
    world.worker.refuse[SetKind] = Refused(code="stale_epoch", message="moved")
    with pytest.raises(ApiError):
        await kinds.ask(world.client, session.public_id, "audio", 149)
    terms = await world.control.billing.terms(session.tenant_id, session.id)
    assert terms is not None
    assert terms.rate.kind == (await world.get(session)).kind == "video"


async def test_a_chat_takes_messages_while_both_are_there_only(world: World) -> None:
    def said(text: str) -> SendMessage:
        return SendMessage(client_message_id=f"message-{text.replace(' ', '-')}", text=text)

    session = await world.control.director.request(world.client, world.wish(kind="chat"))
    session = await world.control.director.accept(world.ada, session.public_id, world.wish().consent)
    chat = world.control.chat
    with pytest.raises(ApiError) as early:
        await chat.send(world.client, session, said("early"))
    assert early.value.code == "chat_paused"
    await world.worker.flow(session)
    await world.read()
    await chat.send(world.client, await world.get(session), said("in time"))
    over = await world.control.director.end(world.client, session.public_id)
    with pytest.raises(ApiError) as late:
        await chat.send(world.client, over, said("late"))
    assert late.value.code == "chat_paused"


async def test_chat_goes_on_with_media_and_is_recorded_from_then(world: World) -> None:
    session = await world.control.director.request(world.client, world.wish(kind="chat"))
    session = await world.control.director.accept(world.ada, session.public_id, world.wish().consent)
    assert session.recording == "off"
    await world.worker.flow(session)
    await world.read()
    kinds = world.control.kinds
    await kinds.ask(world.client, session.public_id, "audio", 149)
    changed = await kinds.ask(world.ada, session.public_id, "audio", 149)
    assert (changed.kind, changed.recording) == ("audio", "recording")
    assert world.worker.rooms[session.id].recording == changed.recording_public_id
