"""Rooms on workers, as control sees them: who is there to take one, and the commands about one.

A refusal of the worker becomes the refusal that the client sees; ``WorkerUnreachable`` passes through.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable
from typing import Any, Final

from redis.asyncio import Redis

from billing.terms import MeterOutcome
from config.clock import Clock
from config.http import ApiError
from config.identity import Principal
from config.ids import PublicId, RoomEpoch, SessionId, TenantId, WorkerId, shard_of
from config.logs import get_log
from relay.bus import BUS_ERRORS, ControlBus, MediaLog, WorkerUnreachable
from relay.messages import (
    Closed,
    CloseRoom,
    Command,
    DeclareState,
    Done,
    Event,
    KindSet,
    Negotiate,
    Negotiated,
    OpenRoom,
    PageTrack,
    ParticipantSpec,
    Refused,
    Reply,
    ReportStats,
    SessionKind,
    SetGrant,
    SetKind,
    Source,
    StartRecording,
    StopRecording,
)
from relay.messages_status import WorkerStatus
from signaling.client_messages import JoinRoom, RoomAnswer, RoomStats, RoomTrack
from signaling.lifecycle import IN_CALL
from signaling.store import Session, SweepRow
from signaling.turn import TurnServers

REGISTRY_EVERY_S: Final = 0.25
GONE_AFTER_MS: Final = 5_000
"""A room whose worker has not told of it for so long is lost: longer than Redis needs to come back empty and hear
from every worker again."""
EXPIRED_AFTER_MS: Final = 500
"""A worker whose status has expired, while others are heard and Redis has long been there, is dead so much later."""
TRIES_MAX: Final = 3
"""Workers that are asked to take a room, one after the other."""
OPEN_TIMEOUT_MS: Final = 1_500
CLOSE_TIMEOUT_MS: Final = 6_000
RECORD_TIMEOUT_MS: Final = 4_000
RECORD_TRIES_MAX: Final = 2
"""A worker answers once the spool of a recorded room is on its disk."""
MUTED_TTL_S: Final = 86_400

log = get_log("signaling.rooms")

_STATUS_OF: Final[dict[str, tuple[int, str]]] = {
    "bad_sdp": (400, "The session description cannot be read, or asks for what is not offered."),
    "unknown_room": (409, "The room is not there any more."),
    "stale_epoch": (409, "The room has moved. Wait for the session's update and join again."),
    "transport_gone": (409, "The connection is gone. Offer again with a fresh RTCPeerConnection."),
    "unknown_participant": (403, "You are no participant of this room."),
    "worker_full": (503, "No room is free at the moment. Try again shortly."),
    "worker_draining": (503, "No room is free at the moment. Try again shortly."),
}
"""A worker's refusals, as clients see them; any other is a fault of ours."""


class Placed:
    """Where a room was opened."""

    __slots__ = ("epoch", "worker_id")

    def __init__(self, worker_id: WorkerId, epoch: RoomEpoch) -> None:
        self.worker_id, self.epoch = worker_id, epoch


def candidates(workers: Iterable[WorkerStatus]) -> list[WorkerStatus]:
    """Workers that take rooms, best first: the least loaded, then the one with the fewest rooms."""
    free = [worker for worker in workers if not worker.draining]
    return sorted(free, key=lambda worker: (round(worker.load, 1), len(worker.rooms), worker.worker_id))


class Rooms:
    """Opens, negotiates and closes rooms, and knows the workers. ``watch`` keeps the registry fresh."""

    def __init__(self, bus: ControlBus, redis: Redis, turn: TurnServers, clock: Clock) -> None:
        self._bus = bus
        self._redis = redis
        self._turn = turn
        self._clock = clock
        self._workers: list[WorkerStatus] = []
        self._read_at_ns: int | None = None
        self._readable_since_ns = 0
        self._gone: set[str] = set()
        self._changed = asyncio.Event()
        self._missing_since_ns: dict[tuple[SessionId, RoomEpoch, WorkerId | None], int] = {}

    async def unread(self, shard: int) -> list[Event]:
        """What workers have told in a shard and nobody has taken in yet."""
        return await MediaLog(self._redis).unread(shard)

    async def watch(self) -> None:
        """Read the registry again and again; for a task of its own."""
        while True:
            try:
                await self.refresh()
                await self._bus.tell_presence()
            except BUS_ERRORS as error:
                self._read_at_ns = None
                log.warning("worker registry unreachable", why=str(error))
            except Exception:  # noqa: BLE001 - a loop's boundary: without it rooms of dead workers stay where they are
                self._read_at_ns = None
                log.fault("worker registry not read")
            await asyncio.sleep(REGISTRY_EVERY_S)

    async def refresh(self) -> None:
        """Read the registry now."""
        told = await self._bus.registry()
        before = {(worker.worker_id, worker.draining) for worker in self._workers}
        self._workers = [worker for worker in told if not worker.gone]
        self._gone = {worker.worker_id for worker in told if worker.gone}
        now = self._clock.monotonic_ns()
        if self._read_at_ns is None:
            self._readable_since_ns = now
        self._read_at_ns = now
        if before != {(worker.worker_id, worker.draining) for worker in self._workers}:
            self._changed.set()

    async def wait_for_change(self, at_most_s: float) -> None:
        """Wait until a worker came, went or is being drained, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._changed.wait()
        self._changed.clear()

    @property
    def workers(self) -> list[WorkerStatus]:
        """The workers, as of the last reading."""
        return self._workers

    def find_lost(self, sessions: Iterable[Session | SweepRow]) -> set[SessionId]:
        """Which of the sessions' rooms are lost. Call it about once a second, and when the workers have changed.

        A room is lost at once when its worker was seen to end, soon after its worker's status has expired, and
        otherwise when no worker has told of it for ``GONE_AFTER_MS``.
        """
        if self._read_at_ns is None:
            self._missing_since_ns.clear()  # the registry cannot be read: that says nothing about rooms
            return set()
        held = {(worker.worker_id, *room) for worker in self._workers for room in worker.rooms}
        now = self._clock.monotonic_ns()
        missing: dict[tuple[SessionId, RoomEpoch, WorkerId | None], int] = {}
        for s in sessions:
            if s.state in IN_CALL and (s.worker_id, s.id, s.room_epoch) not in held:
                key = (s.id, s.room_epoch, s.worker_id)
                missing[key] = self._missing_since_ns.get(key, now)
        self._missing_since_ns = missing
        there = {worker.worker_id for worker in self._workers}
        settled = bool(there) and now - self._readable_since_ns >= GONE_AFTER_MS * 1_000_000
        lost = set()
        for (session_id, _, worker_id), since in missing.items():
            patience_ms = EXPIRED_AFTER_MS if settled and worker_id not in there else GONE_AFTER_MS
            if worker_id in self._gone or now - since >= patience_ms * 1_000_000:
                lost.add(session_id)
        return lost

    def is_draining(self, worker_id: WorkerId | None) -> bool:
        """Whether that worker wants to be rid of its rooms."""
        return any(worker.worker_id == worker_id and worker.draining for worker in self._workers)

    def any_free(self) -> bool:
        """Whether there is a worker that takes rooms."""
        return bool(candidates(self._workers))

    def told_of(self, shards: set[int]) -> list[tuple[WorkerId, SessionId, RoomEpoch]]:
        """Every room that a worker tells of in these shards."""
        return [
            (WorkerId(worker.worker_id), SessionId(session_id), RoomEpoch(epoch))
            for worker in self._workers
            for session_id, epoch in worker.rooms
            if shard_of(SessionId(session_id)) in shards
        ]

    async def open(self, session: Session, granted_live_ms: int, revision: int = 0) -> Placed | None:
        """Open the session's room on the best worker that takes it; None: none does. ``revision``: of the terms that
        its kind is of, where they have changed.

        A worker that does not answer may have opened it all the same, so the next one gets a higher epoch.
        """
        if not self._workers:
            await self.refresh()
        epoch = session.room_epoch
        # Where the room was lost it is tried again last: what it met there it may meet again.
        free = sorted(candidates(self._workers), key=lambda worker: worker.worker_id == session.worker_id)
        for worker in free[:TRIES_MAX]:
            epoch = RoomEpoch(epoch + 1)
            try:
                reply = await self._bus.call(
                    WorkerId(worker.worker_id),
                    _open_command(session, epoch, granted_live_ms, revision),
                    OPEN_TIMEOUT_MS,
                )
            except WorkerUnreachable as error:
                log.warning("worker did not open the room", session_id=session.public_id, why=str(error))
                continue
            if isinstance(reply, Done):
                return Placed(WorkerId(worker.worker_id), epoch)
            log.warning("worker refused the room", session_id=session.public_id, worker_id=worker.worker_id, why=reply)
        return None

    async def record(
        self, session: Session, placed: Placed, recording_public_id: PublicId, key_id: str, wrapped_key: bytes
    ) -> bool:
        """Have the room recorded from now on; whether its spool is open. What cannot be begun is called off."""
        command = StartRecording(
            tenant_id=session.tenant_id,
            session_id=session.id,
            epoch=placed.epoch,
            recording_public_id=recording_public_id,
            key_id=key_id,
            wrapped_key=wrapped_key,
        )
        reply: Reply = Refused(code="internal", message="not asked")
        for _ in range(RECORD_TRIES_MAX):
            try:
                reply = await self._bus.call(placed.worker_id, command, RECORD_TIMEOUT_MS)
            except WorkerUnreachable as error:
                reply = Refused(code="internal", message=str(error))
            if isinstance(reply, Done):
                return True
        log.error("recording did not start", session_id=session.public_id, why=reply)
        stop = StopRecording(
            tenant_id=session.tenant_id,
            session_id=session.id,
            epoch=placed.epoch,
            recording_public_id=recording_public_id,
        )
        try:  # a slow disk may yet begin what people are told has failed
            await self._bus.call(placed.worker_id, stop, RECORD_TIMEOUT_MS)
        except WorkerUnreachable as error:
            log.warning("recording not called off", session_id=session.public_id, why=str(error))
        return False

    async def join(self, who: Principal, session: Session, message: JoinRoom) -> RoomAnswer:
        """Negotiate a participant's offer. Raises ``ApiError``."""
        worker_id = _worker_of(session)
        command = Negotiate(
            tenant_id=session.tenant_id,
            session_id=session.id,
            epoch=session.room_epoch,
            user_id=who.user_id,
            sdp=message.sdp,
            sources=message.sources,
            fresh=message.fresh,
        )
        reply, muted = await asyncio.gather(self._call(worker_id, command), self._muted(session))
        if not isinstance(reply, Negotiated):
            raise refusal(reply)
        tracks = [RoomTrack(mid=t.mid, user_id=t.participant, source=t.source) for t in reply.tracks]
        return RoomAnswer(
            sdp=reply.sdp,
            room_epoch=session.room_epoch,
            tracks=tracks,
            muted=muted,
            ice_servers=self._turn.for_user(who.public_id, self._clock.wall_ms()),
        )

    async def declare(self, who: Principal, session: Session, muted: dict[Source, bool]) -> dict[Source, bool]:
        """Tell the worker what a participant says of its own sources; returns all it has said. Raises ``ApiError``."""
        worker_id = _worker_of(session)
        key = _muted_key(session.id)
        before: Any = await self._redis.hget(key, str(who.public_id))
        declared: dict[Source, bool] = {**json.loads(before or b"{}"), **muted}
        command = DeclareState(
            tenant_id=session.tenant_id,
            session_id=session.id,
            epoch=session.room_epoch,
            user_id=who.user_id,
            muted=declared,
        )
        reply = await self._call(worker_id, command)
        if not isinstance(reply, Done):
            raise refusal(reply)
        await self._redis.hset(key, str(who.public_id), json.dumps(declared))
        await self._redis.expire(key, MUTED_TTL_S)
        return declared

    async def report(self, who: Principal, session: Session, message: RoomStats) -> None:
        """Pass a page's digest to its worker. Raises ``ApiError``."""
        tracks = tuple(PageTrack(**track.model_dump()) for track in message.tracks)
        command = ReportStats(
            tenant_id=session.tenant_id,
            session_id=session.id,
            epoch=session.room_epoch,
            user_id=who.user_id,
            rtt_ms=message.rtt_ms,
            tracks=tracks,
        )
        reply = await self._call(_worker_of(session), command)
        if not isinstance(reply, Done):
            raise refusal(reply)

    async def set_grant(self, session: Session, worker_id: WorkerId, outcome: MeterOutcome) -> bool:
        """Tell the worker what is paid for; whether it heard."""
        command = SetGrant(
            tenant_id=session.tenant_id,
            session_id=session.id,
            epoch=session.room_epoch,
            granted_live_ms=outcome.granted_live_ms,
            kind=outcome.kind,
            revision=outcome.revision,
        )
        try:
            reply = await self._bus.call(worker_id, command, OPEN_TIMEOUT_MS)
        except WorkerUnreachable as error:
            log.warning("grant not heard", session_id=session.public_id, why=str(error))
            return False
        return isinstance(reply, Done)

    async def set_kind(self, session: Session, kind: SessionKind | None, revision: int = 0) -> int:
        """Tell the worker what may flow from now on (None: what does already); returns for how long the room has been
        live. Raises ``ApiError``."""
        command = SetKind(
            tenant_id=session.tenant_id, session_id=session.id, epoch=session.room_epoch, kind=kind, revision=revision
        )
        reply = await self._call(_worker_of(session), command)
        if not isinstance(reply, KindSet):
            raise refusal(reply)
        return reply.live_ms

    async def close(
        self, worker_id: WorkerId, tenant: TenantId, session_id: SessionId, epoch: RoomEpoch, reason: str
    ) -> int | None:
        """Close a room: its final live time; None: the worker does not know it. Raises ``WorkerUnreachable``."""
        command = CloseRoom(tenant_id=tenant, session_id=session_id, epoch=epoch, reason=reason)
        reply = await self._bus.call(worker_id, command, CLOSE_TIMEOUT_MS)
        await self._redis.expire(_muted_key(session_id), 60)
        return reply.live_ms if isinstance(reply, Closed) else None

    def may_answer(self, worker_id: WorkerId) -> bool:
        """Whether the worker is in the registry, or the registry cannot be read."""
        return self._read_at_ns is None or any(worker.worker_id == worker_id for worker in self._workers)

    def tells_of(self, worker_id: WorkerId | None, session_id: SessionId, epoch: RoomEpoch) -> bool:
        """Whether that worker says in the registry that it holds the room."""
        room = (session_id, epoch)
        return any(worker.worker_id == worker_id and room in worker.rooms for worker in self._workers)

    async def tell(self, worker_id: WorkerId, command: Command) -> bool:
        """Have a worker carry out a command that answers nothing; whether it did."""
        try:
            return isinstance(await self._bus.call(worker_id, command), Done)
        except WorkerUnreachable as error:
            log.warning("worker did not hear", worker_id=worker_id, command=type(command).__name__, why=str(error))
            return False

    async def order(self, session: Session, command: Command) -> None:
        """Have the session's worker carry out a command that answers nothing. Raises ``ApiError``."""
        reply = await self._call(_worker_of(session), command)
        if not isinstance(reply, Done):
            raise refusal(reply)

    async def _call(self, worker_id: WorkerId, command: Command) -> Reply:
        try:
            return await self._bus.call(worker_id, command)
        except WorkerUnreachable:
            raise ApiError(503, "worker_unreachable", "The media server does not answer. Try again.") from None

    async def _muted(self, session: Session) -> dict[str, dict[Source, bool]]:
        raw: Any = await self._redis.hgetall(_muted_key(session.id))
        return {user.decode(): json.loads(said) for user, said in raw.items()}


def _open_command(session: Session, epoch: RoomEpoch, granted_live_ms: int, revision: int) -> OpenRoom:
    people = tuple(
        ParticipantSpec(
            user_id=person.user_id,
            public_id=person.public_id,
            name=person.name,
            role="client" if person is session.client else "provider",
        )
        for person in session.people
    )
    return OpenRoom(
        tenant_id=session.tenant_id,
        session_id=session.id,
        epoch=epoch,
        session_public_id=session.public_id,
        kind=session.kind,
        participants=people,
        granted_live_ms=granted_live_ms,
        revision=revision,
    )


def _worker_of(session: Session) -> WorkerId:
    if session.over:
        raise ApiError(409, "session_over", "The session is over.")
    if session.worker_id is None or session.state not in IN_CALL:
        raise ApiError(409, "room_not_open", "The room is not open yet. Wait for the session's update.")
    return session.worker_id


def _muted_key(session_id: SessionId) -> str:
    return f"tp:muted:{session_id}"


def refusal(reply: Reply) -> ApiError:
    """A worker's refusal as the client sees it."""
    code = reply.code if isinstance(reply, Refused) else "internal"
    if code not in _STATUS_OF:
        log.error("worker refused", why=reply)
        return ApiError(502, "media_failed", "The media server met a fault. It has been logged.")
    status, message = _STATUS_OF[code]
    detail = {"why": reply.message} if isinstance(reply, Refused) and code == "bad_sdp" else {}
    return ApiError(status, code, message, **detail)
