"""``python -m bench.relay_docs kept.json docs``: what ``bench.relay --keep`` wrote, as a table and a plot in docs."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.machine import read

BEGIN, END = "<!-- relay -->", "<!-- end of relay -->"
SHOWN: Final = ("native", "floor", "janus", "python", "aiortc")
PLOT = "performance-relay.svg"
WIDTH, LEFT, ROW, GAP, TOP = 720, 150, 18, 26, 44
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #444 } .title { font-size: 14px; font-weight: 600 }
.bar { fill: #adb5bd } .native { fill: #1971c2 } .floor { fill: #74c0fc }
@media (prefers-color-scheme: dark) { text { fill: #ccc } .bar { fill: #868e96 } }
"""


def plot(result: Mapping[str, Any]) -> str:
    """Bars of microseconds per packet, a group per case; what is far slower than we are is cut off."""
    cases = result["cases"]
    ours = [row[name] for row in cases.values() for name in ("native", "janus", "python") if row[name]]
    most = max(ours) * 1.05
    height = TOP + sum(GAP + ROW * sum(row[name] is not None for name in SHOWN) for row in cases.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' aria-label="CPU per forwarded packet">',
        f"<style>{STYLE}</style>",
        '<text class="title" x="10" y="20">CPU per forwarded packet, µs (less is better)</text>',
    ]
    y = TOP
    for case, row in cases.items():
        parts.append(f'<text class="title" x="10" y="{y + 4}">{case}</text>')
        y += 10
        for name in SHOWN:
            if row[name] is None:
                continue
            share = min(1.0, row[name] / most)
            length = share * (WIDTH - LEFT - 86)
            style = name if name in ("native", "floor") else "bar"
            parts.append(f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{name}</text>')
            parts.append(f'<rect class="{style}" x="{LEFT}" y="{y + 2}" width="{length:.1f}" height="{ROW - 5}"/>')
            cut = " (cut)" if share == 1.0 else ""
            parts.append(f'<text x="{LEFT + length + 6:.1f}" y="{y + 12}">{row[name]:.2f}{cut}</text>')
            y += ROW
        y += GAP - 10
    return "\n".join([*parts, "</svg>", ""])


def table(result: Mapping[str, Any]) -> str:
    """The cases as Markdown, with the least and the most of the runs."""
    lines = ["| case | " + " | ".join(SHOWN) + " |", "|---" * (len(SHOWN) + 1) + "|"]
    for case, row in result["cases"].items():
        cells = []
        for name in SHOWN:
            spread = _spread(result["spread"].get(case, {}), name, row[name])
            if row[name] is None:
                cells.append("–")
            elif spread is None:
                cells.append(f"{row[name]:.2f}")
            else:
                arrived = f", {spread['arrived']:.0%} arrived" if spread["arrived"] < 0.995 else ""
                most = f"{spread['most']:.2f}" if spread["most"] < 10 * spread["least"] else "…"
                cells.append(f"{row[name]:.2f} ({spread['least']:.2f}–{most}{arrived})")
        lines.append(f"| `{case}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(spreads: Mapping[str, Any], name: str, cost: float | None) -> Mapping[str, Any] | None:
    """The spread of a row's figure; of Janus' settings that of the one which was better."""
    settings = [spreads[each] for each in spreads if each == name or each.startswith(f"{name}_")]
    return next((one for one in settings if cost is not None and one["least"] <= cost <= one["most"]), None)


def _lossless(result: Mapping[str, Any]) -> str:
    """Not looked for where only some cases are run."""
    most = result["lossless_pps_one_core"]
    return "" if most is None else f" Without loss on one core, three of five runs: {most:,} packets/s."


def text(result: Mapping[str, Any]) -> str:
    """Everything between the marks."""
    where = read(result)
    said = [
        f"Measured {result['date']} on {where.hardware}; {where.software}; `{where.command}`.",
        table(result),
        f"![CPU per forwarded packet]({PLOT})",
        f"One unprotect and one protect, again and again with one key: {result['srtp_only']:.2f} µs."
        f"{_lossless(result)} Receive-buffer errors {result['receive_errors']}, ticks of steal"
        f" {result['steal_ticks']}.",
    ]
    delay = result.get("delay")
    if delay and "alone" in delay:
        said.append(
            f"Delay from client to client at {delay['packets_per_s']:,.0f} packets/s:"
            f" p50 {delay['alone']['p50_ms']} ms, p99 {delay['alone']['p99_ms']} ms, the best of three runs;"
            f" beside a process that takes all it gets of the same core"
            f" p50 {delay['beside_a_busy_process']['p50_ms']} ms, p99 {delay['beside_a_busy_process']['p99_ms']} ms."
        )
    workers = result.get("two_workers")
    if workers:
        said.append(
            f"Two workers on one core, each with the whole load of `1to1_22k`: {workers['two']} µs per packet, against"
            f" {workers['one']} µs of one ({workers['rise']:+.1%})."
        )
    return "\n\n".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kept", type=Path)
    parser.add_argument("docs", type=Path)
    args = parser.parse_args()
    result = json.loads(args.kept.read_text())
    (args.docs / PLOT).write_text(plot(result))
    page = args.docs / "performance.md"
    between = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    page.write_text(between.sub(lambda _: f"{BEGIN}\n\n{text(result)}\n\n{END}", page.read_text()))


if __name__ == "__main__":
    main()
