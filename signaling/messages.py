"""What clients say to the server and hear in answer: REST bodies and views, Socket.IO messages and acknowledgements.

This module and ``server_events`` are the source of docs/protocol.md and of the OpenAPI document. Money is an integer in
minor units with its currency beside it; durations are milliseconds; times are Unix milliseconds; ids are opaque
public ids.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from billing.money import RATE_MAX, STEP_MAX_MS
from config.http import Body, View
from relay.messages import SessionKind

CHAT_MAX_CHARS = 4_000
NAME_MAX_CHARS = 200

PublicIdText = Annotated[str, Field(pattern=r"^[a-z]{3}_[0-9a-z]{20}$")]
RequestKey = Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
"""A client-made idempotency key: the same key with the same content has one effect, however often it is sent."""

SessionState = Literal[
    "requested",
    "ringing",
    "accepted",
    "connecting",
    "active",
    "interrupted",
    "ended",
    "declined",
    "missed",
    "cancelled",
    "expired",
    "failed",
]
EndReason = Literal[
    "client_left",
    "provider_left",
    "balance_exhausted",
    "dropped",
    "never_connected",
    "provider_declined",
    "no_answer",
    "client_cancelled",
    "server_error",
]
Presence = Literal["online", "busy", "away", "offline"]
RecordingState = Literal["off", "waiting_for_consent", "recording", "paused", "stopped", "failed"]


# --- REST: sign-in and people -------------------------------------------------------------------------------------


class Login(Body):
    """POST /api/v1/auth/login"""

    email: Annotated[str, Field(min_length=3, max_length=254)]
    password: Annotated[str, Field(min_length=1, max_length=1024)]


class UserView(View):
    """A user, as others may see them."""

    id: str
    name: str
    role: Literal["client", "provider", "compliance", "finance", "admin"]
    headline: str | None = None
    avatar_hue: int = 0
    """0–359: the colour of the avatar with initials."""


class MeView(View):
    """GET /api/v1/me: the caller."""

    user: UserView
    email: str
    currency: str
    available: bool | None = None
    """Providers: whether they take calls."""


class SignedIn(View):
    """An access token (JWT) and whose it is. Send it as ``Authorization: Bearer …`` and in the Socket.IO auth."""

    access_token: str
    expires_at_ms: int
    me: MeView


class DemoAccount(View):
    """GET /api/v1/demo/accounts (404 unless the installation is a demo)"""

    email: str
    password: str
    name: str
    role: str
    note: str


class DemoAccounts(View):
    """All demo accounts."""

    accounts: list[DemoAccount]


class RateView(View):
    """What a minute of one kind costs. The rate shown at request applies to the end."""

    kind: SessionKind
    minor_per_minute: int
    currency: str


class ProviderView(View):
    """A provider in the list."""

    user: UserView
    presence: Presence
    rates: list[RateView]


class Providers(View):
    """GET /api/v1/providers"""

    providers: list[ProviderView]


class SetAvailability(Body):
    """PUT /api/v1/me/availability (providers)"""

    available: bool


# --- REST: sessions -----------------------------------------------------------------------------------------------


class ConsentText(View):
    """GET /api/v1/consent: what a participant agrees to when a session is recorded."""

    version: str
    text: str


class Consent(Body):
    """A participant's answer to the consent text of that version."""

    version: Annotated[str, Field(min_length=1, max_length=40)]
    accepted: bool


class RequestSession(Body):
    """POST /api/v1/sessions, and ``session.request``"""

    provider_id: PublicIdText
    kind: SessionKind
    consent: Consent
    request_key: RequestKey
    tariff: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")] = "standard"
    """The code of one of the provider's tariffs (GET /api/v1/providers/{id}/tariffs)."""


class AcceptSession(Body):
    """POST /api/v1/sessions/{id}/accept, and ``session.accept``"""

    consent: Consent


class ChangeKind(Body):
    """POST /api/v1/sessions/{id}/kind, and ``session.change_kind``: asks for another kind at the terms that the page
    has shown, or agrees to what the other side has asked."""

    kind: SessionKind
    minor_per_minute: Annotated[int, Field(ge=0, le=RATE_MAX)]
    step_ms: Annotated[int, Field(ge=1, le=STEP_MAX_MS)] = 1
    """By which started steps it is charged."""
    agrees: bool = False
    """It answers what the other side has asked, and does nothing where that does not stand any more."""


class KindAsked(View):
    """Another kind that one side wants and that may cost more: the other one agrees or not."""

    kind: SessionKind
    rate: RateView
    step_ms: int = 1
    """By which started steps it would be charged."""
    by: str
    """The user who has asked."""
    until_ms: int
    """After that it counts as declined."""


class KindTerms(View):
    """What a minute of one kind costs in this session, and what the provider earns of it (only for them)."""

    kind: SessionKind
    minor_per_minute: int
    step_ms: int = 1
    """It is charged by started steps of this length, in advance; 1: by the time."""
    earns_minor_per_minute: int | None = None
    currency: str
    at_once: bool = True
    """Whether who asks for it has it at once; else the other side is asked first."""


class SessionTermsView(View):
    """GET /api/v1/sessions/{id}/terms: what the session is charged at, and the kinds that it could change to."""

    now: KindTerms
    kinds: list[KindTerms]


class SessionView(View):
    """One session, as its participants see it. Sent whole at every change (``session.updated``)."""

    id: str
    kind: SessionKind
    state: SessionState
    end_reason: EndReason | None = None
    client: UserView
    provider: UserView
    rate: RateView
    recording: RecordingState
    recording_id: str | None = None
    recording_paused_until_ms: int | None = None
    """While it is paused: when it goes on by itself."""
    room_epoch: int = 0
    """0 until a room is open; a rise means that a new RTCPeerConnection is needed."""
    requested_at_ms: int
    ring_until_ms: int | None = None
    accepted_at_ms: int | None = None
    started_at_ms: int | None = None
    """When media first flowed both ways."""
    ended_at_ms: int | None = None
    settled: bool = False
    """The final charge is posted: the receipt is there."""
    asked: KindAsked | None = None
    """What one side has asked to change to."""
    billed_ms: int | None = None
    """In lists: billable time so far."""
    amount_minor: int | None = None
    """In lists: what the session came to so far; for its provider, what they earned."""
    revision: int
    """Rises with every change, so that a late event is told from a new one."""


class Sessions(View):
    """GET /api/v1/sessions?cursor=&limit= : the caller's sessions, newest first."""

    sessions: list[SessionView]
    next_cursor: str | None = None


class ReceiptLine(View):
    """One line of a receipt."""

    label: str
    amount_minor: int


class ReceiptExtra(View):
    """Something else that was paid in the session (a gift, a tip, …), or given back of it (negative)."""

    id: str
    kind: str
    label: str
    amount_minor: int
    at_ms: int


class ReceiptView(View):
    """GET /api/v1/sessions/{id}/receipt, once the session has ended and is settled (409 ``not_settled`` before)."""

    session_id: str
    kind: SessionKind
    client: UserView
    provider: UserView
    rate: RateView
    billed_ms: int
    charged_minor: int
    currency: str
    provider_minor: int | None = None
    """What the provider earns of it; only in the provider's and staff's receipt."""
    platform_minor: int | None = None
    lines: list[ReceiptLine]
    """What ``charged_minor`` is made of."""
    extras: list[ReceiptExtra] = Field(default_factory=list)
    total_minor: int | None = None
    """Charge and extras together; only in the client's and staff's receipt."""
    prepaid_ms: int = 0
    """How much of the time was on packages."""
    promo_minor: int = 0
    """How much of the charge promotional credit paid."""
    started_at_ms: int | None
    ended_at_ms: int | None
    balance_after_minor: int | None = None
    """The client's wallet when the session was settled; only in the client's receipt."""
    recording_id: str | None = None


# --- REST: operations ---------------------------------------------------------------------------------------------


class WorkerView(View):
    """A media worker, as it told in the last seconds."""

    worker_id: str
    host: str
    plane: Literal["python", "native"]
    rooms: int
    load: float
    """Share of one core in use, 0–1."""
    draining: bool
    uptime_s: int
    version: str


class Workers(View):
    """GET /api/v1/workers"""

    workers: list[WorkerView]


# --- REST: chat, wallet -------------------------------------------------------------------------------------------


class SendMessage(Body):
    """POST /api/v1/sessions/{id}/messages, and ``chat.send`` with a session id"""

    client_message_id: RequestKey
    text: Annotated[str, Field(min_length=1, max_length=CHAT_MAX_CHARS)]


class ChatMessage(View):
    """A stored chat message; also the event ``chat.message``."""

    id: str
    session_id: str
    sender_id: str
    client_message_id: str
    text: str
    sent_at_ms: int


class ChatMessages(View):
    """GET /api/v1/sessions/{id}/messages?after=MESSAGE_ID&limit= : oldest first."""

    messages: list[ChatMessage]
    more: bool
