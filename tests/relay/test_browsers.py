"""Two real Chromium pages through the worker: what the media client cannot show, browsers do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright
from redis.asyncio import Redis

from bench.browser import chromium
from relay.bus import ControlBus
from relay.messages import GrantUsedUp, MediaStarted, Negotiate, Negotiated
from tests.relay.call import CLIENT, PROVIDER, Call, running_worker

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

ORIGIN = "http://localhost/"
PAGE = "<!doctype html><video id=v autoplay playsinline></video>"
JOIN = """async () => {
  const own = await navigator.mediaDevices.getUserMedia({audio: true, video: {width: 640, height: 480}});
  const pc = window.pc = new RTCPeerConnection({bundlePolicy: 'max-bundle'});
  const other = new MediaStream(), video = document.getElementById('v');
  window.firstFrame = new Promise(done => video.requestVideoFrameCallback(() => done(performance.now())));
  pc.ontrack = e => { other.addTrack(e.track); video.srcObject = other; };
  const init = {direction: 'sendrecv', streams: [own]};
  const three = [pc.addTransceiver(own.getAudioTracks()[0], init), pc.addTransceiver(own.getVideoTracks()[0], init),
                 pc.addTransceiver('video', {direction: 'sendrecv'})];
  await pc.setLocalDescription();
  window.sources = Object.fromEntries(three.map((t, i) => [t.mid, ['microphone', 'camera', 'screen'][i]]));
  window.offered = performance.now();
  const sdp = await window.negotiate(pc.localDescription.sdp, sources, true);
  await pc.setRemoteDescription({type: 'answer', sdp});
}"""
AGAIN = """async options => {
  await pc.setLocalDescription(await pc.createOffer(options));
  await pc.setRemoteDescription({type: 'answer', sdp: await window.negotiate(pc.localDescription.sdp, sources, false)});
}"""
FIRST_FRAME = "async () => (await firstFrame) - offered"
RECEIVED = """async () => {
  const found = {};
  (await pc.getStats()).forEach(s => { if (s.type === 'inbound-rtp') found[s.mid] = s; });
  return found;
}"""
CODEC = """async () => {
  const stats = await pc.getStats();
  const camera = [...stats.values()].find(s => s.type === 'inbound-rtp' && s.mid === '1');
  return stats.get(camera.codecId).mimeType;
}"""


@pytest.fixture
async def call(redis: Redis, redis_url: str, tmp_path: Path) -> AsyncIterator[Call]:
    async with running_worker(redis, redis_url, tmp_path) as worker, ControlBus(redis) as bus:
        yield Call(worker, bus, redis)


@contextlib.asynccontextmanager
async def two_browsers(call: Call) -> AsyncIterator[tuple[Page, Page]]:
    """Two pages that have joined as client and provider."""
    async with async_playwright() as driver, chromium(playwright=driver) as context:
        pages = [await _page(context, call, user_id) for user_id in (CLIENT, PROVIDER)]
        await asyncio.gather(*(page.evaluate(JOIN) for page in pages))
        yield pages[0], pages[1]


async def _page(context: Any, call: Call, user_id: int) -> Page:
    async def negotiate(sdp: str, sources: Any, fresh: bool) -> str:
        reply = await call.do(Negotiate, user_id=user_id, sdp=sdp, sources=sources, fresh=fresh)
        assert isinstance(reply, Negotiated), reply
        return reply.sdp

    page: Page = await context.new_page()
    await page.route(ORIGIN, lambda route: route.fulfill(body=PAGE, content_type="text/html"))
    await page.expose_function("negotiate", negotiate)
    await page.goto(ORIGIN)
    return page


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_browsers_see_and_hear_each_other(call: Call, tool: Callable[[str, str], str], codec: str) -> None:
    tool("chromium", "chromium")
    await call.open(codecs=(codec,))
    async with two_browsers(call) as pages:
        await call.wait_for(MediaStarted)
        for page in pages:
            await page.evaluate(FIRST_FRAME)
        await asyncio.sleep(2)
        assert [await page.evaluate(CODEC) for page in pages] == [f"video/{codec}"] * 2
        await pages[0].evaluate(AGAIN, {"iceRestart": True})
        await pages[1].evaluate(AGAIN, {})
        before = [await page.evaluate(RECEIVED) for page in pages]
        await asyncio.sleep(1.5)
        after = [await page.evaluate(RECEIVED) for page in pages]
    for early, late in zip(before, after, strict=True):
        assert early["1"]["framesDecoded"] > 0
        assert late["1"]["framesDecoded"] > early["1"]["framesDecoded"], "media runs on after both"
        assert late["1"]["frameWidth"] > 0
        assert late["0"]["packetsReceived"] > early["0"]["packetsReceived"]
        assert late["0"]["totalAudioEnergy"] > early["0"]["totalAudioEnergy"]
        assert late["1"]["packetsLost"] == 0


async def test_browsers_get_nothing_beyond_the_grant_and_go_on_after_more(
    call: Call, tool: Callable[[str, str], str]
) -> None:
    tool("chromium", "chromium")
    await call.open(granted_ms=2000)
    async with two_browsers(call) as pages:
        await call.wait_for(GrantUsedUp)
        await asyncio.sleep(0.5)
        stopped = await pages[0].evaluate(RECEIVED)
        await asyncio.sleep(1)
        assert (await pages[0].evaluate(RECEIVED))["0"]["packetsReceived"] == stopped["0"]["packetsReceived"]
        await call.grant(60_000)
        await asyncio.sleep(1.5)
        later = await pages[0].evaluate(RECEIVED)
        while later["1"]["framesDecoded"] <= stopped["1"]["framesDecoded"]:  # the test's own timeout ends it
            await asyncio.sleep(0.2)
            later = await pages[0].evaluate(RECEIVED)
        assert later["0"]["packetsReceived"] > stopped["0"]["packetsReceived"]
        assert (await call.close()).live_ms > 2000
