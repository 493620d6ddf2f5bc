"""Joins a page's transport-cc feedback with what was sent: what it newly says of each packet, or of all at once.

Sans-IO, one per subscriber transport.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from relay.plane import SentPacket, SentRun
from relay.rtcp_transport_cc import TICK_NS, TransportFeedback

STATUSES: Final = 8_192
"""Packets remembered as told of. A power of two."""
_UNKNOWN, _LOST, _ARRIVED = 0, 1, 2
_ALL_ARRIVED: Final = bytes((_ARRIVED,)) * STATUSES


class Told(NamedTuple):
    """What a feedback newly says of one packet."""

    sent: SentPacket
    arrival_ns: int | None
    """On the page's clock; None: lost."""
    late: bool = False
    """It was told lost before."""


class FeedbackReader:
    """Joins feedback with what was sent; tells of each packet's arrival once, whatever is repeated or reordered."""

    def __init__(self) -> None:
        self._reference: int | None = None
        self._statuses = bytearray(STATUSES)
        self._newest = -1

    def read(self, feedback: TransportFeedback, sent: Sequence[SentPacket | None]) -> list[Told]:
        """``sent``: for each of the feedback's deltas. In order of sending; forgotten packets are left out."""
        ticks = self.origin_ticks(feedback)
        told: list[Told] = []
        statuses = self._statuses
        for packet, delta in zip(sent, feedback.deltas, strict=True):
            if delta is not None:
                ticks += delta
            if packet is not None and packet.number == self._newest + 1:  # as most are
                self._newest += 1
                statuses[self._newest & STATUSES - 1] = _LOST if delta is None else _ARRIVED
                told.append(Told(packet, None if delta is None else ticks * TICK_NS))
                continue
            if packet is None or packet.number <= self._newest - STATUSES:
                continue
            self._forget_up_to(packet.number)
            slot = packet.number & STATUSES - 1
            status = statuses[slot]
            if delta is None:
                if status == _UNKNOWN:
                    statuses[slot] = _LOST
                    told.append(Told(packet, None))
            elif status != _ARRIVED:
                statuses[slot] = _ARRIVED
                told.append(Told(packet, ticks * TICK_NS, status == _LOST))
        return told

    def take_run(self, run: SentRun) -> None:
        """Packets of which all arrived are told of, in the place of ``read``. For a run that ``follows`` only."""
        self._newest += run.packets
        first = run.first & STATUSES - 1
        fit = min(run.packets, STATUSES - first)
        self._statuses[first : first + fit] = _ALL_ARRIVED[:fit]
        self._statuses[: run.packets - fit] = _ALL_ARRIVED[: run.packets - fit]  # around the end

    def follows(self, run: SentRun) -> bool:
        """Whether a run begins right after the newest packet told of, as most do."""
        return run.first == self._newest + 1

    def origin_ticks(self, feedback: TransportFeedback) -> int:
        """A feedback's 32-bit reference as one that does not wrap; may be asked again of the same feedback."""
        reference = feedback.reference_ticks
        if self._reference is None:
            self._reference = reference + 0x1_0000_0000
        else:
            self._reference += ((reference - self._reference + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000
        return self._reference

    def _forget_up_to(self, number: int) -> None:
        for new in range(max(self._newest + 1, number - STATUSES + 1), number + 1):
            self._statuses[new & STATUSES - 1] = _UNKNOWN
        self._newest = max(self._newest, number)
