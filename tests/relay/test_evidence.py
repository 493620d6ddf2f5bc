"""The live clock: what counts, when the gate is open, and that nothing can be gained by gaps."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.evidence import (
    JOINING_MAX_NS,
    LIVENESS_WINDOW_NS,
    PREROLL_MAX_NS,
    ClockEvent,
    ClockState,
    LiveClock,
    Signs,
)

MS = 1_000_000
START = 1_000_000_000_000
WINDOW_MS = LIVENESS_WINDOW_NS // MS


class Call:
    """Two sides and a clock, in milliseconds from the start of the call."""

    def __init__(self, granted_ms: int = 60_000) -> None:
        self.clock = LiveClock(granted_ms)
        self.events: list[ClockEvent] = []
        self.client = Signs()
        self.provider = Signs()

    def at(self, ms: int, *, client: bool = True, provider: bool = True, media: bool = True) -> None:
        """Observe at ``ms``; each side is heard from right then, or not."""
        now = START + ms * MS
        if client:
            self.client = Signs(now, now, self.client.forwarded + 1)
        if provider:
            sent = now if media else self.provider.media_ns
            self.provider = Signs(now, sent, self.provider.forwarded + 1)
        self.events += self.clock.observe(self.client, self.provider, now)

    def run(self, first: int, last: int, step: int = 250, **sides: bool) -> None:
        for ms in range(first, last + 1, step):
            self.at(ms, **sides)


def test_clock_starts_when_packets_were_forwarded_both_ways() -> None:
    call = Call()
    call.at(0, provider=False)
    call.at(1000, provider=False)
    assert call.clock.state is ClockState.WAITING
    assert call.clock.gate_open
    call.run(2000, 3000)
    assert call.events == [ClockEvent.STARTED]
    assert call.clock.live_ms == 1000


def test_gate_is_closed_before_any_grant() -> None:
    call = Call(granted_ms=0)
    call.at(0)
    assert not call.clock.gate_open


def test_one_way_media_before_the_start_is_limited() -> None:
    call = Call()
    call.run(0, PREROLL_MAX_NS // MS + 500, client=False)
    assert not call.clock.gate_open
    call.client = Signs(START + 20_000 * MS, START + 20_000 * MS, 0)
    call.at(20_000, client=False)
    assert call.clock.gate_open, "the other side sends now: let it through, so that the clock can start"


def test_client_whose_packets_are_never_forwarded_watches_for_seconds_at_most() -> None:
    call = Call()
    open_ms = 0
    for ms in range(0, 120_000, 50):
        now = START + ms * MS
        if call.clock.gate_open:
            open_ms += 50
            call.provider = Signs(now, now, call.provider.forwarded + 1)
        call.events += call.clock.observe(Signs(now, now, 0), Signs(now, now, call.provider.forwarded), now)
    assert call.events == []
    assert open_ms <= (PREROLL_MAX_NS + JOINING_MAX_NS) // MS + 100


def test_short_silence_counts_once_it_is_over() -> None:
    call = Call()
    call.run(0, 2000)
    call.run(2250, 6500, client=False)
    assert call.clock.live_ms == 2000
    call.at(6750)
    assert call.clock.live_ms == 6750
    assert ClockEvent.INTERRUPTED not in call.events


def test_silence_of_who_stays_away_costs_nothing_from_its_first_moment() -> None:
    call = Call()
    call.run(0, 2000)
    call.run(2250, 8000, client=False)
    assert call.clock.state is ClockState.PAUSED
    assert call.clock.silent == "client"
    assert not call.clock.gate_open
    assert call.clock.live_ms == 2000
    call.clock.close(START + 9000 * MS)
    assert call.clock.live_ms == 2000


def test_client_who_comes_back_pays_for_what_was_forwarded_in_their_silence() -> None:
    call = Call()
    call.run(0, 2000)
    call.run(2250, 9750, client=False)
    call.run(10_000, 11_000)
    assert call.events == [ClockEvent.STARTED, ClockEvent.INTERRUPTED, ClockEvent.RESUMED]
    assert call.clock.live_ms == 2000 + WINDOW_MS + 1000


def test_showing_a_packet_every_window_and_a_bit_is_no_free_call() -> None:
    call = Call(granted_ms=3_600_000)
    call.run(0, 1000)
    free_ms, last_ms = 0, 1000
    for ms in range(1050, 600_000, 50):
        free_ms += 50 * call.clock.gate_open
        call.at(ms, client=ms - last_ms >= WINDOW_MS + 150)
        last_ms = ms if ms - last_ms >= WINDOW_MS + 150 else last_ms
    assert free_ms > 570_000
    late_ms = 50 * call.events.count(ClockEvent.INTERRUPTED)  # nobody looks more often here
    assert free_ms - call.clock.live_ms < WINDOW_MS + late_ms


def test_provider_who_shows_a_packet_now_and_then_earns_nothing_by_it() -> None:
    call = Call(granted_ms=3_600_000)
    call.run(0, 1000)
    for ms in range(1050, 600_000, 50):
        call.at(ms, provider=ms % (WINDOW_MS + 150) == 0)
    assert call.clock.live_ms < 1000 + WINDOW_MS


def test_where_both_fell_silent_time_counts_up_to_the_providers_last_sign() -> None:
    call = Call()
    call.run(0, 2000)
    call.run(2250, 3000, client=False)
    call.run(3250, 12_000, client=False, provider=False)
    call.run(12_250, 12_250)
    assert call.clock.live_ms == 3000


def test_silence_that_nobody_looked_at_in_time_is_still_silence() -> None:
    call = Call()
    call.run(0, 2000)
    call.at(2000 + WINDOW_MS + 1)
    assert call.events[1:] == [ClockEvent.INTERRUPTED, ClockEvent.RESUMED]
    assert call.clock.live_ms == 2000, "what is not known of the provider is not counted"


def test_provider_who_sends_nothing_and_declares_nothing_stops_the_clock() -> None:
    call = Call()
    call.run(0, 2000)
    call.run(2250, 9000, media=False)
    assert call.clock.state is ClockState.PAUSED
    assert call.clock.silent == "provider"
    assert call.clock.live_ms == 2000


def test_declared_mute_keeps_the_clock_running() -> None:
    call = Call()
    call.run(0, 2000)
    call.clock.declare_provider_muted(True, START + 2000 * MS)
    call.run(2250, 20_000, media=False)
    assert call.clock.live_ms == 20_000
    call.clock.declare_provider_muted(False, START + 20_000 * MS)
    call.run(20_250, 24_000, media=False)
    assert call.clock.running, "there is time to unmute"
    call.run(24_250, 26_000, media=False)
    assert call.clock.state is ClockState.PAUSED


def test_grant_ends_to_the_millisecond_by_the_timer() -> None:
    call = Call(granted_ms=1500)
    call.run(0, 1400, step=100)
    due = call.clock.next_timer_ns()
    assert due == START + 1500 * MS
    assert call.clock.handle_timer(due - 1) == []
    assert call.clock.gate_open
    call.clock.handle_timer(due)
    assert not call.clock.gate_open
    call.at(1520)
    assert call.events[-1] is ClockEvent.USED_UP
    assert call.clock.live_ms == 1500


def test_side_that_was_silent_when_the_grant_ended_owes_it_only_by_coming_back() -> None:
    for client, expected in ((True, 1000), (False, 2000)):  # whose silence it was: the provider's, the client's
        gone, back = Call(granted_ms=2000), Call(granted_ms=2000)
        for call in (gone, back):
            call.run(0, 1000)
            call.run(1250, 9000, client=client, provider=not client)
            assert call.clock.state is ClockState.PAUSED
            assert not call.clock.gate_open
            assert call.clock.live_ms == 1000
        back.run(9250, 9500)
        assert back.clock.live_ms == (1250 if client else expected)
        assert (ClockEvent.USED_UP in back.events) is not client
        gone.clock.close(START + 9500 * MS)
        assert gone.clock.live_ms == 1000


def test_grant_raised_at_the_instant_it_ends_goes_on_without_a_word() -> None:
    call = Call(granted_ms=1500)
    call.run(0, 1400, step=100)
    call.clock.handle_timer(START + 1500 * MS)
    assert call.clock.set_grant(3000, START + 1510 * MS) == []
    call.run(1520, 2020)
    assert call.events == [ClockEvent.STARTED]
    assert call.clock.live_ms == 2000, "all but the instant in which the gate was closed"


def test_raised_grant_reopens_the_gate_and_counts_on() -> None:
    call = Call(granted_ms=1000)
    call.run(0, 2000)
    assert call.clock.state is ClockState.USED_UP
    assert call.clock.set_grant(3000, START + 2000 * MS) == []
    assert call.clock.gate_open
    call.run(2250, 2500)
    assert call.clock.live_ms == 1500
    assert call.clock.set_grant(100, START + 2500 * MS) == []
    assert call.clock.granted_live_ms == 3000


def test_raised_grant_while_a_side_is_gone_keeps_the_gate_closed() -> None:
    call = Call(granted_ms=1000)
    call.run(0, 2000)
    call.run(2250, 9000, client=False)
    assert call.clock.set_grant(5000, START + 9000 * MS) == [ClockEvent.INTERRUPTED]
    assert not call.clock.gate_open


def test_closing_counts_what_is_confirmed_and_ends() -> None:
    call = Call()
    call.run(0, 1000)
    call.clock.close(START + 1100 * MS)
    call.clock.close(START + 9100 * MS)
    assert call.clock.live_ms == 1000
    assert not call.clock.gate_open


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 60_000),
    st.lists(
        st.tuples(
            st.integers(1, 7_000), st.booleans(), st.booleans(), st.booleans(), st.sampled_from([None, True, False])
        ),
        max_size=40,
    ),
)
def test_live_time_never_falls_nor_exceeds_what_both_sides_lived(
    granted_ms: int, steps: list[tuple[int, bool, bool, bool, bool | None]]
) -> None:
    call = Call(granted_ms)
    ms, last_live, started_ms = 0, 0, None
    both: list[int] = []
    for wait, client, provider, media, mute in steps:
        ms += wait
        now = START + ms * MS
        if mute is not None:
            call.clock.declare_provider_muted(mute, now)
        call.clock.handle_timer(now)
        call.at(ms, client=client, provider=provider, media=media)
        if started_ms is None and ClockEvent.STARTED in call.events:
            started_ms = ms
        if started_ms is not None:
            both.append(min(call.client.alive_ns, call.provider.alive_ns) // MS - START // MS)
        live = call.clock.live_ms
        assert last_live <= live <= granted_ms
        last_live = live
    lived = 0
    if started_ms is not None:
        marks = [started_ms, *(mark for mark in both if mark > started_ms)]
        gaps = [b - a for a, b in itertools.pairwise(marks)]
        # Of a silence that was too long, a window at most was forwarded, and counts if it was the client's.
        lived = sum(min(gap, WINDOW_MS) for gap in gaps)
    assert last_live <= lived


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 120_000),
    st.lists(st.tuples(st.integers(1, 12_000), st.integers(0, 3_000)), max_size=25),
    st.lists(st.tuples(st.integers(0, 150_000), st.integers(0, 60_000)), max_size=3),
)
def test_all_that_is_forwarded_is_billed_but_one_window_whatever_signs_the_client_gives(
    granted_ms: int, visits: list[tuple[int, int]], raises: list[tuple[int, int]]
) -> None:
    """``visits``: (silent for, then there for); ``raises``: (when, by how much)."""
    call = Call(granted_ms)
    shown: set[int] = set()
    end_ms = 0
    for silent_ms, there_ms in visits:
        shown.update(range(end_ms + silent_ms, end_ms + silent_ms + there_ms + 1, 20))
        end_ms += silent_ms + there_ms
    forwarded_ns, was = 0, START
    for ms in sorted({*range(0, end_ms + 7_000, 50), *shown}):
        now = START + ms * MS
        while (due := call.clock.next_timer_ns()) is not None and due < now:  # the room's timers are exact
            forwarded_ns, was = forwarded_ns + max(0, due - was), max(was, due)
            call.clock.handle_timer(due)
        if call.clock.gate_open and call.clock.state is not ClockState.WAITING:
            forwarded_ns += now - was
        was = now
        for at_ms, by_ms in raises:
            if ms - 50 < at_ms <= ms:
                call.clock.set_grant(call.clock.granted_live_ms + by_ms, now)
        call.at(ms, client=ms in shown)
        assert call.clock.live_ms <= call.clock.granted_live_ms
        assert call.clock.live_ms * MS <= forwarded_ns, "nothing is billed that was not forwarded"
    late_ns = 60 * MS * (len(visits) + len(raises) + 1)  # what is not known of the provider, 50 ms ago at most
    assert forwarded_ns - call.clock.live_ms * MS <= LIVENESS_WINDOW_NS + late_ns
