"""``python -m bench.load_docs kept.json…``: what ``bench.load --keep`` wrote, as a table and a plot in docs.

The first of the kept results is plotted; each is a column of the table.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.machine import read

BEGIN, END = "<!-- load -->", "<!-- end of load -->"
PLOT = "performance-load.svg"
WIDTH, LEFT, RIGHT, TOP, PANEL, GAP, BOTTOM = 720, 58, 20, 40, 110, 34, 40
DOT = 3.5
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #444 } .title { font-size: 14px; font-weight: 600 }
.frame { fill: none; stroke: #8888 } .line { fill: none; stroke: #1971c2; stroke-width: 2 } .dot { fill: #1971c2 }
.gave { fill: #d9480f } @media (prefers-color-scheme: dark) { text { fill: #ccc } .line { stroke: #74c0fc } }
"""

Step = Mapping[str, Any]


class Panel(NamedTuple):
    """One of the plots over the number of calls."""

    title: str
    value: Callable[[Step], float]
    least: float
    """The axis goes at least so far."""


PANELS: Final = (
    Panel("the worker's share of a core", lambda step: step["cores"]["worker-1"], 1.0),
    Panel("delay from client to client, p99, ms", lambda step: step["p99_ms"], 10.0),
    Panel("packets lost and evidence late", lambda step: step["lost"] + step["late_evidence"], 10.0),
)


def plot(steps: Sequence[Step]) -> str:
    """An SVG of what was measured at each number of calls; where something was lost or late the dot says so."""
    steps = sorted(steps, key=lambda step: int(step["calls"]))
    most = max(step["calls"] for step in steps) * 1.05
    height = TOP + len(PANELS) * (PANEL + GAP) - GAP + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' aria-label="What a number of calls takes">',
        f"<style>{STYLE}</style>",
    ]
    for index, panel in enumerate(PANELS):
        parts += _panel(panel, steps, most, TOP + index * (PANEL + GAP))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = LEFT + share * (WIDTH - LEFT - RIGHT)
        parts.append(f'<text x="{x:.1f}" y="{height - 20}" text-anchor="middle">{share * most:.0f}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{height - 4}" text-anchor="end">calls</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, steps: Sequence[Step], most: float, top: float) -> list[str]:
    limit = max(panel.least, *(panel.value(step) for step in steps))
    places = []
    for step in steps:
        x = LEFT + step["calls"] / most * (WIDTH - LEFT - RIGHT)
        places.append((x, top + PANEL * (1 - panel.value(step) / limit), bool(step["lost"] or step["late_evidence"])))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    return [
        f'<text class="title" x="{LEFT}" y="{top - 8}">{panel.title}</text>',
        f'<rect class="frame" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{PANEL}"/>',
        f'<text x="{LEFT - 6}" y="{top + 10}" text-anchor="end">{limit:.3g}</text>',
        f'<text x="{LEFT - 6}" y="{top + PANEL}" text-anchor="end">0</text>',
        f'<polyline class="line" points="{line}"/>',
        *(
            f'<circle class="{"gave" if gave else "dot"}" cx="{x:.1f}" cy="{y:.1f}" r="{DOT}"/>'
            for x, y, gave in places
        ),
    ]


OTHERS: Final = ("load", "control", "recorder")
ROWS: Final[tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...]] = (
    ("cores", lambda r: "the worker has its own" if r["pinned"] else "shared by all"),
    ("calls", lambda r: f"{r['calls']}, {-(-r['calls'] // 5)} recorded"),
    ("packets lost", lambda r: f"{r['lost']:,} of {r['packets']:,}"),
    ("evidence late on the bus · by the worker's stamps", lambda r: f"{r['late_evidence']} · {r['late_stamped']}"),
    ("evidence from stamp to bus, p99 ms", lambda r: str(r["evidence_way_p99_ms"])),
    ("delay p50 · p99, ms", lambda r: f"{r['p50_delay_ms']:.2f} · {r['p99_delay_ms']:.2f}"),
    ("worker, share of a core", lambda r: f"{r['worker_cpu']:.2f}"),
    ("the load itself · control · recorder", lambda r: " · ".join(f"{_share(r, n):.2f}" for n in OTHERS)),
    ("MB per call in the worker", lambda r: f"{r['rss_mb_per_call']:.2f}"),
    ("ceiling", lambda r: f"{r['ceiling_calls']} calls: {r['ceiling_cause']}"),
    ("receive-buffer errors · ticks of steal", lambda r: f"{r['receive_errors']} · {r['steal_ticks']}"),
)


def _share(result: Mapping[str, Any], name: str) -> float:
    return float(result["cores"].get(name, 0.0))


def text(results: Sequence[Mapping[str, Any]]) -> str:
    """Everything between the marks."""
    where = read(results[0])
    commands = ", ".join(f"`{read(result).command}`" for result in results)
    lines = [
        "| |" + "|".join(f" {index + 1} " for index in range(len(results))) + "|",
        "|---" * (len(results) + 1) + "|",
    ]
    lines += ["| " + " | ".join([title, *(show(result) for result in results)]) + " |" for title, show in ROWS]
    said = [
        f"Measured {results[0]['date']} on {where.hardware}; {where.software}; {commands};"
        f" feedback of each client every {results[0]['feedback_ms']:.0f} ms.",
        "\n".join(lines),
    ]
    if results[0]["steps"]:
        said.append(f"![What a number of calls takes]({PLOT})")
    broadcast = next((result["broadcast"] for result in results if result.get("broadcast")), None)
    if broadcast:
        said.append(
            f"One publisher of 1.5 Mb/s to {broadcast['viewers']} viewers, the plane alone on a core:"
            f" {broadcast['lost']} lost, delay p99 {broadcast['p99_delay_ms']:.2f} ms,"
            f" {broadcast['cpu']:.2f} of the core,"
            f" {broadcast['us_per_packet']:.2f} µs a packet."
        )
    return "\n\n".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kept", type=Path, nargs="+")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()
    results = [json.loads(path.read_text()) for path in args.kept]
    (args.docs / PLOT).write_text(plot(results[0]["steps"]))
    page = args.docs / "performance.md"
    between = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    page.write_text(between.sub(lambda _: f"{BEGIN}\n\n{text(results)}\n\n{END}", page.read_text()))


if __name__ == "__main__":
    main()
