"""A change of kind in the middle of a session: chat, audio, video and back.

Who wants a kind that costs no more than the present one has it at once. One that costs more takes both: one side asks,
naming the rate that its page has shown, and the other one agrees by the same message, or declines. What is charged
changes first, at the moment that the worker names; then the session's row; then what the worker lets flow. Should
whoever carries this out die on the way, the meter is what holds, and ``following`` makes session and room agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from billing.money import BPS, round_down
from billing.service import Billing
from billing.tariffs import STANDARD, Offer
from billing.terms import BillingRefusal, Rate
from config.clock import Clock
from config.http import ApiError, Call, Endpoint, endpoint, not_found
from config.identity import Principal, Role
from config.logs import get_log
from relay.messages import SessionKind
from signaling.announcer import Announcer
from signaling.director import Director, billing_error
from signaling.lifecycle import IN_CALL
from signaling.messages import ChangeKind, KindTerms, SessionTermsView, SessionView
from signaling.rooms import Rooms
from signaling.store import Session, SessionStore
from signaling.views import session_view

ASKED_LASTS_MS: Final = 60_000
"""What is not agreed to by then counts as declined."""
V1: Final = "/api/v1"
_ASKED: Final = ("asked_kind", "asked_by", "asked_minor_per_minute", "asked_tariff_id", "asked_until_ms")

log = get_log("signaling.kinds")


def kind_columns(rate: Rate) -> dict[str, Any]:
    """What a change of kind stores; whatever was asked is answered by it."""
    terms = {"kind": rate.kind, "minor_per_minute": rate.minor_per_minute, "tariff_id": rate.tariff_id}
    return {**terms, **dict.fromkeys(_ASKED)}


class KindChanges:
    """Carries out what people want of a session's kind."""

    def __init__(
        self,
        director: Director,
        store: SessionStore,
        rooms: Rooms,
        billing: Billing,
        announcer: Announcer,
        clock: Clock,
    ) -> None:
        self._director = director
        self._store = store
        self._rooms = rooms
        self._billing = billing
        self._announcer = announcer
        self._clock = clock

    async def ask(self, who: Principal, public_id: str, kind: SessionKind, minor_per_minute: int) -> Session:
        """Another kind, at the rate that ``who`` was shown. What is so already changes nothing."""
        session = await self._in_call(who, public_id)
        if kind == session.kind:
            return session
        asked = self._asked_by_other(session, who, kind)
        rate = asked or await self._rate(session, kind)
        if rate.minor_per_minute != minor_per_minute:
            raise ApiError(
                *(409, "rate_changed", "The rate is another one now. Look at it and decide again."),
                minor_per_minute=rate.minor_per_minute,
            )
        if asked is None and rate.minor_per_minute > session.minor_per_minute:
            return await self._propose(session, who, rate)
        return await self._change(session, who, rate)

    async def keep(self, who: Principal, public_id: str) -> Session:
        """What was asked is declined, or taken back by who asked it."""
        session = await self._in_call(who, public_id)
        return await self._noted(session, "kind_kept", who, str(session.asked_kind or ""), **dict.fromkeys(_ASKED))

    async def offers(self, session: Session) -> list[Offer]:
        """The kinds that a session could change to, at the provider's present rates."""
        found = await self._billing.offers(session.tenant_id, [session.provider.user_id])
        return [
            offer
            for offer in found[session.provider.user_id]
            if offer.code == STANDARD and offer.currency == session.currency and not offer.tariff.flat_minor
        ]

    async def _in_call(self, who: Principal, public_id: str) -> Session:
        session = await self._director.find(who, public_id)
        if session.over:
            raise ApiError(409, "session_over", "The session is over.", state=session.state.value)
        if session.state not in IN_CALL:
            message = f"That is not possible while the session is {session.state}."
            raise ApiError(409, "wrong_state", message, state=session.state.value)
        return session

    async def _rate(self, session: Session, kind: SessionKind) -> Rate:
        for offer in await self.offers(session):
            if offer.kind == kind:
                return offer.rate
        raise not_found("rate for this kind")

    def _asked_by_other(self, session: Session, who: Principal, kind: SessionKind) -> Rate | None:
        """What the other side has asked, if it is this and still stands."""
        stands = session.asked_until_ms is not None and self._clock.wall_ms() < session.asked_until_ms
        if not stands or session.asked_kind != kind or session.asked_by == who.user_id:
            return None
        return Rate(kind, session.asked_minor_per_minute or 0, session.currency, session.asked_tariff_id)

    async def _propose(self, session: Session, who: Principal, rate: Rate) -> Session:
        return await self._noted(
            session,
            "kind_asked",
            who,
            rate.kind,
            asked_kind=rate.kind,
            asked_by=who.user_id,
            asked_minor_per_minute=rate.minor_per_minute,
            asked_tariff_id=rate.tariff_id,
            asked_until_ms=self._clock.wall_ms() + ASKED_LASTS_MS,
        )

    async def _change(self, session: Session, who: Principal, rate: Rate) -> Session:
        if session.kind == "chat" and session.recording_public_id is None:
            session = await self._director.begin_recording(session, rate.kind)
        live_ms = await self._rooms.set_kind(session, None)
        opened = await self._billing.change_kind(session.tenant_id, session.id, session.room_epoch, live_ms, rate)
        if isinstance(opened, BillingRefusal):
            raise billing_error(opened)
        why = f"{session.kind} to {rate.kind} after {live_ms} ms"
        changed = await self._note(session, "kind_changed", who, why, **kind_columns(rate))
        log.info("kind changed", session_id=session.public_id, kind=rate.kind, live_ms=live_ms, by=who.role)
        try:  # pages offer as soon as they hear of it: the room has to be ready for that
            if changed.state in IN_CALL and changed.room_epoch == session.room_epoch:
                await self._rooms.set_kind(changed, rate.kind, opened.revision)
        finally:
            await self._announcer.changed(changed)
        await self._announcer.wallets(changed)
        return changed

    async def _noted(self, session: Session, what: str, who: Principal, why: str, **columns: Any) -> Session:
        noted = await self._note(session, what, who, why, **columns)
        if noted.revision != session.revision:
            await self._announcer.changed(noted)
        return noted

    async def _note(self, session: Session, what: str, who: Principal, why: str, **columns: Any) -> Session:
        return await self._store.note(
            session.tenant_id,
            session.id,
            what,
            now_ms=self._clock.wall_ms(),
            why=why,
            actor=who.user_id,
            during=IN_CALL,
            **columns,
        )


@dataclass(frozen=True, slots=True)
class KindApi:
    """The routes."""

    kinds: KindChanges
    director: Director
    billing: Billing

    def endpoints(self) -> list[Endpoint]:
        """To be mounted by control."""
        call, people = f"{V1}/sessions/{{id}}", [Role.CLIENT, Role.PROVIDER]
        return [
            endpoint("GET", f"{call}/terms", "Rates of a session", self.terms, roles=people, result=SessionTermsView),
            endpoint(
                *("POST", f"{call}/kind", "Ask for another kind, or agree to it", self.change),
                roles=people,
                body=ChangeKind,
                result=SessionView,
            ),
            endpoint("POST", f"{call}/kind/keep", "Keep the kind", self.keep, roles=people, result=SessionView),
        ]

    async def terms(self, call: Call) -> SessionTermsView:
        """What it is charged at, and what it could change to."""
        session = await self.director.find(call.principal, call.id("id"))
        earner = session.provider.user_id == call.principal.user_id
        offers = await self.kinds.offers(session)
        agreed = await self.billing.tariff_bps(session.tenant_id, session.tariff_id)
        now = Rate(session.kind, session.minor_per_minute, session.currency)
        return SessionTermsView(
            now=_terms(now, agreed if earner else None),
            kinds=[_terms(offer.rate, offer.tariff.provider_bps if earner else None) for offer in offers],
        )

    async def change(self, call: Call) -> SessionView:
        """As ``session.change_kind``."""
        body: ChangeKind = call.body
        return session_view(await self.kinds.ask(call.principal, call.id("id"), body.kind, body.minor_per_minute))

    async def keep(self, call: Call) -> SessionView:
        """As ``session.keep_kind``."""
        return session_view(await self.kinds.keep(call.principal, call.id("id")))


def _terms(rate: Rate, provider_bps: int | None) -> KindTerms:
    return KindTerms(
        kind=rate.kind,
        minor_per_minute=rate.minor_per_minute,
        earns_minor_per_minute=None if provider_bps is None else round_down(rate.minor_per_minute * provider_bps, BPS),
        currency=rate.currency,
    )
