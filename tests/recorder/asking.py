"""Asking for recordings over HTTP: what tests say, and how they read the answers. ``ask`` itself is a fixture."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import ClientResponse

REASON = {"reason": "Complaint 4711: the client disputes the advice."}
Ask = Callable[..., Awaitable[ClientResponse]]


async def code_of(response: ClientResponse) -> tuple[int, str]:
    return response.status, (await response.json())["error"]["code"]


async def audited(ask: Ask, path: str) -> list[tuple[str, str]]:
    """(action, who) in the audit log, oldest first."""
    entries = (await (await ask("GET", path + "/accesses", "admin")).json())["accesses"]
    return [(each["action"].removeprefix("recording."), each["user"]["name"]) for each in reversed(entries)]
