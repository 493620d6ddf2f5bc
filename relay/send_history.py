"""What was sent to one transport, by transport-wide sequence number: what its feedback is held against.

The numbers are ours, one space per transport, counted over everything that carries the extension: audio, video, RTX
and probes (draft-holmer-rmcat-transport-wide-cc-extensions-01 §2).
"""

from __future__ import annotations

from array import array
from typing import Final

from relay.plane import SentPacket

SENT_MAX: Final = 8_192
"""Packets remembered, over 3 s of 20 Mb/s; the oldest are forgotten first. A power of two."""
UDP_OVERHEAD_BYTES: Final = 28
"""IPv4 and UDP headers: what a link carries beside the datagram itself."""


class SendHistory:
    """A ring of plain numbers, so that noting a packet allocates nothing."""

    __slots__ = ("_clusters", "_highest", "_sent_ns", "_sizes")

    def __init__(self) -> None:
        self._highest = -1
        self._sent_ns = array("q", bytes(8 * SENT_MAX))
        self._sizes = array("i", bytes(4 * SENT_MAX))
        self._clusters = array("i", bytes(4 * SENT_MAX))

    def note(self, datagram_bytes: int, sent_ns: int, cluster: int = 0) -> int:
        """A packet of this many bytes leaves now as part of a probe ``cluster`` (0: none); its 16-bit number."""
        self._highest = number = self._highest + 1
        slot = number & SENT_MAX - 1
        self._sent_ns[slot] = sent_ns
        self._sizes[slot] = datagram_bytes + UDP_OVERHEAD_BYTES
        self._clusters[slot] = cluster
        return number & 0xFFFF

    def resize(self, datagram_bytes: int) -> None:
        """The packet noted last became this long, encrypted."""
        self._sizes[self._highest & SENT_MAX - 1] = datagram_bytes + UDP_OVERHEAD_BYTES

    def get(self, sequence: int) -> SentPacket | None:
        """The newest packet with this 16-bit number; None: never sent, or forgotten."""
        highest = self._highest
        number = highest - ((highest - sequence) & 0xFFFF)
        if number < 0 or highest - number >= SENT_MAX:
            return None
        slot = number & SENT_MAX - 1
        return SentPacket(number, self._sizes[slot], self._sent_ns[slot], self._clusters[slot])
