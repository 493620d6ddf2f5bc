"""Rows: the best of several runs, also where those were made in several goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.netrows import Run, as_wanted, keep, kept_runs, printed, row
from bench.netscenarios import SCENARIOS
from tests.bench.test_netscenarios import GOOD

LOSS5 = SCENARIOS["loss5"]


def run(fps_before: float = 30.0, **figures: Any) -> Run:
    return Run({**GOOD, **figures}, {"fps_before": fps_before}, {"points": []}, 5_000.0)


def test_the_best_run_of_either_way_makes_the_row() -> None:
    made = row(LOSS5, [run(frozen_ratio=0.2), run(frozen_ratio=0.0)], [run(audio_concealed_ratio=0.5), run()], 2)
    assert (made["frozen_ratio"], made["runs"]) == (0.0, 2)
    assert made["p2p"]["audio_concealed_ratio"] == GOOD["audio_concealed_ratio"]
    assert as_wanted(made)


def test_a_run_on_a_busy_machine_is_the_last_choice_and_never_as_wanted() -> None:
    assert row(LOSS5, [run(12.0), run(frozen_ratio=0.2)], [], 2)["frozen_ratio"] == 0.2
    assert not as_wanted(row(LOSS5, [run(12.0)], [], 1))


def test_no_call_is_a_row_too() -> None:
    made = row(LOSS5, [], [run()], 1)
    assert made["layer_path"] is None
    assert not as_wanted(made)


def test_kept_runs_count_in_a_later_go(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    assert kept_runs(path, LOSS5) == ([], [], 0)
    keep(path, row(SCENARIOS["clean"], [run()], [run()], 1))
    keep(path, row(LOSS5, [run(frozen_ratio=0.2)], [run()], 1))
    relayed, direct, runs = kept_runs(path, LOSS5)
    assert runs == 1
    again = row(LOSS5, [*relayed, run(frozen_ratio=0.3)], direct, 2)
    assert again["frozen_ratio"] == 0.2, "the one kept was better"
    assert "_kept" not in printed(again)
