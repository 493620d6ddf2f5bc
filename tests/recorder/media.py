"""Synthetic but real media: PyAV encodes it, a small packetiser makes RTP of it, the relay's writer spools it."""

from __future__ import annotations

import dataclasses
import functools
import io
import random
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from relay.rtp import make_packet
from relay.spool import PartHeader, PartParticipant, SpoolPart, SpoolStream, SpoolTrack

MS = 1_000_000
START_NS = 50_000_000_000
START_WALL_MS = 1_800_000_000_000
NTP_EPOCH_S = 2_208_988_800
CODECS = {
    "vp8": (96, "libvpx"),
    "vp9": (98, "libvpx-vp9"),
    "h264": (102, "libx264"),
    "av1": (45, "libsvtav1"),
    "opus": (111, "libopus"),
}


@dataclasses.dataclass(frozen=True)
class Coded:
    """One encoded frame, at its time in the scene."""

    at_ms: float
    data: bytes
    key: bool


@functools.cache
def video(codec: str, seconds: float, width: int = 320, height: int = 180, gop: int = 60) -> tuple[Coded, ...]:
    """A moving bar at 30 frames a second; its luma tells the frame number roughly."""
    context: Any = av.CodecContext.create(CODECS[codec][1], "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 30), Fraction(30)
    context.gop_size, context.bit_rate, context.thread_count = gop, 250_000, 1
    quick = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
    x264 = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}
    context.options = {"h264": x264, "av1": {"preset": "12", "svtav1-params": "pred-struct=1:rc=2:lp=1"}}.get(
        codec, quick
    )
    frames: list[Any] = []
    for number in range(round(seconds * 30)):
        frame = av.VideoFrame(width, height, "yuv420p")
        for index, plane in enumerate(frame.planes):
            row = bytes((x + number * 4) & 255 for x in range(plane.line_size)) if index == 0 else b"\x80"
            plane.update((row * (plane.buffer_size // len(row) + 1))[: plane.buffer_size])
        frame.pts = number
        frames += context.encode(frame)
    frames += context.encode(None)
    return tuple(Coded(n * 1000 / 30, bytes(packet), packet.is_keyframe) for n, packet in enumerate(frames))


@functools.cache
def audio(seconds: float) -> tuple[Coded, ...]:
    """A quiet tone with a loud tick at every full second, as opus packets of 20 ms."""
    context: Any = av.CodecContext.create("libopus", "w")
    context.sample_rate, context.format, context.layout = 48_000, "s16", "mono"
    out = []
    for number in range(round(seconds * 50)):
        frame = av.AudioFrame(format="s16", layout="mono", samples=960)
        loud = 12_000 if number % 50 == 0 else 400
        samples = [loud if (n // 24) % 2 else -loud for n in range(960)]
        frame.planes[0].update(b"".join(s.to_bytes(2, "little", signed=True) for s in samples))
        frame.sample_rate, frame.pts, frame.time_base = 48_000, number * 960, Fraction(1, 48_000)
        out += context.encode(frame)
    return tuple(Coded(n * 20.0, bytes(packet), True) for n, packet in enumerate(out))


def vp8_payloads(frame: bytes, picture: int, size: int = 1100) -> list[bytes]:
    """RFC 7741 payloads with 15-bit picture ids, as browsers send them."""
    extension = b"\x80" + (0x8000 | picture & 0x7FFF).to_bytes(2, "big")
    parts = [frame[i : i + size] for i in range(0, len(frame), size)]
    return [(b"\x90" if n == 0 else b"\x80") + extension + part for n, part in enumerate(parts)]


def h264_payloads(frame: bytes, size: int = 1100) -> list[bytes]:
    """RFC 6184 payloads: SPS and PPS aggregated, large units fragmented."""
    units = [unit for unit in frame.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
    sets = [unit for unit in units if unit[0] & 31 in (7, 8)]
    out = [b"\x18" + b"".join(len(u).to_bytes(2, "big") + u for u in sets)] if sets else []
    for unit in units:
        if unit in sets:
            continue
        if len(unit) <= size:
            out.append(unit)
            continue
        parts = [unit[i : i + size] for i in range(1, len(unit), size)]
        for n, part in enumerate(parts):
            flags = (0x80 if n == 0 else 0) | (0x40 if n == len(parts) - 1 else 0)
            out.append(bytes([unit[0] & 0xE0 | 28, flags | unit[0] & 31]) + part)
    return out


def vp9_payloads(frame: bytes, picture: int, size: int = 1100) -> list[bytes]:
    """RFC 9628 payloads with 15-bit picture ids, without layers."""
    extension = (0x8000 | picture & 0x7FFF).to_bytes(2, "big")
    key = frame[0] & 0x04 == 0
    parts = [frame[i : i + size] for i in range(0, len(frame), size)]
    out = []
    for n, part in enumerate(parts):
        flags = 0x80 | (0 if key else 0x40) | (0x08 if n == 0 else 0) | (0x04 if n == len(parts) - 1 else 0)
        out.append(bytes([flags]) + extension + part)
    return out


def av1_payloads(frame: bytes, size: int = 1100) -> list[bytes]:
    """A temporal unit as browsers send it: OBUs without sizes or delimiters, a length before each but the last."""
    obus, at = [], 0
    while at < len(frame):
        head, start, length, shift = frame[at], at + 1, 0, 0
        while True:
            byte = frame[start]
            length |= (byte & 0x7F) << shift
            start, shift = start + 1, shift + 7
            if not byte & 0x80:
                break
        if head >> 3 & 15 != 2:
            obus.append(bytes([head & ~2]) + frame[start : start + length])
        at = start + length
    out: list[bytes] = []
    for obu in obus:
        parts = [obu[i : i + size] for i in range(0, len(obu), size)]
        for n, part in enumerate(parts):
            flags = 0x10 | (0x80 if n else 0) | (0x40 if n < len(parts) - 1 else 0) | (0 if out else 0x08)
            out.append(bytes([flags]) + part)
    return out


def payloads_of(codec: str, frame: bytes, picture: int, size: int = 1100) -> list[bytes]:
    """RTP payloads of a frame."""
    match codec:
        case "vp8":
            return vp8_payloads(frame, picture, size)
        case "vp9":
            return vp9_payloads(frame, picture, size)
        case "av1":
            return av1_payloads(frame, size)
        case "h264":
            return h264_payloads(frame, size)
        case _:
            return [frame]


@dataclasses.dataclass
class Packet:
    """One packet on its way."""

    arrival_ns: int
    data: bytes


class Sender:
    """One track of a participant: makes packets with the sender's own clocks."""

    def __init__(
        self,
        codec: str,
        *,
        ssrc: int,
        user_id: int = 7,
        source: str | None = None,
        sequence: int = 65_500,
        timestamp: int = 2**32 - 9_000,
        delay_ms: float = 20.0,
        clock_ahead_ms: float = 5_000.0,
    ) -> None:
        self.codec, self.ssrc = codec, ssrc
        self.rate = 48_000 if codec == "opus" else 90_000
        kind = "audio" if codec == "opus" else "video"
        self.track = SpoolTrack(
            user_id=user_id,
            source=source or {"audio": "microphone", "video": "camera"}[kind],
            ssrc=ssrc,
            kind=kind,
            clock_rate=self.rate,
            codecs={CODECS[codec][0]: codec.upper() if kind == "video" else codec},
        )
        self.delay_ms, self.clock_ahead_ms = delay_ms, clock_ahead_ms
        self._sequence, self._timestamp, self._picture = sequence, timestamp, 32_760

    def packets(self, frames: Iterable[Coded], shift_ms: float = 0.0) -> list[Packet]:
        """RTP of the frames, as they arrive on a network with a constant delay."""
        out = []
        for frame in frames:
            payloads = payloads_of(self.codec, frame.data, self._picture)
            self._picture += 1
            for n, payload in enumerate(payloads):
                at_ns = START_NS + round((frame.at_ms + shift_ms + self.delay_ms) * MS) + n * 100_000
                out.append(Packet(at_ns, self._packet(payload, frame.at_ms + shift_ms, n == len(payloads) - 1)))
        return out

    def _packet(self, payload: bytes, at_ms: float, marker: bool) -> bytes:
        packet = make_packet(
            payload_type=CODECS[self.codec][0],
            sequence=self._sequence & 0xFFFF,
            timestamp=self.rtp_timestamp(at_ms),
            ssrc=self.ssrc,
            payload=payload,
            marker=marker,
        )
        self._sequence += 1
        return packet

    def rtp_timestamp(self, at_ms: float) -> int:
        return (self._timestamp + round(at_ms * self.rate / 1000)) & 0xFFFFFFFF

    def padding(self, at_ms: float) -> Packet:
        """A probe of padding only."""
        arrival_ns = START_NS + round((at_ms + self.delay_ms) * MS)
        return Packet(arrival_ns, self._packet(b"", at_ms, False))

    def report(self, stream: SpoolStream, at_ms: float) -> None:
        """Spool a sender report that was sent at that time of the scene."""
        ntp_s = NTP_EPOCH_S + (START_WALL_MS + at_ms + self.clock_ahead_ms) / 1000
        arrival_ns = START_NS + round((at_ms + self.delay_ms) * MS)
        stream.sender_report(arrival_ns, self.ssrc, int(ntp_s * 2**32), self.rtp_timestamp(at_ms))


def header(recording: str = "rec_0", *, epoch: int = 1, wrapped: bytes = b"w", key_id: str = "local-1") -> PartHeader:
    """A part of two participants."""
    people = ((7, "usr_client", "Ana", "client"), (8, "usr_provider", "Ben", "provider"))
    return PartHeader(
        tenant_id=1,
        session_id=2,
        session_public_id="ses_0",
        recording_public_id=recording,
        epoch=epoch,
        worker_id="w1",
        key_id=key_id,
        wrapped_key=wrapped,
        started_wall_ms=START_WALL_MS,
        started_monotonic_ns=START_NS,
        participants=tuple(PartParticipant(user_id=i, public_id=p, name=n, role=r) for i, p, n, r in people),
    )


class Scene:
    """A part being spooled; ``add`` writes a sender's packets with its reports in between."""

    def __init__(self, spool_dir: Path, data_key: bytes, part_header: PartHeader | None = None) -> None:
        self.part = SpoolPart.open(spool_dir, part_header or header(), data_key)

    @property
    def directory(self) -> Path:
        return self.part.directory

    def add(
        self,
        sender: Sender,
        packets: Iterable[Packet],
        *,
        reports_ms: Iterable[float] = (250, 5_250, 10_250),
        declared_ms: float = 0.0,
        ends: bool = False,
    ) -> SpoolStream:
        """Declare the sender's stream and spool its packets in order of arrival."""
        stream = self.part.add_stream(sender.track, START_NS + round(declared_ms * MS))
        todo = sorted(packets, key=lambda packet: packet.arrival_ns)
        pending = list(reports_ms)
        for number, packet in enumerate(todo):
            if number % 40 == 0:
                self.part.flush(sync=False)
            while pending and START_NS + (pending[0] + sender.delay_ms) * MS <= packet.arrival_ns:
                sender.report(stream, pending.pop(0))
            stream.rtp(packet.arrival_ns, packet.data)
        if ends and todo:
            stream.end(todo[-1].arrival_ns)
        self.part.flush(sync=False)
        return stream

    def close(self) -> None:
        self.part.close()


def lossy(packets: list[Packet], share: float, seed: int = 1) -> list[Packet]:
    """What is left of the packets, but for the first second's."""
    rng = random.Random(seed)
    return [p for p in packets if p.arrival_ns < START_NS + 1_000 * MS or rng.random() >= share]


@dataclasses.dataclass
class Decoded:
    """What a decoder makes of a file."""

    video_ms: list[float] = dataclasses.field(default_factory=list)
    sizes: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    audio_ms: list[float] = dataclasses.field(default_factory=list)
    audio_peaks: list[int] = dataclasses.field(default_factory=list)
    duration_ms: float | None = None


def decode(data: bytes) -> Decoded:
    """Decode a file from the first to the last frame. Raises on any damage."""
    out = Decoded()
    container: Any
    with av.open(io.BytesIO(data)) as container:
        for stream in container.streams.video:
            stream.codec_context.options = {"err_detect": "explode"}
        if container.duration is not None:
            out.duration_ms = container.duration / 1000
        for packet in container.demux():
            for frame in packet.decode():
                assert frame.pts is not None
                at_ms = float(frame.pts * frame.time_base) * 1000
                if isinstance(frame, av.VideoFrame):
                    out.video_ms.append(at_ms)
                    out.sizes.append((frame.width, frame.height))
                elif isinstance(frame, av.AudioFrame):
                    out.audio_ms.append(at_ms)
                    plane = memoryview(bytes(frame.planes[0])[: frame.samples * 4])
                    out.audio_peaks.append(int(max(abs(x) for x in plane.cast("f")) * 32_768))
    return out
