"""Opinion scores: the E-model's own figures, and what must hold of any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mos import (
    audio_mos,
    audio_rating,
    call_mos,
    delay_impairment,
    loss_impairment,
    mos_of_rating,
    score_of,
    video_mos,
)


@pytest.mark.parametrize(("rating", "mos"), [(90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58)])
def test_scores_of_ratings_are_those_of_the_recommendation(rating: float, mos: float) -> None:
    assert mos_of_rating(rating) == pytest.approx(mos, abs=0.01)


def test_default_rating_is_that_of_the_recommendation() -> None:
    assert audio_rating(0, 0) == 93.2
    assert mos_of_rating(93.2) == pytest.approx(4.41, abs=0.005)


def test_delay_costs_nothing_up_to_a_tenth_of_a_second_and_a_category_at_400_ms() -> None:
    assert delay_impairment(100) == 0
    assert delay_impairment(150) < 1
    assert delay_impairment(400) == pytest.approx(24.1, abs=0.2)
    assert delay_impairment(float("inf")) < 60


def test_loss_takes_all_in_the_end() -> None:
    assert loss_impairment(0) == 0
    assert loss_impairment(0.05) == pytest.approx(95 * 5 / 15)
    assert score_of(audio_mos(50, 0.01)) == 5
    assert score_of(audio_mos(50, 0.05)) == 3
    assert score_of(audio_mos(50, 0.20)) == 1


@given(st.floats(0, 5_000), st.floats(0, 1), st.floats(0, 200), st.floats(0, 0.2))
def test_worse_never_scores_better(delay_ms: float, loss: float, more_ms: float, more: float) -> None:
    assert 1 <= audio_mos(delay_ms + more_ms, loss + more) <= audio_mos(delay_ms, loss) + 0.06 <= 4.57
    # (the recommendation's cubic dips a little below R = 6.5)


@given(st.floats(0, 60), st.floats(0, 1000), st.floats(0, 1))
def test_pictures_stay_on_the_scale(frames: float, frozen_ms: float, loss: float) -> None:
    assert 1 <= video_mos(frames, frozen_ms, loss) <= 4.5


def test_freezes_few_frames_and_pauses_cost_the_picture() -> None:
    assert video_mos(30, 0, 0) == 4.5
    assert 3.2 < video_mos(12, 0, 0) < 3.7
    assert video_mos(30, 700, 0) == 1
    assert video_mos(30, 0, 0, paused=True) == 2


def test_no_picture_makes_up_for_bad_sound() -> None:
    assert call_mos(2.0, 4.5) == 2.0
    assert call_mos(4.4, 1.0) == pytest.approx(3.04)
    assert call_mos(None, 3.0) == 3.0
    assert call_mos(None, None) is None
