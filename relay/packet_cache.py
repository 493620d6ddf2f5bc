"""The newest packets of one stream: the only owner of their bytes. Routes hold numbers, never bytes."""

from __future__ import annotations

from typing import Final, NamedTuple

from relay.rtp import RtpHeader
from relay.vp8_rewrite import Vp8Descriptor

VIDEO_PACKETS: Final = 1_024
"""Slots of a video stream's cache, about 1.5 s of 6 Mb/s; no larger than the SRTP window (``relay.srtp``)."""
AUDIO_PACKETS: Final = 128
AGE_MAX_NS: Final = 3_000_000_000
"""Older packets come too late for any receiver and are not sent again."""


class CachedPacket(NamedTuple):
    """One packet as received: decrypted, RTX unwrapped, without padding."""

    number: int
    """Continuous number within its stream (``relay.plane_streams``)."""
    data: bytes
    header: RtpHeader
    elements: list[tuple[int, int, int]]
    """Header extensions: (id, offset, length)."""
    arrival_ns: int
    begins_key_frame: bool
    """Whether a receiver can begin here; always true for audio."""
    layer: Vp8Descriptor | None = None
    """Frame and temporal layer, where the codec tells."""


class PacketCache:
    """A ring by number: a packet is overwritten by the one ``slots`` later."""

    __slots__ = ("_mask", "_ring")

    def __init__(self, slots: int) -> None:
        """``slots`` is a power of two."""
        self._mask = slots - 1
        self._ring: list[CachedPacket | None] = [None] * slots

    def put(self, packet: CachedPacket) -> None:
        """Keep ``packet``, unless its slot holds a newer one: it is too late to be asked for."""
        slot = packet.number & self._mask
        there = self._ring[slot]
        if there is None or there.number <= packet.number:
            self._ring[slot] = packet

    def get(self, number: int, now_ns: int) -> CachedPacket | None:
        """The packet with this number, unless it was overwritten, never came, or is older than ``AGE_MAX_NS``."""
        packet = self._ring[number & self._mask]
        if packet is None or packet.number != number or now_ns - packet.arrival_ns > AGE_MAX_NS:
            return None
        return packet

    def clear(self) -> None:
        """Forget everything."""
        self._ring = [None] * len(self._ring)
