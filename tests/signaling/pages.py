"""A page as far as the server can tell: a Socket.IO client that remembers what it is told."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import socketio

from tests.signaling.conftest import YES


class Page:
    """``async with Page(url, token) as page``: connected, and on its way out when left."""

    def __init__(self, url: str, token: object) -> None:
        self._url = url
        self._token = token
        self.sio = socketio.AsyncClient(reconnection=False)
        self.heard: list[tuple[str, Any]] = []
        self.refusal: Any = None
        self._news = asyncio.Condition()
        self.sio.on("*", self._on_event)
        self.sio.on("connect_error", self._on_refusal)

    async def __aenter__(self) -> Self:
        await self.sio.connect(self._url, auth={"token": self._token}, transports=["websocket"], wait_timeout=5)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sio.disconnect()
        await self.sio.eio.http.close() if self.sio.eio.http else None

    async def _on_event(self, event: str, payload: Any) -> None:
        async with self._news:
            self.heard.append((event, payload))
            self._news.notify_all()

    async def _on_refusal(self, refusal: Any) -> None:
        self.refusal = refusal

    async def call(self, message: str, body: Any = None) -> Any:
        """Send a message; its acknowledgement."""
        return await self.sio.call(message, body, timeout=10)

    async def ok(self, message: str, body: Any = None) -> Any:
        """Send a message that must succeed; its data."""
        answer = await self.call(message, body)
        assert answer["ok"], answer
        return answer["data"]

    async def refused(self, message: str, body: Any = None) -> str:
        """Send a message that must be refused; the code."""
        answer = await self.call(message, body)
        assert answer["ok"] is False, answer
        assert answer["error"].keys() == {"code", "message", "details", "request_id"}
        return str(answer["error"]["code"])

    async def hears(self, event: str, timeout_s: float = 5.0, **fields: Any) -> Any:
        """The data of the first event of that name, told already or soon, that has these fields."""
        async with asyncio.timeout(timeout_s), self._news:
            while True:
                for name, payload in self.heard:
                    data = payload["data"]
                    if name == event and all(data.get(key) == value for key, value in fields.items()):
                        return data
                await self._news.wait()


CONSENT = YES.model_dump()
