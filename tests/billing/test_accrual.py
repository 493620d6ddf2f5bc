"""The meter's core, without a database: evidence in, due postings and outcomes out."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import accrual
from billing.accrual import Accrual
from billing.money import Tariff, cost
from billing.terms import MeterRow, MeterState, TickResult
from config.ids import SessionId, TenantId
from relay.messages import GrantUsedUp, MediaEvidence, MediaStarted, TrackStarted
from tests.billing.worlds import evidence

TARIFF = Tariff(600, 7_000)
LEASES = {shard: 1 for shard in range(64)}
SECOND = 1_000_000_000


def row(session_id: int = 1, **changes: int | bool) -> MeterRow:
    base = MeterRow(TenantId(1), SessionId(session_id), "USD", 10, TARIFF, 0, 0, 0, 90_000, 0, 900, False)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def result(of: MeterRow, live_ms: int, granted_ms: int, *, final: bool = False, status: str = "ok") -> TickResult:
    posted = cost(TARIFF, live_ms)
    held = cost(TARIFF, granted_ms) - posted
    return TickResult(
        of.session_id, status, 1, 0, live_ms, live_ms, granted_ms, posted, 0, held, final, 5_000 - posted, 0, posted, 0
    )


def core_with(*rows: MeterRow, balance: int = 5_000, available: int = 4_000) -> Accrual:
    core = Accrual(90_000, 60_000)
    core.loaded(rows, 0)
    core.states({one.session_id: MeterState(True, balance, available, 1) for one in rows})
    return core


def due(core: Accrual, now_ns: int = 0) -> list[int]:
    return [one.session_id for sessions in core.due(LEASES, now_ns).values() for one in sessions]


def test_a_session_is_due_a_little_before_each_minute_of_live_time() -> None:
    core = core_with(row(granted_ms=900_000, held_minor=9_000))
    core.take(evidence(1, 44_999))
    assert due(core) == []
    core.take(evidence(1, 60_000))
    assert due(core) == [1]
    core.posted([result(row(), 60_000, 900_000)], 0)
    assert due(core) == []


def test_postings_of_sessions_that_began_together_are_staggered() -> None:
    rows = [row(n, client_account_id=n, granted_ms=900_000, held_minor=9_000) for n in range(1, 101)]
    core = core_with(*rows)
    first_due: dict[int, int] = {}
    for live_ms in range(40_000, 61_000, 1_000):
        for n in range(1, 101):
            core.take(evidence(n, live_ms))
        for session_id in due(core):
            first_due.setdefault(session_id, live_ms)
    assert len(first_due) == 100
    assert max(list(first_due.values()).count(t) for t in set(first_due.values())) <= 12


def test_a_grant_that_runs_low_is_extended_early() -> None:
    core = core_with(row(granted_ms=50_000))
    core.take(evidence(1, 19_000))
    assert due(core) == []
    core.take(evidence(1, 20_000))
    assert due(core) == [1]


def test_what_has_accrued_is_posted_after_a_minute_of_standstill() -> None:
    core = core_with(row())
    core.take(evidence(1, 20_000, running=False))
    assert due(core, 59 * SECOND) == []
    assert due(core, 60 * SECOND) == [1]


def test_nothing_is_posted_for_a_session_without_live_time() -> None:
    core = core_with(row())
    core.take(evidence(1, 0))
    assert due(core, 600 * SECOND) == []


def test_all_sessions_of_a_wallet_are_due_together() -> None:
    core = core_with(row(1), row(2), row(3, client_account_id=11))
    core.take(evidence(1, 60_000))
    core.take(evidence(2, 5_000))
    core.take(evidence(3, 5_000))
    assert sorted(due(core)) == [1, 2]


def test_the_final_unit_asks_the_ledger_only_when_money_came_or_time_is_up() -> None:
    core = core_with(row(final_unit=True), available=0)
    core.take(evidence(1, 80_000))
    assert due(core) == []
    core.states({SessionId(1): MeterState(True, 5_000, 1, 1)})
    assert due(core) == [1]
    core.states({SessionId(1): MeterState(True, 5_000, 0, 1)})
    core.take(evidence(1, 90_000))
    assert due(core) == [1]


def test_exhausted_is_said_only_after_the_ledger_was_asked() -> None:
    of = row(final_unit=True)
    core = core_with(of, available=0)
    core.take(evidence(1, 90_000, running=False))
    assert [o.exhausted for o in core.outcomes()] == [False]
    core.posted([result(of, 90_000, 90_000, final=True)], 0)
    assert [o.exhausted for o in core.outcomes()] == [True]


def test_warnings_come_once_each_and_only_in_the_final_unit() -> None:
    core = core_with(row(final_unit=True), available=0)
    warned = []
    for live_ms in range(1_000, 91_000, 1_000):
        core.take(evidence(1, live_ms))
        warned += [(90_000 - live_ms, o.warnings) for o in core.outcomes() if o.warnings]
    assert warned == [(60_000, (60,)), (30_000, (30,)), (10_000, (10,))]
    early = core_with(row())
    early.take(evidence(1, 85_000))
    assert [o.warnings for o in early.outcomes()] == [()]


def test_a_late_look_gives_only_the_warning_that_is_true_now() -> None:
    core = core_with(row(final_unit=True), available=0)
    core.take(evidence(1, 82_000))
    assert core.urgent == {1}
    assert [o.warnings for o in core.outcomes()] == [(10,)]
    assert core.urgent == frozenset()
    assert [o.warnings for o in core.outcomes()] == [()]


def test_a_lost_grant_is_sent_again_until_the_worker_has_it() -> None:
    core = core_with(row(granted_ms=150_000, held_minor=1_500))
    core.take(evidence(1, 50_000, granted_ms=90_000))
    assert [o.grant_changed for o in core.outcomes()] == [True]
    assert [o.grant_changed for o in core.outcomes()] == [True]
    core.take(evidence(1, 51_000, granted_ms=150_000))
    assert [o.grant_changed for o in core.outcomes()] == [False]


def test_a_used_up_grant_is_urgent() -> None:
    core = core_with(row())
    core.take(evidence(1, 10_000))
    assert core.urgent == frozenset()
    core.take(GrantUsedUp(tenant_id=1, session_id=1, epoch=1, worker_id="w", at_ms=0, live_ms=90_000))
    assert core.urgent == {1}
    assert due(core) == [1]


def test_balance_shown_is_posted_less_all_that_has_accrued_on_the_wallet() -> None:
    core = core_with(row(1), row(2))
    core.take(evidence(1, 10_000))
    core.take(evidence(2, 20_000))
    assert {(o.cost_minor, o.balance_minor) for o in core.outcomes()} == {(100, 4_700), (200, 4_700)}


def test_cost_shown_never_exceeds_the_grant() -> None:
    core = core_with(row())
    core.take(evidence(1, 200_000))
    (outcome,) = core.outcomes()
    assert (outcome.cost_minor, outcome.live_ms) == (900, 200_000)


def test_sessions_of_lost_leases_are_forgotten() -> None:
    core = core_with(row(1), row(2))
    core.loaded([], 0, {1: 5, 2: 5})
    core.keep({2: 5})
    assert core.metered() == [2]
    core.keep({2: 6})
    assert core.metered() == []
    assert core.unloaded({2: 6}) == {2: 6}


@pytest.mark.parametrize("status", ["settled", "fenced"])
def test_sessions_that_are_not_ours_to_meter_are_forgotten(status: str) -> None:
    core = core_with(row())
    core.take(evidence(1, 60_000))
    core.posted([result(row(), 60_000, 90_000, status=status)], 0)
    assert core.outcomes() == []


def test_events_that_do_not_meter_make_no_session() -> None:
    core = core_with()
    core.take(
        TrackStarted(
            tenant_id=1, session_id=9, epoch=1, worker_id="w", at_ms=0, user_id=1, source="camera", codec="VP8"
        )
    )
    assert len(core) == 0


def test_the_number_of_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accrual, "SESSIONS_MAX", 10)
    core = core_with()
    taken = [core.take(MediaStarted(tenant_id=1, session_id=n, epoch=1, worker_id="w", at_ms=0)) for n in range(25)]
    assert (len(core), taken.count(False), core.room_left()) == (10, 15, 0)


steps = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 100_000)), min_size=1, max_size=30)


@given(steps, st.randoms(use_true_random=False))
def test_live_time_is_the_same_in_any_order_within_an_epoch_and_never_falls(
    steps: list[tuple[int, int]], random: object
) -> None:
    """Epochs come in order; within each, evidence may be shuffled and repeated."""
    by_epoch = {epoch: [live_ms for e, live_ms in steps if e == epoch] for epoch in (1, 2, 3)}
    core = core_with(row(granted_ms=10**9, held_minor=10**7))
    shown = 0
    for epoch, lives in by_epoch.items():
        shuffled = [*lives, *lives]
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        for live_ms in shuffled:
            core.take(evidence(1, live_ms, epoch=epoch))
            core.take(evidence(1, 10**8, epoch=epoch - 1) if epoch > 1 and by_epoch[epoch - 1] else _nothing())
            (mark,) = [core.mark(SessionId(1))]
            assert mark is not None
            total = sum(max(by_epoch[e], default=0) for e in range(1, epoch)) + mark.live_ms
            assert total >= shown
            shown = total
    (outcome,) = core.outcomes()
    assert outcome.live_ms == sum(max(lives, default=0) for lives in by_epoch.values())


def _nothing() -> MediaEvidence:
    return evidence(1, 0, epoch=0)


def test_costs_and_balances_fit_together_though_events_come_in_between_two_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accrual, "STEP", 1)
    core = core_with(row(1), row(2), row(3, client_account_id=11))
    for session_id in (1, 2, 3):
        core.take(evidence(session_id, 10_000))
    steps = core.outcome_steps()
    next(steps)
    core.take(evidence(2, 50_000))
    core.forget(SessionId(3))
    told = list[int]()
    try:
        while True:
            next(steps)
    except StopIteration as done:
        outcomes = {outcome.session_id: outcome for outcome in done.value}
        told = sorted(outcomes)
    assert told == [1, 2], "what was forgotten meanwhile is not told of"
    assert {outcomes[SessionId(n)].balance_minor for n in told} == {5_000 - 200}
    assert {outcomes[SessionId(n)].cost_minor for n in told} == {100}
    assert {o.cost_minor for o in core.outcomes([SessionId(2)])} == {500}


def test_what_is_known_of_a_wallet_goes_with_its_last_session() -> None:
    core = core_with(row(1), row(2))
    assert core.by_wallet() == [(10, [1, 2])]
    assert core.by_wallet([SessionId(2), SessionId(9)]) == [(10, [2])]
    core.forget(SessionId(1))
    core.forget(SessionId(2))
    core.forget(SessionId(2))
    assert core.by_wallet() == []
    assert due(core) == []
