"""Tells the people of a session what changed: the one place where stored changes become events."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec

from billing.charges import Charge
from billing.service import Billing
from billing.terms import MeterOutcome, Receipt, Wallet
from config.clock import Clock
from config.identity import Role
from config.ids import TenantId, UserId
from config.logs import get_log
from relay.messages import LayersWanted, MediaEvidence, Source
from signaling.away import AWAY
from signaling.events import Events, Telling
from signaling.lifecycle import State
from signaling.presence import Presence
from signaling.server_events import (
    ChargedEvent,
    CostEvent,
    LayersEvent,
    MutedEvent,
    RenegotiateEvent,
    WalletEvent,
    WarningEvent,
)
from signaling.store import Session
from signaling.views import quality_view, session_view

P = ParamSpec("P")

log = get_log("signaling.announcer")


def _told_or_not(tell: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
    """What is stored is done, whether or not it can be told now: pages that missed it read the state again."""

    @functools.wraps(tell)
    async def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            await tell(*args, **kwargs)
        except AWAY as error:
            log.warning("not told", what=tell.__name__, why=str(error))

    return run


class Announcer:
    """Whom to tell what. Nothing here changes anything, or fails; told twice is told once, by the revision."""

    def __init__(self, events: Events, presence: Presence, billing: Billing, clock: Clock) -> None:
        self._events = events
        self._presence = presence
        self._billing = billing
        self._clock = clock

    @_told_or_not
    async def changed(self, session: Session) -> None:
        """A session has a new revision."""
        view = session_view(session)
        news = [Telling(person.user_id, "session.updated", view) for person in session.people]
        if session.state is State.RINGING:
            news.insert(0, Telling(session.provider.user_id, "session.ringing", view))
        await self._events.tell_each(session.tenant_id, *news)
        if session.state is State.RINGING or (session.over and session.settled_at_ms is None):
            await self._presence.refresh(session.tenant_id, [session.provider.user_id])

    @_told_or_not
    async def cost(self, session: Session, outcome: MeterOutcome) -> None:
        """What a tick found: the cost so far to both, and the warnings that are due."""
        common = {
            "session_id": session.public_id,
            "live_ms": outcome.live_ms,
            "at_ms": self._clock.wall_ms(),
            "running": outcome.running,
            "cost_minor": outcome.cost_minor,
            "currency": outcome.currency,
            "remaining_ms": outcome.remaining_ms,
            "free_until_ms": outcome.free_until_ms,
        }
        client = CostEvent.model_validate({**common, "balance_minor": outcome.balance_minor})
        provider = CostEvent.model_validate({**common, "earnings_minor": outcome.provider_minor})
        news = _costs(session, client, provider)
        for seconds in outcome.warnings:
            warning = WarningEvent(session_id=session.public_id, remaining_ms=seconds * 1000)
            news += [Telling(person.user_id, "session.warning", warning) for person in session.people]
        await self._events.tell_each(session.tenant_id, *news)

    @_told_or_not
    async def settled(self, session: Session, receipt: Receipt) -> None:
        """A session's final charge is posted."""
        common = {
            "session_id": session.public_id,
            "live_ms": receipt.billed_ms,
            "at_ms": self._clock.wall_ms(),
            "running": False,
            "cost_minor": receipt.charged_minor,
            "currency": receipt.currency,
        }
        client = CostEvent.model_validate({**common, "balance_minor": receipt.balance_after_minor})
        provider = CostEvent.model_validate({**common, "earnings_minor": receipt.provider_minor})
        await self._events.tell_each(session.tenant_id, *_costs(session, client, provider))
        await self.wallets(session)

    @_told_or_not
    async def wallet(self, tenant: TenantId, user_id: UserId, wallet: Wallet) -> None:
        """One user's wallet is now this."""
        event = WalletEvent(
            balance_minor=wallet.balance_minor,
            available_minor=wallet.available_minor,
            held_minor=wallet.held_minor,
            promo_minor=wallet.promo_minor,
            currency=wallet.currency,
        )
        await self._events.tell(tenant, user_id, "wallet.changed", event)

    @_told_or_not
    async def charged(self, tenant: TenantId, payer: UserId, provider: UserId, charge: Charge) -> None:
        """A gift, a tip or the like was paid; of those in a session both pages tell."""
        if charge.session is None:
            return
        for user_id, amount_minor in ((payer, charge.amount_minor), (provider, charge.provider_minor)):
            event = ChargedEvent(
                session_id=charge.session,
                id=charge.public_id,
                kind=charge.kind,
                amount_minor=amount_minor,
                currency=charge.currency,
                memo=charge.memo,
                at_ms=charge.at_ms,
            )
            await self._events.tell(tenant, user_id, "session.charged", event)

    @_told_or_not
    async def wallets(self, session: Session) -> None:
        """Money of the session's people was posted or held."""
        for person, role in ((session.client, Role.CLIENT), (session.provider, Role.PROVIDER)):
            wallet: Wallet = await self._billing.wallet(session.tenant_id, person.user_id, role)
            await self.wallet(session.tenant_id, person.user_id, wallet)

    @_told_or_not
    async def muted(self, session: Session, by: UserId, muted: dict[Source, bool]) -> None:
        """One side muted or unmuted: the other side is told."""
        who, other = session.people if by == session.client.user_id else session.people[::-1]
        event = MutedEvent(session_id=session.public_id, user_id=who.public_id, muted=muted)
        await self._events.tell(session.tenant_id, other.user_id, "room.muted", event)

    @_told_or_not
    async def quality(self, session: Session, evidence: MediaEvidence) -> None:
        """Both sides' connections; shown, not kept."""
        ids = [person.user_id for person in session.people]
        await self._events.show(session.tenant_id, ids, "room.quality", quality_view(session, evidence))

    @_told_or_not
    async def layers(self, session: Session, event: LayersWanted) -> None:
        """Others take other layers of one side's picture than before."""
        view = LayersEvent(session_id=session.public_id, source=event.source, rids=list(event.rids))
        await self._events.show(session.tenant_id, [UserId(event.user_id)], "room.layers", view)

    @_told_or_not
    async def renegotiate(self, session: Session, user_id: UserId) -> None:
        """The worker has something new for one side's connection."""
        event = RenegotiateEvent(session_id=session.public_id)
        await self._events.tell(session.tenant_id, user_id, "room.renegotiate", event)


def _costs(session: Session, client: CostEvent, provider: CostEvent) -> list[Telling]:
    """To each side in its own terms."""
    return [
        Telling(session.client.user_id, "session.cost", client),
        Telling(session.provider.user_id, "session.cost", provider),
    ]
