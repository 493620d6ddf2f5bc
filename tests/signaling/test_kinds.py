"""A change of kind: who has to agree, what is charged from when on, and what the worker lets flow."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from billing import packages
from billing.money import Tariff
from billing.packages import PackageOffer
from billing.tariffs import STANDARD, Offer
from billing.terms import Opened
from config.http import ApiError
from relay.messages import Refused, RoomClosed, SessionKind, SetKind, StopRecording
from signaling.kinds import ASKED_LASTS_MS, Shown
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
    asked = await kinds.ask(world.ada, session.public_id, "video", Shown(199))
    assert (asked.kind, asked.asked_kind, asked.asked_by) == ("audio", "video", world.ada.user_id)
    view = session_view(asked)
    assert view.asked is not None
    assert (view.asked.rate.minor_per_minute, view.asked.by) == (199, world.ada.public_id)
    assert (await world.events(world.client, "session.updated"))[-1]["asked"]["kind"] == "video"
    assert world.worker.rooms[session.id].kind == "audio", "nothing flows that nobody has agreed to pay"

    agreed = await kinds.ask(world.client, session.public_id, "video", Shown(199))
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
    await kinds.ask(world.client, session.public_id, "video", Shown(199))
    again = await kinds.ask(world.client, session.public_id, "video", Shown(199))
    assert again.kind == "audio", "asking twice is not agreeing"
    assert (await kinds.ask(world.ada, session.public_id, "video", Shown(199))).kind == "video"


async def test_cheaper_kind_needs_no_agreement_and_ends_the_video_at_once(world: World) -> None:
    session, kinds = await world.call(), world.control.kinds
    changed = await kinds.ask(world.ada, session.public_id, "audio", Shown(149))
    assert (changed.kind, changed.minor_per_minute) == ("audio", 149)
    assert world.worker.rooms[session.id].kind == "audio"
    with pytest.raises(ApiError) as soon:
        await kinds.ask(world.client, session.public_id, "chat", Shown(99))
    assert soon.value.code == "too_soon"
    world.clock.advance_ms(5_000)
    back = await kinds.ask(world.client, session.public_id, "chat", Shown(99))
    assert (back.kind, world.worker.rooms[session.id].kind) == ("chat", "chat")
    same = await kinds.ask(world.client, session.public_id, "chat", Shown(99))
    assert same.revision == back.revision, "what is so already changes nothing"


async def test_rate_that_was_not_shown_is_not_agreed_to(world: World) -> None:
    session, kinds = await audio_call(world), world.control.kinds
    with pytest.raises(ApiError) as refused:
        await kinds.ask(world.client, session.public_id, "video", Shown(150))
    assert (refused.value.code, refused.value.details) == ("rate_changed", {"minor_per_minute": 199, "step_ms": 1})
    assert (await world.get(session)).asked_kind is None


async def test_agreement_that_is_sent_twice_at_once_changes_the_terms_once(world: World) -> None:
    session, kinds = await audio_call(world), world.control.kinds
    await world.worker.live(session, 30_000)
    await kinds.ask(world.ada, session.public_id, "video", Shown(199))
    agreed = await asyncio.gather(*(kinds.ask(world.client, session.public_id, "video", Shown(199)) for _ in range(4)))
    assert {one.kind for one in agreed} == {"video"}
    terms = await world.control.billing.terms(session.tenant_id, session.id)
    assert terms is not None
    assert (terms.rate.kind, terms.revision) == ("video", 2)


async def test_declined_or_late_agreement_changes_nothing(world: World) -> None:
    session, kinds = await audio_call(world), world.control.kinds
    await kinds.ask(world.ada, session.public_id, "video", Shown(199))
    kept = await kinds.keep(world.client, session.public_id)
    assert (kept.kind, kept.asked_kind) == ("audio", None)
    await kinds.ask(world.ada, session.public_id, "video", Shown(199))
    world.clock.advance_ms(ASKED_LASTS_MS)
    late = await kinds.ask(world.client, session.public_id, "video", Shown(199))
    assert (late.kind, late.asked_by) == ("audio", world.client.user_id), "it is a request of their own now"


async def test_without_money_for_it_nothing_changes(world: World) -> None:
    session, kinds = await audio_call(world), world.control.kinds
    await world.control.billing.set_rate(session.tenant_id, session.provider.user_id, "video", 100_000, "USD")
    await kinds.ask(world.ada, session.public_id, "video", Shown(100_000))
    with pytest.raises(ApiError) as refused:
        await kinds.ask(world.client, session.public_id, "video", Shown(100_000))
    assert (refused.value.status, refused.value.code) == (402, "insufficient_funds")
    assert (await world.get(session)).kind == "audio"
    assert world.worker.rooms[session.id].kind == "audio"


async def test_only_in_the_call_and_only_its_people(world: World) -> None:
    session, kinds = await world.ring(), world.control.kinds
    with pytest.raises(ApiError) as early:
        await kinds.ask(world.client, session.public_id, "audio", Shown(149))
    assert early.value.code == "wrong_state"
    with pytest.raises(ApiError) as stranger:
        await kinds.ask(world.ben, session.public_id, "audio", Shown(149))
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


async def test_half_a_change_in_the_last_grant_reaches_the_worker_all_the_same(world: World) -> None:
    """No further grant will come that would tell it."""
    session, billing = await audio_call(world), world.control.billing
    await world.worker.live(session, 10_000)
    await world.read()
    await world.tick()
    offers = (await billing.offers(session.tenant_id, [session.provider.user_id]))[session.provider.user_id]
    video = next(offer.rate for offer in offers if offer.kind == "video")
    opened = await billing.change_kind(session.tenant_id, session.id, 1, 10_000, video)
    assert isinstance(opened, Opened)
    world.worker.rooms[session.id].granted_ms = opened.granted_live_ms
    again = await world.control.kinds.ask(world.client, session.public_id, "video", Shown(199))
    assert (again.kind, world.worker.rooms[session.id].kind) == ("video", "video"), "asking again makes up for it"
    world.worker.rooms[session.id].kind, world.worker.rooms[session.id].terms = "audio", 0
    await world.worker.live(session, 12_000)
    await world.read()
    await world.tick()
    assert world.worker.rooms[session.id].kind == "video"
    await world.worker.live(session, 13_000)
    await world.read()
    told = len(world.worker.commands)
    await world.tick()
    assert len(world.worker.commands) == told, "once it says that it knows, it is told no more"


async def test_room_that_moves_is_opened_as_what_is_charged(world: World) -> None:
    session, billing = await audio_call(world), world.control.billing
    offers = (await billing.offers(session.tenant_id, [session.provider.user_id]))[session.provider.user_id]
    video = next(offer.rate for offer in offers if offer.kind == "video")
    assert isinstance(await billing.change_kind(session.tenant_id, session.id, 1, 10_000, video), Opened)
    del world.worker.rooms[session.id]
    await world.worker.tell(RoomClosed(**world.worker.common(session), reason="fault", live_ms=10_000))
    await world.read()
    await world.control.mover.finish()
    room = world.worker.rooms[session.id]
    assert (room.opened.epoch, room.kind, room.terms) == (2, "video", 2)


async def by_minutes(world: World, kind: SessionKind, rate: int, step_ms: int = 60_000) -> None:
    await world.control.billing.set_offer(
        world.ada.tenant_id, world.ada.user_id, Offer(kind, STANDARD, Tariff(rate, 7_000, step_ms=step_ms), "USD")
    )


async def test_provider_who_wants_steps_in_advance_asks_the_client(world: World) -> None:
    session, kinds = await world.call(), world.control.kinds
    await by_minutes(world, "chat", 99, 1_800_000)
    with pytest.raises(ApiError) as unseen:
        await kinds.ask(world.ada, session.public_id, "chat", Shown(99))
    assert unseen.value.details == {"minor_per_minute": 99, "step_ms": 1_800_000}, (
        "who has not seen the steps decides anew"
    )
    asked = await kinds.ask(world.ada, session.public_id, "chat", Shown(99, 1_800_000))
    assert (asked.kind, asked.asked_kind, asked.asked_step_ms) == ("video", "chat", 1_800_000)
    view = session_view(asked).asked
    assert view is not None
    assert view.step_ms == 1_800_000
    with pytest.raises(ApiError) as blind:
        await kinds.ask(world.client, session.public_id, "chat", Shown(99))
    assert blind.value.code == "rate_changed"
    assert (await kinds.ask(world.client, session.public_id, "chat", Shown(99, 1_800_000))).kind == "chat"


async def test_client_who_wants_steps_in_advance_has_them_at_once(world: World) -> None:
    session, kinds = await world.call(), world.control.kinds
    await by_minutes(world, "audio", 149)
    assert (await kinds.ask(world.client, session.public_id, "audio", Shown(149, 60_000))).kind == "audio"


async def test_client_on_a_package_is_asked_before_money_is_taken(world: World) -> None:
    billing = world.control.billing
    offer = PackageOffer("Video", 600_000, 100, "USD", kind="video")
    public_id = await packages.add_offer(billing.database, world.ada.tenant_id, offer)
    bought = await billing.buy_package(world.client.tenant_id, world.client.user_id, public_id, "buy-package-1")
    assert isinstance(bought, packages.Package)
    session, kinds = await world.call(), world.control.kinds
    asked = await kinds.ask(world.ada, session.public_id, "audio", Shown(149))
    assert (asked.kind, asked.asked_kind) == ("video", "audio")
    assert (await kinds.ask(world.client, session.public_id, "audio", Shown(149))).kind == "audio"


async def test_agreement_to_what_has_been_taken_back_is_refused(world: World) -> None:
    session, kinds = await world.call(), world.control.kinds
    await by_minutes(world, "audio", 149)  # the client would have it at once by asking, and is only answering here
    await kinds.ask(world.ada, session.public_id, "audio", Shown(149, 60_000))
    await kinds.keep(world.ada, session.public_id)
    for _ in range(2):
        with pytest.raises(ApiError) as refused:
            await kinds.ask(world.client, session.public_id, "audio", Shown(149, 60_000), agrees=True)
        assert (refused.value.status, refused.value.code) == (409, "not_asked")
    kept = await world.get(session)
    terms = await world.control.billing.terms(session.tenant_id, session.id)
    assert terms is not None
    assert (kept.kind, kept.asked_kind, terms.rate.kind, terms.revision) == ("video", None, "video", 1)
    assert world.worker.rooms[session.id].kind == "video"


async def test_what_is_taken_back_while_the_agreement_is_carried_out_does_not_come(world: World) -> None:
    """The other page's answer was read before it was taken back, and is charged after."""
    session, kinds = await audio_call(world), world.control.kinds
    await world.worker.live(session, 30_000)
    await kinds.ask(world.ada, session.public_id, "video", Shown(199))
    set_kind = world.control.rooms.set_kind

    async def meanwhile(*which: Any) -> int:
        world.control.rooms.set_kind = set_kind  # type: ignore[method-assign]
        await kinds.keep(world.ada, session.public_id)
        return await set_kind(*which)

    world.control.rooms.set_kind = meanwhile  # type: ignore[method-assign]
    with pytest.raises(ApiError) as refused:
        await kinds.ask(world.client, session.public_id, "video", Shown(199), agrees=True)
    assert refused.value.code == "not_asked"
    kept = await world.get(session)
    terms = await world.control.billing.terms(session.tenant_id, session.id)
    assert terms is not None
    assert (kept.kind, kept.asked_kind, terms.rate.kind, terms.revision) == ("audio", None, "audio", 1)
    assert world.worker.rooms[session.id].kind == "audio"


async def test_what_is_taken_back_as_it_is_charged_has_been_agreed_to(world: World) -> None:
    session, kinds, billing = await audio_call(world), world.control.kinds, world.control.billing
    await kinds.ask(world.ada, session.public_id, "video", Shown(199))
    change_kind = billing.change_kind
    kept: list[Session] = []

    async def meanwhile(*which: Any, **how: Any) -> Any:
        opened = await change_kind(*which, **how)
        kept.append(await kinds.keep(world.ada, session.public_id))
        return opened

    billing.change_kind = meanwhile  # type: ignore[method-assign]
    agreed = await kinds.ask(world.client, session.public_id, "video", Shown(199), agrees=True)
    assert [one.kind for one in (*kept, agreed)] == ["video", "video"], "who takes back is told what is charged"
    assert world.worker.rooms[session.id].kind == "video"


async def test_agreement_that_comes_after_another_change_is_not_carried_out(world: World) -> None:
    session, kinds, billing = await audio_call(world), world.control.kinds, world.control.billing
    await kinds.ask(world.ada, session.public_id, "video", Shown(199))
    read = billing.terms

    async def late(*which: Any) -> Any:
        """Between reading and writing, the session has become a chat."""
        terms = await read(*which)
        billing.terms = read  # type: ignore[method-assign]
        await kinds.ask(world.ada, session.public_id, "chat", Shown(99))
        world.clock.advance_ms(10_000)
        return terms

    billing.terms = late  # type: ignore[method-assign]
    with pytest.raises(ApiError) as refused:
        await kinds.ask(world.client, session.public_id, "video", Shown(199))
    assert refused.value.code == "changed_meanwhile"
    assert (await world.get(session)).kind == world.worker.rooms[session.id].kind == "chat"


async def test_worker_that_does_not_answer_leaves_all_as_it_was(world: World) -> None:
    session, kinds = await world.call(), world.control.kinds
    world.worker.refuse[SetKind] = Refused(code="stale_epoch", message="moved")
    with pytest.raises(ApiError):
        await kinds.ask(world.client, session.public_id, "audio", Shown(149))
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


async def test_a_chat_that_stays_one_is_not_recorded(world: World) -> None:
    session = await world.control.director.request(world.client, world.wish(kind="chat"))
    session = await world.control.director.accept(world.ada, session.public_id, world.wish().consent)
    await world.worker.flow(session)
    await world.read()
    kinds = world.control.kinds
    await world.control.billing.set_rate(session.tenant_id, session.provider.user_id, "video", 100_000, "USD")
    await kinds.ask(world.client, session.public_id, "video", Shown(100_000))
    with pytest.raises(ApiError) as refused:
        await kinds.ask(world.ada, session.public_id, "video", Shown(100_000))
    assert refused.value.code == "insufficient_funds"
    kept = await world.get(session)
    assert (kept.kind, kept.recording, kept.recording_public_id) == ("chat", "off", None)
    assert (await world.events(world.client, "session.updated"))[-1]["recording"] == "off"
    assert any(isinstance(command, StopRecording) for command in world.worker.commands)


async def test_of_two_changes_of_a_chat_at_once_the_one_that_comes_is_recorded(world: World) -> None:
    session = await world.control.director.request(world.client, world.wish(kind="chat"))
    session = await world.control.director.accept(world.ada, session.public_id, world.wish().consent)
    await world.worker.flow(session)
    await world.read()
    kinds, billing = world.control.kinds, world.control.billing
    await kinds.ask(world.client, session.public_id, "audio", Shown(149))
    change = billing.change_kind

    async def overtaken(*what: Any, **how: Any) -> Any:
        """Another one to video has come first."""
        billing.change_kind = change  # type: ignore[method-assign]
        offers = (await billing.offers(session.tenant_id, [session.provider.user_id]))[session.provider.user_id]
        video = next(offer.rate for offer in offers if offer.kind == "video")
        assert isinstance(await change(session.tenant_id, session.id, 1, 0, video), Opened)
        return await change(*what, **how)

    billing.change_kind = overtaken  # type: ignore[method-assign]
    with pytest.raises(ApiError) as refused:
        await kinds.ask(world.ada, session.public_id, "audio", Shown(149))
    assert refused.value.code == "changed_meanwhile"
    kept = await world.get(session)
    assert (kept.recording, world.worker.rooms[session.id].recording) == ("recording", kept.recording_public_id)


async def test_chat_goes_on_with_media_and_is_recorded_from_then(world: World) -> None:
    session = await world.control.director.request(world.client, world.wish(kind="chat"))
    session = await world.control.director.accept(world.ada, session.public_id, world.wish().consent)
    assert session.recording == "off"
    await world.worker.flow(session)
    await world.read()
    kinds = world.control.kinds
    await kinds.ask(world.client, session.public_id, "audio", Shown(149))
    changed = await kinds.ask(world.ada, session.public_id, "audio", Shown(149))
    assert (changed.kind, changed.recording) == ("audio", "recording")
    assert world.worker.rooms[session.id].recording == changed.recording_public_id


NONSENSE: list[Any] = [
    *(None, [], "text", 7, {}),
    *({"kind": kind, "minor_per_minute": 149} for kind in ("broadcast", "", None, 1)),
    *({"kind": "audio", "minor_per_minute": rate} for rate in (-1, 10**8, 2**63, 1.5, "149", True, None, [])),
    *({"kind": "audio", "minor_per_minute": 149, "step_ms": ms} for ms in (0, -1, 3_600_001, 2**63, 0.5, "1", None)),
    {"kind": "audio", "minor_per_minute": 149, "unknown": 1},
]


async def test_nonsense_for_a_kind_is_refused_and_changes_nothing(
    world: World, client_of_world: TestClient[Any, Any]
) -> None:
    session = await world.call()

    async def post(who: str, path: str, body: Any, public_id: str = session.public_id) -> tuple[int, str]:
        token = world.control.tokens.issue(world.people[who], world.clock.wall_ms() // 1000)
        headers = {"Authorization": f"Bearer {token}"}
        async with client_of_world.post(f"/api/v1/sessions/{public_id}/{path}", headers=headers, json=body) as answer:
            return answer.status, (await answer.json())["error"]["code"]

    for body in NONSENSE:
        assert await post("client", "kind", body) == (400, "bad_request"), body
    wish = {"kind": "audio", "minor_per_minute": 149}
    assert await post("ben", "kind", wish) == (404, "not_found"), "a stranger"
    assert await post("ben", "kind/keep", {}) == (404, "not_found")
    assert await post("client", "kind", wish, "ses_00000000000000000009") == (404, "not_found")
    assert await post("client", "kind", wish | {"minor_per_minute": 0}) == (409, "rate_changed")
    kept = await world.get(session)
    terms = await world.control.billing.terms(session.tenant_id, session.id)
    assert terms is not None
    assert (kept.kind, kept.revision, terms.revision) == ("video", session.revision, 1)
