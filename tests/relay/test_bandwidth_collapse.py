"""A path that suddenly passes a fraction of what it did is known by its first few packets, and nothing else is."""

from __future__ import annotations

import pytest

from bench.netlink import CLEAN, Conditions
from relay.bandwidth import BandwidthEstimator
from relay.bandwidth_collapse import CollapseDetector
from tests.relay.bandwidth_path import MS, Path


def detector(*arrivals_ms: float, each_ms: float = 6) -> CollapseDetector:
    """After packets of 1,250 bytes, sent every ``each_ms``, that arrived at these times."""
    made = CollapseDetector()
    for n, at in enumerate(arrivals_ms):
        made.add(int(n * each_ms * MS), int(at * MS), 1_250)
    return made


def test_packets_that_come_one_by_one_tell_the_rate_of_the_path() -> None:
    rate = detector(0, 100, 200, 300).seen()
    assert rate == pytest.approx(100_000)


def test_one_pause_is_no_collapse() -> None:
    assert detector(0, 6, 12, 300, 301, 302, 303).seen() is None
    assert detector(0, 200, 201, 202).seen() is None


def test_a_delay_that_wanders_is_no_collapse() -> None:
    assert detector(*(n * 18 for n in range(20))).seen() is None


def test_slow_sending_is_no_collapse() -> None:
    assert detector(0, 100, 200, 300, each_ms=100).seen() is None


def test_reordered_packets_begin_anew() -> None:
    assert detector(0, 100, 90, 200).seen() is None


def test_small_packets_that_stalled_twice_are_no_collapse() -> None:
    made = CollapseDetector()
    for sent_ms, arrived_ms in ((0, 0), (20, 110), (40, 245), (60, 246), (80, 247)):
        made.add(sent_ms * MS, arrived_ms * MS, 150)
        assert made.seen() is None


def test_few_packets_that_stalled_twice_are_no_collapse() -> None:
    assert detector(0, 100, 235).seen() is None


def test_gaps_that_do_not_go_with_sizes_need_a_second_feedback() -> None:
    made = detector(0, 30, 150, 170, 300)
    assert made.seen() is None
    assert made.seen() is None, "that is no second feedback"
    made.add(40 * MS, 420 * MS, 1_250)
    assert made.seen() == pytest.approx(133_000, rel=0.05)


def test_what_is_not_confirmed_is_forgotten() -> None:
    made = detector(0, 30, 150, 170, 300)
    assert made.seen() is None
    for n in range(40):
        made.add((400 + n * 6) * MS, (440 + n * 6) * MS, 1_250)
    assert made.seen() is None


def test_gaps_that_go_with_sizes_are_believed_at_once() -> None:
    made = CollapseDetector()
    at_ms = 0.0
    for n, size in enumerate((1_250, 150, 1_250, 150, 1_000)):
        at_ms += size * 8 / 100
        made.add(n * 4 * MS, int(at_ms * MS), size)
    assert made.seen() == pytest.approx(100_000, rel=0.01)


def why(conditions: Conditions, seed: str = "1") -> list[tuple[int, str]]:
    """When, in ms since the path became like this, the estimate changed, and why."""
    found: list[tuple[int, str]] = []
    path = Path(seed=seed)
    path.estimator = BandwidthEstimator(lambda _, **told: found.append((path.now_ms - 4_000, str(told["why"]))))
    path.run(4_000).set(conditions).run(10_000).set(CLEAN).run(2_000)
    return found


def test_a_line_of_a_fifteenth_is_known_within_half_a_second() -> None:
    at_ms, reason = why(Conditions(rate_bps=100_000, buffer_ms=500))[0]
    assert reason == "collapse"
    assert at_ms < 430


@pytest.mark.parametrize("seed", ["1", "2", "3", "4"])
@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(jitter_ms=200),
        Conditions(loss=0.2),
        Conditions(loss=0.05, delay_ms=50),
        Conditions(reorder=0.05, reorder_ms=40, delay_ms=10),
        Conditions(down=True),
    ],
    ids=["jitter200", "loss20", "loss5", "reorder5", "outage"],
)
def test_no_other_bad_network_is_taken_for_a_collapse(conditions: Conditions, seed: str) -> None:
    assert "collapse" not in [reason for _, reason in why(conditions, seed)]
