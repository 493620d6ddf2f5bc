"""A whole control process with all its loops, a real worker, and two clients that really connect and send media."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from bench.media_client import MediaClient
from config.clock import SystemClock
from config.settings import Settings
from recorder.catalogue import CONSENT_TEXT
from relay.worker import Worker
from signaling.assembly import Control
from signaling.control import serving
from tests.signaling.pages import Page

CONSENT = {"version": CONSENT_TEXT.version, "accepted": True}


@dataclass(frozen=True)
class Installation:
    """A running control process and worker."""

    url: str
    control: Control
    worker: Worker

    async def sign_in(self, name: str) -> tuple[str, str]:
        """(access token, user id)."""
        async with aiohttp.ClientSession() as http:
            body = {"email": f"{name}@demo.test", "password": f"demo-{name}"}
            async with http.post(f"{self.url}/api/v1/auth/login", json=body) as answer:
                signed_in = await answer.json()
        return signed_in["access_token"], signed_in["me"]["user"]["id"]

    async def get(self, token: str, path: str) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(headers=headers) as http, http.get(f"{self.url}/api/v1{path}") as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()


@pytest.fixture
async def installation(settings: Settings, redis: Redis, quick_passwords: None) -> AsyncIterator[Installation]:
    settings = settings.model_copy(update={"tick_ms": 500, "media_addresses": "127.0.0.1"})
    async with contextlib.AsyncExitStack() as stack:
        worker = await stack.enter_async_context(Worker(settings, redis, None, SystemClock()))
        running = asyncio.create_task(worker.run())

        async def stop() -> None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        stack.push_async_callback(stop)
        control, port = await stack.enter_async_context(serving(settings, SystemClock()))
        for _ in range(100):
            await control.rooms.refresh()
            if control.rooms.workers:
                break
            await asyncio.sleep(0.05)
        yield Installation(f"http://127.0.0.1:{port}", control, worker)


def media(page: Page, on: dict[str, str]) -> MediaClient:
    async def negotiate(sdp: str, sources: dict[str, Any], fresh: bool) -> str:
        answer = await page.ok("room.join", {**on, "sdp": sdp, "sources": sources, "fresh": fresh})
        return str(answer["sdp"])

    return MediaClient(negotiate)


async def connect(stack: contextlib.AsyncExitStack, mira: Page, ada: Page, ada_id: str) -> dict[str, str]:
    """Request, accept, join and send, both sides; the call's id as messages carry it."""
    wish = {"provider_id": ada_id, "kind": "video", "consent": CONSENT, "request_key": "a-real-call"}
    session = await mira.ok("session.request", wish)
    on = {"session_id": session["id"]}
    await ada.hears("session.ringing")
    await ada.ok("session.accept", {**on, "consent": CONSENT})
    await mira.hears("session.updated", state="connecting")
    sides = [await stack.enter_async_context(media(page, on)) for page in (mira, ada)]
    await asyncio.gather(*(side.connect() for side in sides))
    for side in sides:
        side.start()
    await mira.hears("session.updated", state="active")
    return on


async def test_a_real_call_is_metered_and_settled_to_the_millisecond(installation: Installation) -> None:
    (client_token, _), (ada_token, ada_id) = await installation.sign_in("client"), await installation.sign_in("ada")
    async with contextlib.AsyncExitStack() as stack:
        mira = await stack.enter_async_context(Page(installation.url, client_token))
        ada = await stack.enter_async_context(Page(installation.url, ada_token))
        on = await connect(stack, mira, ada, ada_id)
        await mira.hears("session.cost", running=True)
        await ada.hears("room.quality")
        await asyncio.sleep(1.5)
        await mira.ok("session.end", on)
        await ada.hears("session.updated", settled=True)
        receipt = await installation.get(ada_token, f"/sessions/{on['session_id']}/receipt")
        assert 1_000 <= receipt["billed_ms"] <= 10_000
        assert receipt["charged_minor"] == receipt["billed_ms"] * 199 // 60_000
        assert receipt["provider_minor"] + receipt["platform_minor"] == receipt["charged_minor"]
        cost = await mira.hears("session.cost", running=False)
        assert (cost["live_ms"], cost["cost_minor"]) == (receipt["billed_ms"], receipt["charged_minor"])
        wallet = await installation.get(client_token, "/wallet")
        assert wallet["balance_minor"] == wallet["available_minor"] == 5000 - receipt["charged_minor"]
        assert len(installation.worker.rooms) == 0


async def test_a_real_call_ends_when_the_money_is_used_up(installation: Installation) -> None:
    control = installation.control
    (client_token, _), (ada_token, ada_id) = await installation.sign_in("client"), await installation.sign_in("ada")
    ada_user = await control.people.by_email(1, "ada@demo.test")  # type: ignore[arg-type]
    assert ada_user is not None
    await control.billing.set_rate(ada_user.tenant_id, ada_user.id, "video", 100_000, "USD")  # 3 s for 50.00
    control.billing.settings.minimum_start_ms = 0
    async with contextlib.AsyncExitStack() as stack:
        mira = await stack.enter_async_context(Page(installation.url, client_token))
        ada = await stack.enter_async_context(Page(installation.url, ada_token))
        on = await connect(stack, mira, ada, ada_id)
        ended = await mira.hears("session.updated", timeout_s=10, state="ended")
        assert ended["end_reason"] == "balance_exhausted"
        assert abs(ended["ended_at_ms"] - ended["started_at_ms"] - 3_000) < 1_000
        await mira.hears("session.warning")
        await mira.hears("session.updated", settled=True)
        receipt = await installation.get(client_token, f"/sessions/{on['session_id']}/receipt")
        assert (receipt["charged_minor"], receipt["balance_after_minor"]) == (5000, 0)
        assert receipt["billed_ms"] == 3_000
