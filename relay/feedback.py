"""What the relay tells senders of packets: which ones it misses (NACK), and when each arrived (transport-cc).

Sans-IO: fed with numbers and times, asked for what is due.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relay.rtcp_transport_cc import STATUSES_MAX, pack_transport_feedback

MISSING_MAX: Final = 256
"""Packets of one stream that are asked for at a time; a larger hole is given up and a key frame asked for."""
NACK_TRIES_MAX: Final = 8
NACK_DELAY_NS: Final = 8_000_000
"""How long a missing packet may be merely reordered before it is asked for."""
NACK_INTERVAL_MIN_NS: Final = 20_000_000
NACK_INTERVAL_MAX_NS: Final = 100_000_000
FEEDBACK_INTERVAL_NS: Final = 75_000_000
FEEDBACK_EARLY_NS: Final = 15_000_000
"""A feedback due within this time leaves with one that is due now, so that those of many transports leave together."""
ARRIVALS_MAX: Final = 2_048
"""Arrivals remembered per transport; the oldest are forgotten first, told or not."""
_RETOLD: Final = 512
"""How far back a reordered packet makes the next feedback start."""


class MissingPackets:
    """The holes in one stream, and when to ask for them again. Numbers are extended sequence numbers."""

    __slots__ = ("_due_ns", "_missing")

    def __init__(self) -> None:
        self._missing: dict[int, list[int]] = {}  # number → [tries, next_ns], in ascending order of number
        self._due_ns: int | None = None

    def __len__(self) -> int:
        return len(self._missing)

    def __iter__(self) -> Iterator[int]:
        return iter(self._missing)

    def add(self, first: int, last: int, now_ns: int) -> bool:
        """Note that ``first`` … ``last`` have not come, though later ones have. False: too many, all given up."""
        if len(self._missing) + last - first + 1 > MISSING_MAX:
            self.clear()
            return False
        at_ns = now_ns + NACK_DELAY_NS
        for number in range(first, last + 1):
            self._missing[number] = [0, at_ns]
        if self._due_ns is None or at_ns < self._due_ns:
            self._due_ns = at_ns
        return True

    def arrived(self, number: int) -> bool:
        """A late packet came; whether it had been asked for."""
        entry = self._missing.pop(number, None)
        return entry is not None and entry[0] > 0

    def clear(self) -> None:
        """Give up on everything."""
        self._missing.clear()
        self._due_ns = None

    @property
    def due_ns(self) -> int | None:
        """When ``due`` has something to say; None: nothing is missing."""
        return self._due_ns if self._missing else None

    def due(self, now_ns: int, round_trip_ns: int) -> tuple[list[int], int]:
        """Numbers to ask for now, ascending, and how many were given up after ``NACK_TRIES_MAX``."""
        interval_ns = min(max(round_trip_ns, NACK_INTERVAL_MIN_NS), NACK_INTERVAL_MAX_NS)
        asked: list[int] = []
        given_up: list[int] = []
        for number, entry in self._missing.items():
            if entry[1] > now_ns:
                continue
            if entry[0] >= NACK_TRIES_MAX:
                given_up.append(number)
                continue
            entry[0] += 1
            entry[1] = now_ns + interval_ns
            asked.append(number)
        for number in given_up:
            del self._missing[number]
        self._due_ns = min((entry[1] for entry in self._missing.values()), default=None)
        return asked, len(given_up)


class ArrivalLog:
    """Arrivals of one transport's packets, for transport-cc feedback."""

    __slots__ = ("_arrivals", "_base", "_count", "_highest", "due_ns")

    def __init__(self) -> None:
        self._arrivals: dict[int, int] = {}  # extended number → arrival_ns, in order of arrival
        self._highest = -1
        self._base = -1
        """The first number of the next feedback."""
        self._count = 0
        self.due_ns: int | None = None
        """When the next feedback is due; None: nothing new to tell."""

    def note(self, sequence: int, arrival_ns: int) -> None:
        """A packet with this transport-wide number (16 bits) arrived."""
        highest = self._highest
        if highest < 0:
            number = self._highest = self._base = sequence + 0x10000  # room for reordered ones below
        else:
            delta = ((sequence - highest + 0x8000) & 0xFFFF) - 0x8000
            number = highest + delta
            if delta > 0:
                self._highest = number
            elif number < self._base:
                if number < self._base - _RETOLD:
                    return
                self._base = number
        arrivals = self._arrivals
        arrivals[number] = arrival_ns
        if len(arrivals) > ARRIVALS_MAX:
            del arrivals[next(iter(arrivals))]
        if self.due_ns is None:
            self.due_ns = arrival_ns + FEEDBACK_INTERVAL_NS

    def take(self, sender_ssrc: int, media_ssrc: int) -> list[bytes]:
        """The feedbacks on everything not told yet, as RTCP packets."""
        self.due_ns = None
        packets: list[bytes] = []
        base = max(self._base, self._highest - STATUSES_MAX + 1)
        while base <= self._highest and self._highest in self._arrivals:
            packet, base = pack_transport_feedback(
                sender_ssrc, media_ssrc, base, self._highest, self._arrivals, self._count
            )
            self._count = (self._count + 1) & 0xFF
            packets.append(packet)
        self._base = base
        self._forget(base - _RETOLD)
        return packets

    def _forget(self, below: int) -> None:
        """Drop what no feedback can need again; one that came out of order may stay a little longer."""
        arrivals = self._arrivals
        while arrivals and (oldest := next(iter(arrivals))) < below:
            del arrivals[oldest]
