"""docs/protocol.md and the tables in the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

from signaling.client_messages import CLIENT_MESSAGES
from signaling.server_events import SERVER_EVENTS
from tests.signaling.conftest import World

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()


def first_column(heading: str) -> set[str]:
    """Words in backticks of the first column of the table with that heading."""
    table = PAGE.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


def test_every_client_message_is_described() -> None:
    assert first_column("message") == set(CLIENT_MESSAGES)


def test_every_event_is_described() -> None:
    assert first_column("event") == set(SERVER_EVENTS)


async def test_every_endpoint_is_described(world: World) -> None:
    described = set()
    for cell in first_column("method and path"):
        words = cell.split(" ", 1)
        method, path = words if len(words) == 2 else ("POST", f"/sessions/{{id}}{words[0]}")
        described.add((method, path.split("?")[0]))
    made = {(entry.method, entry.path.removeprefix("/api/v1")) for entry in world.control.endpoints}
    assert made <= described, sorted(made - described)
