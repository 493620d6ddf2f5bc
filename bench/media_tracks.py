"""What the media client sends and checks: opus- and VP8-shaped packets that carry their own number and sending time.

A packet's payload begins as a real one would (opus TOC, VP8 descriptor and frame header), so that key-frame detection
and depacketising work; then come a mark, the packet's place in its track and the monotonic time at which it was sent.
"""

from __future__ import annotations

import secrets
import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.messages import Source
from relay.rtp import Unwrapper, make_packet, read_header

HISTORY_MAX: Final = 1024
"""Sent packets kept to answer NACKs; the oldest go first."""
MISSING_MAX: Final = 512
NACK_TRIES_MAX: Final = 6
NACK_INTERVAL_NS: Final = 60_000_000
_MARK: Final = b"TPMC"
_STAMP: Final = struct.Struct("!4sIQBB")
_OPUS_TOC: Final = b"\x78"  # CELT, full band, 20 ms, mono
_VP8_START: Final = b"\x10"
_VP8_MORE: Final = b"\x00"
_VP8_KEY: Final = b"\x10\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 640, 480)
_VP8_INTER: Final = b"\x11\x00\x00"
AUDIO_INTERVAL_NS: Final = 20_000_000
VIDEO_INTERVAL_NS: Final = 40_000_000
VIDEO_PACKETS: Final = 3
VIDEO_BYTES: Final = 900
KEY_FRAME_PACKETS: Final = 8


Extensions = Callable[[], list[tuple[int, bytes]]]
"""Header extensions of the next packet, as (id, value)."""


@dataclass
class SentTrack:
    """One source as the client sends it."""

    source: Source
    mid: str
    ssrc: int
    rtx_ssrc: int
    payload_type: int
    rtx_payload_type: int | None
    clock_rate: int
    paused: bool = False
    packets: int = 0
    octets: int = 0
    frames: int = 0
    key_frames: int = 0
    resent: int = 0
    key_frame_requests: int = 0
    timestamp: int = field(default_factory=lambda: secrets.randbits(32))
    next_ns: int = 0
    _sequence: int = field(default_factory=lambda: secrets.randbits(16))
    _rtx_sequence: int = field(default_factory=lambda: secrets.randbits(16))
    _key_due: bool = True
    _history: OrderedDict[int, tuple[int, bool, bytes]] = field(default_factory=OrderedDict)

    @property
    def is_video(self) -> bool:
        return self.clock_rate == 90_000

    @property
    def interval_ns(self) -> int:
        return VIDEO_INTERVAL_NS if self.is_video else AUDIO_INTERVAL_NS

    def want_key_frame(self) -> None:
        """A PLI or FIR came: the next frame is a key frame."""
        self.key_frame_requests += 1
        self._key_due = True

    def next_frame(self, now_ns: int, extensions: Extensions) -> list[bytes]:
        """The packets of the next frame. Advance of the clock is the caller's schedule."""
        key, self._key_due = self._key_due and self.is_video, False
        count = (KEY_FRAME_PACKETS if key else VIDEO_PACKETS) if self.is_video else 1
        self.timestamp = (self.timestamp + self.interval_ns * self.clock_rate // 1_000_000_000) & 0xFFFF_FFFF
        self.key_frames += key
        payloads = []
        for index in range(count):
            payload = self._head(index, key) + _STAMP.pack(_MARK, self.frames, now_ns, index, count)
            payloads.append(payload.ljust(VIDEO_BYTES, b"\0") if self.is_video else payload)
        self.frames += 1
        return self._packets(payloads, extensions)

    def _packets(self, payloads: Sequence[bytes], extensions: Extensions) -> list[bytes]:
        """The packets of one frame, kept for who asks again; the last of a picture bears the marker (RFC 7741 §4.1)."""
        packets = []
        for index, payload in enumerate(payloads):
            last = index == len(payloads) - 1
            self._history[self._sequence] = (self.timestamp, last, payload)
            if len(self._history) > HISTORY_MAX:
                self._history.popitem(last=False)
            packets.append(
                make_packet(
                    payload_type=self.payload_type,
                    sequence=self._sequence,
                    timestamp=self.timestamp,
                    ssrc=self.ssrc,
                    payload=payload,
                    marker=last and self.is_video,
                    extensions=extensions(),
                )
            )
            self._sequence = (self._sequence + 1) & 0xFFFF
            self.packets += 1
            self.octets += len(payload)
        return packets

    def resend(self, sequence: int, extensions: Extensions) -> bytes | None:
        """A packet that a NACK asks for, over RTX (RFC 4588); None where it is not kept."""
        kept = self._history.get(sequence)
        if kept is None or self.rtx_payload_type is None:
            return None
        timestamp, last, payload = kept
        self.resent += 1
        self._rtx_sequence = (self._rtx_sequence + 1) & 0xFFFF
        body = struct.pack("!H", sequence) + payload
        return make_packet(
            payload_type=self.rtx_payload_type,
            sequence=self._rtx_sequence,
            timestamp=timestamp,
            ssrc=self.rtx_ssrc,
            payload=body,
            marker=last,
            extensions=extensions(),
        )

    def _head(self, index: int, key: bool) -> bytes:
        if not self.is_video:
            return _OPUS_TOC
        if index:
            return _VP8_MORE
        return _VP8_START + (_VP8_KEY if key else _VP8_INTER)


@dataclass
class ReceivedTrack:
    """One source of the other side, as it arrives; everything is checked that the sender stamped."""

    source: Source
    ssrc: int
    rtx_ssrc: int
    packets: int = 0
    repaired: int = 0
    duplicates: int = 0
    foreign: int = 0
    """Packets that do not carry the stamp."""
    frames_complete: int = 0
    frames_decodable: int = 0
    """Complete frames that follow a key frame without a hole."""
    key_frames: int = 0
    first_ns: int = 0
    last_ns: int = 0
    gap_max_ns: int = 0
    delay_max_ns: int = 0
    """Longest time from the sender's stamp to arrival; both must run on one machine."""
    senders_first_frame: int | None = None
    _unwrap: Unwrapper = field(default_factory=Unwrapper)
    _seen: OrderedDict[int, None] = field(default_factory=OrderedDict)
    _newest: int | None = None
    _parts: OrderedDict[int, set[int]] = field(default_factory=OrderedDict)
    _key_numbers: set[int] = field(default_factory=set)
    _complete_frames: set[int] = field(default_factory=set)
    _decoded_to: int | None = None
    _missing: OrderedDict[int, tuple[int, int]] = field(default_factory=OrderedDict)

    def receive(self, packet: bytes, now_ns: int) -> list[int]:
        """Take one RTP packet of this SSRC; returns sequence numbers to ask for now."""
        header = read_header(packet, len(packet))
        if header is None:
            return []
        number = self._unwrap.unwrap(header.sequence)
        self._take(number, packet[header.payload_start : header.payload_end], now_ns)
        return self._to_ask_for(now_ns)

    def receive_rtx(self, packet: bytes, now_ns: int) -> None:
        """Take one packet of the RTX SSRC."""
        header = read_header(packet, len(packet))
        if header is None or header.payload_end - header.payload_start < 3 or self._newest is None:
            return
        original = int.from_bytes(packet[header.payload_start : header.payload_start + 2], "big")
        number = self._newest + ((original - self._newest + 0x8000) & 0xFFFF) - 0x8000
        if number not in self._seen:
            self.repaired += 1
        self._take(number, packet[header.payload_start + 2 : header.payload_end], now_ns)

    def _to_ask_for(self, now_ns: int) -> list[int]:
        due = [number for number, (_, at_ns) in self._missing.items() if at_ns <= now_ns]
        for number in due:
            tries = self._missing[number][0] + 1
            if tries > NACK_TRIES_MAX:
                del self._missing[number]
            else:
                self._missing[number] = (tries, now_ns + NACK_INTERVAL_NS)
        return [number & 0xFFFF for number in due]

    def _take(self, number: int, payload: bytes, now_ns: int) -> None:
        self._missing.pop(number, None)
        if number in self._seen:
            self.duplicates += 1
            return
        self._seen[number] = None
        if len(self._seen) > HISTORY_MAX:
            self._seen.popitem(last=False)
        self.packets += 1
        if self.last_ns:
            self.gap_max_ns = max(self.gap_max_ns, now_ns - self.last_ns)
        self.first_ns, self.last_ns = self.first_ns or now_ns, now_ns
        self._check(payload, now_ns)
        if self._newest is not None and number > self._newest + 1:
            for lost in range(max(self._newest + 1, number - MISSING_MAX), number):
                self._missing[lost] = (0, now_ns)
        while len(self._missing) > MISSING_MAX:
            self._missing.popitem(last=False)
        self._newest = number if self._newest is None else max(self._newest, number)

    def _check(self, payload: bytes, now_ns: int) -> None:
        at = payload.find(_MARK, 0, 32)
        if at < 0 or len(payload) < at + _STAMP.size:
            self.foreign += 1
            return
        _, frame, sent_ns, index, count = _STAMP.unpack_from(payload, at)
        if self.senders_first_frame is None:
            self.senders_first_frame = frame
        self.delay_max_ns = max(self.delay_max_ns, now_ns - sent_ns)
        parts = self._parts.setdefault(frame, set())
        parts.add(index)
        if _VP8_KEY in payload[:at]:
            self._key_numbers.add(frame)
        if len(parts) == count:
            self._complete(frame)
        while len(self._parts) > MISSING_MAX:
            self._parts.popitem(last=False)

    def _complete(self, frame: int) -> None:
        self.frames_complete += 1
        if frame in self._key_numbers:
            self._key_numbers.discard(frame)
            self.key_frames += 1
            if self._decoded_to is None or frame > self._decoded_to + 1:
                self._decoded_to = frame - 1  # a decoder waits no longer for what a key frame makes needless
        self._complete_frames.add(frame)
        while self._decoded_to is not None and self._decoded_to + 1 in self._complete_frames:
            self._decoded_to += 1
            self.frames_decodable += 1
        if len(self._complete_frames) > HISTORY_MAX:
            floor = self._decoded_to or 0
            self._complete_frames = {number for number in self._complete_frames if number > floor}
