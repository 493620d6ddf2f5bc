"""What is wanted of a call, and which of several runs counts."""

from __future__ import annotations

from typing import Any

import pytest

from bench.netscenarios import SCENARIOS, rank, verdict

GOOD: dict[str, Any] = {
    "frames_decoded_ratio": 1.0,
    "frozen_ratio": 0.0,
    "audio_concealed_ratio": 0.0,
    "recover_ms": 80,
    "layer_path": [(-2_000, "640x480")],
    "p95_rtt_ms": 10.0,
    "longest_gap_ms": 100,
}


def met(name: str, control: dict[str, Any] | None = None, **figures: Any) -> bool:
    return bool(verdict(SCENARIOS[name], GOOD | figures, control, 10_000)["met"])


def test_scenarios_are_those_that_were_asked_for() -> None:
    assert list(SCENARIOS) == [
        "clean", "loss5", "loss20", "jitter200", "cap500", "cap100", "reorder5", "outage2s", "address_change",
        "worker_killed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "figures", "expected"),
    [
        ("clean", {}, True),
        ("clean", {"frozen_ratio": 0.001}, False),
        ("loss5", {"frames_decoded_ratio": 0.989}, False),
        ("loss5", {"frozen_ratio": 0.011}, False),
        ("loss20", {"frames_decoded_ratio": 0.95}, True),
        ("cap100", {"audio_concealed_ratio": 0.021}, False),
        ("outage2s", {"recover_ms": 1_001}, False),
        ("address_change", {"recover_ms": 3_000}, True),
        ("worker_killed", {"recover_ms": None}, False),
    ],
)
def test_wanted_figures(name: str, figures: dict[str, Any], expected: bool) -> None:
    assert met(name, **figures) is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ([(-2_000, "640x480"), (1_500, "320x240"), (14_000, "640x480")], True),
        ([(-2_000, "640x480")], False),
        ([(-2_000, "640x480"), (2_500, "320x240"), (14_000, "640x480")], False),
        ([(-2_000, "640x480"), (1_500, "320x240"), (20_500, "640x480")], False),
        ([(-2_000, "640x480"), (1_500, "320x240")], False),
        ([(-2_000, "640x480"), (1_500, "320x240"), (9_000, "640x480"), (12_000, "320x240")], False),
    ],
)
def test_capped_call_steps_down_soon_and_comes_back(path: list[tuple[int, str]], expected: bool) -> None:
    assert met("cap500", layer_path=path) is expected


def test_ratio_may_be_worse_than_the_control_by_a_hundredth() -> None:
    control = GOOD | {"frames_decoded_ratio": 0.9, "frozen_ratio": 0.2}
    assert met("jitter200", control, frames_decoded_ratio=0.89, frozen_ratio=0.21)
    assert not met("jitter200", control, frames_decoded_ratio=0.889)
    assert not met("jitter200", control, frozen_ratio=0.211)


def test_best_run_has_most_wants_then_the_best_picture() -> None:
    scenario = SCENARIOS["loss5"]
    runs = [
        GOOD | {"frames_decoded_ratio": 0.98},
        GOOD | {"frames_decoded_ratio": 0.991, "frozen_ratio": 0.005},
        GOOD | {"frames_decoded_ratio": 0.995, "frozen_ratio": 0.02},
    ]
    assert max(runs, key=lambda run: rank(scenario, run, 10_000)) is runs[1]


def test_run_that_never_recovered_ranks_below_one_that_did() -> None:
    scenario = SCENARIOS["jitter200"]
    assert rank(scenario, GOOD | {"recover_ms": None}, 0) < rank(scenario, GOOD | {"recover_ms": 9_000}, 0)
