"""aiortc's MediaRecorder on spooled packets: what recording costs where media is decoded and encoded again.

The packets take aiortc's own way (jitter buffer, depacketising, decoder, as in its RTCRtpReceiver) and are recorded to
WebM as fast as it goes. Nothing is dropped, so what it costs is what it would cost live.
"""

from __future__ import annotations

import asyncio
import fractions
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aiortc.codecs import depayload, get_decoder
from aiortc.contrib.media import MediaRecorder
from aiortc.jitterbuffer import JitterBuffer
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket

from bench.recorder_media import OPUS, VP8
from relay.spool import RtpRecord, open_part
from relay.spool.reader import UnwrapKey

_CODECS = {
    "audio": RTCRtpCodecParameters(mimeType="audio/opus", clockRate=48_000, channels=2, payloadType=OPUS),
    "video": RTCRtpCodecParameters(mimeType="video/VP8", clockRate=90_000, payloadType=VP8),
}


class Cost(NamedTuple):
    """What it took."""

    cpu_s: float
    bytes: int


class _Decoded(MediaStreamTrack):
    """A track as aiortc's receiver would give it."""

    def __init__(self, kind: str, packets: Iterator[bytes], after: asyncio.Event | None) -> None:
        super().__init__()
        self.kind = kind
        self.recorded = asyncio.Event()
        """Its first frame was encoded."""
        self.done = asyncio.Event()
        self._after = after
        self._given = 0
        self._frames = self._decode(packets)

    def _decode(self, packets: Iterator[bytes]) -> Iterator[Any]:
        codec = _CODECS[self.kind]
        decoder = get_decoder(codec)
        is_video = self.kind == "video"
        buffer = JitterBuffer(capacity=512, is_video=True) if is_video else JitterBuffer(capacity=16, prefetch=4)
        for data in packets:
            packet = RtpPacket.parse(data)
            packet._data = depayload(codec, packet.payload) if packet.payload else b""  # type: ignore[attr-defined]
            _, frame = buffer.add(packet)
            if frame is not None:
                yield from decoder.decode(frame)

    async def recv(self) -> Any:
        await asyncio.sleep(0)
        if self._given:
            self.recorded.set()
        if self._after is not None:
            await self._after.wait()
        self._given += 1
        for frame in self._frames:
            if self.kind == "video":
                frame.time_base = fractions.Fraction(1, 90_000)
            return frame
        self.done.set()
        raise MediaStreamError


def _packets(directory: Path, unwrap: UnwrapKey, number: int) -> Iterator[bytes]:
    """One spool file's packets, read as they are needed."""
    with open_part(directory, unwrap) as reader:
        others = frozenset(range(1, 100)) - {number}
        while found := reader.poll(others):
            for _, record in found:
                if isinstance(record, RtpRecord):
                    yield record.packet


async def media_recorder(directory: Path, unwrap: UnwrapKey, files: dict[str, int], target: Path) -> Cost:
    """Record one participant's sound and picture; ``files``: kind → spool file number."""
    started = time.process_time()
    video = _Decoded("video", _packets(directory, unwrap, files["video"]), None)
    # MediaRecorder cannot tell its encoder the picture's size any more once sound was written: the picture goes first.
    audio = _Decoded("audio", _packets(directory, unwrap, files["audio"]), video.recorded)
    recorder, tracks = MediaRecorder(str(target), format="webm"), (video, audio)
    for track in tracks:
        recorder.addTrack(track)
    await recorder.start()
    for track in tracks:
        await track.done.wait()
    await recorder.stop()
    cpu_s = time.process_time() - started
    return Cost(cpu_s, await asyncio.to_thread(os.path.getsize, target))
