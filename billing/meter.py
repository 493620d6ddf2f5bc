"""The meter's shell: loads what it has to know, calls the ledger's tick in chunks, and tells what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from typing import Final, TypeVar

from billing import meter_store, metrics
from billing.accrual import Accrual, Steps
from billing.meter_store import CHUNK_MAX, SLOT_MS, lane_of
from billing.store import LANES
from billing.terms import LedgerUnavailable, Mark, MeterOutcome, TickInput, TickResult
from config.clock import Clock
from config.database import Database
from config.ids import SessionId
from config.logs import get_log
from config.settings import Settings
from relay.messages import Event

log = get_log("billing.meter")

LOOK_MAX: Final = 1_000
"""Sessions looked up at a time (and those of one more wallet)."""
_COMPLAIN_EVERY_NS: Final = 30_000_000_000

T = TypeVar("T")


class Meter:
    """Meters the sessions of the shards that one process leases.

    The caller feeds it the shards' media events (``take``) and calls ``tick`` with its leases every ``tick_ms``, and at
    once for the sessions in ``urgent``.
    """

    def __init__(self, database: Database, clock: Clock, settings: Settings) -> None:
        self._database = database
        self._clock = clock
        self._grant_ms = settings.grant_ms
        self._core = Accrual(settings.grant_ms, settings.post_every_ms)
        self._one_at_a_time = asyncio.Lock()
        self._complained_ns: int | None = None

    def take(self, event: Event) -> None:
        """Take in one media event of a leased shard; any order, any number of times."""
        if not self._core.take(event):
            metrics.TURNED_AWAY.inc()

    @property
    def urgent(self) -> frozenset[SessionId]:
        """Sessions for which ``tick(…, only=urgent)`` should be called now."""
        return self._core.urgent

    def mark(self, session_id: SessionId) -> Mark | None:
        """How far a session has come by the events taken, for settling one whose worker is gone; None: not tracked."""
        return self._core.mark(session_id)

    def moved(self, session_id: SessionId, epoch: int) -> None:
        """The room is on another worker from ``epoch`` on (its present epoch: it is gone): the clock stands still, and
        earlier epochs' evidence counts no more."""
        self._core.moved(session_id, epoch)

    def forget(self, session_id: SessionId) -> None:
        """A session was settled: stop metering it. (The next tick would notice by itself.)"""
        self._core.forget(session_id)

    async def tick(
        self, leases: dict[int, int], now_ns: int, only: Collection[SessionId] | None = None
    ) -> list[MeterOutcome]:
        """Post what is due, extend grants, and tell of each session that runs or has changed.

        ``leases`` is shard → lease epoch. With PostgreSQL away nothing is posted or granted, and the cost shown goes
        on from what is known; the next tick that gets through makes up for it, from totals.
        """
        async with self._one_at_a_time:
            self._core.keep(leases)
            with metrics.TICK_SECONDS.time():
                try:
                    await self._load(leases, now_ns)
                    await self._post(leases, self._core.by_wallet(only), now_ns)
                except LedgerUnavailable as error:
                    metrics.UNAVAILABLE.inc()
                    self._complain(now_ns, error)
            metrics.SESSIONS.set(len(self._core))
            return await _gently(self._core.outcome_steps(only))

    async def _load(self, leases: dict[int, int], now_ns: int) -> None:
        unloaded = self._core.unloaded(leases)
        if unloaded:
            room = self._core.room_left()
            self._core.loaded(await meter_store.load_meters(self._database, unloaded, None, room), now_ns, unloaded)
        strangers = self._core.strangers()
        if strangers:
            rows = await meter_store.load_meters(self._database, leases, strangers, len(strangers))
            self._core.loaded(rows, now_ns)
            self._core.disown(strangers)

    async def _post(self, leases: dict[int, int], wallets: list[tuple[int, list[SessionId]]], now_ns: int) -> None:
        """Look these sessions up and tick those that are due, in lanes side by side: while PostgreSQL works for one,
        the other is looked after here. Raises ``LedgerUnavailable`` after taking in whatever did get through."""
        slot = self._clock.wall_ms() // SLOT_MS
        lanes: list[list[list[SessionId]]] = [[] for _ in range(LANES)]
        for wallet, sessions in wallets:
            lanes[lane_of(wallet)].append(sessions)
        work = [self._post_lane(leases, lane, slot, now_ns) for lane in lanes if lane]
        for failure in await asyncio.gather(*work, return_exceptions=True):
            if failure is not None:
                raise failure

    async def _post_lane(self, leases: dict[int, int], wallets: list[list[SessionId]], slot: int, now_ns: int) -> None:
        due: list[TickInput] = []
        for looked_up in _chunks(wallets, LOOK_MAX):
            undecided = self._core.undecided(looked_up)  # of the others the tick tells the same
            if undecided:
                await self._refresh(leases, undecided, now_ns)
            for sessions in self._core.due(leases, now_ns, looked_up).values():
                due += sessions
                if len(due) >= CHUNK_MAX:
                    await self._tick(leases, due, slot, now_ns)
                    due = []
        if due:
            await self._tick(leases, due, slot, now_ns)

    async def _refresh(self, leases: dict[int, int], ids: list[SessionId], now_ns: int) -> None:
        """Look up which meters are open, what their wallets have, and whose terms have changed."""
        await self._load_again(leases, self._core.states(await meter_store.read_states(self._database, ids)), now_ns)

    async def _load_again(self, leases: dict[int, int], changed: list[SessionId], now_ns: int) -> None:
        if changed:
            rows = await meter_store.load_meters(self._database, leases, changed, len(changed))
            self._core.loaded(rows, now_ns)

    async def _tick(self, leases: dict[int, int], chunk: list[TickInput], slot: int, now_ns: int) -> None:
        results = await meter_store.tick(self._database, chunk, slot, self._grant_ms)
        _count(results, self._core)
        over_ms, changed = self._core.posted(results, now_ns)
        if over_ms:
            metrics.OVER_GRANT.inc(over_ms / 1000)
            late = [(r.session_id, r.over_ms) for r in results if r.over_ms][:10]
            log.warning("evidence beyond the grant", over_ms=over_ms, sessions=late)
        await self._load_again(leases, changed, now_ns)

    def _complain(self, now_ns: int, error: LedgerUnavailable) -> None:
        if self._complained_ns is None or now_ns - self._complained_ns >= _COMPLAIN_EVERY_NS:
            self._complained_ns = now_ns
            log.error("ledger unavailable, media runs on what is held", why=str(error), sessions=len(self._core))


def _chunks(wallets: list[list[SessionId]], size: int) -> Iterator[list[SessionId]]:
    """Sessions in chunks of at least that size, but for the last; those of one wallet stay together."""
    chunk: list[SessionId] = []
    for sessions in wallets:
        chunk += sessions
        if len(chunk) >= size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


async def _gently(steps: Steps[T]) -> T:
    """Do work to its end, and let others have their turn in its pauses."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            made: T = done.value
            return made
        await asyncio.sleep(0)


def _count(results: list[TickResult], core: Accrual) -> None:
    charged: dict[str, int] = {}
    for result in results:
        if result.charged_minor:
            currency = core.currency(result.session_id)
            charged[currency] = charged.get(currency, 0) + result.charged_minor
        if result.status == "fenced":
            metrics.FENCED.inc()
    for currency, amount_minor in charged.items():
        metrics.POSTED.labels(currency).inc(amount_minor)
