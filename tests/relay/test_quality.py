"""The connection score: falls at once, rises slowly."""

from __future__ import annotations

from relay.quality import Measured, QualityScore, rating

GOOD = Measured(rtt_ms=40, jitter_ms=3)
BAD = Measured(rtt_ms=40, loss_up=0.12)


def test_score_falls_at_once_and_rises_slowly() -> None:
    quality = QualityScore()
    assert quality.update(GOOD) == 5
    assert quality.update(BAD) == 1
    rising = [quality.update(GOOD) for _ in range(12)]
    assert rising[0] < 4
    assert rising == sorted(rising)
    assert rising[-1] == 5


def test_side_that_is_gone_has_the_worst_score() -> None:
    assert QualityScore().update(None) == 1


def test_loss_weighs_more_than_delay() -> None:
    assert rating(Measured(loss_down=0.05)) < rating(Measured(rtt_ms=500)) < rating(GOOD) == 100


def test_rating_stays_in_bounds() -> None:
    assert rating(Measured(rtt_ms=1e6, loss_up=1, loss_down=1, jitter_ms=1e6)) == 0
