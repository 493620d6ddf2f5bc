"""What the rest of Turnpike calls: wallets, rates, quotes, and a session's money from its first hold to its receipt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from billing import charges, meter_store, metrics, packages, recovery, store, tariffs
from billing.charges import Charge, ChargeOrder, Reversal
from billing.meter_store import SLOT_MS
from billing.money import RATE_MAX, Tariff, affordable_ms
from billing.packages import Package
from billing.store import WALLET_KINDS
from billing.tariffs import STANDARD, Offer
from billing.terms import (
    PROVIDER_BPS,
    Billed,
    BillingError,
    BillingRefusal,
    Entry,
    EntryCursor,
    Mark,
    Opened,
    Quote,
    Rate,
    Receipt,
    SessionRef,
    SessionTerms,
    UnknownMeter,
    Wallet,
)
from config.clock import Clock
from config.database import Database
from config.ids import PublicId, SessionId, TenantId, UserId
from config.logs import get_log
from config.settings import Settings
from relay.messages import SessionKind

log = get_log("billing.service")

AMOUNT_MAX = 10**12
"""Largest single movement, in minor units."""

T = TypeVar("T")


class Billing:
    """Billing's façade. Holds no state: all of it is in PostgreSQL, and every call may be repeated.

    Every call raises ``LedgerUnavailable`` when PostgreSQL cannot be reached.
    """

    def __init__(self, database: Database, clock: Clock, settings: Settings) -> None:
        self.database = database
        self._clock = clock
        self.settings = settings

    # --- rates and wallets

    async def rates(self, tenant: TenantId, provider_ids: Sequence[UserId]) -> dict[UserId, list[Rate]]:
        """The current standard rates of each of these providers; none: an empty list."""
        offers = await self.offers(tenant, provider_ids)
        return {who: [one.rate for one in mine if one.code == STANDARD] for who, mine in offers.items()}

    async def offers(self, tenant: TenantId, provider_ids: Sequence[UserId]) -> dict[UserId, list[Offer]]:
        """All current tariffs of each of these providers."""
        return await tariffs.read_offers(self.database, tenant, provider_ids)

    async def tariff(self, tenant: TenantId, tariff_id: int | None) -> Tariff | None:
        """What a tariff charges; None: there is no such tariff."""
        return await tariffs.read_tariff(self.database, tenant, tariff_id)

    async def set_offer(self, tenant: TenantId, provider_id: UserId, offer: Offer) -> None:
        """Set a tariff of a provider, from now on or from ``valid_from`` on."""
        await tariffs.add_offer(self.database, tenant, provider_id, offer)

    async def set_rate(
        self,
        tenant: TenantId,
        provider_id: UserId,
        kind: SessionKind,
        minor_per_minute: int,
        currency: str,
        provider_bps: int = PROVIDER_BPS,
    ) -> None:
        """Set what a provider charges from now on. Raises ValueError outside of 1–``RATE_MAX``, 0–10000 bps."""
        await self.set_offer(
            tenant, provider_id, Offer(kind, STANDARD, Tariff(minor_per_minute, provider_bps), currency)
        )

    async def open_wallets(self, tenant: TenantId, user_id: UserId, role: str, currency: str) -> None:
        """The account of a client or provider (other roles have none), unless it exists."""
        kind = WALLET_KINDS.get(role)
        if kind is not None:
            await store.open_account(self.database, tenant, user_id, kind, currency)

    async def wallet(self, tenant: TenantId, user_id: UserId, role: str) -> Wallet:
        """A client's wallet or a provider's earnings; all zeros when none was opened. Raises ``BillingError`` on a role
        without one, and on an unknown user."""
        kind = WALLET_KINDS.get(role)
        if kind is None:
            raise BillingError(f"a {role} has no wallet")
        wallet = await store.read_wallet(self.database, tenant, user_id, kind)
        if wallet is None:
            currency = await store.user_currency(self.database, tenant, user_id)
            if currency is None:
                raise BillingError(f"no user {user_id}")
            wallet = Wallet(0, 0, 0, currency)
        return wallet

    async def top_up(
        self, tenant: TenantId, user_id: UserId, amount_minor: int, key: str, memo: str
    ) -> Wallet | BillingRefusal:
        """Credit a client's wallet, once per ``key`` of that user; returns the wallet after it."""
        if not 0 < amount_minor <= AMOUNT_MAX:
            return _noted(BillingRefusal.BAD_AMOUNT)
        full_key = f"topup:{user_id}:{key}"
        wallet = await store.credit(self.database, tenant, user_id, "topup", amount_minor, full_key, memo)
        if isinstance(wallet, Wallet):
            metrics.TOPPED_UP.labels(wallet.currency).inc(amount_minor)
        return _noted(wallet)

    async def give_promo(
        self, tenant: TenantId, user_id: UserId, amount_minor: int, key: str, memo: str
    ) -> Wallet | BillingRefusal:
        """Give a client promotional credit, once per ``key``: it is spent before money, and never paid out."""
        if not 0 < amount_minor <= AMOUNT_MAX:
            return _noted(BillingRefusal.BAD_AMOUNT)
        full_key = f"promo:{user_id}:{key}"
        return _noted(await store.credit(self.database, tenant, user_id, "promo", amount_minor, full_key, memo))

    async def entries(
        self, tenant: TenantId, user_id: UserId, role: str, after: EntryCursor | None, limit: int
    ) -> list[Entry]:
        """A wallet's history, newest first: transfers, and one line for each session that was charged."""
        return await store.read_entries(self.database, tenant, user_id, WALLET_KINDS[role], after, limit)

    async def quote(
        self, tenant: TenantId, client_id: UserId, provider_id: UserId, kind: SessionKind, code: str = STANDARD
    ) -> Quote | BillingRefusal:
        """The current rate, and how long the client's wallet, and its packages, pay for it; refused below
        ``minimum_start_ms``, or what the tariff allows at most."""
        offers = (await self.offers(tenant, [provider_id]))[provider_id]
        offer = next((offer for offer in offers if (offer.kind, offer.code) == (kind, code)), None)
        if offer is None:
            return _noted(BillingRefusal.NO_RATE)
        rate = offer.rate
        wallet = await store.read_wallet(self.database, tenant, client_id, WALLET_KINDS["client"])
        if wallet is None:
            return _noted(BillingRefusal.NO_WALLET)
        if wallet.currency != rate.currency:
            return _noted(BillingRefusal.CURRENCY_MISMATCH)
        tariff = await tariffs.for_pair(self.database, tenant, client_id, provider_id, offer)
        paid_ms = affordable_ms(tariff, wallet.available_minor)
        if paid_ms < min(max(1, self.settings.minimum_start_ms), tariff.longest_ms):
            return _noted(BillingRefusal.INSUFFICIENT_FUNDS)
        return Quote(rate, paid_ms)

    # --- one-off charges and packages

    async def charge(self, order: ChargeOrder) -> Charge | BillingRefusal:
        """Charge a gift, a premium message, a tip or a product at once; once per key of the payer."""
        made = _noted(await charges.charge(self.database, order))
        if isinstance(made, Charge):
            metrics.CHARGED.labels(made.kind, made.currency).inc(made.amount_minor)
            if order.provider is not None:
                earner = await store.find_user(self.database, order.tenant_id, order.provider)
                if earner is not None:
                    await recovery.of_provider(self.database, order.tenant_id, earner.id)
        return made

    async def buy_package(
        self, tenant: TenantId, client_id: UserId, offer: PublicId, key: str
    ) -> Package | BillingRefusal:
        """Buy prepaid time from the wallet; once per key of the client."""
        return _noted(await packages.buy(self.database, tenant, client_id, offer, key))

    async def reverse(
        self, tenant: TenantId, what: PublicId, amount_minor: int, key: str, actor_id: UserId, reason: str
    ) -> Reversal | BillingRefusal:
        """Give back part or all of a settled session or a one-off charge, from whom it went to, in proportion; or what
        is left of a package."""
        back = _noted(await charges.reverse(self.database, tenant, what, amount_minor, key, actor_id, reason))
        if isinstance(back, Reversal):
            metrics.REVERSED.labels(back.currency).inc(back.amount_minor)
            log.info("charge reversed", what=what, amount_minor=amount_minor, by_user=actor_id, reason=reason)
        return back

    async def parties(self, tenant: TenantId, what: PublicId) -> list[tuple[UserId, str]]:
        """Whose wallets a session, a charge or a package is about, with their roles."""
        return await charges.parties(self.database, tenant, what)

    async def extras(self, tenant: TenantId, session: PublicId) -> tuple[list[Charge], list[Reversal]]:
        """The one-off charges of a session, and what was given back of it and of them."""
        return await charges.of_session(self.database, tenant, session)

    # --- a session's money

    async def open_session(self, ref: SessionRef) -> Opened | BillingRefusal:
        """Hold money for the first grant. Repeated: the grant as it stands. Refused: nothing is held, nothing made."""
        opened = await meter_store.open_session(
            self.database, ref, self.settings.grant_ms, self.settings.minimum_start_ms
        )
        return _noted(opened)

    async def change_kind(
        self,
        tenant: TenantId,
        session_id: SessionId,
        epoch: int,
        live_ms: int,
        rate: Rate,
        revision: int | None = None,
        asked: meter_store.Condition | None = None,
    ) -> Opened | BillingRefusal:
        """Go on at another kind's rate from ``live_ms`` of room ``epoch`` on; returns the grant as it stands then.

        What was live until then is posted at the old terms; what is paid and not used goes along. What is granted
        already is held anew at the new rate; where the wallet does not cover that, nothing changes and
        ``INSUFFICIENT_FUNDS`` is returned. With the ``revision`` of the terms that this was decided on, others that
        came in between refuse it (``CHANGED_MEANWHILE``). Two changes are 5 s apart, and a session has at most 100.
        ``asked`` is looked at in the same transaction: where it does not hold any more, nothing changes and nothing is
        posted (``NOT_ASKED``), unless it is charged so already.
        """
        changed = await meter_store.change_kind(
            *(self.database, tenant, session_id, Mark(epoch, max(0, live_ms)), rate, self.settings.grant_ms),
            now_ms=self._clock.wall_ms(),
            revision=revision,
            asked=asked,
        )
        return _noted(changed)

    async def terms(self, tenant: TenantId, session_id: SessionId) -> SessionTerms | None:
        """What a session is charged at now, by its meter: the authority on its kind. None: it has no meter."""
        return await meter_store.read_terms(self.database, tenant, session_id)

    async def billed(self, tenant: TenantId, session_ids: Sequence[SessionId]) -> dict[SessionId, Billed]:
        """What each of these sessions came to so far."""
        return await meter_store.read_billed(self.database, tenant, session_ids)

    async def settle(self, tenant: TenantId, session_id: SessionId, epoch: int, live_ms: int) -> Receipt:
        """Charge for all live time, release the hold, close the meter.

        ``live_ms`` is the live time of room ``epoch``, as the worker's last word has it (0, 0: no room was ever open);
        less than is known already counts as that. What exceeds the grant is never charged. The first call decides:
        later ones return the same receipt. Raises ``UnknownMeter`` when the session was never opened.
        """
        settled = await meter_store.settle(self.database, tenant, session_id, epoch, max(0, live_ms), self._slot())
        if settled is None:
            raise UnknownMeter(f"session {session_id} has no meter")
        receipt, result = settled
        if result.status == "ok":
            metrics.POSTED.labels(receipt.currency).inc(result.charged_minor)
            if result.over_ms:
                metrics.OVER_GRANT.inc(result.over_ms / 1000)
                log.warning("evidence beyond the grant", session_id=session_id, over_ms=result.over_ms)
            log.info(
                "session settled",
                session_id=session_id,
                billed_ms=receipt.billed_ms,
                charged_minor=receipt.charged_minor,
                currency=receipt.currency,
            )
            await recovery.after_session(self.database, tenant, session_id)
        return receipt

    async def carry_over(self, tenant: TenantId, session_id: SessionId, epoch: int, live_ms: int) -> int | None:
        """The room of ``epoch`` has ended after ``live_ms``, the session goes on in another: what is live so far is
        posted. Returns the billable time (ms) that is granted to the next room; None: the meter is settled, or there
        is none."""
        posted = await meter_store.carry_over(
            self.database, tenant, session_id, epoch, max(0, live_ms), self._slot(), self.settings.grant_ms
        )
        if posted is None or posted.status != "ok":
            return None
        return max(0, posted.granted_ms - posted.live_ms)

    async def receipt(self, tenant: TenantId, session_id: SessionId) -> Receipt | None:
        """The receipt of a settled session, else None."""
        return await meter_store.read_receipt(self.database, tenant, session_id)

    async def unsettled(self, shards: Collection[int]) -> list[tuple[TenantId, SessionId]]:
        """Sessions of these shards whose meters are open: what a new leaseholder looks after."""
        return await meter_store.read_unsettled(self.database, sorted(shards))

    async def latest_evidence(self, tenant: TenantId, session_id: SessionId) -> Mark:
        """How far a session has come, as stored: for a room whose worker died. Live time is that of ``epoch``."""
        return await meter_store.read_mark(self.database, tenant, session_id)

    def _slot(self) -> int:
        return self._clock.wall_ms() // SLOT_MS


def _noted(answer: T) -> T:
    if isinstance(answer, BillingRefusal):
        metrics.REFUSALS.labels(answer.value).inc()
    return answer


__all__ = ["AMOUNT_MAX", "RATE_MAX", "Billing"]
