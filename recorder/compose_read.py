"""The streams of a recording, decoded in step with one clock: pictures by time, sound without holes.

Everything is read once, from front to back; what is held is about a second of packets and one picture of each stream,
however long the recording is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, Final, NamedTuple

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame

from recorder.frames import PICTURE_PIXELS_MAX

RATE: Final = 48_000
AHEAD_MS: Final = 1_500
"""Streams are read this much ahead: sound and picture lie less than that apart in a file."""
PACKETS_MAX: Final = 4_000
JOIN_SAMPLES: Final = RATE // 50
"""Sound that begins within 20 ms of where the last ended goes on there: times in the files are whole milliseconds."""
DECODING: Final = {"max_pixels": str(PICTURE_PIXELS_MAX * 9 // 8)}
"""For FFmpeg: larger pictures are not decoded. Sizes are rounded up to whole blocks, and any frame may change them."""
STALE_MS: Final = {"camera": 3_000, "screen": 600_000}
"""A picture without a successor is shown for so long: a camera was switched off then, a screen just stands still."""


class Clip(NamedTuple):
    """One stream of a recording."""

    user_id: int
    source: str
    start_ms: int
    """From the recording's start."""
    end_ms: int
    video: bool
    audio: bool
    open: Callable[[], Any]
    """Its bytes: an object with ``read`` and ``seek``."""


class _Timed(NamedTuple):
    at_ms: float
    packet: Packet[Any]


class ClipReader:
    """One clip's packets, decoded when they are due. ``close`` it."""

    def __init__(self, clip: Clip, *, picture: bool, sound: bool) -> None:
        self.clip = clip
        self._container: Any = av.open(clip.open(), "r", format="matroska", options=DECODING)
        streams = self._container.streams
        self._wanted = ([streams.video[0]] if picture and streams.video else []) + (
            [streams.audio[0]] if sound and streams.audio else []
        )
        for stream in self._wanted:
            stream.thread_count = 1
            stream.codec_context.options = DECODING
        self._packets: Iterator[Packet[Any]] | None = self._container.demux(self._wanted) if self._wanted else None
        self._video: deque[_Timed] = deque()
        self._audio: deque[_Timed] = deque()
        self._read_ms = float(clip.start_ms)
        self._frame: VideoFrame | None = None
        self._frame_ms = 0.0

    def close(self) -> None:
        self._packets = None
        self._video.clear()
        self._audio.clear()
        self._container.close()

    def picture(self, at_ms: float) -> tuple[VideoFrame, float] | None:
        """The picture that is shown at a time, and since when. Times must not go back."""
        self._read_until(at_ms)
        while self._video and self._video[0].at_ms <= at_ms:
            timed = self._video.popleft()
            for frame in self._decoded(timed.packet):
                self._frame, self._frame_ms = frame, timed.at_ms
        return None if self._frame is None else (self._frame, self._frame_ms)

    def sound(self, until_ms: float) -> Iterator[tuple[float, AudioFrame]]:
        """Sound that begins before a time and was not given before, each with when it begins."""
        self._read_until(until_ms)
        while self._audio and self._audio[0].at_ms < until_ms:
            timed = self._audio.popleft()
            for frame in self._decoded(timed.packet):
                yield timed.at_ms, frame

    def _decoded(self, packet: Packet[Any]) -> list[Any]:
        try:
            return list(packet.decode())
        except FFmpegError:
            return []  # as a player would go on: the evidence itself is not touched

    def _read_until(self, at_ms: float) -> None:
        while self._packets is not None and self._read_ms < at_ms + AHEAD_MS:
            packet = next(self._packets, None)
            if packet is None:
                self._packets = None
                return
            if packet.pts is None or packet.time_base is None:
                continue
            timed = _Timed(self.clip.start_ms + float(packet.pts * packet.time_base * 1000), packet)
            queue = self._video if packet.stream.type == "video" else self._audio
            if len(queue) < PACKETS_MAX:
                queue.append(timed)
            self._read_ms = max(self._read_ms, timed.at_ms)


class Feed:
    """One source of one participant through the whole recording, whatever files it is in. ``close`` it."""

    def __init__(self, user_id: int, source: str, clips: list[Clip], *, picture: bool, sound: bool) -> None:
        """``source``: ``camera`` (with the microphone) or ``screen``."""
        self.user_id = user_id
        self.source = source
        self._waiting = deque(sorted(clips, key=lambda clip: clip.start_ms))
        self._open: list[ClipReader] = []
        self._picture = picture
        self._sound = sound

    def close(self) -> None:
        for reader in self._open:
            reader.close()
        self._open.clear()
        self._waiting.clear()

    def picture(self, at_ms: float) -> VideoFrame | None:
        """What is to be seen at a time; None: nothing. Of files that overlap the later one counts."""
        self._turn(at_ms)
        shown = None
        for reader in self._open:
            found = reader.picture(at_ms)
            if found is not None and at_ms < reader.clip.end_ms and at_ms - found[1] < STALE_MS[self.source]:
                shown = found[0]
        return shown

    def sound(self, until_ms: float) -> list[tuple[float, AudioFrame]]:
        """All sound that begins before a time and was not given before."""
        self._turn(until_ms)
        return [each for reader in self._open for each in reader.sound(until_ms)]

    def _turn(self, at_ms: float) -> None:
        """Open the files that have begun, close those that are over."""
        while self._waiting and self._waiting[0].start_ms <= at_ms:
            self._open.append(ClipReader(self._waiting.popleft(), picture=self._picture, sound=self._sound))
        for reader in [each for each in self._open if each.clip.end_ms + 2 * AHEAD_MS < at_ms]:
            reader.close()
            self._open.remove(reader)


class Voice:
    """A participant's sound as one unbroken run of samples: 16 bits, mono, silence where there is none."""

    def __init__(self, feed: Feed, rate: int = RATE) -> None:
        self._feed = feed
        self._rate = rate
        self._resampler = AudioResampler(format="s16", layout="mono", rate=rate)
        self._held = bytearray()
        self._taken = 0
        """Samples that are gone."""
        self._join = JOIN_SAMPLES * rate // RATE

    def take(self, samples: int, until_ms: float) -> bytes:
        """The next samples, which end at ``until_ms``."""
        for at_ms, frame in self._feed.sound(until_ms):
            self._add(at_ms, frame)
        out = bytes(self._held[: 2 * samples]).ljust(2 * samples, b"\0")
        del self._held[: 2 * samples]
        self._taken += samples
        return out

    def _add(self, at_ms: float, frame: AudioFrame) -> None:
        frame.pts = None  # only our own clock counts
        data = b"".join(bytes(out.planes[0])[: 2 * out.samples] for out in self._resampler.resample(frame))
        missing = round(at_ms * self._rate / 1000) - self._taken - len(self._held) // 2
        if missing > self._join:
            self._held += bytes(2 * missing)
        elif missing < -self._join:
            data = data[-2 * missing :]
        self._held += data


def frame_of(pcm: bytes, rate: int, at: int) -> AudioFrame:
    """Samples as a frame of 16 bits, mono; ``at``: place of the first."""
    frame = AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
    frame.planes[0].update(pcm.ljust(frame.planes[0].buffer_size, b"\0"))
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    return frame


def peak(pcm: bytes) -> int:
    """How loud samples are at most: 0–32768."""
    samples = memoryview(pcm).cast("h")
    return max(max(samples), -min(samples)) if len(samples) else 0
