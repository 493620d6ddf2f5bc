"""Two calls on one worker: whatever a participant of the one does, the other goes on as if nothing was."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from bench.media_client import MediaClient
from relay.bus import ControlBus
from relay.messages import DeclareState, MediaStarted, Negotiate, PageTrack, Refused, ReportStats
from relay.port import PortDrop
from relay.rtcp import pack_full_intra_request, pack_goodbye, pack_nack, pack_picture_loss, pack_receiver_estimate
from relay.rtp import make_packet
from tests.relay.call import CLIENT, Call, running_worker, two_pages, until
from tests.relay.offers import SIMULCAST

ROUNDS, BURST = 60, 20
"""A burst every few milliseconds: what a page that floods sends, and the worker's sockets still take in."""


@pytest.fixture
async def calls(redis: Redis, redis_url: str, tmp_path: Path) -> AsyncIterator[tuple[Call, Call]]:
    async with running_worker(redis, redis_url, tmp_path) as worker, ControlBus(redis) as bus:
        yield Call(worker, bus, redis, session_id=7), Call(worker, bus, redis, session_id=8)


ODD = PageTrack(source="camera", direction="down", frames_per_second=-1e300, frozen_ms=1e300, playout_ms=-1.0)


class Counted:
    """What goes from one page of a call to the other, packet by packet."""

    def __init__(self, sender: MediaClient, receiver: MediaClient) -> None:
        self._sender, self._receiver = sender, receiver
        self._before = (0, 0)

    def _now(self) -> tuple[int, int]:
        return self._sender.sent["microphone"].packets, self._receiver.received["microphone"].packets

    async def begin(self) -> None:
        """Count from here: what was on its way has arrived."""
        self._sender.pause("microphone")
        await asyncio.sleep(0.2)
        self._before = self._now()
        self._sender.pause("microphone", False)

    async def all_arrive(self) -> int:
        """Wait until every packet sent since has arrived; how many that were."""
        self._sender.pause("microphone")
        sent, received = self._before
        await until(lambda: self._now()[1] - received >= self._now()[0] - sent)
        assert self._now()[1] - received == self._now()[0] - sent
        return self._now()[0] - sent


def garbage(luck: random.Random) -> bytes:
    """A datagram of any of the kinds that a socket takes in, with anything in it."""
    first = luck.choice((0, 1, 20, 22, 63, 64, 127, 128, 144, 191, 192, 255))
    return bytes((first,)) + luck.randbytes(luck.randrange(1_300))


def stray_rtp(luck: random.Random) -> bytes:
    """Under the page's own keys: SSRCs without end, extensions that lie about their length."""
    packet = make_packet(
        payload_type=luck.randrange(128),
        sequence=luck.randrange(65_536),
        timestamp=luck.randrange(2**32),
        ssrc=luck.randrange(2**32),
        payload=luck.randbytes(luck.randrange(300)),
        extensions=[(luck.randrange(1, 15), luck.randbytes(luck.randrange(1, 16)))],
    )
    return packet if luck.random() < 0.5 else packet[:14] + struct.pack("!H", luck.randrange(65_536)) + packet[16:]


def rude_rtcp(luck: random.Random) -> bytes:
    """Requests without end, for everybody's streams and nobody's."""
    ssrc = luck.randrange(2**32)
    rude = luck.choice(
        (
            pack_picture_loss(1, ssrc),
            pack_full_intra_request(1, ssrc, luck.randrange(256)),
            pack_nack(1, ssrc, [luck.randrange(65_536) for _ in range(100)]),
            pack_receiver_estimate(1, luck.randrange(1, 10**6), [ssrc] * 20),
            pack_goodbye([ssrc] * 31),
            bytes((0x8F, 205)) + struct.pack("!H", 60) + luck.randbytes(240),
        )
    )
    return rude * luck.randrange(1, 4) + luck.randbytes(luck.choice((0, 4, 5)))


def hostile(page: MediaClient, luck: random.Random) -> tuple[Callable[[], None], ...]:
    return (
        lambda: page.send_raw(garbage(luck)),
        lambda: page._send_rtp(stray_rtp(luck)),
        lambda: page._send_rtcp(rude_rtcp(luck)),
        page._check,
    )


async def test_a_hostile_participant_costs_the_other_call_no_packet(calls: tuple[Call, Call]) -> None:
    bad, good = calls
    await asyncio.gather(bad.open(), good.open())
    async with two_pages(bad) as (rude, _), two_pages(good) as (client, provider):
        await asyncio.gather(bad.wait_for(MediaStarted), good.wait_for(MediaStarted))
        ways = [Counted(client, provider), Counted(provider, client)]
        await asyncio.gather(*(way.begin() for way in ways))
        luck = random.Random(7)
        attacks = hostile(rude, luck)
        for _ in range(ROUNDS):
            for _ in range(BURST):
                luck.choice(attacks)()
            await asyncio.sleep(0.02)
        counts = await asyncio.gather(*(way.all_arrive() for way in ways))
        assert min(counts) > 20
        live_ms = await good.live_ms()
        await until_live(good, live_ms)
    drops = good.worker.port.drops
    assert not drops[PortDrop.FAULT]
    assert drops[PortDrop.STUN_MALFORMED] + drops[PortDrop.STUN_TOO_FAST] > 0, "it was tried"


async def until_live(call: Call, live_ms: int) -> None:
    """The call's clock runs on."""
    async with asyncio.timeout(5):
        while await call.live_ms() <= live_ms:  # noqa: ASYNC110 - what is waited for happens on the wire
            await asyncio.sleep(0.1)


async def test_hostile_commands_of_one_page_leave_the_other_call_alone(calls: tuple[Call, Call]) -> None:
    """Offers that lie, reports that cannot be, declarations about everything: as control passes them on."""
    bad, good = calls
    await asyncio.gather(bad.open(), good.open())
    async with two_pages(bad), two_pages(good) as (client, provider):
        await asyncio.gather(bad.wait_for(MediaStarted), good.wait_for(MediaStarted))
        ways = [Counted(client, provider), Counted(provider, client)]
        await asyncio.gather(*(way.begin() for way in ways))
        luck, refusals = random.Random(7), 0
        for _ in range(30):
            lines = SIMULCAST.splitlines()
            for _ in range(4):
                at = luck.randrange(len(lines))
                lines[at] = lines[at][: luck.randrange(len(lines[at]) + 1)] + luck.choice(
                    ("", "99999999999", ";;=", "é")
                )
            sdp, mids = "\r\n".join(lines) + "\r\n", {"0": "microphone", "1": "camera", "2": "screen"}
            reply = await bad.do(Negotiate, user_id=CLIENT, sdp=sdp, sources=mids, fresh=True)
            refusals += isinstance(reply, Refused)
            await bad.do(DeclareState, user_id=CLIENT, muted={"screen": luck.random() < 0.5})
            await bad.do(ReportStats, user_id=CLIENT, rtt_ms=luck.choice((-1.0, 1e300)), tracks=(ODD,) * 50)
        assert refusals, "some of it cannot be taken"
        assert min(await asyncio.gather(*(way.all_arrive() for way in ways))) > 0
        await until_live(good, await good.live_ms())
