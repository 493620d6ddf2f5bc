"""Recordings that somebody in the call agrees to no more: ended, whatever went on when they said so.

An answer is stored first. Whoever begins a recording, or has it written on somewhere else, notes that in the session's
row, and then looks at the answers again; whoever stores a no looks at the row after that. So one of the two sees the
other, in whichever order they come. And the leaseholder of a session's shard looks again from time to time.
"""

from __future__ import annotations

from typing import Any

from config.clock import Clock
from config.http import ApiError
from config.logs import get_log
from recorder.catalogue import Recordings
from relay.messages import StopRecording
from signaling.announcer import Announcer
from signaling.rooms import Rooms
from signaling.store import Session, SessionStore

log = get_log("signaling.unagreed")


class Unagreed:
    """Ends recordings. The call goes on; what was recorded stays, as it was agreed to."""

    def __init__(
        self, store: SessionStore, rooms: Rooms, recordings: Recordings, announcer: Announcer, clock: Clock
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._recordings = recordings
        self._announcer = announcer
        self._clock = clock

    async def stop(self, session: Session) -> Session:
        """Have the worker record no more, note that, and tell both sides. Raises ``ApiError`` where it does not hear;
        then nothing is noted, and it is to be tried again."""
        await self._rooms.order(session, StopRecording(**recording_of(session)))
        noted = await self._store.note(
            session.tenant_id,
            session.id,
            "consent_withdrawn",
            now_ms=self._clock.wall_ms(),
            recording="stopped",
            recording_paused_until_ms=None,
        )
        await self._announcer.changed(noted)
        return noted

    async def look_again(self, session: Session) -> Session:
        """After a recording was begun: end it, if somebody said no meanwhile."""
        if not goes_on(session):
            return session
        people = [person.user_id for person in session.people]
        if await self._recordings.consented(session.tenant_id, session.id, people):
            return session
        try:
            return await self.stop(session)
        except ApiError as error:
            log.error("a recording goes on without consent", session_id=session.public_id, why=error.code)
            return session

    async def sweep(self, shards: set[int]) -> None:
        """End the recordings of sessions of these shards that somebody agrees to no more: whoever stored that answer
        may have died, or not have reached the worker."""
        for tenant, session_id in await self._store.recorded_against(shards):
            session = await self._store.get(tenant, session_id)
            if session is not None:
                await self.look_again(session)


def goes_on(session: Session) -> bool:
    """Whether the call is being recorded."""
    return not session.over and session.recording in ("recording", "paused") and session.worker_id is not None


def recording_of(session: Session) -> dict[str, Any]:
    """What a command about the session's recording says of it."""
    return {
        "tenant_id": session.tenant_id,
        "session_id": session.id,
        "epoch": session.room_epoch,
        "recording_public_id": session.recording_public_id,
    }
