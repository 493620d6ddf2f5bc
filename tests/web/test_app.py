"""For each page of the app: what its user came for, done as they would do it, in a real browser on a real server."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, expect

from bench.installation import Installation
from tests.web.actions import ADA, ADMIN, CLIENT, COMPLIANCE, flows, ring, signed_in, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.usefixtures("chromium_program"),
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]

WIDTHS = (360, 1440)

LOSE_ICE = """
() => {
  const pc = window.turnpike.room.pc;
  Object.defineProperty(pc, 'connectionState', { configurable: true, get: () => 'disconnected' });
  pc.onconnectionstatechange();
  window.__before = pc;
  window.__ufrag = pc.localDescription.sdp.match(/ice-ufrag:(\\S+)/)[1];
}
"""
"""Make the page believe that its connection is lost, so that it asks for a restart."""


async def test_declined_and_cancelled_calls_cost_nothing(turnpike: Installation, browser: Browser) -> None:
    async with signed_in(browser, turnpike.url, ADA) as ada, signed_in(browser, turnpike.url, CLIENT) as client:
        await ring(client, ada, "video")
        await expect(ada.get_by_test_id("incoming")).to_contain_text("Mira Lindqvist")
        await ada.get_by_test_id("decline").click()
        await expect(client.get_by_test_id("not-taken")).to_contain_text("Nothing was charged")
        await ring(client, ada, "audio")
        await client.get_by_test_id("cancel").click()
        await expect(ada.get_by_test_id("incoming")).to_have_count(0)
        await expect(client.get_by_test_id("wallet-balance")).to_have_text(re.compile(r"\$50\.00"))


async def test_unavailable_provider_can_not_be_called(turnpike: Installation, browser: Browser) -> None:
    async with signed_in(browser, turnpike.url, ADA) as ada, signed_in(browser, turnpike.url, CLIENT) as client:
        call = client.locator(".person", has_text="Ada Fox").locator("[data-testid$='-video']")
        await expect(call).to_be_enabled()
        await ada.get_by_test_id("availability").click()
        await expect(call).to_be_disabled()
        await ada.get_by_test_id("availability").click()
        await expect(call).to_be_enabled()


async def test_call_with_chat_mute_and_screen_survives_reload_and_ice_restart(
    turnpike: Installation, browser: Browser
) -> None:
    async with signed_in(browser, turnpike.url, ADA) as ada, signed_in(browser, turnpike.url, CLIENT) as client:
        await ring(client, ada, "video")
        await ada.get_by_test_id("accept").click()
        await expect(client.get_by_test_id("recording-state")).to_have_attribute("data-state", "recording")
        await flows(client)
        await flows(ada)

        await client.get_by_test_id("chat").click()
        await client.get_by_test_id("chat-input").fill("Can you hear me?")
        await client.get_by_test_id("chat-send").click()
        await expect(ada.locator(".badge")).to_have_text("1")
        await ada.keyboard.press("c")
        await expect(ada.get_by_test_id("chat-message")).to_contain_text("Can you hear me?")
        await ada.keyboard.press("Escape")

        await ada.get_by_test_id("mute").click()
        await ada.get_by_test_id("camera").click()
        await expect(client.locator(".call-tag")).to_have_text(["Ada Fox is muted", "Ada Fox has the camera off"])
        await ada.get_by_test_id("camera").click()
        await ada.get_by_test_id("mute").click()
        await expect(client.locator(".call-tag")).to_have_count(0)
        await flows(client)

        await ada.evaluate(LOSE_ICE)
        await ada.wait_for_timeout(1_500)
        await ada.evaluate("() => { delete window.__before.connectionState; }")
        await ada.wait_for_function("() => !window.__before.localDescription.sdp.includes(window.__ufrag)")
        await ada.wait_for_function("() => window.turnpike.room.state === 'connected'")
        assert await ada.evaluate("() => window.turnpike.room.pc === window.__before")
        await flows(client)
        await flows(ada)

        await client.reload()
        await client.wait_for_function("() => window.turnpike.room?.state === 'connected'")
        await flows(client)
        await flows(ada)
        await expect(client.get_by_test_id("cost")).not_to_have_attribute("data-minor", "0", timeout=15_000)

        await ada.keyboard.press("e")
        await ada.get_by_role("dialog").get_by_role("button", name="Hang up").click()
        total = client.get_by_test_id("receipt-total")
        await expect(total).to_be_visible(timeout=15_000)
        charged = int(await total.get_attribute("data-minor") or 0)
        await expect(ada.get_by_test_id("receipt-total")).to_have_attribute("data-minor", str(charged * 7 // 10))
        assert charged > 0


async def test_recording_plays_after_a_logged_reason(turnpike: Installation, browser: Browser) -> None:
    """The recording is that of the call in the test before."""
    async with signed_in(browser, turnpike.url, COMPLIANCE) as page:
        await expect(page.get_by_test_id("recording-row")).to_have_count(1)
        await page.get_by_test_id("recording-row").get_by_role("link").click()
        await page.get_by_test_id("recording-open").click(timeout=30_000)
        await page.get_by_test_id("reason-input").fill("too short")
        await expect(page.get_by_test_id("reason-submit")).to_be_disabled()
        await page.get_by_test_id("reason-input").fill("Complaint 4711: what was said about the fee")
        await page.get_by_test_id("reason-submit").click()
        await expect(page.get_by_test_id("access-log")).to_contain_text("Complaint 4711")
        await page.get_by_test_id("player-play").click()
        position = page.get_by_test_id("player-position")

        async def played() -> bool:
            return float(await position.get_attribute("data-s") or 0) > 1.5

        await until(played, page)
        videos = "() => [...document.querySelectorAll('video')].filter(v => !v.paused).map(v => v.currentTime)"
        playing = await page.evaluate(videos)
        assert len(playing) >= 2
        assert min(playing) > 0.5


async def test_top_up_is_booked_once_and_listed(turnpike: Installation, browser: Browser) -> None:
    async with signed_in(browser, turnpike.url, CLIENT) as page:
        await page.get_by_role("link", name="Wallet").click()
        rows = page.locator("tbody tr")
        await expect(rows.first).to_be_visible()
        before = await rows.count()
        await page.get_by_test_id("top-up-1000").dblclick()
        await expect(rows).to_have_count(before + 1)
        await expect(rows.first).to_contain_text("+$10.00")


async def test_no_page_is_wider_than_the_window(turnpike: Installation, browser: Browser) -> None:
    pages = {
        CLIENT: ("/providers", "/sessions", "/wallet"),
        ADA: ("/desk", "/wallet"),
        COMPLIANCE: ("/recordings",),
        ADMIN: ("/operations", "/nowhere"),
    }
    for email, paths in pages.items():
        async with signed_in(browser, turnpike.url, email) as page:
            for path in paths:
                await page.goto(turnpike.url + path)
                await expect(page.locator("main h1, main h2").first).to_be_visible()
                await expect(page.locator(".skeleton")).to_have_count(0)
                for width in WIDTHS:
                    await page.set_viewport_size({"width": width, "height": 800})
                    assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), (
                        path,
                        width,
                    )
