"""Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).

The receiver tells when each packet of a transport arrived, counted by a sequence number that all its streams share.
Time is in ticks of 250 µs: a reference of 24 bits in units of 256 ticks, then a delta per received packet.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

TICK_NS: Final = 250_000
STATUSES_MAX: Final = 8_192
"""Packets that one feedback may speak of; a parser refuses more, a builder starts another."""
RECEIVED_MAX: Final = 256
"""Received packets in one feedback that we build, which keeps it well under the path's MTU."""

_HEAD: Final = struct.Struct("!HHI")
_DELTA_MIN: Final = -0x8000
_DELTA_MAX: Final = 0x7FFF
_LOST, _SMALL, _LARGE = 0, 1, 2


class TransportFeedback(NamedTuple):
    """A parsed feedback."""

    sender_ssrc: int
    media_ssrc: int
    base_sequence: int
    feedback_count: int
    """Counts feedbacks modulo 256, so that their loss shows."""
    reference_ticks: int
    """The receiver's clock modulo 2³², in ticks of 250 µs; a multiple of 256."""
    deltas: tuple[int | None, ...]
    """For ``base_sequence`` and its followers: ticks since the previous received packet (the reference, for the
    first), None: not received."""


def parse_transport_feedback(sender_ssrc: int, media_ssrc: int, body: bytes) -> TransportFeedback | None:
    """The feedback in the FCI ``body``; None: malformed."""
    if len(body) < _HEAD.size:
        return None
    base, count, tail = _HEAD.unpack_from(body)
    if not 0 < count <= STATUSES_MAX:
        return None
    symbols: list[int] = []
    at = _HEAD.size
    while len(symbols) < count:
        if at + 2 > len(body):
            return None
        chunk = body[at] << 8 | body[at + 1]
        at += 2
        if not chunk & 0x8000:
            symbols += [chunk >> 13 & 3] * min(chunk & 0x1FFF, count - len(symbols))
            if not chunk & 0x1FFF:
                return None
        elif chunk & 0x4000:
            symbols += [chunk >> shift & 3 for shift in range(12, -1, -2)]
        else:
            symbols += [chunk >> shift & 1 for shift in range(13, -1, -1)]
    del symbols[count:]
    told = tail & 0xFF, tail >> 8 << 8
    if symbols.count(_SMALL) == count and at + count <= len(body):  # as most are: nothing lost, no pause
        return TransportFeedback(sender_ssrc, media_ssrc, base, *told, tuple(body[at : at + count]))
    deltas: list[int | None] = []
    for symbol in symbols:
        if symbol == _LOST:
            deltas.append(None)
            continue
        size = 1 if symbol == _SMALL else 2
        if symbol > _LARGE or at + size > len(body):
            return None
        deltas.append(int.from_bytes(body[at : at + size], "big", signed=symbol == _LARGE))
        at += size
    return TransportFeedback(sender_ssrc, media_ssrc, base, *told, tuple(deltas))


def pack_transport_feedback(
    sender_ssrc: int, media_ssrc: int, base: int, last: int, arrivals: Mapping[int, int], feedback_count: int
) -> tuple[bytes, int]:
    """One feedback on packets ``base`` … at most ``last`` (extended numbers), and the number it stops before.

    ``arrivals``: number → arrival_ns of what was received; ``last``, less than ``STATUSES_MAX`` after ``base``, must be
    among it. It stops early where it becomes too long, or where two arrivals are further apart than a delta can say
    (±8.19 s): go on from there with another.
    """
    first = next(number for number in range(base, last + 1) if number in arrivals)
    reference = arrivals[first] // TICK_NS >> 8
    previous = reference << 8
    symbols: list[int] = []
    deltas = bytearray()
    received = 0
    for number in range(base, last + 1):
        arrival_ns = arrivals.get(number)
        if arrival_ns is None:
            symbols.append(_LOST)
            continue
        ticks = arrival_ns // TICK_NS
        delta = ticks - previous
        if received == RECEIVED_MAX or not _DELTA_MIN <= delta <= _DELTA_MAX:
            break
        if 0 <= delta <= 0xFF:
            symbols.append(_SMALL)
            deltas.append(delta)
        else:
            symbols.append(_LARGE)
            deltas += (delta & 0xFFFF).to_bytes(2, "big")
        previous = ticks
        received += 1
    while symbols[-1] == _LOST:  # what is missing at the end may yet arrive
        symbols.pop()
    head = struct.pack("!IIHHI", sender_ssrc, media_ssrc, base & 0xFFFF, len(symbols), 0)
    head = head[:-4] + struct.pack("!I", (reference & 0xFFFFFF) << 8 | feedback_count & 0xFF)
    body = head + _pack_chunks(symbols) + deltas
    padding = -len(body) % 4
    if padding:
        body += bytes(padding - 1) + bytes((padding,))
    head_byte = 0x80 | (0x20 if padding else 0) | 15
    return struct.pack("!BBH", head_byte, 205, len(body) // 4) + body, base + len(symbols)


def _pack_chunks(symbols: list[int]) -> bytes:
    """Status chunks: runs where they save bytes, else vectors of 14 one-bit or 7 two-bit symbols."""
    chunks = bytearray()
    at, count = 0, len(symbols)
    while at < count:
        symbol = symbols[at]
        run = at + 1
        while run < count and run - at < 0x1FFF and symbols[run] == symbol:
            run += 1
        if run - at >= 14 or run == count or (symbol == _LARGE and run - at >= 7):
            chunk = symbol << 13 | run - at
            at = run
        elif _LARGE in symbols[at : at + 14]:
            chunk = 0xC000
            for i, value in enumerate(symbols[at : at + 7]):
                chunk |= value << 12 - 2 * i
            at += 7
        else:
            chunk = 0x8000
            for i, value in enumerate(symbols[at : at + 14]):
                chunk |= value << 13 - i
            at += 14
        chunks += chunk.to_bytes(2, "big")
    return bytes(chunks)
