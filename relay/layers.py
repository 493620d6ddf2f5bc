"""Layers of a published track: what each sends, which to take, and which nobody takes.

Sans-IO. A page may send a picture several times at different sizes (simulcast), and each of them in temporal layers. A
``LayerMeter`` measures one encoding, ``choose`` picks the one that a subscriber gets, and a ``LayerDemand`` says when
its page should begin or cease to send one, so that nobody encodes for no one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from relay.plane import ALL_TEMPORAL, TEMPORAL_LAYERS, StreamCounters

_MS: Final = 1_000_000
_SECOND_NS: Final = 1_000 * _MS
WINDOW_NS: Final = _SECOND_NS
SAMPLE_NS: Final = 90 * _MS
"""Samples are not taken closer than this: a window holds about ten."""
SILENT_NS: Final = 700 * _MS
"""An encoding that has sent nothing for this long is dead, if another of its track still speaks."""
SPEAKS_NS: Final = 300 * _MS
HOLD_NS: Final = 5_000 * _MS
"""An encoding goes on for this long after the last one took it."""
RETELL_NS: Final = 2_000 * _MS
"""A page that was asked for an encoding and does not send it is asked again this often."""
LATE_NS: Final = 1_500 * _MS
"""An encoding that was asked for and has not come: the next lower one is wanted, too."""


class TemporalView(NamedTuple):
    """What an encoding takes up to one temporal layer."""

    bitrate_bps: int
    """Of this and the lower layers, RTP headers included."""
    frames_per_second: float


class LayerView(NamedTuple):
    """One encoding of a track at this moment."""

    spatial: int
    """0: the smallest picture."""
    rid: str
    """Empty where the track has one encoding."""
    alive: bool
    """Whether it is being sent; one that is not can be asked for all the same."""
    width: int
    """0: not known."""
    height: int
    temporal: tuple[TemporalView, ...]
    """Ascending; the last is the whole encoding."""

    @property
    def bitrate_bps(self) -> int:
        return self.temporal[-1].bitrate_bps

    @property
    def frames_per_second(self) -> float:
        return self.temporal[-1].frames_per_second


class Target(NamedTuple):
    """The best that a subscriber should get of a track."""

    spatial: int
    temporal: int = ALL_TEMPORAL


class LayerMeter:
    """Bitrate and frame rate of one encoding over the last second, per temporal layer."""

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: deque[tuple[int, tuple[int, ...], tuple[int, ...]]] = deque()

    def sample(self, counters: StreamCounters, now_ns: int) -> None:
        """Take the counters in; call it about ten times a second."""
        samples = self._samples
        if samples and now_ns - samples[-1][0] < SAMPLE_NS:
            return
        samples.append((now_ns, tuple(counters.temporal_bytes), tuple(counters.temporal_frames)))
        while len(samples) > 2 and now_ns - samples[1][0] >= WINDOW_NS:
            samples.popleft()

    def view(self) -> tuple[TemporalView, ...]:
        """What each temporal layer takes, with those below it; layers on top that send nothing are left out."""
        if len(self._samples) < 2:
            return (TemporalView(0, 0.0),)
        began_ns, old_bytes, old_frames = self._samples[0]
        ended_ns, new_bytes, new_frames = self._samples[-1]
        passed_ns = max(ended_ns - began_ns, 1)
        views: list[TemporalView] = []
        size = frames = 0
        for temporal in range(TEMPORAL_LAYERS):
            more = new_bytes[temporal] - old_bytes[temporal]
            if temporal and not more:
                break
            size += more
            frames += new_frames[temporal] - old_frames[temporal]
            views.append(TemporalView(size * 8 * _SECOND_NS // passed_ns, frames * _SECOND_NS / passed_ns))
        return tuple(views)


def living(last_heard_ns: Sequence[int], now_ns: int) -> list[bool]:
    """Which encodings are being sent, by when each was heard last (0: never).

    Where all are silent, by the network or because the camera is off, none is more dead than the others.
    """
    newest = max(last_heard_ns, default=0)
    if not newest:
        return [False] * len(last_heard_ns)
    reference_ns = now_ns if now_ns - newest <= SPEAKS_NS else newest
    return [heard > 0 and reference_ns - heard <= SILENT_NS for heard in last_heard_ns]


def choose(alive: Sequence[bool], spatial_max: int) -> int | None:
    """The best encoding up to ``spatial_max`` that is alive, else the lowest above; None: all are dead."""
    for spatial in range(min(spatial_max, len(alive) - 1), -1, -1):
        if alive[spatial]:
            return spatial
    return next((spatial for spatial, lives in enumerate(alive) if lives), None)


class LayerDemand:
    """Which encodings of a track its page should send.

    A page begins with all: a browser that begins with the largest alone sends that small and blurred for many seconds.
    """

    def __init__(self, count: int) -> None:
        """``count``: encodings."""
        self._wanted_ns: list[int | None] = [None] * count
        self._asked_ns: list[int | None] = [None] * count
        """Since when an encoding is wanted and not there."""
        self._told = frozenset(range(count))
        self._told_ns: int | None = None

    def update(self, targets: Sequence[int], alive: Sequence[bool], now_ns: int) -> frozenset[int] | None:
        """``targets``: the encoding that each subscriber (and the recorder) would like. What to tell the page now:
        which encodings to send; None: nothing new. Call it often."""
        if self._told_ns is None:
            self._told_ns = now_ns
            self._wanted_ns = [now_ns] * len(alive)
        wanted = {min(target, len(alive) - 1) for target in targets}
        for spatial in sorted(wanted, reverse=True):
            self._add_lower(wanted, spatial, alive, now_ns)
        for spatial in range(len(alive)):
            if spatial in wanted:
                self._wanted_ns[spatial] = now_ns
            if spatial not in wanted or alive[spatial]:
                self._asked_ns[spatial] = None
        kept = frozenset(
            spatial
            for spatial, wanted_ns in enumerate(self._wanted_ns)
            if wanted_ns is not None and now_ns - wanted_ns < HOLD_NS
        )
        missing = any(not alive[spatial] for spatial in wanted)
        if kept == self._told and not (missing and now_ns - self._told_ns >= RETELL_NS):
            return None
        self._told, self._told_ns = kept, now_ns
        return kept

    def _add_lower(self, wanted: set[int], spatial: int, alive: Sequence[bool], now_ns: int) -> None:
        """Want lower ones, too, in the place of one that does not come: a thin uplink, or a small camera."""
        while spatial > 0 and not alive[spatial]:
            since_ns = self._asked_ns[spatial]
            if since_ns is None:
                since_ns = self._asked_ns[spatial] = now_ns
            if now_ns - since_ns < LATE_NS:
                return
            spatial -= 1
            wanted.add(spatial)
