"""A room's quality: measured once a second, observed for Prometheus, told to control a few seconds at a time.

What is told is for people and for the session's page. Nothing that is billed depends on it.
"""

from __future__ import annotations

import functools
from typing import Final

import msgspec

from config.metrics import counter, histogram
from relay.messages import PAGE_TRACKS_MAX, QualityMeasured, QualitySecond, ReportStats
from relay.participant import Participant
from relay.plane import Plane
from relay.reports import TimeBase
from relay.room_events import RoomEvents

TOLD_EVERY: Final = 5
"""Seconds in one event: a worker that is killed takes as many with it."""
SECOND_NS: Final = 1_000_000_000
_JOIN_MAX_NS: Final = 60_000_000_000
"""A participant who is sent nothing for so long waits for the other side, not for us."""
_SHARES: Final = (0.0, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_SCORES: Final = (1.0, 1.5, 2.0, 2.58, 3.1, 3.6, 4.03, 4.2, 4.34, 4.5)
_WAITS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)

ROUND_TRIP_SECONDS: Final = histogram(
    "turnpike_relay_round_trip_seconds", "Between the relay and a page, once a second each.", buckets=_WAITS
)
JITTER_SECONDS: Final = histogram(
    "turnpike_relay_jitter_seconds",
    "Interarrival jitter (RFC 3550) of a track, once a second each.",
    ["source", "direction"],
    buckets=_WAITS,
)
LOSS_RATIO: Final = histogram(
    "turnpike_relay_loss_ratio",
    "Share of a track's packets that did not arrive at first, once a second each.",
    ["source", "direction"],
    buckets=_SHARES,
)
MOS: Final = histogram(
    "turnpike_relay_mos", "Mean opinion score of a participant's second, 1 to 4.5 (ITU-T G.107).", buckets=_SCORES
)
JOIN_SECONDS: Final = histogram(
    "turnpike_relay_join_seconds", "From a page's offer to the first media packet sent to it."
)
# To look up which one to observe takes longer than to observe it; there are few sources, and two directions.
_loss_of: Final = functools.cache(LOSS_RATIO.labels)
_jitter_of: Final = functools.cache(JITTER_SECONDS.labels)
FROZEN_SECONDS: Final = counter(
    "turnpike_relay_frozen_seconds_total", "Time that pictures stood still, as pages tell.", ["source"]
)


class RoomQuality:
    """See the module's docstring."""

    def __init__(
        self,
        plane: Plane,
        participants: dict[int, Participant],
        events: RoomEvents,
        time_base: TimeBase,
        *,
        probe: bool,
    ) -> None:
        self._plane = plane
        self._participants = participants
        self._events = events
        self._time = time_base
        self._probe = probe
        self._began: tuple[int, int] | None = None
        """(ns, s since the Unix epoch) of the first second: those that follow are counted on, none comes twice."""
        self._untold: list[QualitySecond] = []
        self._joined: set[int] = set()
        """Transports whose first packet has been noticed, or is not expected any more."""

    def report(self, command: ReportStats, now_ns: int) -> bool:
        """A page's digest; False: nobody here has that user id."""
        participant = self._participants.get(command.user_id)
        if participant is not None:
            participant.quality.page_told(command.rtt_ms, command.tracks[:PAGE_TRACKS_MAX], now_ns)
        return participant is not None

    def measure(self, now_ns: int) -> None:
        """Once a second. Connection tests are measured by their pages."""
        if self._probe:
            return
        everybody = list(self._participants.values())
        began_ns, began_s = self._began = self._began or (now_ns, self._time.wall_ms(now_ns) // 1000)
        at_s = began_s + (now_ns - began_ns + SECOND_NS // 2) // SECOND_NS
        for participant in everybody:
            participant.measure(self._plane, [other for other in everybody if other is not participant], now_ns)
            if participant.second is not None:
                self._untold.append(msgspec.structs.replace(participant.second, at_s=at_s))
                _observe(participant.second)
        if len(self._untold) >= TOLD_EVERY * len(everybody):
            self.tell(now_ns)

    def tell(self, now_ns: int) -> None:
        """Tell what has not been told yet."""
        untold, self._untold = self._untold, []
        if untold:
            self._events.tell(QualityMeasured, now_ns, seconds=tuple(untold))

    def note_joins(self, now_ns: int) -> None:
        """At every tick: whose first packet has been sent."""
        for participant in self._participants.values():
            transport = participant.transport
            if transport is None or not participant.ready or transport.handle in self._joined:
                continue
            routes = [track.route for track in participant.subscribed.values() if track.route is not None]
            waited_ns = now_ns - transport.started_ns
            if self._probe:
                self._joined.add(transport.handle)
            elif any(self._plane.route_counters(route).packets for route in routes):
                JOIN_SECONDS.observe(waited_ns / 1e9)
                self._joined.add(transport.handle)
            elif waited_ns > _JOIN_MAX_NS:
                self._joined.add(transport.handle)

    def forget(self, transport_handle: int) -> None:
        """A transport is gone."""
        self._joined.discard(transport_handle)


def _observe(second: QualitySecond) -> None:
    if not second.connected:
        return
    MOS.observe(second.mos)
    if second.rtt_ms is not None:
        ROUND_TRIP_SECONDS.observe(second.rtt_ms / 1000)
    for track in second.tracks:
        if track.bitrate_bps:
            _loss_of(track.source, track.direction).observe(track.loss)
            _jitter_of(track.source, track.direction).observe(track.jitter_ms / 1000)
        if track.frozen_ms:
            FROZEN_SECONDS.labels(track.source).inc(track.frozen_ms / 1000)
