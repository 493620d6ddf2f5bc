"""What clients see of quality: the answers of ``quality`` in the units of ``messages``."""

from __future__ import annotations

from config.http import View
from relay.messages import Cause, Direction, Source


class QualitySummary(View):
    """One side of a session in a few figures."""

    seconds: int
    worst_mos: float
    """The mean of the worst five seconds on end, 1–4.5 (ITU-T G.107)."""
    median_mos: float
    good_ratio: float
    """Share of the seconds with a score of 4 or 5."""
    frozen_ms: int


class TrackSeries(View):
    """One track in one direction: ``up`` from the participant, ``down`` to it."""

    source: Source
    direction: Direction
    loss: list[float | None]
    jitter_ms: list[float | None]
    bitrate_bps: list[int | None]
    frames_per_second: list[float | None]
    frozen_ms: list[int | None]
    mos: list[float | None]


class ParticipantQuality(View):
    """One side's series; all lists are as long as the time axis, null where nothing was measured."""

    user_id: str
    name: str
    summary: QualitySummary | None
    connected: list[bool | None]
    score: list[int | None]
    """1–5, the worst of the step."""
    mos: list[float | None]
    cause: list[Cause | None]
    rtt_ms: list[float | None]
    loss_up: list[float | None]
    loss_down: list[float | None]
    bitrate_up_bps: list[int | None]
    bitrate_down_bps: list[int | None]
    frozen_ms: list[int | None]
    tracks: list[TrackSeries] | None = None
    """With ``?tracks=1``."""


class SessionQuality(View):
    """GET /api/v1/sessions/{id}/quality: point n of every list is the step that begins at ``from_ms + n·step_ms``."""

    session_id: str
    from_ms: int | None
    step_ms: int
    participants: list[ParticipantQuality]
