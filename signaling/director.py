"""What people want of sessions: request, accept, decline, cancel, end, join, mute.

Every wish is first a durable change of state, then its consequences. A control process may die between any two of
these steps: the row says how far it came. An acceptance is carried on when the provider's page repeats it, and ends at
its deadline otherwise; everything after is the business of the shard's leaseholder (``following``).
Whatever is refused is an ``ApiError``, the same over REST and Socket.IO.
"""

from __future__ import annotations

import asyncio
from typing import Final

from billing.service import Billing
from billing.terms import BillingRefusal, Rate, SessionRef
from config.clock import Clock
from config.http import ApiError, not_found
from config.identity import Principal, Role
from config.ids import SessionId
from config.keys import UnknownKey
from config.logs import get_log
from config.objects import ObjectStoreError
from recorder.catalogue import ATTESTED, NewRecording, Recordings
from recorder.errors import ConsentMissing
from signaling.announcer import Announcer
from signaling.client_messages import AnnouncementView, JoinRoom, RoomAnswer, RoomStats, SetMuted
from signaling.closing import Closer
from signaling.lifecycle import State, Trigger, Verdict
from signaling.messages import Consent, RequestSession
from signaling.people import People, User
from signaling.presence import Presence
from signaling.rooms import Placed, Rooms
from signaling.store import Applied, NewSession, Session, SessionStore, TooManyLive
from signaling.unagreed import Unagreed

LIVE_PER_CLIENT_MAX: Final = 3
ACCEPT_LASTS_MS: Final = 5_000
"""Opening a room takes no longer; after that a repeated acceptance carries it on."""
"""Sessions that one client may request or have at a time: nobody rings all providers at once."""
STAFF: Final = frozenset({Role.COMPLIANCE, Role.FINANCE, Role.ADMIN})

log = get_log("signaling.director")

_OVER: Final[dict[State, str]] = {
    State.ENDED: "The session has ended.",
    State.DECLINED: "The call was declined.",
    State.MISSED: "The call was not answered in time.",
    State.CANCELLED: "The call was cancelled.",
    State.EXPIRED: "The call did not go through.",
    State.FAILED: "The call could not be connected.",
}
_UNAVAILABLE: Final = {
    "offline": "is offline",
    "away": "takes no calls at the moment",
    "busy": "is in another call",
}


class Director:
    """Carries out what people want of sessions."""

    def __init__(
        self,
        store: SessionStore,
        people: People,
        presence: Presence,
        rooms: Rooms,
        billing: Billing,
        recordings: Recordings,
        announcer: Announcer,
        closer: Closer,
        clock: Clock,
        consent_version: str,
        unrecorded_refused: bool = False,
    ) -> None:
        self._store = store
        self._people = people
        self._presence = presence
        self._rooms = rooms
        self._billing = billing
        self._recordings = recordings
        self._announcer = announcer
        self._closer = closer
        self._clock = clock
        self._consent_version = consent_version
        self._unrecorded_refused = unrecorded_refused
        self._unagreed = Unagreed(store, rooms, recordings, announcer, clock)

    # --- finding ------------------------------------------------------------------------------------------------

    async def find(self, who: Principal, public_id: str) -> Session:
        """The session, for one of its participants. Raises 404 for anybody else."""
        session = await self._store.by_public_id(who.tenant_id, public_id)
        if session is None or not session.includes(who.user_id):
            raise not_found("session")
        return session

    async def find_to_read(self, who: Principal, public_id: str) -> Session:
        """The session, for its participants and for staff."""
        session = await self._store.by_public_id(who.tenant_id, public_id)
        if session is None or not (who.role in STAFF or session.includes(who.user_id)):
            raise not_found("session")
        return session

    # --- before the call ----------------------------------------------------------------------------------------

    async def request(self, who: Principal, wish: RequestSession) -> Session:
        """A client calls a provider. The same request key gives the same session, however often it is sent."""
        if who.role is not Role.CLIENT:
            raise ApiError(403, "forbidden", "Only clients can call providers.")
        provider = await self._people.provider(who.tenant_id, wish.provider_id)
        if provider is None:
            raise not_found("provider")
        session = await self._store.requested(who.tenant_id, who.user_id, wish.request_key)
        if session is None:
            try:
                session = await self._create(who, provider, wish)
            except ApiError:  # perhaps because the same request, sent twice at once, was stored in the meantime
                session = await self._store.requested(who.tenant_id, who.user_id, wish.request_key)
                if session is None:
                    raise
        if session.provider.user_id != provider.id or session.kind != wish.kind:
            raise ApiError(409, "request_key_used", "Another call was requested under this key.")
        if session.state is not State.REQUESTED:
            return session
        await self._consent(session, who, wish.consent)
        applied = await self._apply(session, Trigger.RING, who)
        if applied.changed:
            await self._announcer.changed(applied.session)
        return applied.session

    async def _create(self, who: Principal, provider: User, wish: RequestSession) -> Session:
        self._check_consent(wish.consent)
        presence = (await self._presence.of(who.tenant_id, [provider]))[provider.id]
        if presence != "online":
            message = f"{provider.name} {_UNAVAILABLE[presence]}."
            raise ApiError(409, "provider_busy" if presence == "busy" else "provider_unavailable", message)
        quote = await self._billing.quote(who.tenant_id, who.user_id, provider.id, wish.kind, wish.tariff)
        if isinstance(quote, BillingRefusal):
            raise billing_error(quote)
        new = NewSession(
            tenant_id=who.tenant_id,
            client_id=who.user_id,
            provider_id=provider.id,
            kind=wish.kind,
            minor_per_minute=quote.rate.minor_per_minute,
            currency=quote.rate.currency,
            tariff_id=quote.rate.tariff_id,
            request_key=wish.request_key,
            client_consented=wish.consent.accepted,
        )
        try:
            made = await self._store.create(new, self._clock.wall_ms(), LIVE_PER_CLIENT_MAX)
        except TooManyLive:
            raise ApiError(409, "too_many_sessions", "End one of your other calls first.") from None
        if made is None:
            raise ApiError(409, "provider_busy", f"{provider.name} {_UNAVAILABLE['busy']}.")
        log.info("session requested", session_id=made[0].public_id, kind=wish.kind)
        return made[0]

    async def decline(self, who: Principal, public_id: str) -> Session:
        """The provider does not take the call."""
        return await self._end(who, public_id, Role.PROVIDER, Trigger.DECLINE)

    async def cancel(self, who: Principal, public_id: str) -> Session:
        """The client does not wait any longer."""
        return await self._end(who, public_id, Role.CLIENT, Trigger.CANCEL)

    async def end(self, who: Principal, public_id: str) -> Session:
        """Either side hangs up; before the call that cancels or declines it."""
        session = await self.find(who, public_id)
        is_client = session.client.user_id == who.user_id
        return await self._change(session, Trigger.CLIENT_END if is_client else Trigger.PROVIDER_END, who)

    async def _end(self, who: Principal, public_id: str, role: Role, trigger: Trigger) -> Session:
        session = await self.find(who, public_id)
        if who.role is not role:
            raise ApiError(403, "forbidden", f"Only the {role} can do this.")
        return await self._change(session, trigger, who)

    async def _change(self, session: Session, trigger: Trigger, who: Principal) -> Session:
        applied = await self._apply(session, trigger, who)
        if applied.changed:
            log.info("session over", session_id=session.public_id, state=applied.session.state, by=who.role)
            await self._announcer.changed(applied.session)
            if applied.session.to_settle:
                self._closer.soon(applied.session)
        return applied.session

    # --- accepting ----------------------------------------------------------------------------------------------

    async def accept(self, who: Principal, public_id: str, consent: Consent) -> Session:
        """The provider takes the call: money is held, a worker opens the room, recording begins if both consented."""
        session = await self.find(who, public_id)
        if session.provider.user_id != who.user_id:
            raise ApiError(403, "forbidden", "Only the provider can accept.")
        self._check_consent(consent)
        applied = await self._apply(session, Trigger.ACCEPT, who, provider_consented=consent.accepted)
        if not applied.changed and not self._is_stranded(applied.session):
            return applied.session
        session = applied.session
        try:
            _, opened = await asyncio.gather(self._announcer.changed(session), self._open(session, who, consent))
            return opened
        except ApiError:
            raise
        except Exception:
            log.error("room not opened", session_id=session.public_id)
            await self._fail(session, Trigger.SERVER_FAILED, "a step of opening the room failed")
            raise

    def _is_stranded(self, session: Session) -> bool:
        """Whether whoever carried out the acceptance has died on the way; all steps from there may be repeated."""
        if session.state is not State.ACCEPTED or session.worker_id is not None or session.accepted_at_ms is None:
            return False
        return self._clock.wall_ms() - session.accepted_at_ms > ACCEPT_LASTS_MS

    async def _open(self, session: Session, who: Principal, consent: Consent) -> Session:
        ref = SessionRef(
            tenant_id=session.tenant_id,
            session_id=session.id,
            session_public_id=session.public_id,
            client_id=session.client.user_id,
            provider_id=session.provider.user_id,
            kind=session.kind,
            rate=Rate(session.kind, session.minor_per_minute, session.currency, session.tariff_id),
        )
        held, (wanted, recording) = await asyncio.gather(
            self._billing.open_session(ref), self._prepare_recording(session, who, consent)
        )
        if isinstance(held, BillingRefusal):
            await self._fail(session, Trigger.NO_FUNDS, held.value)
            raise billing_error(held)
        placed = await self._rooms.open(session, held.granted_live_ms)
        if placed is None:
            await self._fail(session, Trigger.SERVER_FAILED, "no worker took the room")
            raise ApiError(503, "no_capacity", "No media server is free at the moment. Try again shortly.")
        started = recording is not None and await self._rooms.record(
            session, placed, recording.public_id, recording.key_id, recording.wrapped_key
        )
        if wanted and not started and self._unrecorded_refused:
            await self._closer.give_back(session, placed)
            await self._fail(session, Trigger.SERVER_FAILED, "it cannot be recorded")
            raise _unrecordable()
        recording_state = "recording" if started else "failed" if wanted else "off"
        return await self._opened(session, placed, recording_state, recording)

    async def _opened(
        self, session: Session, placed: Placed, recording_state: str, recording: NewRecording | None
    ) -> Session:
        applied = await self._apply(
            session,
            Trigger.ROOM_OPENED,
            worker_id=placed.worker_id,
            room_epoch=placed.epoch,
            recording=recording_state,
            recording_public_id=None if recording is None else recording.public_id,
        )
        if not applied.changed:  # hung up in the meantime: the room and the money are given back
            await self._closer.give_back(applied.session, placed)
            return applied.session
        log.info("room opened", session_id=session.public_id, worker_id=placed.worker_id, room_epoch=placed.epoch)
        await self._announcer.changed(applied.session)
        return await self._unagreed.look_again(applied.session)

    async def _prepare_recording(
        self, session: Session, who: Principal, consent: Consent
    ) -> tuple[bool, NewRecording | None]:
        """The provider's answer is stored; a recording is made when the client's stored answer is yes as well.

        (Whether the call is to be recorded, the recording: None also when the keys' store is away.)
        """
        await self._consent(session, who, consent)
        return (False, None) if session.kind == "chat" else await self._new_recording(session, session.kind)

    async def _new_recording(self, session: Session, kind: str) -> tuple[bool, NewRecording | None]:
        ids = [person.user_id for person in session.people]
        if not await self._recordings.consented(session.tenant_id, session.id, ids):
            return False, None
        try:
            return True, await self._recordings.create(
                session.tenant_id,
                session.id,
                session.public_id,
                kind,
                [(p.user_id, p.public_id, p.name, p.role) for p in session.people],
                self._clock.wall_ms(),
            )
        except ConsentMissing:  # taken back at this moment
            return False, None
        except (ObjectStoreError, UnknownKey) as error:  # away, or destroyed: what was recorded before was erased
            log.error("no key for a recording", session_id=session.public_id, why=str(error))
            return True, None

    async def begin_recording(self, session: Session, kind: str) -> Session:
        """A chat goes on with media: it is recorded from then on, if both have agreed. Raises ``ApiError`` where it has
        to be recorded and cannot be."""
        wanted, recording = await self._new_recording(session, kind)
        if not wanted or session.worker_id is None:
            return session
        placed = Placed(session.worker_id, session.room_epoch)
        started = recording is not None and await self._rooms.record(
            session, placed, recording.public_id, recording.key_id, recording.wrapped_key
        )
        if not started and self._unrecorded_refused:
            raise _unrecordable()
        noted = await self._store.note(
            session.tenant_id,
            session.id,
            "recording_started" if started else "recording_failed",
            now_ms=self._clock.wall_ms(),
            recording="recording" if started else "failed",
            recording_public_id=None if recording is None else recording.public_id,
        )
        return await self._unagreed.look_again(noted)

    async def _fail(self, session: Session, trigger: Trigger, why: str) -> None:
        applied = await self._apply(session, trigger, why=why)
        if applied.changed:
            log.warning("session failed", session_id=session.public_id, why=why)
            await self._announcer.changed(applied.session)
        if applied.session.to_settle:
            self._closer.soon(applied.session)

    # --- in the call --------------------------------------------------------------------------------------------

    async def join(self, who: Principal, message: JoinRoom) -> RoomAnswer:
        """A participant's page offers; the worker answers."""
        session = await self.find(who, message.session_id)
        answer = await self._rooms.join(who, session, message)
        due = await self._recordings.announcements.due(session.tenant_id, session.kind)
        told = None if due is None else AnnouncementView(**due._asdict())
        return answer.model_copy(update={"announcement": told})

    async def mute(self, who: Principal, message: SetMuted) -> None:
        """A participant says what it mutes; the worker and the other side are told."""
        session = await self.find(who, message.session_id)
        declared = await self._rooms.declare(who, session, message.muted)
        await self._announcer.muted(session, who.user_id, declared)

    async def stats(self, who: Principal, message: RoomStats) -> None:
        """A participant's page tells what its getStats says."""
        await self._rooms.report(who, await self.find(who, message.session_id), message)

    # --- helpers ------------------------------------------------------------------------------------------------

    def _check_consent(self, consent: Consent) -> None:
        if consent.version not in (self._consent_version, ATTESTED):
            raise ApiError(409, "consent_outdated", "The text on recording has changed. Read it and answer again.")

    async def _consent(self, session: Session, who: Principal, consent: Consent) -> None:
        if consent.version == ATTESTED:
            return
        stored = await self._recordings.give_consent(
            session.tenant_id, session.id, who.user_id, consent.version, consent.accepted
        )
        if not stored:
            raise ApiError(409, "consent_outdated", "The text on recording has changed. Read it and answer again.")

    async def _apply(
        self, session: Session, trigger: Trigger, who: Principal | None = None, why: str = "", **columns: object
    ) -> Applied:
        applied = await self._store.apply(
            session.tenant_id,
            SessionId(session.id),
            trigger,
            now_ms=self._clock.wall_ms(),
            actor=None if who is None else who.user_id,
            why=why,
            **columns,
        )
        if applied.verdict is Verdict.REFUSED and who is not None:
            state = applied.session.state
            raise ApiError(
                409,
                "session_over" if applied.session.over else "wrong_state",
                _OVER.get(state, f"That is not possible while the session is {state}."),
                state=state.value,
            )
        return applied


def _unrecordable() -> ApiError:
    return ApiError(
        503, "cannot_record", "Calls have to be recorded here, and cannot be at the moment. Try again later."
    )


def billing_error(refusal: BillingRefusal) -> ApiError:
    """A refusal of billing's as the client sees it."""
    status = 402 if refusal is BillingRefusal.INSUFFICIENT_FUNDS else 409
    return ApiError(status, refusal.value, refusal.message)
