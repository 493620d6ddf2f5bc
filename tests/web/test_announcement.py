"""A tenant's own spoken notice in a real call: who hears it says so, and that stands in the recording's signed root."""

from __future__ import annotations

import io
import math
import struct
import wave
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Browser, Page, Route, expect

from bench.installation import Installation, open_recording, sign_in
from recorder.announcements import TEXT, VERSION
from recorder.signed import ROOT_FORMAT, opened
from tests.web.actions import ADA, CLIENT, flows, ring, signed_in, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.usefixtures("chromium_program"),
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]

NOTICE = "https://notices.test/recorded.wav"
LENGTH_S = 0.6
RATE = 8_000
LISTEN = """
(() => {
  const heard = window.__heard = [];
  const play = HTMLMediaElement.prototype.play;
  HTMLMediaElement.prototype.play = function () {
    if (this instanceof HTMLAudioElement && this.src.startsWith('https://notices.test/')) {
      const note = (what) => () => heard.push(
        {what, s: this.currentTime, bytes: this.webkitAudioDecodedByteCount, loud: !this.muted && this.volume});
      for (const what of ['ended', 'error']) this.addEventListener(what, note(what));
    }
    return play.call(this);
  };
})();
"""
HEARD = "() => window.__heard"


def spoken() -> bytes:
    """A notice, as far as a browser can tell."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        samples = (int(8_000 * math.sin(2 * math.pi * 440 * n / RATE)) for n in range(int(RATE * LENGTH_S)))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return out.getvalue()


async def listen(page: Page, notice: bytes | None) -> None:
    """Note what the page plays; its network has ``notice`` at the tenant's address, or nothing there."""

    async def answer(route: Route) -> None:
        if notice is None:
            await route.fulfill(status=404)
        else:
            await route.fulfill(body=notice, content_type="audio/wav")

    await page.context.route("https://notices.test/**", answer)
    await page.context.add_init_script(LISTEN)
    await page.reload()
    await expect(page.get_by_test_id("user-menu")).to_be_visible()


async def test_who_hears_the_notice_says_so_and_it_is_signed(turnpike: Installation, browser: Browser) -> None:
    async with aiohttp.ClientSession() as http:
        headers, _ = await sign_in(http, turnpike.url, "admin")
        policy = {"kind": "video", "reason": "Our own voice", "announce": True, "announce_url": NOTICE}
        async with http.put(f"{turnpike.url}/api/v1/recordings/policies", json=policy, headers=headers) as answer:
            assert answer.status == 200
        async with signed_in(browser, turnpike.url, ADA) as ada, signed_in(browser, turnpike.url, CLIENT) as client:
            await listen(client, spoken())
            await listen(ada, None)
            await ring(client, ada, "video")
            await ada.get_by_test_id("accept").click()
            await expect(client.get_by_test_id("recording-said")).to_contain_text(TEXT)
            await flows(client)

            async def over() -> bool:
                return all([bool(await page.evaluate(HEARD)) for page in (client, ada)])

            await until(over, client)
            assert [one["what"] for one in await ada.evaluate(HEARD)] == ["error"]
            (heard,) = await client.evaluate(HEARD)
            assert (heard["what"], heard["loud"]) == ("ended", 1)
            assert heard["s"] == pytest.approx(LENGTH_S, abs=0.1)
            assert heard["bytes"] > 0
            sides = [await page.evaluate("() => window.turnpike.session.selfId") for page in (client, ada)]
            session_id = await client.evaluate("() => window.turnpike.session.id")
            await client.wait_for_timeout(1_000)  # the sound that Ada's page makes in its place
            await client.evaluate("() => window.turnpike.session.end()")
        await open_recording(http, turnpike.url, session_id, "Was it announced?", 30)
        async with http.get(f"{turnpike.url}/api/v1/recordings/signing-key", headers=headers) as answer:
            published = (await answer.json())["public_key"]
    (path,) = turnpike.data.rglob("root-000.json")
    root = opened(path.read_bytes(), ROOT_FORMAT)
    assert root.public_key.hex() == published
    told: list[dict[str, Any]] = root.statement["announcements"]
    assert {(each["participant"], each["how"]) for each in told} == {(sides[0], "clip"), (sides[1], "tone")}
    assert len(told) == 2
    assert {each["version"].partition("+")[0] for each in told} == {VERSION}
