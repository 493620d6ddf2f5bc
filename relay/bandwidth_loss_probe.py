"""Whose fault loss is, asked by sending more: the test of the loss-based bound on paths whose queue stays empty.

A radio link that loses a fifth of whatever is sent and a policer that drops what is above its rate look the same: loss,
and never a queue. Sending less for a while would tell, and take the picture down for it. Sending *more* tells as well,
in a tenth of a second: at twice the rate the radio link loses the same share, while of what meets a fixed rate more
than half is gone. What is sent more was sent before, and repairs some of what was lost.

Sans-IO. Rates are bits per second on the wire.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from relay.plane import SentPacket

GROWTH: Final = 2.0
"""How many times the rate of before is sent."""
BYTES_MIN: Final = 36_000
"""So much at least, or there are too few packets to count."""
PACKETS_MIN: Final = 20
GROWN_MIN: Final = 1.3
"""It must have been sent at this many times the rate of before; else it says nothing."""
OWN_SHARE: Final = 0.5
"""How far from the loss before to that of a full path the loss of a test may lie, to be the path's own."""
_SECOND_NS: Final = 1_000_000_000


class LossProbe:
    """One test at a time: ``begin``, ``add`` what feedback tells, ``own`` once all is told."""

    __slots__ = (
        "_bytes",
        "_first_ns",
        "_last_bytes",
        "_last_ns",
        "_lost_bytes",
        "_packets",
        "_sent_bps",
        "_share",
        "cluster",
    )

    def __init__(self) -> None:
        self.cluster = 0
        """The one under way; 0: none."""
        self._sent_bps = self._share = 0.0
        self._packets = self._lost_bytes = self._bytes = self._last_bytes = 0
        self._first_ns = self._last_ns = 0

    def begin(self, cluster: int, sent_bps: float, share: float) -> None:
        """A cluster is about to be sent. ``sent_bps``, ``share``: what was sent before, and lost of it."""
        self.cluster, self._sent_bps, self._share = cluster, sent_bps, share
        self._packets = self._lost_bytes = self._bytes = self._last_bytes = 0
        self._first_ns = self._last_ns = 0

    def add(self, told: Iterable[tuple[SentPacket, bool]]) -> None:
        """Packets of the cluster, and whether each arrived."""
        for sent, arrived in told:
            self._first_ns = min(self._first_ns or sent.sent_ns, sent.sent_ns)
            if sent.sent_ns >= self._last_ns:
                self._last_ns, self._last_bytes = sent.sent_ns, sent.size_bytes
            self._packets += 1
            self._lost_bytes += 0 if arrived else sent.size_bytes  # a full path takes small ones more often
            self._bytes += sent.size_bytes

    @property
    def rate_bps(self) -> float:
        """What was sent while it went on."""
        span_ns = self._last_ns - self._first_ns
        return (self._bytes - self._last_bytes) * 8 * _SECOND_NS / span_ns if span_ns > 0 else 0.0

    @property
    def through_bps(self) -> float:
        """What of it arrived."""
        return self.rate_bps * (1 - self._lost_bytes / self._bytes) if self._bytes else 0.0

    def own(self) -> bool | None:
        """Whether the path loses that share whatever is sent; None: too little was sent to tell. Ends the test."""
        self.cluster = 0
        rate_bps = self.rate_bps
        if self._packets < PACKETS_MIN or rate_bps < GROWN_MIN * self._sent_bps:
            return None
        if_full = 1 - self._sent_bps * (1 - self._share) / rate_bps
        return self._lost_bytes / self._bytes < self._share + OWN_SHARE * (if_full - self._share)
