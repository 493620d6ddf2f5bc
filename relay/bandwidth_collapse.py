"""Whether a path has suddenly become far thinner than what is sent over it, seen from a handful of packets.

A queue that stands and grows takes half a second to be told from a wandering delay (``bandwidth_delay``). On a line
that passes a fifteenth of what it passed before, the queue is full within a few packets, and whatever is sent in that
half second is lost, sound included. But there, packets that were sent within milliseconds come in one by one, each as
long after the one before as the line takes to carry it. Nothing else looks like that: a delay that wanders stretches
time to a few times its length, and a receiver or a radio that pauses makes one gap, after which everything comes at
once.

Sound alone tells nothing: its packets are small and few, and two short stalls of a radio space them just so. So what is
looked at must be of some size; where each gap is as long as its packet takes at the rate of all, it is believed at
once, else only when the packets of a second feedback say so, too.

Sans-IO. Times are nanoseconds, sizes bytes on the wire.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import Final

_MS: Final = 1_000_000
SPAN_NS: Final = 150 * _MS
"""Looked at: the newest packets that took at least this long to arrive."""
SPAN_MAX_NS: Final = 600 * _MS
STRETCH: Final = 6
"""So many times as long as they took to be sent."""
GAP_SHARE: Final = 0.65
"""No gap between two of them is more than this of the whole: it was not one pause."""
PACKETS_MIN: Final = 4
BYTES_MIN: Final = 3_000
UNEVEN_PACKETS_MIN: Final = 5
"""Where gaps do not go with sizes, so many packets, and a second time."""
UNEVEN: Final = 0.35
UNEVEN_NS: Final = 10 * _MS
"""A gap may differ from what its packet takes by this share of it, and by this."""
PACKETS_MAX: Final = 64
"""Looked back on; more packets than that within ``SPAN_NS`` are no collapse."""


class CollapseDetector:
    """``add`` every packet that arrived, in order of sending."""

    __slots__ = ("_doubted", "_packets")

    def __init__(self) -> None:
        self._packets: deque[tuple[int, int, int]] = deque(maxlen=PACKETS_MAX)
        self._doubted: tuple[int, float] | None = None  # when the newest packet was sent that it goes by, and the rate

    def add(self, sent_ns: int, arrival_ns: int, size_bytes: int) -> None:
        """One packet that arrived. One that was overtaken says nothing, and what comes after it begins anew."""
        packets = self._packets
        if packets and (sent_ns < packets[-1][0] or arrival_ns < packets[-1][1]):
            self.clear()
        packets.append((sent_ns, arrival_ns, size_bytes))

    def seen(self) -> float | None:
        """What the path passes now, when it has collapsed; None: it has not, or that is in doubt yet. Ask once after
        the packets of each feedback."""
        train = self._train(PACKETS_MIN)
        if train is not None and _even(train, _rate_bps(train)):
            return _rate_bps(train)
        train = self._train(UNEVEN_PACKETS_MIN)
        before = self._doubted
        if train is None:
            self._doubted = None
        elif before is None:
            self._doubted = train[-1][0], _rate_bps(train)
        elif train[-1][0] > before[0]:
            return max(_rate_bps(train), before[1])
        return None

    def clear(self) -> None:
        """What was seen has been acted upon."""
        self._packets.clear()
        self._doubted = None

    def _train(self, count: int) -> list[tuple[int, int, int]] | None:
        """The newest packets, ``count`` at least, if they came one by one; in order of sending."""
        packets = list(self._packets)
        for first in range(len(packets) - count, -1, -1):
            train = packets[first:]
            span_ns = train[-1][1] - train[0][1]
            if span_ns >= SPAN_NS and sum(size for _, _, size in train) >= BYTES_MIN:
                break
        else:
            return None
        stretched = span_ns <= SPAN_MAX_NS and span_ns >= STRETCH * (train[-1][0] - train[0][0])
        longest_ns = max(later[1] - earlier[1] for earlier, later in itertools.pairwise(train))
        return train if stretched and longest_ns <= GAP_SHARE * span_ns else None


def _rate_bps(train: Sequence[tuple[int, int, int]]) -> float:
    """What came after the first of them, in the time that it took."""
    return sum(size for _, _, size in train[1:]) * 8e9 / (train[-1][1] - train[0][1])


def _even(train: Sequence[tuple[int, int, int]], rate_bps: float) -> bool:
    """Whether each gap is as long as the packet after it takes at that rate."""
    for earlier, later in itertools.pairwise(train):
        takes_ns = later[2] * 8e9 / rate_bps
        if abs(later[1] - earlier[1] - takes_ns) > UNEVEN * takes_ns + UNEVEN_NS:
            return False
    return True
