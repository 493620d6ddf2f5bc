"""VP9 as RTP carries it (RFC 9628) and as WebM wants it: frames, superframes, key frames, picture size."""

from __future__ import annotations

from typing import Final, NamedTuple

from recorder.bits import Bits

_SYNC: Final = 0x498342
_SRGB: Final = 7
_HEADER_BYTES: Final = 16
"""More than the part of a key frame's header that is looked at."""


class Descriptor(NamedTuple):
    """A payload descriptor (RFC 9628 §4.2)."""

    bytes: int
    picture: tuple[int, int] | None
    """(picture id, its modulus)."""
    begins: bool
    """Whether a layer's frame begins with this packet."""
    spatial: int
    size: tuple[int, int] | None
    """Of the largest layer, where the scalability structure tells."""


def read_descriptor(payload: bytes) -> Descriptor | None:
    """None: cut short."""
    try:
        return _read(payload)
    except IndexError:
        return None


def _read(payload: bytes) -> Descriptor:
    first, at, picture, spatial, size = payload[0], 1, None, 0, None
    if first & 0x80:
        if payload[at] & 0x80:
            picture, at = ((payload[at] & 0x7F) << 8 | payload[at + 1], 1 << 15), at + 2
        else:
            picture, at = (payload[at], 1 << 7), at + 1
    if first & 0x20:
        spatial = payload[at] >> 1 & 7
        at += 1 if first & 0x10 else 2  # without flexible mode the index of the base layer's picture follows
    if first & 0x10 and first & 0x40:
        for _ in range(3):
            at += 1
            if not payload[at - 1] & 1:
                break
    if first & 0x02:
        at, size = _structure(payload, at)
    return Descriptor(at, picture, bool(first & 0x08), spatial, size)


def _structure(payload: bytes, at: int) -> tuple[int, tuple[int, int] | None]:
    """The scalability structure: where it ends, and the largest layer's size."""
    head, at, size = payload[at], at + 1, None
    if head & 0x10:
        at += 4 * ((head >> 5) + 1)
        width, height = (int.from_bytes(payload[i : i + 2], "big") for i in (at - 4, at - 2))
        size = (width, height) if width and height and at <= len(payload) else None
    if head & 0x08:
        pictures, at = payload[at], at + 1
        for _ in range(pictures):
            at += 1 + (payload[at] >> 2 & 3)
    return at, size


def key_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height of a key frame (VP9 bitstream specification §6.2); None for any other frame, and for rubbish."""
    bits = Bits(frame[:_HEADER_BYTES])
    try:
        if bits.take(2) != 2:
            return None
        profile = bits.take(1) | bits.take(1) << 1
        if profile == 3 and bits.flag():
            return None
        shows_another, inter = bits.flag(), bits.flag()
        if shows_another or inter:
            return None
        bits.take(2)
        if bits.take(24) != _SYNC:
            return None
        if profile >= 2:
            bits.take(1)
        if bits.take(3) != _SRGB:
            bits.take(1)
            if profile in (1, 3):
                bits.take(3)
        elif profile in (1, 3):
            bits.take(1)
        else:
            return None
        return bits.take(16) + 1, bits.take(16) + 1
    except ValueError:
        return None


def superframe(frames: list[bytes]) -> bytes:
    """Frames of one picture, all layers, as one packet (annex B); a single one stays as it is."""
    if len(frames) == 1:
        return frames[0]
    width = max(1, (max(map(len, frames)).bit_length() + 7) // 8)
    marker = bytes([0xC0 | width - 1 << 3 | len(frames) - 1])
    return b"".join(frames) + marker + b"".join(len(each).to_bytes(width, "little") for each in frames) + marker
