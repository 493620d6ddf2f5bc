"""VP8's payload descriptor (RFC 7741 §4.2): which frame and temporal layer a packet is of, and other numbers in place.

Frames are numbered twice: the picture id counts all, TL0PICIDX those of the lowest temporal layer. A receiver takes
gaps in them for loss, so a route that leaves frames out, or goes on with another layer's stream, renumbers both.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from relay.rtp import Buffer

TEMPORAL_MAX: Final = 3
"""The highest temporal layer that two bits can name."""
PICTURE_MASK: Final = 0x7FFF


class Vp8Descriptor(NamedTuple):
    """What one packet's descriptor says. Offsets count from the payload's start; 0: the field is absent."""

    begins_frame: bool
    begins_key_frame: bool
    picture_at: int
    picture_is_long: bool
    """Fifteen bits instead of seven."""
    picture: int
    tl0_at: int
    tl0: int
    temporal: int
    sync: bool
    """The frame needs nothing but the lowest layer's last one: a receiver may begin with this layer here."""


_NEITHER: Final = Vp8Descriptor(False, False, 0, False, 0, 0, 0, 0, False)
_FRAME: Final = Vp8Descriptor(True, False, 0, False, 0, 0, 0, 0, False)
_KEY_FRAME: Final = Vp8Descriptor(True, True, 0, False, 0, 0, 0, 0, False)


def read_vp8(packet: Buffer, start: int, end: int) -> Vp8Descriptor | None:
    """The descriptor of the payload ``packet[start:end]``; None: cut short."""
    if end - start < 2:
        return None
    first = packet[start]
    begins = first & 0x17 == 0x10  # S bit, partition 0
    at = start + 1
    if not first & 0x80:
        if not begins:
            return _NEITHER
        return _FRAME if packet[at] & 1 else _KEY_FRAME
    bits = packet[at]
    at += 1
    picture_at = picture = tl0_at = tl0 = temporal = 0
    long = sync = False
    if end - at < 5 and end - at < _extension_bytes(bits, packet[at] if at < end else 0) + 1:
        return None
    if bits & 0x80:
        picture_at = at - start
        picture = packet[at]
        at += 1
        if picture & 0x80:
            long = True
            picture = (picture & 0x7F) << 8 | packet[at]
            at += 1
    if bits & 0x40:
        tl0_at = at - start
        tl0 = packet[at]
        at += 1
    if bits & 0x30:
        if bits & 0x20:
            temporal = packet[at] >> 6
            sync = packet[at] & 0x20 != 0
        at += 1
    return Vp8Descriptor(begins, begins and not packet[at] & 1, picture_at, long, picture, tl0_at, tl0, temporal, sync)


def _extension_bytes(bits: int, first: int) -> int:
    """How long the optional fields are."""
    size = (2 if first & 0x80 else 1) if bits & 0x80 else 0
    return size + (bits >> 6 & 1) + (1 if bits & 0x30 else 0)


def rewrite_vp8(buffer: bytearray, at: int, descriptor: Vp8Descriptor, picture_offset: int, tl0_offset: int) -> None:
    """Move the numbers of the payload at ``at``, whose descriptor was read before, by the offsets, each in its width.

    Picture id and TL0PICIDX wrap at their own sizes.
    """
    where = descriptor.picture_at
    if where:
        picture = descriptor.picture + picture_offset
        if descriptor.picture_is_long:
            buffer[at + where] = 0x80 | picture >> 8 & 0x7F
            buffer[at + where + 1] = picture & 0xFF
        else:
            buffer[at + where] = picture & 0x7F
    if descriptor.tl0_at:
        buffer[at + descriptor.tl0_at] = (descriptor.tl0 + tl0_offset) & 0xFF
