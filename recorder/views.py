"""What ``/api/v1/recordings`` takes and answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pydantic

from config.http import Body, View
from recorder import audit
from recorder.bundle import missing_of
from recorder.catalogue import Details
from recorder.permissions import Duty
from recorder.products import Product
from recorder.retention import LAYOUTS
from recorder.store import StreamRow


class ParticipantView(View):
    """Who took part."""

    id: str
    name: str
    role: str


class StreamView(View):
    """One playable file."""

    n: int
    participant_id: str
    kind: str
    """``video`` (with sound, where there is any) or ``audio``."""
    source: str
    offset_ms: int
    """Where it begins, from the recording's start."""
    duration_ms: int
    width: int
    height: int
    video_codec: str | None
    bytes: int
    sha256: str


class GapView(View):
    """A time in which nothing of a participant was recorded in between two streams of theirs."""

    participant_id: str
    from_ms: int
    to_ms: int


class MissingView(View):
    """A part of the call that could not be stored; about when, from the recording's start."""

    epoch: int
    failure: str | None
    from_ms: int | None
    """Null: nothing before it is there."""
    to_ms: int | None
    """Null: nothing after it is there."""


class QualityView(View):
    """How good the call was for the side that had it worse."""

    worst_mos: float
    median_mos: float
    good_ratio: float


class CompositionView(View):
    """One file of the whole call."""

    id: str
    """Its job's."""
    layout: str
    content_type: str
    bytes: int
    duration_ms: int
    width: int
    height: int


class RecordingView(View):
    """A recording, without any of its media."""

    id: str
    session_id: str
    state: str
    failure: str | None
    kind: str
    participants: list[ParticipantView]
    started_at_ms: int
    duration_ms: int | None
    bytes: int
    streams: list[StreamView]
    gaps: list[GapView]
    missing: list[MissingView]
    """Of one that failed. What else there is of it can be played and exported once it is signed; the chat, too."""
    hashes_ok: bool | None
    """True once every object was read back and agreed with its hash; None until then."""
    signed: bool
    """Whether the root over all parts is signed."""
    retain_until_ms: int
    """Not deleted before; later while it is held."""
    held: bool
    """Whether a legal hold stands."""
    tags: list[str]
    quality: QualityView | None
    compositions: list[CompositionView]
    """What was made of it; of one recording only, not in searches."""
    preview: bool
    """Whether there are thumbnail and waveform; likewise."""
    may: list[str]
    """Duties of who asks."""


class RecordingsView(View):
    """GET /api/v1/recordings: newest first."""

    recordings: list[RecordingView]
    next_cursor: str | None


class AskAccess(Body):
    """POST /api/v1/recordings/{id}/access"""

    reason: str = pydantic.Field(default="", max_length=2000)


class PlayableView(View):
    """Where a stream is played from."""

    n: int
    participant_id: str
    url: str
    content_type: str
    offset_ms: int
    duration_ms: int


class PlayableComposition(CompositionView):
    """Where a composition is played from."""

    url: str


class AccessGrant(View):
    """Leave to play; the URLs carry it."""

    expires_at_ms: int
    may_download: bool
    """Whether compositions may be saved, not only played."""
    streams: list[PlayableView]
    compositions: list[PlayableComposition]
    manifest_url: str
    story_url: str
    media_url: str
    """Answers this again, with what was made since."""
    thumbnail_url: str | None
    waveform_url: str | None


class SetTags(Body):
    """PUT /api/v1/recordings/{id}/tags"""

    tags: list[str] = pydantic.Field(max_length=100)


class TagView(View):
    """A tag, and how many recordings have it."""

    tag: str
    count: int


class TagsView(View):
    """GET /api/v1/recordings/tags: the most used first."""

    tags: list[TagView]


class WhoView(View):
    """Somebody in the audit log."""

    id: str
    name: str


class AccessView(View):
    """One entry of the audit log."""

    n: int
    at_ms: int
    user: WhoView
    action: str
    reason: str | None
    details: dict[str, Any]


class AccessesView(View):
    """GET /api/v1/recordings/{id}/accesses: newest first."""

    accesses: list[AccessView]
    next_cursor: str | None


def participant_of(recording: Details, stream: StreamRow) -> str:
    return next((each.public_id for each in recording.participants if each.user_id == stream.user_id), "")


def access_view(entry: audit.Entry) -> AccessView:
    return AccessView(
        n=entry.n,
        at_ms=entry.at_ms,
        user=WhoView(id=entry.actor, name=entry.name),
        action=entry.action,
        reason=entry.reason,
        details=entry.details,
    )


def composition_view(product: Product) -> CompositionView:
    return CompositionView(
        id=product.job,
        layout=product.kind,
        content_type=product.content_type,
        bytes=product.size,
        duration_ms=product.duration_ms,
        width=product.width,
        height=product.height,
    )


def _quality_view(recording: Details) -> QualityView | None:
    if recording.worst_mos is None or recording.median_mos is None or recording.good_ratio is None:
        return None
    figures = (recording.worst_mos, recording.median_mos, recording.good_ratio)
    worst, median, good = (round(figure, 3) for figure in figures)
    return QualityView(worst_mos=worst, median_mos=median, good_ratio=good)


def recording_view(recording: Details, may: Iterable[Duty] = (), made: Sequence[Product] = ()) -> RecordingView:
    return RecordingView(
        id=recording.public_id,
        session_id=recording.session_public_id,
        state=recording.state,
        failure=recording.failure,
        kind=recording.kind,
        participants=[ParticipantView(id=p.public_id, name=p.name, role=p.role) for p in recording.participants],
        started_at_ms=recording.started_at_ms,
        duration_ms=recording.duration_ms,
        bytes=recording.bytes,
        streams=[_stream_view(recording, stream) for stream in recording.streams],
        gaps=_gaps(recording),
        missing=[MissingView.model_validate(each) for each in missing_of(recording)],
        hashes_ok=True if recording.state == "ready" else None,
        signed=recording.root_key is not None,
        retain_until_ms=recording.retain_until_ms,
        held=recording.held,
        tags=recording.tags,
        quality=_quality_view(recording),
        compositions=[composition_view(each) for each in made if each.kind in LAYOUTS],
        preview=any(each.kind == "waveform" for each in made),
        may=sorted(duty.value for duty in may),
    )


def _stream_view(recording: Details, stream: StreamRow) -> StreamView:
    return StreamView(
        n=stream.n,
        participant_id=participant_of(recording, stream),
        kind=stream.media_kind,
        source=stream.source,
        offset_ms=stream.start_ms - recording.started_at_ms,
        duration_ms=stream.end_ms - stream.start_ms,
        width=stream.width,
        height=stream.height,
        video_codec=stream.video_codec,
        bytes=stream.file_bytes or 0,
        sha256=(stream.file_sha256 or b"").hex(),
    )


def _gaps(recording: Details) -> list[GapView]:
    """Holes between the streams of one participant's camera and microphone."""
    gaps = []
    for person in recording.participants:
        streams = [each for each in recording.streams if each.user_id == person.user_id and each.source != "screen"]
        until_ms = None
        for stream in sorted(streams, key=lambda each: each.start_ms):
            if until_ms is not None and stream.start_ms - until_ms >= 100:
                start_ms = recording.started_at_ms
                gaps.append(
                    GapView(
                        participant_id=person.public_id, from_ms=until_ms - start_ms, to_ms=stream.start_ms - start_ms
                    )
                )
            until_ms = max(until_ms or 0, stream.end_ms)
    return gaps
