"""What workers tell of themselves, in the registry that control places rooms by."""

from __future__ import annotations

from typing import Literal

from relay.messages import Message


class WorkerStatus(Message, frozen=True, kw_only=True):
    """What a worker tells of itself twice a second; control places rooms on what it finds here."""

    worker_id: str
    pid: int
    host: str
    addresses: tuple[str, ...]
    port: int
    plane: Literal["python", "native"]
    plane_reason: str
    ops_url: str
    gone: bool = False
    """Its process was seen to end: written in its place by whoever saw it (``relay.bus.bury``)."""
    rooms: tuple[tuple[int, int], ...]
    """(session_id, epoch) of each room held: what control learns back after Redis came up empty."""
    load: float
    """Share of one core in use, 0–1."""
    draining: bool
    started_at_ms: int
    at_ms: int
    version: str
