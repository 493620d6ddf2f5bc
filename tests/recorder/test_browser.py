"""A real browser plays what was recorded: knows its length, shows pictures, and jumps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import async_playwright

from config.clock import VirtualClock
from config.http import errors, mount
from config.ids import DEFAULT_TENANT
from recorder import audit
from recorder.api import endpoints
from recorder.catalogue import Details
from recorder.job_work import Tools, do
from tests.recorder.conftest import Desk
from tests.recorder.test_job import recorded

_ARGS = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-background-networking"]
_PLAY = """async (url) => {
  const video = document.createElement("video");
  video.muted = true;
  document.body.append(video);
  const until = (event) => new Promise((good, bad) => {
    video.addEventListener(event, good, {once: true});
    video.addEventListener("error", () => bad(new Error(video.error.message)), {once: true});
  });
  let waiting = until("loadedmetadata");
  video.src = url;
  await waiting;
  const duration = video.duration;
  await video.play();
  while (video.currentTime < 0.5) await new Promise((r) => setTimeout(r, 20));
  const jumps = [];
  for (const to of [4.2, 1.0, 5.5]) {
    waiting = until("seeked");
    video.currentTime = to;
    await waiting;
    jumps.push(video.currentTime);
  }
  const before = video.getVideoPlaybackQuality().totalVideoFrames;
  waiting = until("ended");
  await video.play();
  await waiting;
  return {duration, width: video.videoWidth, jumps, at: video.currentTime, before,
          frames: video.getVideoPlaybackQuality().totalVideoFrames, audio: video.webkitAudioDecodedByteCount};
}"""


@pytest.mark.browser
@pytest.mark.parametrize(
    ("codec", "layout", "width"), [("vp8", None, 320), ("h264", None, 320), ("vp8", "side_by_side", 1280)]
)
async def test_chromium_plays_and_jumps(
    desk: Desk, tool: Callable[[str, str], str], clock: VirtualClock, codec: str, layout: str | None, width: int
) -> None:
    chromium = tool("chromium", "chromium")
    await recorded(desk, 6.0, codec)
    found = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert found is not None
    cleo = desk.people["compliance"]
    entry = audit.NewEntry(DEFAULT_TENANT, cleo.id, cleo.public_id, audit.GRANTED, found.public_id, "a test of playing")
    what = "streams/1" if layout is None else f"compositions/{await _compose(desk, clock, found, layout)}"
    token, _ = await desk.recordings.grant(found, cleo.id, entry)
    app = web.Application(middlewares=[errors])
    mount(app, endpoints(desk.recordings))
    app.router.add_get("/", _page)
    async with TestServer(app) as server, async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=chromium, args=_ARGS)
        try:
            page = await browser.new_page()
            await page.goto(str(server.make_url("/")))
            seen: dict[str, Any] = await page.evaluate(
                _PLAY, f"/api/v1/recordings/{found.public_id}/{what}?grant={token}"
            )
        finally:
            await browser.close()
    assert seen["duration"] == pytest.approx(6.0, abs=0.05)
    assert seen["width"] == width
    assert seen["jumps"] == pytest.approx([4.2, 1.0, 5.5], abs=0.05)
    assert seen["at"] == pytest.approx(6.0, abs=0.1)
    assert seen["frames"] > seen["before"]
    assert seen["audio"] > 0


async def _compose(desk: Desk, clock: VirtualClock, found: Details, layout: str) -> str:
    """Have a composition made; its job's id."""
    tools = Tools(desk.recordings, desk.services.signer.key, clock)
    cleo = desk.people["compliance"]
    why = (audit.COMPOSITION_ASKED, found.public_id, "a test of playing")
    entry = audit.NewEntry(DEFAULT_TENANT, cleo.id, cleo.public_id, *why)
    assert await tools.jobs.ask(found, cleo.id, "composition", layout, entry) is not None
    job = await tools.jobs.claim()
    assert job is not None
    assert await do(job, tools) == "done"
    return job.public_id


async def _page(_: web.Request) -> web.Response:
    return web.Response(text="<!doctype html><title>play</title><body>", content_type="text/html")
