"""One call between two real browsers through the app: what they saw, what was billed, what was recorded."""

from __future__ import annotations

import contextlib

import aiohttp
import pytest
from playwright.async_api import async_playwright

from bench.browser import chromium, open_app, seen
from bench.call import cost, hold_call, receipt_of, recording_of
from bench.installation import Installation, sign_in
from billing.service import Billing
from config.clock import SystemClock
from config.database import Database
from config.ids import DEFAULT_TENANT, UserId
from config.settings import Settings
from signaling.installation import beside

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("chromium_program"), pytest.mark.timeout(180)]


async def test_call_is_billed_and_recorded_as_the_browsers_saw_it(turnpike: Installation) -> None:
    call = await hold_call(turnpike, 8)
    async with aiohttp.ClientSession() as http:
        receipt = await receipt_of(http, turnpike, call["session_id"])
        recording = await recording_of(http, turnpike, call["session_id"])
    sides = call["sides"]
    seen_ms = min(s["last"] for s in sides) - max(s["first"] for s in sides)
    assert min(s["frames"] for s in sides) > 60
    assert min(s["audio"] for s in sides) > 6
    assert abs(receipt["billed_ms"] - seen_ms) <= 1_500
    assert receipt["charged_minor"] == cost(receipt["rate"]["minor_per_minute"], receipt["billed_ms"])
    assert receipt["provider_minor"] == receipt["charged_minor"] * 7 // 10
    assert receipt["provider_minor"] + receipt["platform_minor"] == receipt["charged_minor"]
    assert recording["hashes_ok"]
    assert recording["streams"] == 2
    assert abs(recording["duration_ms"] - seen_ms) <= 1_500
    assert recording["video_frames"] > 60
    assert "Traceback" not in turnpike.log_text()


async def test_call_ends_within_a_second_of_the_paid_time_when_the_money_is_gone() -> None:
    """50.00 at 300.00 a minute pays for 10.001 s; then the relay itself stops forwarding."""
    async with Installation(env={"TURNPIKE_MINIMUM_START_MS": "5000"}) as turnpike, aiohttp.ClientSession() as http:
        await set_video_rate(http, turnpike, 30_000)
        headers, client = await sign_in(http, turnpike.url, "client")
        _, provider = await sign_in(http, turnpike.url, "provider")
        async with contextlib.AsyncExitStack() as stack:
            driver = await stack.enter_async_context(async_playwright())
            pages = []
            for account in (client, provider):
                context = await stack.enter_async_context(chromium(playwright=driver))
                pages.append(await open_app(context, turnpike.url, account["email"]))
            client_page, provider_page = pages
            await client_page.locator(f"[data-testid='provider-{provider['id']}-video']:enabled").click(timeout=15_000)
            await client_page.get_by_test_id("call-start").click()
            await provider_page.get_by_test_id("accept").click(timeout=15_000)
            await client_page.get_by_test_id("receipt-total").wait_for(timeout=40_000)
            session_id = await client_page.evaluate("() => window.turnpike.session.id")
            sides = [await seen(page) for page in pages]
        receipt = await receipt_of(http, turnpike, session_id)
        async with http.get(f"{turnpike.url}/api/v1/sessions/{session_id}", headers=headers) as answer:
            session = await answer.json()
        async with http.get(f"{turnpike.url}/api/v1/wallet", headers=headers) as answer:
            wallet = await answer.json()
    paid_ms = 10_001  # one more millisecond would cost 50.01
    assert session["end_reason"] == "balance_exhausted"
    assert receipt["billed_ms"] == paid_ms
    assert receipt["charged_minor"] == 5_000
    assert (wallet["balance_minor"], wallet["available_minor"], wallet["held_minor"]) == (0, 0, 0)
    for side in sides:
        assert side["last"] - side["first"] <= paid_ms + 1_000
    assert min(s["last"] for s in sides) - max(s["first"] for s in sides) >= paid_ms - 1_000


async def set_video_rate(http: aiohttp.ClientSession, turnpike: Installation, minor_per_minute: int) -> None:
    """Give the first demo provider another video rate, as an administrator's tool would."""
    _, provider = await sign_in(http, turnpike.url, "provider")
    settings = beside(Settings(data=turnpike.data))
    assert settings.database_url is not None
    async with await Database.open(settings.database_url, name="test") as database:
        async with database.transaction(DEFAULT_TENANT) as connection:
            user_id = await connection.fetchval("select id from app_user where public_id = $1", provider["id"])
        billing = Billing(database, SystemClock(), settings)
        await billing.set_rate(DEFAULT_TENANT, UserId(user_id), "video", minor_per_minute, "USD")
