"""Whether a path's queue grows: the delay-based half of the bandwidth estimate.

After draft-ietf-rmcat-gcc-02 §4–5: packets sent within one burst form a group; the trend of the groups' one-way delay,
a line through the newest ones, is held against a threshold that adapts to the path (§5.4). Two things are added,
because a line through 20 groups of a wandering delay (radio links) rises as often as it falls: growth counts only
while a queue *stands*, which means that even the luckiest packet of the last 400 ms was late, by more than a share of
the swings that the path shows anyway; and what stands is told, so that the sender can let it drain.

Sans-IO. Times are nanoseconds; the two ends' clocks need not agree, only differences of delay are looked at.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Final

from relay.plane import SentRun

_MS: Final = 1_000_000
BURST_NS: Final = 5 * _MS
"""Packets sent within this form one group."""
GROUPS: Final = 20
"""Groups that the trend is drawn through."""
_SMOOTHING: Final = 0.9
_GAIN: Final = 4.0
_DELTAS_MAX: Final = 60
_OVER_USE_NS: Final = 10 * _MS
_THRESHOLD: Final = 12.5
_THRESHOLD_MIN: Final = 6.0
_THRESHOLD_MAX: Final = 600.0
_THRESHOLD_UP: Final = 0.0087
_THRESHOLD_DOWN: Final = 0.039
_SPIKE_MS: Final = 15.0
"""What is above the threshold by more than this is a spike and does not move it."""
STANDING_NS: Final = 400 * _MS
SWING_NS: Final = 2_000 * _MS
BASE_NS: Final = 10_000 * _MS
"""The path's own delay is the least of the last 10 to 20 s."""
STANDING_MIN_MS: Final = 70.0
"""Less is no trouble; a route that becomes 50 ms longer must not look like a queue."""
SWING_SHARE: Final = 0.25
SWING_MAX_MS: Final = 200.0
"""Swings beyond this are taken for a queue's own."""
LONG_STANDING_MS: Final = 120.0
"""A queue that stands higher than this need not grow to be too much; not falling is enough."""
SAMPLES_MAX: Final = 2_048
"""Packets looked back on; the oldest are forgotten first."""


class Usage(enum.Enum):
    """What the delay says of the path."""

    NORMAL = "normal"
    OVER = "over"
    """A queue stands and grows: send less."""
    UNDER = "under"
    """A queue drains: wait."""


class WindowMin:
    """The least of the values of the last ``span_ns``."""

    __slots__ = ("_span_ns", "_values")

    def __init__(self, span_ns: int) -> None:
        self._span_ns = span_ns
        self._values: deque[tuple[int, float]] = deque(maxlen=SAMPLES_MAX)

    def add(self, at_ns: int, value: float) -> float:
        """Take in a value; the least."""
        values = self._values
        while values and values[-1][1] >= value:
            values.pop()
        values.append((at_ns, value))
        while at_ns - values[0][0] > self._span_ns:
            values.popleft()
        return values[0][1]


class DelayDetector:
    """See the module's docstring. ``add`` every packet that arrived, in order of sending."""

    def __init__(self) -> None:
        self.usage = Usage.NORMAL
        self.queue_ms = 0.0
        """What the newest packet had to wait."""
        self.standing_ms = 0.0
        """What even the luckiest packet of the last ``STANDING_NS`` had to wait."""
        self.swing_ms = 0.0
        """Between the least and the greatest delay of the last ``SWING_NS``."""
        self._base_ns: int | None = None
        self._base_next_ns = 0
        self._base_since_ns = 0
        self._standing = WindowMin(STANDING_NS)
        self._highest = WindowMin(SWING_NS)  # of negated delays
        self._lowest = WindowMin(SWING_NS)
        self._group_sent_ns = 0
        self._group_last_sent_ns = 0
        self._group_arrival_ns = 0
        self._previous: tuple[int, int] | None = None
        self._accumulated_ms = 0.0
        self._smoothed_ms = 0.0
        self._points: deque[tuple[float, float]] = deque(maxlen=GROUPS)
        self._first_arrival_ns: int | None = None
        self._deltas = 0
        self._threshold = _THRESHOLD
        self._threshold_ns = 0
        self._trend = 0.0
        self._over_ns = 0
        self._over_count = 0
        self._direction = 0

    @property
    def allowed_ms(self) -> float:
        """A queue standing no higher than this is no trouble."""
        return STANDING_MIN_MS + SWING_SHARE * min(self.swing_ms, SWING_MAX_MS)

    def add(self, sent_ns: int, arrival_ns: int) -> None:
        """One packet that arrived. ``usage`` says what follows."""
        self._note_delay(sent_ns, arrival_ns)
        if self._group_last_sent_ns == 0:
            self._begin_group(sent_ns, arrival_ns)
        elif sent_ns - self._group_sent_ns < BURST_NS:
            self._group_last_sent_ns = max(self._group_last_sent_ns, sent_ns)
            self._group_arrival_ns = max(self._group_arrival_ns, arrival_ns)
        else:
            self._end_group()
            self._begin_group(sent_ns, arrival_ns)
        self._judge()

    def add_calm(self, run: SentRun) -> None:
        """Packets that came at once, in the place of ``add`` for each of them: no queue grows, and the trend, which is
        drawn anew from here, is level."""
        base_ns = self._note_base(run.last_sent_ns, run.least_ns)
        self.queue_ms = (run.newest_ns - base_ns) / _MS
        least_ms, most_ms = (run.least_ns - base_ns) / _MS, (run.most_ns - base_ns) / _MS
        at_ns = run.last_arrival_ns
        self.standing_ms = self._standing.add(at_ns, least_ms)
        self.swing_ms = -self._highest.add(at_ns, -most_ms) - self._lowest.add(at_ns, least_ms)
        self._group_last_sent_ns = self._over_ns = self._over_count = self._direction = 0
        self._previous = None
        self._points.clear()
        self._trend = 0.0
        self._adapt(0.0, at_ns)
        self._judge()

    @property
    def base_ns(self) -> int | None:
        """The path's own delay, between two clocks; None: nothing has arrived yet."""
        return self._base_ns

    def _note_base(self, sent_ns: int, delay_ns: int) -> int:
        if self._base_ns is None or sent_ns - self._base_since_ns > BASE_NS:
            self._base_ns = delay_ns if self._base_ns is None else min(self._base_next_ns, delay_ns)
            self._base_next_ns, self._base_since_ns = delay_ns, sent_ns
        self._base_ns = min(self._base_ns, delay_ns)
        self._base_next_ns = min(self._base_next_ns, delay_ns)
        return self._base_ns

    def _note_delay(self, sent_ns: int, arrival_ns: int) -> None:
        delay_ns = arrival_ns - sent_ns
        queue_ms = self.queue_ms = (delay_ns - self._note_base(sent_ns, delay_ns)) / _MS
        self.standing_ms = self._standing.add(arrival_ns, queue_ms)
        self.swing_ms = -self._highest.add(arrival_ns, -queue_ms) - self._lowest.add(arrival_ns, queue_ms)

    def _begin_group(self, sent_ns: int, arrival_ns: int) -> None:
        self._group_sent_ns = self._group_last_sent_ns = sent_ns
        self._group_arrival_ns = arrival_ns

    def _end_group(self) -> None:
        sent_ns, arrival_ns = self._group_last_sent_ns, self._group_arrival_ns
        previous, self._previous = self._previous, (sent_ns, arrival_ns)
        if previous is None or arrival_ns < previous[1]:
            return
        gradient_ms = ((arrival_ns - previous[1]) - (sent_ns - previous[0])) / _MS
        if self._first_arrival_ns is None:
            self._first_arrival_ns = arrival_ns
        self._deltas = min(self._deltas + 1, _DELTAS_MAX)
        self._accumulated_ms += gradient_ms
        self._smoothed_ms = _SMOOTHING * self._smoothed_ms + (1 - _SMOOTHING) * self._accumulated_ms
        self._points.append(((arrival_ns - self._first_arrival_ns) / _MS, self._smoothed_ms))
        if len(self._points) == GROUPS:
            self._turn(_slope(self._points), (sent_ns - previous[0]), arrival_ns)

    def _turn(self, slope: float, sent_delta_ns: int, arrival_ns: int) -> None:
        """Hold the trend against the threshold (§5.3)."""
        trend = self._deltas * slope * _GAIN
        if trend > self._threshold:
            self._over_ns += sent_delta_ns
            self._over_count += 1
            if self._over_ns > _OVER_USE_NS and self._over_count > 1 and trend >= self._trend:
                self._over_ns = self._over_count = 0
                self._direction = 1
        else:
            self._over_ns = self._over_count = 0
            self._direction = -1 if trend < -self._threshold else 0
        self._trend = trend
        self._adapt(trend, arrival_ns)

    def _adapt(self, trend: float, arrival_ns: int) -> None:
        """Let the threshold follow the trend slowly (§5.4)."""
        size = abs(trend)
        if size <= self._threshold + _SPIKE_MS:
            factor = _THRESHOLD_DOWN if size < self._threshold else _THRESHOLD_UP
            elapsed_ms = min((arrival_ns - self._threshold_ns) / _MS, 100.0) if self._threshold_ns else 0.0
            self._threshold += factor * (size - self._threshold) * elapsed_ms
            self._threshold = min(max(self._threshold, _THRESHOLD_MIN), _THRESHOLD_MAX)
        self._threshold_ns = arrival_ns

    def _judge(self) -> None:
        high = self.standing_ms - self.allowed_ms
        if (high > 0 and self._direction > 0) or (high > LONG_STANDING_MS and self._direction >= 0):
            self.usage = Usage.OVER
        else:
            self.usage = Usage.UNDER if self._direction < 0 else Usage.NORMAL


def _slope(points: deque[tuple[float, float]]) -> float:
    """Of the line of least squares through the points."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    below = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / below if below else 0.0
