"""One paid, recorded call between two real browsers, through the app, on a fresh installation (``make call``).

The browsers' own clocks are the independent witness: what was billed and what was recorded is held against the time
between the first and the last frame that they decoded. Figures of the two sides are joined to the worse one
(fewest frames, most frozen time); ``seen_ms`` is the time in which *both* saw each other. Prints JSON as its last line.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import av
from playwright.async_api import Page, async_playwright

from bench.browser import chromium, chromium_version, click_at, open_app, seen
from bench.installation import Installation, open_recording, sign_in
from bench.machine import announce
from config.database import ALL_TENANTS, Database
from config.settings import Settings
from signaling.installation import beside

RECORDING_READY_S = 60
SETTLED_S = 20
FINAL_EVIDENCE = """
select max(e.live_ms) from media_evidence e join session s on s.tenant_id = e.tenant_id and s.id = e.session_id
where s.public_id = $1 having bool_or(e.final)
"""


async def hold_call(turnpike: Installation, seconds: float, shots: Path | None = None) -> dict[str, Any]:
    """Drive two pages through request, accept, talk and hang-up; returns ids and what each side saw."""
    async with AsyncExitStack() as stack:
        driver = await stack.enter_async_context(async_playwright())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        _, client = await sign_in(http, turnpike.url, "client")
        _, provider = await sign_in(http, turnpike.url, "provider")
        pages: list[Page] = []
        for account in (client, provider):
            context = await stack.enter_async_context(chromium(playwright=driver))
            pages.append(await open_app(context, turnpike.url, account["email"]))
        client_page, provider_page = pages
        stack.push_async_exit(_show_on_failure(pages, shots))
        call = client_page.get_by_test_id(f"provider-{provider['id']}-video")
        await call.wait_for(timeout=15_000)
        await client_page.wait_for_function(
            "(id) => !document.querySelector(`[data-testid='provider-${id}-video']`).disabled", arg=provider["id"]
        )
        if shots:
            await client_page.screenshot(path=shots / "providers.png")
        await call.click()
        await client_page.get_by_test_id("call-start").click()
        await provider_page.get_by_test_id("accept").wait_for(timeout=15_000)
        if shots:
            await provider_page.screenshot(path=shots / "incoming.png")
        accepted_at = await click_at(provider_page, "accept")
        for page in pages:
            await page.wait_for_function("() => window.__witness.first !== null", timeout=20_000)
        firsts = [(await seen(page))["first"] for page in pages]
        await asyncio.sleep(seconds / 2)
        if shots:
            await client_page.screenshot(path=shots / "call.png")
            await provider_page.screenshot(path=shots / "call-provider.png")
        await asyncio.sleep(max(0.0, seconds / 2 - (max(firsts) - min(firsts)) / 1000))
        session_id = await client_page.evaluate("() => window.turnpike.session.id")
        await client_page.get_by_test_id("hangup").click()
        await client_page.get_by_test_id("receipt-total").wait_for(timeout=SETTLED_S * 1000)
        sides = [await seen(page) for page in pages]
        if shots:
            await client_page.screenshot(path=shots / "receipt.png")
        return {"session_id": session_id, "accepted_at": accepted_at, "sides": sides}


def _show_on_failure(pages: list[Page], shots: Path | None) -> Any:
    """An exit callback that keeps what the pages showed when the call failed."""

    async def keep(kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and shots is not None:
            for number, page in enumerate(pages):
                await page.screenshot(path=shots / f"failed-{number}.png")

    return keep


async def receipt_of(http: aiohttp.ClientSession, turnpike: Installation, session_id: str) -> dict[str, Any]:
    """The receipt as staff see it, with both shares."""
    headers, _ = await sign_in(http, turnpike.url, "admin")
    deadline = time.monotonic() + SETTLED_S
    while True:
        async with http.get(f"{turnpike.url}/api/v1/sessions/{session_id}/receipt", headers=headers) as answer:
            body: dict[str, Any] = await answer.json()
            if answer.status == 200:
                return body
        if time.monotonic() > deadline:
            raise TimeoutError(f"no receipt: {body}")
        await asyncio.sleep(0.2)


async def evidence_of(turnpike: Installation, session_id: str) -> int:
    """The live time that the worker's own journal shows, as shipped to PostgreSQL, in ms."""
    url = beside(Settings(data=turnpike.data)).database_url
    assert url is not None
    async with await Database.open(url, name="bench") as database:
        deadline = time.monotonic() + SETTLED_S
        while time.monotonic() < deadline:
            async with database.transaction(ALL_TENANTS) as connection:
                live_ms = await connection.fetchval(FINAL_EVIDENCE, session_id)
            if live_ms is not None:
                return int(live_ms)
            await asyncio.sleep(0.2)
    raise TimeoutError("no final evidence")


async def recording_of(http: aiohttp.ClientSession, turnpike: Installation, session_id: str) -> dict[str, Any]:
    """Fetch the recording as the compliance officer does, and decode every stream from first to last frame."""
    why = "Measuring a call from end to end"
    headers, recording, grant = await open_recording(http, turnpike.url, session_id, why, RECORDING_READY_S)
    frames, audio_ms = [], []
    for stream in grant["streams"]:
        async with http.get(turnpike.url + stream["url"]) as answer:
            answer.raise_for_status()
            decoded = decode(await answer.read())
        frames.append(decoded["video_frames"])
        audio_ms.append(decoded["audio_ms"])
    async with http.get(f"{turnpike.url}/api/v1/recordings/{recording['id']}", headers=headers) as answer:
        detail = await answer.json()
    return {
        "duration_ms": detail["duration_ms"],
        "video_frames": min(frames),
        "audio_ms": min(audio_ms),
        "hashes_ok": detail["hashes_ok"],
        "streams": len(frames),
    }


def decode(data: bytes) -> dict[str, Any]:
    """Decode a media file with PyAV from its first to its last packet. Raises what PyAV raises on damage."""
    video_frames, samples = 0, 0
    with av.open(io.BytesIO(data), "r") as container:
        for frame in container.decode():
            if isinstance(frame, av.VideoFrame):
                video_frames += 1
            else:
                samples += frame.samples * 1000 // frame.sample_rate
    return {"video_frames": video_frames, "audio_ms": samples}


def cost(rate_minor_per_minute: int, live_ms: int) -> int:
    """The per-second tariff, written a second time so that the product's own function does not judge itself."""
    return rate_minor_per_minute * live_ms // 60_000


async def measure(seconds: float, shots: Path | None) -> dict[str, Any]:
    """The whole run; returns the figures."""
    async with Installation() as turnpike, aiohttp.ClientSession() as http:
        try:
            call = await hold_call(turnpike, seconds, shots)
            receipt = await receipt_of(http, turnpike, call["session_id"])
            recording = await recording_of(http, turnpike, call["session_id"])
            live_ms = await evidence_of(turnpike, call["session_id"])
            balanced = await turnpike.books_balance()
        except Exception:
            print(turnpike.log_tail(80), file=sys.stderr)
            raise
    sides = call["sides"]
    firsts, lasts = [s["first"] for s in sides], [s["last"] for s in sides]
    return {
        "connect_ms": round(max(firsts) - call["accepted_at"]),
        "frames_decoded": min(s["frames"] for s in sides),
        "audio_seconds": round(min(s["audio"] for s in sides), 2),
        "frozen_ms": round(max(s["frozen"] for s in sides)),
        "seen_ms": round(min(lasts) - max(firsts)),
        "live_ms": live_ms,
        "billed_ms": receipt["billed_ms"],
        "charged_minor": receipt["charged_minor"],
        "expected_minor": cost(receipt["rate"]["minor_per_minute"], receipt["billed_ms"]),
        "provider_minor": receipt["provider_minor"],
        "platform_minor": receipt["platform_minor"],
        "ledger_balanced": balanced,
        "recording": recording,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=20, help="seconds of talk")
    parser.add_argument("--shots", type=Path, default=None, help="keep screenshots of the pages in this folder")
    options = parser.parse_args()
    announce("av", Chromium=chromium_version())
    if options.shots:
        options.shots.mkdir(parents=True, exist_ok=True)
    print(json.dumps(asyncio.run(measure(options.duration, options.shots))))


if __name__ == "__main__":
    main()
