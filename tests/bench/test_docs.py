"""What ``--keep`` wrote becomes tables and plots in docs/performance.md, and nothing else there changes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import load_docs, relay_docs
from bench.machine import Machine

MACHINE = Machine("a CPU", 2, "6.18", 0.5, {"Python": "3.11.7"}, "python -m bench.some --keep kept.json")
WHERE = {"where": MACHINE._asdict(), "date": "2026-01-01"}
SAID = "Measured 2026-01-01 on a CPU, 2 CPUs, kernel 6.18; Python 3.11.7; `python -m bench.some --keep kept.json`"
RELAY: dict[str, Any] = {
    **WHERE,
    "cases": {"1to1_22k": {"python": 60.0, "native": 8.0, "floor": 5.5, "janus": 26.5, "aiortc": None}},
    "spread": {
        "1to1_22k": {
            "native": {"least": 7.75, "most": 8.5, "busy": 0.2, "arrived": 1.0},
            "janus_one_loop": {"least": 26.0, "most": 27.0, "busy": 0.6, "arrived": 0.9},
        }
    },
    **{"srtp_only": 1.5, "lossless_pps_one_core": 140_000, "receive_errors": 3, "steal_ticks": 4},
}
STEP = {"late_evidence": 0, "p99_ms": 2.5, "cores": {"worker-1": 0.7}}
LOAD: dict[str, Any] = {
    **WHERE,
    **{"calls": 100, "lost": 0, "packets": 920_000, "late_evidence": 0, "late_stamped": 0, "evidence_way_p99_ms": 9},
    **{"p50_delay_ms": 0.4, "p99_delay_ms": 2.5, "worker_cpu": 0.7, "rss_mb_per_call": 3.4, "control_behind_ms": 30},
    **{"ceiling_calls": 120, "ceiling_cause": "packets lost", "receive_errors": 0, "steal_ticks": 1},
    **{"pinned": True, "feedback_ms": 100.0, "cores": {"worker-1": 0.7, "load": 0.5, "control": 0.2}},
    "steps": [{"calls": calls, "lost": 3 * (calls == 120), **STEP} for calls in (100, 110, 120)],
    "broadcast": {"viewers": 200, "lost": 0, "p99_delay_ms": 1.2, "cpu": 0.3, "us_per_packet": 3.0},
}


@pytest.mark.parametrize(
    ("docs", "kept", "arguments"),
    [(relay_docs, RELAY, ("kept.json", "docs")), (load_docs, LOAD, ("kept.json", "--docs", "docs"))],
    ids=["relay", "load"],
)
def test_the_page_changes_between_the_marks_only(
    docs: ModuleType, kept: dict[str, Any], arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    page = Path("docs/performance.md")
    page.write_text(f"before\n{docs.BEGIN}\nold figures\n{docs.END}\nafter\n")
    Path("kept.json").write_text(json.dumps(kept))
    monkeypatch.setattr(sys, "argv", ["docs", *arguments])
    docs.main()
    before, between, after = page.read_text().partition(f"{docs.BEGIN}\n\n{SAID}")
    assert (before, between != "") == ("before\n", True)
    assert after.endswith(f"{docs.END}\nafter\n")
    assert "old figures" not in after
    ElementTree.parse(Path("docs") / docs.PLOT)


def test_a_relay_that_could_not_be_put_to_it_has_no_figure() -> None:
    (row,) = relay_docs.table(RELAY).splitlines()[2:]
    assert row == "| `1to1_22k` | 8.00 (7.75–8.50) | 5.50 | 26.50 (26.00–27.00, 90% arrived) | 60.00 | – |"
    assert "aiortc" not in relay_docs.plot(RELAY)


def test_what_was_not_looked_for_is_not_told() -> None:
    assert "three of five runs: 140,000 packets/s." in relay_docs.text(RELAY)
    assert "Without loss" not in relay_docs.text({**RELAY, "lossless_pps_one_core": None})


def test_each_load_is_a_column() -> None:
    said = load_docs.text([LOAD, {**LOAD, "pinned": False}])
    assert "| cores | the worker has its own | shared by all |" in said
    assert "| packets lost | 0 of 920,000 | 0 of 920,000 |" in said
    assert "120 calls: packets lost" in said
    assert "200 viewers" in said
    assert len({line.count("|") for line in said.splitlines() if line.startswith("|")}) == 1


def test_a_step_that_gave_out_stands_out_in_each_panel() -> None:
    dots = [element.get("class") for element in ElementTree.fromstring(load_docs.plot(LOAD["steps"])).iter()]
    assert dots.count("dot") == 2 * len(load_docs.PANELS)
    assert dots.count("gave") == len(load_docs.PANELS)
