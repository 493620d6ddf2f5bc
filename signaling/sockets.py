"""Socket.IO: the table of client messages → handlers, acknowledged with ok or error, at a bounded rate.

Websocket only, so that no stickiness is needed; ``fanout`` carries events between processes.
``{"ok": true, "data": …}`` or ``{"ok": false, "error": {code, message, details, request_id}}``; never a traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import pydantic
import socketio
from redis.asyncio import Redis

from config.clock import Clock
from config.http import ApiError, Body, parse
from config.identity import InvalidToken, Principal, Tokens
from config.ids import new_public_id
from config.logs import get_log
from config.metrics import counter, gauge, histogram
from config.rates import Rates, TokenBucket
from signaling.away import AWAY, unavailable
from signaling.chat import Chat
from signaling.client_messages import CLIENT_MESSAGES, AcceptMessage, ChangeKindMessage, EventsSince, SendChat
from signaling.director import Director
from signaling.doorkeeper import Doorkeeper
from signaling.events import Events, tenant_room, user_room
from signaling.fanout import Fanout
from signaling.kinds import KindChanges, Shown
from signaling.messages import SendMessage
from signaling.presence import Presence
from signaling.quality_probe import Probes
from signaling.views import session_view

RATE_PER_S: Final = 20.0
BURST: Final = 60
STATS_PER_S: Final = 1.0
STATS_BURST: Final = 4
SOCKETS_PER_USER_MAX: Final = 16
"""Sockets of one user on this process; a further one is refused."""
JOINS_PER_S: Final = 2.0
JOINS_BURST: Final = 8
"""Offers of one user, on all their sockets: each costs a worker some milliseconds."""
WORKING_MAX: Final = 16
"""Messages of one socket worked on at a time; a further one is refused."""

SIGN_IN_NS: Final = 10_000_000_000
"""A connection whose token was not accepted within this time is closed."""
GOODBYE_S: Final = 1.0
LISTENER_CANCELS_MAX: Final = 10
_RESERVED: Final = frozenset({"connect", "disconnect", "connect_error", "__disconnect_final", "*"})

log = get_log("signaling.sockets")
_open = gauge("turnpike_sockets_open", "Socket.IO connections")
_messages = counter("turnpike_socket_messages_total", "Messages from clients", ["message", "outcome"])
_seconds = histogram("turnpike_socket_message_seconds", "From a client's message to its acknowledgement", ["message"])

Handle = Callable[[Principal, str, Any], Awaitable[Any]]


@dataclass(slots=True)
class _Socket:
    who: Principal
    signed_in_until_s: int
    """When their token expires."""
    bucket: TokenBucket
    working: int = 0
    stats: TokenBucket = field(default_factory=lambda: TokenBucket(STATS_PER_S, STATS_BURST, 0))
    """Digests have a rate of their own: each is a command to a worker."""


def make_server(redis: Redis, redis_url: str, max_bytes: int) -> Any:
    """The Socket.IO server of one control process."""
    server = socketio.AsyncServer(
        async_mode="aiohttp",
        client_manager=Fanout(redis, redis_url),
        transports=["websocket"],
        max_http_buffer_size=max_bytes,
        ping_interval=10,
        ping_timeout=10,
        logger=False,
        engineio_logger=False,
    )
    inner = server._handle_event

    async def only_messages(eio_sid: str, namespace: str | None, ack_id: int | None, data: Any) -> None:
        """python-socketio calls its own handlers for a message that a client names like one: here it is unknown."""
        named = isinstance(data, list) and len(data) > 0 and isinstance(data[0], str)
        if not named or data[0] in _RESERVED:
            data = ["unknown"]
        await inner(eio_sid, namespace, ack_id, data)

    server._handle_event = only_messages
    return server


class Sockets:
    """Connections and messages of clients."""

    def __init__(
        self,
        server: Any,
        tokens: Tokens,
        director: Director,
        kinds: KindChanges,
        chat: Chat,
        presence: Presence,
        events: Events,
        probes: Probes,
        doorkeeper: Doorkeeper,
        clock: Clock,
    ) -> None:
        self._server = server
        self._doorkeeper = doorkeeper
        self._tokens = tokens
        self._director = director
        self._kinds = kinds
        self._chat = chat
        self._presence = presence
        self._events = events
        self._probes = probes
        self._clock = clock
        self._sockets: dict[str, _Socket] = {}
        self._strangers: dict[str, int] = {}
        self._joins = Rates(JOINS_PER_S, JOINS_BURST)
        self._handlers: dict[str, Handle] = {
            "session.request": self._request,
            "session.accept": self._accept,
            "session.decline": self._decline,
            "session.cancel": self._cancel,
            "session.end": self._end,
            "session.change_kind": self._change_kind,
            "session.keep_kind": self._keep_kind,
            "room.join": self._join,
            "room.mute": self._mute,
            "room.stats": self._stats,
            "probe.open": self._open_probe,
            "probe.join": self._join_probe,
            "probe.close": self._close_probe,
            "chat.send": self._send,
            "presence.heartbeat": self._heartbeat,
            "events.since": self._since,
        }
        if self._handlers.keys() != CLIENT_MESSAGES.keys():
            raise ValueError("every client message has a handler, and every handler a message")
        server.on("connect", self._connect)
        server.on("disconnect", self._disconnect)
        server.on("*", self._message)

    async def close(self) -> None:
        """Disconnect everybody of this process: their pages connect to another."""
        await asyncio.gather(*(self._quit(self._server.disconnect(sid)) for sid in list(self._sockets)))
        await asyncio.gather(*(self._drop(connection) for connection in list(self._server.eio.sockets)))

    async def _drop(self, connection: str) -> None:
        await self._quit(self._server.eio.disconnect(connection))

    async def _quit(self, goodbye: Awaitable[None]) -> None:
        """Engine.IO says goodbye and waits until that is sent: for ever, when the other side is gone already."""
        with contextlib.suppress(TimeoutError, KeyError):
            async with asyncio.timeout(GOODBYE_S):
                await goodbye

    async def drop_strangers(self) -> None:
        """Close connections that have not signed in within ``SIGN_IN_NS``; to be called every few seconds."""
        now = self._clock.monotonic_ns()
        known = {self._server.manager.eio_sid_from_sid(sid, "/") for sid in self._sockets}
        strangers = {c: self._strangers.get(c, now) for c in list(self._server.eio.sockets) if c not in known}
        late = [connection for connection, since in strangers.items() if now - since >= SIGN_IN_NS]
        self._strangers = {c: since for c, since in strangers.items() if c not in late}
        await asyncio.gather(*(self._drop(connection) for connection in late))

    async def renew_standing(self) -> None:
        """Look up who of the connected may stay, all together, before their heartbeats ask one by one."""
        await self._doorkeeper.renew([socket.who for socket in self._sockets.values()])

    # --- connections ------------------------------------------------------------------------------------------------

    async def _connect(self, sid: str, _environ: Any, auth: Any = None) -> None:
        token = auth.get("token") if isinstance(auth, dict) else None
        try:
            who, until_s = self._tokens.read(token if isinstance(token, str) else "")
        except InvalidToken:
            raise _connection_refused(
                "invalid_token", "Your sign-in has expired or is not valid. Sign in again."
            ) from None
        try:
            await self._doorkeeper.check_standing(who)
        except ApiError as refusal:
            raise _connection_refused(refusal.code, refusal.message) from None
        mine = sum(1 for other in self._sockets.values() if other.who.user_id == who.user_id)
        if mine >= SOCKETS_PER_USER_MAX:
            raise _connection_refused("too_many_sockets", "Too many connections are open. Close some pages.")
        bucket = TokenBucket(RATE_PER_S, BURST, self._clock.monotonic_ns())
        self._sockets[sid] = _Socket(who, until_s, bucket)
        _open.set(len(self._sockets))
        await self._server.enter_room(sid, user_room(who.tenant_id, who.user_id))
        await self._server.enter_room(sid, tenant_room(who.tenant_id))
        await self._note_presence(self._presence.heard, who, sid)

    async def _disconnect(self, sid: str, *_: Any) -> None:
        socket = self._sockets.pop(sid, None)
        _open.set(len(self._sockets))
        if socket is not None:
            await self._note_presence(self._presence.left, socket.who, sid)

    async def _note_presence(self, note: Callable[[Principal, str], Awaitable[None]], who: Principal, sid: str) -> None:
        try:
            await note(who, sid)
        except AWAY as error:
            log.warning("presence not noted, the heartbeat repeats it", user_id=who.user_id, why=str(error))

    # --- messages -----------------------------------------------------------------------------------------------------

    async def _message(self, event: str, sid: str, *args: Any) -> dict[str, Any]:
        socket = self._sockets.get(sid)
        known = event if event in self._handlers else "unknown"
        if socket is None:
            return _refused(ApiError(401, "unauthenticated", "Sign in first."))
        now_ns = self._clock.monotonic_ns()
        joining = event == "room.join" and not self._joins.take(socket.who.user_id, now_ns)
        if joining or not socket.bucket.take(now_ns) or socket.working >= WORKING_MAX:
            _messages.labels(known, "limited").inc()
            return _refused(ApiError(429, "too_many_messages", "Too many messages at once. Slow down."))
        started = time.monotonic()
        socket.working += 1
        try:
            answer = {"ok": True, "data": await self._handle(event, socket, sid, args)}
        except ApiError as refusal:
            answer = _refused(refusal)
        except asyncio.CancelledError:
            raise
        except AWAY as error:
            answer = _refused(unavailable())
            log.warning("message not carried out", message=known, user_id=socket.who.user_id, why=str(error))
        except Exception:  # noqa: BLE001 - the boundary of one client message: logged once, told without a traceback
            answer = _refused(ApiError(500, "internal", "Something went wrong on our side. It has been logged."))
            log.fault("message failed", message=known, user_id=socket.who.user_id, **_id_of(answer))
        finally:
            socket.working -= 1
        _messages.labels(known, "ok" if answer["ok"] else "refused").inc()
        _seconds.labels(known).observe(time.monotonic() - started)
        return answer

    async def _handle(self, event: str, socket: _Socket, sid: str, args: tuple[Any, ...]) -> Any:
        handler = self._handlers.get(event)
        if handler is None:
            raise ApiError(400, "unknown_message", "There is no such message.")
        raw = args[0] if args and args[0] is not None else {}
        if len(args) > 1 or not isinstance(raw, dict):
            raise ApiError(400, "bad_request", "A message carries one object.")
        answer = await handler(socket.who, sid, parse(CLIENT_MESSAGES[event], raw))
        return answer.model_dump(mode="json") if isinstance(answer, pydantic.BaseModel) else answer

    async def _request(self, who: Principal, _: str, body: Any) -> Body | Any:
        return session_view(await self._director.request(who, body))

    async def _accept(self, who: Principal, _: str, body: AcceptMessage) -> Any:
        return session_view(await self._director.accept(who, body.session_id, body.consent))

    async def _decline(self, who: Principal, _: str, body: Any) -> Any:
        return session_view(await self._director.decline(who, body.session_id))

    async def _cancel(self, who: Principal, _: str, body: Any) -> Any:
        return session_view(await self._director.cancel(who, body.session_id))

    async def _end(self, who: Principal, _: str, body: Any) -> Any:
        return session_view(await self._director.end(who, body.session_id))

    async def _change_kind(self, who: Principal, _: str, body: ChangeKindMessage) -> Any:
        shown = Shown(body.minor_per_minute, body.step_ms)
        return session_view(await self._kinds.ask(who, body.session_id, body.kind, shown, agrees=body.agrees))

    async def _keep_kind(self, who: Principal, _: str, body: Any) -> Any:
        return session_view(await self._kinds.keep(who, body.session_id))

    async def _join(self, who: Principal, _: str, body: Any) -> Any:
        return await self._director.join(who, body)

    async def _mute(self, who: Principal, _: str, body: Any) -> Any:
        await self._director.mute(who, body)

    async def _stats(self, who: Principal, sid: str, body: Any) -> Any:
        socket = self._sockets.get(sid)
        if socket is not None and not socket.stats.take(self._clock.monotonic_ns()):
            raise ApiError(429, "too_many_messages", "A digest every 2 s is enough.")
        await self._director.stats(who, body)

    async def _open_probe(self, who: Principal, _: str, __: Any) -> Any:
        return await self._probes.open(who)

    async def _join_probe(self, who: Principal, _: str, body: Any) -> Any:
        return await self._probes.join(who, body)

    async def _close_probe(self, who: Principal, _: str, body: Any) -> Any:
        await self._probes.close(who, body.probe_id)

    async def _send(self, who: Principal, _: str, body: SendChat) -> Any:
        session = await self._director.find(who, body.session_id)
        message = SendMessage(client_message_id=body.client_message_id, text=body.text)
        return await self._chat.send(who, session, message)

    async def _heartbeat(self, who: Principal, sid: str, _: Any) -> Any:
        socket = self._sockets.get(sid)
        if socket is not None:
            try:
                if self._tokens.lapsed(socket.signed_in_until_s):
                    raise InvalidToken("expired")
                await self._doorkeeper.check_standing(who)
            except (InvalidToken, ApiError):
                await self._quit(self._server.disconnect(sid))
                raise ApiError(401, "invalid_token", "Your sign-in has expired. Sign in again.") from None
        await self._presence.heard(who, sid)
        return {"newest": await self._events.newest(who.tenant_id, who.user_id)}

    async def _since(self, who: Principal, _: str, body: EventsSince) -> Any:
        missed = await self._events.since(who.tenant_id, who.user_id, body.seq)
        return {"events": missed.events, "complete": missed.complete, "newest": missed.newest}


def _connection_refused(code: str, message: str) -> Exception:
    """What the client sees as ``connect_error``, with code and message in its ``data``."""
    error: Exception = socketio.exceptions.ConnectionRefusedError(message, {"code": code, "message": message})
    return error


def _refused(error: ApiError) -> dict[str, Any]:
    return {"ok": False, **error.body(new_public_id("req"))}


def _id_of(answer: dict[str, Any]) -> dict[str, str]:
    return {"request_id": answer["error"]["request_id"]}


async def close_server(server: Any) -> None:
    """Publish what was sent last, stop python-socketio's background tasks and close its connections to Redis."""
    await server.manager.flush()
    await server.shutdown()
    listener = getattr(server.manager, "thread", None)
    for _ in range(LISTENER_CANCELS_MAX):  # now and then it takes the first one for a lost connection
        if listener is None or listener.done():
            break
        listener.cancel()
        await asyncio.wait({listener}, timeout=0.2)
    if server.manager.redis is not None:
        await server.manager.pubsub.aclose()
        await server.manager.redis.aclose()
