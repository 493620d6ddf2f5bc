"""Plots and the table of results."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from bench.machine import Machine
from bench.netscenarios import SCENARIOS, verdict
from bench.plots import plot, results, table
from tests.bench.test_netscenarios import GOOD

MACHINE = Machine("a CPU", 2, "6.18", 0.5, {"Python": "3.11.7", "Chromium": "156"}, "python -m bench.network")


def run(fps: float) -> dict[str, Any]:
    points = [
        {"t_ms": t, "decoded_fps": fps, "encoded_fps": 30, "kbps": 900, "height": 480, "rtt_ms": 5}
        for t in range(-1_500, 10_001, 500)
    ]
    return {"series": {"impaired_ms": 5_000, "points": points}}


def kept(**more: Any) -> dict[str, Any]:
    row = {
        **GOOD,
        "p2p": GOOD,
        "date": "2026-01-01",
        "where": MACHINE._asdict(),
        "revision": "abc1234",
        "says": "5 % < 6 %",
        **more,
    }
    row["wanted"] = verdict(SCENARIOS["loss5"], row, GOOD, 5_000) if row["layer_path"] else {"met": False, "checks": {}}
    return row


def test_plot_is_well_formed_and_draws_both_runs_in_each_panel() -> None:
    svg = ElementTree.fromstring(plot("loss5: 5 % < 6 %", {"relay": run(28), "p2p": run(30)}))
    classes = [element.get("class") for element in svg.iter() if element.tag.endswith("path")]
    assert classes.count("relay") == classes.count("p2p") == 4
    assert plot("alone", {"relay": run(28)}).count('class="p2p"') == 0


def test_table_says_what_is_not_as_wanted() -> None:
    text = table({"loss5": kept(frozen_ratio=0.5), "clean": kept(), "worker_killed": kept(p2p=None, recover_ms=None)})
    rows = text.splitlines()[2:]
    assert "**no**: frozen_ratio <= 0.01" in rows[0]
    assert rows[1].endswith("| yes | abc1234 |")
    assert "– / –" in rows[2]


def test_call_that_did_not_come_about_is_in_the_table() -> None:
    assert "no call" in table({"clean": kept(layer_path=None)})


def test_results_tell_where_and_when_and_show_each_plot() -> None:
    text = results({"loss5": kept()}, {"loss5": "network-loss5.svg"})
    assert "2026-01-01" in text
    assert "on a CPU, 2 CPUs, kernel 6.18, Python 3.11.7, Chromium 156." in text
    assert "(network-loss5.svg)" in text
