"""Moving a session's room to another worker: its worker died, gave the room up, or is being drained.

One move: close the room where its worker still answers → charge what was live up to then → open it on another worker
under a higher room epoch, with what is left of the grant → record on, as a new part → store worker and epoch → tell the
pages, which connect anew. The bill stands still from the first step until media flows again. Every step may be repeated
by the next leaseholder: until the row names the new worker the sweep finds the room lost, and begins again.

The old worker is fenced by the epoch: its evidence counts no more, and when it is heard of it has to close the room.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import OrderedDict, deque
from typing import Final

from billing.meter import Meter
from billing.service import Billing
from config.clock import Clock
from config.ids import SessionId, TenantId
from config.keys import UnknownKey
from config.logs import get_log
from config.metrics import counter, histogram
from config.objects import ObjectStoreError
from recorder.catalogue import Recordings
from recorder.errors import ConsentMissing
from relay.bus import WorkerUnreachable
from relay.messages import PauseRecording
from signaling.announcer import Announcer
from signaling.away import AWAY
from signaling.last_words import LastWords
from signaling.lifecycle import IN_CALL, Trigger
from signaling.rooms import Placed, Rooms
from signaling.store import Session, SessionStore
from signaling.unagreed import Unagreed

AT_ONCE_MAX: Final = 32
"""Rooms moved at a time."""
WAITING_MAX: Final = 1_000
"""Moves begun or waiting for their turn; more are found again by the sweep."""
DRAINED_AT_ONCE: Final = 4
"""Rooms taken from workers that are being drained at a time: these calls work, nothing is urgent."""
MOVES_MAX: Final = 5
MOVES_PERIOD_NS: Final = 60_000_000_000
"""At most ``MOVES_MAX`` moves of a session within this time: a call that kills its workers must not kill them all."""
PAUSE_ON_MS: Final = 120_000
"""A pause of the recording of which nobody knows when it ends goes on for so long after a move."""
PAUSE_LEFT_MS_MIN: Final = 1_000
REMEMBERED_MAX: Final = 10_000
"""Sessions whose moves are remembered for that; the one moved longest ago is forgotten first."""

log = get_log("signaling.moving")
_moves = counter(
    "turnpike_room_moves_total", "Rooms moved to another worker, by why and what came of it", ["why", "did"]
)
_move_s = histogram("turnpike_room_move_seconds", "From noticing that a room must move to its pages being told")


class Mover:
    """Moves rooms, in the background; for the leaseholder of the sessions' shards."""

    def __init__(
        self,
        store: SessionStore,
        rooms: Rooms,
        billing: Billing,
        meter: Meter,
        recordings: Recordings,
        announcer: Announcer,
        last_words: LastWords,
        clock: Clock,
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._billing = billing
        self._meter = meter
        self._recordings = recordings
        self._announcer = announcer
        self._last_words = last_words
        self._clock = clock
        self._unagreed = Unagreed(store, rooms, recordings, announcer, clock)
        self._working: dict[SessionId, asyncio.Task[None]] = {}
        self._slots = {"lost": asyncio.Semaphore(AT_ONCE_MAX), "drained": asyncio.Semaphore(DRAINED_AT_ONCE)}
        self._moved_ns: OrderedDict[SessionId, deque[int]] = OrderedDict()

    def soon(self, tenant: TenantId, session_id: SessionId, *, lost: bool) -> None:
        """Move a room that is ``lost``, or whose worker is being drained; unless that is being done already."""
        if session_id in self._working or len(self._working) >= WAITING_MAX:
            return
        why = "lost" if lost else "drained"
        found = self._last_words.now
        task = asyncio.create_task(self._try(tenant, session_id, why, found), name=f"move room of {session_id}")
        self._working[session_id] = task
        task.add_done_callback(lambda _: self._working.pop(session_id, None))

    async def finish(self) -> None:
        """Wait for what ``soon`` began."""
        await asyncio.gather(*self._working.values(), return_exceptions=True)

    async def _try(self, tenant: TenantId, session_id: SessionId, why: str, found: int) -> None:
        try:
            async with self._slots[why]:
                with _move_s.time():
                    await self._move(tenant, session_id, why, found)
        except AWAY as error:
            log.warning("room not moved, the sweep goes on", session_key=session_id, why=str(error))
        except Exception:  # noqa: BLE001 - a task's boundary: logged here once, the sweep tries again
            log.fault("moving a room failed", session_key=session_id)

    async def _move(self, tenant: TenantId, session_id: SessionId, why: str, found: int) -> None:
        session = await self._store.get(tenant, session_id)
        if session is None or session.state not in IN_CALL:
            return
        if why == "drained" and not (self._rooms.is_draining(session.worker_id) and self._rooms.any_free()):
            return  # moved in the meantime; or there is nowhere to go, and the call goes on where it is
        live_ms = await self._end(session, why, found)
        session = await self._interrupt(session, live_ms)
        if session.state not in IN_CALL:
            return
        if not self._rooms.any_free() or self._too_often(session_id):
            _moves.labels(why, "waits").inc()
            return  # until a worker comes, or the session's deadline
        granted_ms = await self._billing.carry_over(tenant, session_id, session.room_epoch, live_ms)
        terms = await self._billing.terms(tenant, session_id)
        if granted_ms is None or terms is None:
            return
        # The kind may be changing at this moment: what is charged is what holds.
        session = dataclasses.replace(session, kind=terms.rate.kind)
        placed = await self._rooms.open(session, granted_ms, terms.revision)
        if placed is None:
            _moves.labels(why, "refused").inc()
            return
        self._note_move(session_id)
        recording = await self._record_on(session, placed)
        moved = await self._store.move(
            session,
            now_ms=self._clock.wall_ms(),
            why=why,
            worker_id=placed.worker_id,
            room_epoch=placed.epoch,
            recording=recording,
        )
        if moved is None:
            await self._give_back(session, placed)
            return
        self._meter.moved(session_id, placed.epoch)
        await self._announcer.changed(moved)
        await self._unagreed.look_again(moved)
        _moves.labels(why, "moved").inc()
        log.info(
            "room moved",
            session_id=session.public_id,
            why=why,
            from_worker=session.worker_id,
            worker_id=placed.worker_id,
            room_epoch=placed.epoch,
            live_ms=live_ms,
            granted_ms=granted_ms,
        )

    async def _end(self, session: Session, why: str, found: int) -> int:
        """End the room where it is, if it is; returns how long it was live: in its worker's words where that answers,
        else by the newest evidence. ``found``: the moment at which it was found lost."""
        told: int | None = None
        if why == "drained" and session.worker_id is not None:
            try:
                told = await self._rooms.close(
                    session.worker_id, session.tenant_id, session.id, session.room_epoch, "moved"
                )
            except WorkerUnreachable as error:
                log.warning("room not closed by its worker", session_id=session.public_id, why=str(error))
        if why == "lost":  # its last words may still be waiting, where there is much to read
            await self._last_words.take(session.id, found)
        marks = [self._meter.mark(session.id), await self._billing.latest_evidence(session.tenant_id, session.id)]
        seen = [mark.live_ms for mark in marks if mark is not None and mark.epoch == session.room_epoch]
        return max([told or 0, *seen])

    async def _interrupt(self, session: Session, live_ms: int) -> Session:
        """Media does not flow: the pages are told, the clock stands still."""
        applied = await self._store.apply(
            session.tenant_id,
            session.id,
            Trigger.ROOM_LOST,
            now_ms=self._clock.wall_ms(),
            why=f"the room of epoch {session.room_epoch} ended after {live_ms} ms",
        )
        if applied.changed:
            self._meter.moved(session.id, session.room_epoch)
            await self._announcer.changed(applied.session)
        return applied.session

    async def _record_on(self, session: Session, placed: Placed) -> str:
        """Have the next part of the recording written; returns the session's ``recording``."""
        if session.recording_public_id is None:
            return session.recording
        try:
            recording = await self._recordings.create(
                session.tenant_id,
                session.id,
                session.public_id,
                session.kind,
                [(p.user_id, p.public_id, p.name, p.role) for p in session.people],
                self._clock.wall_ms(),
            )
        except ConsentMissing:  # taken back in the meantime
            return "stopped"
        except (ObjectStoreError, UnknownKey) as error:  # away, or erased meanwhile: the call goes on all the same
            log.error("no key for a recording", session_id=session.public_id, why=str(error))
            return "failed"
        started = await self._rooms.record(
            session, placed, recording.public_id, recording.key_id, recording.wrapped_key
        )
        if started and session.recording == "paused":  # before any media comes: what must not be kept is not
            pause = PauseRecording(
                tenant_id=session.tenant_id,
                session_id=session.id,
                epoch=placed.epoch,
                recording_public_id=recording.public_id,
                for_ms=_left_of_pause(session, self._clock.wall_ms()),
            )
            return "paused" if await self._rooms.tell(placed.worker_id, pause) else "failed"
        return "recording" if started else "failed"

    async def _give_back(self, session: Session, placed: Placed) -> None:
        """The session ended while its room was being opened."""
        try:
            await self._rooms.close(placed.worker_id, session.tenant_id, session.id, placed.epoch, "too_late")
        except WorkerUnreachable as error:
            log.warning("stray room left to the sweep", session_id=session.public_id, why=str(error))

    def _too_often(self, session_id: SessionId) -> bool:
        times = self._moved_ns.get(session_id, deque())
        often = len(times) == MOVES_MAX and self._clock.monotonic_ns() - times[0] < MOVES_PERIOD_NS
        if often:
            log.error("room lost again and again, not moved for now", session_key=session_id)
        return often

    def _note_move(self, session_id: SessionId) -> None:
        times = self._moved_ns.setdefault(session_id, deque(maxlen=MOVES_MAX))
        times.append(self._clock.monotonic_ns())
        self._moved_ns.move_to_end(session_id)
        while len(self._moved_ns) > REMEMBERED_MAX:
            self._moved_ns.popitem(last=False)


def _left_of_pause(session: Session, now_ms: int) -> int:
    until_ms = session.recording_paused_until_ms
    return PAUSE_ON_MS if until_ms is None else max(PAUSE_LEFT_MS_MIN, until_ms - now_ms)
