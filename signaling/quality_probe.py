"""The connection test before a call: a room on a worker in which one page is both sides, and is sent its own media.

It needs no session and no money: the room is unbilled, unknown to the shards, forwards for at most ``TEST_MS`` and is
closed by its worker soon after, whatever happens to the page or to this process. What there is to know of a test is in
Redis, so that any control process can answer its messages. Rates hold per user, places per worker (``relay.rooms``).
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from redis.asyncio import Redis

from config.http import ApiError
from config.identity import Principal
from config.ids import WorkerId, is_public_id, new_public_id
from config.logs import get_log
from relay.bus import ControlBus, WorkerUnreachable
from relay.messages import (
    CloseRoom,
    Command,
    Done,
    Negotiate,
    Negotiated,
    OpenRoom,
    ParticipantSpec,
    Refused,
    Reply,
)
from signaling.client_messages import JoinProbe, ProbeAnswer, ProbeOpened
from signaling.rooms import Rooms, candidates, refusal

TEST_MS: Final = 10_000
OPEN_MS: Final = 15_000
TESTS_MAX: Final = 6
"""Tests of one user within ``WINDOW_S``."""
WINDOW_S: Final = 300
JOINS_MAX: Final = 12
"""Offers in one test: two per path, and some to spare."""
_WORKERS_ASKED_MAX: Final = 2
_EPOCH: Final = 1
_SIDES: Final = {"send": 1, "receive": 2}
"""The two participants of a test's room; no user has these ids in it but the one who tests."""
_TIMEOUT_MS: Final = 1_500

log = get_log("signaling.probe")


class Probes:
    """Opens, negotiates and closes connection tests."""

    def __init__(self, bus: ControlBus, redis: Redis, rooms: Rooms) -> None:
        self._bus = bus
        self._redis = redis
        self._rooms = rooms

    async def open(self, who: Principal) -> ProbeOpened:
        """A place for a test. Raises ``ApiError``: 429 too many tests, 503 no place is free."""
        await self._admit(who)
        session_id = -1 - secrets.randbits(62)  # sessions have positive ids
        people = tuple(
            ParticipantSpec(user_id=user_id, public_id=side, name=side, role="client" if user_id == 1 else "provider")
            for side, user_id in _SIDES.items()
        )
        command = OpenRoom(
            tenant_id=who.tenant_id,
            session_id=session_id,
            epoch=_EPOCH,
            session_public_id="probe",
            kind="video",
            participants=people,
            granted_live_ms=TEST_MS,
            video_codecs=("VP8",),
            probe=True,
        )
        for worker in candidates(self._rooms.workers)[:_WORKERS_ASKED_MAX]:
            if isinstance(await self._ask(WorkerId(worker.worker_id), command), Done):
                probe_id = new_public_id("prb")
                fields: dict[Any, Any] = {
                    "user": who.user_id,
                    "tenant": who.tenant_id,
                    "worker": worker.worker_id,
                    "room": session_id,
                }
                async with self._redis.pipeline(transaction=True) as pipe:
                    pipe.hset(_key(probe_id), mapping=fields)
                    pipe.pexpire(_key(probe_id), OPEN_MS)
                    await pipe.execute()
                return ProbeOpened(probe_id=probe_id, test_ms=TEST_MS, open_ms=OPEN_MS)
        raise ApiError(503, "no_test_free", "The connection cannot be tested at the moment. Try again in a minute.")

    async def join(self, who: Principal, message: JoinProbe) -> ProbeAnswer:
        """Negotiate one of the page's two connections. Raises ``ApiError``."""
        worker_id, session_id = await self._find(who, message.probe_id)
        joins = await self._redis.hincrby(_key(message.probe_id), "joins", 1)
        if joins == 1:  # in case the test ended this very moment: nothing is to stay behind
            await self._redis.pexpire(_key(message.probe_id), OPEN_MS)
        if joins > JOINS_MAX:
            raise ApiError(429, "too_many_messages", "That is enough for one test.")
        command = Negotiate(
            tenant_id=who.tenant_id,
            session_id=session_id,
            epoch=_EPOCH,
            user_id=_SIDES[message.side],
            sdp=message.sdp,
            sources={message.mid: "camera"},
        )
        reply = await self._ask(worker_id, command)
        if not isinstance(reply, Negotiated):
            raise refusal(reply)
        return ProbeAnswer(sdp=reply.sdp)

    async def close(self, who: Principal, probe_id: str) -> None:
        """The test is over; closing one that is gone succeeds."""
        try:
            worker_id, session_id = await self._find(who, probe_id)
        except ApiError:
            return
        await self._redis.delete(_key(probe_id))
        command = CloseRoom(tenant_id=who.tenant_id, session_id=session_id, epoch=_EPOCH, reason="probe_over")
        await self._ask(worker_id, command)

    async def _admit(self, who: Principal) -> None:
        key = f"tp:probes:{who.tenant_id}:{who.user_id}"
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(key, 0, ex=WINDOW_S, nx=True)
            pipe.incr(key)
            begun = (await pipe.execute())[1]
        if int(begun) > TESTS_MAX:
            raise ApiError(429, "too_many_tests", "You have tested often enough. Wait five minutes and try again.")

    async def _find(self, who: Principal, probe_id: str) -> tuple[WorkerId, int]:
        stored: Any = await self._redis.hgetall(_key(probe_id)) if is_public_id(probe_id, "prb") else {}
        mine = b"worker" in stored and (int(stored[b"user"]), int(stored[b"tenant"])) == (who.user_id, who.tenant_id)
        if not mine:
            raise ApiError(404, "not_found", "This test is over.")
        return WorkerId(stored[b"worker"].decode()), int(stored[b"room"])

    async def _ask(self, worker_id: WorkerId, command: Command) -> Reply:
        try:
            return await self._bus.call(worker_id, command, _TIMEOUT_MS)
        except WorkerUnreachable as error:
            log.warning("worker did not answer a test", worker_id=worker_id, why=str(error))
            return Refused(code="unknown_room", message=str(error))


def _key(probe_id: str) -> str:
    return f"tp:probe:{probe_id}"
