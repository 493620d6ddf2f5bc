"""What several page tests do: sign in, ring, wait. In a real browser on a real server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

from playwright.async_api import Browser, Page, expect

from bench.browser import open_app

CLIENT, ADA, COMPLIANCE, ADMIN = ("client@demo.test", "ada@demo.test", "compliance@demo.test", "admin@demo.test")
FRAMES = "async () => (await window.turnpike.room.stats()).remote.camera.frames_decoded"


@contextlib.asynccontextmanager
async def signed_in(browser: Browser, url: str, email: str) -> AsyncIterator[Page]:
    """A page of that user, in a context of their own; an uncaught error in it fails the test."""
    context = await browser.new_context(permissions=["camera", "microphone"])
    faults: list[str] = []
    page = await context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    try:
        await open_app(context, url, email)
        await expect(page.get_by_test_id("user-menu")).to_be_visible()
        yield page
    finally:
        await context.close()
    assert not faults


async def ring(client: Page, provider: Page, kind: Literal["video", "audio"]) -> None:
    """The client calls Ada; her panel is there when this returns."""
    await client.goto(await client.evaluate("() => location.origin") + "/providers")
    ada = client.locator(".person", has_text="Ada Fox")
    await ada.locator(f"[data-testid$='-{kind}']:enabled").click()
    await client.get_by_test_id("call-start").click()
    await expect(provider.get_by_test_id("accept")).to_be_enabled()


async def until(probe: Callable[[], Awaitable[bool]], page: Page, attempts: int = 150) -> None:
    """Wait until ``probe`` holds, looking ten times a second."""
    for _ in range(attempts):
        if await probe():
            return
        await page.wait_for_timeout(100)
    raise AssertionError("it never came true")


async def flows(page: Page) -> None:
    """Frames of the other side are being decoded, from now on."""
    before = await page.evaluate(FRAMES)

    async def more() -> bool:
        return bool(await page.evaluate(FRAMES) > before + 5)

    await until(more, page)
