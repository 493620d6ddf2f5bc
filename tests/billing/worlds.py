"""A simulated worker and the control process that drives the meter, on a virtual clock and a real database."""

from __future__ import annotations

import dataclasses

from billing.leases import Leases
from billing.meter import Meter
from billing.service import Billing
from billing.terms import MeterOutcome, SessionRef
from config.clock import VirtualClock
from config.ids import SessionId
from relay.messages import Event, GrantUsedUp, MediaEvidence


def evidence(
    session_id: int, live_ms: int, *, epoch: int = 1, seq: int = 0, granted_ms: int = 90_000, running: bool = True
) -> MediaEvidence:
    """What a worker says once a second."""
    return MediaEvidence(
        tenant_id=1,
        session_id=session_id,
        epoch=epoch,
        worker_id="w1",
        at_ms=0,
        seq=seq or live_ms,
        live_ms=live_ms,
        granted_live_ms=granted_ms,
        running=running,
    )


@dataclasses.dataclass
class Room:
    """A room of a worker that enforces its grant to the millisecond."""

    session_id: SessionId
    granted_ms: int
    live_ms: int = 0
    epoch: int = 1

    def run(self, ms: int) -> list[Event]:
        """Let media flow for ``ms``, as far as granted; the events of that time."""
        before = self.live_ms
        self.live_ms = min(self.granted_ms, self.live_ms + ms)
        events: list[Event] = [
            evidence(
                self.session_id,
                self.live_ms,
                epoch=self.epoch,
                granted_ms=self.granted_ms,
                running=self.live_ms < self.granted_ms,
            )
        ]
        if self.live_ms == self.granted_ms > before:
            events.append(
                GrantUsedUp(
                    tenant_id=1,
                    session_id=self.session_id,
                    epoch=self.epoch,
                    worker_id="w1",
                    at_ms=0,
                    live_ms=self.live_ms,
                )
            )
        return events


class Control:
    """One control process: leases, meter, and rooms whose grants it sets."""

    def __init__(self, billing: Billing, clock: VirtualClock, name: str = "control-1") -> None:
        self.clock = clock
        self.meter = Meter(billing.database, clock, billing.settings)
        self.leases = Leases(billing.database, clock, name, ttl_ms=60_000)
        self.rooms: dict[SessionId, Room] = {}
        self.outcomes: dict[SessionId, list[MeterOutcome]] = {}

    def room(self, ref: SessionRef, granted_ms: int) -> Room:
        room = self.rooms[ref.session_id] = Room(ref.session_id, granted_ms)
        return room

    async def tick(self, *, urgent: bool = False) -> list[MeterOutcome]:
        only = self.meter.urgent if urgent else None
        outcomes = await self.meter.tick(await self.leases.refresh(), self.clock.monotonic_ns(), only)
        for outcome in outcomes:
            self.outcomes.setdefault(outcome.session_id, []).append(outcome)
            room = self.rooms.get(outcome.session_id)
            if room is not None and room.epoch == outcome.epoch:
                room.granted_ms = max(room.granted_ms, outcome.granted_live_ms)
        return outcomes

    async def run(self, seconds: int) -> None:
        """Let time pass: rooms run, evidence comes every second, ticks every five and when urgent."""
        for second in range(1, seconds + 1):
            self.clock.advance_ms(1_000)
            for room in self.rooms.values():
                for event in room.run(1_000):
                    self.meter.take(event)
            if second % 5 == 0:
                await self.tick()
            elif self.meter.urgent:
                await self.tick(urgent=True)

    def last(self, ref: SessionRef) -> MeterOutcome:
        return self.outcomes[ref.session_id][-1]
