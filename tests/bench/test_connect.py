"""What the figures of connecting are made of."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from bench.connect import CLIENT, KINDS, PROVIDER, Call, draw, figures, kept_calls
from bench.machine import machine


def calls(*times: float | None) -> list[Call]:
    return [Call(number, {}, None, connect_ms=time) for number, time in enumerate(times)]


def test_failed_calls_count_as_slower_than_all_others() -> None:
    assert figures(calls(*range(1, 101))) == {"ok_ratio": 1.0, "p95_ms": 95}
    assert figures(calls(*[100.0] * 96, *[None] * 4)) == {"ok_ratio": 0.96, "p95_ms": 100}
    assert figures(calls(*[100.0] * 94, *[None] * 6)) == {"ok_ratio": 0.94, "p95_ms": None}


def test_conditions_of_a_call_depend_on_its_seed_alone() -> None:
    kind = KINDS["loss10"]
    drawn = [draw("seed", number, kind) for number in range(200)]
    assert drawn[7] == draw("seed", 7, kind)
    assert drawn[7].lines != drawn[8].lines
    for call in drawn:
        for conditions in call.lines.values():
            assert conditions.loss == 0.1
            assert 0 <= conditions.delay_ms <= kind.delay_ms
            assert 0 <= conditions.jitter_ms <= kind.jitter_ms
    blocked = [call.blocked for call in drawn]
    assert 5 < blocked.count(CLIENT) + blocked.count(PROVIDER) < 40


def test_kept_calls_are_read_again(tmp_path: Path) -> None:
    kept = [draw("seed", number, KINDS["clean"]) for number in range(2)]
    kept[1].connect_ms = 700.5
    path = tmp_path / "kept"
    begun = json.dumps({"date": "2026-01-01", "where": machine()._asdict()})
    lines = [begun] + [json.dumps({"network": "clean", **dataclasses.asdict(call)}) for call in kept]
    path.write_text("\n".join([*lines, json.dumps({"network": "loss10", **dataclasses.asdict(kept[0])})]) + "\n")
    assert kept_calls(path, "clean") == kept
    assert len(kept_calls(path, "loss10")) == 1
    assert kept_calls(tmp_path / "none", "clean") == []
