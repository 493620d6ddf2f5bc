"""Driving the meter: this process's share of the evidence shards, held by leases, read from the bus, ticked.

Five loops, each of which outlives PostgreSQL or Redis being away: *leases* are renewed; *events* of the leased shards
go to the meter and the follower; *ticks* come every ``tick_ms``, and at once when a grant is used up; the *sweep* looks
at what is due; the *books* are proved at night. An event is acknowledged once it was taken in: evidence is cumulative,
so a lost one costs nothing. One that tells of a connection is acknowledged when that is written down.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

from billing.leases import RENEW_EVERY_MS, Leases
from billing.meter import Meter
from billing.nightly import LOOK_EVERY_S, Nightly
from billing.terms import MeterOutcome
from config.clock import Clock
from config.logs import get_log
from config.metrics import counter, gauge, histogram
from relay.bus import MediaLog
from relay.messages import Event
from signaling.away import AWAY
from signaling.connection_history import WAITING_MAX, ConnectionEvent
from signaling.following import Follower
from signaling.unagreed import Unagreed

BOOKS_AFTER_S: Final = 5.0
SWEEP_EVERY_S: Final = 1.0
CONSENT_EVERY_S: Final = 10.0
"""A recording that somebody agrees to no more, and that could not be ended at once, goes on no longer than this."""
HEAL_METERS_EVERY: Final = 10
"""Every so many sweeps, meters that a dead process left open are looked for."""
READ_BLOCK_MS: Final = 500
OUTCOMES_AT_ONCE: Final = 32
LOG_EVERY_S: Final = 5.0
"""A loop that fails again and again says so this often."""

log = get_log("signaling.shards")
_events = counter("turnpike_media_events_total", "Media events taken from the bus", ["event"])
_held = gauge("turnpike_shards_held", "Evidence shards leased by this process")
_tick_s = histogram("turnpike_tick_seconds", "One tick of the meter with its consequences")


class ShardRunner:
    """Runs this process's shards. ``run`` until cancelled; leases are released at the end."""

    def __init__(
        self,
        leases: Leases,
        media: MediaLog,
        meter: Meter,
        follower: Follower,
        nightly: Nightly,
        unagreed: Unagreed,
        clock: Clock,
        tick_ms: int,
    ) -> None:
        self._leases = leases
        self._media = media
        self._meter = meter
        self._follower = follower
        self._nightly = nightly
        self._unagreed = unagreed
        self._clock = clock
        self._tick_ms = tick_ms
        self._next_tick_s = 0.0
        self._hurry = asyncio.Event()
        self._had: set[int] = set()
        self._unkept: list[tuple[int, bytes]] = []
        """Entries that tell of connections and are not written down yet, oldest first."""
        self._sweeps = 0

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._again("leases", self._renew, RENEW_EVERY_MS / 1000))
                group.create_task(self._again("events", self._read, 0.0))
                group.create_task(self._again("tick", self._tick, 0.0))
                group.create_task(self._again("sweep", self._sweep, 0.0))
                group.create_task(self._again("consent", self._look_after_consent, CONSENT_EVERY_S))
                group.create_task(self._again("books", self._look_after_books, LOOK_EVERY_S))
        finally:
            await self._leases.release()

    async def _again(self, name: str, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        quiet_until = 0.0
        while True:
            pause_s = every_s
            try:
                await work()
            except AWAY as error:
                pause_s = max(every_s, 0.25)
                if time.monotonic() >= quiet_until:
                    quiet_until = time.monotonic() + LOG_EVERY_S
                    log.warning("trying again", loop=name, why=str(error)[:300])
            except Exception:  # noqa: BLE001 - a loop's boundary: logged at a rate; the other sessions must go on
                pause_s = max(every_s, 0.5)
                if time.monotonic() >= quiet_until:
                    quiet_until = time.monotonic() + LOG_EVERY_S
                    log.fault("loop failed, trying again", loop=name)
            await asyncio.sleep(pause_s)

    async def _renew(self) -> None:
        held = set(await self._leases.refresh())
        lost = self._had - held
        if lost:
            self._unkept = [entry for entry in self._unkept if entry[0] not in lost]  # who leads them now reads these
            self._media.release(lost)
            self._follower.forget(lost)
        self._had = held
        _held.set(len(held))

    async def _read(self) -> None:
        shards = set(self._leases.held)
        if not shards:
            await asyncio.sleep(0.05)
            return
        entries = await self._media.read(shards, READ_BLOCK_MS)
        for _, _, event in entries:
            _events.labels(type(event).__name__).inc()
            self._meter.take(event)
        if self._meter.urgent:
            self._hurry.set()
        for _, _, event in entries:
            await self._tell_follower(event)
        kept = await self._follower.written()
        self._unkept += [(shard, entry_id) for shard, entry_id, event in entries if isinstance(event, ConnectionEvent)]
        done = [(shard, entry_id) for shard, entry_id, event in entries if not isinstance(event, ConnectionEvent)]
        waiting = 0 if kept else WAITING_MAX  # as many as wait there: of more the oldest were dropped
        taken = max(0, len(self._unkept) - waiting)
        done += self._unkept[:taken]
        del self._unkept[:taken]
        if done:
            await self._media.acknowledge(done)

    async def _tell_follower(self, event: Event) -> None:
        try:
            await self._follower.on_event(event)
        except AWAY:
            raise
        except Exception:  # noqa: BLE001 - one session's event must not hold up the shard; it is logged once
            log.fault("event failed", event_name=type(event).__name__, session_key=event.session_id)

    async def _tick(self) -> None:
        """All sessions every ``tick_ms``; in between those that cannot wait: a grant used up, a warning due."""
        started = time.monotonic()
        regular = started >= self._next_tick_s
        if regular:
            self._next_tick_s = started + self._tick_ms / 1000
        self._hurry.clear()
        only = None if regular else self._meter.urgent
        outcomes = await self._meter.tick(self._leases.held, self._clock.monotonic_ns(), only)
        # Who has run out of money ends first: nobody else waits for it.
        slots = asyncio.Semaphore(OUTCOMES_AT_ONCE)
        await asyncio.gather(*(self._follow(o, slots) for o in sorted(outcomes, key=lambda o: not o.exhausted)))
        _tick_s.observe(time.monotonic() - started)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._next_tick_s - time.monotonic())):
                await self._hurry.wait()

    async def _follow(self, outcome: MeterOutcome, slots: asyncio.Semaphore) -> None:
        async with slots:
            try:
                await self._follower.on_outcome(outcome)
            except Exception as error:  # noqa: BLE001 - one session's outcome must not hold up the others; next tick tells
                log.warning("outcome not told", session_key=outcome.session_id, why=repr(error))

    async def _look_after_books(self) -> None:
        await asyncio.sleep(BOOKS_AFTER_S)  # just started: leases come first
        await self._nightly.run(self._leases.held)

    async def _look_after_consent(self) -> None:
        if self._leases.held:
            await self._unagreed.sweep(set(self._leases.held))

    async def _sweep(self) -> None:
        shards = set(self._leases.held)
        if shards:
            await self._follower.sweep(shards)
            self._sweeps += 1
            if self._sweeps % HEAL_METERS_EVERY == 0:
                await self._follower.heal_meters(shards)
        await self._follower.rest(SWEEP_EVERY_S)
