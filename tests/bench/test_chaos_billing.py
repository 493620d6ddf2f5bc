"""Chaos that finds a wrong bill says so and fails."""

from __future__ import annotations

from typing import Any

import pytest

from bench.chaos_billing import MOST, wrong

RIGHT: dict[str, Any] = {"sessions": 12, "books_balance": True, **dict.fromkeys(MOST, 0)}


def test_right_bills_are_not_complained_of() -> None:
    assert wrong(RIGHT) == []
    assert wrong({**RIGHT, "max_overbilled_ms": 250, "max_unbilled_per_kill_ms": 1_000}) == []


@pytest.mark.parametrize("name", MOST)
def test_each_wrong_figure_is_named(name: str) -> None:
    assert wrong({**RIGHT, name: MOST[name] + 1}) == [f"{name}: {MOST[name] + 1}"]


def test_too_little_charged_no_session_and_wrong_books_are_wrong_too() -> None:
    assert wrong({**RIGHT, "difference_minor": -1}) == ["difference_minor: -1"]
    assert wrong({**RIGHT, "sessions": 0}) == ["sessions: 0"]
    assert wrong({**RIGHT, "books_balance": False}) == ["the books do not balance"]
