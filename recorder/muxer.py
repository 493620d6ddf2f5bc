"""PyAV's only home: encoded frames in, clusters of a live WebM or Matroska file out. Nothing is decoded or encoded.

What FFmpeg needs to be told is in the options below. Streams are fixed when the file begins: writing to one that was
added later kills the process, so a late track means a new file.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final, Literal, NamedTuple

import av
from av.packet import Packet

from recorder.errors import RecorderError
from recorder.frames import OPUS_RATE
from recorder.matroska import MatroskaError, Splitter

_CONTAINERS: Final = {"vp8": "webm", "vp9": "webm", "av1": "webm", "h264": "matroska", None: "webm"}
_CONTENT_TYPES: Final = {
    "vp8": "video/webm",
    "vp9": "video/webm",
    "av1": "video/webm",
    "h264": "video/x-matroska",
    None: "audio/webm",
}
_OPTIONS: Final = {
    "live": "1",
    "cluster_time_limit": "1000",
    "cluster_size_limit": "5000000",  # else 32 KiB
    "max_interleave_delta": "1000000",  # else a silent stream holds everything for 10 s
    "fflags": "+bitexact",  # no random ids, no program version: the same frames always give the same bytes
    "flush_packets": "1",
}
_BUFFER_BYTES: Final = 256 * 1024
"""A cluster comes out in pieces of at most this: fewer calls than with FFmpeg's own 32 KiB."""
_LOOK_MS: Final = 250
"""How often, in time of the media, it is looked for clusters that are complete; there is one a second."""
_MILLISECOND: Final = Fraction(1, 1000)


class RunFormat(NamedTuple):
    """What a run's file is declared to hold."""

    video_codec: str | None
    width: int
    height: int
    audio: bool

    @property
    def content_type(self) -> str:
        """Media type of the file."""
        return _CONTENT_TYPES[self.video_codec]


class MuxFailed(RecorderError):
    """FFmpeg refused a frame, or wrote what is not Matroska."""


class _Sink:
    """Takes the bytes; has no ``seek``, so that FFmpeg writes a live file."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._chunks.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        chunks, self._chunks = self._chunks, []
        return b"".join(chunks)


class RunMuxer:
    """One run's file. Frames of both kinds come in order of time; times are milliseconds from the run's start."""

    def __init__(self, run: RunFormat) -> None:
        self._sink = _Sink()
        self._splitter = Splitter()
        self._look_ms = 0
        try:
            self._container: Any = av.open(
                self._sink, "w", format=_CONTAINERS[run.video_codec], options=_OPTIONS, buffer_size=_BUFFER_BYTES
            )
            self._video: Any = None
            if run.video_codec is not None:
                self._video = self._container.add_mux_stream(
                    run.video_codec, 30, width=run.width, height=run.height, time_base=_MILLISECOND
                )
            # An encoder that never encodes: FFmpeg then writes OpusHead, without which nobody plays the stream.
            self._audio: Any = self._container.add_stream("libopus", rate=OPUS_RATE) if run.audio else None
        except av.FFmpegError as error:
            raise MuxFailed(f"cannot begin a file for {run}: {error}") from error

    @property
    def header(self) -> bytes:
        """All before the first cluster, once a cluster has come out."""
        return self._splitter.header

    def write(
        self, kind: Literal["audio", "video"], data: bytes, time_ms: int, key: bool, duration_ms: int
    ) -> list[bytes]:
        """Add a frame; clusters, soon after they are complete. Times rise within a kind. Raises ``MuxFailed``."""
        packet = Packet(data)
        packet.stream = self._audio if kind == "audio" else self._video
        packet.time_base = _MILLISECOND
        packet.pts = packet.dts = time_ms
        packet.is_keyframe = key
        if duration_ms:
            packet.duration = duration_ms
        try:
            self._container.mux_one(packet)
            if time_ms < self._look_ms:
                return []
            self._look_ms = time_ms + _LOOK_MS
            return self._splitter.feed(self._sink.take())
        except (av.FFmpegError, MatroskaError, ValueError) as error:
            raise MuxFailed(f"cannot mux {kind} at {time_ms} ms: {error}") from error

    def close(self) -> list[bytes]:
        """End the file; the clusters that were still open. Raises ``MuxFailed``."""
        try:
            self._container.close()
            return self._splitter.feed(self._sink.take())
        except (av.FFmpegError, MatroskaError) as error:
            raise MuxFailed(f"cannot end the file: {error}") from error
