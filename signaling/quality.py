"""Quality on control's side: what workers measured is kept with the session, and can be read again.

Whoever leads a session's shard keeps its seconds in memory and saves them every ``SAVE_EVERY_S``: a control process
that is killed takes that much with it, and nobody's call or bill depends on it.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from config.clock import Clock
from config.http import Call, Endpoint, endpoint
from config.ids import SessionId, TenantId, UserId
from config.logs import get_log
from config.metrics import counter
from relay.messages import QualityMeasured, QualitySecond
from signaling.away import AWAY
from signaling.director import Director
from signaling.quality_series import SECONDS, Summary, bitrate_of, summarise, worst_of
from signaling.quality_store import MinuteKey, QualityStore
from signaling.quality_views import ParticipantQuality, QualitySummary, SessionQuality, TrackSeries
from signaling.store import Person, Session

SAVE_EVERY_S: Final = 10.0
MINUTES_OPEN_MAX: Final = 20_000
"""Minutes kept in memory; the oldest go first, and are counted."""
OVER_AFTER_NS: Final = 15_000_000_000
"""A session that nothing was heard of for so long gets its summary; should it come back, it gets another."""
POINTS_MAX: Final = 600
"""Points of a series in an answer; a longer one is thinned out."""
PATH: Final = "/api/v1/sessions/{id}/quality"

T = TypeVar("T")

log = get_log("signaling.quality")
_lost = counter("turnpike_quality_lost_total", "Minutes of quality dropped because too many waited")


Judged = Callable[[TenantId, SessionId, float, float, float], Awaitable[None]]
"""Told of a session that is over: worst and median MOS and the share of good seconds of the side that had it worse."""


def _judgement(side: Summary) -> tuple[float, float, float]:
    return side.worst_mos, side.median_mos, side.good_ratio


class QualityKeeper:
    """Takes what workers measured, saves it now and then. ``run`` until cancelled, then ``save`` once more."""

    def __init__(self, store: QualityStore, clock: Clock, judged: Judged | None = None) -> None:
        self._store = store
        self._judged = judged
        self._clock = clock
        self._unsaved: OrderedDict[MinuteKey, dict[int, QualitySecond]] = OrderedDict()
        self._heard_ns: dict[tuple[TenantId, SessionId], int] = {}

    def take(self, session: Session, event: QualityMeasured) -> None:
        """A few seconds of a session. Those of strangers are dropped."""
        people = {person.user_id for person in session.people}
        self._heard_ns[session.tenant_id, session.id] = self._clock.monotonic_ns()
        for second in event.seconds:
            if second.user_id not in people:
                continue
            minute, of_minute = divmod(second.at_s, SECONDS)
            key = MinuteKey(session.tenant_id, session.id, UserId(second.user_id), minute)
            self._unsaved.setdefault(key, {})[of_minute] = second
        while len(self._unsaved) > MINUTES_OPEN_MAX:
            self._unsaved.popitem(last=False)
            _lost.inc()

    async def run(self) -> None:
        """Save again and again."""
        while True:
            await asyncio.sleep(SAVE_EVERY_S)
            try:
                await self.save()
            except AWAY as error:
                log.warning("quality not saved, will be", why=str(error))
            except Exception:  # noqa: BLE001 - a loop's boundary: logged, and tried again
                log.fault("quality not saved")

    async def save(self) -> None:
        """Save what is new, and summarise what is over. What could not be saved stays for the next time."""
        saving = dict(self._unsaved)
        self._unsaved.clear()
        try:
            await self._store.save(saving)
        except BaseException:
            for key, minute in saving.items():
                self._unsaved[key] = {**minute, **self._unsaved.get(key, {})}
            raise
        now_ns = self._clock.monotonic_ns()
        over = [session for session, heard_ns in self._heard_ns.items() if now_ns - heard_ns >= OVER_AFTER_NS]
        for tenant_id, session_id in over:
            sides = await self._store.write_summary(tenant_id, session_id)
            if sides and self._judged is not None:
                worst, median, good = (min(each[n] for each in map(_judgement, sides)) for n in range(3))
                await self._judged(tenant_id, session_id, worst, median, good)
            self._heard_ns.pop((tenant_id, session_id), None)


@dataclass(frozen=True, slots=True)
class QualityApi:
    """The endpoint to read a session's quality: participants theirs, staff all."""

    director: Director
    store: QualityStore

    def endpoints(self) -> list[Endpoint]:
        """Every route of this module."""
        return [endpoint("GET", PATH, "How good a session was, second by second", self.read, result=SessionQuality)]

    async def read(self, call: Call) -> SessionQuality:
        session = await self.director.find_to_read(call.principal, call.id("id"))
        with_tracks = call.query_int("tracks", 0, 0, 1) == 1
        found = await self.store.seconds(session.tenant_id, session.id)
        return session_quality(session, found, with_tracks=with_tracks)


def session_quality(
    session: Session, found: dict[UserId, dict[int, QualitySecond]], *, with_tracks: bool
) -> SessionQuality:
    """The answer: everybody's series on one time axis."""
    every = [second for seconds in found.values() for second in seconds]
    if not every:
        return SessionQuality(session_id=session.public_id, from_ms=None, step_ms=1000, participants=[])
    first, last = min(every), max(every)
    step = max(1, math.ceil((last - first + 1) / POINTS_MAX))
    people = [
        _participant(person, found[person.user_id], range(first, last + 1, step), with_tracks=with_tracks)
        for person in session.people
        if person.user_id in found
    ]
    return SessionQuality(session_id=session.public_id, from_ms=first * 1000, step_ms=step * 1000, participants=people)


def _participant(
    person: Person, seconds: dict[int, QualitySecond], axis: range, *, with_tracks: bool
) -> ParticipantQuality:
    summary = summarise([seconds[at] for at in sorted(seconds)])
    points = [[seconds[at] for at in range(start, start + axis.step) if at in seconds] for start in axis]
    keys = sorted({(track.source, track.direction) for second in seconds.values() for track in second.tracks})
    return ParticipantQuality(
        user_id=person.public_id,
        name=person.name,
        summary=QualitySummary(
            seconds=summary.seconds,
            worst_mos=summary.worst_mos,
            median_mos=summary.median_mos,
            good_ratio=summary.good_ratio,
            frozen_ms=summary.frozen_ms,
        )
        if summary is not None
        else None,
        connected=_each(points, lambda point: all(second.connected for second in point)),
        score=_each(points, lambda point: min(second.score for second in point)),
        mos=_each(points, lambda point: round(_mean([second.mos for second in point]) or 0.0, 2)),
        cause=_each(points, lambda point: min(point, key=lambda second: second.mos).cause),
        rtt_ms=_each(points, lambda point: _mean([s.rtt_ms for s in point if s.rtt_ms is not None])),
        loss_up=_each(points, lambda point: max(worst_of(second.tracks, "up") for second in point)),
        loss_down=_each(points, lambda point: max(worst_of(second.tracks, "down") for second in point)),
        bitrate_up_bps=_each(points, lambda point: int(_mean([bitrate_of(s.tracks, "up") for s in point]) or 0)),
        bitrate_down_bps=_each(points, lambda point: int(_mean([bitrate_of(s.tracks, "down") for s in point]) or 0)),
        frozen_ms=_each(points, lambda point: sum(track.frozen_ms for second in point for track in second.tracks)),
        tracks=[_track(points, *key) for key in keys] if with_tracks else None,
    )


def _track(points: Sequence[Sequence[QualitySecond]], source: str, direction: str) -> TrackSeries:
    of_track = [
        [track for second in point for track in second.tracks if (track.source, track.direction) == (source, direction)]
        for point in points
    ]
    return TrackSeries.model_validate(
        {
            "source": source,
            "direction": direction,
            "loss": _each(of_track, lambda point: max(track.loss for track in point)),
            "jitter_ms": _each(of_track, lambda point: max(track.jitter_ms for track in point)),
            "bitrate_bps": _each(of_track, lambda point: int(_mean([track.bitrate_bps for track in point]) or 0)),
            "frames_per_second": _each(
                of_track,
                lambda point: _mean([t.frames_per_second for t in point if t.frames_per_second is not None]),
            ),
            "frozen_ms": _each(of_track, lambda point: sum(track.frozen_ms for track in point)),
            "mos": _each(of_track, lambda point: _mean([track.mos for track in point if track.mos is not None])),
        }
    )


def _each(points: Sequence[Sequence[T]], value: Callable[[Sequence[T]], Any]) -> list[Any]:
    """A value for each point; None where nothing was measured."""
    return [value(point) if point else None for point in points]


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 2) if values else None
