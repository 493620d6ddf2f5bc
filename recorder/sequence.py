"""RTP packets of one stream: read, numbered without wrapping, put back into order, freed of duplicates.

Time is the arrival time of the packets, never a clock, so that the same spool always gives the same order.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.rtp import read_header

REORDER_WAIT_NS: Final = 1_000_000_000
"""How long a missing packet is waited for: retransmissions come within a few round trips."""
START_WAIT_NS: Final = 100_000_000
"""How long the first packet is held, so that those sent before it and overtaken are not lost."""
REORDER_PACKETS_MAX: Final = 4096
"""Packets held for a missing one; beyond it the oldest gap is given up."""
JUMP_MAX: Final = 3000
"""MAX_DROPOUT of RFC 3550 A.1: a larger step is a stray packet, unless the next one goes on from it."""


_EXTENDED: Final = 0x90
"""First byte of a packet with a header extension and nothing else that is optional."""
_EXTENSION_END: Final = 16
_unpack_extended: Final = struct.Struct("!BBHI6xH").unpack_from
_new: Final = tuple.__new__  # what a NamedTuple's own does, without its wrapper: there is one for each packet


class RtpPacket(NamedTuple):
    """The fields of an RTP packet (RFC 3550 §5.1) that depacketising needs."""

    sequence: int
    timestamp: int
    marker: bool
    payload_type: int
    payload: bytes
    """Without header extensions and padding; empty for a packet of padding only."""
    arrival_ns: int


def parse_rtp(packet: bytes, arrival_ns: int) -> RtpPacket | None:
    """Read a packet; None when it is not RTP or is cut short."""
    first = packet[0] if len(packet) >= _EXTENSION_END else 0
    if first == _EXTENDED:  # what browsers send: a header extension, no padding, no contributing sources
        _, second, sequence, timestamp, words = _unpack_extended(packet)
        start, end = _EXTENSION_END + 4 * words, len(packet)
        if start > end:
            return None
    else:
        header = read_header(packet, len(packet))
        if header is None:
            return None
        marker, payload_type, sequence, timestamp, _, _, start, end = header
        second = marker << 7 | payload_type
    return _new(RtpPacket, (sequence, timestamp, second > 127, second & 127, packet[start:end], arrival_ns))


class Unwrapper:
    """Counters of ``bits`` bits as integers that do not wrap, each taken as near as possible to the newest one."""

    def __init__(self, bits: int) -> None:
        self._modulus = 1 << bits
        self.newest: int | None = None

    def peek(self, value: int) -> int:
        """The unwrapped value, without taking note of it."""
        if self.newest is None:
            return value
        delta = (value - self.newest) % self._modulus
        return self.newest + (delta - self._modulus if delta >= self._modulus >> 1 else delta)

    def __call__(self, value: int) -> int:
        unwrapped = self.peek(value)
        if self.newest is None or unwrapped > self.newest:
            self.newest = unwrapped
        return unwrapped


class Ordered(NamedTuple):
    """A packet in its place."""

    packet: RtpPacket
    lost: int
    """How many packets are missing right before it, given up."""


class Reorder:
    """One stream's packets in order of sequence number, each at most once."""

    def __init__(self) -> None:
        self.duplicates = 0
        self.late = 0
        """Packets that came after their place had been given up."""
        self.lost = 0
        self._unwrap = Unwrapper(16)
        self._stray: int | None = None
        self._held: dict[int, RtpPacket] = {}
        self._order: list[int] = []
        self._next: int | None = None
        self._usual = -1
        """The sequence number that is to come while none is held; -1: there is none, or packets are held."""
        self._started_ns: int | None = None

    @property
    def waiting(self) -> bool:
        """Whether packets are held that only time or another packet sets free."""
        return bool(self._held)

    def next(self, packet: RtpPacket) -> bool:
        """Whether a packet, as it arrived, is the very one that was to come, while none is held: what is usual.

        It is taken in then, and is not to be pushed.
        """
        if packet[0] != self._usual or self._next is None:
            return False
        self._unwrap.newest, self._stray = self._next, None
        self._next += 1
        self._usual = self._next & 0xFFFF
        return True

    def push(self, packet: RtpPacket) -> None:
        """Take in a packet as it arrived."""
        self._usual = -1
        number = self._unwrap.peek(packet.sequence)
        newest = self._unwrap.newest
        if newest is not None and abs(number - newest) > JUMP_MAX:
            if self._stray != packet.sequence:
                self._stray = (packet.sequence + 1) & 0xFFFF
                self.late += 1
                return
            number = newest + ((packet.sequence - newest) & 0xFFFF)  # the sender began anew: always forward
            self._unwrap.newest = number
        self._stray = None
        number = self._unwrap(packet.sequence)
        if self._next is not None and number < self._next:
            self.late += 1
        elif number in self._held:
            self.duplicates += 1
        else:
            self._held[number] = packet
            heapq.heappush(self._order, number)
            if self._started_ns is None:
                self._started_ns = packet.arrival_ns

    def pop(self, now_ns: int, *, final: bool = False) -> Iterator[Ordered]:
        """The packets whose turn it is at ``now_ns``; with ``final`` all that are left."""
        if self._next is None:
            if self._started_ns is None or not (final or now_ns - self._started_ns >= START_WAIT_NS):
                return
            self._next = self._order[0]
        while self._order:
            number, lost = self._order[0], self._order[0] - self._next
            if lost and not (final or self._give_up(now_ns, number)):
                return
            heapq.heappop(self._order)
            self.lost += lost
            self._next = number + 1
            yield Ordered(self._held.pop(number), lost)
        if self._next is not None and self._unwrap.newest == self._next - 1:
            self._usual = self._next & 0xFFFF

    def _give_up(self, now_ns: int, number: int) -> bool:
        """Whether what is missing before a held packet was waited for long enough: each gap since it showed, not since
        the one before it was given up, or losses that follow each other add up to seconds."""
        since_ns = self._held[number].arrival_ns
        return now_ns - since_ns >= REORDER_WAIT_NS or len(self._held) > REORDER_PACKETS_MAX
