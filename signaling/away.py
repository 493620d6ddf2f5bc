"""What is raised while PostgreSQL or Redis is away. Nothing is wrong then but that a wish cannot be carried out now."""

from __future__ import annotations

from typing import Final

from billing.terms import LedgerUnavailable
from config import database
from config.http import ApiError
from relay.bus import BUS_ERRORS

AWAY: Final = (LedgerUnavailable, *database.AWAY, *BUS_ERRORS)


def unavailable() -> ApiError:
    """What the client is told."""
    return ApiError(503, "unavailable", "Turnpike cannot do this right now. Try again in a moment.")
