"""A change of kind in the middle of a session: chat, audio, video and back.

Who wants a kind that costs no more than the present one has it at once. One that costs more takes both: one side asks,
naming the terms that its page has shown, and the other one agrees by the same message, or declines. What might cost the
client more in any other way (``at_once``) takes the client's word. What is charged changes first, at the moment that
the worker names; then the session's row; then what the worker lets flow. Should whoever carries this out die on the
way, the meter is what holds: ``following`` makes session and room agree.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Final

from billing.money import BPS, round_down
from billing.service import Billing
from billing.tariffs import STANDARD, Offer
from billing.terms import BillingRefusal, LedgerUnavailable, Rate, SessionTerms
from config.clock import Clock
from config.http import ApiError, Call, Endpoint, endpoint, not_found
from config.identity import Principal, Role
from config.logs import get_log
from relay.messages import SessionKind, StopRecording
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
_ASKED: Final = (
    *("asked_kind", "asked_by", "asked_minor_per_minute", "asked_tariff_id", "asked_step_ms", "asked_until_ms"),
)

log = get_log("signaling.kinds")


def kind_columns(rate: Rate) -> dict[str, Any]:
    """What a change of kind stores; whatever was asked is answered by it."""
    terms = {"kind": rate.kind, "minor_per_minute": rate.minor_per_minute, "tariff_id": rate.tariff_id}
    return {**terms, **dict.fromkeys(_ASKED)}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a page has shown to whoever asks or agrees, of what another kind costs."""

    minor_per_minute: int
    step_ms: int = 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """Another kind, with its terms."""

    rate: Rate
    step_ms: int

    @property
    def shown(self) -> Shown:
        return Shown(self.rate.minor_per_minute, self.step_ms)


def at_once(now: SessionTerms, wanted: Wanted, *, client: bool) -> bool:
    """Whether whoever asks (the client, or not) has another kind at once; else the other side is asked.

    A higher rate takes both. The client's word is needed, too, where steps are paid in advance, and where package time
    that the client has could not be used any more: what costs nothing now would cost money then.
    """
    if wanted.rate.minor_per_minute > now.rate.minor_per_minute:
        return False
    return client or (wanted.step_ms == 1 and now.own_package_ms == 0)


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

    async def ask(
        self, who: Principal, public_id: str, kind: SessionKind, shown: Shown, *, agrees: bool = False
    ) -> Session:
        """Another kind, at the terms that ``who`` was shown. What is so already changes nothing. Where ``who`` agrees
        to what the other side has taken back by then, nothing changes either, and nothing is asked."""
        session = await self._in_call(who, public_id)
        now = await self._billing.terms(session.tenant_id, session.id)
        if now is None:
            raise billing_error(BillingRefusal.NOT_METERED)
        if kind == now.rate.kind:
            return await self._as_charged(session, who, now)
        asked = self._asked_by_other(session, who, kind)
        if agrees and asked is None:
            raise billing_error(BillingRefusal.NOT_ASKED)
        wanted = asked or await self._offered(session, kind)
        if wanted.shown != shown:
            raise ApiError(
                *(409, "rate_changed", "The rate is another one now. Look at it and decide again."),
                minor_per_minute=wanted.rate.minor_per_minute,
                step_ms=wanted.step_ms,
            )
        if asked is None and not at_once(now, wanted, client=who.user_id == session.client.user_id):
            return await self._propose(session, who, wanted)
        return await self._change(session, who, wanted.rate, now.revision, agreed=asked is not None)

    async def keep(self, who: Principal, public_id: str) -> Session:
        """What was asked is declined, or taken back by who asked it."""
        session = await self._in_call(who, public_id)
        kept = await self._noted(session, "kind_kept", who, str(session.asked_kind or ""), **dict.fromkeys(_ASKED))
        if session.asked_kind is not None:  # the other side may have agreed a moment before
            now = await self._billing.terms(session.tenant_id, session.id)
            if now is not None and now.rate.kind == session.asked_kind:
                return await self._as_charged(kept, who, now)
        return kept

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

    async def _offered(self, session: Session, kind: SessionKind) -> Wanted:
        for offer in await self.offers(session):
            if offer.kind == kind:
                return Wanted(offer.rate, offer.tariff.step_ms)
        raise not_found("rate for this kind")

    def _asked_by_other(self, session: Session, who: Principal, kind: SessionKind) -> Wanted | None:
        """What the other side has asked, if it is this and still stands."""
        stands = session.asked_until_ms is not None and self._clock.wall_ms() < session.asked_until_ms
        if not stands or session.asked_kind != kind or session.asked_by == who.user_id:
            return None
        rate = Rate(kind, session.asked_minor_per_minute or 0, session.currency, session.asked_tariff_id)
        return Wanted(rate, session.asked_step_ms or 1)

    async def _propose(self, session: Session, who: Principal, wanted: Wanted) -> Session:
        return await self._noted(
            session,
            "kind_asked",
            who,
            wanted.rate.kind,
            asked_kind=wanted.rate.kind,
            asked_by=who.user_id,
            asked_minor_per_minute=wanted.rate.minor_per_minute,
            asked_tariff_id=wanted.rate.tariff_id,
            asked_step_ms=wanted.step_ms,
            asked_until_ms=self._clock.wall_ms() + ASKED_LASTS_MS,
        )

    async def _as_charged(self, session: Session, who: Principal, now: SessionTerms) -> Session:
        """It is charged so already. Where whoever changed it came no further, the rest is made up for."""
        if session.kind == now.rate.kind:
            return session
        changed = await self._noted(session, "kind_changed", who, "as it is charged", **kind_columns(now.rate))
        with contextlib.suppress(ApiError):  # else the worker is told by the meter
            await self._rooms.set_kind(changed, changed.kind, now.revision)
        return changed

    async def _change(
        self, session: Session, who: Principal, rate: Rate, revision: int, *, agreed: bool = False
    ) -> Session:
        """``agreed``: to what the other side has asked, and may be taking back."""
        as_asked = session
        live_ms = await self._rooms.set_kind(session, None)
        begun = None
        if session.kind == "chat" and session.recording_public_id is None:
            begun = session = await self._director.begin_recording(session, rate.kind)
        try:
            if begun is not None:  # which takes a moment that is still a chat's
                live_ms = await self._rooms.set_kind(session, None)
            opened = await self._billing.change_kind(
                *(session.tenant_id, session.id, session.room_epoch, live_ms, rate, revision),
                asked=(lambda sql: self._store.still_asked(sql, as_asked)) if agreed else None,
            )
            if isinstance(opened, BillingRefusal):
                raise billing_error(opened)
        except ApiError:
            if begun is not None:
                await self._call_off(begun, who)
            raise
        except LedgerUnavailable:  # it may have been changed all the same: then it has to be recorded
            await self._announcer.changed(session)
            raise
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

    async def _call_off(self, session: Session, who: Principal) -> None:
        """A chat that stays one is not recorded, though that was begun. If the worker does not hear, both are told."""
        now = await self._billing.terms(session.tenant_id, session.id)
        if now is None or now.rate.kind != "chat":  # another change came first: that one is recorded
            await self._announcer.changed(session)
            return
        if session.recording == "recording":
            stop = StopRecording(
                tenant_id=session.tenant_id,
                session_id=session.id,
                epoch=session.room_epoch,
                recording_public_id=session.recording_public_id or "",
            )
            try:
                await self._rooms.order(session, stop)
            except ApiError as error:
                log.error("recording of a chat not called off", session_id=session.public_id, why=error.code)
                await self._announcer.changed(session)
                return
        await self._noted(session, "recording_stopped", who, "", recording="off", recording_public_id=None)

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
        now = await self.billing.terms(session.tenant_id, session.id) or await self._agreed(session)

        def shown(wanted: Wanted, bps: int) -> KindTerms:
            same = wanted.rate.kind == now.rate.kind
            return _terms(wanted, bps if earner else None, same or at_once(now, wanted, client=not earner))

        return SessionTermsView(
            now=shown(Wanted(now.rate, now.step_ms), now.provider_bps),
            kinds=[shown(Wanted(offer.rate, offer.tariff.step_ms), offer.tariff.provider_bps) for offer in offers],
        )

    async def _agreed(self, session: Session) -> SessionTerms:
        """Before there is a meter: what it was requested at."""
        tariff = await self.billing.tariff(session.tenant_id, session.tariff_id)
        rate = Rate(session.kind, session.minor_per_minute, session.currency)
        return SessionTerms(rate, tariff.step_ms if tariff else 1, tariff.provider_bps if tariff else 0, 0)

    async def change(self, call: Call) -> SessionView:
        """As ``session.change_kind``."""
        body: ChangeKind = call.body
        shown = Shown(body.minor_per_minute, body.step_ms)
        session = await self.kinds.ask(call.principal, call.id("id"), body.kind, shown, agrees=body.agrees)
        return session_view(session)

    async def keep(self, call: Call) -> SessionView:
        """As ``session.keep_kind``."""
        return session_view(await self.kinds.keep(call.principal, call.id("id")))


def _terms(wanted: Wanted, provider_bps: int | None, immediate: bool) -> KindTerms:
    rate = wanted.rate
    return KindTerms(
        kind=rate.kind,
        minor_per_minute=rate.minor_per_minute,
        step_ms=wanted.step_ms,
        at_once=immediate,
        earns_minor_per_minute=None if provider_bps is None else round_down(rate.minor_per_minute * provider_bps, BPS),
        currency=rate.currency,
    )
