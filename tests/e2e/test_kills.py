"""kill -9 of each process during a real call: what the people in it notice, and what is there afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page, async_playwright

from bench.browser import WITNESS, chromium, open_app, seen
from bench.call import cost, receipt_of, recording_of
from bench.installation import Installation, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("chromium_program"), pytest.mark.timeout(240)]


class Call:
    """A call that two pages are in."""

    def __init__(self, client: Page, provider: Page, session_id: str) -> None:
        self.client, self.provider, self.session_id = client, provider, session_id

    async def frames(self) -> int:
        """Frames decoded so far by the side that has decoded fewer."""
        return int(min([(await seen(page))["frames"] for page in (self.client, self.provider)]))

    async def gap_ms(self) -> float:
        """The longest time for which one of them saw no new frame of the other."""
        return float(max([(await seen(page))["gap"] for page in (self.client, self.provider)]))

    async def seen_ms(self) -> float:
        """How long both saw each other: from the later first frame to the earlier last one."""
        sides = [await seen(page) for page in (self.client, self.provider)]
        return float(min(s["last"] for s in sides) - max(s["first"] for s in sides))


@contextlib.asynccontextmanager
async def call_between_pages(turnpike: Installation, scripts: Sequence[str] = ()) -> AsyncIterator[Call]:
    """Two signed-in pages that have each decoded frames of the other. ``scripts`` run in each before the app."""
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        driver = await stack.enter_async_context(async_playwright())
        accounts = [(await sign_in(http, turnpike.url, role))[1] for role in ("client", "provider")]
        pages = []
        for account in accounts:
            context = await stack.enter_async_context(chromium(playwright=driver, scripts=(WITNESS, *scripts)))
            pages.append(await open_app(context, turnpike.url, account["email"]))
        client, provider = pages
        await client.locator(f"[data-testid='provider-{accounts[1]['id']}-video']:enabled").click(timeout=15_000)
        await client.get_by_test_id("call-start").click()
        await provider.get_by_test_id("accept").click(timeout=15_000)
        for page in pages:
            await page.wait_for_function("() => window.__witness.frames > 20", timeout=20_000)
        yield Call(client, provider, await client.evaluate("() => window.turnpike.session.id"))


async def eventually(what: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    """The first true value of ``what``, asked every 0.2 s; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    value: Any = None
    while time.monotonic() < deadline:
        with contextlib.suppress(aiohttp.ClientError, OSError):
            value = await what()
            if value:
                return value
        await asyncio.sleep(0.2)
    pytest.fail(f"did not come true in {seconds} s; last: {value!r}")


async def session_in_state(turnpike: Installation, session_id: str, state: str) -> Callable[[], Awaitable[Any]]:
    """A condition: the session, once it is in that state."""

    async def ask() -> Any:
        async with aiohttp.ClientSession() as http:
            headers, _ = await sign_in(http, turnpike.url, "admin")
            async with http.get(f"{turnpike.url}/api/v1/sessions/{session_id}", headers=headers) as answer:
                session = await answer.json()
        return session if session.get("state") == state else None

    return ask


async def test_call_goes_on_when_recorder_control_postgres_and_valkey_are_killed(turnpike: Installation) -> None:
    async with call_between_pages(turnpike) as call, aiohttp.ClientSession() as http:
        for name in ("recorder", "control", "postgres", "valkey"):
            before = await call.frames()
            await turnpike.kill_9(name)
            await asyncio.sleep(4)
            assert await call.frames() - before > 40, f"frames stopped when {name} was killed"

        async def hung_up() -> Any:
            if await call.client.get_by_test_id("hangup").count():
                await call.client.get_by_test_id("hangup").click(timeout=2_000)
            await call.client.get_by_test_id("receipt-total").wait_for(timeout=15_000)
            return True

        assert await hung_up()
        seen_ms = await call.seen_ms()
        receipt = await receipt_of(http, turnpike, call.session_id)
        recording = await recording_of(http, turnpike, call.session_id)
    assert abs(receipt["billed_ms"] - seen_ms) <= 1_500
    assert receipt["charged_minor"] == cost(receipt["rate"]["minor_per_minute"], receipt["billed_ms"])
    assert abs(recording["duration_ms"] - seen_ms) <= 1_500
    assert recording["hashes_ok"]
    assert await turnpike.books_balance()


async def frames_again_s(call: Call, seconds: float) -> float:
    """How long it takes until both sides decode frames of a new connection; fails after ``seconds``."""
    before, started = await call.frames(), time.monotonic()

    async def going_on() -> Any:
        return await call.frames() > before + 20

    await eventually(going_on, seconds)
    return time.monotonic() - started


async def hang_up(call: Call) -> None:
    await call.client.get_by_test_id("hangup").click(timeout=5_000)
    await call.client.get_by_test_id("receipt-total").wait_for(timeout=15_000)


@pytest.mark.parametrize("workers", [2, 1])
async def test_call_of_a_killed_worker_goes_on_at_another_or_where_it_is_started_again(workers: int) -> None:
    async with (
        Installation(env={"TURNPIKE_WORKERS": str(workers)}) as turnpike,
        aiohttp.ClientSession() as http,
        call_between_pages(turnpike) as call,
    ):
        await asyncio.sleep(3)
        await turnpike.kill_9(await turnpike.worker_of_room())
        await frames_again_s(call, 25)
        await asyncio.sleep(4)
        await hang_up(call)
        seen_ms, gap_ms = await call.seen_ms(), await call.gap_ms()
        session = await eventually(await session_in_state(turnpike, call.session_id, "ended"), 20)
        receipt = await receipt_of(http, turnpike, call.session_id)
        recording = await recording_of(http, turnpike, call.session_id)
        assert (session["end_reason"], session["room_epoch"]) == ("client_left", 2)
        assert seen_ms - gap_ms - 2_500 <= receipt["billed_ms"] <= seen_ms + 1_000
        assert recording["hashes_ok"]
        assert recording["streams"] == 4
        assert abs(recording["duration_ms"] - seen_ms) <= 1_500
        assert await turnpike.books_balance()


async def test_call_of_a_worker_that_is_stopped_moves_before_it_ends() -> None:
    async with (
        Installation(env={"TURNPIKE_WORKERS": "2"}) as turnpike,
        aiohttp.ClientSession() as http,
        call_between_pages(turnpike) as call,
    ):
        await asyncio.sleep(3)
        await turnpike.stop_worker(await turnpike.worker_of_room())
        await frames_again_s(call, 15)
        await asyncio.sleep(2)
        await hang_up(call)
        seen_ms, gap_ms = await call.seen_ms(), await call.gap_ms()
        receipt = await receipt_of(http, turnpike, call.session_id)
        assert seen_ms - gap_ms - 2_500 <= receipt["billed_ms"] <= seen_ms + 1_000
        assert await turnpike.books_balance()


async def test_call_with_no_worker_in_time_ends_as_dropped_billed_and_recorded_up_to_the_kill() -> None:
    env = {"TURNPIKE_RETURN_TIMEOUT_MS": "1000"}
    async with Installation(env=env) as turnpike, aiohttp.ClientSession() as http:
        async with call_between_pages(turnpike) as call:
            await asyncio.sleep(4)
            await turnpike.kill_9("worker-1")
            await call.client.get_by_test_id("receipt-total").wait_for(timeout=30_000)
            seen_ms = await call.seen_ms()
        session = await eventually(await session_in_state(turnpike, call.session_id, "ended"), 20)
        receipt = await receipt_of(http, turnpike, call.session_id)
        recording = await recording_of(http, turnpike, call.session_id)
        assert session["end_reason"] == "dropped"
        assert receipt["billed_ms"] <= seen_ms + 250
        assert receipt["billed_ms"] >= seen_ms - 1_500
        assert recording["hashes_ok"]
        assert abs(recording["duration_ms"] - seen_ms) <= 1_500
        assert await turnpike.books_balance()


async def test_call_goes_on_when_everything_was_killed_and_is_started_again() -> None:
    async with Installation() as turnpike, aiohttp.ClientSession() as http:
        async with call_between_pages(turnpike) as call:
            await asyncio.sleep(4)
            await turnpike.kill()
            await turnpike.start()
            await frames_again_s(call, 60)
            await asyncio.sleep(3)
            await hang_up(call)
            seen_ms, gap_ms = await call.seen_ms(), await call.gap_ms()
        receipt = await receipt_of(http, turnpike, call.session_id)
        recording = await recording_of(http, turnpike, call.session_id)
        headers, _ = await sign_in(http, turnpike.url, "client")
        async with http.get(f"{turnpike.url}/api/v1/wallet", headers=headers) as answer:
            wallet = await answer.json()
        assert wallet["balance_minor"] == 5_000 - receipt["charged_minor"]
        assert wallet["held_minor"] == 0
        assert seen_ms - gap_ms - 2_500 <= receipt["billed_ms"] <= seen_ms - gap_ms + 2_500
        assert recording["hashes_ok"]
        assert await turnpike.books_balance()
