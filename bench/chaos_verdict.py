"""What a run of ``bench.chaos_recording`` has to show: one in which nobody talked, or nothing died, shows nothing.

Every side must have heard either source of the other one for most of the call, everything that may die must have died,
and every call must have left a recording. Only then does it count that little is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

SOURCES: Final = {"microphone": 20_000_000, "camera": 100_000_000}
"""What each side sends, and how often (ns): one stamp each time."""
HEARD_MIN_PERCENT: Final = 50.0
"""Of the stamps that a source sends in a call, what its other side must have got at least: connecting, and connecting
again after each death of a worker, takes its time; nobody talks into the void for half of it."""
KINDS: Final = {
    "worker-1": "worker",
    "worker-2": "worker",
    "recorder": "recorder",
    "store": "store",
    "store full": "store full",
}
"""What may be killed, and as what it counts."""
MOST: Final = {"worst_loss_ms": 1_000, "unsigned": 0, "unverified": 0}
TOGETHER_NS: Final = 1_500_000_000
"""Holes closer together than this are of one cause."""


def heard_percent(heard: dict[str, set[int]], lasted_ns: int) -> float:
    """How much came of the source that came least, of what it sends in so long. 0 for one that never came."""
    return min(100 * len(heard.get(source, ())) * each_ns / max(1, lasted_ns) for source, each_ns in SOURCES.items())


def longest_hole(missing: Iterable[int], each_ns: int) -> tuple[int, int]:
    """The most that is missing in one place, and where that ends (both ns)."""
    worst = total = last = where = 0
    for stamp in sorted(missing):
        total = total + each_ns if stamp - last < TOGETHER_NS else each_ns
        last = stamp
        if total > worst:
            worst, where = total, stamp
    return worst, where


def killed(names: Iterable[str]) -> dict[str, int]:
    """How often each kind died."""
    counted = Counter(KINDS[name] for name in names)
    return {kind: counted[kind] for kind in dict.fromkeys(KINDS.values())}


def wrong(figures: dict[str, Any]) -> list[str]:
    """What is not as it has to be, each with its figure; empty: the run shows what it is to show."""
    found = [f"{name}: {figures[name]}" for name, most in MOST.items() if figures[name] > most]
    if figures["recordings"] != figures["calls"]:
        found.append(f"recordings: {figures['recordings']} of {figures['calls']} calls")
    if not figures["calls"]:
        found.append("calls: 0")
    if figures["least_heard_percent"] < HEARD_MIN_PERCENT:
        found.append(f"least_heard_percent: {figures['least_heard_percent']}")
    found += [f"{kind} never killed" for kind, times in figures["killed"].items() if not times]
    return found
