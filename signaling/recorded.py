"""What people do about the recording of a call that goes on: pause it, resume it, take their consent back."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from config.clock import Clock
from config.http import ApiError, Body, Call, Endpoint, endpoint
from config.identity import Role
from config.logs import get_log
from recorder import audit
from recorder.announcements import is_version
from recorder.catalogue import Recordings
from relay.messages import PauseRecording
from signaling.announcer import Announcer
from signaling.director import Director
from signaling.messages import SessionView
from signaling.rooms import Rooms
from signaling.store import Session, SessionStore
from signaling.unagreed import Unagreed, goes_on, recording_of
from signaling.views import session_view

log = get_log("signaling.recorded")

PAUSE_S: Final = (1, 900)
"""For how long a recording may be paused at a time."""
V1: Final = "/api/v1"


class PauseWish(Body):
    """POST /sessions/{id}/recording/pause"""

    max_s: int = Field(default=120, ge=PAUSE_S[0], le=PAUSE_S[1])
    """It goes on by itself then."""


class Announced(Body):
    """POST /sessions/{id}/recording/announced"""

    key: str = Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
    """Made by the page for each announcement: sent again, it is stored once."""
    version: str = Field(max_length=60)
    """Of the announcement that came with the answer to ``room.join``."""
    how: Literal["clip", "tone", "shown"]


class Recorded:
    """The routes. Every change is audited before it is carried out, and both sides see it as ``recording``."""

    def __init__(
        self,
        director: Director,
        store: SessionStore,
        rooms: Rooms,
        recordings: Recordings,
        announcer: Announcer,
        clock: Clock,
    ) -> None:
        self._director = director
        self._store = store
        self._rooms = rooms
        self._recordings = recordings
        self._announcer = announcer
        self._clock = clock
        self._unagreed = Unagreed(store, rooms, recordings, announcer, clock)

    def endpoints(self) -> list[Endpoint]:
        """To be mounted by control."""
        call, people = f"{V1}/sessions/{{id}}/recording", [Role.CLIENT, Role.PROVIDER]
        provider = [Role.PROVIDER]
        return [
            endpoint(
                *("POST", f"{call}/pause", "Record nothing for a while", self.pause),
                roles=provider,
                body=PauseWish,
                result=SessionView,
            ),
            endpoint("POST", f"{call}/resume", "Record again", self.resume, roles=provider, result=SessionView),
            endpoint("POST", f"{call}/withdraw", "Take consent back", self.withdraw, roles=people, result=SessionView),
            endpoint(
                *("POST", f"{call}/announced", "The page said that the call is recorded", self.announced),
                roles=people,
                body=Announced,
                result=SessionView,
            ),
        ]

    async def pause(self, call: Call) -> SessionView:
        """The provider's page, before a card's number is said. Asked again, it counts from then."""
        session = await self._recorded(call)
        for_ms = int(call.body.max_s) * 1000
        await self._audit(call, session, audit.PAUSED, max_s=call.body.max_s)
        command = PauseRecording(**recording_of(session), for_ms=for_ms)
        await self._rooms.order(session, command)
        return await self._noted(session, "recording_paused", "paused", self._clock.wall_ms() + for_ms)

    async def resume(self, call: Call) -> SessionView:
        """Before the time is over."""
        session = await self._recorded(call)
        await self._audit(call, session, audit.RESUMED)
        await self._rooms.order(session, PauseRecording(**recording_of(session), for_ms=0))
        return await self._noted(session, "recording_resumed", "recording")

    async def withdraw(self, call: Call) -> SessionView:
        """The recording ends, the call goes on; what was recorded stays, as it was agreed to."""
        session = await self._recorded(call)
        await self._recordings.consents.withdraw(session.id, _entry(call, session, audit.WITHDRAWN))
        return session_view(await self._unagreed.stop(session))

    async def announced(self, call: Call) -> SessionView:
        """The caller's page played or showed the announcement; it goes into the recording's story and root."""
        session, body = await self._recorded(call), call.body
        if not is_version(body.version):
            raise ApiError(409, "unknown_announcement", "No such announcement is made here.")
        await self._recordings.announcements.made(
            *(session.tenant_id, session.id, call.principal.user_id, body.key, body.version, body.how)
        )
        return session_view(session)

    @property
    def now_ms(self) -> int:
        return self._clock.wall_ms()

    async def begin(self, session: Session) -> None:
        """Everybody agrees by now: a call that goes on unrecorded is recorded from here on, if it can be."""
        if session.over or session.worker_id is None or session.recording != "off" or session.kind == "chat":
            return
        try:
            changed = await self._director.begin_recording(session, session.kind)
        except ApiError as refusal:
            log.warning("a call goes on unrecorded", session_id=session.public_id, why=refusal.code)
            return
        if changed.recording != session.recording:
            await self._announcer.changed(changed)

    async def stop(self, session: Session) -> None:
        """A host platform says that somebody agrees no more: the recording ends, if there is one."""
        if goes_on(session):
            await self._unagreed.stop(session)

    async def _recorded(self, call: Call) -> Session:
        session = await self._director.find(call.principal, call.id("id"))
        if not goes_on(session):
            raise ApiError(409, "not_recording", "The call is not being recorded.", recording=session.recording)
        return session

    async def _audit(self, call: Call, session: Session, action: str, **details: object) -> None:
        await self._recordings.note(_entry(call, session, action, **details))

    async def _noted(self, session: Session, what: str, recording: str, until_ms: int | None = None) -> SessionView:
        columns: dict[str, Any] = {"recording": recording, "recording_paused_until_ms": until_ms}
        now_ms = self._clock.wall_ms()
        changed = await self._store.note(session.tenant_id, session.id, what, now_ms=now_ms, **columns)
        await self._announcer.changed(changed)
        return session_view(changed)


def _entry(call: Call, session: Session, action: str, **details: object) -> audit.NewEntry:
    who, subject = call.principal, str(session.recording_public_id)
    return audit.NewEntry(who.tenant_id, who.user_id, who.public_id, action, subject, None, dict(details))
