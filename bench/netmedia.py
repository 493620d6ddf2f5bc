"""What the browsers' fake cameras and microphones show and say: written as files once for each measurement.

Chromium's own test picture is so plain that it needs a third of the bitrate of a face, and its beeps are silence most
of the time. Here the publisher's picture moves and carries grain, and the voice never stops.
"""

from __future__ import annotations

import array
import math
import os
import wave
from pathlib import Path
from typing import NamedTuple

import av
import av.filter

VOICE_RATE = 48_000
VOICE_S = 4
PICTURE_S = 3
GRAIN = 3
"""Strength of the noise: enough for about a megabit per second at 640x480 without the encoder giving up sharpness."""


class Media(NamedTuple):
    """Files for one browser."""

    video: Path
    audio: Path

    def flags(self) -> tuple[str, ...]:
        """Chromium's flags that make them camera and microphone."""
        return (
            f"--use-file-for-fake-video-capture={self.video}",
            f"--use-file-for-fake-audio-capture={self.audio}",
        )


def camera_size() -> tuple[int, int]:
    """What the SDK asks of a camera on a machine like this one (web/sdk/src/devices.ts)."""
    return (1280, 720) if (os.cpu_count() or 2) >= 4 else (640, 480)


def make_media(folder: Path) -> tuple[Media, Media]:
    """The publisher's files, and the subscriber's: smaller and slower, so that encoding it disturbs nothing."""
    voice = folder / "voice.wav"
    write_voice(voice)
    publisher, subscriber = folder / "publisher.y4m", folder / "subscriber.y4m"
    write_picture(publisher, *camera_size(), rate=30, grain=GRAIN)
    write_picture(subscriber, 320, 240, rate=10, grain=0)
    return Media(publisher, voice), Media(subscriber, voice)


def write_picture(path: Path, width: int, height: int, *, rate: int, grain: int) -> None:
    """A YUV4MPEG2 file of ``PICTURE_S`` seconds, which Chromium plays in a loop. Sizes are even, in pixels."""
    graph = av.filter.Graph()
    steps = [graph.add("testsrc2", f"size={width}x{height}:rate={rate}:duration={PICTURE_S}")]
    if grain:
        steps.append(graph.add("noise", f"alls={grain}:allf=t:all_seed=1"))
    steps += [graph.add("format", "pix_fmts=yuv420p"), graph.add("buffersink")]
    graph.link_nodes(*steps).configure()
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{rate}:1 Ip A1:1 C420jpeg\n".encode())
        for _ in range(PICTURE_S * rate):
            frame = graph.pull()
            assert isinstance(frame, av.VideoFrame)
            file.write(b"FRAME\n")
            for plane, across in zip(frame.planes, (width, width // 2, width // 2), strict=True):
                rows = memoryview(plane)
                for row in range(plane.height):
                    file.write(rows[row * plane.line_size : row * plane.line_size + across])


def write_voice(path: Path) -> None:
    """A voice-like hum of ``VOICE_S`` seconds: harmonics of a wandering pitch, in syllables without silence."""
    samples, phase = array.array("h"), 0.0
    for n in range(VOICE_RATE * VOICE_S):
        t = n / VOICE_RATE
        phase += 2 * math.pi * (140 + 30 * math.sin(2 * math.pi * 0.5 * t)) / VOICE_RATE
        loud = 0.55 + 0.45 * math.sin(2 * math.pi * 4 * t)
        tone = sum(math.sin(k * phase) / k for k in (1, 2, 3, 5, 8))
        samples.append(round(8_000 * loud * tone / 2.2))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(VOICE_RATE)
        file.writeframes(samples.tobytes())
