"""The table of transitions, as a pure function."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.lifecycle import IN_CALL, LIVE, OVER, Limits, State, Step, Trigger, Verdict, step

LIMITS = Limits(ring_timeout_ms=30_000, connect_timeout_ms=20_000, return_timeout_ms=60_000)
PEOPLE = (Trigger.CLIENT_END, Trigger.PROVIDER_END)


def go(*triggers: Trigger, now_ms: int = 0) -> Step:
    at = Step(Verdict.CHANGED, State.REQUESTED, None, LIMITS.ring_timeout_ms)
    for trigger in triggers:
        at = step(at.state, at.deadline_at_ms, trigger, now_ms, LIMITS)
    return at


CALL = (Trigger.RING, Trigger.ACCEPT, Trigger.ROOM_OPENED, Trigger.MEDIA_FLOWS)


def test_a_call_passes_through_all_live_states() -> None:
    assert [go(*CALL[:n]).state for n in range(5)] == [
        State.REQUESTED,
        State.RINGING,
        State.ACCEPTED,
        State.CONNECTING,
        State.ACTIVE,
    ]


@given(st.lists(st.tuples(st.sampled_from(Trigger), st.integers(0, 200_000)), max_size=30))
def test_over_is_for_good_and_every_end_has_a_reason(happenings: list[tuple[Trigger, int]]) -> None:
    at, now = Step(Verdict.CHANGED, State.REQUESTED, None, LIMITS.ring_timeout_ms), 0
    for trigger, passed_ms in happenings:
        now += passed_ms
        after = step(at.state, at.deadline_at_ms, trigger, now, LIMITS)
        if at.state in OVER:
            assert after.verdict is not Verdict.CHANGED
        if after.verdict is Verdict.CHANGED:
            assert (after.end_reason is not None) == (after.state in OVER)
            assert after.state is not at.state
            at = after
        else:
            assert (after.state, after.deadline_at_ms) == (at.state, at.deadline_at_ms)


@given(st.sampled_from(sorted(LIVE)), st.sampled_from(PEOPLE), st.integers(0, 10**15))
def test_either_side_can_end_a_session_at_any_time_after_it_rings(state: State, by: Trigger, now_ms: int) -> None:
    after = step(state, None, by, now_ms, LIMITS)
    if state is State.REQUESTED and by is Trigger.PROVIDER_END:
        assert after.verdict is Verdict.REFUSED  # the provider has not heard of it
    else:
        assert after.verdict is Verdict.CHANGED
        assert after.state in OVER


@pytest.mark.parametrize("state", sorted(LIVE - {State.ACTIVE}))
def test_every_state_that_waits_ends_by_itself(state: State) -> None:
    deadline = LIMITS.of(state)
    assert deadline is not None
    assert step(state, deadline, Trigger.DEADLINE, deadline - 1, LIMITS).verdict is Verdict.UNCHANGED
    assert step(state, deadline, Trigger.DEADLINE, deadline, LIMITS).state in OVER


def test_an_active_call_has_no_deadline() -> None:
    assert go(*CALL).deadline_at_ms is None
    assert go(*CALL, Trigger.DEADLINE, now_ms=10**12).state is State.ACTIVE


def test_opening_the_room_does_not_extend_the_time_to_connect() -> None:
    accepted = step(State.RINGING, 30_000, Trigger.ACCEPT, 1_000, LIMITS)
    opened = step(accepted.state, accepted.deadline_at_ms, Trigger.ROOM_OPENED, 9_000, LIMITS)
    assert opened.deadline_at_ms == accepted.deadline_at_ms == 21_000


def test_a_second_interruption_notice_keeps_the_first_deadline() -> None:
    halted = step(State.ACTIVE, None, Trigger.MEDIA_HALTS, 5_000, LIMITS)
    again = step(halted.state, halted.deadline_at_ms, Trigger.MEDIA_HALTS, 50_000, LIMITS)
    assert (again.verdict, again.deadline_at_ms) == (Verdict.UNCHANGED, 65_000)
    assert step(State.INTERRUPTED, 65_000, Trigger.MEDIA_FLOWS, 60_000, LIMITS).deadline_at_ms is None


@pytest.mark.parametrize("trigger", [Trigger.CANCEL, Trigger.CLIENT_END, Trigger.PROVIDER_END])
@pytest.mark.parametrize("state", sorted(OVER))
def test_ending_what_is_over_changes_nothing(state: State, trigger: Trigger) -> None:
    assert step(state, None, trigger, 0, LIMITS).verdict is Verdict.UNCHANGED


@pytest.mark.parametrize("state", sorted(OVER))
def test_nobody_can_accept_what_is_over(state: State) -> None:
    assert step(state, None, Trigger.ACCEPT, 0, LIMITS).verdict is Verdict.REFUSED


@pytest.mark.parametrize("state", sorted(IN_CALL))
def test_a_second_accept_finds_the_call(state: State) -> None:
    assert step(state, None, Trigger.ACCEPT, 0, LIMITS).verdict is Verdict.UNCHANGED


def test_a_room_opened_for_a_session_that_is_over_is_refused() -> None:
    for state in OVER:
        assert step(state, None, Trigger.ROOM_OPENED, 0, LIMITS).verdict is Verdict.REFUSED


def test_late_media_does_not_wake_a_session_that_is_over() -> None:
    for state in OVER:
        for trigger in (Trigger.MEDIA_FLOWS, Trigger.MEDIA_HALTS, Trigger.ROOM_LOST, Trigger.MONEY_USED_UP):
            assert step(state, None, trigger, 0, LIMITS).verdict is Verdict.UNCHANGED
