"""H.264 as RTP carries it (RFC 6184) and as Matroska wants it (Annex B): NAL units, key frames, picture size."""

from __future__ import annotations

from typing import Final

START_CODE: Final = b"\x00\x00\x00\x01"
_IDR, _SPS, _PPS, _STAP_A, _FU_A = 5, 7, 8, 24, 28
_HIGH_PROFILES: Final = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_SPS_BYTES_MAX: Final = 1024


def starts_unit(payload: bytes) -> bool:
    """Whether a payload begins a NAL unit (is not the middle or end of a fragmented one)."""
    if not payload:
        return False
    return payload[0] & 31 != _FU_A or (len(payload) > 1 and payload[1] >= 0x80)


def nal_units(payloads: list[bytes]) -> list[bytes] | None:
    """The NAL units of one access unit's payloads, in order; None when they do not fit together."""
    units: list[bytes] = []
    fragments: list[bytes] = []  # of a unit, joined once: not copied again for every packet
    open_unit = False
    for payload in payloads:
        kind = payload[0] & 31
        if kind == _FU_A:
            if len(payload) < 3:
                return None
            begins, ends = payload[1] >= 0x80, bool(payload[1] & 0x40)
            if begins == open_unit:
                return None
            if begins:
                fragments = [bytes([payload[0] & 0xE0 | payload[1] & 31])]
            fragments.append(payload[2:])
            if ends:
                units.append(b"".join(fragments))
            open_unit = not ends
        elif open_unit:
            return None
        elif kind == _STAP_A:
            offset = 1
            while offset + 2 <= len(payload):
                length = int.from_bytes(payload[offset : offset + 2], "big")
                offset += 2
                if length == 0 or offset + length > len(payload):
                    return None
                units.append(payload[offset : offset + length])
                offset += length
        elif 1 <= kind <= 23:
            units.append(payload)
        else:
            return None
    return None if open_unit or not units else units


class ParameterSets:
    """The newest sequence and picture parameter sets, put before a key frame that comes without them."""

    def __init__(self) -> None:
        self._sps = b""
        self._pps = b""

    def join(self, units: list[bytes]) -> tuple[bytes, bool, tuple[int, int] | None]:
        """(Annex B bytes, whether it is a key frame, picture size if it is one and the size is known)."""
        kinds = [unit[0] & 31 for unit in units]
        for kind, unit in zip(kinds, units, strict=True):
            if kind == _SPS:
                self._sps = unit
            elif kind == _PPS:
                self._pps = unit
        key = _IDR in kinds
        missing = [s for k, s in ((_SPS, self._sps), (_PPS, self._pps)) if key and k not in kinds and s]
        return (
            b"".join(START_CODE + unit for unit in missing + units),
            key,
            picture_size(self._sps) if key else None,
        )


class _Bits:
    """Reads bits and Exp-Golomb numbers (ITU-T H.264 §9.1). Raises ValueError at the end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def bits(self, count: int) -> int:
        if count > self._left:
            raise ValueError("out of bits")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def unsigned(self) -> int:
        zeros = 0
        while not self.bits(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("number too long")
        return (1 << zeros) - 1 + self.bits(zeros)

    def signed(self) -> int:
        value = self.unsigned()
        return (value + 1) // 2 if value & 1 else -(value // 2)


def picture_size(sps: bytes) -> tuple[int, int] | None:
    """Width and height after cropping, from a sequence parameter set (§7.3.2.1.1); None when it cannot be read."""
    if not 4 <= len(sps) <= _SPS_BYTES_MAX:
        return None
    reader = _Bits(sps[1:].replace(b"\x00\x00\x03", b"\x00\x00"))
    try:
        size = _read_size(reader)
    except ValueError:
        return None
    return size if 0 < size[0] <= 16384 and 0 < size[1] <= 16384 else None


def _read_size(reader: _Bits) -> tuple[int, int]:
    profile = reader.bits(8)
    reader.bits(16)
    reader.unsigned()
    chroma = 1
    if profile in _HIGH_PROFILES:
        chroma = _skip_high_profile(reader)
    reader.unsigned()
    if (order_type := reader.unsigned()) == 0:
        reader.unsigned()
    elif order_type == 1:
        reader.bits(1)
        reader.signed()
        reader.signed()
        for _ in range(min(reader.unsigned(), 256)):
            reader.signed()
    reader.unsigned()
    reader.bits(1)
    width = 16 * (reader.unsigned() + 1)
    map_units = reader.unsigned() + 1
    frames_only = reader.bits(1)
    height = 16 * map_units * (2 - frames_only)
    if not frames_only:
        reader.bits(1)
    reader.bits(1)
    if reader.bits(1):
        unit_x = 2 if chroma in (1, 2) else 1
        unit_y = (2 if chroma == 1 else 1) * (2 - frames_only)
        left, right, top, bottom = (reader.unsigned() for _ in range(4))
        width -= unit_x * (left + right)
        height -= unit_y * (top + bottom)
    return width, height


def _skip_high_profile(reader: _Bits) -> int:
    chroma = reader.unsigned()
    if chroma == 3:
        reader.bits(1)
    reader.unsigned()
    reader.unsigned()
    reader.bits(1)
    if reader.bits(1):
        for index in range(8 if chroma != 3 else 12):
            if reader.bits(1):
                _skip_scaling_list(reader, 16 if index < 6 else 64)
    return chroma


def _skip_scaling_list(reader: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + reader.signed()) % 256
        last = following or last
