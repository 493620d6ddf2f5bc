"""What is raised while PostgreSQL or Redis is away. Nothing is wrong then but that a wish cannot be carried out now."""

from __future__ import annotations

from typing import Final

from billing.terms import LedgerUnavailable
from config.http import ApiError
from relay.bus import BUS_ERRORS
from signaling.store import DATABASE_AWAY

AWAY: Final = (LedgerUnavailable, *DATABASE_AWAY, *BUS_ERRORS)


def unavailable() -> ApiError:
    """What the client is told."""
    return ApiError(503, "unavailable", "Turnpike cannot do this right now. Try again in a moment.")
