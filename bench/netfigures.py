"""From what two browsers' getStats said ten times a second to the figures of one call.

One direction is measured: the publisher's camera and microphone, at the subscriber. Counters of a connection that was
replaced go on counting in its successor, so a reconnection is part of the call and not a new one.

``frames_decoded_ratio``
    framesDecoded at the subscriber over framesEncoded at the publisher, of the layer that the subscriber was being
    sent: the encoding whose picture has the size that arrives. Frames under way at either end of the window are allowed
    for by their measured delay (jitter buffer and half of the round trips). Frames of temporal layers that the
    relay leaves out are not of the layer sent (``bench.nettap``). At most 1.
``frozen_ratio``
    totalFreezesDuration and totalPausesDuration (what freezes of more than five seconds are called), plus the gaps
    between streams (no connection counts those), plus a freeze that is still going on at the end; over the window.
``audio_concealed_ratio``
    concealedSamples / totalSamplesReceived: sound that was made up. The silent ones are counted too, because the
    voice never stops (``bench.netmedia``): silence is what a long gap turns into.
``recover_ms``
    From the end of the impairment (for an address change or a kill: from the event) to the first frame that begins a
    second with at least 80 % of the frames of the two seconds before the impairment; None: not within the window.
``layer_path``
    ``[ms since the impairment began, "WxH"]`` for the first picture size at the subscriber and each one after it.
``p95_rtt_ms``
    Round trip from person to person, from the selected candidate pairs: through the relay both sides' added.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.nettap import Frame, left_out

Sample = Mapping[str, Any]
"""One reading of a page, made by ``bench.netpages.SAMPLER``: ``t`` in Unix ms, ``pcs`` with ``in`` and ``out``."""
Key = tuple[int, int]
"""Connection and SSRC."""

LEAD_MS = 2_000
"""The window begins this long before the impairment, which is also where the rate before it is measured."""
RUN_MS = 1_000
RECOVERED = 0.8
TRAILING_FREEZE_MS = 350
"""A frame that is missing for longer than this at the end of the window is a freeze that is going on."""


@dataclass(frozen=True, slots=True)
class Window:
    """When things happened, in Unix ms."""

    impaired_from: float
    impaired_until: float
    end: float

    @property
    def start(self) -> float:
        return self.impaired_from - LEAD_MS

    @property
    def length(self) -> float:
        return self.end - self.start


@dataclass(slots=True)
class Counter:
    """A number that only grows, over the streams of all connections. Between readings it grows evenly."""

    times: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)

    def at(self, t: float) -> float:
        """Its value at that time."""
        after = bisect_right(self.times, t)
        if after == 0:
            return 0.0
        if after == len(self.times):
            return self.totals[-1]
        t0, t1, v0, v1 = *self.times[after - 1 : after + 1], *self.totals[after - 1 : after + 1]
        return v0 + (v1 - v0) * (t - t0) / (t1 - t0)

    def between(self, start: float, end: float) -> float:
        """How much it grew."""
        return self.at(end) - self.at(start)

    def steps(self, start: float, end: float) -> list[float]:
        """The times in (start, end] at which it was found to have grown."""
        return [
            t
            for t, before, now in zip(self.times[1:], self.totals, self.totals[1:], strict=False)
            if now > before and start < t <= end
        ]


def streams(sample: Sample, way: str, kind: str) -> Iterator[tuple[Key, Mapping[str, Any]]]:
    """The streams of a reading. ``way``: ``in`` or ``out``; ``kind``: ``audio`` or ``video``."""
    for pc in sample["pcs"]:
        for stream in pc[way]:
            if stream.get("kind") == kind:
                yield (pc["pc"], stream["ssrc"]), stream


def counter(samples: Sequence[Sample], way: str, kind: str, name: str) -> Counter:
    """One statistic, over all streams that there ever were."""
    made, newest = Counter(), dict[Key, float]()
    for sample in samples:
        for key, stream in streams(sample, way, kind):
            newest[key] = max(newest.get(key, 0), float(stream.get(name, 0)))
        made.times.append(sample["t"])
        made.totals.append(sum(newest.values()))
    return made


def sizes(samples: Sequence[Sample]) -> list[tuple[float, int, int]]:
    """When the picture that the subscriber decodes got which width and height."""
    path: list[tuple[float, int, int]] = []
    decoded: dict[Key, float] = {}
    for sample in samples:
        for key, stream in streams(sample, "in", "video"):
            grew = stream.get("framesDecoded", 0) > decoded.get(key, 0)
            decoded[key] = stream.get("framesDecoded", 0)
            size = stream.get("frameWidth", 0), stream.get("frameHeight", 0)
            if grew and size[0] and (not path or path[-1][1:] != size):
                path.append((sample["t"], *size))
    return path


def size_at(path: Sequence[tuple[float, int, int]], t: float) -> tuple[int, int]:
    """The picture's size at that time; before the first one, the first."""
    held = [entry for entry in path if entry[0] <= t] or list(path[:1])
    return held[-1][1:] if held else (0, 0)


def encoded(samples: Sequence[Sample], path: Sequence[tuple[float, int, int]]) -> Counter:
    """Frames encoded of the layer that the subscriber was being sent at each time."""
    made, newest, total = Counter(), dict[Key, float](), 0.0
    for sample in samples:
        wanted = size_at(path, sample["t"])
        layers: list[tuple[float, float]] = []
        for key, stream in streams(sample, "out", "video"):
            count = float(stream.get("framesEncoded", 0))
            area = stream.get("frameWidth", 0) * stream.get("frameHeight", 0)
            if count > newest.get(key, 0):
                layers.append((abs(area - wanted[0] * wanted[1]), count - newest.get(key, 0)))
            newest[key] = max(newest.get(key, 0), count)
        total += min(layers, default=(0.0, 0.0))[1]
        made.times.append(sample["t"])
        made.totals.append(total)
    return made


def rtt_ms(samples: Sequence[Sample], t: float) -> float:
    """The newest round trip of the selected pair at that time; 0 when none is known."""
    newest = 0.0
    for sample in samples:
        if sample["t"] > t:
            break
        for pc in sample["pcs"]:
            if pc["pair"] is not None and "currentRoundTripTime" in pc["pair"]:
                newest = pc["pair"]["currentRoundTripTime"] * 1000
    return newest


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of them does not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


@dataclass(slots=True)
class Call:
    """Both pages' readings of one call. ``relayed``: through the relay, so that round trips add up."""

    publisher: Sequence[Sample]
    subscriber: Sequence[Sample]
    window: Window
    relayed: bool
    forwarded: Mapping[int, Sequence[Frame]] = field(default_factory=dict)
    """Frames that were sent towards the subscriber, by SSRC; without it no temporal layer is taken for left out."""

    def figures(self) -> dict[str, Any]:
        """The figures that this module's docstring explains, and the longest gap between frames."""
        gap = self.longest_gap_ms(self.window.start, self.window.end)
        return {
            "frames_decoded_ratio": self.frames_decoded_ratio(),
            "frozen_ratio": round(self.frozen_ms() / self.window.length, 4),
            "audio_concealed_ratio": self.audio_concealed_ratio(),
            "recover_ms": self.recover_ms(),
            "layer_path": self.layer_path(),
            "p95_rtt_ms": self.p95_rtt_ms(),
            "longest_gap_ms": round(gap),
        }

    def delay_ms(self, t: float) -> float:
        """How long before ``t`` a frame decoded then was encoded."""
        waited = counter(self.subscriber, "in", "video", "jitterBufferDelay").between(t - 1_000, t)
        emitted = counter(self.subscriber, "in", "video", "jitterBufferEmittedCount").between(t - 1_000, t)
        return (waited / emitted * 1000 if emitted > 0 else 0.0) + self.round_trip_ms(t) / 2

    def round_trip_ms(self, t: float) -> float:
        """From person to person and back."""
        return rtt_ms(self.subscriber, t) + (rtt_ms(self.publisher, t) if self.relayed else 0.0)

    def frames_decoded_ratio(self) -> float:
        start, end = self.window.start, self.window.end
        sent = encoded(self.publisher, sizes(self.subscriber))
        begun, ended = start - self.delay_ms(start), end - self.delay_ms(end)
        expected = sent.between(begun, ended) - self.left_out(sent, begun, ended)
        decoded = self.decoded().between(start, end)
        return round(min(1.0, decoded / expected), 4) if expected > 0 else 0.0

    def left_out(self, sent: Counter, start: float, end: float) -> int:
        """Frames of temporal layers that were not sent on, of those encoded."""
        own = {ssrc for sample in self.subscriber for (_, ssrc), _ in streams(sample, "in", "video")}
        return sum(
            count
            for ssrc in own & self.forwarded.keys()
            for t, count in left_out(self.forwarded[ssrc], lambda at: sent.between(at - RUN_MS, at) * 1000 / RUN_MS)
            if start < t <= end
        )

    def decoded(self) -> Counter:
        """Frames decoded."""
        return counter(self.subscriber, "in", "video", "framesDecoded")

    def frozen_ms(self) -> float:
        """Time without a new picture, as the browser defines it, gaps between streams and at the end included."""
        start, end = self.window.start, self.window.end
        names = "totalFreezesDuration", "totalPausesDuration"
        frozen = sum(counter(self.subscriber, "in", "video", name).between(start, end) * 1000 for name in names)
        frozen += sum(self._gaps_between_streams())
        last = max(self.decoded().steps(start, end), default=start)
        if end - last > TRAILING_FREEZE_MS:
            frozen += end - last
        return min(frozen, self.window.length)

    def _gaps_between_streams(self) -> Iterator[float]:
        """From the last frame of one stream to the first of the next; gaps within a stream are freezes there."""
        last_at, last_key, counts = None, None, dict[Key, float]()
        for sample in self.subscriber:
            for key, stream in streams(sample, "in", "video"):
                if stream.get("framesDecoded", 0) <= counts.get(key, 0):
                    continue
                counts[key] = stream["framesDecoded"]
                if last_at is not None and key != last_key and self.window.start < sample["t"] <= self.window.end:
                    gap = sample["t"] - max(last_at, self.window.start)
                    if gap > TRAILING_FREEZE_MS:
                        yield gap
                last_at, last_key = sample["t"], key

    def longest_gap_ms(self, start: float, end: float) -> float:
        """The longest time without a new frame, to a tenth of a second."""
        moments = [start, *self.decoded().steps(start, end), end]
        return max(b - a for a, b in itertools.pairwise(moments))

    def audio_concealed_ratio(self) -> float:
        def grew(name: str) -> float:
            return counter(self.subscriber, "in", "audio", name).between(self.window.start, self.window.end)

        received = grew("totalSamplesReceived")
        return round(min(1.0, grew("concealedSamples") / received), 4) if received > 0 else 1.0

    def recover_ms(self) -> int | None:
        decoded, window = self.decoded(), self.window
        before = decoded.between(window.start, window.impaired_from) / LEAD_MS
        if before <= 0:
            return None
        for t in decoded.steps(window.impaired_until, window.end - RUN_MS):
            begun = t - 1  # so that the frame found at ``t`` is part of the run
            if decoded.between(begun, begun + RUN_MS) >= RECOVERED * before * RUN_MS:
                return round(t - window.impaired_until)
        return None

    def layer_path(self) -> list[tuple[int, str]]:
        begin, path = self.window.impaired_from, sizes(self.subscriber)
        first = size_at(path, self.window.start)
        shown = [(-LEAD_MS, f"{first[0]}x{first[1]}")]
        for t, width, height in path:
            if self.window.start < t <= self.window.end:
                shown.append((round(t - begin), f"{width}x{height}"))
        return shown

    def p95_rtt_ms(self) -> float | None:
        inside = [s["t"] for s in self.subscriber if self.window.start <= s["t"] <= self.window.end]
        found = percentile([self.round_trip_ms(t) for t in inside], 0.95)
        return None if found is None else round(found, 1)
