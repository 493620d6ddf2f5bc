"""What the compliance routes take and answer."""

from __future__ import annotations

import pydantic

from config.http import Body, View
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
