"""The end of a session, after it is over in the database: close the room, settle the money, tell both.

Each step may be repeated: closing a closed room, settling a settled session. ``soon`` does it at once in the process
that ended the session; what it could not do is done by the sweep of the shard's leaseholder.
"""

from __future__ import annotations

import asyncio
from typing import Final

from billing.service import Billing
from billing.terms import Receipt, UnknownMeter
from config.clock import Clock
from config.ids import SessionId
from config.logs import get_log
from config.metrics import counter
from recorder.catalogue import Recordings, Story
from relay.bus import WorkerUnreachable
from signaling.announcer import Announcer
from signaling.away import AWAY
from signaling.rooms import Placed, Rooms
from signaling.store import Session, SessionStore

RECORDED: Final = frozenset({"recording", "paused", "waiting_for_consent"})
"""What a session's ``recording`` may be, for it to be ``stopped`` at the end."""
AT_ONCE_MAX: Final = 64
"""Sessions wound up at a time; more of them wait for the sweep."""

log = get_log("signaling.closing")
_ended = counter("turnpike_sessions_over_total", "Accepted sessions settled, by how they ended", ["state", "reason"])


class Closer:
    """Winds sessions up."""

    def __init__(
        self,
        store: SessionStore,
        rooms: Rooms,
        billing: Billing,
        recordings: Recordings,
        announcer: Announcer,
        clock: Clock,
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._billing = billing
        self._recordings = recordings
        self._announcer = announcer
        self._clock = clock
        self._working: dict[SessionId, asyncio.Task[None]] = {}

    def soon(self, session: Session) -> None:
        """Wind up in the background, unless that is being done or too much is."""
        if session.id in self._working or len(self._working) >= AT_ONCE_MAX:
            return
        task = asyncio.create_task(self._try(session), name=f"wind up {session.public_id}")
        self._working[session.id] = task
        task.add_done_callback(lambda _: self._working.pop(session.id, None))

    def busy_with(self, session_id: SessionId) -> bool:
        """Whether this process is winding that session up now."""
        return session_id in self._working

    async def finish(self) -> None:
        """Wait for what ``soon`` began; for an orderly end of the process."""
        await asyncio.gather(*self._working.values(), return_exceptions=True)

    async def _try(self, session: Session) -> None:
        try:
            await self.wind_up(session)
        except AWAY as error:
            log.warning("not wound up, the sweep goes on", session_id=session.public_id, why=str(error))
        except Exception:  # noqa: BLE001 - a task's boundary: logged here once, the sweep tries again
            log.fault("winding up failed", session_id=session.public_id)

    async def wind_up(self, session: Session, seen_live_ms: int = 0, without_worker: bool = False) -> bool:
        """Close the room and settle. False: the worker does not know, and how long the call was is to be found out.

        ``seen_live_ms``: the newest evidence that the leaseholder has of the room's present epoch. ``without_worker``:
        settle on that and on what is stored when the worker does not know. The sweep says so, once it may.
        """
        live_ms = await self._final_live_ms(session, without_worker)
        if live_ms is None:
            return False
        receipt = await self._settle(session, max(live_ms, seen_live_ms))
        await self._end_recording(session)
        recording = "stopped" if session.recording in RECORDED else session.recording
        if session.recording_public_id is None:
            recording = "off"
        settled = await self._store.note(
            session.tenant_id,
            session.id,
            "settled",
            now_ms=self._clock.wall_ms(),
            recording=recording,
            settled_at_ms=session.settled_at_ms or self._clock.wall_ms(),
        )
        _ended.labels(settled.state.value, settled.end_reason).inc()
        await self._announcer.changed(settled)
        if receipt is not None:
            await self._announcer.settled(settled, receipt)
        return True

    async def _end_recording(self, session: Session) -> None:
        """What was said and what happened goes into the recording, which is signed once its media is stored."""
        story = Story()
        if session.recording_public_id is not None:
            story = Story(*await self._store.story(session.tenant_id, session.id))
        ended_at_ms = session.ended_at_ms or self._clock.wall_ms()
        await self._recordings.end(session.tenant_id, session.id, ended_at_ms, story)

    async def _final_live_ms(self, session: Session, without_worker: bool) -> int | None:
        if session.worker_id is None:
            return 0
        live_ms = None
        try:
            if not self._rooms.may_answer(session.worker_id):
                raise WorkerUnreachable(f"{session.worker_id} is not there any more")
            live_ms = await self._rooms.close(
                session.worker_id, session.tenant_id, session.id, session.room_epoch, session.end_reason or ""
            )
        except WorkerUnreachable as error:
            log.warning("room not closed by its worker", session_id=session.public_id, why=str(error))
        if live_ms is None and without_worker:
            mark = await self._billing.latest_evidence(session.tenant_id, session.id)
            return mark.live_ms if mark.epoch == session.room_epoch else 0
        return live_ms

    async def _settle(self, session: Session, live_ms: int) -> Receipt | None:
        try:
            return await self._billing.settle(session.tenant_id, session.id, session.room_epoch, live_ms)
        except UnknownMeter:  # it was over before money was held
            return None

    async def give_back(self, session: Session, placed: Placed) -> None:
        """A room was opened for a session that was over by then: close the room, release the money."""
        log.info("session was over before its room opened", session_id=session.public_id)
        try:
            await self._rooms.close(
                placed.worker_id, session.tenant_id, session.id, placed.epoch, session.end_reason or ""
            )
        except WorkerUnreachable as error:
            log.warning("stray room left to the sweep", session_id=session.public_id, why=str(error))
        await self._settle(session, 0)
