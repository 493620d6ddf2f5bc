"""Two control processes on the same servers: either may take any wish, and either may die."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from redis.asyncio import Redis

from config.clock import SystemClock
from config.settings import Settings
from relay.worker import Worker
from signaling.control import serving
from tests.signaling.pages import Page
from tests.signaling.test_real_call import Installation, connect


@pytest.fixture
def quick(settings: Settings, quick_passwords: None) -> Settings:
    return settings.model_copy(update={"tick_ms": 500, "media_addresses": "127.0.0.1"})


async def test_a_call_outlives_the_control_process_that_began_it(quick: Settings, redis: Redis) -> None:
    async with contextlib.AsyncExitStack() as stack:
        worker = await stack.enter_async_context(Worker(quick, redis, None, SystemClock()))
        running = asyncio.create_task(worker.run())
        stack.callback(running.cancel)
        first = contextlib.AsyncExitStack()
        one, port_one = await first.enter_async_context(serving(quick, SystemClock()))
        two, port_two = await stack.enter_async_context(serving(quick, SystemClock()))
        began, other = (Installation(f"http://127.0.0.1:{port}", two, worker) for port in (port_one, port_two))
        (client_token, _), (ada_token, ada_id) = await began.sign_in("client"), await other.sign_in("ada")
        mira = await stack.enter_async_context(Page(began.url, client_token))
        ada = await stack.enter_async_context(Page(other.url, ada_token))
        on = await connect(stack, mira, ada, ada_id)
        await ada.hears("session.cost", running=True)
        await first.aclose()
        assert not one.leases.held
        ada.heard.clear()
        await ada.hears("session.cost", timeout_s=10, running=True)  # the other one meters it now
        again = await stack.enter_async_context(Page(other.url, client_token))
        await again.ok("session.end", on)
        await ada.hears("session.updated", settled=True)
        receipt = await other.get(ada_token, f"/sessions/{on['session_id']}/receipt")
        assert receipt["billed_ms"] > 1_000
        assert receipt["charged_minor"] == receipt["billed_ms"] * 199 // 60_000
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
