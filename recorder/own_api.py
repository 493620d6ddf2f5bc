"""Recordings of people's own calls: where the policy lets them, from and until when; audited as with staff."""

from __future__ import annotations

from typing import Final

from config.clock import Clock
from config.http import ApiError, Call, Endpoint, View, endpoint, not_found
from config.identity import Role
from recorder import audit, retention
from recorder.catalogue import Details, Recordings
from recorder.gate import Gate, entry_of
from recorder.media_api import granted_view
from recorder.readiness import check_ready
from recorder.retention import Policy
from recorder.search import Search
from recorder.views import AccessGrant, ParticipantView

PAGE_MAX: Final = 100
PEOPLE: Final = (Role.CLIENT, Role.PROVIDER)
OWN: Final = "own"
"""The reason that is written down."""
_WORDS: Final = {
    "not_yet": "You can play this recording later.",
    "over": "The time in which you could play this recording is over.",
}


class OwnRecordingView(View):
    """A recording of the caller's own call."""

    id: str
    session_id: str
    kind: str
    state: str
    started_at_ms: int
    duration_ms: int | None
    participants: list[ParticipantView]
    available: bool
    why: str | None
    """Why not: ``not_yet``, ``over``, ``not_ready`` or ``gone``."""
    available_from_ms: int | None
    """Null while the call goes on."""
    available_until_ms: int | None


class OwnRecordings(View):
    """GET /api/v1/me/recordings: newest first."""

    recordings: list[OwnRecordingView]
    next_cursor: str | None


class OwnApi:
    """The handlers."""

    def __init__(self, recordings: Recordings, clock: Clock) -> None:
        self._recordings = recordings
        self._gate = Gate(recordings)
        self._clock = clock

    def endpoints(self) -> list[Endpoint]:
        """To be mounted by control."""
        base = "/api/v1/me/recordings"
        return [
            endpoint("GET", base, "Recordings of own calls", self.list, roles=PEOPLE, result=OwnRecordings),
            endpoint("POST", base + "/{id}/access", "Play an own one", self.access, roles=PEOPLE, result=AccessGrant),
        ]

    async def list(self, call: Call) -> OwnRecordings:
        who, limit = call.principal, call.query_int("limit", 20, 1, PAGE_MAX)
        before = call.query_int("cursor", 0, 0, 10**18) or None
        search = Search(session=call.query_text("session") or None, before=before, own=who.user_id)
        found = await self._recordings.search(who.tenant_id, search, limit + 1)
        more = str(found[limit - 1].id) if len(found) > limit else None
        policies = await self._policies(call)
        views = [self._view(call, each, policies[each.kind]) for each in found[:limit]]
        return OwnRecordings(recordings=[view for view in views if view is not None], next_cursor=more)

    async def access(self, call: Call) -> AccessGrant:
        who = call.principal
        recording = await self._recordings.find(who.tenant_id, call.id("id"))
        if recording is None or _role(call, recording) is None:
            if recording is not None:
                await self._gate.refuse(who, recording, "not a participant")
            raise not_found("recording")
        shown = self._view(call, recording, (await self._policies(call))[recording.kind])
        if shown is None:
            await self._gate.refuse(who, recording, "policy")
            raise ApiError(403, "own_not_allowed", "Recordings of this kind are played by compliance staff only.")
        await check_ready(self._gate, who, recording)
        if shown.why in _WORDS:
            await self._gate.refuse(who, recording, shown.why)
            span = {"available_from_ms": shown.available_from_ms, "available_until_ms": shown.available_until_ms}
            raise ApiError(409, f"own_{shown.why}", _WORDS[shown.why], **span)
        entry = entry_of(recording, who, audit.GRANTED, OWN)
        token, expires_at_ms = await self._recordings.grant(recording, who.user_id, entry)
        return await granted_view(self._recordings, recording, who.user_id, token, expires_at_ms)

    async def _policies(self, call: Call) -> dict[str, Policy]:
        async with self._recordings.database.transaction(call.principal.tenant_id) as connection:
            return await retention.policies(connection, call.principal.tenant_id)

    def _view(self, call: Call, recording: Details, policy: Policy) -> OwnRecordingView | None:
        """None: the policy does not let the caller see it at all."""
        rule = policy.own(_role(call, recording) or "")
        if rule is None:
            return None
        now_ms, span, why = self._clock.wall_ms(), None, None
        if recording.ended_at_ms is not None:
            span = rule.span_ms(recording.ended_at_ms)
            why = "not_yet" if now_ms < span[0] else "over" if now_ms >= span[1] else None
        if not recording.retrievable:
            why = "gone" if recording.state in ("expired", "erased") else "not_ready"
        return OwnRecordingView(
            id=recording.public_id,
            session_id=recording.session_public_id,
            kind=recording.kind,
            state=recording.state,
            started_at_ms=recording.started_at_ms,
            duration_ms=recording.duration_ms,
            participants=[ParticipantView(id=p.public_id, name=p.name, role=p.role) for p in recording.participants],
            available=why is None,
            why=why,
            available_from_ms=None if span is None else span[0],
            available_until_ms=None if span is None else span[1],
        )


def _role(call: Call, recording: Details) -> str | None:
    """What the caller was in the call."""
    return next((each.role for each in recording.participants if each.user_id == call.principal.user_id), None)
