"""Host platforms that ask for consent themselves, and attest it: their keys, and what they sign."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from pydantic import Field

from config.clock import Clock
from config.database import Database
from config.http import ApiError, Body, Call, Endpoint, View, endpoint, not_found, parse
from config.identity import Role
from config.ids import is_public_id
from config.settings import Settings
from recorder import audit
from recorder.attestation import Attestations, KeyReused, PlatformKey, SignedRequest, TextDiffers, TextUnknown
from recorder.catalogue import CONSENT_VERSIONS, Recordings
from recorder.consents import Answer, Consents
from signaling.announcer import Announcer
from signaling.director import Director
from signaling.recorded import Recorded
from signaling.rooms import Rooms
from signaling.store import Session, SessionStore

V1: Final = "/api/v1"
_TIME_MAX_MS: Final = 10**14
AHEAD_MS: Final = 5_000
"""An answer cannot be given later than now, as far as clocks agree. No more than that: the answer that was given last
counts, and one that is dated ahead would outweigh what somebody says after it."""


class AnswerBody(Body):
    """What one participant answered."""

    user_id: str = Field(max_length=60)
    accepted: bool
    at_ms: int = Field(ge=0, le=_TIME_MAX_MS)


class Attestation(Body):
    """POST /sessions/{id}/consents"""

    request_key: str = Field(min_length=1, max_length=100)
    text_version: str = Field(min_length=1, max_length=40)
    text: str | None = Field(default=None, min_length=1, max_length=10_000)
    """Needed when the version is new."""
    evidence: str = Field(min_length=audit.REASON_CHARS[0], max_length=audit.REASON_CHARS[1])
    answers: list[AnswerBody] = Field(min_length=1, max_length=16)


class ConsentView(View):
    """One stored answer."""

    user_id: str
    accepted: bool
    text_version: str
    at_ms: int


class AttestedView(View):
    """What was stored, and whether everybody in the session agreed."""

    session_id: str
    consents: list[ConsentView]
    all_agreed: bool


class NewPlatformKey(Body):
    """POST /platform-keys"""

    name: str = Field(min_length=1, max_length=100)
    reason: str = Field(min_length=audit.REASON_CHARS[0], max_length=audit.REASON_CHARS[1])


class RevokePlatformKey(Body):
    """POST /platform-keys/{id}/revoke"""

    reason: str = Field(min_length=audit.REASON_CHARS[0], max_length=audit.REASON_CHARS[1])


class PlatformKeyView(View):
    """A key."""

    id: str
    name: str
    created_at_ms: int
    revoked_at_ms: int | None


class MadePlatformKey(PlatformKeyView):
    """A new key; the secret is shown this once."""

    secret: str


class PlatformKeys(View):
    """GET /platform-keys: newest first."""

    keys: list[PlatformKeyView]


class Attested:
    """The routes."""

    def __init__(self, attestations: Attestations, store: SessionStore, recorded: Recorded) -> None:
        self._attestations = attestations
        self._store = store
        self._recorded = recorded

    def endpoints(self) -> list[Endpoint]:
        """To be mounted by control."""
        keys, admin = f"{V1}/platform-keys", [Role.ADMIN]
        revoke, one = f"{keys}/{{id}}/revoke", PlatformKeyView
        return [
            endpoint("GET", keys, "Keys of host platforms", self.keys, roles=admin, result=PlatformKeys),
            endpoint(
                *("POST", keys, "Make a key", self.make),
                roles=admin,
                body=NewPlatformKey,
                result=MadePlatformKey,
                status=201,
            ),
            endpoint("POST", revoke, "End a key", self.revoke, roles=admin, body=RevokePlatformKey, result=one),
            endpoint(
                *("POST", f"{V1}/sessions/{{id}}/consents", "Attest consent", self.attest),
                roles=None,
                result=AttestedView,
            ),
        ]

    async def keys(self, call: Call) -> PlatformKeys:
        found = await self._attestations.keys(call.principal.tenant_id)
        return PlatformKeys(keys=[PlatformKeyView(**_shown(key)) for key in found])

    async def make(self, call: Call) -> MadePlatformKey:
        entry = _entry(call, audit.PLATFORM_KEY_MADE, call.body.reason)
        key = await self._attestations.make_key(call.principal.tenant_id, call.body.name, entry)
        if key is None:
            raise ApiError(409, "too_many_keys", "Revoke keys that are not in use first.")
        return MadePlatformKey(**_shown(key), secret=self._attestations.secret(key))

    async def revoke(self, call: Call) -> PlatformKeyView:
        entry = _entry(call, audit.PLATFORM_KEY_REVOKED, call.body.reason)
        key = await self._attestations.revoke(call.principal.tenant_id, call.id("id"), entry)
        if key is None:
            raise not_found("key")
        return PlatformKeyView(**_shown(key))

    async def attest(self, call: Call) -> AttestedView:
        body = await call.request.read()
        names = ("Turnpike-Key", "Turnpike-Timestamp", "Turnpike-Signature")
        key_id, timestamp, signed = (call.request.headers.get(name, "") for name in names)
        request = SignedRequest(key_id, timestamp, signed, call.request.method, call.request.path, body)
        key = await self._attestations.signer(request)
        if key is None:
            raise ApiError(401, "bad_signature", "The request is not signed by a key that holds, or too old.")
        wish = parse(Attestation, body or b"{}")
        session = await self._session(key, call.id("id"))
        try:
            consents = await self._attestations.taken(key, session.id, wish.request_key, body)
            if consents is None:
                consents = await self._take(key, session, wish, body)
        except KeyReused:
            raise ApiError(409, "request_key_used", "The request key was used for something else.") from None
        agreed = await self._carry_out(session)
        return AttestedView(
            session_id=session.public_id, consents=[ConsentView(**c) for c in consents], all_agreed=agreed
        )

    async def _carry_out(self, session: Session) -> bool:
        """Record, or record no more, as everybody's last answers are by now; also for a request that was taken before:
        the worker may not have been there then, and what is so already changes nothing."""
        people = [person.user_id for person in session.people]
        agreed = await self._attestations.agreed(session.tenant_id, session.id, people)
        fresh = await self._store.get(session.tenant_id, session.id)
        if fresh is not None:
            await (self._recorded.begin(fresh) if agreed else self._recorded.stop(fresh))
        return agreed

    async def _session(self, key: PlatformKey, public_id: str) -> Session:
        session = await self._store.by_public_id(key.tenant_id, public_id) if is_public_id(public_id, "ses") else None
        if session is None:
            raise not_found("session")
        return session

    async def _take(self, key: PlatformKey, session: Session, wish: Attestation, body: bytes) -> list[dict[str, Any]]:
        if session.over:
            raise ApiError(409, "session_over", "The session is over.")
        if wish.text_version in CONSENT_VERSIONS:
            raise ApiError(409, "text_differs", "That version stands for a text of Turnpike's own.")
        people = {person.public_id: person.user_id for person in session.people}
        now_ms = self._recorded.now_ms
        strangers = [each.user_id for each in wish.answers if each.user_id not in people]
        if strangers or len({each.user_id for each in wish.answers}) != len(wish.answers):
            raise ApiError(400, "bad_request", "Answers are of the session's participants, one of each.")
        if any(each.at_ms > now_ms + AHEAD_MS for each in wish.answers):
            raise ApiError(400, "bad_request", "An answer cannot be given in the future.")
        answers = [
            Answer(people[each.user_id], wish.text_version, each.accepted, wish.evidence.strip(), each.at_ms)  # type: ignore[index]
            for each in wish.answers
        ]
        entry = audit.NewEntry(
            *(key.tenant_id, None, key.public_id, audit.ATTESTED, session.public_id, wish.evidence.strip()),
            details={
                "request_key": wish.request_key,
                "text_version": wish.text_version,
                "answers": [each.model_dump() for each in wish.answers],
            },
        )
        both = {person.user_id: person.public_id for person in session.people}
        try:
            return await self._attestations.take(
                key, wish.request_key, body, session.id, both, answers, wish.text, entry
            )
        except TextUnknown:
            raise ApiError(409, "unknown_text", "Send the text along with a version that is new.") from None
        except TextDiffers:
            raise ApiError(409, "text_differs", "That version stands for another text.") from None


def endpoints(
    settings: Settings,
    database: Database,
    director: Director,
    sessions: SessionStore,
    rooms: Rooms,
    recordings: Recordings,
    announcer: Announcer,
    clock: Clock,
) -> list[Endpoint]:
    """What people and platforms say about recordings of calls that go on."""
    recorded = Recorded(director, sessions, rooms, recordings, announcer, clock)
    attestations = Attestations(database, Consents(database, clock), clock, settings)
    return [*recorded.endpoints(), *Attested(attestations, sessions, recorded).endpoints()]


def _entry(call: Call, action: str, reason: str) -> audit.NewEntry:
    who = call.principal
    return audit.NewEntry(who.tenant_id, who.user_id, who.public_id, action, "", reason.strip())


def _shown(key: PlatformKey) -> dict[str, Any]:
    shown = dataclasses.asdict(key)
    return {"id": key.public_id} | {name: shown[name] for name in ("name", "created_at_ms", "revoked_at_ms")}
