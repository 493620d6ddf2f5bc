"""Who gets what of a subscriber's bandwidth: audio first, then the videos, the lowest layer of each before better ones.

A pure function of what the path takes and what there is to send, and of what was chosen before: down at once, up only
when there is room to spare, and not again soon after a fall. A video that even at its lowest does not fit is paused
before audio would suffer. A video of one layer cannot be chosen smaller: its publisher is asked to send less, and so is
that of several layers for the lowest, where nobody else would suffer for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relay.messages import Source

_MS: Final = 1_000_000
AUDIO_SPARE: Final = 1.2
"""Audio's bitrate moves: this many times what it had in the last second is kept for it."""
UP_SPARE: Final = 1.15
"""A better layer must fit this many times."""
DOWN_SPARE: Final = 0.95
"""A layer that is already chosen stays while this share of it fits."""
UP_AFTER_NS: Final = 1_000 * _MS
"""No better layer within this time of a fall."""
VIDEO_MIN_BPS: Final = 60_000
"""A video of one layer that would have to be smaller is paused."""
RESUME_BPS: Final = 90_000
RESUME_AFTER_NS: Final = 1_000 * _MS
SINGLE_WANTED_BPS: Final = 2_500_000
"""What a video of one layer is taken to want: what browsers send at most for 720 lines."""
_ORDER: Final[dict[Source, int]] = {"screen": 0, "camera": 1, "microphone": 2}


@dataclass(frozen=True, slots=True, order=True)
class LayerOption:
    """One way to send a video."""

    bitrate_bps: int
    """On the wire."""
    spatial: int = 0
    temporal: int = 0


@dataclass(frozen=True, slots=True)
class VideoDemand:
    """A video that a subscriber could be sent."""

    source: Source
    layers: tuple[LayerOption, ...]
    """What its publisher sends at this moment, in ascending order of bitrate; one: it adapts as a whole."""
    adapts: bool = False
    """Whether the publisher can be asked to send the lowest of several layers with less than it takes now."""

    @property
    def least_bps(self) -> int:
        """What it takes at least."""
        return VIDEO_MIN_BPS if len(self.layers) == 1 or self.adapts else self.layers[0].bitrate_bps


@dataclass(frozen=True, slots=True)
class Choice:
    """What a subscriber is sent of a video."""

    layer: LayerOption | None
    """None: paused."""
    bound_bps: int | None = None
    """What the publisher of a video of one layer should send at most, for this subscriber; None: what it likes."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a subscriber is sent."""

    choices: dict[Source, Choice]
    wanted_bps: int
    """What everything at its best would take: worth probing for."""


@dataclass(slots=True)
class _Memory:
    layer: LayerOption | None
    fell_ns: int = 0
    fits_since_ns: int | None = None


class Allocator:
    """One subscriber's. See the module's docstring."""

    def __init__(self) -> None:
        self._memory: dict[Source, _Memory] = {}
        self._draining_bps = 0

    def allocate(
        self,
        target_bps: int,
        audio_bps: int,
        demands: Sequence[VideoDemand],
        now_ns: int,
        *,
        limited: bool,
        draining_bps: int = 0,
    ) -> Allocation:
        """``limited``: whether the path has shown a limit; without one everything is sent at its best.

        ``draining_bps``: what of the path is left free for a moment so that its queue drains. No video is paused for
        that alone: to begin again takes a key frame, which is worse.
        """
        demands = sorted((demand for demand in demands if demand.layers), key=lambda demand: _ORDER[demand.source])
        audio = int(audio_bps * AUDIO_SPARE)
        budget = max(0, target_bps - audio)
        wanted = audio + sum(_wanted(demand) for demand in demands)
        self._memory = {demand.source: self._remembered(demand) for demand in demands}
        self._draining_bps = draining_bps
        if not limited:
            choices = {demand.source: self._take(demand, demand.layers[-1], now_ns) for demand in demands}
            return Allocation(choices, wanted)
        choices = {}
        for index, demand in enumerate(demands):
            later = demands[index + 1 :]
            reserved = sum(other.least_bps for other in later)
            share = max(demand.least_bps, budget - reserved) if budget >= demand.least_bps else budget
            choice = (
                self._adapting(demand, share, now_ns) if len(demand.layers) == 1 else self._best(demand, share, now_ns)
            )
            choices[demand.source] = choice
            if choice.layer is not None:
                budget -= min(budget, choice.layer.bitrate_bps if choice.bound_bps is None else demand.least_bps)
        return Allocation(choices, wanted)

    def _remembered(self, demand: VideoDemand) -> _Memory:
        return self._memory.get(demand.source) or _Memory(demand.layers[-1])

    def _take(self, demand: VideoDemand, layer: LayerOption | None, now_ns: int, bound: int | None = None) -> Choice:
        memory = self._memory[demand.source]
        if _rank(layer) < _rank(memory.layer):
            memory.fell_ns = now_ns
        memory.layer = layer
        return Choice(layer, bound)

    def _adapting(self, demand: VideoDemand, budget_bps: int, now_ns: int) -> Choice:
        """The only layer, or the lowest: the publisher adapts, or the video is paused."""
        memory = self._memory[demand.source]
        layer = demand.layers[0]
        bound = max(budget_bps, VIDEO_MIN_BPS)
        if memory.layer is not None:
            stays = budget_bps + self._draining_bps >= VIDEO_MIN_BPS
            return self._take(demand, layer if stays else None, now_ns, bound)
        if budget_bps < RESUME_BPS:
            memory.fits_since_ns = None
        elif memory.fits_since_ns is None:
            memory.fits_since_ns = now_ns
        fits = memory.fits_since_ns is not None and now_ns - memory.fits_since_ns >= RESUME_AFTER_NS
        return self._take(demand, layer if fits else None, now_ns, bound)

    def _best(self, demand: VideoDemand, budget_bps: int, now_ns: int) -> Choice:
        """Of several layers: the best that fits."""
        memory = self._memory[demand.source]
        best: LayerOption | None = None
        for layer in demand.layers:
            better = _rank(layer) > _rank(memory.layer)
            if better and now_ns - memory.fell_ns < UP_AFTER_NS and memory.fell_ns:
                continue
            if layer.bitrate_bps * (UP_SPARE if better else DOWN_SPARE) <= budget_bps:
                best = layer if best is None or _rank(layer) > _rank(best) else best
        least = demand.layers[0]
        if demand.adapts and (best is None or best.spatial == least.spatial):
            return self._adapting(demand, budget_bps, now_ns)
        if best is None and memory.layer is not None:
            best = least if least.bitrate_bps * DOWN_SPARE <= budget_bps + self._draining_bps else None
        return self._take(demand, best, now_ns)


def _rank(layer: LayerOption | None) -> tuple[int, int]:
    return (-1, -1) if layer is None else (layer.spatial, layer.temporal)


def _wanted(demand: VideoDemand) -> int:
    return SINGLE_WANTED_BPS if len(demand.layers) == 1 else int(demand.layers[-1].bitrate_bps * UP_SPARE)
