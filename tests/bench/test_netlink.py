"""The link model: luck from a seed, a rate that is never passed, an order that is kept unless it is asked otherwise."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.netlink import CLEAN, MS, UDP_OVERHEAD, Conditions, Link

PACKETS = st.lists(st.tuples(st.integers(1, 1300), st.integers(0, 30)), min_size=1, max_size=120)
"""(bytes, ms since the packet before)."""

BAD = Conditions(loss=0.2, delay_ms=20, jitter_ms=100, reorder=0.1, duplicate=0.1, rate_bps=400_000)


def fates(link: Link, packets: list[tuple[int, int]]) -> list[tuple[int, ...]]:
    """When each packet arrives, sent at its time."""
    now_ns, made = 5_000 * MS, []
    for size, gap_ms in packets:
        now_ns += gap_ms * MS
        made.append(link.send(size, now_ns))
    return made


def test_perfect_link_delivers_at_once() -> None:
    assert fates(Link("s"), [(100, 0), (1200, 3)]) == [(5_000 * MS,), (5_003 * MS,)]


@given(PACKETS)
def test_same_seed_same_fate(packets: list[tuple[int, int]]) -> None:
    assert fates(Link("a", BAD), packets) == fates(Link("a", BAD), packets)


def test_other_seed_other_fate() -> None:
    packets = [(100, 1)] * 50
    assert fates(Link("a", BAD), packets) != fates(Link("b", BAD), packets)


def test_other_settings_leave_the_luck_of_loss_alone() -> None:
    packets = [(100, 5)] * 200
    lossy = Conditions(loss=0.3)
    lost = [i for i, times in enumerate(fates(Link("a", lossy), packets)) if not times]
    again = replace(lossy, delay_ms=30, jitter_ms=50, reorder=0.2, duplicate=0.2)
    assert [i for i, times in enumerate(fates(Link("a", again), packets)) if not times] == lost


def test_loss_is_as_frequent_as_asked() -> None:
    link = Link("a", Conditions(loss=0.2))
    fates(link, [(100, 1)] * 5_000)
    assert 900 < link.stats.lost < 1_100


@given(PACKETS, st.integers(20_000, 2_000_000), st.integers(0, 1_000))
def test_rate_is_never_passed_and_nothing_waits_longer_than_the_buffer(
    packets: list[tuple[int, int]], rate_bps: int, buffer_ms: int
) -> None:
    link = Link("a", Conditions(rate_bps=rate_bps, buffer_ms=buffer_ms))
    now_ns, bits, begun_ns = 0, 0, 0
    for size, gap_ms in packets:
        now_ns += gap_ms * MS
        if not bits:
            begun_ns = now_ns
        for arrives_ns in link.send(size, now_ns):
            bits += (size + UDP_OVERHEAD) * 8
            assert bits * 1_000_000_000 <= rate_bps * (arrives_ns - begun_ns)
            alone_ns = (size + UDP_OVERHEAD) * 8 * 1_000_000_000 // rate_bps + 1
            assert arrives_ns - now_ns <= buffer_ms * MS + alone_ns


def test_full_queue_drops_the_newest() -> None:
    link = Link("a", Conditions(rate_bps=80_000, buffer_ms=100))
    got = fates(link, [(972, 0)] * 5)  # each takes 100 ms
    assert [bool(times) for times in got] == [True, True, False, False, False]
    assert link.stats.overflowed == 3
    assert link.stats.queue_ms_max == 100


@given(PACKETS, st.sampled_from([CLEAN, Conditions(jitter_ms=200), Conditions(delay_ms=50, jitter_ms=80, loss=0.1)]))
def test_order_is_kept_where_none_is_held_back(packets: list[tuple[int, int]], conditions: Conditions) -> None:
    arrivals = [t for times in fates(Link("a", conditions), packets) for t in times]
    assert arrivals == sorted(arrivals)


def test_order_is_kept_when_conditions_become_better() -> None:
    link = Link("a", Conditions(delay_ms=200))
    (late,) = link.send(100, 0)
    link.conditions = CLEAN
    assert link.send(100, MS) == (late,)


def test_jitter_wanders_over_its_whole_range() -> None:
    link = Link("a", Conditions(jitter_ms=200))
    delays = [link.send(100, n * 10 * MS)[0] - n * 10 * MS for n in range(2_000)]
    assert min(delays) < 20 * MS
    assert 170 * MS < max(delays) <= 200 * MS


def test_reordered_packet_is_overtaken() -> None:
    link = Link("a", Conditions(reorder=0.2, reorder_ms=40))
    arrivals = [times[0] for times in fates(link, [(100, 2)] * 300)]
    overtaken = sum(later < earlier for earlier, later in itertools.pairwise(arrivals))
    assert 30 < overtaken <= link.stats.reordered < 90


def test_duplicate_arrives_twice_and_outage_takes_everything() -> None:
    link = Link("a", Conditions(duplicate=1.0))
    assert link.send(10, 0) == (0, 0)
    link.conditions = Conditions(down=True)
    assert link.send(10, 1) == ()
    assert (link.stats.packets, link.stats.duplicated, link.stats.lost) == (2, 1, 1)


@pytest.mark.parametrize("seconds", [3_600, 10_000_000])
def test_long_silence_costs_nothing(seconds: int) -> None:
    link = Link("a", Conditions(jitter_ms=100))
    now_ns = seconds * 1_000 * MS
    (arrives_ns,) = link.send(10, now_ns)
    assert 0 <= arrives_ns - now_ns <= 100 * MS
