"""Events to sockets: to this process's own at once, to those of other control processes in batches.

Whatever goes to a room of sockets goes to those of all control processes. python-socketio publishes each event by
itself, and waits until it is published. Here whatever gathers while one publication is on its way makes up the next,
with each event encoded once, for sockets and processes alike. A process skips what it published itself, unread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

import msgspec
import socketio
from engineio.packet import MESSAGE, Packet
from redis.asyncio import Redis
from socketio.packet import EVENT

from config.logs import get_log
from config.metrics import counter
from relay.bus import BUS_ERRORS

CHANNEL: Final = "tp:socketio"
OUTGOING_MAX: Final = 10_000
"""Events that wait to be published; of more the oldest are dropped and counted. Pages see the gap in the numbers."""
AT_ONCE_MAX: Final = 256
FLUSH_S: Final = 1.0
NAMESPACE: Final = "/"
_MARK: Final = b"batch:"
"""What a batch begins with: then who sent it, a colon, and JSON. Other messages of the channel are JSON objects."""

log = get_log("signaling.fanout")
_unpublished = counter("turnpike_events_unpublished_total", "Events not passed on to other control processes")
_encoder: Final = msgspec.json.Encoder()


class Outgoing(NamedTuple):
    """An event on its way: the rooms it is for, and the packet as sockets get it."""

    rooms: list[str]
    packet: str


_batches: Final = msgspec.json.Decoder(list[Outgoing])


class Fanout(socketio.AsyncRedisManager):  # type: ignore[misc]
    """python-socketio's client manager of one control process; ``redis``: what batches are published with."""

    def __init__(self, redis: Redis, redis_url: str) -> None:
        super().__init__(redis_url, channel=CHANNEL)
        self._publisher = redis
        self._mark = _MARK + self.host_id.encode() + b":"
        self._outgoing: deque[Outgoing] = deque()
        self._publishing: asyncio.Task[None] | None = None

    async def emit(
        self, event: str, data: Any, namespace: str | None = None, room: Any = None, to: Any = None, **kwargs: Any
    ) -> None:
        """Send an event to all sockets in a room, or in any of a list of rooms: never waits."""
        rooms = to or room
        plain = namespace in (None, NAMESPACE) and isinstance(rooms, str | list)
        if not plain or any(kwargs.values()):  # nothing of ours; but it is what python-socketio promises
            await super().emit(event, data, namespace=namespace, room=rooms, **kwargs)
            return
        packet = f"{EVENT}{_encoder.encode([event, data]).decode()}"
        outgoing = Outgoing([rooms] if isinstance(rooms, str) else rooms, packet)
        self._deliver(outgoing)
        self._outgoing.append(outgoing)
        if len(self._outgoing) > OUTGOING_MAX:
            self._outgoing.popleft()
            _unpublished.inc()
        if self._publishing is None or self._publishing.done():
            self._publishing = asyncio.create_task(self._publish_all(), name="publish events")

    async def flush(self) -> None:
        """Wait until what was sent is published, for a bounded time."""
        if self._publishing is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await self._publishing

    def _deliver(self, outgoing: Outgoing) -> None:
        """Queue a packet for this process's sockets. One that does not answer pings is closed by Engine.IO's own
        rounds, and its queue with it."""
        if not outgoing.rooms:
            return
        sockets = self.server.eio.sockets
        packet = Packet(MESSAGE, outgoing.packet)
        for _, connection in self.get_participants(NAMESPACE, outgoing.rooms):
            socket = sockets.get(connection)
            if socket is not None and not socket.closed:
                socket.queue.put_nowait(packet)

    async def _publish_all(self) -> None:
        while self._outgoing:
            batch = [self._outgoing.popleft() for _ in range(min(AT_ONCE_MAX, len(self._outgoing)))]
            try:
                await self._publisher.publish(self.channel, self._mark + _encoder.encode(batch))
            except BUS_ERRORS as error:
                _unpublished.inc(len(batch))
                log.warning("events not passed on to other processes", events=len(batch), why=str(error)[:300])

    async def _listen(self) -> AsyncIterator[Any]:
        """What other processes published, but for batches of events, which are delivered here."""
        async for message in super()._listen():
            if not message.startswith(_MARK):
                yield message
            elif not message.startswith(self._mark):
                try:
                    batch = _batches.decode(message.split(b":", 2)[2])
                except (IndexError, msgspec.DecodeError) as error:
                    log.warning("batch of events cannot be read", why=str(error))
                    continue
                for outgoing in batch:
                    self._deliver(outgoing)
