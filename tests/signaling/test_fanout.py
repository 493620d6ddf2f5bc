"""Events from one process's sockets to another's, on a real Redis: in order, few messages, nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import socketio
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from config.settings import Settings
from signaling.fanout import AT_ONCE_MAX, CHANNEL, OUTGOING_MAX, Fanout


class Socket:
    """Stands for Engine.IO's socket."""

    def __init__(self) -> None:
        self.closed = False
        self.queue: asyncio.Queue[Any] = asyncio.Queue()

    async def send(self, packet: Any) -> None:
        self.queue.put_nowait(packet)

    async def hears(self) -> tuple[str, Any]:
        packet = await asyncio.wait_for(self.queue.get(), 5)
        assert packet.data.startswith("2")
        event, data = json.loads(packet.data[1:])
        return event, data


class Process:
    """A control process's sockets."""

    def __init__(self, redis: Redis, url: str) -> None:
        self.manager = Fanout(redis, url)
        self.server = socketio.AsyncServer(async_mode="aiohttp", client_manager=self.manager)
        self.manager.initialize()

    def socket(self, name: str, *rooms: str) -> Socket:
        socket = self.server.eio.sockets[f"eio-{name}"] = Socket()
        for room in (None, *rooms):
            self.manager.basic_enter_room(name, "/", room, eio_sid=f"eio-{name}")
        return socket


@contextlib.asynccontextmanager
async def running(redis: Redis, url: str) -> AsyncIterator[Process]:
    process = Process(redis, url)
    for _ in range(500):
        if process.manager.pubsub is not None and process.manager.pubsub.subscribed:
            break
        await asyncio.sleep(0.01)
    try:
        yield process
    finally:
        await process.manager.flush()
        process.manager.thread.cancel()
        await asyncio.wait({process.manager.thread})
        await process.manager.pubsub.aclose()
        await process.manager.redis.aclose()


@pytest.fixture
async def two(redis: Redis, settings: Settings) -> AsyncIterator[tuple[Process, Process]]:
    assert settings.redis_url is not None
    async with running(redis, settings.redis_url) as one, running(redis, settings.redis_url) as other:
        yield one, other


async def test_sockets_of_all_processes_hear_each_event_once_and_in_order(two: tuple[Process, Process]) -> None:
    one, other = two
    here, there, stranger = one.socket("a", "user:1"), other.socket("b", "user:1"), other.socket("c", "user:2")
    for n in range(3 * AT_ONCE_MAX):
        await one.server.emit("session.cost", {"n": n, "name": "Zoë"}, room="user:1")
    wanted = [("session.cost", {"n": n, "name": "Zoë"}) for n in range(3 * AT_ONCE_MAX)]
    assert [await here.hears() for _ in wanted] == wanted
    assert [await there.hears() for _ in wanted] == wanted
    await other.server.emit("session.cost", {"n": -1}, room="user:1")
    assert await here.hears() == ("session.cost", {"n": -1})
    assert (here.queue.qsize(), stranger.queue.qsize()) == (0, 0)


async def test_who_is_in_several_of_the_rooms_hears_it_once(two: tuple[Process, Process]) -> None:
    one, other = two
    sockets = one.socket("a", "user:1", "user:2"), other.socket("b", "user:2"), one.socket("c", "user:3")
    await one.server.emit("room.quality", {}, room=["user:1", "user:2"])
    assert [await sockets[n].hears() for n in (0, 1)] == [("room.quality", {})] * 2
    assert [socket.queue.qsize() for socket in sockets] == [0, 0, 0]


async def test_what_is_for_nobody_goes_to_nobody(two: tuple[Process, Process]) -> None:
    one, other = two
    sockets = one.socket("a", "user:1"), other.socket("b", "user:1")
    await one.server.emit("room.quality", {}, room=[])
    await one.server.emit("session.cost", {}, room="user:1")
    assert [await socket.hears() for socket in sockets] == [("session.cost", {})] * 2


async def test_what_is_sent_at_the_same_time_is_published_in_few_messages(
    two: tuple[Process, Process], redis: Redis
) -> None:
    one, other = two
    there = other.socket("b", "user:1")
    async with redis.pubsub(ignore_subscribe_messages=True) as watching:
        await watching.subscribe(CHANNEL)
        await watching.get_message(timeout=5)
        for n in range(100):
            await one.server.emit("session.cost", n, room="user:1")
        assert [await there.hears() for n in range(100)] == [("session.cost", n) for n in range(100)]
        messages = 0
        while await watching.get_message(timeout=0.05):
            messages += 1
    assert 1 <= messages <= 2


async def test_without_redis_this_process_hears_at_once_and_what_waits_is_bounded(
    two: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    here, there = one.socket("a", "user:1"), other.socket("b", "user:1")
    gone = asyncio.Event()

    async def away(*_: Any) -> None:
        await gone.wait()
        raise RedisConnectionError("gone")

    monkeypatch.setattr(one.manager, "_publisher", type("Away", (), {"publish": away})())
    await one.server.emit("session.cost", -1, room="user:1")
    await asyncio.sleep(0)
    for n in range(OUTGOING_MAX + 5):
        await one.server.emit("session.cost", n, room="user:1")
    assert here.queue.qsize() == OUTGOING_MAX + 6
    assert len(one.manager._outgoing) == OUTGOING_MAX
    gone.set()
    await one.manager.flush()
    monkeypatch.undo()
    await one.server.emit("session.cost", "again", room="user:1")
    assert await there.hears() == ("session.cost", "again")


async def test_messages_that_are_no_batch_of_ours_end_nothing(two: tuple[Process, Process], redis: Redis) -> None:
    one, other = two
    there = other.socket("b", "user:1")
    for message in (
        b"",
        b"batch:",
        b"batch:x:",
        b"batch:x:{}",
        b'batch:x:[["a"]]',
        b'batch:x:[[[],"2"]]',
        b"\xff\x00",
        b"[]",
    ):
        await redis.publish(CHANNEL, message)
    # A process of an earlier version publishes each event by itself:
    alone = {"method": "emit", "event": "session.cost", "data": [7], "namespace": "/", "room": "user:1", "host_id": "x"}
    await redis.publish(CHANNEL, json.dumps(alone))
    await one.server.emit("session.cost", 8, room="user:1")
    assert [await there.hears() for _ in range(2)] == [("session.cost", 7), ("session.cost", 8)]
