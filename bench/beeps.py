"""Beep and flash: media whose events stand at known times, encoded as it is sent, and found again in a recording.

At every full second of a sender's own clock the picture goes white for three frames and the microphone beeps. Both
are encoded for real (VP8, opus); what the sender put where is noted, so that a recording is judged against the sender.
"""

from __future__ import annotations

import array
import io
import math
import struct
from collections import OrderedDict
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

import av
from av.video.frame import PictureType

from bench.media_tracks import Extensions, SentTrack

FPS: Final = 25
EVENT_NS: Final = 1_000_000_000
FLASH_NS: Final = 120_000_000
BEEP_NS: Final = 100_000_000
SIZE: Final = (320, 240)
RID_ID, REPAIRED_ID = 10, 11
_SECOND: Final = 1_000_000_000
_RATE: Final = 48_000
_PAYLOAD_BYTES: Final = 1_100
_WINDOW: Final = 120
"""Samples looked at together when beeps are looked for: 2.5 ms."""
_LOUD, _BRIGHT = 0.1, 150


@dataclass
class Marks:
    """What a person sent: event number → sender's time (ns) of its first flashing frame, or of its beep."""

    flashes: dict[int, int] = field(default_factory=dict)
    beeps: dict[int, int] = field(default_factory=dict)
    spans: list[list[int]] = field(default_factory=list)
    """Of each connection: sender's time of the first and of the newest packet."""


@dataclass
class EventTrack(SentTrack):
    """A camera or microphone of events. Its time is the person's: ``zero_ns`` of the monotonic clock is their 0."""

    zero_ns: int = 0
    marks: Marks = field(default_factory=Marks)
    size: tuple[int, int] = SIZE
    rid: str = ""
    """Its name among several encodings of one camera."""
    _coder: Any = None
    _coded_size: tuple[int, int] = (0, 0)
    _picture: int = 0
    _base: int = 0

    @classmethod
    def of(cls, track: SentTrack, zero_ns: int, marks: Marks) -> EventTrack:
        """In place of the client's own track."""
        made = cls(
            track.source, track.mid, track.ssrc, track.rtx_ssrc, track.payload_type, track.rtx_payload_type,
            track.clock_rate, zero_ns=zero_ns, marks=marks,
        )  # fmt: skip
        made._base = made.timestamp
        return made

    def resend(self, sequence: int, extensions: Extensions) -> bytes | None:
        """As every track does, but repairs of one encoding among several say so by another extension (RFC 8852)."""
        return super().resend(
            sequence, lambda: [(REPAIRED_ID if i == RID_ID else i, value) for i, value in extensions()]
        )

    def rtp_time(self, now_ns: int) -> int:
        """What the track's RTP clock shows."""
        return (self._base + (now_ns - self.zero_ns) * self.clock_rate // _SECOND) & 0xFFFF_FFFF

    def next_frame(self, now_ns: int, extensions: Extensions) -> list[bytes]:
        """The packets of the frame that is due, encoded now."""
        due_ns = self.next_ns - self.interval_ns
        self.timestamp = self.rtp_time(due_ns)
        at_ns = due_ns - self.zero_ns
        key, self._key_due = self._key_due and self.is_video, False
        data = self._video(at_ns, key) if self.is_video else self._audio(at_ns)
        self.marks.spans[-1][1] = at_ns
        self.frames += 1
        if not data:
            return []
        return self._packets(self._payloads(data), extensions)

    def _payloads(self, data: bytes) -> list[bytes]:
        if not self.is_video:
            return [data]
        parts = [data[at : at + _PAYLOAD_BYTES] for at in range(0, len(data), _PAYLOAD_BYTES)]
        head = b"\x80" + (0x8000 | self._picture & 0x7FFF).to_bytes(2, "big")
        self._picture += 1
        return [(b"\x80" if n else b"\x90") + head + part for n, part in enumerate(parts)]

    def _video(self, at_ns: int, key: bool) -> bytes:
        if self._coder is None or self._coded_size != self.size:
            self._coder, self._coded_size = _vp8(*self.size), self.size
        number, into_ns = divmod(at_ns, EVENT_NS)
        flash = into_ns < FLASH_NS
        if flash:
            self.marks.flashes.setdefault(number, at_ns)
        frame = _plain(self.size, 235 if flash else 40 + at_ns // 40_000_000 % 16)
        frame.pts = self.frames
        if key:
            frame.pict_type = PictureType.I
            self.key_frames += 1
        return b"".join(bytes(packet) for packet in self._coder.encode(frame))

    def _audio(self, at_ns: int) -> bytes:
        if self._coder is None:
            self._coder = _opus()
        first = at_ns * _RATE // _SECOND
        samples = array.array("h", bytes(1920))
        for n in range(960):
            into = (first + n) % _RATE
            if into < BEEP_NS * _RATE // _SECOND:
                samples[n] = round(14_000 * math.sin(2 * math.pi * 1000 * into / _RATE))
                if into == 0:
                    self.marks.beeps[(first + n) // _RATE] = (first + n) * _SECOND // _RATE
        frame: Any = av.AudioFrame(format="s16", layout="mono", samples=960)
        frame.planes[0].update(samples.tobytes())
        frame.sample_rate, frame.pts, frame.time_base = _RATE, self.frames * 960, Fraction(1, _RATE)
        return b"".join(bytes(packet) for packet in self._coder.encode(frame))


_PLAIN: OrderedDict[tuple[tuple[int, int], int], list[bytes]] = OrderedDict()


def _plain(size: tuple[int, int], luma: int) -> Any:
    frame = av.VideoFrame(*size, "yuv420p")
    key = (size, luma)
    if key not in _PLAIN:
        _PLAIN[key] = [bytes([luma if n == 0 else 128]) * p.buffer_size for n, p in enumerate(frame.planes)]
    for plane, data in zip(frame.planes, _PLAIN[key], strict=True):
        plane.update(data)
    return frame


def _vp8(width: int, height: int) -> Any:
    coder: Any = av.CodecContext.create("libvpx", "w")
    coder.width, coder.height, coder.pix_fmt = width, height, "yuv420p"
    coder.time_base, coder.framerate = Fraction(1, FPS), Fraction(FPS)
    coder.gop_size, coder.bit_rate, coder.thread_count = 3000, 300_000, 1
    coder.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
    return coder


def _opus() -> Any:
    coder: Any = av.CodecContext.create("libopus", "w")
    coder.sample_rate, coder.format, coder.layout, coder.bit_rate = _RATE, "s16", "mono", 32_000
    return coder


@dataclass
class Found:
    """What a decoder makes of a file; times in ms from its beginning."""

    flashes: list[float] = field(default_factory=list)
    beeps: list[float] = field(default_factory=list)
    frames: int = 0
    duration_ms: float = 0.0
    sizes: set[tuple[int, int]] = field(default_factory=set)
    last_ms: float = 0.0


def look(data: bytes) -> Found:
    """Decode a file from its first packet to its last, and find its events. Raises what PyAV raises on damage."""
    found, bright, quiet_until = Found(), False, -1.0
    with av.open(io.BytesIO(data)) as container:
        opened: Any = container
        found.duration_ms = (opened.duration or 0) / 1000
        for stream in opened.streams.video:
            stream.codec_context.options = {"err_detect": "explode"}
        for packet in opened.demux():
            for frame in packet.decode():
                at_ms = float(frame.pts * frame.time_base) * 1000
                found.last_ms = max(found.last_ms, at_ms)
                if isinstance(frame, av.VideoFrame):
                    found.frames += 1
                    found.sizes.add((frame.width, frame.height))
                    is_bright = _luma(frame) > _BRIGHT
                    if is_bright and not bright:
                        found.flashes.append(at_ms)
                    bright = is_bright
                else:
                    quiet_until = _beeps(frame, at_ms, quiet_until, found.beeps)
    return found


def _luma(frame: Any) -> float:
    plane = frame.planes[0]
    row = bytes(plane)[frame.height // 2 * plane.line_size :][: frame.width]
    return sum(row) / len(row)


def _beeps(frame: Any, at_ms: float, quiet_until: float, out: list[float]) -> float:
    """Note the beginnings of beeps in a decoded frame; a beep that goes on, or is cut by a loss, is one."""
    data = bytes(frame.planes[0])
    channels = 1 if frame.format.is_planar else len(frame.layout.channels)
    if frame.format.name.startswith("flt"):
        samples = array.array("f", data[: frame.samples * channels * 4])
    else:
        whole = struct.iter_unpack("<h", data[: frame.samples * channels * 2])
        samples = array.array("f", (each / 32_768 for (each,) in whole))
    for start in range(0, len(samples), _WINDOW * channels):
        window = samples[start : start + _WINDOW * channels]
        if max(max(window), -min(window)) > _LOUD:
            now_ms = at_ms + start / channels / _RATE * 1000
            if now_ms > quiet_until:
                out.append(now_ms)
            quiet_until = now_ms + 200
    return quiet_until
