"""Recorded files in a real browser: do they know their length, show pictures, sound, and jump where they are told?"""

from __future__ import annotations

import tempfile
from typing import Any

from aiohttp import web
from playwright.async_api import async_playwright

from bench.browser import CHROMIUM

_ARGS = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-background-networking"]
_PLAY = """async (url) => {
  const video = document.createElement("video");
  video.muted = true;
  document.body.replaceChildren(video);
  const until = (event) => new Promise((good, bad) => {
    video.addEventListener(event, good, {once: true});
    video.addEventListener("error", () => bad(new Error(video.error.message)), {once: true});
    setTimeout(() => bad(new Error("no " + event)), 15000);
  });
  let waiting = until("loadedmetadata");
  video.src = url;
  await waiting;
  const duration = video.duration, jumps = [];
  for (const share of [0.7, 0.15, 0.9]) {
    const to = duration * share;
    waiting = until("seeked");
    video.currentTime = to;
    await waiting;
    jumps.push(Math.abs(video.currentTime - to));
  }
  waiting = until("ended");
  await video.play();
  await waiting;
  return {duration, off: Math.max(...jumps), at: video.currentTime, width: video.videoWidth,
          frames: video.getVideoPlaybackQuality().totalVideoFrames, audio: video.webkitAudioDecodedByteCount};
}"""


async def played(files: list[tuple[bytes, str]]) -> list[dict[str, Any]]:
    """Play each file (bytes, media type) to its end, after jumps; what was seen, and whether it was right."""
    out = []
    with tempfile.TemporaryDirectory(prefix="tp-play-") as folder:
        app = web.Application()
        names = []
        for number, (data, _) in enumerate(files):
            names.append(f"{number}.bin")
            with open(f"{folder}/{names[-1]}", "wb") as file:  # noqa: ASYNC230 - small
                file.write(data)

        async def one(request: web.Request) -> web.StreamResponse:
            number = int(request.match_info["n"])
            return web.FileResponse(f"{folder}/{names[number]}", headers={"Content-Type": files[number][1]})

        async def page(_: web.Request) -> web.Response:
            return web.Response(text="<!doctype html><title>play</title><body>", content_type="text/html")

        app.router.add_get("/", page)
        app.router.add_get(r"/{n:\d+}", one)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            async with async_playwright() as driver:
                browser = await driver.chromium.launch(executable_path=CHROMIUM, args=_ARGS)
                shown = await browser.new_page()
                await shown.goto(f"http://127.0.0.1:{port}/")
                for number in range(len(files)):
                    try:
                        seen = await shown.evaluate(_PLAY, f"/{number}")
                        good = seen["off"] < 0.1 and abs(seen["at"] - seen["duration"]) < 0.2
                        out.append({**seen, "ok": good and (seen["frames"] > 0 or seen["audio"] > 0)})
                    except Exception as error:  # noqa: BLE001 - what the browser says of the file is the finding
                        out.append({"ok": False, "error": str(error)})
                await browser.close()
        finally:
            await runner.cleanup()
    return out
