"""One participant's connection, second by second: every track both ways, what it was like, and what is to blame.

The relay's own counters and the page's reports over RTCP say what the network did; the page's digest of getStats, where
it is fresh, says what came of it: samples concealed, frames shown, pictures frozen. Digests are believed for quality
only, never for money. Sans-IO: ``SideQuality.second`` is called once a second with what was counted.

People see the score, so it must not flicker: it falls nearly at once and rises a sixth of the way each second.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from relay.messages import Cause, Direction, PageTrack, QualitySecond, Source, TrackSecond
from relay.mos import MOS_MAX, MOS_MIN, audio_mos, call_mos, score_of, video_mos

_FALL: Final = 0.8
_RISE: Final = 0.16
PAGE_FRESH_NS: Final = 6_000_000_000
"""A page tells every 2 s; what it said longer ago is forgotten."""
_PACKETISING_MS: Final = 25.0
"""20 ms of sound in a packet, and coding it."""
_JITTER_BUFFER: Final = 2.0
"""A receiver buffers about twice the jitter it sees, which adds to the delay, unless it tells what it buffers."""
_BLAMED_BELOW: Final = 4
"""A score from here on needs no explanation."""
_NOTABLE_LOSS: Final = 0.01
_NOTABLE_CONCEALED: Final = 0.02
_NOTABLE_DELAY_MS: Final = 250.0
_FEW_FRAMES: Final = 12.0
_SECOND_NS: Final = 1_000_000_000


class Counted(NamedTuple):
    """What the relay counted of one track in the last second."""

    source: Source
    direction: Direction
    """``up``: from the participant; ``down``: towards it."""
    loss: float = 0.0
    """Share that did not arrive at first, 0–1. ``down``: of what the relay had to send."""
    upstream_loss: float = 0.0
    """``down``: what had been lost lately before it came to the relay. It is the sender's, and held against them."""
    jitter_ms: float = 0.0
    bitrate_bps: int = 0
    frames_per_second: float | None = None
    paused: bool = False
    """Not sent, because the path does not take it beside the sound."""
    idle: bool = False
    """Switched off by whoever sends it, or nothing to send yet: no score."""

    @property
    def is_video(self) -> bool:
        return self.source != "microphone"


class QualityScore:
    """The score of one side; ``update`` once a second."""

    def __init__(self) -> None:
        self.mos = MOS_MAX
        """Smoothed, 1–4.5."""

    def update(self, mos: float | None) -> int:
        """Take in a second's score (None: the side is gone) and return the step, 1 to 5."""
        now = MOS_MIN if mos is None else mos
        self.mos += (_FALL if now < self.mos else _RISE) * (now - self.mos)
        return score_of(self.mos)


class SideQuality:
    """See the module's docstring."""

    def __init__(self, user_id: int) -> None:
        self._user_id = user_id
        self._score = QualityScore()
        self._page: dict[tuple[Source, Direction], PageTrack] = {}
        self._page_rtt_ms: float | None = None
        self._page_ns: int | None = None
        self._owed_ms: dict[Source, float] = {}
        """Frozen time told of by the page and not yet put into seconds."""

    def page_told(self, rtt_ms: float | None, tracks: Iterable[PageTrack], now_ns: int) -> None:
        """A page's digest: what happened since its last one."""
        self._page = {(track.source, track.direction): track for track in tracks}
        self._page_rtt_ms, self._page_ns = rtt_ms, now_ns
        for (source, direction), track in self._page.items():
            if direction == "down":
                self._owed_ms[source] = min(5_000.0, self._owed_ms.get(source, 0.0) + track.frozen_ms)

    def second(self, tracks: Iterable[Counted], rtt_ms: float | None, connected: bool, now_ns: int) -> QualitySecond:
        """The second that ends now."""
        fresh = self._page_ns is not None and now_ns - self._page_ns <= PAGE_FRESH_NS
        if not fresh:
            self._page, self._page_rtt_ms = {}, None
        rtt_ms = self._page_rtt_ms if rtt_ms is None else rtt_ms
        if not connected:
            score = self._score.update(None)
            return QualitySecond(user_id=self._user_id, connected=False, score=score, mos=MOS_MIN, cause="gone")
        counted = list(tracks)
        seconds = tuple(self._track(track, rtt_ms) for track in counted)
        mos = min((m for m in (_both(seconds, "up"), _both(seconds, "down")) if m is not None), default=None)
        score = self._score.update(MOS_MAX if mos is None else mos)
        blamed = score if mos is None else max(score, score_of(mos))  # what is over needs no explanation any more
        cause = _cause(seconds, counted, rtt_ms, self._concealed(), blamed)
        return QualitySecond(
            user_id=self._user_id,
            connected=True,
            score=score,
            mos=round(MOS_MAX if mos is None else mos, 2),
            cause=cause,
            rtt_ms=None if rtt_ms is None else round(rtt_ms, 1),
            tracks=seconds,
        )

    def _concealed(self) -> float:
        page = self._page.get(("microphone", "down"))
        return (page.concealed or 0.0) if page is not None else 0.0

    def _track(self, counted: Counted, rtt_ms: float | None) -> TrackSecond:
        page = self._page.get((counted.source, counted.direction))
        frames, frozen_ms = counted.frames_per_second, 0.0
        if page is not None and page.frames_per_second is not None:
            frames = page.frames_per_second
        if counted.direction == "down" and counted.is_video:
            frozen_ms = min(1000.0, self._owed_ms.get(counted.source, 0.0))
            self._owed_ms[counted.source] = self._owed_ms.get(counted.source, 0.0) - frozen_ms
        mos = None if counted.idle and not counted.paused else self._mos(counted, page, rtt_ms, frames, frozen_ms)
        return TrackSecond(
            source=counted.source,
            direction=counted.direction,
            loss=round(counted.loss, 4),
            jitter_ms=round(counted.jitter_ms, 1),
            bitrate_bps=counted.bitrate_bps,
            frames_per_second=None if frames is None or not counted.is_video else round(frames, 1),
            frozen_ms=int(frozen_ms),
            paused=counted.paused,
            mos=None if mos is None else round(mos, 2),
        )

    def _mos(
        self, counted: Counted, page: PageTrack | None, rtt_ms: float | None, frames: float | None, frozen_ms: float
    ) -> float:
        # A page that decodes knows what was left of the loss after repair; the relay knows only what came at first.
        told = page.concealed if page is not None and counted.direction == "down" else None
        left = None if told is None else max(0.0, told - counted.upstream_loss)
        if counted.is_video:
            repaired = counted.direction == "up" or page is not None  # freezes and frames tell of what was not
            loss = 0.0 if repaired else counted.loss / 4
            ours = frozen_ms if counted.upstream_loss < _NOTABLE_LOSS else 0.0
            return video_mos(frames, ours, loss, paused=counted.paused)
        buffered = page.playout_ms if page is not None and page.playout_ms is not None else None
        delay_ms = (rtt_ms or 0.0) / 2 + _PACKETISING_MS
        delay_ms += buffered if buffered is not None else _JITTER_BUFFER * counted.jitter_ms
        return audio_mos(delay_ms, counted.loss if left is None else left)


def _both(tracks: Iterable[TrackSecond], direction: Direction) -> float | None:
    """The score of one direction: its sound, and the best of its pictures (a paused one counts with 1)."""
    mine = [track for track in tracks if track.direction == direction and track.mos is not None]
    audio = max((track.mos for track in mine if track.source == "microphone" and track.mos is not None), default=None)
    video = min((track.mos for track in mine if track.source != "microphone" and track.mos is not None), default=None)
    return call_mos(audio, video)


def _cause(
    tracks: tuple[TrackSecond, ...], counted: list[Counted], rtt_ms: float | None, concealed: float, score: int
) -> Cause:
    """What to tell the people: the first that applies, worst first. Only of a score that needs one, or of a pause."""
    if any(track.paused for track in tracks):
        return "video_paused"
    if score >= _BLAMED_BELOW:
        return "none"
    loss = {d: max((t.loss for t in tracks if t.direction == d), default=0.0) for d in ("up", "down")}
    if max(loss.values()) >= _NOTABLE_LOSS:
        return "loss_up" if loss["up"] >= loss["down"] else "loss_down"
    jitter_ms = max((track.jitter_ms for track in counted if not track.is_video), default=0.0)
    if (rtt_ms or 0.0) / 2 + _JITTER_BUFFER * jitter_ms >= _NOTABLE_DELAY_MS:
        return "jitter" if _JITTER_BUFFER * jitter_ms > (rtt_ms or 0.0) / 2 else "delay"
    if any(track.upstream_loss >= _NOTABLE_LOSS for track in counted):
        return "none"  # the sender's side says so
    if concealed >= _NOTABLE_CONCEALED:  # nothing was lost, but it came too late to be played
        return "jitter"
    if any(track.frozen_ms for track in tracks):
        return "frozen"
    few = [t for t in tracks if t.frames_per_second is not None and t.mos is not None]
    return "few_frames" if any((t.frames_per_second or 0.0) < _FEW_FRAMES for t in few) else "none"
