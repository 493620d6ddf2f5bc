"""Chaos that shows nothing, be it because nobody was heard or nothing died, fails."""

from __future__ import annotations

from typing import Any

import pytest

from bench.chaos_verdict import KINDS, MOST, SOURCES, heard_percent, killed, longest_hole, wrong

SECOND = 1_000_000_000
RIGHT: dict[str, Any] = {
    **{"calls": 3, "recordings": 3, "kills": 5, "least_heard_percent": 71.0, "killed": killed(KINDS)},
    **dict.fromkeys(MOST, 0),
}


def stamps(source: str, seconds: float) -> set[int]:
    return {n * SOURCES[source] for n in range(round(seconds * SECOND / SOURCES[source]))}


def test_a_run_that_shows_all_is_right() -> None:
    assert wrong(RIGHT) == []
    assert wrong({**RIGHT, "worst_loss_ms": 1_000}) == []


@pytest.mark.parametrize("name", MOST)
def test_each_figure_that_is_too_large_is_named(name: str) -> None:
    assert wrong({**RIGHT, name: MOST[name] + 1}) == [f"{name}: {MOST[name] + 1}"]


def test_calls_without_a_recording_are_wrong() -> None:
    assert wrong({**RIGHT, "recordings": 2}) == ["recordings: 2 of 3 calls"]
    assert wrong({**RIGHT, "recordings": 0, "calls": 0}) == ["calls: 0"]


@pytest.mark.parametrize("kind", list(dict.fromkeys(KINDS.values())))
def test_a_kind_that_never_died_is_wrong(kind: str) -> None:
    others = killed(name for name in KINDS if KINDS[name] != kind)
    assert wrong({**RIGHT, "killed": others}) == [f"{kind} never killed"]


def test_one_worker_is_as_good_as_another() -> None:
    assert wrong({**RIGHT, "killed": killed(name for name in KINDS if name != "worker-1")}) == []


def test_nothing_heard_is_wrong_however_little_is_missing_of_it() -> None:
    assert heard_percent({}, 10 * SECOND) == 0
    assert wrong({**RIGHT, "least_heard_percent": heard_percent({}, 10 * SECOND)}) == ["least_heard_percent: 0.0"]


def test_the_source_that_was_heard_least_counts() -> None:
    heard = {"microphone": stamps("microphone", 10), "camera": stamps("camera", 4)}
    assert heard_percent(heard, 10 * SECOND) == pytest.approx(40)
    assert heard_percent({"microphone": stamps("microphone", 10)}, 10 * SECOND) == 0  # the picture never came


def test_what_is_missing_in_one_place_is_added_up() -> None:
    twenty = SOURCES["microphone"]
    assert longest_hole({n * twenty for n in range(10)} | {5 * SECOND}, twenty) == (10 * twenty, 9 * twenty)
    assert longest_hole(set(), twenty) == (0, 0)
