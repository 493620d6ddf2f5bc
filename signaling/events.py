"""What users are told: events numbered per user, kept for a while in a bounded log, and sent to all of their sockets.

| key | what |
|---|---|
| ``tp:events:{tenant}:{user}`` | the user's newest ``KEPT_MAX`` events; entry ids are their numbers |
| ``tp:events:{tenant}:{user}:n`` | the number of the newest |

Numbers rise by one, so that a client sees a gap and asks for what it missed (``since``). They start at the wall clock's
milliseconds: when Redis has come back empty, new numbers are still above all that a client has seen.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from redis.asyncio import Redis

from config.clock import Clock
from config.http import View
from config.ids import TenantId, UserId
from config.logs import get_log
from config.metrics import counter
from relay.bus import BUS_ERRORS
from signaling.numbering import TTL_S, Numbered, Numbers, newest_key
from signaling.server_events import SERVER_EVENTS

_encode: Final = msgspec.json.Encoder().encode

log = get_log("signaling.events")
_sent = counter("turnpike_events_sent_total", "Events told to users", ["event"])
_unnumbered = counter("turnpike_events_unnumbered_total", "Events sent without a number because Redis was away")


class Emitter(Protocol):
    """What sends to sockets: python-socketio's server, or a list in a test. ``room``: to all sockets in any of them."""

    async def emit(self, event: str, data: Any = None, *, room: str | list[str] | None = None) -> None: ...


class Telling(NamedTuple):
    """An event for one user."""

    user_id: UserId
    event: str
    view: View


@dataclass(frozen=True, slots=True)
class Missed:
    """The answer to ``since``. ``complete`` False: some are no longer kept."""

    events: list[dict[str, Any]]
    complete: bool
    newest: int


def user_room(tenant: TenantId, user_id: UserId) -> str:
    """The Socket.IO room of all of a user's sockets."""
    return f"user:{tenant}:{user_id}"


def tenant_room(tenant: TenantId) -> str:
    """The Socket.IO room of all of a tenant's sockets."""
    return f"tenant:{tenant}"


class Events:
    """Tells users things."""

    def __init__(self, redis: Redis, emitter: Emitter, clock: Clock) -> None:
        self._redis = redis
        self._emitter = emitter
        self._clock = clock
        self._numbers = Numbers(redis, clock)

    async def tell(self, tenant: TenantId, user_id: UserId, event: str, view: View) -> None:
        """Number, keep and send one event. Without Redis it goes, unnumbered, to this process's own sockets."""
        await self.tell_each(tenant, Telling(user_id, event, view))

    async def tell_each(self, tenant: TenantId, *tellings: Telling) -> None:
        """``tell`` several users, or one of them several things, in order."""
        for _, event, view in tellings:
            if not isinstance(view, SERVER_EVENTS[event]):
                raise TypeError(f"{event} carries {SERVER_EVENTS[event].__name__}, not {type(view).__name__}")
        contents = [telling.view.model_dump(mode="json") for telling in tellings]
        kept = [
            Numbered(_key(tenant, telling.user_id), telling.event, _encode(data))
            for telling, data in zip(tellings, contents, strict=True)
        ]
        numbers: list[int | None]
        try:
            numbers = await self._numbers.append(kept)
        except BUS_ERRORS as error:
            for user_id, event, _ in tellings:
                log.warning("event not numbered", event_name=event, user_id=user_id, why=str(error))
            numbers = [None] * len(tellings)
        _unnumbered.inc(numbers.count(None))
        for (user_id, event, _), data, seq in zip(tellings, contents, numbers, strict=True):
            await self._emitter.emit(event, {"seq": seq, "data": data}, room=user_room(tenant, user_id))
            _sent.labels(event).inc()

    async def show(self, tenant: TenantId, user_ids: list[UserId], event: str, view: View) -> None:
        """Send an event that is neither numbered nor kept to these users."""
        payload = {"seq": None, "data": view.model_dump(mode="json")}
        await self._emitter.emit(event, payload, room=[user_room(tenant, user_id) for user_id in user_ids])
        _sent.labels(event).inc(len(user_ids))

    async def show_all(self, tenant: TenantId, event: str, view: View) -> None:
        """Send an event that is neither numbered nor kept to everybody of the tenant."""
        await self._emitter.emit(event, {"seq": None, "data": view.model_dump(mode="json")}, room=tenant_room(tenant))
        _sent.labels(event).inc()

    async def newest(self, tenant: TenantId, user_id: UserId) -> int:
        """The number of the user's newest event. Numbering begins here for a user who was told nothing lately."""
        key = newest_key(_key(tenant, user_id))
        known: Any = await self._redis.getex(key, ex=TTL_S)
        if known is None:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(key, self._clock.wall_ms(), nx=True, ex=TTL_S)
                pipe.get(key)
                known = (await pipe.execute())[1]
        return int(known)

    async def since(self, tenant: TenantId, user_id: UserId, seq: int) -> Missed:
        """The user's events after number ``seq``, oldest first."""
        newest = await self.newest(tenant, user_id)
        entries: Any = await self._redis.xrange(_key(tenant, user_id), min=f"{seq + 1}-0")
        events = []
        for entry_id, fields in entries:
            number = int(entry_id.split(b"-")[0])
            events.append({"event": fields[b"e"].decode(), "seq": number, "data": json.loads(fields[b"d"])})
        first = events[0]["seq"] if events else newest + 1
        return Missed(events, seq >= newest or first == seq + 1, max(newest, events[-1]["seq"] if events else 0))


def _key(tenant: TenantId, user_id: UserId) -> str:
    return f"tp:events:{tenant}:{user_id}"
