"""The words of billing: what its façade takes and gives. Refusals are values, faults are exceptions."""

from __future__ import annotations

import dataclasses
import enum
from typing import Final, NamedTuple

from billing.money import Tariff
from config.ids import PublicId, SessionId, TenantId, UserId
from relay.messages import SessionKind

PROVIDER_BPS: Final = 7_000
"""The provider's share where nothing else is agreed."""


class BillingError(Exception):
    """Base of billing's faults."""


class LedgerUnavailable(BillingError):
    """PostgreSQL cannot be reached. Nothing is lost: what was not posted is posted later, from totals."""


class UnknownMeter(BillingError):
    """A session was to be settled that was never opened here."""


class BillingRefusal(enum.StrEnum):
    """Why something was not done. The value is the code on the wire."""

    INSUFFICIENT_FUNDS = "insufficient_funds"
    NO_RATE = "no_rate"
    NO_WALLET = "no_wallet"
    CURRENCY_MISMATCH = "currency_mismatch"
    KEY_REUSED = "key_reused"
    BAD_AMOUNT = "bad_amount"
    ALREADY_SETTLED = "already_settled"
    NOT_SETTLED = "not_settled"
    NOT_METERED = "not_metered"
    CHANGED_MEANWHILE = "changed_meanwhile"
    NOT_ASKED = "not_asked"
    TOO_SOON = "too_soon"
    TOO_MANY_CHANGES = "too_many_changes"
    NO_SUCH_SESSION = "no_such_session"
    NO_SUCH_CHARGE = "no_such_charge"
    NO_SUCH_PACKAGE = "no_such_package"
    PACKAGE_IN_USE = "package_in_use"
    PACKAGE_OVER = "package_over"
    TOO_MUCH = "too_much"

    @property
    def message(self) -> str:
        """The refusal in words, for the person who is refused."""
        return _MESSAGES[self]


_MESSAGES: Final = {
    BillingRefusal.INSUFFICIENT_FUNDS: "There is not enough money in the wallet. Top it up first.",
    BillingRefusal.NO_RATE: "This provider does not offer that kind of session.",
    BillingRefusal.NO_WALLET: "There is no wallet for this user.",
    BillingRefusal.CURRENCY_MISMATCH: "The wallet is in another currency than the rate.",
    BillingRefusal.KEY_REUSED: "This request key was used before, for something else.",
    BillingRefusal.BAD_AMOUNT: "The amount is out of range.",
    BillingRefusal.ALREADY_SETTLED: "The session is over and settled.",
    BillingRefusal.NOT_SETTLED: "The session is not settled yet.",
    BillingRefusal.NOT_METERED: "A session at a flat price, or on packages alone, keeps its kind to the end.",
    BillingRefusal.CHANGED_MEANWHILE: "The kind of the session has just been changed. Look at it and decide again.",
    BillingRefusal.NOT_ASKED: "The other side does not ask for that any more. Nothing has changed.",
    BillingRefusal.TOO_SOON: "The kind was changed a moment ago. Try again in five seconds.",
    BillingRefusal.TOO_MANY_CHANGES: "The kind was changed a hundred times. It stays as it is now.",
    BillingRefusal.NO_SUCH_SESSION: "There is no such session between these two people.",
    BillingRefusal.NO_SUCH_CHARGE: "There is no such charge.",
    BillingRefusal.NO_SUCH_PACKAGE: "There is no such package.",
    BillingRefusal.PACKAGE_IN_USE: "A session uses this package at the moment. Try again when it is over.",
    BillingRefusal.PACKAGE_OVER: "Nothing is left of this package.",
    BillingRefusal.TOO_MUCH: "That is more than what is left of the charge.",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """What a minute of one kind of session costs."""

    kind: SessionKind
    minor_per_minute: int
    currency: str
    tariff_id: int | None = dataclasses.field(default=None, compare=False)
    """The tariff that it is a rate of; None: the newest of the provider with this rate."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wallet:
    """A client's money, or a provider's earnings."""

    balance_minor: int
    """What is posted."""
    available_minor: int
    """What is not held for a session that runs."""
    held_minor: int
    currency: str
    promo_minor: int = 0
    """How much of the balance is promotional credit: spent first, never paid out."""


class EntryCursor(NamedTuple):
    """A place in a wallet's history: when (Unix microseconds), then what, then its number."""

    at_us: int
    part: str
    """``s``: a session, ``t``: a transfer."""
    number: int


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One line of a wallet's history."""

    cursor: EntryCursor
    public_id: str
    kind: str
    """``session``, or the kind of the transfer."""
    amount_minor: int
    """Negative: money that left."""
    currency: str
    balance_after_minor: int
    memo: str


@dataclasses.dataclass(frozen=True, slots=True)
class Quote:
    """What a session would cost, and how long the wallet pays for it now."""

    rate: Rate
    affordable_ms: int


@dataclasses.dataclass(frozen=True, slots=True)
class SessionRef:
    """A session to be opened: who pays whom at which rate (the one shown at request)."""

    tenant_id: TenantId
    session_id: SessionId
    session_public_id: PublicId
    client_id: UserId
    provider_id: UserId
    kind: SessionKind
    rate: Rate


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """A session's money is held."""

    granted_live_ms: int
    """For ``OpenRoom``: how much live time is paid for."""
    final_unit: bool
    """The wallet does not cover a whole grant: after this one there is no more."""
    revision: int = 1
    """Of the terms that it is granted at; rises with each change of kind."""


@dataclasses.dataclass(frozen=True, slots=True)
class SessionTerms:
    """What a session is charged at now, as its meter says."""

    rate: Rate
    step_ms: int
    """Charged by started steps of this length; 1: by the millisecond."""
    provider_bps: int
    revision: int
    own_package_ms: int = 0
    """Package time that is left and that another kind could not use."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a session at the same terms. The amounts of all make up the charge."""

    rate: Rate
    from_ms: int
    """Live time before it."""
    live_ms: int
    prepaid_ms: int
    """How much of it was on packages."""
    amount_minor: int


@dataclasses.dataclass(frozen=True, slots=True)
class Billed:
    """What a session came to so far, as posted."""

    billed_ms: int
    charged_minor: int
    provider_minor: int
    settled: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """How far a session's media is known to have come in its newest room epoch (0: none yet)."""

    epoch: int
    live_ms: int


@dataclasses.dataclass(frozen=True, slots=True)
class ReceiptLine:
    """One line of a receipt."""

    label: str
    amount_minor: int


@dataclasses.dataclass(frozen=True, slots=True)
class Receipt:
    """A settled session. ``charged_minor`` = cost(rate, ``billed_ms``) = provider's + platform's part."""

    tenant_id: TenantId
    session_id: SessionId
    session_public_id: PublicId
    rate: Rate
    provider_bps: int
    billed_ms: int
    charged_minor: int
    provider_minor: int
    platform_minor: int
    currency: str
    balance_after_minor: int
    """The client's wallet when the session was settled."""
    provider_balance_after_minor: int | None
    settled_at_ms: int
    prepaid_ms: int = 0
    """Package time used."""
    promo_minor: int = 0
    """How much of the charge promotional credit paid."""
    stretches: tuple[Stretch, ...] = ()
    """The session's parts, where its kind changed."""

    @property
    def lines(self) -> tuple[ReceiptLine, ...]:
        """What the charge is made of, for people. The amounts make up ``charged_minor``."""
        lines = [
            ReceiptLine(f"{_NAMES[part.rate.kind]}, {_minutes(part.live_ms)}", part.amount_minor)
            for part in self.stretches or (Stretch(self.rate, 0, self.billed_ms, 0, self.charged_minor),)
        ]
        if self.prepaid_ms:
            lines.append(ReceiptLine(f"of it on a package, {_minutes(self.prepaid_ms)}", 0))
        return tuple(lines)


_NAMES: Final[dict[SessionKind, str]] = {"chat": "Chat", "audio": "Audio call", "video": "Video call"}


def _minutes(ms: int) -> str:
    minutes, rest_ms = divmod(ms, 60_000)
    return f"{minutes}:{rest_ms // 1000:02d} min"


class MeterOutcome(NamedTuple):
    """What one tick has to tell about one session."""

    tenant_id: TenantId
    session_id: SessionId
    epoch: int
    live_ms: int
    """Live time of the whole session, all epochs."""
    running: bool
    cost_minor: int
    """What that costs so far, posted or not."""
    provider_minor: int
    """The provider's share of it."""
    balance_minor: int
    """The client's balance after everything that has accrued."""
    currency: str
    granted_live_ms: int
    """For ``SetGrant``: how far the room of this ``epoch`` may go."""
    grant_changed: bool
    """The worker is not known to have this grant, or these terms, yet: send them."""
    final_unit: bool
    """The wallet covers no whole further grant."""
    remaining_ms: int
    """Live time that the wallet, and the session's terms, still allow."""
    warnings: tuple[int, ...]
    """Seconds (60, 30, 10) to warn of now, each once."""
    exhausted: bool
    """The grant is used up and there is no more money: end the session."""
    kind: SessionKind = "video"
    """What the session is charged as."""
    revision: int = 1
    """Of its terms."""
    free_until_ms: int = 0
    """Live time up to which nothing more is charged: free, on packages, or within a flat price."""


class TickInput(NamedTuple):
    """What the tick is told of one session."""

    session_id: SessionId
    epoch: int
    base_ms: int
    """Live time of earlier epochs, as far as the caller knows."""
    live_ms: int
    """Live time of ``epoch``."""
    lease_epoch: int | None
    """None: opening or settling, which needs no lease."""


@dataclasses.dataclass(slots=True)
class MeterRow:
    """A session's meter as stored, and as the ticks since then have left it."""

    tenant_id: TenantId
    session_id: SessionId
    currency: str
    client_account_id: int
    tariff: Tariff
    epoch: int
    base_ms: int
    live_ms: int
    granted_ms: int
    posted_minor: int
    held_minor: int
    final_unit: bool
    revision: int = 1
    """Rises when the terms change."""
    kind: SessionKind = "video"


class MeterState(NamedTuple):
    """What a tick looks up of every session."""

    open: bool
    balance_minor: int
    available_minor: int
    revision: int


class TickResult(NamedTuple):
    """What the tick made of one session; the same after a retry."""

    session_id: SessionId
    status: str
    """``ok``, ``settled`` (closed before: nothing was done) or ``fenced`` (another process has the lease)."""
    epoch: int
    base_ms: int
    live_ms: int
    billed_ms: int
    granted_ms: int
    posted_minor: int
    provider_minor: int
    held_minor: int
    final_unit: bool
    balance_minor: int
    available_minor: int
    charged_minor: int
    over_ms: int
    """Evidence beyond the grant: never charged."""
    revision: int = 0
    """Of the terms, as the tick found them; 0: not told."""
