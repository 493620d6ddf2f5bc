"""A signed-in person with a socket, as the SDK has it: it comes back by itself, and knows the newest of sessions."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any, Final

import aiohttp
import socketio

ACK_S: Final = 8.0
TROUBLE: Final = (socketio.exceptions.SocketIOError, aiohttp.ClientError, TimeoutError, OSError)
"""What the network does."""


class Refused(Exception):
    """The server said no, with a code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Person:
    """``who``: their id and token. ``back_max_s``: the longest wait between two attempts of a socket to come back."""

    def __init__(self, url: str, http: aiohttp.ClientSession, who: dict[str, str], *, back_max_s: float = 3) -> None:
        self.id = who["id"]
        self.views: dict[str, dict[str, Any]] = {}
        self.sio = socketio.AsyncClient(reconnection_delay=0.5, reconnection_delay_max=back_max_s, handle_sigint=False)
        self.sio.on("session.updated", self._updated)
        self.sio.on("session.ringing", self._updated)
        self._url, self._http, self._token = url, http, who["token"]

    async def connect(self) -> None:
        """Open the socket, however long it takes."""
        while True:
            with contextlib.suppress(*TROUBLE):
                await self.sio.connect(self._url, auth={"token": self._token}, transports=["websocket"])
                return
            await asyncio.sleep(0.5 + random.random())

    async def say(self, message: str, body: dict[str, Any]) -> Any:
        """Send a message; its data. Raises ``Refused``, or what the network does."""
        answer = await self.sio.call(message, body, timeout=ACK_S)
        if not answer["ok"]:
            raise Refused(answer["error"]["code"])
        return answer["data"]

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The same over REST."""
        headers = {"Authorization": f"Bearer {self._token}"}
        timeout = aiohttp.ClientTimeout(total=ACK_S)
        url = f"{self._url}/api/v1{path}"
        async with self._http.request(method, url, json=body, headers=headers, timeout=timeout) as answer:
            told = await answer.json()
            if answer.status >= 400:
                raise Refused(told["error"]["code"])
            return told

    async def _updated(self, payload: Any) -> None:
        self.learn(payload["data"])

    def learn(self, view: dict[str, Any]) -> dict[str, Any]:
        """Keep the newer of two views; returns it."""
        known = self.views.get(view["id"])
        if known is None or view["revision"] > known["revision"]:
            self.views[view["id"]] = view
        return self.views[view["id"]]
