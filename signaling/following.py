"""What happens to sessions by itself: media that flows or halts, money that runs out, deadlines, workers that die.

Only the leaseholder of a session's shard follows it. The sweep, about once a second, is also what heals: whatever a
control process left half done when it died shows in the rows that the sweep reads.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final

from billing.meter import Meter
from billing.service import Billing
from billing.terms import MeterOutcome
from config.clock import Clock
from config.ids import SHARDS, RoomEpoch, SessionId, TenantId, UserId, WorkerId
from config.logs import get_log
from relay.bus import WorkerUnreachable
from relay.messages import (
    Event,
    LayersWanted,
    MediaEvidence,
    MediaInterrupted,
    MediaResumed,
    MediaStarted,
    NegotiationNeeded,
    QualityMeasured,
    RecordingPaused,
    RecordingStopped,
    RoomClosed,
)
from signaling.announcer import Announcer
from signaling.away import AWAY
from signaling.closing import Closer
from signaling.connection_history import ConnectionEvent, ConnectionHistory
from signaling.kinds import kind_columns
from signaling.last_words import LastWords
from signaling.lifecycle import IN_CALL, LIVE, OVER, State, Trigger
from signaling.moving import Mover
from signaling.quality import QualityKeeper
from signaling.rooms import Rooms
from signaling.store import Session, SessionStore, SweepRow
from signaling.timeline_store import TimelineStore

KNOWN_MAX: Final = 20_000
"""Sessions remembered between events; the one not heard of for longest goes first and is read again when needed."""
SETTLE_GRACE_MS: Final = 2_000
"""The process that ended a session winds it up; the sweep takes over when it has not by then."""
WORKER_PATIENCE_MS: Final = 20_000
"""A worker that tells of the room but does not close it is asked again for so long; then its evidence decides."""
STRAY_GRACE_NS: Final = 10_000_000_000
"""A room that no session knows may be one that is just being opened; one of an older epoch is closed at once."""
NOTE_PATIENCE_S: Final = 2.0
"""The next tick waits for everybody's notes."""
AT_ONCE: Final = 16
QUALITY_EVERY: Final = 2
"""Evidence comes once a second; every second one is shown, and what cannot wait."""

log = get_log("signaling.following")


class Follower:
    """Follows the sessions of the leased shards."""

    def __init__(
        self,
        store: SessionStore,
        rooms: Rooms,
        billing: Billing,
        meter: Meter,
        announcer: Announcer,
        closer: Closer,
        mover: Mover,
        quality: QualityKeeper,
        connections: ConnectionHistory,
        notes: TimelineStore,
        last_words: LastWords,
        clock: Clock,
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._billing = billing
        self._meter = meter
        self._announcer = announcer
        self._closer = closer
        self._mover = mover
        self._quality = quality
        self._connections = connections
        self._notes = notes
        self._last_words = last_words
        self._clock = clock
        self._known: OrderedDict[SessionId, Session] = OrderedDict()
        self._unsettled: frozenset[SessionId] = frozenset()
        """Sessions that were live or not settled at the last sweep."""
        self._strays_since_ns: dict[tuple[WorkerId, SessionId, RoomEpoch], int] = {}
        self._handlers: dict[type[Any], Callable[[Session, Any], Awaitable[None]]] = {
            MediaStarted: self._flows,
            MediaResumed: self._flows,
            MediaInterrupted: self._halts,
            MediaEvidence: self._evidence,
            LayersWanted: self._layers,
            NegotiationNeeded: self._renegotiate,
            QualityMeasured: self._quality_measured,
            RecordingStopped: self._recording_stopped,
            RecordingPaused: self._recording_paused,
            RoomClosed: self._closed,
        }

    # --- events of workers ----------------------------------------------------------------------------------------

    async def on_event(self, event: Event) -> None:
        """One media event of a leased shard. Events of other room epochs than the session's are dropped."""
        handler = self._handlers.get(type(event))
        if handler is None and not isinstance(event, ConnectionEvent):
            return
        tenant, session_id = TenantId(event.tenant_id), SessionId(event.session_id)
        session = self._known.get(session_id)
        if session is None or session.room_epoch != event.epoch:
            session = await self._store.get(tenant, session_id)
            if session is None:
                log.warning("event of an unknown session", session_key=session_id, worker_id=event.worker_id)
                return
            self._remember(session)
        if isinstance(event, ConnectionEvent):  # of any epoch: that the old worker let a page go is part of the story
            self._connections.take(session, event)
        elif session.room_epoch == event.epoch and handler is not None:
            await handler(session, event)

    async def written(self) -> bool:
        """Have what was taken in of connections written, before those events are acknowledged. False: it cannot be."""
        return await self._connections.keep()

    async def _flows(self, session: Session, _: Event) -> None:
        await self._apply(session, Trigger.MEDIA_FLOWS)

    async def _halts(self, session: Session, event: MediaInterrupted) -> None:
        await self._apply(session, Trigger.MEDIA_HALTS, f"user {event.user_id} is gone")

    async def _evidence(self, session: Session, event: MediaEvidence) -> None:
        # In case the event that said so was lost:
        if event.running and session.state in (State.CONNECTING, State.INTERRUPTED):
            await self._apply(session, Trigger.MEDIA_FLOWS)
        gone = [side.user_id for side in event.participants if not side.connected]
        if gone and not event.running and not event.final and session.state is State.ACTIVE:
            await self._apply(session, Trigger.MEDIA_HALTS, f"users {gone} are gone")
        if (event.at_once or event.seq % QUALITY_EVERY == 0) and not session.over:
            await self._announcer.quality(session, event)

    async def _quality_measured(self, session: Session, event: QualityMeasured) -> None:
        self._quality.take(session, event)

    async def _layers(self, session: Session, event: LayersWanted) -> None:
        if not session.over:
            await self._announcer.layers(session, event)

    async def _renegotiate(self, session: Session, event: NegotiationNeeded) -> None:
        await self._announcer.renegotiate(session, UserId(event.user_id))

    async def _recording_paused(self, session: Session, event: RecordingPaused) -> None:
        """A pause begins, or is over: also when its time ran out and nobody asked."""
        before, after = ("recording", "paused") if event.paused else ("paused", "recording")
        session = await self._store.get(session.tenant_id, session.id) or session  # a person may just have said so
        if session.over or session.recording != before or session.recording_public_id != event.recording_public_id:
            return
        what = "recording_paused" if event.paused else "recording_resumed"
        changed = await self._store.note(
            session.tenant_id, session.id, what, now_ms=self._clock.wall_ms(), recording=after
        )
        self._remember(changed)
        await self._announcer.changed(changed)

    async def _recording_stopped(self, session: Session, event: RecordingStopped) -> None:
        if session.over or session.recording not in ("recording", "paused"):
            return
        if session.recording_public_id != event.recording_public_id:
            return
        stopped = await self._store.note(
            session.tenant_id, session.id, "recording_stopped", now_ms=self._clock.wall_ms(), recording="stopped"
        )
        self._remember(stopped)
        await self._announcer.changed(stopped)

    async def _closed(self, session: Session, event: RoomClosed) -> None:
        if not session.over:
            log.info("room closed by its worker", session_id=session.public_id, reason=event.reason)
            self._mover.soon(session.tenant_id, session.id, lost=True)

    # --- outcomes of the meter -------------------------------------------------------------------------------------

    async def on_outcome(self, outcome: MeterOutcome) -> None:
        """What a tick found for one session: grant, cost, warnings, the end of the money."""
        session = self._known.get(outcome.session_id) or await self._store.get(outcome.tenant_id, outcome.session_id)
        if session is None or session.over:
            return
        self._remember(session)
        if outcome.grant_changed and session.worker_id is not None and outcome.epoch == session.room_epoch:
            await self._rooms.set_grant(session, session.worker_id, outcome)
        if outcome.exhausted:
            await self._apply(session, Trigger.MONEY_USED_UP)
            return
        if session.state in IN_CALL:  # first: it needs no database, and a warning is not given again
            await self._announcer.cost(session, outcome)
        await self._note_warnings(session, outcome)
        if outcome.kind != session.kind:
            await self._agree_on_kind(session)
        if outcome.grant_changed:
            await self._announcer.wallets(session)

    async def _note_warnings(self, session: Session, outcome: MeterOutcome) -> None:
        """For the time line. What was told is told, whether or not it can be written down."""
        try:
            async with asyncio.timeout(NOTE_PATIENCE_S):
                for seconds in outcome.warnings:
                    await self._notes.add(session, "money_ends", self._clock.wall_ms(), figure=seconds * 1000)
        except AWAY as error:
            log.warning("warning given and not noted", session_id=session.public_id, why=str(error)[:300])

    async def _agree_on_kind(self, session: Session) -> None:
        """Meter and session name different kinds. Mostly it is what is known here that is old; but whoever carried out
        a change may have died half way, and then what is charged is what holds."""
        terms = await self._billing.terms(session.tenant_id, session.id)
        if terms is None:
            return
        agreed = await self._store.note(
            session.tenant_id,
            session.id,
            "kind_changed",
            now_ms=self._clock.wall_ms(),
            why="as it is charged",
            during=IN_CALL,
            **kind_columns(terms.rate),
        )
        self._remember(agreed)
        if agreed.revision != session.revision:
            await self._announcer.changed(agreed)

    # --- the sweep ---------------------------------------------------------------------------------------------------

    async def sweep(self, shards: set[int]) -> None:
        """Look at every session of these shards that is live or not settled, and do what is due."""
        rows = await self._store.to_sweep(shards)
        self._unsettled = frozenset(row.id for row in rows)
        now = self._clock.wall_ms()
        began = self._last_words.now
        lost = self._rooms.find_lost(rows)
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(row: SweepRow) -> None:
            async with slots:
                session = await self._store.get(row.tenant_id, row.id)
                if session is not None:
                    await self._look_at(session, began)

        for row in rows:
            known = self._known.get(row.id)
            if known is not None and known.revision != row.revision:
                del self._known[row.id]
            if row.id in lost:
                self._mover.soon(row.tenant_id, row.id, lost=True)
            elif row.state in IN_CALL and self._rooms.is_draining(row.worker_id) and self._rooms.any_free():
                self._mover.soon(row.tenant_id, row.id, lost=False)
        due = [row for row in rows if _is_due(row, now) or self._store.capped(row.state, row.deadline_at_ms, now)]
        results = await asyncio.gather(*(one(row) for row in due), return_exceptions=True)
        await self._close_strays(shards, {row.id: row for row in rows})
        failures = [result for result in results if result is not None]
        if failures:
            raise failures[0]

    async def rest(self, at_most_s: float) -> None:
        """Until the next sweep is due: at once when a worker came or went."""
        await self._rooms.wait_for_change(at_most_s)

    async def _look_at(self, session: Session, began: int) -> None:
        now = self._clock.wall_ms()
        self._remember(session)
        if session.to_settle and session.ended_at_ms is not None:
            if not self._closer.busy_with(session.id):
                answers = self._rooms.tells_of(session.worker_id, session.id, session.room_epoch)
                patient = answers and now < session.ended_at_ms + WORKER_PATIENCE_MS
                if not patient and session.worker_id is not None:
                    await self._last_words.take(session.id, began)
                mark = self._meter.mark(session.id)
                seen = mark.live_ms if mark is not None and mark.epoch == session.room_epoch else 0
                await self._closer.wind_up(session, seen, without_worker=not patient)
            return
        capped = self._store.capped(session.state, session.deadline_at_ms, now)
        if capped is None:
            await self._apply(session, Trigger.DEADLINE)
            return
        log.warning("the clock was set back, a deadline is drawn in", session_id=session.public_id)
        why = "the clock was set back"
        self._remember(
            await self._store.note(
                *(session.tenant_id, session.id, "deadline_capped"), now_ms=now, why=why, deadline_at_ms=capped
            )
        )

    async def heal_meters(self, shards: set[int]) -> None:
        """Settle meters that are open though their session is over and settled: opened by a process that then died.
        To be called after ``sweep``, which knows of most that they are not."""
        for tenant, session_id in await self._billing.unsettled(shards):
            if session_id in self._unsettled:
                continue
            session = await self._store.get(tenant, session_id)
            if session is not None and session.settled_at_ms is not None:
                log.warning("meter was left open", session_id=session.public_id)
                await self._billing.settle(tenant, session_id, 0, 0)

    async def _close_strays(self, shards: set[int], live: dict[SessionId, SweepRow]) -> None:
        now = self._clock.monotonic_ns()
        strays: dict[tuple[WorkerId, SessionId, RoomEpoch], int] = {}
        for worker_id, session_id, epoch in self._rooms.told_of(shards):
            row = live.get(session_id)
            if row is not None and row.state in LIVE and (row.worker_id, row.room_epoch) == (worker_id, epoch):
                continue
            key = (worker_id, session_id, epoch)
            if row is not None and epoch < row.room_epoch:
                strays[key] = now - STRAY_GRACE_NS  # it has moved: its old worker was thought dead, and lives
                continue
            strays[key] = self._strays_since_ns.get(key, now)
        self._strays_since_ns = strays
        for (worker_id, session_id, epoch), since in strays.items():
            if now - since >= STRAY_GRACE_NS:
                log.warning("closing a room that no session knows", session_key=session_id, worker_id=worker_id)
                tenant = live[session_id].tenant_id if session_id in live else TenantId(0)
                try:
                    await self._rooms.close(worker_id, tenant, session_id, epoch, "stray")
                except WorkerUnreachable as error:
                    log.warning("stray room not closed", session_key=session_id, why=str(error))

    # --- helpers -----------------------------------------------------------------------------------------------

    async def _apply(self, session: Session, trigger: Trigger, why: str = "") -> None:
        applied = await self._store.apply(session.tenant_id, session.id, trigger, now_ms=self._clock.wall_ms(), why=why)
        self._remember(applied.session)
        if applied.changed:
            log.info("session changed", session_id=session.public_id, state=applied.session.state, by=trigger)
            await self._announcer.changed(applied.session)
            if applied.session.to_settle:
                self._closer.soon(applied.session)

    def _remember(self, session: Session) -> None:
        self._known[session.id] = session
        self._known.move_to_end(session.id)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def forget(self, shards: set[int]) -> None:
        """Forget sessions of shards that someone else leads now."""
        for session_id in [s for s in self._known if s % SHARDS in shards]:
            del self._known[session_id]


def _is_due(row: SweepRow, now_ms: int) -> bool:
    """Whether a session's deadline has passed, or it is over and nobody winds it up."""
    if row.state in OVER:
        return row.ended_at_ms is not None and now_ms - row.ended_at_ms >= SETTLE_GRACE_MS
    return row.deadline_at_ms is not None and now_ms >= row.deadline_at_ms
