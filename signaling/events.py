"""What users are told: events numbered per user, kept for a while in a bounded log, and sent to all of their sockets.

| key | what |
|---|---|
| ``tp:events:{tenant}:{user}`` | the user's newest ``EVENTS_KEPT_MAX`` events; entry ids are their numbers |
| ``tp:events:{tenant}:{user}:n`` | the number of the newest |

Numbers rise by one, so that a client sees a gap and asks for what it missed (``since``). They start at the wall clock's
milliseconds: when Redis has come back empty, new numbers are still above all that a client has seen.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Protocol

from redis.asyncio import Redis

from config.clock import Clock
from config.http import View
from config.ids import TenantId, UserId
from config.logs import get_log
from config.metrics import counter
from relay.bus import BUS_ERRORS
from signaling.server_events import SERVER_EVENTS

EVENTS_KEPT_MAX: Final = 256
"""Events kept per user; the oldest go first, and a client that needs them reads the state again."""
EVENTS_TTL_S: Final = 3600

log = get_log("signaling.events")
_sent = counter("turnpike_events_sent_total", "Events told to users", ["event"])
_unnumbered = counter("turnpike_events_unnumbered_total", "Events sent without a number because Redis was away")

_APPEND: Final = """
local n = redis.call('incr', KEYS[2])
if n == 1 then n = tonumber(ARGV[1]); redis.call('set', KEYS[2], string.format('%.0f', n)) end
redis.call('xadd', KEYS[1], 'maxlen', ARGV[2], string.format('%.0f-0', n), 'e', ARGV[3], 'd', ARGV[4])
redis.call('expire', KEYS[1], ARGV[5])
redis.call('expire', KEYS[2], ARGV[5])
return n
"""


class Emitter(Protocol):
    """What sends to sockets: python-socketio's server, or a list in a test."""

    async def emit(self, event: str, data: Any = None, *, room: str | None = None) -> None: ...


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
        self._append = redis.register_script(_APPEND)

    async def tell(self, tenant: TenantId, user_id: UserId, event: str, view: View) -> None:
        """Number, keep and send one event. Without Redis it goes, unnumbered, to this process's own sockets."""
        if not isinstance(view, SERVER_EVENTS[event]):
            raise TypeError(f"{event} carries {SERVER_EVENTS[event].__name__}, not {type(view).__name__}")
        data = view.model_dump(mode="json")
        key = _key(tenant, user_id)
        try:
            seq = await self._append(
                keys=[key, key + ":n"],
                args=[self._clock.wall_ms(), EVENTS_KEPT_MAX, event, json.dumps(data), EVENTS_TTL_S],
            )
        except BUS_ERRORS as error:
            log.warning("event not numbered", event_name=event, user_id=user_id, why=str(error))
            _unnumbered.inc()
            seq = None
        await self._emitter.emit(event, {"seq": seq, "data": data}, room=user_room(tenant, user_id))
        _sent.labels(event).inc()

    async def show(self, tenant: TenantId, user_ids: list[UserId], event: str, view: View) -> None:
        """Send an event that is neither numbered nor kept to these users."""
        payload = {"seq": None, "data": view.model_dump(mode="json")}
        for user_id in user_ids:
            await self._emitter.emit(event, payload, room=user_room(tenant, user_id))
            _sent.labels(event).inc()

    async def show_all(self, tenant: TenantId, event: str, view: View) -> None:
        """Send an event that is neither numbered nor kept to everybody of the tenant."""
        await self._emitter.emit(event, {"seq": None, "data": view.model_dump(mode="json")}, room=tenant_room(tenant))
        _sent.labels(event).inc()

    async def newest(self, tenant: TenantId, user_id: UserId) -> int:
        """The number of the user's newest event. Numbering begins here for a user who was told nothing lately."""
        key = _key(tenant, user_id) + ":n"
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(key, self._clock.wall_ms(), nx=True, ex=EVENTS_TTL_S)
            pipe.getex(key, ex=EVENTS_TTL_S)
            return int((await pipe.execute())[1])

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
