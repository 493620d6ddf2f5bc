"""The loss-based bound while its tests pause: it asks of nothing that is over, and nothing keeps it where it is."""

from __future__ import annotations

import pytest

from bench.netlink import Conditions
from relay.bandwidth import BandwidthEstimator
from relay.bandwidth_loss import ASK_MAX_NS, ASK_REST_NS, PACKETS_MIN, POLICED_NS, LossBound
from tests.relay.bandwidth_path import Path

MS = 1_000_000
STEP_MS = 100


class Bound:
    """A bound that is told of ``packets`` a second, of which a share is lost, on a queue that stays empty."""

    def __init__(self) -> None:
        self.loss = LossBound()
        self.now_ms = 1_000
        self.estimate_bps = 1_500_000.0

    def run(self, ms: int, packets: int, share: float, *, sent_bps: float = 1_000_000.0) -> Bound:
        owed = lost = 0.0
        for _ in range(0, ms, STEP_MS):
            self.now_ms += STEP_MS
            owed += packets * STEP_MS / 1000
            lost += packets * STEP_MS / 1000 * share
            expected, gone = int(owed), int(lost)
            owed, lost = owed - expected, lost - gone
            estimate_bps = min(self.estimate_bps, self.loss.bound_bps or self.estimate_bps)
            self.loss.update(
                expected,
                gone,
                self.now_ms * MS,
                estimate_bps=estimate_bps,
                sent_bps=sent_bps,
                round_trip_ns=50 * MS,
                queued=False,
                drains=True,
            )
        return self

    def asking(self) -> Bound:
        """A second of loss, for which a test is waited for."""
        self.run(1_000, 100, 0.0)
        while not self.loss.asks:
            self.run(STEP_MS, 100, 0.2)
        return self

    def silence(self, ms: int) -> Bound:
        self.now_ms += ms
        return self


@pytest.mark.parametrize("quiet", ["few packets", "silence"])
def test_what_was_asked_before_a_pause_is_asked_anew_after_it(quiet: str) -> None:
    bound = Bound().asking()
    if quiet == "silence":
        bound.silence(5_000)
    else:
        bound.run(5_000, PACKETS_MIN // 2, 0.0, sent_bps=40_000)
        assert not bound.loss.asks
        assert bound.loss.share == 0
    bound.run(600, 100, 0.2, sent_bps=300_000)
    assert bound.loss.asks
    assert bound.loss.asked[0] == 300_000, "the test goes by what is sent now"
    assert bound.loss.bound_bps is None, "it waits for the test as long as the first time"


def test_a_bound_rises_while_little_is_sent_and_nothing_lost() -> None:
    bound = Bound().run(6_000, 100, 0.35)
    low = bound.loss.bound_bps
    assert low is not None
    assert low < 700_000
    bound.run(3_000, PACKETS_MIN // 2, 0.0)  # the test of sending less ends by itself
    bound.run(30_000, PACKETS_MIN // 2, 0.0)
    assert bound.loss.bound_bps is None or bound.loss.bound_bps > 2 * low


def test_a_bound_does_not_rise_on_what_is_not_counted_yet() -> None:
    bound = Bound().run(2_000, 100, 0.35)
    while (before := bound.loss.bound_bps) is None or bound.loss._counted_ns != bound.now_ms * MS:
        bound.run(STEP_MS, 100, 0.35)
    bound.run(400, 100, 0.0)
    assert bound.loss.bound_bps == before


def test_a_policer_is_not_tried_again_because_little_is_sent() -> None:
    bound = Bound().asking()
    for _ in range(2):
        bound.loss.tested(False, 2_000_000, 700_000, bound.now_ms * MS)
    held = bound.loss.bound_bps
    assert held is not None
    bound.run(POLICED_NS // MS - 1_000, PACKETS_MIN // 2, 0.0)
    assert bound.loss.bound_bps == held
    bound.run(5_000, PACKETS_MIN // 2, 0.0)
    assert (bound.loss.bound_bps or 0) > held


def test_a_test_that_comes_to_nothing_lets_others_have_their_turn() -> None:
    bound = Bound().asking()
    for _ in range(2):
        bound.loss.tested(False, 2_000_000, 700_000, bound.now_ms * MS)
    bound.silence(POLICED_NS // MS)
    bound.run(1_500, 100, 0.07)  # enough to ask of a path that has a bound, too little to fall for
    assert bound.loss.asks
    bound.run(ASK_MAX_NS // MS, 100, 0.07)
    assert not bound.loss.asks
    bound.run(ASK_REST_NS // MS - 1_000, 100, 0.07)
    assert not bound.loss.asks
    bound.run(1_500, 100, 0.07)
    assert bound.loss.asks


def test_where_videos_pause_as_it_asks_the_path_is_at_ease_again() -> None:
    path = Path(conditions=Conditions(loss=0.0)).run(3_000)
    path.set(Conditions(loss=0.2))
    for _ in range(200):
        if path.run(10).estimator.loss.asks:
            break
    assert path.estimator.loss.asks
    path.set(Conditions(loss=0.0))
    path.estimator.cancel_probe(path.now_ms * MS)
    path.source_bps = 0  # sound is left, half of it silence
    packet = path._packet
    path._packet = lambda size, cluster: path.now_ms % 40 == 0 and packet(size, cluster)  # type: ignore[method-assign]
    path.run(4_000)
    assert not path.estimator.loss.asks
    assert path.estimator._at_ease


def test_reports_alone_do_not_wait_for_a_test_that_they_could_not_tell_of() -> None:
    estimator = BandwidthEstimator()
    for second in range(1, 12, 2):
        estimator.report(0.2, 200, 1_000_000, second * 1_000 * MS)
    assert estimator.loss.bound_bps is not None
    assert not estimator.loss.asks
