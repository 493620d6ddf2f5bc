"""The search for the most calls that a worker carries, and what is named as the cause."""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

import pytest

from bench.load import Step, ceiling

OPTIONS = argparse.Namespace(step=10, calls_max=140, search_seconds=1.0)
FINE: dict[str, Any] = {
    **dict.fromkeys(("lost", "late_evidence", "late_stamped", "receive_errors", "steal_ticks"), 0),
    **{"expected": 1, "evidence": 1, "evidence_way_p99_ms": 1, "control_behind_ms": 1, "p50_ms": 1.0, "p99_ms": 2.0},
    **{"cores": {"worker-1": 0.5}, "rss_mb": 100.0, "behind": 0.0},
}


def step(calls: int, **more: Any) -> Step:
    return Step(calls=calls, **{**FINE, **more})


class Worker:
    """Carries so many calls; ``hiccups`` are measurements that fail by themselves."""

    def __init__(self, carries: int, hiccups: tuple[int, ...] = ()) -> None:
        self.carries, self.hiccups = carries, hiccups
        self.load = SimpleNamespace(calls=[])
        self.measured: list[int] = []

    async def grow(self, calls: int) -> None:
        self.load.calls = [None] * calls

    shrink = grow

    async def measure(self, _: float) -> Step:
        self.measured.append(len(self.load.calls))
        return step(len(self.load.calls), lost=int(self._gives_out()))

    def _gives_out(self) -> bool:
        return len(self.load.calls) > self.carries or len(self.measured) in self.hiccups


async def search(worker: Worker, calls: int) -> tuple[int, str]:
    await worker.grow(calls)
    return await ceiling(worker, await worker.measure(1.0), OPTIONS)  # type: ignore[arg-type]


async def test_calls_are_added_until_something_gives_out_twice() -> None:
    worker = Worker(125)
    assert await search(worker, 100) == (120, "packets lost")
    assert worker.measured == [100, 110, 120, 130, 130]


async def test_calls_are_taken_away_until_nothing_gives_out() -> None:
    worker = Worker(85)
    assert await search(worker, 100) == (80, "packets lost")
    assert worker.measured == [100, 100, 100, 90, 90, 80]


async def test_one_hiccup_ends_no_search() -> None:
    assert await search(Worker(125, hiccups=(1, 3)), 100) == (120, "packets lost")


async def test_a_worker_that_carries_all_has_no_ceiling_yet() -> None:
    assert await search(Worker(500), 100) == (140, "none up to 140 calls")


async def test_a_worker_that_carries_nothing_has_none_either() -> None:
    assert await search(Worker(0), 100) == (0, "packets lost")


@pytest.mark.parametrize(
    ("measured", "cause"),
    [
        ({}, None),
        ({"lost": 1}, "packets lost"),
        ({"lost": 1, "receive_errors": 1}, "receive buffers"),
        ({"late_evidence": 1}, "evidence late on the bus"),
        ({"late_evidence": 1, "late_stamped": 1}, "evidence late"),
        ({"p99_ms": 100.0}, "delay"),
        ({"p99_ms": 100.0, "cores": {"worker-1": 0.99}}, "the worker's core (delay)"),
        ({"lost": 9, "behind": 0.02}, "the load itself, which shares the cores (2.0% not sent in time)"),
    ],
)
def test_the_cause_is_what_was_measured(measured: dict[str, Any], cause: str | None) -> None:
    assert step(100, **measured).gave_out == cause
