"""What the compliance routes take and answer."""

from __future__ import annotations

import pydantic

from config.http import Body, View
from recorder.exports import Export
from recorder.holds import LegalHold


class SigningKeyView(View):
    """GET /api/v1/recordings/signing-key: what signatures are checked with."""

    algorithm: str
    key_id: str
    public_key: str
    """32 bytes in hexadecimal."""


class Reasoned(Body):
    """A request that is written down with its reason."""

    reason: str = pydantic.Field(default="", max_length=2000)


class ExportView(View):
    """An export, as a job."""

    id: str
    recording_id: str
    state: str
    """``queued``, ``running``, ``ready``, ``failed`` or ``cancelled``."""
    progress: float
    """0–1."""
    failure: str | None
    created_at_ms: int


class ExportGrant(View):
    """Leave to download a bundle; the URL carries it."""

    url: str
    bytes: int
    expires_at_ms: int


class HoldView(View):
    """A legal hold."""

    id: str
    recording_id: str
    reason: str
    placed_by: str
    placed_at_ms: int
    released_by: str | None
    released_at_ms: int | None
    release_reason: str | None


class HoldsView(View):
    """GET /api/v1/recordings/{id}/holds: newest first."""

    holds: list[HoldView]


class PoliciesView(View):
    """GET /api/v1/recordings/policies: days that recordings are kept, by kind."""

    keep_days: dict[str, int]


class SetPolicy(Body):
    """PUT /api/v1/recordings/policies"""

    kind: str
    keep_days: int
    reason: str = pydantic.Field(default="", max_length=2000)


def export_view(export: Export) -> ExportView:
    done = 1.0 if export.state == "ready" else export.done_bytes / max(1, export.total_bytes)
    return ExportView(
        id=export.public_id,
        recording_id=export.recording_public_id,
        state=export.state,
        progress=round(min(1.0, done), 3),
        failure=export.failure,
        created_at_ms=export.created_at_ms,
    )


def hold_view(hold: LegalHold) -> HoldView:
    return HoldView(
        id=hold.id,
        recording_id=hold.recording_id,
        reason=hold.reason,
        placed_by=hold.placed_by,
        placed_at_ms=hold.placed_at_ms,
        released_by=hold.released_by,
        released_at_ms=hold.released_at_ms,
        release_reason=hold.release_reason,
    )
