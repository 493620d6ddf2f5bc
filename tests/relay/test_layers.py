"""Which layer a subscriber gets, what each takes, and which of them a page is asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.layers import (
    HOLD_NS,
    LATE_NS,
    RETELL_NS,
    SILENT_NS,
    LayerDemand,
    LayerMeter,
    TemporalView,
    choose,
    living,
)
from relay.plane import StreamCounters

MS = 1_000_000
ALL = [True, True, True]


def test_a_meter_tells_bitrate_and_frame_rate_of_each_temporal_layer_with_those_below() -> None:
    meter, counters = LayerMeter(), StreamCounters()
    assert meter.view() == (TemporalView(0, 0.0),)
    for i in range(31):
        meter.sample(counters, i * 100 * MS)
        counters.temporal_bytes = [1_000 * i, 500 * i, 0, 0]
        counters.temporal_frames = [i, 2 * i, 0, 0]
    assert meter.view() == (TemporalView(80_000, 10.0), TemporalView(120_000, 30.0))


def test_a_meter_forgets_what_is_more_than_a_second_ago() -> None:
    meter, counters = LayerMeter(), StreamCounters()
    counters.temporal_bytes = [1_000_000, 0, 0, 0]
    for i in range(31):
        meter.sample(counters, i * 100 * MS)
    assert meter.view() == (TemporalView(0, 0.0),)


def test_an_encoding_dies_by_silence_while_another_speaks() -> None:
    assert living([10_000 * MS - SILENT_NS - 1, 10_000 * MS], 10_000 * MS) == [False, True]
    assert living([10_000 * MS - SILENT_NS, 10_000 * MS], 10_000 * MS) == [True, True]
    assert living([0, 10_000 * MS], 10_000 * MS) == [False, True]


def test_when_all_are_silent_none_is_more_dead_than_before() -> None:
    assert living([10_000 * MS, 10_050 * MS], 99_000 * MS) == [True, True]
    assert living([0, 0], 99_000 * MS) == [False, False]


def test_the_best_living_layer_up_to_the_target_is_chosen_else_the_lowest_above() -> None:
    assert choose(ALL, 9) == 2
    assert choose(ALL, 1) == 1
    assert choose([True, False, True], 1) == 0
    assert choose([False, False, True], 1) == 2
    assert choose([False] * 3, 2) is None


@given(st.lists(st.booleans(), min_size=1, max_size=3), st.integers(0, 5))
def test_what_is_chosen_is_alive_and_nothing_better_would_do(alive: list[bool], target: int) -> None:
    chosen = choose(alive, target)
    assert (chosen is None) == (not any(alive))
    if chosen is not None:
        assert alive[chosen]
        assert not any(alive[chosen + 1 : target + 1])


def test_a_layer_that_nobody_takes_goes_on_for_a_while_and_then_rests() -> None:
    demand = LayerDemand(3)
    assert demand.update([2], ALL, 0) is None
    assert demand.update([2], ALL, HOLD_NS - 1) is None
    assert demand.update([2], ALL, HOLD_NS) == frozenset({2})
    assert demand.update([2], [False, False, True], HOLD_NS + 1) is None


def test_a_layer_that_rests_is_asked_for_at_once_when_somebody_takes_it() -> None:
    demand = LayerDemand(3)
    demand.update([2], ALL, 0)
    demand.update([2], ALL, HOLD_NS)
    only_top = [False, False, True]
    assert demand.update([0, 2], only_top, HOLD_NS + 1) == frozenset({0, 2})
    assert demand.update([0, 2], only_top, HOLD_NS + 2) is None
    assert demand.update([0, 2], only_top, HOLD_NS + 1 + RETELL_NS) == frozenset({0, 2}), "it does not come: said again"
    assert demand.update([0, 2], [True, False, True], 2 * HOLD_NS + RETELL_NS) is None
    assert demand.update([2], [True, False, True], 3 * HOLD_NS + RETELL_NS) == frozenset({2})


def test_lower_layers_are_asked_for_in_the_place_of_one_that_does_not_come() -> None:
    demand = LayerDemand(3)
    demand.update([2], ALL, 0)
    demand.update([2], ALL, HOLD_NS)
    nothing = [False] * 3
    now_ns = HOLD_NS + SILENT_NS
    assert demand.update([2], nothing, now_ns) is None
    assert demand.update([2], nothing, now_ns + LATE_NS) == frozenset({1, 2})
    assert demand.update([2], nothing, now_ns + 2 * LATE_NS) == frozenset({0, 1, 2})


def test_pages_are_not_told_more_often_than_something_changes() -> None:
    demand = LayerDemand(2)
    told = [demand.update([i % 2], [True, True], i * 100 * MS) for i in range(300)]
    assert told == [None] * 300, "both are taken within the time that they are kept"
