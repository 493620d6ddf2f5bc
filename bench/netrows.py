"""Rows of the results: the best of several runs, kept in a file so that a long measurement can be made in parts."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.browser import chromium_version
from bench.machine import machine
from bench.netscenarios import SCENARIOS, Scenario, rank, verdict

FPS_BEFORE_MIN = 24
"""Fewer frames than this on a perfect network: the machine has too much to do for its figures to say anything."""
FIELDS = (
    "frames_decoded_ratio", "frozen_ratio", "audio_concealed_ratio", "recover_ms", "layer_path", "p95_rtt_ms",
)  # fmt: skip


class Run(NamedTuple):
    """One call measured."""

    figures: dict[str, Any]
    hints: dict[str, Any]
    series: dict[str, Any]
    impaired_ms: float


def busy(run: Run) -> bool:
    """Whether the machine was too busy for the run to say anything."""
    return float(run.hints["fps_before"]) < FPS_BEFORE_MIN


def row(scenario: Scenario, relayed: Sequence[Run], direct: Sequence[Run], runs: int) -> dict[str, Any]:
    """What is printed and kept of a scenario that was tried ``runs`` times: the best run of either way."""

    def best(found: Sequence[Run]) -> Run | None:
        return max(found, key=lambda run: (not busy(run), *rank(scenario, run.figures, run.impaired_ms)), default=None)

    ours, theirs = best(relayed), best(direct)
    control = theirs.figures if theirs else None
    made: dict[str, Any] = {"scenario": scenario.name, **{name: None for name in FIELDS}, "p2p": None}
    if ours is not None:
        made |= {name: ours.figures[name] for name in FIELDS}
    if control is not None:
        made["p2p"] = {name: control[name] for name in FIELDS}
    made["wanted"] = (
        verdict(scenario, ours.figures, control, ours.impaired_ms)
        if ours is not None
        else {"met": False, "checks": {"the call comes about": False}}
    )
    if ours is not None:
        made["wanted"]["machine_too_busy"] = busy(ours)
    made["runs"] = runs
    kept = {"relay": ours, "p2p": theirs}
    made["_kept"] = {name: run._asdict() for name, run in kept.items() if run is not None}
    return made


def printed(made: Mapping[str, Any]) -> dict[str, Any]:
    """The row without what only files keep."""
    return {name: value for name, value in made.items() if name != "_kept"}


def as_wanted(made: Mapping[str, Any]) -> bool:
    """Whether a row needs no further run."""
    return bool(made["wanted"]["met"]) and not made["wanted"].get("machine_too_busy", False)


def kept_runs(path: Path | None, scenario: Scenario) -> tuple[list[Run], list[Run], int]:
    """The best runs that a file has of a scenario, relayed and direct, and of how many they are the best."""
    if path is None or not path.exists():
        return [], [], 0
    made = json.loads(path.read_text()).get(scenario.name)
    if made is None:
        return [], [], 0
    relayed, direct = ([Run(**made["_kept"][way])] if way in made["_kept"] else [] for way in ("relay", "p2p"))
    return relayed, direct, made["runs"]


def keep(path: Path, made: Mapping[str, Any]) -> None:
    """Put this row in the place of the one of the same scenario, with what tells where it comes from."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    name = made["scenario"]
    kept[name] = {
        **made,
        "says": SCENARIOS[name].says,
        "date": time.strftime("%Y-%m-%d"),
        "where": machine(Chromium=chromium_version())._asdict(),
        "revision": revision(),
    }
    ordered = {name: kept[name] for name in SCENARIOS if name in kept}
    path.write_text(json.dumps(ordered, indent=1) + "\n")


def revision() -> str:
    """The commit that is measured, with ``+`` when there are changes to it; empty outside of a git checkout."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
