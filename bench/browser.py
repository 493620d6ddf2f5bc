"""Headless Chromium with a fake camera and microphone, driving the app by what a user sees.

``Witness`` is injected into each page before the app's own code. It notes, on the browser's clock, when frames of
the other side were decoded: the clock that bills and recordings are held against.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from typing import Any

from playwright.async_api import BrowserContext, Page, Playwright, async_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
)

WITNESS = """
(() => {
  const w = window.__witness = {
    pcs: [], first: null, last: null, gap: 0, frames: 0, audio: 0, frozen: 0, concealed: 0
  };
  const Native = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    constructor(...a) { super(...a); w.pcs.push(this); }
  };
  const done = new Map();
  const look = async () => {
    for (const pc of w.pcs) {
      let report; try { report = await pc.getStats(); } catch { continue; }
      const now = performance.timeOrigin + performance.now();
      report.forEach((x) => {
        if (x.type !== 'inbound-rtp') return;
        const key = w.pcs.indexOf(pc) + x.id, was = done.get(key) || {};
        if (x.kind === 'video') {
          const fresh = (x.framesDecoded || 0) - (was.frames || 0);
          if (fresh > 0) {
            w.gap = Math.max(w.gap, now - (w.last ?? now));
            w.first ??= now; w.last = now; w.frames += fresh;
          }
          w.frozen += Math.max(0, (x.totalFreezesDuration || 0) - (was.frozen || 0)) * 1000;
          done.set(key, { frames: x.framesDecoded || 0, frozen: x.totalFreezesDuration || 0 });
        } else {
          w.audio += (x.totalSamplesDuration || 0) - (was.audio || 0);
          w.concealed += (x.concealedSamples || 0) - (was.concealed || 0);
          done.set(key, { audio: x.totalSamplesDuration || 0, concealed: x.concealedSamples || 0 });
        }
      });
    }
    setTimeout(look, w.first ? 50 : 10);
  };
  look();
})();
"""

NOTE_CLICK = """
(id) => {
  window.__clicked = null;
  const note = () => { window.__clicked = performance.timeOrigin + performance.now(); };
  document.querySelector(`[data-testid="${id}"]`).addEventListener('click', note, {capture: true, once: true});
}
"""


@contextlib.asynccontextmanager
async def chromium(
    *,
    width: int = 1280,
    height: int = 800,
    playwright: Playwright | None = None,
    flags: Sequence[str] = (),
    scripts: Sequence[str] = (WITNESS,),
) -> AsyncIterator[BrowserContext]:
    """A browser of its own profile, so that two users are two browsers. ``scripts`` run in each page before the app."""
    profile = tempfile.mkdtemp(prefix="tp-chromium-")
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, profile, ignore_errors=True)
        driver = playwright if playwright is not None else await stack.enter_async_context(async_playwright())
        context = await driver.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            headless=False,  # the new headless mode is asked for by a flag
            args=[*FLAGS, *flags],
            ignore_default_args=["--mute-audio"],
            viewport={"width": width, "height": height},
        )
        try:
            for script in scripts:
                await context.add_init_script(script)
            yield context
        finally:
            await context.close()


async def open_app(context: BrowserContext, url: str, email: str) -> Page:
    """A page of the app, signed in with one click on the demo account's card."""
    page = context.pages[0] if context.pages else await context.new_page()
    await page.goto(url)
    await page.get_by_test_id(f"demo-card-{email}").click()
    return page


async def seen(page: Page) -> dict[str, Any]:
    """What the page's browser saw so far: first and last decoded frame (Unix ms), longest time between two, frames,
    audio seconds, frozen ms."""
    witness: dict[str, Any] = await page.evaluate(
        "() => { const {first, last, gap, frames, audio, frozen, concealed} = window.__witness;"
        " return {first, last, gap, frames, audio, frozen, concealed}; }"
    )
    return witness


async def now_ms(page: Page) -> float:
    """The browser's clock, as ``seen`` uses it."""
    return float(await page.evaluate("() => performance.timeOrigin + performance.now()"))


async def click_at(page: Page, test_id: str) -> float:
    """Click; returns the browser's time at which the click event was dispatched (Unix ms)."""
    await page.evaluate(NOTE_CLICK, test_id)
    await page.get_by_test_id(test_id).click()
    return float(await page.evaluate("() => window.__clicked"))


def chromium_version() -> str | None:
    """Of the Chromium that is driven; None where there is none."""
    if shutil.which(CHROMIUM) is None:
        return None
    words = subprocess.run([CHROMIUM, "--version"], capture_output=True, text=True, check=False).stdout.split()
    return next((word for word in words if "." in word), None)
