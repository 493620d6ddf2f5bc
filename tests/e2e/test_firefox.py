"""A call between Firefox and Chromium through the app's own SDK, both ways."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
import pytest
from playwright.async_api import async_playwright

from bench.browser import chromium, open_app
from bench.firefox import firefox
from bench.installation import Installation, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("chromium_program"), pytest.mark.timeout(120)]

SIGNED_IN = "window.turnpike?.client.online"
ACCEPT = """(async () => {
  const { client } = window.turnpike;
  const { version } = await client.consent();
  await client.current.accept({ version, accepted: true });
  return true;
})()"""
DECODED = """(async () => {
  const report = await (window.turnpike.room?.pc?.getStats() ?? []);
  const found = { frames: 0, samples: 0, codec: '' };
  report.forEach((x) => {
    if (x.type !== 'inbound-rtp') return;
    if (x.kind === 'video' && x.framesDecoded > found.frames) {
      found.frames = x.framesDecoded;
      found.codec = report.get(x.codecId)?.mimeType ?? '';
    }
    if (x.kind === 'audio') found.samples = Math.max(found.samples, x.totalSamplesReceived ?? 0);
  });
  return found.frames > 20 && found.samples > 20000 && found;
})()"""


async def test_firefox_and_chromium_see_and_hear_each_other(tool: Callable[[str, str], str]) -> None:
    program = tool("firefox-esr", "firefox-esr")
    # Firefox does not use loopback candidates: the host's own address is told too.
    async with (
        Installation(env={"TURNPIKE_MEDIA_ADDRESSES": "auto"}) as turnpike,
        async_playwright() as driver,
        aiohttp.ClientSession() as http,
    ):
        accounts = {role: (await sign_in(http, turnpike.url, role))[1] for role in ("client", "provider")}
        async with firefox(program) as theirs, chromium(playwright=driver) as context:
            await theirs.open(turnpike.url)
            card = f"""document.querySelector('[data-testid="demo-card-{accounts["provider"]["email"]}"]')"""
            await theirs.until(f"!!{card}")
            await theirs.evaluate(f"{card}.click()")
            await theirs.until(SIGNED_IN)
            ours = await open_app(context, turnpike.url, accounts["client"]["email"])
            await ours.locator(f"[data-testid='provider-{accounts['provider']['id']}-video']:enabled").click()
            await ours.get_by_test_id("call-start").click()
            await theirs.until("window.turnpike.client.current?.view.state === 'ringing'")
            assert await theirs.evaluate(ACCEPT)
            seen = await theirs.until(DECODED)
            await ours.wait_for_function("() => window.__witness.frames > 20 && window.__witness.audio > 0.5")
            assert seen["codec"] == "video/VP8"
            await ours.get_by_test_id("hangup").click()
            await ours.get_by_test_id("receipt-total").wait_for(timeout=20_000)
