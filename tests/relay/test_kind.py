"""A session's kind changes in the middle of the call: what may flow, and what the clock needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from relay.bus import ControlBus
from relay.evidence import LiveClock, Signs
from relay.messages import KindSet, MediaEvidence, MediaStarted, NegotiationNeeded, SessionKind, SetGrant, SetKind
from tests.relay.call import CLIENT, PROVIDER, Call, running_worker, two_pages, until

SECOND = 1_000_000_000


@pytest.fixture
async def call(redis: Redis, redis_url: str, tmp_path: Path) -> AsyncIterator[Call]:
    async with running_worker(redis, redis_url, tmp_path) as worker, ControlBus(redis) as bus:
        yield Call(worker, bus, redis)


async def set_kind(call: Call, kind: SessionKind | None, revision: int = 0) -> KindSet:
    reply = await call.do(SetKind, kind=kind, revision=revision)
    assert isinstance(reply, KindSet)
    return reply


async def test_video_flows_after_the_change_and_not_before(call: Call) -> None:
    await call.open(kind="audio")
    async with two_pages(call) as (client, provider):
        await until(lambda: client.received["microphone"].packets > 5)
        assert set(client.sent) == {"microphone"}
        assert (await set_kind(call, None)).kind == "audio"
        assert (await set_kind(call, "video", 2)).kind == "video"
        await client.renegotiate()
        await provider.renegotiate()
        await until(lambda: client.received["camera"].frames_decodable > 5)
        await until(lambda: provider.received["camera"].frames_decodable > 5)


async def test_video_ends_at_once_whatever_pages_send_and_comes_back_on_the_same_transport(call: Call) -> None:
    await call.open()
    async with two_pages(call) as (client, provider):
        await until(lambda: client.received["camera"].frames_decodable > 5)
        before = await set_kind(call, "audio", 2)
        frames = client.received["camera"].packets
        sound = client.received["microphone"].packets
        await until(lambda: client.received["microphone"].packets > sound + 10)
        assert client.received["camera"].packets == frames, "no page has been told yet, and nothing is forwarded"
        for page in (client, provider):
            page.off.add("camera")
        await client.renegotiate()  # as for a restart; the other one says nothing until the camera is wanted again
        for page in (client, provider):
            page.off.clear()
        await client.renegotiate()  # too early: nothing is taken yet
        again = await set_kind(call, "video", 3)
        assert again.live_ms >= before.live_ms > 0, "the clock runs on"
        for who in (CLIENT, PROVIDER):
            await call.wait_for(NegotiationNeeded, lambda event, who=who: event.user_id == who)  # type: ignore[misc]
        await client.renegotiate()
        await provider.renegotiate()
        await until(lambda: client.received["camera"].frames_decodable > 5)
        await until(lambda: provider.received["camera"].frames_decodable > 5)


async def test_grant_says_what_it_pays_for(call: Call) -> None:
    await call.open()
    await call.do(SetGrant, granted_live_ms=90_000, kind="audio", revision=2)
    assert (await set_kind(call, None)).kind == "audio"
    await call.do(SetGrant, granted_live_ms=95_000)
    assert (await set_kind(call, None)).kind == "audio"


async def test_terms_that_come_late_change_nothing(call: Call) -> None:
    await call.open(kind="audio")
    assert (await set_kind(call, "video", 3)).kind == "video"
    await call.do(SetGrant, granted_live_ms=95_000, kind="audio", revision=2)
    assert (await set_kind(call, "audio", 3)).kind == "video"


async def test_chat_starts_and_is_billed_without_media(call: Call) -> None:
    await call.open(kind="chat")
    async with call.page(CLIENT, ["microphone"]) as client, call.page(PROVIDER, ["microphone"]) as provider:
        await client.connect()
        await provider.connect()
        assert not client.sent
        await call.wait_for(MediaStarted)
        first = (await set_kind(call, None)).live_ms
        await until_live(call, first + 300)


async def until_live(call: Call, live_ms: int) -> None:
    while (await set_kind(call, None)).live_ms < live_ms:
        pass


def test_chat_pauses_when_one_side_is_gone_and_goes_on_when_it_is_back() -> None:
    clock = LiveClock(60_000, by_presence=True)
    clock.declare_provider_muted(True, SECOND)
    for second in range(10, 13):
        clock.observe(Signs(second * SECOND), Signs(second * SECOND), second * SECOND)
    assert clock.live_ms == 2_000
    for second in range(13, 20):
        clock.observe(Signs(12 * SECOND), Signs(second * SECOND), second * SECOND)
    assert not clock.gate_open
    assert clock.live_ms == 2_000, "who stays away has paid nothing since"
    clock.observe(Signs(20 * SECOND), Signs(20 * SECOND), 20 * SECOND)
    clock.observe(Signs(21 * SECOND), Signs(21 * SECOND), 21 * SECOND)
    assert clock.running
    assert clock.live_ms == 8_000, "the stretch that was open is paid for, the pause is not"


def test_provider_who_declared_nothing_has_time_to_speak_after_a_chat() -> None:
    clock = LiveClock(60_000, by_presence=True)
    clock.declare_provider_muted(True, SECOND)
    for second in range(10, 31):
        clock.observe(Signs(second * SECOND), Signs(second * SECOND), second * SECOND)
    assert clock.live_ms == 20_000
    clock.by_presence = False
    clock.declare_provider_muted(False, 30 * SECOND)
    clock.observe(Signs(33 * SECOND), Signs(33 * SECOND), 33 * SECOND)
    assert clock.running
    clock.observe(Signs(36 * SECOND), Signs(36 * SECOND), 36 * SECOND)
    assert not clock.running, "a provider who neither speaks nor says that they are muted stops it"


async def test_evidence_says_which_terms_the_room_goes_by(call: Call) -> None:
    await call.open(kind="audio", revision=4)
    await call.wait_for(MediaEvidence, lambda event: event.terms_revision == 4)  # type: ignore[misc]
    await set_kind(call, "video", 3)
    assert (await set_kind(call, None)).kind == "audio", "terms that are older than those it was opened at"
    await set_kind(call, "video", 5)
    await call.wait_for(MediaEvidence, lambda event: event.terms_revision == 5)  # type: ignore[misc]
