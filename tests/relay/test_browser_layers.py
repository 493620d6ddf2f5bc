"""Simulcast of a real Chromium through the worker: layers are learnt, taken, left out, paused and resumed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.async_api import async_playwright
from redis.asyncio import Redis

from bench.browser import chromium
from relay.bus import ControlBus
from relay.layers import Target
from relay.messages import LayersWanted, MediaStarted
from relay.room import Room
from relay.room_bandwidth import RoomBandwidth
from tests.relay.call import CLIENT, PROVIDER, Call, running_worker, until
from tests.relay.test_browsers import _page as open_page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

JOIN = """async sends => {
  const own = await navigator.mediaDevices.getUserMedia({audio: true, video: {width: 640, height: 480}});
  const pc = window.pc = new RTCPeerConnection({bundlePolicy: 'max-bundle'});
  const other = new MediaStream(), video = document.getElementById('v');
  window.sizes = [];
  const look = () => {
    if (window.sizes.at(-1) !== video.videoWidth) window.sizes.push(video.videoWidth);
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  pc.ontrack = e => { other.addTrack(e.track); video.srcObject = other; };
  const sendEncodings = [{rid: 'h', scaleResolutionDownBy: 2, scalabilityMode: 'L1T3'},
                         {rid: 'f', scalabilityMode: 'L1T3'}];
  const two = [pc.addTransceiver(own.getAudioTracks()[0], {direction: 'sendrecv', streams: [own]}),
               sends ? pc.addTransceiver(own.getVideoTracks()[0], {streams: [own], sendEncodings})
                     : pc.addTransceiver('video')];
  await pc.setLocalDescription();
  window.sender = two[1].sender;
  window.sources = Object.fromEntries(two.map((t, i) => [t.mid, ['microphone', 'camera'][i]]));
  const sdp = await window.negotiate(pc.localDescription.sdp, sources, true);
  await pc.setRemoteDescription({type: 'answer', sdp});
}"""
SEND = """async rids => {
  const parameters = sender.getParameters();
  for (const encoding of parameters.encodings) encoding.active = rids.includes(encoding.rid);
  await sender.setParameters(parameters);
}"""
RECEIVED = """async () => [...(await pc.getStats()).values()].find(s => s.type === 'inbound-rtp' && s.mid === '1')"""


class Simulcast:
    """The client's camera in two layers, as the provider gets it."""

    def __init__(self, call: Call, publisher: Any, subscriber: Any) -> None:
        self.call, self.publisher, self.subscriber = call, publisher, subscriber
        (self.room,) = list[Room](call.worker.rooms)

    def target(self, spatial: int, temporal: int = 3) -> None:
        provider = self.room.participants[PROVIDER]
        self.room._wiring.set_target(
            provider, provider.subscribed["camera"], Target(spatial, temporal), time.monotonic_ns()
        )

    def layers(self) -> list[bool]:
        track = self.room.participants[CLIENT].published["camera"]
        return [view.alive for view in track.layers(self.room._plane, time.monotonic_ns())]

    async def shows(self, width: int) -> None:
        await self.subscriber.wait_for_function("width => sizes.at(-1) === width", arg=width, timeout=15_000)

    async def obey(self, rids: tuple[str, ...]) -> None:
        """Do as the page's SDK does when it hears what is wanted."""
        await self.call.wait_for(LayersWanted, lambda event: event.rids == rids, timeout_s=15)
        self.call.events.clear()
        await self.publisher.evaluate(SEND, list(rids))

    async def received(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.subscriber.evaluate(RECEIVED)
        return found


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_a_browser_takes_every_switch_as_one_stream(
    redis: Redis,
    redis_url: str,
    tmp_path: Any,
    tool: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
    codec: str,
) -> None:
    tool("chromium", "chromium")
    monkeypatch.setattr(RoomBandwidth, "_follow", lambda *_: None)
    async with (
        running_worker(redis, redis_url, tmp_path) as worker,
        ControlBus(redis) as bus,
        async_playwright() as driver,
        chromium(playwright=driver) as context,
    ):
        call = Call(worker, bus, redis)
        await call.open(codecs=(codec,))
        pages = [await open_page(context, call, user_id) for user_id in (CLIENT, PROVIDER)]
        await asyncio.gather(pages[0].evaluate(JOIN, True), pages[1].evaluate(JOIN, False))
        await call.wait_for(MediaStarted)
        show = Simulcast(call, *pages)
        await show.shows(640)
        assert show.layers() == [True, True]
        show.target(0)
        await show.shows(320)
        show.target(1)
        await show.shows(640)

        await show.obey(("f",))
        await until(lambda: show.layers() == [False, True], 15)
        show.target(0)
        await show.obey(("h", "f"))
        await show.shows(320)

        if codec == "VP8":
            show.target(0, temporal=0)
            await asyncio.sleep(1)
            few = (await show.received())["framesDecoded"]
            show.target(0)
            await asyncio.sleep(1)
            assert (await show.received())["framesDecoded"] > few
        received = await show.received()
        assert received["packetsLost"] == 0
        assert received["pliCount"] <= 1
