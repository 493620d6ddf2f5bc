"""Headless Firefox with a fake camera and microphone, driven over WebDriver BiDi: Playwright drives a build of its own
only, and what people have is the one that Debian ships.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from bench.installation import free_port

START_S = 30.0
ANSWER_S = 30.0
POLL_S = 0.1
PREFERENCES = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "media.peerconnection.ice.loopback": True,
    "remote.active-protocols": 1,
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "browser.safebrowsing.downloads.remote.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.getAddons.cache.enabled": False,
    "media.gmp-manager.updateEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "http://127.0.0.1:9/",
    "toolkit.telemetry.enabled": False,
}
"""Nothing that calls home, devices without asking, and sound without a click."""


class FirefoxFailed(Exception):
    """Firefox did not start, or answered with an error."""


class FirefoxPage:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._asked = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._context = ""

    async def read(self) -> None:
        """Take in answers, for a task of its own."""
        async for message in self._socket:
            answer = json.loads(message.data)
            future = self._waiting.pop(answer.get("id", 0), None)
            if future is not None and not future.done():
                future.set_result(answer)

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        """One BiDi command. Raises ``FirefoxFailed``."""
        self._asked += 1
        future = self._waiting[self._asked] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._asked, "method": method, "params": params})
        async with asyncio.timeout(ANSWER_S):
            answer = await future
        if answer.get("type") == "error":
            raise FirefoxFailed(f"{method}: {answer.get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    async def open(self, url: str) -> None:
        """Open a tab on ``url``; ``evaluate`` is about it from then on."""
        self._context = (await self.command("browsingContext.create", type="tab"))["context"]
        await self.command("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited, through JSON. Raises ``FirefoxFailed``."""
        result = await self.command(
            "script.evaluate",
            expression=f"(async () => JSON.stringify((await ({expression})) ?? null))()",
            awaitPromise=True,
            target={"context": self._context},
            userActivation=True,
        )
        if result["type"] != "success":
            raise FirefoxFailed(result["exceptionDetails"]["text"])
        return json.loads(result["result"]["value"])

    async def until(self, expression: str, seconds: float = 20.0) -> Any:
        """The first true value of an expression. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while True:
                value = await self.evaluate(expression)
                if value:
                    return value
                await asyncio.sleep(POLL_S)


@contextlib.asynccontextmanager
async def firefox(program: str) -> AsyncIterator[FirefoxPage]:
    """A browser of its own profile; ends with it. Raises ``FirefoxFailed``."""
    async with contextlib.AsyncExitStack() as stack:
        profile = Path(tempfile.mkdtemp(prefix="tp-firefox-"))
        stack.callback(shutil.rmtree, profile, ignore_errors=True)
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()]
        (profile / "user.js").write_text("".join(lines))
        port = free_port()
        with (profile / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(
                    program,
                    "--headless",
                    "--no-remote",
                    "--profile",
                    str(profile),
                    "--remote-debugging-port",
                    str(port),
                ),
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(profile)},
            )
        stack.push_async_callback(_end, process)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        page = FirefoxPage(await _connected(http, port, process))
        reading = asyncio.create_task(page.read())
        stack.callback(reading.cancel)
        await page.command("session.new", capabilities={})
        yield page


async def _connected(
    http: aiohttp.ClientSession, port: int, process: asyncio.subprocess.Process
) -> aiohttp.ClientWebSocketResponse:
    deadline = asyncio.get_running_loop().time() + START_S
    while True:
        try:
            return await http.ws_connect(f"ws://127.0.0.1:{port}/session", max_msg_size=0)
        except aiohttp.ClientError:
            if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                raise FirefoxFailed("Firefox does not listen for WebDriver BiDi") from None
            await asyncio.sleep(POLL_S)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(10):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
