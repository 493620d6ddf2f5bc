"""Socket.IO between real sockets: acknowledgements, events, rates, and whatever a client should not send."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest
import socketio
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.identity import CLOCK_SKEW_S
from config.ids import TenantId, UserId
from config.rates import TokenBucket
from relay.messages import LayersWanted, MediaEvidence, ParticipantEvidence
from signaling.client_messages import CLIENT_MESSAGES
from signaling.server_events import QualitySide
from signaling.sockets import BURST, SOCKETS_PER_USER_MAX, _Socket
from tests.signaling.conftest import World
from tests.signaling.pages import CONSENT, Page

Open = Callable[[str], Page]


@pytest.fixture
async def open_page(client_of_world: TestClient[Any, Any], world: World) -> Open:
    def open_(name: str) -> Page:
        token = world.control.tokens.issue(world.people[name], int(time.time()))
        return Page(str(client_of_world.make_url("/")), token)

    return open_


def request(world: World, key: str = "socket-request-1") -> dict[str, Any]:
    return {"provider_id": world.ada.public_id, "kind": "video", "consent": CONSENT, "request_key": key}


async def test_a_call_over_sockets(open_page: Open, world: World) -> None:
    async with open_page("client") as mira, open_page("ada") as ada:
        session = await mira.ok("session.request", request(world))
        on = {"session_id": session["id"]}
        ringing = await ada.hears("session.ringing", id=session["id"])
        assert ringing["client"]["name"] == "Mira Lindqvist"
        accepted = await ada.ok("session.accept", {**on, "consent": CONSENT})
        assert accepted["room_epoch"] == 1
        assert (await mira.hears("session.updated", state="connecting"))["room_epoch"] == 1
        answer = await mira.ok("room.join", {**on, "sdp": "v=0", "sources": {"0": "microphone"}})
        assert answer["sdp"] == "v=0 answer"
        await mira.ok("room.mute", {**on, "muted": {"camera": True}})
        assert (await ada.hears("room.muted"))["muted"] == {"camera": True}
        sent = await ada.ok("chat.send", {**on, "client_message_id": "message-1", "text": "Hello 👋"})
        assert await mira.hears("chat.message") == sent
        stored = await world.control.sessions.by_public_id(world.client.tenant_id, session["id"])
        assert stored is not None
        await world.worker.flow(stored)
        for _ in range(2):
            await world.worker.live(stored, 5_000)
        await world.read()
        quality = await mira.hears("room.quality")
        assert {side["user_id"] for side in quality["sides"]} == {world.client.public_id, world.ada.public_id}
        common = world.worker.common(stored)
        wanted = LayersWanted(**common, user_id=world.ada.user_id, source="camera", rids=("f",))
        await world.worker.tell(wanted)
        await world.read()
        assert await ada.hears("room.layers") == {"session_id": session["id"], "source": "camera", "rids": ["f"]}
        assert "room.layers" not in {event for event, _ in mira.heard}
        without = ParticipantEvidence(user_id=world.ada.user_id, connected=True, videos_paused=("camera",))
        evidence = {"seq": 3, "live_ms": 6_000, "granted_live_ms": 60_000, "running": True}
        await world.worker.tell(MediaEvidence(**common, **evidence, at_once=True, participants=(without,)))
        await world.read()
        paused = await mira.hears("room.quality", sides=[_without_picture(world.ada.public_id)])
        assert paused["session_id"] == session["id"]
        await mira.ok("session.end", on)
        assert (await ada.hears("session.updated", state="ended"))["end_reason"] == "client_left"
        await ada.hears("session.updated", settled=True)
        assert (await mira.hears("wallet.changed"))["currency"] == "USD"
        numbered = [payload["seq"] for _, payload in mira.heard if payload["seq"] is not None]
        assert numbered == list(range(numbered[0], numbered[0] + len(numbered)))


def _without_picture(user_id: str) -> dict[str, Any]:
    """A side as ``room.quality`` tells of it, whose connection does not take the other's picture."""
    side = QualitySide(
        user_id=user_id, connected=True, score=5, rtt_ms=None, loss_up=0, loss_down=0, jitter_ms=0,
        bitrate_up_bps=0, bitrate_down_bps=0, videos_paused=("camera",),
    )  # fmt: skip
    return side.model_dump(mode="json")


async def test_all_devices_of_a_user_hear_and_missed_events_are_fetched(open_page: Open, world: World) -> None:
    async with open_page("ada") as phone:
        newest = (await phone.ok("presence.heartbeat"))["newest"]
        async with open_page("ada") as desk, open_page("client") as mira:
            session = await mira.ok("session.request", request(world))
            await phone.hears("session.ringing")
            await desk.hears("session.ringing")
            await mira.ok("session.cancel", {"session_id": session["id"]})
            await desk.hears("session.updated", state="cancelled")
        missed = await phone.ok("events.since", {"seq": newest})
        assert [event["event"] for event in missed["events"]] == ["session.ringing", *["session.updated"] * 2]
        assert missed["complete"] is True
        assert (await phone.ok("events.since", {"seq": missed["newest"]})) == {
            "events": [],
            "complete": True,
            "newest": missed["newest"],
        }
        assert (await phone.ok("events.since", {"seq": 1}))["complete"] is False


async def test_presence_follows_sockets_calls_and_the_switch(open_page: Open, world: World) -> None:
    world.clock.advance_ms(31_000)
    await world.control.presence.sweep()
    async with open_page("client") as mira:
        async with open_page("ben"):
            await mira.hears("presence.changed", user_id=world.ben.public_id, presence="online")
            session = await mira.ok("session.request", {**request(world), "provider_id": world.ben.public_id})
            await mira.hears("presence.changed", user_id=world.ben.public_id, presence="busy")
            mira.heard.clear()
            await mira.ok("session.cancel", {"session_id": session["id"]})
            await mira.hears("presence.changed", user_id=world.ben.public_id, presence="online")
        mira.heard.clear()
        for _ in range(100):
            if not world.control.sockets._sockets.keys() - {mira.sio.get_sid()}:
                break
            await asyncio.sleep(0.01)
        await world.control.presence.sweep()
        assert mira.heard == []  # perhaps the page is only loaded again
        world.clock.advance_ms(3_001)
        await world.control.presence.sweep()
        await mira.hears("presence.changed", user_id=world.ben.public_id, presence="offline")


async def test_a_socket_without_a_valid_token_is_refused(client_of_world: TestClient[Any, Any], world: World) -> None:
    for token in [None, "", "nonsense", 7, {"token": "x"}, "x" * 10_000]:
        page = Page(str(client_of_world.make_url("/")), token)
        with pytest.raises(socketio.exceptions.ConnectionError):
            async with page:
                pass
        assert page.refusal["data"]["code"] == "invalid_token"
        assert world.control.sockets._sockets == {}
        await page.__aexit__()


async def test_heartbeats_of_who_is_here_are_looked_at_together_and_mend_what_was_not_told(
    open_page: Open, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    presence = world.control.presence
    looks: list[list[UserId]] = []
    refresh = presence.refresh

    async def counted(tenant: TenantId, ids: list[UserId]) -> None:
        looks.append(sorted(ids))
        await refresh(tenant, ids)

    async with open_page("client") as mira, open_page("ada") as ada, open_page("ben") as ben:
        monkeypatch.setattr(presence, "refresh", counted)
        await world.control.presence._redis.hset(f"tp:shown:{world.ada.tenant_id}", str(world.ada.user_id), "away")
        for page in (mira, ada, ben, ada):
            await page.ok("presence.heartbeat")
        assert looks == []
        await presence.sweep()
        assert looks == [sorted([world.ada.user_id, world.ben.user_id])]
        await mira.hears("presence.changed", user_id=world.ada.public_id, presence="online")
        await presence.sweep()
        assert len(looks) == 1


async def test_who_is_signed_in_no_more_is_disconnected_at_the_next_heartbeat(open_page: Open, world: World) -> None:
    sockets = world.control.sockets
    async with open_page("ada") as ada, open_page("client") as mira:
        (socket,) = (one for one in sockets._sockets.values() if one.who == world.ada)
        assert time.time() + 60 < socket.signed_in_until_s
        await ada.ok("presence.heartbeat")
        socket.signed_in_until_s = int(time.time()) - 2 * CLOCK_SKEW_S
        with contextlib.suppress(socketio.exceptions.SocketIOError):  # it may be gone before it is answered
            assert await ada.refused("presence.heartbeat") == "invalid_token"
        assert [one.who for one in sockets._sockets.values()] == [world.client]
        await mira.ok("presence.heartbeat")


async def test_a_connection_that_does_not_sign_in_is_closed(
    client_of_world: TestClient[Any, Any], world: World, open_page: Open
) -> None:
    async with open_page("ada") as ada:
        path = "/socket.io/?EIO=4&transport=websocket"
        async with client_of_world.ws_connect(path) as stranger:
            assert (await stranger.receive_str()).startswith("0{")
            await world.control.sockets.drop_strangers()
            world.clock.advance_ms(10_001)
            await world.control.sockets.drop_strangers()
            assert await stranger.receive_str(timeout=5) == "1"  # Engine.IO's goodbye
            assert len(world.control.sio.eio.sockets) == 1
        await ada.ok("presence.heartbeat")


async def test_one_user_cannot_open_sockets_without_end(open_page: Open) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(SOCKETS_PER_USER_MAX):
            await stack.enter_async_context(open_page("ada"))
        extra = open_page("ada")
        with pytest.raises(socketio.exceptions.ConnectionError):
            async with extra:
                pass
        assert extra.refusal["data"]["code"] == "too_many_sockets"
        await extra.__aexit__()


async def test_unknown_malformed_and_forbidden_messages_are_refused(open_page: Open, world: World) -> None:
    async with open_page("client") as mira, open_page("ben") as ben:
        nowhere = {"session_id": "ses_00000000000000000000"}
        assert await mira.refused("no.such.message", {}) == "unknown_message"
        for reserved in ("connect", "disconnect", "*", "__disconnect_final"):
            assert await mira.refused(reserved, {}) == "unknown_message"
        assert await mira.refused("session.end", "text") == "bad_request"
        assert await mira.refused("session.end", []) == "bad_request"
        assert await mira.refused("session.end", ({}, {})) == "bad_request"
        assert await mira.refused("session.end", {}) == "bad_request"
        assert await mira.refused("session.end", {"session_id": "' or 1=1 --"}) == "bad_request"
        assert await mira.refused("session.end", {**nowhere, "extra": 1}) == "bad_request"
        assert await mira.refused("session.end", nowhere) == "not_found"
        assert await mira.refused("events.since", {"seq": -1}) == "bad_request"
        assert await mira.refused("events.since", {"seq": 2**60}) == "bad_request"
        assert await ben.refused("session.request", request(world)) == "forbidden"
        session = await mira.ok("session.request", request(world))
        on = {"session_id": session["id"]}
        assert await ben.refused("session.accept", {**on, "consent": CONSENT}) == "not_found"
        assert await mira.refused("session.decline", on) == "forbidden"
        assert await mira.refused("room.join", {**on, "sdp": "v=0", "sources": {}}) == "room_not_open"
        too_long = {**on, "sdp": "v" * 70_000, "sources": {}}
        assert await mira.refused("room.join", too_long) == "bad_request"
        assert await mira.refused("chat.send", {**on, "client_message_id": "12345678", "text": "x"}) == "chat_closed"
        nul = {**on, "client_message_id": "12345678", "text": "a\0b"}
        assert await mira.refused("chat.send", nul) == "bad_request"


async def test_an_oversize_message_ends_only_its_own_socket(open_page: Open) -> None:
    async with open_page("ada") as ada:
        async with open_page("client") as mira:
            await mira.sio.emit("session.end", {"session_id": "x" * 400_000})
            for _ in range(200):
                if not mira.sio.connected:
                    break
                await asyncio.sleep(0.01)
            assert not mira.sio.connected
        assert "newest" in await ada.ok("presence.heartbeat")


async def test_too_many_messages_are_refused_not_worked_off(open_page: Open, world: World) -> None:
    async with open_page("client") as mira:
        answers = await asyncio.gather(*(mira.call("presence.heartbeat") for _ in range(BURST + 10)))
        codes = [answer["error"]["code"] for answer in answers if not answer["ok"]]
        assert codes
        assert set(codes) == {"too_many_messages"}
        world.clock.advance_ms(1_000)
        await mira.ok("presence.heartbeat")


async def test_one_pages_flood_costs_others_no_message_and_no_event(open_page: Open, world: World) -> None:
    session = await world.connect()
    async with open_page("ben") as rude, open_page("ada") as ada, open_page("client") as mira:

        async def flood() -> None:
            for n in range(400):
                message, body = (("session.end", {"session_id": session.public_id}), ("room.join", [n]), ("?" * n, n))[
                    n % 3
                ]
                await rude.sio.emit(message, body)
                await asyncio.sleep(0)

        flooding = asyncio.create_task(flood())
        for n in range(20):
            said = {"session_id": session.public_id, "client_message_id": f"message-{n}", "text": f"message {n}"}
            await mira.ok("chat.send", said)
        await flooding
        told = [await ada.hears("chat.message", text=f"message {n}") for n in range(20)]
        assert len(told) == 20
    assert (await world.get(session)).state == session.state


async def test_a_fault_is_told_without_a_traceback(
    open_page: Open, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(type(world.control.events), "newest", broken)
    async with open_page("client") as mira:
        answer = await mira.call("presence.heartbeat")
        assert answer["error"]["code"] == "internal"
        assert "secret" not in str(answer)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.lists(JSON, max_size=2)


def messages(data: st.DataObject, count: int) -> list[tuple[str, list[Any]]]:
    """Messages with arguments that fit their shape more or less."""
    made = []
    for _ in range(count):
        name = data.draw(st.sampled_from(sorted(CLIENT_MESSAGES)))
        shaped = st.fixed_dictionaries({field: JSON for field in CLIENT_MESSAGES[name].model_fields})
        made.append((name, data.draw(ARGUMENTS | shaped.map(lambda body: [body]))))
    return made


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_whatever_a_client_sends_is_answered(world: World, data: st.DataObject) -> None:
    sockets = world.control.sockets
    sockets._sockets["fuzz"] = _Socket(world.client, 0, TokenBucket(1e9, 10**6, 0))
    try:
        for name, arguments in messages(data, 20):
            answer = await sockets._message(name, "fuzz", *arguments)
            assert answer["ok"] or answer["error"]["code"] != "internal"
    finally:
        del sockets._sockets["fuzz"]


async def test_nobody_who_is_gone_is_forgotten_however_many_went_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    presence = world.control.presence
    tenant = world.ada.tenant_id
    looks: list[UserId] = []

    async def counted(_: TenantId, ids: list[UserId]) -> None:
        looks.extend(ids)

    monkeypatch.setattr(presence, "refresh", counted)
    monkeypatch.setattr("signaling.presence.GONE_AT_ONCE", 4)
    users = f"tp:here:{tenant}"
    await presence._redis.sadd("tp:tenants", str(tenant))
    await presence._redis.zadd(users, {str(900 + n): 1_000 + n // 2 for n in range(11)})
    for _ in range(8):
        await presence.sweep()
    assert set(looks) == set(range(900, 911))
    assert await presence._redis.zrangebyscore(users, 0, 2_000) == []
