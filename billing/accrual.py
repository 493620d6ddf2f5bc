"""The meter's core: how long each session has been live, what that has cost, what to post now, and when to warn.

Pure: media events and stored rows come in, due postings and outcomes go out. Evidence is cumulative, so events may be
lost, repeated or reordered; the stored row is the authority on money, and on time that was known before this process.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Generator, Iterable
from typing import Final, TypeVar

from billing.money import affordable_ms, cost, split
from billing.terms import Mark, MeterOutcome, MeterRow, MeterState, TickInput, TickResult
from config.ids import SessionId, shard_of
from relay.messages import (
    Event,
    GrantUsedUp,
    MediaEvent,
    MediaEvidence,
    MediaInterrupted,
    MediaResumed,
    MediaStarted,
    RoomClosed,
)

WARNINGS_S: Final = (60, 30, 10)
"""Seconds of paid time left at which both sides are warned, once each."""
SESSIONS_MAX: Final = 50_000
"""Sessions tracked. More are left alone: their media runs on what is held for them, and no further."""
_SPREAD: Final = 2_654_435_761
"""Spreads neighbouring session ids evenly (Knuth's multiplicative hash)."""
STEP: Final = 250
"""Sessions looked at in one go: some milliseconds, in which the process does nothing else."""

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work in steps: pauses where it yields, and returns what came of it."""


def _at_once(steps: Steps[T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            made: T = done.value
            return made


@dataclasses.dataclass(slots=True)
class _Tracked:
    """One session: what its worker says, what is stored, and what has been told of it."""

    epoch: int = 0
    base_ms: int = 0
    """Live time of earlier epochs."""
    epoch_live_ms: int = 0
    seq: int = -1
    running: bool = False
    worker_grant_ms: int = 0
    """The grant that the worker is known to have, within ``epoch``."""
    worker_revision: int | None = None
    """The terms that it lets flow what they pay for; None: it has not said."""
    row: MeterRow | None = None
    """The stored meter; None: not looked up yet."""
    next_post_ms: int = 0
    posted_ns: int = 0
    post_now: bool = False
    asked: bool = False
    """Whether the ledger has been asked since the grant was used up."""
    over_ms: int = 0
    warned: set[int] = dataclasses.field(default_factory=set)
    told: tuple[object, ...] = ()
    """What the last outcome said, to tell a change."""

    @property
    def live_ms(self) -> int:
        return self.base_ms + self.epoch_live_ms

    def enter(self, epoch: int) -> bool:
        """Take in that an event is of ``epoch``; False when that one is over."""
        if epoch > self.epoch:
            self.post_now = self.post_now or self.epoch > 0
            self.base_ms = self.live_ms
            self.epoch, self.epoch_live_ms, self.seq = epoch, 0, -1
            self.worker_grant_ms, self.worker_revision, self.running = 0, None, False
        return epoch == self.epoch

    def adopt(self, epoch: int, base_ms: int, live_ms: int) -> None:
        """Take in what is stored: it may know of time that this process has not seen."""
        if epoch > self.epoch:
            self.epoch, self.epoch_live_ms, self.seq = epoch, live_ms - base_ms, -1
            self.base_ms, self.worker_grant_ms, self.worker_revision, self.running = base_ms, 0, None, False
        elif epoch == self.epoch:
            self.base_ms = base_ms
            self.epoch_live_ms = max(self.epoch_live_ms, live_ms - base_ms)
        else:
            self.base_ms = max(self.base_ms, live_ms)


class Accrual:
    """All sessions of the shards that this process leases."""

    def __init__(self, grant_ms: int, post_every_ms: int) -> None:
        self._grant_ms = grant_ms
        self._post_every_ms = post_every_ms
        self._low_water_ms = grant_ms // 3
        self._sessions: dict[SessionId, _Tracked] = {}
        self._accounts: dict[int, tuple[int, int]] = {}
        """Client account → balance and what of it is available, as last read."""
        self._wallets: dict[int, set[SessionId]] = {}
        """Client account → its sessions here that have a meter."""
        self._loaded: dict[int, int] = {}
        """Shard → lease epoch under which all of its open meters were loaded."""
        self._urgent: set[SessionId] = set()

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def urgent(self) -> frozenset[SessionId]:
        """Sessions that should not wait for the next regular tick: a grant used up, a warning due, a room moved."""
        return frozenset(self._urgent)

    # --- evidence in

    def take(self, event: Event) -> bool:
        """Take in one media event; any order, any number of times. False: it is of one session too many."""
        if not isinstance(event, _METERED):
            return True
        session_id = SessionId(event.session_id)
        one = self._sessions.get(session_id)
        if one is None:
            if len(self._sessions) >= SESSIONS_MAX:
                return False
            one = self._sessions[session_id] = _Tracked()
        moved = one.epoch > 0
        if not one.enter(event.epoch):
            return True
        if moved and one.post_now:
            self._urgent.add(session_id)
        _apply(one, event)
        if one.row is not None and (isinstance(event, GrantUsedUp) or _crossing(one, one.row)):
            self._urgent.add(session_id)
        return True

    def moved(self, session_id: SessionId, epoch: int) -> None:
        """The session's room is gone, or on another worker from ``epoch`` on: what earlier epochs still say of
        themselves is not taken in any more."""
        one = self._sessions.get(session_id)
        if one is not None:
            one.enter(epoch)
            one.running = False

    # --- what is stored

    def keep(self, leases: dict[int, int]) -> None:
        """Forget the sessions of shards that are not leased any more; a lease had anew is loaded anew."""
        gone = {shard for shard, epoch in self._loaded.items() if leases.get(shard) != epoch}
        for shard in gone:
            del self._loaded[shard]
        for session_id in [s for s in self._sessions if shard_of(s) not in leases or shard_of(s) in gone]:
            self.forget(session_id)

    def unloaded(self, leases: dict[int, int]) -> dict[int, int]:
        """The leases whose open meters have to be loaded."""
        return {shard: epoch for shard, epoch in leases.items() if shard not in self._loaded}

    def strangers(self) -> list[SessionId]:
        """Sessions that events speak of but whose meters are not loaded."""
        return [session_id for session_id, one in self._sessions.items() if one.row is None]

    def room_left(self) -> int:
        """How many more sessions may be loaded."""
        return max(0, SESSIONS_MAX - len(self._sessions))

    def loaded(self, rows: Iterable[MeterRow], now_ns: int, shards: dict[int, int] | None = None) -> None:
        """Take in stored meters; with ``shards``, they are all the open ones of those leases."""
        for row in rows:
            one = self._sessions.setdefault(row.session_id, _Tracked())
            one.row = row
            self._wallets.setdefault(row.client_account_id, set()).add(row.session_id)
            one.adopt(row.epoch, row.base_ms, row.live_ms)
            one.next_post_ms, one.posted_ns = row.live_ms + self._period_ms(row.session_id), now_ns
            one.post_now = one.post_now or shards is not None
        if shards is not None:
            self._loaded.update(shards)

    def disown(self, session_ids: Iterable[SessionId]) -> None:
        """Forget the sessions that proved to have no open meter."""
        for session_id in session_ids:
            one = self._sessions.get(session_id)
            if one is not None and one.row is None:
                self.forget(session_id)

    def forget(self, session_id: SessionId) -> None:
        """Track a session no longer."""
        one = self._sessions.pop(session_id, None)
        self._urgent.discard(session_id)
        if one is not None and one.row is not None:
            wallet = one.row.client_account_id
            self._wallets[wallet].discard(session_id)
            if not self._wallets[wallet]:
                del self._wallets[wallet]
                self._accounts.pop(wallet, None)

    def states(self, read: dict[SessionId, MeterState]) -> list[SessionId]:
        """Take in whether meters are open, and balances; the sessions of closed ones are forgotten. Returns those whose
        terms have changed, to be loaded again."""
        changed = []
        for session_id, (still_open, balance_minor, available_minor, revision) in read.items():
            one = self._sessions.get(session_id)
            if one is None or one.row is None:
                continue
            if not still_open:
                self.forget(session_id)
                continue
            self._accounts[one.row.client_account_id] = (balance_minor, available_minor)
            if revision != one.row.revision:
                changed.append(session_id)
        return changed

    def metered(self, only: Collection[SessionId] | None = None) -> list[SessionId]:
        """Sessions with a meter, all or of the named ones."""
        ids = self._sessions if only is None else [s for s in only if s in self._sessions]
        return [session_id for session_id in ids if self._sessions[session_id].row is not None]

    # --- the tick out and in

    def by_wallet(self, only: Collection[SessionId] | None = None) -> list[tuple[int, list[SessionId]]]:
        """Sessions with a meter, all or of the named ones, by client account."""
        wallets: dict[int, list[SessionId]] = {}
        for session_id in self.metered(only):
            row = self._sessions[session_id].row
            if row is not None:
                wallets.setdefault(row.client_account_id, []).append(session_id)
        return list(wallets.items())

    def due(
        self, leases: dict[int, int], now_ns: int, only: Collection[SessionId] | None = None
    ) -> dict[int, list[TickInput]]:
        """What to post now, by client account: all sessions of a wallet at once, so that they share it fairly."""
        wallets: dict[int, list[TickInput]] = {}
        for session_id in self.metered(only):
            one = self._sessions[session_id]
            if one.row is None or one.row.client_account_id in wallets or not self._is_due(one, one.row, now_ns):
                continue
            wallet = one.row.client_account_id
            wallets[wallet] = [self._input(sibling, leases) for sibling in sorted(self._wallets[wallet])]
        return wallets

    def _input(self, session_id: SessionId, leases: dict[int, int]) -> TickInput:
        one = self._sessions[session_id]
        # A lease that was lost meanwhile: 0 is nobody's, so that the ledger refuses.
        return TickInput(session_id, one.epoch, one.base_ms, one.epoch_live_ms, leases.get(shard_of(session_id), 0))

    def undecided(self, session_ids: Collection[SessionId]) -> list[SessionId]:
        """Of these the sessions of wallets of which none is due anyway: what is stored decides about them."""
        known = [(self._sessions[s], self._sessions[s].row) for s in self.metered(session_ids)]
        sure = {row.client_account_id for one, row in known if row is not None and self._is_sure(one, row)}
        return [row.session_id for _, row in known if row is not None and row.client_account_id not in sure]

    def _is_sure(self, one: _Tracked, row: MeterRow) -> bool:
        reached = one.live_ms >= one.next_post_ms or row.granted_ms - one.live_ms <= self._low_water_ms
        return one.post_now or (reached and not row.final_unit)

    def _is_due(self, one: _Tracked, row: MeterRow, now_ns: int) -> bool:
        if self._is_sure(one, row):
            return True
        unposted = cost(row.tariff, one.live_ms) > row.posted_minor
        if row.final_unit:
            # Money that came in since extends the last grant; without any, the ledger has the last word at its end.
            more = self._available(row) > 0 and self._paid_ms(row) > row.granted_ms
            return more or _used_up(one, row)
        waited = now_ns - one.posted_ns >= self._post_every_ms * 1_000_000
        return self._remaining_ms(one, row) < self._grant_ms or (unposted and waited)

    def _period_ms(self, session_id: SessionId) -> int:
        """Live time between two postings: a little below the longest allowed, and other from session to session, so
        that many that were posted at once (after a takeover or an outage) drift apart."""
        return self._post_every_ms - session_id * _SPREAD % max(1, self._post_every_ms // 4)

    def posted(self, results: Iterable[TickResult], now_ns: int) -> tuple[int, list[SessionId]]:
        """What the tick made of the due ones: time (ms) beyond grants that it shows anew, and whose terms changed."""
        over_ms, changed = 0, []
        for result in results:
            one = self._sessions.get(result.session_id)
            if one is None or one.row is None:
                continue
            if result.status != "ok":
                self.forget(result.session_id)
                continue
            one.adopt(result.epoch, result.base_ms, result.live_ms)
            row = one.row
            row.epoch, row.base_ms, row.live_ms = result.epoch, result.base_ms, result.live_ms
            row.granted_ms, row.final_unit = result.granted_ms, result.final_unit
            row.posted_minor, row.held_minor = result.posted_minor, result.held_minor
            if result.revision > row.revision:
                changed.append(result.session_id)
            one.next_post_ms = result.live_ms + self._period_ms(result.session_id)
            one.posted_ns, one.post_now, one.asked = now_ns, False, True
            over_ms += max(0, result.over_ms - one.over_ms)
            one.over_ms = max(one.over_ms, result.over_ms)
            self._accounts[row.client_account_id] = (result.balance_minor, result.available_minor)
            if not result.final_unit:
                one.warned.clear()
            elif one.warned:
                one.warned = {s for s in one.warned if s * 1000 >= result.granted_ms - one.live_ms}
        return over_ms, changed

    # --- outcomes

    def mark(self, session_id: SessionId) -> Mark | None:
        """The newest epoch seen and its live time; None: not tracked, or no room yet."""
        one = self._sessions.get(session_id)
        return None if one is None or one.epoch == 0 else Mark(one.epoch, one.epoch_live_ms)

    def currency(self, session_id: SessionId) -> str:
        """The currency of a session with a meter; empty when it is not tracked."""
        one = self._sessions.get(session_id)
        return "" if one is None or one.row is None else one.row.currency

    def outcomes(self, only: Collection[SessionId] | None = None) -> list[MeterOutcome]:
        """What to tell of each session that runs or has changed since it was told of."""
        return _at_once(self.outcome_steps(only))

    def outcome_steps(self, only: Collection[SessionId] | None = None) -> Steps[list[MeterOutcome]]:
        """``outcomes``, with a pause after every ``STEP`` sessions in which events may be taken in. What the sessions
        of a wallet have cost is taken from one look, so that costs and balances told fit together."""
        costs: dict[SessionId, int] = {}
        unposted: dict[int, int] = {}
        outcomes = []
        for number, session_id in enumerate(self.metered(only), 1):
            one = self._sessions.get(session_id)
            if one is not None and one.row is not None:
                wallet = one.row.client_account_id
                if wallet not in unposted:
                    unposted[wallet] = self._unposted(wallet, costs)
                told = self._outcome_of(session_id, one, one.row, costs.get(session_id, 0), unposted[wallet])
                if told is not None:
                    outcomes.append(told)
            if number % STEP == 0:
                yield
        return outcomes

    def _unposted(self, wallet: int, costs: dict[SessionId, int]) -> int:
        """What the sessions of a wallet have cost beyond what is posted; adds what each has cost to ``costs``."""
        total = 0
        for session_id in self._wallets[wallet]:
            one = self._sessions[session_id]
            if one.row is not None:
                costs[session_id] = _cost_so_far(one, one.row)
                total += costs[session_id] - one.row.posted_minor
        return total

    def _outcome_of(
        self, session_id: SessionId, one: _Tracked, row: MeterRow, cost_minor: int, unposted_minor: int
    ) -> MeterOutcome | None:
        """What to tell of one session; None: it is as it was told before, or nothing is known yet."""
        self._urgent.discard(session_id)
        if one.epoch == 0:
            return None
        outcome = self._outcome(one, row, cost_minor, unposted_minor)
        told = (outcome.live_ms, outcome.granted_live_ms, outcome.running, outcome.balance_minor)
        news = one.running or outcome.grant_changed or outcome.exhausted or told != one.told
        one.told, one.asked = told, False
        return outcome if news else None

    def _outcome(self, one: _Tracked, row: MeterRow, cost_minor: int, unposted_minor: int) -> MeterOutcome:
        balance_minor = self._accounts.get(row.client_account_id, (0, 0))[0]
        granted_ms = max(0, row.granted_ms - one.base_ms)
        crossing = _crossing(one, row)
        one.warned.update(crossing)
        return MeterOutcome(
            tenant_id=row.tenant_id,
            session_id=row.session_id,
            epoch=one.epoch,
            live_ms=one.live_ms,
            running=one.running,
            cost_minor=cost_minor,
            provider_minor=split(row.tariff, cost_minor).provider_minor,
            balance_minor=balance_minor - unposted_minor,
            currency=row.currency,
            granted_live_ms=granted_ms,
            grant_changed=granted_ms > one.worker_grant_ms or _behind(one, row),
            final_unit=row.final_unit,
            remaining_ms=self._remaining_ms(one, row),
            warnings=tuple(crossing[-1:]),
            exhausted=one.asked and row.final_unit and _used_up(one, row),
            kind=row.kind,
            revision=row.revision,
            free_until_ms=row.tariff.after_ms + row.tariff.free_ms + row.tariff.included_ms,
        )

    def _available(self, row: MeterRow) -> int:
        return self._accounts.get(row.client_account_id, (0, 0))[1]

    def _remaining_ms(self, one: _Tracked, row: MeterRow) -> int:
        """How much longer the wallet pays, with what is held for this session and what nobody holds."""
        return max(0, self._paid_ms(row) - one.live_ms)

    def _paid_ms(self, row: MeterRow) -> int:
        """As far as the session could go in all, with what is held for it and what nobody holds."""
        return affordable_ms(row.tariff, row.posted_minor + row.held_minor + self._available(row))


_METERED: Final = (MediaEvidence, MediaStarted, MediaInterrupted, MediaResumed, GrantUsedUp, RoomClosed)


def _apply(one: _Tracked, event: MediaEvent) -> None:
    """Take in an event of the current epoch. ``live_ms`` never falls; what holds at a moment comes with the newest."""
    match event:
        case MediaEvidence():
            one.epoch_live_ms = max(one.epoch_live_ms, event.live_ms)
            if event.seq > one.seq:
                one.seq = event.seq
                one.running = event.running and not event.final
                one.worker_grant_ms = event.granted_live_ms
                one.worker_revision = event.terms_revision
        case GrantUsedUp():
            one.epoch_live_ms = max(one.epoch_live_ms, event.live_ms)
        case RoomClosed():
            one.epoch_live_ms = max(one.epoch_live_ms, event.live_ms)
            one.running = False
        case MediaStarted() | MediaResumed():
            one.running = True
        case MediaInterrupted():
            one.running = False


def _behind(one: _Tracked, row: MeterRow) -> bool:
    """The worker lets flow what older terms pay for: whoever changed them died, or was not heard."""
    return one.worker_revision is not None and row.revision > max(1, one.worker_revision)


def _used_up(one: _Tracked, row: MeterRow) -> bool:
    return one.epoch > 0 and one.live_ms >= row.granted_ms


def _cost_so_far(one: _Tracked, row: MeterRow) -> int:
    """The cost of what has been live, as far as it is granted: no more than that is ever charged."""
    return max(row.posted_minor, cost(row.tariff, min(one.live_ms, row.granted_ms)))


def _crossing(one: _Tracked, row: MeterRow) -> list[int]:
    """The warnings that are due and were not given: only when there is no money beyond this grant."""
    if not row.final_unit or one.epoch == 0 or not one.running:
        return []
    left_ms = row.granted_ms - one.live_ms
    return [seconds for seconds in WARNINGS_S if left_ms <= seconds * 1000 and seconds not in one.warned]
