"""What the server tells pages by itself over Socket.IO. Each payload is ``{"seq": …, "data": …}``.

``seq`` is the event's number among those of the user, or null for what is neither numbered nor kept. Units are those of
``messages``.
"""

from __future__ import annotations

from config.http import View
from relay.messages import Cause, Source
from signaling.messages import ChatMessage, Presence, SessionView


class CostEvent(View):
    """``session.cost``: every tick (5 s) while the clock runs, and at the end. Interpolate by ``running``."""

    session_id: str
    live_ms: int
    at_ms: int
    running: bool
    cost_minor: int
    currency: str
    balance_minor: int | None = None
    """The client's money left after what has accrued so far; only to the client."""
    earnings_minor: int | None = None
    """The provider's share of the cost so far; only to the provider."""
    remaining_ms: int | None = None
    """Billable time that the wallet still pays for at this rate."""
    free_until_ms: int = 0
    """Live time up to which nothing more is charged: free, on packages, or within a flat price."""


class WarningEvent(View):
    """``session.warning``: the paid time ends in about 60, 30 or 10 s."""

    session_id: str
    remaining_ms: int


class MutedEvent(View):
    """``room.muted``: the other side muted or unmuted."""

    session_id: str
    user_id: str
    muted: dict[Source, bool]


class QualitySide(View):
    """One side's connection, as the relay sees it."""

    user_id: str
    connected: bool
    score: int
    """1 (unusable) – 5 (good)."""
    rtt_ms: float | None
    loss_up: float
    loss_down: float
    jitter_ms: float
    bitrate_up_bps: int
    bitrate_down_bps: int
    cause: Cause = "none"
    """What is to blame, where the score is 3 or less."""
    videos_paused: tuple[Source, ...] = ()
    """The other's videos that are not sent to this side for now, so that the sound gets through."""


class QualityEvent(View):
    """``room.quality``: about every 2 s, and at once when ``videos_paused`` changes; not numbered, not kept."""

    session_id: str
    sides: list[QualitySide]


class LayersEvent(View):
    """``room.layers``: the simulcast encodings of one of the page's sources that somebody takes; it pauses the others.
    Not numbered: said again while one of them does not come."""

    session_id: str
    source: Source
    rids: list[str]


class RenegotiateEvent(View):
    """``room.renegotiate``: the page should send ``room.join`` again on the same connection."""

    session_id: str


class PresenceEvent(View):
    """``presence.changed``: a provider's presence."""

    user_id: str
    presence: Presence


class WalletEvent(View):
    """``wallet.changed``: after every posting."""

    balance_minor: int
    available_minor: int
    held_minor: int = 0
    promo_minor: int = 0
    currency: str


class ChargedEvent(View):
    """``session.charged``: a gift, a tip or the like was paid in a session; for the provider, the amount is theirs."""

    session_id: str
    id: str
    kind: str
    amount_minor: int
    currency: str
    memo: str
    at_ms: int


SERVER_EVENTS: dict[str, type[View]] = {
    "session.ringing": SessionView,
    "session.updated": SessionView,
    "session.cost": CostEvent,
    "session.warning": WarningEvent,
    "session.charged": ChargedEvent,
    "room.muted": MutedEvent,
    "room.quality": QualityEvent,
    "room.layers": LayersEvent,
    "room.renegotiate": RenegotiateEvent,
    "chat.message": ChatMessage,
    "presence.changed": PresenceEvent,
    "wallet.changed": WalletEvent,
}
"""Every event that the server sends, numbered per user but for ``room.quality``, ``room.layers`` and
``presence.changed``."""
