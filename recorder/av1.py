"""AV1 as RTP carries it (RTP Payload Format For AV1, v1.0) and as WebM wants it: OBUs with sizes, key frames, size."""

from __future__ import annotations

from typing import Final

from recorder.bits import Bits

_SEQUENCE_HEADER, _TEMPORAL_DELIMITER, _FRAME_HEADER, _FRAME, _TILE_LIST = 1, 2, 3, 6, 8
_LEFT_OUT: Final = frozenset({_TEMPORAL_DELIMITER, _TILE_LIST})
_HAS_EXTENSION, _HAS_SIZE = 0x04, 0x02
_OBUS_MAX: Final = 4096


def starts_unit(payload: bytes) -> bool:
    """Whether a payload begins with an OBU, and not with the rest of one."""
    return len(payload) > 1 and not payload[0] & 0x80


def units(payloads: list[bytes]) -> list[bytes] | None:
    """The OBUs of one temporal unit's payloads, in order, as sent; None when they do not fit together."""
    out: list[list[bytes]] = []  # each in its fragments: joined once, not copied again for every packet
    continues = False
    for payload in payloads:
        head = payload[0]
        elements = _elements(payload)
        if elements is None or bool(head & 0x80) != continues or len(out) > _OBUS_MAX:
            return None
        if continues:
            out[-1].append(elements.pop(0))
        out += [[element] for element in elements]
        continues = bool(head & 0x40)
    return None if continues or not out else [b"".join(parts) for parts in out]


def _elements(payload: bytes) -> list[bytes] | None:
    count, at = payload[0] >> 4 & 3, 1
    out: list[bytes] = []
    while at < len(payload):
        if count and len(out) == count - 1:
            out.append(payload[at:])
            at = len(payload)
            break
        read = _leb128(payload, at)
        if read is None:
            return None
        length, at = read
        if length == 0 or at + length > len(payload):
            return None
        out.append(payload[at : at + length])
        at += length
    return out if out and (not count or len(out) == count) else None


def _leb128(data: bytes, at: int) -> tuple[int, int] | None:
    value = 0
    for n in range(8):
        if at + n >= len(data):
            return None
        value |= (data[at + n] & 0x7F) << 7 * n
        if not data[at + n] & 0x80:
            return value, at + n + 1
    return None


def _sized(number: int) -> bytes:
    out = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def join(obus: list[bytes]) -> tuple[bytes, bool, tuple[int, int] | None] | None:
    """A temporal unit as Matroska carries it (every OBU with its size): (data, whether a key frame, its size)."""
    out, size, key = [], None, False
    for obu in obus:
        kind, start = obu[0] >> 3 & 15, 2 if obu[0] & _HAS_EXTENSION else 1
        if obu[0] & _HAS_SIZE:
            read = _leb128(obu, start)
            if read is None or read[1] + read[0] > len(obu):
                return None
            body = obu[read[1] : read[1] + read[0]]
        else:
            body = obu[start:]
        if len(obu) < start or kind in _LEFT_OUT:
            continue
        if kind == _SEQUENCE_HEADER:
            size = sequence_size(body)
        elif kind in (_FRAME, _FRAME_HEADER) and body and body[0] & 0xE0 == 0:  # shown now, of type KEY_FRAME
            key = True
        out.append(bytes([obu[0] | _HAS_SIZE]) + obu[1:start] + _sized(len(body)) + body)
    key = key and size is not None
    return (b"".join(out), key, size if key else None) if out else None


def sequence_size(body: bytes) -> tuple[int, int] | None:
    """Largest width and height that a sequence header allows (AV1 specification §5.5); None for rubbish."""
    bits = Bits(body)
    try:
        bits.take(4)
        if bits.flag():
            bits.take(5)
        else:
            _operating_points(bits)
        width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
        return bits.take(width_bits) + 1, bits.take(height_bits) + 1
    except ValueError:
        return None


def _operating_points(bits: Bits) -> None:
    delay_bits = 0
    if bits.flag():
        bits.take(64)
        if bits.flag():
            zeros = 0
            while not bits.flag():
                zeros += 1
            bits.take(zeros)
        if bits.flag():
            delay_bits = bits.take(5) + 1
            bits.take(42)
    display_delay = bits.flag()
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay_bits and bits.flag():
            bits.take(2 * delay_bits + 1)
        if display_delay and bits.flag():
            bits.take(4)
