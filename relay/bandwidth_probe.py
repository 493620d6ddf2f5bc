"""Probing: a short burst above the estimate that shows whether the path takes more.

A server sends what it has, not what the path could take, so that nothing else ever shows that a limit is gone. When
more is wanted than the estimate allows, a cluster is sent at up to twice the estimate for some ten milliseconds; the
spacing at which it arrives is what the path passes. One that succeeds is followed by the next at once, one that fails
makes the next wait longer (draft-ietf-rmcat-gcc-02 leaves probing open; the arithmetic is that of WebRTC's own sender).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MS: Final = 1_000_000
DURATION_NS: Final = 100 * _MS
BYTES_MIN: Final = 1_500
GROWTH: Final = 2.0
FIRST_NS: Final = 1_000 * _MS
"""From a fall of the estimate to the first probe."""
INTERVAL_MAX_NS: Final = 3_000 * _MS
NEXT_NS: Final = 100 * _MS
"""From a probe that succeeded to the next."""
WORTH: Final = 1.2
"""A probe that proves less than this many times the estimate has found the limit again, which is above what is sent on
purpose; heeding it would only fill the path's queue once more."""
ANSWER_MAX_NS: Final = 1_000 * _MS
"""A probe whose feedback has not come by then has failed."""
RECEIVED_MIN: Final = 4
SPAN_MIN_NS: Final = 10 * _MS
SATURATED: Final = 0.9
"""Arriving slower than this share of the rate of sending, the path was full."""
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """A cluster to send."""

    cluster: int
    rate_bps: int
    size_bytes: int


class Prober:
    """When to probe, and what came of it."""

    def __init__(self) -> None:
        self._clusters = 0
        self._open = 0
        self._sent_ns = 0
        self._next_ns = 0
        self._interval_ns = FIRST_NS
        self._packets: list[tuple[int, int, int]] = []

    def fell(self, now_ns: int) -> None:
        """The estimate fell: no probing for a while."""
        self._open = 0
        self._interval_ns = FIRST_NS
        self._next_ns = now_ns + FIRST_NS

    def plan(self, wanted_bps: float, estimate_bps: float, now_ns: int) -> ProbePlan | None:
        """The cluster to send now, if any."""
        if self._open and now_ns - self._sent_ns > ANSWER_MAX_NS:
            self._failed(now_ns)
        if self._open or now_ns < self._next_ns or wanted_bps <= estimate_bps:
            return None
        return self._begin(int(min(GROWTH * estimate_bps, 1.2 * wanted_bps)), BYTES_MIN, now_ns)

    def plan_test(self, rate_bps: int, bytes_min: int, now_ns: int) -> ProbePlan | None:
        """A cluster whose losses somebody else counts; None: another one is under way."""
        if self._open and now_ns - self._sent_ns <= ANSWER_MAX_NS:
            return None
        return self._begin(rate_bps, bytes_min, now_ns)

    def cancel(self, now_ns: int) -> None:
        """Nothing may be sent now that need not be: forget the open cluster, which has not failed."""
        if self._open:
            self._open = 0
            self._next_ns = max(self._next_ns, now_ns + NEXT_NS)

    def add(self, cluster: int, size_bytes: int, sent_ns: int, arrival_ns: int) -> None:
        """A packet of a cluster arrived."""
        if cluster == self._open:
            self._packets.append((sent_ns, arrival_ns, size_bytes))

    def result(self, estimate_bps: float, now_ns: int, *, passed: bool) -> float | None:
        """What the open cluster proved, once feedback ``passed`` its last packet; None: nothing, or nothing yet."""
        if not self._open or not passed:
            return None
        rate = self._rate()
        self._open = 0
        if rate is None or rate <= estimate_bps * WORTH:
            self._failed(now_ns)
            return None
        self._interval_ns = FIRST_NS
        self._next_ns = now_ns + NEXT_NS
        return rate

    def end_test(self) -> None:
        """All was told of the cluster of a test."""
        self._open = 0

    @property
    def open_cluster(self) -> int:
        """The cluster whose feedback is awaited; 0: none."""
        return self._open

    def _begin(self, rate_bps: int, bytes_min: int, now_ns: int) -> ProbePlan:
        self._clusters += 1
        self._open, self._sent_ns = self._clusters, now_ns
        self._packets.clear()
        return ProbePlan(self._open, rate_bps, max(bytes_min, rate_bps * DURATION_NS // _SECOND_NS // 8))

    def _failed(self, now_ns: int) -> None:
        self._open = 0
        self._next_ns = now_ns + self._interval_ns
        self._interval_ns = min(self._interval_ns * 2, INTERVAL_MAX_NS)

    def _rate(self) -> float | None:
        packets = self._packets
        if len(packets) < RECEIVED_MIN:
            return None
        first_sent, last_sent = min(p[0] for p in packets), max(p[0] for p in packets)
        first_arrived, last_arrived = min(p[1] for p in packets), max(p[1] for p in packets)
        total = sum(p[2] for p in packets)
        last_size = next(p[2] for p in packets if p[0] == last_sent)
        first_size = next(p[2] for p in packets if p[1] == first_arrived)
        if last_sent - first_sent < SPAN_MIN_NS:
            return None
        sending = (total - last_size) * 8 * _SECOND_NS / (last_sent - first_sent)
        arriving = (total - first_size) * 8 * _SECOND_NS / max(last_arrived - first_arrived, _MS)
        return arriving * 0.95 if arriving < SATURATED * sending else min(sending, arriving)
