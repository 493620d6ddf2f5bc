"""RTP packets in place (RFC 3550 §5.1): reading headers and extensions (RFC 8285), sequence numbers, RTX (RFC 4588).

Packets stay the sender's bytes: nothing is parsed into objects and printed again, so extensions and payloads that this
program does not know survive. Nothing here raises on remote bytes; what is no RTP packet reads as None.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

Buffer = bytes | bytearray | memoryview

HEADER_BYTES: Final = 12
SEQUENCE_JUMP_MAX: Final = 3_000
"""A forward jump larger than this is a restart, not loss (RFC 3550 A.1, MAX_DROPOUT)."""
EXTENSIONS_MAX: Final = 32
"""Extension elements read from one packet; further ones are ignored."""

_ONE_BYTE: Final = 0xBEDE
_TWO_BYTE: Final = 0x1000
_HEAD: Final = struct.Struct("!BBHII")
pack_head_into = _HEAD.pack_into
"""(buffer, offset, first byte, second byte, sequence, timestamp, ssrc): write the fixed 12 bytes."""
_unpack_head_from = _HEAD.unpack_from


class RtpHeader(NamedTuple):
    """Where things are in one packet. The payload is ``packet[payload_start:payload_end]``."""

    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    extensions_start: int
    """Offset of the 4-byte extension header; 0 without extensions."""
    payload_start: int
    payload_end: int
    """Without padding; equal to ``payload_start`` for a packet of padding only."""


def read_header(packet: Buffer, length: int) -> RtpHeader | None:
    """Read the header of a packet of ``length`` bytes (the buffer may be longer); None: malformed."""
    if length < HEADER_BYTES:
        return None
    first, second, sequence, timestamp, ssrc = _unpack_head_from(packet)
    if first & 0xC0 != 0x80:
        return None
    extensions_start = 0
    start = HEADER_BYTES + 4 * (first & 15)
    if first & 0x10:
        extensions_start = start
        if start + 4 > length:
            return None
        start += 4 + 4 * (packet[start + 2] << 8 | packet[start + 3])
    if start > length:
        return None
    end = length
    if first & 0x20:
        padding = packet[length - 1] if length > start else 0
        if padding == 0 or padding > length - start:
            return None
        end -= padding
    return RtpHeader(second > 127, second & 127, sequence, timestamp, ssrc, extensions_start, start, end)


def read_extensions(packet: Buffer, header: RtpHeader) -> list[tuple[int, int, int]]:
    """Extension elements as (id, offset of the value, length of the value), in order; malformed rests are ignored."""
    elements: list[tuple[int, int, int]] = []
    at = header.extensions_start
    if not at:
        return elements
    end = header.payload_start
    profile = packet[at] << 8 | packet[at + 1]
    at += 4
    if profile == _ONE_BYTE:
        while at < end and len(elements) < EXTENSIONS_MAX:
            byte = packet[at]
            if byte == 0:
                at += 1
                continue
            length = (byte & 15) + 1
            if byte >= 0xF0 or at + 1 + length > end:
                break
            elements.append((byte >> 4, at + 1, length))
            at += 1 + length
    elif profile & 0xFFF0 == _TWO_BYTE:
        while at + 1 < end and len(elements) < EXTENSIONS_MAX:
            if packet[at] == 0:
                at += 1
                continue
            length = packet[at + 1]
            if at + 2 + length > end:
                break
            elements.append((packet[at], at + 2, length))
            at += 2 + length
    return elements


def get_extension(packet: Buffer, header: RtpHeader, extension_id: int) -> bytes | None:
    """The value of one extension; None: the packet does not carry it."""
    for found, at, length in read_extensions(packet, header):
        if found == extension_id:
            return bytes(packet[at : at + length])
    return None


def pack_extensions(elements: Sequence[tuple[int, Buffer]]) -> bytes:
    """The extension part of a header, its 4-byte header included; empty for no elements.

    One-byte form where all ids and lengths allow it, else two-byte form. Ids are 1–255, values at most 255 bytes.
    """
    if not elements:
        return b""
    body = bytearray()
    if all(0 < key < 15 and 0 < len(value) <= 16 for key, value in elements):
        profile = _ONE_BYTE
        for key, value in elements:
            body.append(key << 4 | len(value) - 1)
            body += value
    else:
        profile = _TWO_BYTE
        for key, value in elements:
            body += bytes((key, len(value)))
            body += value
    body += bytes(-len(body) % 4)
    return struct.pack("!HH", profile, len(body) // 4) + body


def unwrap_rtx(packet: Buffer, header: RtpHeader, payload_type: int, ssrc: int) -> bytes | None:
    """The packet that an RTX packet repairs (RFC 4588 §4): original sequence number, ``payload_type`` and ``ssrc``.

    None where there is no room for an original sequence number: a probe of padding only.
    """
    start, end = header.payload_start, header.payload_end
    if end - start < 2:
        return None
    head = bytearray(packet[:start])
    head[0] &= 0xDF
    head[1] = (header.marker << 7) | payload_type
    head[2:4] = packet[start : start + 2]
    head[8:12] = ssrc.to_bytes(4, "big")
    return bytes(head) + bytes(packet[start + 2 : end])


def sequence_delta(newer: int, older: int) -> int:
    """``newer - older`` in 16-bit arithmetic, −32768 … 32767."""
    return ((newer - older + 0x8000) & 0xFFFF) - 0x8000


def timestamp_delta(newer: int, older: int) -> int:
    """``newer - older`` in 32-bit arithmetic, −2³¹ … 2³¹−1."""
    return ((newer - older + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000


class Unwrapper:
    """Turns 16-bit numbers into ones that do not wrap, each by its distance to the highest seen."""

    __slots__ = ("highest",)

    def __init__(self) -> None:
        self.highest: int | None = None

    def unwrap(self, number: int) -> int:
        """The extended number; the first one is itself, ones reordered before it may be negative."""
        highest = self.highest
        if highest is None:
            self.highest = number
            return number
        delta = ((number - highest + 0x8000) & 0xFFFF) - 0x8000
        if delta > 0:
            self.highest = highest + delta
        return highest + delta


def make_packet(
    *,
    payload_type: int,
    sequence: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    marker: bool = False,
    extensions: Iterable[tuple[int, bytes]] = (),
    padding: int = 0,
) -> bytes:
    """A whole packet, for clients and tests; ``padding`` bytes are appended (RFC 3550 §5.1)."""
    block = pack_extensions(tuple(extensions))
    first = 0x80 | (0x10 if block else 0) | (0x20 if padding else 0)
    head = _HEAD.pack(first, marker << 7 | payload_type, sequence & 0xFFFF, timestamp & 0xFFFF_FFFF, ssrc)
    return head + block + payload + (bytes(padding - 1) + bytes((padding,)) if padding else b"")
