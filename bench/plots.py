"""Small plots as SVG, written by hand so that no library is needed: a call's pictures per second, bitrate and size.

``python -m bench.plots kept.json docs`` makes ``docs/network-<scenario>.svg`` and puts the results between the marks
in ``docs/network.md``. Colours follow the reader's light or dark mode.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from bench.machine import read

WIDTH, PANEL_HEIGHT, LEFT, RIGHT, TOP, GAP, BOTTOM = 720, 84, 58, 14, 62, 26, 34
LAYERS_SHOWN = 5
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #444 } .title { font-size: 14px; font-weight: 600 }
.grid { stroke: #8884; stroke-width: 1 } .bad { fill: #d9480f22 } .frame { fill: none; stroke: #8888 }
.relay { fill: none; stroke: #1971c2; stroke-width: 2 } .p2p { fill: none; stroke: #e8590c; stroke-width: 1.5;
stroke-dasharray: 5 3 } @media (prefers-color-scheme: dark) { text { fill: #ccc } .relay { stroke: #74c0fc } }
"""

Points = Sequence[Mapping[str, Any]]


class Panel(NamedTuple):
    """One of the plots that share a time axis."""

    title: str
    field: str
    top: Callable[[float], float]
    """The end of the axis, of the greatest value."""
    stepped: bool = False


PANELS = (
    Panel("frames/s decoded", "decoded_fps", lambda most: max(35, most)),
    Panel("kb/s received", "kbps", lambda most: max(500, most * 1.1)),
    Panel("picture height", "height", lambda most: max(240, most * 1.2), stepped=True),
)


def plot(title: str, kept: Mapping[str, Mapping[str, Any]]) -> str:
    """An SVG of one scenario: ``kept`` has ``relay`` and perhaps ``p2p``, each with its ``series``."""
    runs = {name: run["series"] for name, run in kept.items()}
    times = [point["t_ms"] for run in runs.values() for point in run["points"]]
    first, last = float(min(times)), float(max(times))

    def x(t_ms: float) -> float:
        return LEFT + (t_ms - first) / max(1.0, last - first) * (WIDTH - LEFT - RIGHT)

    height = TOP + len(PANELS) * (PANEL_HEIGHT + GAP) + BOTTOM - GAP
    box = f'viewBox="0 0 {WIDTH} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="18">{escape(title)}</text>',
        f'<text x="{LEFT}" y="36">through the relay</text><path class="relay" d="M{LEFT + 108} 32h30"/>',
    ]
    if "p2p" in runs:
        at = LEFT + 170
        parts.append(f'<text x="{at}" y="36">peer to peer</text><path class="p2p" d="M{at + 78} 32h30"/>')
    for number, panel in enumerate(PANELS):
        parts += _panel(panel, runs, TOP + number * (PANEL_HEIGHT + GAP), x)
    parts += _seconds(first, last, height - BOTTOM + 16, x)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, runs: Mapping[str, Any], y0: int, x: Callable[[float], float]) -> list[str]:
    most = panel.top(max(float(point[panel.field]) for run in runs.values() for point in run["points"]))

    def y(value: float) -> float:
        return y0 + PANEL_HEIGHT * (1 - min(1.0, value / most))

    impaired = next(iter(runs.values()))["impaired_ms"]
    times = [point["t_ms"] for run in runs.values() for point in run["points"]]
    left, right = x(max(0, min(times))), x(min(max(times), max(impaired, 60)))
    parts = [
        f'<rect class="bad" x="{left:.1f}" y="{y0}" width="{right - left:.1f}" height="{PANEL_HEIGHT}"/>',
        f'<rect class="frame" x="{LEFT}" y="{y0}" width="{WIDTH - LEFT - RIGHT}" height="{PANEL_HEIGHT}"/>',
        f'<text x="{LEFT + 4}" y="{y0 - 5}">{panel.title}</text>',
        f'<text x="{LEFT - 6}" y="{y0 + 10}" text-anchor="end">{most:.0f}</text>',
        f'<text x="{LEFT - 6}" y="{y0 + PANEL_HEIGHT}" text-anchor="end">0</text>',
    ]
    for name, run in runs.items():
        parts.append(f'<path class="{name}" d="{_path(run["points"], panel, x, y)}"/>')
    return parts


def _path(points: Points, panel: Panel, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    steps = []
    for number, point in enumerate(points):
        at, value = x(point["t_ms"]), y(float(point[panel.field]))
        if number == 0:
            steps.append(f"M{at:.1f} {value:.1f}")
        else:
            steps.append(f"H{at:.1f}V{value:.1f}" if panel.stepped else f"L{at:.1f} {value:.1f}")
    return "".join(steps)


def _seconds(first: float, last: float, y: float, x: Callable[[float], float]) -> list[str]:
    """Labels of the time axis: seconds since the impairment began."""
    step = 2_000 if last - first <= 20_000 else 5_000
    marks = range(-(-int(first) // step) * step, int(last) + 1, step)
    return [f'<text x="{x(t):.1f}" y="{y}" text-anchor="middle">{t // 1000} s</text>' for t in marks]


def _value(figures: Mapping[str, Any] | None, name: str) -> str:
    value = None if figures is None else figures[name]
    return "–" if value is None else f"{value:g}"


def _layers(figures: Mapping[str, Any]) -> str:
    path = [(t_ms, size.partition("x")[2]) for t_ms, size in figures["layer_path"] if size != "0x0"]
    shown = [f"{height} at {t_ms / 1000:.1f} s" for t_ms, height in path[:LAYERS_SHOWN]]
    return ", ".join(shown + ["…"] * (len(path) > LAYERS_SHOWN)) or "none"


def table(kept: Mapping[str, Mapping[str, Any]]) -> str:
    """The results as Markdown: relay / control, and what was not as wanted."""
    lines = [
        "| scenario | decoded | frozen | sound concealed | recovered, ms | RTT, ms | height | as wanted | revision |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    columns = ("frames_decoded_ratio", "frozen_ratio", "audio_concealed_ratio", "recover_ms", "p95_rtt_ms")
    for name, row in kept.items():
        missed = [text for text, held in row["wanted"]["checks"].items() if not held]
        if row["layer_path"] is None:
            lines.append(f"| `{name}` | no call | | | | | | **no** | {row['revision']} |")
            continue
        both = " | ".join(f"{_value(row, column)} / {_value(row['p2p'], column)}" for column in columns)
        judged = "**no**: " + "; ".join(missed) if missed else "yes"
        judged += ", without a control" if row["p2p"] is None else ""
        busy = " (machine too busy)" if row["wanted"].get("machine_too_busy") else ""
        lines.append(f"| `{name}` | {both} | {_layers(row)} | {judged}{busy} | {row['revision']} |")
    return "\n".join(lines)


def results(kept: Mapping[str, Mapping[str, Any]], files: Mapping[str, str]) -> str:
    """Everything between the marks: where and when, the table, the plots."""
    dates = sorted({row["date"] for row in kept.values()})
    machines = [read(row) for row in kept.values()]
    where = sorted({f"{machine.hardware}, {machine.software}" for machine in machines})
    shown = [f"![{name}: frames, bitrate and picture height over time]({file})" for name, file in files.items()]
    return "\n\n".join([f"Measured {', '.join(dates)} on {'; '.join(where)}.", table(kept), *shown])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kept", type=Path, help="what bench.network --keep wrote")
    parser.add_argument("docs", type=Path, help="the folder of network.md")
    options = parser.parse_args()
    kept = json.loads(options.kept.read_text())
    files = {}
    for name, row in kept.items():
        if row["_kept"]:
            files[name] = f"network-{name}.svg"
            (options.docs / files[name]).write_text(plot(f"{name}: {row['says']}", row["_kept"]))
    page = options.docs / "network.md"
    text = page.read_text()
    between = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    page.write_text(between.sub(lambda _: f"{BEGIN}\n\n{results(kept, files)}\n\n{END}", text))


if __name__ == "__main__":
    main()
