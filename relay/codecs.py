"""What the relay must know of codecs: where a key frame begins. A table by codec name; payloads are never decoded.

Functions take the RTP payload only, are bounds-checked, and answer "no" to malformed payloads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from relay.rtp import Buffer

_H264_IDR: Final = 5
_H264_SPS: Final = 7
_H264_STAP_A: Final = 24
_H264_FU_A: Final = 28
BARE_PICTURES_MIN: Final = 2
"""One may have lost its parameters on the way."""


def _vp8_frame_start(payload: Buffer) -> int:
    """Offset of the VP8 frame header where the payload begins a frame, else 0 (RFC 7741 §4.2)."""
    length = len(payload)
    if length < 2:
        return 0
    first = payload[0]
    if not first & 0x10 or first & 0x07:  # S bit, partition 0
        return 0
    at = 1
    if first & 0x80:
        bits = payload[1]
        at = 2
        if bits & 0x80:  # picture id, one or two bytes
            at += 2 if at < length and payload[at] & 0x80 else 1
        if bits & 0x40:  # TL0PICIDX
            at += 1
        if bits & 0x30:  # TID, KEYIDX
            at += 1
    return at if at < length else 0


def vp8_begins_key_frame(payload: Buffer) -> bool:
    """Whether this is the first packet of a VP8 key frame (RFC 7741 §4.3: the inverse key frame flag is 0)."""
    at = _vp8_frame_start(payload)
    return at > 0 and not payload[at] & 1


def vp8_frame_size(payload: Buffer) -> tuple[int, int] | None:
    """Width and height from the first packet of a VP8 key frame (RFC 6386 §9.1); None for any other packet."""
    at = _vp8_frame_start(payload)
    if not at or payload[at] & 1 or len(payload) < at + 10 or bytes(payload[at + 3 : at + 6]) != b"\x9d\x01\x2a":
        return None
    return (payload[at + 6] | payload[at + 7] << 8) & 0x3FFF, (payload[at + 8] | payload[at + 9] << 8) & 0x3FFF


def h264_begins_key_frame(payload: Buffer) -> bool:
    """Whether an SPS is inside, with which browsers begin every IDR picture (RFC 6184: single NAL, STAP-A, FU-A).

    The picture's own packets come after it: who begins with those decodes a layer's picture with another's parameters.
    """
    return _h264_holds(payload, _H264_SPS)


def _h264_holds(payload: Buffer, wanted: int) -> bool:
    """Whether a NAL unit of this type is inside, or begins there."""
    length = len(payload)
    if not length:
        return False
    kind = payload[0] & 31
    if kind == wanted:
        return True
    if kind == _H264_STAP_A:
        at = 1
        while at + 2 < length:
            if payload[at + 2] & 31 == wanted:
                return True
            at += 2 + (payload[at] << 8 | payload[at + 1])
        return False
    return kind == _H264_FU_A and length > 1 and payload[1] & 0x80 != 0 and payload[1] & 31 == wanted


class BarePictures:
    """IDR pictures that come without an SPS, from encoders that tell their parameters in SDP or once only.

    Where ``BARE_PICTURES_MIN`` in a row did, a receiver begins with the picture itself: it would wait for ever.
    """

    __slots__ = ("_bare", "_parameters_at", "_picture_at")

    def __init__(self) -> None:
        self._parameters_at = self._picture_at = -1
        self._bare = 0

    def begins(self, has_parameters: bool, payload: Buffer, timestamp: int) -> bool:
        """Whether a receiver can begin with a packet; ``has_parameters``: an SPS is inside."""
        if has_parameters:
            self._parameters_at, self._bare = timestamp, 0
            return True
        if timestamp in (self._parameters_at, self._picture_at) or not _h264_holds(payload, _H264_IDR):
            return False
        self._picture_at = timestamp
        self._bare = min(self._bare + 1, BARE_PICTURES_MIN)
        return self._bare == BARE_PICTURES_MIN


def _always(payload: Buffer) -> bool:
    return True


KeyFrameTest = Callable[[Buffer], bool]

KEY_FRAME_TESTS: Final[dict[str, KeyFrameTest]] = {
    "opus": _always,
    "vp8": vp8_begins_key_frame,
    "h264": h264_begins_key_frame,
}
"""Lower-case codec name → whether a payload begins a key frame. A new video codec is one more line."""


def key_frame_test(codec: str) -> KeyFrameTest:
    """The test for a codec as SDP names it; of a codec that is not known every packet will do."""
    return KEY_FRAME_TESTS.get(codec.lower(), _always)
