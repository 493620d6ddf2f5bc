"""The bad networks that calls are measured in, and what is wanted of a call in each.

The bad line is the subscriber's, up and down: a packet from one person to the other meets it once, through the relay
and in the control alike. It can be put on the publisher's line instead, or on both, which doubles it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bench.netlink import CLEAN, Conditions

Ends = Literal["both", "publisher", "subscriber"]
Event = Literal["address_change", "worker_killed"]
Figures = Mapping[str, Any]
"""As ``bench.netfigures.Call.figures`` makes them."""

ENDS = ("subscriber", "publisher", "both")
TOLERANCE = 0.01
"""How much worse than the peer-to-peer control a ratio may be."""
LOWER_LAYER_MS = 2_000
TOP_LAYER_MS = 10_000


@dataclass(frozen=True, slots=True)
class Want:
    """Something wanted of a call, in words and as a test. ``impaired_ms`` is how long the impairment lasted."""

    text: str
    holds: Callable[[Figures, float], bool]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One bad network. Times are seconds."""

    name: str
    says: str
    conditions: Conditions = CLEAN
    ends: Ends = "subscriber"
    impaired: Callable[[float], float] = lambda seconds: seconds
    """How long the conditions last, of the seconds asked for."""
    tail_s: float = 3.0
    """How long the call goes on afterwards, on a perfect network."""
    event: Event | None = None
    wants: tuple[Want, ...] = ()


def at_least(name: str, least: float) -> Want:
    return Want(f"{name} >= {least:g}", lambda figures, _: figures[name] >= least)


def at_most(name: str, most: float) -> Want:
    return Want(f"{name} <= {most:g}", lambda figures, _: figures[name] is not None and figures[name] <= most)


def _area(size: str) -> int:
    width, _, height = size.partition("x")
    return int(width) * int(height)


def _lower_soon(figures: Figures, impaired_ms: float) -> bool:
    top = max(_area(size) for t, size in figures["layer_path"] if t <= 0)
    return any(0 < t <= LOWER_LAYER_MS and _area(size) < top for t, size in figures["layer_path"])


def _top_again(figures: Figures, impaired_ms: float) -> bool:
    path = figures["layer_path"]
    top = max(_area(size) for t, size in path if t <= 0)
    held = [size for t, size in path if t <= impaired_ms + TOP_LAYER_MS]
    return _area(held[-1]) >= top


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("clean", "nothing is wrong", wants=(at_most("frozen_ratio", 0),)),
        Scenario(
            "loss5",
            "each packet is lost with 5 %, 50 ms each way",
            Conditions(loss=0.05, delay_ms=50),
            wants=(at_least("frames_decoded_ratio", 0.99), at_most("frozen_ratio", 0.01)),
        ),
        Scenario(
            "loss20",
            "each packet is lost with 20 %",
            Conditions(loss=0.20),
            wants=(at_least("frames_decoded_ratio", 0.95),),
        ),
        Scenario("jitter200", "the delay wanders between 0 and 200 ms, packets in order", Conditions(jitter_ms=200)),
        Scenario(
            "cap500",
            "the subscriber's line carries 500 kb/s for a while, with 500 ms of buffer",
            Conditions(rate_bps=500_000, buffer_ms=500),
            impaired=lambda seconds: seconds / 2,
            tail_s=12,
            wants=(
                Want("a lower layer within 2 s", _lower_soon),
                at_most("longest_gap_ms", 1_000),
                Want("the top layer again within 10 s", _top_again),
            ),
        ),
        Scenario(
            "cap100",
            "the subscriber's line carries 100 kb/s, with 500 ms of buffer",
            Conditions(rate_bps=100_000, buffer_ms=500),
            tail_s=8,
            wants=(at_most("audio_concealed_ratio", 0.02),),
        ),
        Scenario(
            "reorder5",
            "5 % of the packets are held back by 10 to 40 ms",
            Conditions(reorder=0.05, reorder_ms=40, delay_ms=10),
        ),
        Scenario(
            "outage2s",
            "nothing gets through for 2 s",
            Conditions(down=True),
            impaired=lambda _: 2.0,
            tail_s=8,
            wants=(at_most("recover_ms", 1_000),),
        ),
        Scenario(
            "address_change",
            "the subscriber's address changes, as a NAT does that forgot",
            impaired=lambda _: 0.0,
            tail_s=10,
            event="address_change",
            wants=(at_most("recover_ms", 3_000),),
        ),
        Scenario(
            "worker_killed",
            "kill -9 of the worker that the room is on, while another one runs",
            impaired=lambda _: 0.0,
            tail_s=12,
            event="worker_killed",
            wants=(at_most("recover_ms", 3_000),),
        ),
    )
}


def verdict(scenario: Scenario, figures: Figures, control: Figures | None, impaired_ms: float) -> dict[str, Any]:
    """Which wants hold: ``{"met": all of them, "checks": {text: held}}``, the comparison with the control included."""
    checks = {want.text: want.holds(figures, impaired_ms) for want in scenario.wants}
    if control is not None:
        checks |= {
            f"decoded {figures['frames_decoded_ratio']:g} not below the control's": figures["frames_decoded_ratio"]
            >= control["frames_decoded_ratio"] - TOLERANCE,
            f"frozen {figures['frozen_ratio']:g} not above the control's": figures["frozen_ratio"]
            <= control["frozen_ratio"] + TOLERANCE,
            f"concealed {figures['audio_concealed_ratio']:g} not above the control's": figures["audio_concealed_ratio"]
            <= control["audio_concealed_ratio"] + TOLERANCE,
        }
    return {"met": all(checks.values()), "checks": checks}


def rank(scenario: Scenario, figures: Figures, impaired_ms: float) -> tuple[float, ...]:
    """By which the best of several runs is the greatest: wants that hold, then pictures and sound."""
    held = sum(want.holds(figures, impaired_ms) for want in scenario.wants)
    quality = figures["frames_decoded_ratio"] - figures["frozen_ratio"] - figures["audio_concealed_ratio"]
    recovered = figures["recover_ms"] if figures["recover_ms"] is not None else float("inf")
    return held, quality, -recovered
