"""Whether a path has suddenly become far thinner than what is sent over it, seen from a handful of packets.

A queue that stands and grows takes half a second to be told from a wandering delay (``bandwidth_delay``). On a line
that passes a fifteenth of what it passed before, the queue is full within a few packets, and whatever is sent in that
half second is lost, sound included. But there, packets that were sent within milliseconds come in one by one, each as
long after the one before as the line takes to carry it. Nothing else looks like that: a delay that wanders stretches
time to a few times its length, and a receiver or a radio that pauses makes one gap, after which everything comes at
once.

Sans-IO. Times are nanoseconds, sizes bytes on the wire.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_MS: Final = 1_000_000
SPAN_NS: Final = 150 * _MS
"""Looked at: the newest packets that took at least this long to arrive."""
SPAN_MAX_NS: Final = 600 * _MS
STRETCH: Final = 6
"""So many times as long as they took to be sent."""
GAP_SHARE: Final = 0.65
"""No gap between two of them is more than this of the whole: it was not one pause."""
PACKETS_MIN: Final = 3
PACKETS_MAX: Final = 64
"""Looked back on; more packets than that within ``SPAN_NS`` are no collapse."""


class CollapseDetector:
    """``add`` every packet that arrived, in order of sending."""

    __slots__ = ("_packets",)

    def __init__(self) -> None:
        self._packets: deque[tuple[int, int, int]] = deque(maxlen=PACKETS_MAX)

    def add(self, sent_ns: int, arrival_ns: int, size_bytes: int) -> None:
        """One packet that arrived. One that was overtaken says nothing, and what comes after it begins anew."""
        packets = self._packets
        if packets and (sent_ns < packets[-1][0] or arrival_ns < packets[-1][1]):
            packets.clear()
        packets.append((sent_ns, arrival_ns, size_bytes))

    @property
    def rate_bps(self) -> float | None:
        """What the path passes now, when it has collapsed; None: it has not."""
        packets = self._packets
        if len(packets) < PACKETS_MIN:
            return None
        last_sent, later, size = packets[-1]
        last_arrival, gap, count = later, 0, 1
        for sent_ns, arrival_ns, size_bytes in list(packets)[-2::-1]:
            gap, later, count = max(gap, later - arrival_ns), arrival_ns, count + 1
            span_ns = last_arrival - arrival_ns
            if span_ns >= SPAN_NS:
                stretched = span_ns >= STRETCH * (last_sent - sent_ns) and span_ns <= SPAN_MAX_NS
                one_by_one = count >= PACKETS_MIN and gap <= GAP_SHARE * span_ns
                return size * 8e9 / span_ns if stretched and one_by_one else None
            size += size_bytes
        return None

    def clear(self) -> None:
        """What was seen has been acted upon."""
        self._packets.clear()
