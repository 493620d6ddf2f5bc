"""A minute of one participant's quality in about half a kilobyte, and what a series comes to. Pure functions.

A packed minute is a version byte and, compressed, 60 records of ``_SIDE`` and six of ``_TRACK`` (three sources, both
directions). Units: MOS in fiftieths, losses in 1/65534, delays in tenths of a millisecond, bit rates in kb/s, frozen
time in 4 ms. A record of zeros is a second that nobody measured.
"""

from __future__ import annotations

import statistics
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast, get_args

from relay.messages import Cause, Direction, QualitySecond, Source, TrackSecond

SECONDS: Final = 60
VERSION: Final = 1
GOOD_SCORE: Final = 4
_WORST_OVER_S: Final = 5
_SIDE: Final = struct.Struct("<BBBH")  # score (+ 0x80: not connected), MOS, cause, round trip
_TRACK: Final = struct.Struct("<HHHBBB")  # loss, jitter, bit rate, frame rate, frozen, MOS
_TRACKS: Final[tuple[tuple[Source, Direction], ...]] = tuple(
    (source, direction) for source in get_args(Source) for direction in get_args(Direction)
)
_RECORD: Final = _SIDE.size + len(_TRACKS) * _TRACK.size
_SIZE: Final = SECONDS * _RECORD
_CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)
_GONE: Final = 0x80
_NO_ROUND_TRIP: Final = 0xFFFF
_NO_TRACK: Final = 0xFFFF
_LOSS_SCALE: Final = 65_534
_NO_FRAMES: Final = 255
_PAUSED: Final = 255
_MOS_SCALE: Final = 50

Minute = Mapping[int, QualitySecond]
"""Second of the minute → what was measured."""


class BadSeries(ValueError):
    """What is stored is not a packed minute."""


def pack(minute: Minute, onto: bytes | None = None) -> bytes:
    """The packed minute; ``onto``: one packed earlier, which has the rest. Raises ``BadSeries`` where that is none."""
    raw = bytearray(_SIZE) if onto is None else bytearray(_inflate(onto))
    for second, measured in minute.items():
        if 0 <= second < SECONDS:
            raw[second * _RECORD : (second + 1) * _RECORD] = _pack_second(measured)
    return bytes([VERSION]) + zlib.compress(bytes(raw), 6)


def unpack(packed: bytes, user_id: int) -> dict[int, QualitySecond]:
    """The seconds in a packed minute. Raises ``BadSeries``."""
    raw = _inflate(packed)
    records = (raw[n * _RECORD : (n + 1) * _RECORD] for n in range(SECONDS))
    return {second: _unpack_second(record, user_id) for second, record in enumerate(records) if record[0]}


def _inflate(packed: bytes) -> bytes:
    if not packed or packed[0] != VERSION:
        raise BadSeries("unknown version")
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(packed[1:], _SIZE)
    except zlib.error as error:
        raise BadSeries(str(error)) from None
    if len(raw) != _SIZE:
        raise BadSeries("not a minute")
    return raw


def _pack_second(measured: QualitySecond) -> bytes:
    score = _clamp(measured.score, 1, 5) | (0 if measured.connected else _GONE)
    rtt = _NO_ROUND_TRIP if measured.rtt_ms is None else _clamp(measured.rtt_ms * 10, 0, _NO_ROUND_TRIP - 1)
    side = _SIDE.pack(score, _clamp(measured.mos * _MOS_SCALE, 0, 254), _CAUSES.index(measured.cause), rtt)
    tracks = {(track.source, track.direction): track for track in measured.tracks}
    return side + b"".join(_pack_track(tracks.get(key)) for key in _TRACKS)


def _pack_track(track: TrackSecond | None) -> bytes:
    if track is None:
        return _TRACK.pack(_NO_TRACK, 0, 0, 0, 0, 0)
    frames = track.frames_per_second
    mos = _PAUSED if track.paused else 0 if track.mos is None else _clamp(track.mos * _MOS_SCALE, 1, 254)
    return _TRACK.pack(
        _clamp(track.loss * _LOSS_SCALE, 0, _LOSS_SCALE),
        _clamp(track.jitter_ms * 10, 0, 0xFFFF),
        _clamp(track.bitrate_bps / 1000, 0, 0xFFFF),
        _NO_FRAMES if frames is None else _clamp(frames, 0, 254),
        _clamp(track.frozen_ms / 4, 0, 255),
        mos,
    )


def _unpack_second(record: bytes, user_id: int) -> QualitySecond:
    score, mos, cause, rtt = _SIDE.unpack_from(record)
    tracks = []
    for n, (source, direction) in enumerate(_TRACKS):
        loss, jitter, kbps, frames, frozen, track_mos = _TRACK.unpack_from(record, _SIDE.size + n * _TRACK.size)
        if loss == _NO_TRACK:
            continue
        paused = track_mos == _PAUSED
        tracks.append(
            TrackSecond(
                source=source,
                direction=direction,
                loss=round(loss / _LOSS_SCALE, 4),
                jitter_ms=jitter / 10,
                bitrate_bps=kbps * 1000,
                frames_per_second=None if frames == _NO_FRAMES else float(frames),
                frozen_ms=frozen * 4,
                paused=paused,
                mos=1.0 if paused else track_mos / _MOS_SCALE if track_mos else None,
            )
        )
    return QualitySecond(
        user_id=user_id,
        connected=not score & _GONE,
        score=score & ~_GONE,
        mos=mos / _MOS_SCALE,
        cause=_CAUSES[cause] if cause < len(_CAUSES) else "none",
        rtt_ms=None if rtt == _NO_ROUND_TRIP else rtt / 10,
        tracks=tuple(tracks),
    )


def _clamp(value: float, low: int, high: int) -> int:
    return low if value != value or value <= low else high if value >= high else round(value)


@dataclass(frozen=True, slots=True)
class Summary:
    """What one side of a session was like."""

    seconds: int
    worst_mos: float
    """The mean of the worst five seconds on end: one late packet is no verdict on a call."""
    median_mos: float
    good_ratio: float
    """Share of the seconds with a score of 4 or 5."""
    frozen_ms: int


def summarise(seconds: Sequence[QualitySecond]) -> Summary | None:
    """Of one participant's seconds in order; None: there are none."""
    if not seconds:
        return None
    mos = [second.mos for second in seconds]
    over = min(_WORST_OVER_S, len(mos))
    worst = min(statistics.fmean(mos[n : n + over]) for n in range(len(mos) - over + 1))
    good = sum(second.connected and second.score >= GOOD_SCORE for second in seconds)
    return Summary(
        seconds=len(seconds),
        worst_mos=round(worst, 2),
        median_mos=round(statistics.median(mos), 2),
        good_ratio=round(good / len(seconds), 4),
        frozen_ms=sum(track.frozen_ms for second in seconds for track in second.tracks),
    )


def worst_of(tracks: Iterable[TrackSecond], direction: Direction) -> float:
    """The greatest loss of a direction's tracks."""
    return max((track.loss for track in tracks if track.direction == direction), default=0.0)


def bitrate_of(tracks: Iterable[TrackSecond], direction: Direction) -> int:
    """The bit rate of a direction's tracks together."""
    return cast(int, sum(track.bitrate_bps for track in tracks if track.direction == direction))
