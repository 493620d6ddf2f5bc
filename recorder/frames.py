"""From packets in order to encoded frames, without decoding: one entry per codec, one assembler per track.

A frame is the packets of one RTP timestamp from its first one to the marker, without a gap. After a loss nothing is
passed on until the next key frame: a decoder would show rubbish, and silently.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from recorder import av1, vp9
from recorder.h264 import ParameterSets, nal_units, starts_unit
from recorder.sequence import Ordered, RtpPacket, Unwrapper

FRAME_PACKETS_MAX: Final = 4096
"""A frame of more packets is given up as broken."""
PICTURE_SIDE_MAX: Final = 8192
PICTURE_PIXELS_MAX: Final = 4096 * 4096
"""A larger picture is left out as broken: a few bytes can claim one that takes gigabytes to decode."""
VP9_LAYERS_MAX: Final = 8
"""Frames that a superframe may hold."""
OPUS_RATE: Final = 48_000
OPUS_SILENCE: Final = b"\xf8\xff\xfe"
"""20 ms of silence, mono or stereo decoders alike: put where packets are missing, because players play opus packets
back to back."""
OPUS_SILENCE_SAMPLES: Final = 960


class Frame(NamedTuple):
    """One encoded picture or opus packet."""

    codec: str
    timestamp: int
    """Unwrapped RTP timestamp, in ticks of the track's clock."""
    data: bytes
    key: bool
    arrival_ns: int
    """When its first packet arrived."""
    size: tuple[int, int] | None = None
    """Width and height, of key frames."""
    samples: int = 0
    """Duration in ticks, of audio."""


class Joined(NamedTuple):
    """What a codec makes of the payloads of one frame."""

    data: bytes
    key: bool
    size: tuple[int, int] | None


class VideoFormat(Protocol):
    """How one codec is carried in RTP. One instance per track."""

    def starts(self, payload: bytes) -> bool:
        """Whether a frame may begin with this packet."""
        ...

    def picture(self, payload: bytes) -> tuple[int, int] | None:
        """(picture number, its modulus) where the packet tells it: shows whether a gap swallowed a frame."""
        ...

    def join(self, payloads: list[bytes]) -> Joined | None:
        """The frame; None when the payloads are malformed."""
        ...


class Vp8:
    """RFC 7741."""

    def starts(self, payload: bytes) -> bool:
        return bool(payload[0] & 0x10) and not payload[0] & 7

    def picture(self, payload: bytes) -> tuple[int, int] | None:
        if len(payload) < 4 or not payload[0] & 0x80 or not payload[1] & 0x80:
            return None
        if payload[2] & 0x80:
            return (payload[2] & 0x7F) << 8 | payload[3], 1 << 15
        return payload[2] & 0x7F, 1 << 7

    def join(self, payloads: list[bytes]) -> Joined | None:
        parts = []
        for payload in payloads:
            start = _vp8_descriptor(payload)
            if start is None:
                return None
            parts.append(payload[start:])
        data = b"".join(parts)
        if not data:
            return None
        if data[0] & 1:
            return Joined(data, False, None)
        if len(data) < 10 or data[3:6] != b"\x9d\x01\x2a":  # RFC 6386 §9.1
            return None
        width, height = (int.from_bytes(data[i : i + 2], "little") & 0x3FFF for i in (6, 8))
        return Joined(data, True, (width, height)) if width and height else None


def _vp8_descriptor(payload: bytes) -> int | None:
    """Length of the payload descriptor (RFC 7741 §4.2); None when cut short."""
    if len(payload) > 4 and payload[0] & 0x80 and payload[1] == 0x80 and payload[2] & 0x80:
        return 4  # what is usual: a picture number and nothing else
    at = 1
    if payload[0] & 0x80:
        if len(payload) < 3:
            return None
        extension, at = payload[1], 2
        if extension & 0x80:
            at += 2 if payload[at] & 0x80 else 1
        if extension & 0x40:
            at += 1
        if extension & 0x30:
            at += 1
    return at if at < len(payload) else None


class H264:
    """RFC 6184, packetisation modes 0 and 1."""

    def __init__(self) -> None:
        self._sets = ParameterSets()

    def starts(self, payload: bytes) -> bool:
        return starts_unit(payload)

    def picture(self, payload: bytes) -> tuple[int, int] | None:
        return None

    def join(self, payloads: list[bytes]) -> Joined | None:
        units = nal_units(payloads)
        if units is None:
            return None
        data, key, size = self._sets.join(units)
        return None if key and size is None else Joined(data, key, size)


class Vp9:
    """RFC 9628. Spatial layers of a picture become one superframe."""

    def starts(self, payload: bytes) -> bool:
        found = vp9.read_descriptor(payload)
        return found is not None and found.begins and not found.spatial

    def picture(self, payload: bytes) -> tuple[int, int] | None:
        found = vp9.read_descriptor(payload)
        return None if found is None else found.picture

    def join(self, payloads: list[bytes]) -> Joined | None:
        frames: list[list[bytes]] = []
        largest = None
        for payload in payloads:
            found = vp9.read_descriptor(payload)
            if found is None or found.bytes >= len(payload) or not (found.begins or frames):
                return None
            largest = found.size or largest
            if found.begins:
                frames.append([])
            frames[-1].append(payload[found.bytes :])
        if not 0 < len(frames) <= VP9_LAYERS_MAX:
            return None
        whole = [b"".join(parts) for parts in frames]
        size = vp9.key_size(whole[0])
        return Joined(vp9.superframe(whole), size is not None, None if size is None else largest or size)


class Av1:
    """RTP Payload Format For AV1, v1.0."""

    def starts(self, payload: bytes) -> bool:
        return av1.starts_unit(payload)

    def picture(self, payload: bytes) -> tuple[int, int] | None:
        return None

    def join(self, payloads: list[bytes]) -> Joined | None:
        units = av1.units(payloads)
        joined = None if units is None else av1.join(units)
        return None if joined is None else Joined(*joined)


VIDEO: Final[dict[str, type[Vp8] | type[H264] | type[Vp9] | type[Av1]]] = {
    "vp8": Vp8,
    "h264": H264,
    "vp9": Vp9,
    "av1": Av1,
}
AUDIO: Final = frozenset({"opus"})


def fits(size: tuple[int, int] | None) -> bool:
    """Whether a picture of that size, if it is told, may be decoded."""
    return size is None or (max(size) <= PICTURE_SIDE_MAX and size[0] * size[1] <= PICTURE_PIXELS_MAX)


class VideoAssembler:
    """Frames of one video track and codec."""

    def __init__(self, codec: str, unwrap: Unwrapper) -> None:
        """``unwrap`` is the track's, for RTP timestamps."""
        self.dropped = 0
        """Frames that were incomplete, malformed, or could not be decoded for want of an earlier one."""
        self._codec = codec
        self._format: VideoFormat = VIDEO[codec]()
        self._unwrap = unwrap
        self._parts: list[bytes] = []
        self._timestamp = 0
        self._sent_timestamp = 0
        self._arrival_ns = 0
        self._picture: tuple[int, int] | None = None
        self._broken = True

    def push(self, ordered: Ordered) -> Frame | None:
        """Take in the next packet; the frame that it completes, if any."""
        return self.take(*ordered)

    def take(self, packet: RtpPacket, lost: int) -> Frame | None:
        """``push`` in other words."""
        parts, payload = self._parts, packet[4]
        if parts and packet[1] == self._sent_timestamp and payload and not lost:  # what is usual: the frame's next one
            parts.append(payload)
            return self._added(packet) if packet[2] or len(parts) > FRAME_PACKETS_MAX else None
        timestamp = self._unwrap(packet.timestamp)
        starts = bool(packet.payload) and self._format.starts(packet.payload)
        if lost and (self._parts or not starts or not self._follows(packet.payload)):
            self._break()
        if not packet.payload:
            return None
        if self._parts and timestamp != self._timestamp:
            self._break()
        if not self._parts:
            if not starts:
                self._break()
                return None
            self._timestamp, self._arrival_ns = timestamp, packet.arrival_ns
            self._sent_timestamp = packet.timestamp
            self._picture = self._format.picture(packet.payload)
        self._parts.append(packet.payload)
        return self._added(packet)

    def _added(self, packet: RtpPacket) -> Frame | None:
        if len(self._parts) > FRAME_PACKETS_MAX:
            self._break()
            return None
        return self._complete() if packet.marker else None

    def _follows(self, payload: bytes) -> bool:
        """Whether the picture numbers show that what is missing was padding, not a frame."""
        picture = self._format.picture(payload)
        if picture is None or self._picture is None:
            return False
        return picture[1] == self._picture[1] and (picture[0] - self._picture[0]) % picture[1] == 1

    def _complete(self) -> Frame | None:
        joined = self._format.join(self._parts)
        self._parts = []
        if joined is None or (self._broken and not joined.key) or not fits(joined.size):
            self.dropped += 1
            self._broken = True
            return None
        self._broken = False
        return Frame(self._codec, self._timestamp, joined.data, joined.key, self._arrival_ns, joined.size)

    def _break(self) -> None:
        self.dropped += bool(self._parts)
        self._parts = []
        self._broken = True


class OpusAssembler:
    """Opus packets are frames (RFC 7587 §4.2)."""

    def __init__(self, codec: str, unwrap: Unwrapper) -> None:
        self.dropped = 0
        self._codec = codec
        self._unwrap = unwrap

    def push(self, ordered: Ordered) -> Frame | None:
        """The packet as a frame; None for padding and malformed ones."""
        return self.take(*ordered)

    def take(self, packet: RtpPacket, _lost: int) -> Frame | None:
        """``push`` in other words."""
        timestamp = self._unwrap(packet.timestamp)
        if not packet.payload:
            return None
        samples = opus_samples(packet.payload)
        if samples is None:
            self.dropped += 1
            return None
        return Frame(self._codec, timestamp, packet.payload, True, packet.arrival_ns, None, samples)


def opus_samples(payload: bytes) -> int | None:
    """Duration of an opus packet in 48 kHz samples, from its table-of-contents byte (RFC 6716 §3.1)."""
    config = payload[0] >> 3
    if config < 12:
        samples = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        samples = (480, 960)[config & 1]
    else:
        samples = (120, 240, 480, 960)[config & 3]
    match payload[0] & 3:
        case 0:
            count = 1
        case 3:
            count = payload[1] & 63 if len(payload) > 1 else 0
        case _:
            count = 2
    return samples * count if 0 < samples * count <= 5760 else None


Assembler = VideoAssembler | OpusAssembler


def assembler(codec: str, unwrap: Unwrapper) -> Assembler | None:
    """A fresh assembler for a codec's lower-case SDP name; None for those that are not recorded (rtx, red, …)."""
    if codec in AUDIO:
        return OpusAssembler(codec, unwrap)
    return VideoAssembler(codec, unwrap) if codec in VIDEO else None
