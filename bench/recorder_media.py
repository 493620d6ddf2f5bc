"""What is recorded in the recorder's measurements: real VP8 and opus, encoded once, as RTP of one participant."""

from __future__ import annotations

import array
import math
import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final, NamedTuple

import av
import av.filter
from av.video.frame import PictureType

from relay.rtp import make_packet

WIDTH, HEIGHT, FPS = 640, 480, 30
BIT_RATE: Final = 1_250_000
GRAIN: Final = 5
CLIP_S: Final = 10
"""Length of the clip, which is repeated; it begins with a key frame, as recorded video does every ten seconds."""
PAYLOAD_BYTES: Final = 1_150
VP8, OPUS = 96, 111
VIDEO_SSRC, AUDIO_SSRC = 2, 1
_AUDIO_RATE: Final = 48_000


class Coded(NamedTuple):
    """A frame or an opus packet, at its time in the clip."""

    at_ms: float
    data: bytes
    key: bool


class Sent(NamedTuple):
    """An RTP packet, at its time from the start of the call."""

    at_ms: float
    is_video: bool
    data: bytes


def picture(seconds: int = CLIP_S) -> list[Coded]:
    """A moving test picture with grain, as a browser's encoder would send it at ``BIT_RATE``."""
    graph = av.filter.Graph()
    steps = [
        graph.add("testsrc2", f"size={WIDTH}x{HEIGHT}:rate={FPS}:duration={seconds}"),
        graph.add("noise", f"alls={GRAIN}:allf=t:all_seed=1"),
        graph.add("format", "pix_fmts=yuv420p"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*steps).configure()
    coder: Any = av.CodecContext.create("libvpx", "w")
    coder.width, coder.height, coder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    coder.time_base, coder.framerate = Fraction(1, FPS), Fraction(FPS)
    coder.gop_size, coder.bit_rate, coder.thread_count = seconds * FPS, BIT_RATE, 1
    coder.options = {
        **{"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
        **{"minrate": str(BIT_RATE), "maxrate": str(BIT_RATE), "bufsize": str(BIT_RATE), "max-intra-rate": "600"},
    }
    packets: list[Any] = []
    for number in range(seconds * FPS):
        frame: Any = graph.pull()
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        frame.pict_type = PictureType.NONE  # the source calls each of its frames a key frame, which would be obeyed
        packets += coder.encode(frame)
    packets += coder.encode(None)
    return [Coded(n * 1000 / FPS, bytes(packet), packet.is_keyframe) for n, packet in enumerate(packets)]


def sound(seconds: int = CLIP_S) -> list[Coded]:
    """A hum with noise, as opus packets of 20 ms at about 32 kb/s."""
    coder: Any = av.CodecContext.create("libopus", "w")
    coder.sample_rate, coder.format, coder.layout, coder.bit_rate = _AUDIO_RATE, "s16", "mono", 32_000
    luck, packets = random.Random(1), []
    for number in range(seconds * 50):
        times = ((number * 960 + n) / _AUDIO_RATE for n in range(960))
        samples = array.array("h", (round(6_000 * math.sin(880 * t) + luck.gauss(0, 300)) for t in times))
        frame = av.AudioFrame(format="s16", layout="mono", samples=960)
        frame.planes[0].update(samples.tobytes())
        frame.sample_rate, frame.pts, frame.time_base = _AUDIO_RATE, number * 960, Fraction(1, _AUDIO_RATE)
        packets += coder.encode(frame)
    return [Coded(n * 20.0, bytes(packet), True) for n, packet in enumerate(packets[: seconds * 50])]


def stream(frames: list[Coded], seconds: float, *, is_video: bool) -> Iterator[Sent]:
    """The clip again and again for so long, as RTP packets (RFC 7741, RFC 7587) with the extensions of a browser."""
    rate, clip_ms = (90_000, CLIP_S * 1000) if is_video else (_AUDIO_RATE, CLIP_S * 1000)
    sequence = number = 0
    while True:
        repeat, place = divmod(number, len(frames))
        frame = frames[place]
        at_ms = repeat * clip_ms + frame.at_ms
        if at_ms >= seconds * 1000:
            return
        payloads = list(_vp8_payloads(frame.data, number)) if is_video else [frame.data]
        for index, payload in enumerate(payloads):
            data = make_packet(
                payload_type=VP8 if is_video else OPUS,
                sequence=sequence & 0xFFFF,
                timestamp=round(at_ms * rate / 1000) & 0xFFFF_FFFF,
                ssrc=VIDEO_SSRC if is_video else AUDIO_SSRC,
                payload=payload,
                marker=index == len(payloads) - 1,
                extensions=[(1, b"1" if is_video else b"0"), (2, (sequence & 0xFFFF).to_bytes(2, "big"))],
            )
            yield Sent(at_ms, is_video, data)
            sequence += 1
        number += 1


def _vp8_payloads(frame: bytes, number: int) -> Iterator[bytes]:
    extension = b"\x80" + (0x8000 | number & 0x7FFF).to_bytes(2, "big")
    for at in range(0, len(frame), PAYLOAD_BYTES):
        yield (b"\x80" if at else b"\x90") + extension + frame[at : at + PAYLOAD_BYTES]


def call_packets(seconds: float) -> list[Sent]:
    """What one participant sends in a call of that length, in order of time."""
    packets = [*stream(picture(), seconds, is_video=True), *stream(sound(), seconds, is_video=False)]
    return sorted(packets, key=lambda packet: packet.at_ms)
