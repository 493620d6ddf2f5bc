"""A control process in the test's own loop, on real PostgreSQL and Valkey, with a scripted worker on the real bus.

``world`` does not run its loops: tests say when shards are led, events read, ticks and sweeps made, and how late it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import argon2
import pytest
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from config.clock import VirtualClock
from config.database import Database
from config.identity import Principal
from config.ids import DEFAULT_TENANT, SHARDS, PublicId, WorkerId, new_public_id
from config.settings import Settings
from recorder.announcements import Announcement
from relay.bus import ControlBus, WorkerBus
from relay.messages import (
    Closed,
    CloseRoom,
    Command,
    DeclareState,
    Done,
    Drain,
    Event,
    KindSet,
    MediaEvidence,
    MediaStarted,
    Negotiate,
    Negotiated,
    OpenRoom,
    ParticipantEvidence,
    ReceivedTrack,
    Refused,
    Reply,
    SessionKind,
    SetGrant,
    SetKind,
    StartRecording,
)
from relay.messages_status import WorkerStatus
from signaling import demo
from signaling.application import application
from signaling.assembly import Control, Servers, assemble
from signaling.client_messages import JoinRoom
from signaling.messages import Consent, ConsentText, RequestSession
from signaling.sockets import close_server
from signaling.store import Session

CONSENT = ConsentText(version="test-1", text="This call is recorded.")
YES = Consent(version="test-1", accepted=True)
NO = Consent(version="test-1", accepted=False)


@dataclass
class FakeRoom:
    """What the scripted worker remembers of a room."""

    opened: OpenRoom
    live_ms: int = 0
    seq: int = 0
    granted_ms: int = 0
    recording: str | None = None
    kind: SessionKind = "video"
    terms: int = 0
    muted: dict[int, dict[str, bool]] = field(default_factory=dict)


class FakeWorker:
    """A worker without media on the real bus: rooms are dictionaries, live time is what the test says."""

    def __init__(self, redis: Redis, clock: VirtualClock, worker_id: str = "worker-1") -> None:
        self._redis = redis
        self._clock = clock
        self.worker_id = WorkerId(worker_id)
        self.rooms: dict[int, FakeRoom] = {}
        self.closed: dict[int, Closed] = {}
        self.commands: list[Command] = []
        self.refuse: dict[type[Any], Refused] = {}
        self.silent = False
        self.load = 0.1
        self.draining = False
        self.bus = WorkerBus(redis, self.worker_id, self._carry_out)

    async def __aenter__(self) -> FakeWorker:
        await self.bus.__aenter__()
        await self.tell_status()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.bus.__aexit__()

    async def tell_status(self) -> None:
        await self.bus.tell_status(
            WorkerStatus(
                worker_id=self.worker_id,
                pid=1,
                host="test",
                addresses=("127.0.0.1",),
                port=1,
                plane="python",
                plane_reason="test",
                ops_url="",
                rooms=tuple((key, room.opened.epoch) for key, room in self.rooms.items()),
                load=self.load,
                draining=self.draining,
                started_at_ms=0,
                at_ms=0,
                version="test",
            )
        )
        await self._redis.persist(f"tp:worker:{self.worker_id}")  # a slow machine is not a dead worker

    async def _carry_out(self, command: Command) -> Reply:
        if self.silent:
            await asyncio.Event().wait()
        self.commands.append(command)
        if type(command) in self.refuse:
            return self.refuse[type(command)]
        if isinstance(command, Drain):
            self.draining = True
            await self.tell_status()
            return Done()
        room = self.rooms.get(command.session_id)
        match command:
            case OpenRoom():
                self.rooms[command.session_id] = FakeRoom(
                    command, granted_ms=command.granted_live_ms, kind=command.kind, terms=command.revision
                )
                await self.tell_status()
                return Done()
            case CloseRoom():
                if room is not None:
                    del self.rooms[command.session_id]
                    self.closed[command.session_id] = Closed(live_ms=room.live_ms, evidence_seq=room.seq)
                    await self.tell_status()
                if command.session_id in self.closed:
                    return self.closed[command.session_id]
        if room is None:
            return Refused(code="unknown_room", message="no such room")
        match command:
            case Negotiate():
                other = next(p for p in room.opened.participants if p.user_id != command.user_id)
                track = ReceivedTrack(mid="0", user_id=other.user_id, participant=other.public_id, source="microphone")
                return Negotiated(sdp="v=0 answer", tracks=(track,))
            case SetKind():
                if command.revision > room.terms:
                    room.kind, room.terms = command.kind or room.kind, command.revision
                return KindSet(kind=room.kind, live_ms=room.live_ms)
            case SetGrant():
                room.granted_ms = max(room.granted_ms, command.granted_live_ms)
                if command.kind is not None and command.revision > room.terms:
                    room.kind, room.terms = command.kind, command.revision
            case StartRecording():
                room.recording = command.recording_public_id
            case DeclareState():
                room.muted[command.user_id] = dict(command.muted)
        return Done()

    def common(self, session: Session) -> dict[str, Any]:
        return {
            "tenant_id": session.tenant_id,
            "session_id": session.id,
            "epoch": session.room_epoch,
            "worker_id": self.worker_id,
            "at_ms": self._clock.wall_ms(),
        }

    async def tell(self, *events: Event) -> None:
        await self.bus.tell_events(list(events))

    async def flow(self, session: Session) -> None:
        """Media begins to flow."""
        await self.tell(MediaStarted(**self.common(session)))

    async def live(self, session: Session, live_ms: int, running: bool = True) -> None:
        """Media has flowed for so long in total."""
        room = self.rooms[session.id]
        room.live_ms, room.seq = live_ms, room.seq + 1
        sides = tuple(ParticipantEvidence(user_id=p.user_id, connected=True) for p in room.opened.participants)
        await self.tell(
            MediaEvidence(
                **self.common(session),
                seq=room.seq,
                live_ms=live_ms,
                granted_live_ms=room.granted_ms,
                running=running,
                participants=sides,
                terms_revision=room.terms,
            )
        )


@dataclass(frozen=True)
class FakeNewRecording:
    """What creating a recording gives."""

    recording_id: int
    public_id: PublicId
    key_id: str
    wrapped_key: bytes


class FakeAnnouncements:
    """What is announced, and what pages say that they announced."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    async def due(self, _tenant: int, kind: str) -> Announcement | None:
        return None if kind == "chat" else Announcement("2026-11-1", "It is recorded.", None)

    async def made(self, *what: object) -> None:
        self.told.append(what)


class FakeRecordings:
    """Consent and recordings kept in memory."""

    def __init__(self) -> None:
        self.consents: dict[tuple[int, int], bool] = {}
        self.made: dict[int, FakeNewRecording] = {}
        self.ended: list[int] = []
        self.judged: dict[int, tuple[float, ...]] = {}
        self.announcements = FakeAnnouncements()

    async def give_consent(self, _tenant: int, session_id: int, user_id: int, version: str, accepted: bool) -> bool:
        if version != CONSENT.version:
            return False
        self.consents[session_id, user_id] = accepted
        return True

    async def consented(self, _tenant: int, session_id: int, user_ids: list[int]) -> bool:
        return all(self.consents.get((session_id, user_id), False) for user_id in user_ids)

    async def create(self, _tenant: int, session_id: int, _public_id: str, kind: str, *_: object) -> FakeNewRecording:
        assert kind in ("audio", "video")
        made = FakeNewRecording(session_id, new_public_id("rec"), "key-1", b"wrapped")
        return self.made.setdefault(session_id, made)

    async def end(self, _tenant: int, session_id: int, _ended_at_ms: int, _story: object) -> None:
        self.ended.append(session_id)

    async def note_quality(self, _tenant: int, session_id: int, *figures: float) -> None:
        self.judged[session_id] = figures


class World:
    """One control process, its people, and a worker."""

    def __init__(self, control: Control, worker: FakeWorker, clock: VirtualClock, recordings: FakeRecordings) -> None:
        self.control, self.worker, self.clock, self.recordings = control, worker, clock, recordings
        self.people: dict[str, Principal] = {}
        self._requests = 0

    @property
    def client(self) -> Principal:
        return self.people["client"]

    @property
    def ada(self) -> Principal:
        return self.people["ada"]

    @property
    def ben(self) -> Principal:
        return self.people["ben"]

    async def settle_in(self, settings: Settings) -> None:
        await demo.furnish(settings, self.control.people, self.control.billing)
        for name in ("client", "ada", "ben", "compliance", "admin"):
            user = await self.control.people.by_email(DEFAULT_TENANT, f"{name}@demo.test")
            assert user is not None
            self.people[name] = user.principal
        for who in (self.client, self.ada, self.ben):
            await self.control.presence.heard(who, f"device of {who.name}")
        await self.control.rooms.refresh()
        await self.control.leases.refresh()

    def wish(self, provider: Principal | None = None, kind: Any = "video", consent: Consent = YES) -> RequestSession:
        self._requests += 1
        return RequestSession(
            provider_id=(provider or self.ada).public_id,
            kind=kind,
            consent=consent,
            request_key=f"request-{self._requests}",
        )

    async def ring(self, provider: Principal | None = None, consent: Consent = YES) -> Session:
        return await self.control.director.request(self.client, self.wish(provider, consent=consent))

    async def connect(self, consent: Consent = YES) -> Session:
        """A call that Ada has accepted."""
        session = await self.ring()
        return await self.control.director.accept(self.ada, session.public_id, consent)

    async def call(self) -> Session:
        """A call in which media flows."""
        session = await self.connect()
        await self.worker.flow(session)
        await self.read()
        return await self.get(session)

    async def get(self, session: Session) -> Session:
        found = await self.control.sessions.get(session.tenant_id, session.id)
        assert found is not None
        return found

    async def read(self) -> None:
        """Take in what the worker has told."""
        shards = self.control.shards
        with contextlib.suppress(TimeoutError):
            await shards._read()

    async def tick(self) -> None:
        """One regular tick of the meter, and its consequences."""
        outcomes = await self.control.meter.tick(self.control.leases.held, self.clock.monotonic_ns())
        for outcome in outcomes:
            await self.control.follower.on_outcome(outcome)

    async def sweep(self, after_ms: int = 0) -> None:
        """Let time pass, then look at every session."""
        self.clock.advance_ms(after_ms)
        await self.control.rooms.refresh()
        await self.control.follower.sweep(set(range(SHARDS)))
        await self.control.mover.finish()
        await self.control.closer.finish()

    async def over(self, session: Session) -> Session:
        """The session after what was begun is finished."""
        await self.control.closer.finish()
        return await self.get(session)

    async def events(self, who: Principal, name: str) -> list[Any]:
        """Payloads of the events of that name that a user was told, oldest first."""
        missed = await self.control.events.since(who.tenant_id, who.user_id, 0)
        return [event["data"] for event in missed.events if event["event"] == name]

    def join(self, session: Session) -> JoinRoom:
        return JoinRoom(session_id=session.public_id, sdp="v=0 offer", sources={"0": "microphone"})


@pytest.fixture
def clock() -> VirtualClock:
    """Starts at the present, because tokens are checked against the machine's clock."""
    return VirtualClock(wall_ms=time.time_ns() // 1_000_000)


@pytest.fixture
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords hashed in no time; they are checked as ever."""
    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr("signaling.people.hash_password", hasher.hash)


@pytest.fixture
def recordings() -> FakeRecordings:
    return FakeRecordings()


@pytest.fixture
async def servers_of_control(database: Database, redis: Redis, redis_url: str) -> AsyncIterator[Servers]:
    async with ControlBus(redis) as bus:
        yield Servers(database, database, redis, redis_url, bus)


@pytest.fixture
async def worker(redis: Redis, clock: VirtualClock) -> AsyncIterator[FakeWorker]:
    async with FakeWorker(redis, clock) as running:
        yield running


@pytest.fixture
async def client_of_world(
    world: World, settings: Settings, servers_of_control: Servers
) -> AsyncIterator[TestClient[Any, Any]]:
    """An HTTP client of the control process, listening on a free port of loopback."""
    app = application(settings, world.control, servers_of_control)
    server = TestServer(app)
    await server.start_server(shutdown_timeout=0.5)
    async with TestClient(server) as client:
        yield client
        await world.control.sockets.close()


@pytest.fixture
async def world(
    settings: Settings,
    clock: VirtualClock,
    servers_of_control: Servers,
    worker: FakeWorker,
    recordings: FakeRecordings,
    quick_passwords: None,
) -> AsyncIterator[World]:
    control = assemble(settings, clock, servers_of_control, recordings, CONSENT, [])  # type: ignore[arg-type]
    made = World(control, worker, clock, recordings)
    await made.settle_in(settings)
    yield made
    await control.closer.finish()
    await close_server(control.sio)
