"""A call for tests: a worker in this process on a real bus, control's side of it, and media clients as the pages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from redis.asyncio import Redis

from bench.media_client import MediaClient
from config.clock import SystemClock
from config.ids import SessionId, shard_of
from config.settings import Settings
from relay.bus import ControlBus, MediaLog
from relay.messages import (
    Closed,
    CloseRoom,
    Command,
    Done,
    MediaEvent,
    MediaEvidence,
    Negotiate,
    Negotiated,
    OpenRoom,
    ParticipantSpec,
    Refused,
    Reply,
    SessionKind,
    SetGrant,
    Source,
)
from relay.store import EvidenceStore
from relay.worker import Worker

CLIENT, PROVIDER = 11, 22
T = TypeVar("T", bound=MediaEvent)

PARTICIPANTS = (
    ParticipantSpec(user_id=CLIENT, public_id="usr_client", name="Clara", role="client"),
    ParticipantSpec(user_id=PROVIDER, public_id="usr_provider", name="Paul", role="provider"),
)


class NotNegotiated(Exception):
    """The worker refused an offer."""


class Call:
    """One session's room, from control's seat."""

    def __init__(self, worker: Worker, bus: ControlBus, redis: Redis, session_id: int = 7) -> None:
        self.worker = worker
        self.bus = bus
        self.ids: dict[str, Any] = {"tenant_id": 1, "session_id": session_id, "epoch": 1}
        self.events: list[MediaEvent] = []
        self._log = MediaLog(redis)

    async def do(self, kind: Callable[..., Command], /, **fields: Any) -> Reply:
        return await self.bus.call(self.worker.worker_id, kind(**{**self.ids, **fields}))

    async def open(
        self,
        granted_ms: int = 60_000,
        kind: SessionKind = "video",
        codecs: tuple[str, ...] = ("VP8", "H264"),
        revision: int = 0,
    ) -> None:
        reply = await self.do(
            OpenRoom,
            session_public_id="ses_test",
            kind=kind,
            participants=PARTICIPANTS,
            granted_live_ms=granted_ms,
            revision=revision,
            video_codecs=codecs,
        )
        assert reply == Done()

    def page(self, user_id: int, sources: Sequence[Source] = ("microphone", "camera"), **options: Any) -> MediaClient:
        """A page of one of the two; use as an async context manager."""

        async def negotiate(sdp: str, mids: dict[str, Source], fresh: bool) -> str:
            reply = await self.do(Negotiate, user_id=user_id, sdp=sdp, sources=mids, fresh=fresh)
            if isinstance(reply, Refused):
                raise NotNegotiated(reply.code, reply.message)
            assert isinstance(reply, Negotiated)
            return reply.sdp

        return MediaClient(negotiate, sources, **options)

    async def grant(self, granted_ms: int) -> None:
        assert await self.do(SetGrant, granted_live_ms=granted_ms) == Done()

    async def close(self) -> Closed:
        reply = await self.do(CloseRoom, reason="ended")
        assert isinstance(reply, Closed)
        return reply

    async def read(self) -> None:
        """Take in the events told so far."""
        shard = shard_of(SessionId(self.ids["session_id"]))
        for _, entry, event in await self._log.read({shard}, 20):
            await self._log.acknowledge([(shard, entry)])
            self.events.append(event)

    def told(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    async def wait_for(self, kind: type[T], condition: Callable[[T], bool] = lambda _: True, timeout_s: float = 8) -> T:
        """The first event of a kind, that fulfils a condition."""
        async with asyncio.timeout(timeout_s):
            while True:
                for event in self.told(kind):
                    if condition(event):
                        return event
                await self.read()

    async def live_ms(self) -> int:
        """Of the newest evidence."""
        await self.read()
        return max((evidence.live_ms for evidence in self.told(MediaEvidence)), default=0)


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for happens on the wire
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running_worker(
    redis: Redis, redis_url: str, data: Path, database_url: str | None = None
) -> AsyncIterator[Worker]:
    """A worker on loopback, serving its bus until the end of the block."""
    settings = Settings(data=data, redis_url=redis_url, media_addresses="127.0.0.1")
    store = EvidenceStore(database_url, "test") if database_url else None
    async with Worker(settings, redis, store, SystemClock()) as worker:
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            ended_early = task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if store is not None:
                await store.close()
            if ended_early and not task.cancelled():
                task.result()  # the fault that ended it is what the test should show


@contextlib.asynccontextmanager
async def two_pages(call: Call, **options: Any) -> AsyncIterator[tuple[MediaClient, MediaClient]]:
    """Client and provider, connected and sending."""
    async with call.page(CLIENT, **options) as client, call.page(PROVIDER, **options) as provider:
        await asyncio.gather(client.connect(), provider.connect())
        client.start()
        provider.start()
        yield client, provider
