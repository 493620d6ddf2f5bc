"""The bus: Redis Streams between control and workers. One mechanism for two processes and two hundred machines.

| key | written by | read by |
|---|---|---|
| ``tp:cmd:{worker_id}`` | control: one entry a command | that worker, from the start of its life |
| ``tp:reply:{control_id}`` | workers: one entry a reply | the control process that asked |
| ``tp:media:{shard}`` | workers: the media events of the shard's sessions | the shard's leaseholder (consumer group) |
| ``tp:worker:{worker_id}`` | the worker, twice a second, with a time to live | control: who is there, what it holds |
| ``tp:workers`` | the same: the ids, by when they were last told | control: where to look |
| ``tp:control`` | every control process, with a time to live | workers that are drained: whether to wait |

Whoever has read an entry deletes it, so that the bus holds only what is on its way.
Redis may come back empty: keys and groups are made again by whoever needs them, and nothing but time is lost.
Every stream is trimmed (``*_LOG_MAX``): the oldest entries go first, which costs nothing that is cumulative.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from config.ids import SessionId, WorkerId, shard_of
from config.logs import get_log
from relay.messages import REFUSALS, Command, Event, Refused, Reply
from relay.messages_json import decode_command, decode_event, decode_reply, decode_status, encode
from relay.messages_status import WorkerStatus

log = get_log("relay.bus")

COMMAND_LOG_MAX: Final = 1_000
REPLY_LOG_MAX: Final = 1_000
MEDIA_LOG_MAX: Final = 2_000
"""Entries that wait in one shard's log while nobody reads it: with 1 KB each and all 64 logs full, 128 MB."""
REPLIES_KEPT_MAX: Final = 4_096
"""Replies a worker remembers, so that a command sent twice is carried out once; the oldest is forgotten first."""
COMMANDS_AT_ONCE_MAX: Final = 256
WORKER_TTL_MS: Final = 2_000
"""A worker that has not told its status for so long is taken for dead: four of its heartbeats."""
GONE_TTL_MS: Final = 60_000
"""How long it is remembered that a worker's process was seen to end."""
REGISTRY_TTL_MS: Final = 3_600_000
"""Ids of workers are forgotten so long after the last heartbeat."""
CONTROL_TTL_MS: Final = 2_000
_REGISTRY: Final = "tp:workers"
_CONTROL: Final = "tp:control"
KEY_TTL_S: Final = 120
_BLOCK_MS: Final = 1_000
_RETRY_S: Final = 0.25
_GROUP: Final = "control"
_CONSUMER: Final = "leaseholder"
_TELL: Final = """
for i = 1, #KEYS do
  redis.call('XADD', KEYS[i], 'MAXLEN', '~', ARGV[1], '*', 'body', ARGV[i + 1])
end
"""
"""One command for a worker's events: a pipeline of as many takes twice the time to pack and to read the answers of."""
_ACKNOWLEDGE_MAX: Final = 512
_ACKNOWLEDGE: Final = """
for i = 1, #KEYS do
  redis.pcall('xack', KEYS[i], ARGV[1], ARGV[i + 1])
  redis.pcall('xdel', KEYS[i], ARGV[i + 1])
end
"""


BUS_ERRORS: Final = (RedisError, OSError)
"""What methods that reach for Redis raise when it is away."""


class WorkerUnreachable(Exception):
    """A worker did not answer in time; whether it carried the command out is not known."""


def check_cancelled() -> None:
    """Raise CancelledError in a task that was cancelled but does not know. Call it in every loop around Redis.

    redis-py loses a cancellation that comes while it connects: it becomes a timeout, which is retried.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _command_key(worker_id: WorkerId) -> str:
    return f"tp:cmd:{worker_id}"


def _reply_key(control_id: str) -> str:
    return f"tp:reply:{control_id}"


def _media_key(shard: int) -> str:
    return f"tp:media:{shard}"


def _worker_key(worker_id: WorkerId) -> str:
    return f"tp:worker:{worker_id}"


class ControlBus:
    """Control's side: call workers, and find them. Use as an async context manager."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.control_id = secrets.token_hex(8)
        self._waiting: dict[bytes, asyncio.Future[Reply]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ControlBus:
        self._reader = asyncio.create_task(self._read_replies(), name="bus replies")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        for future in self._waiting.values():
            future.cancel()

    async def call(self, worker_id: WorkerId, command: Command, timeout_ms: int = 5_000) -> Reply:
        """Have a worker carry out one command. Raises ``WorkerUnreachable`` after ``timeout_ms``.

        A connection lost on the way is retried within that time under the same command id, so nothing happens twice.
        """
        command_id = secrets.token_hex(8).encode()
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[command_id] = future
        fields: dict[Any, Any] = {"id": command_id, "reply_to": self.control_id, "body": encode(command)}
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while True:
                    try:
                        await self._redis.xadd(
                            _command_key(worker_id), fields, maxlen=COMMAND_LOG_MAX, approximate=True
                        )
                        break
                    except (RedisError, OSError):
                        await asyncio.sleep(_RETRY_S)
                return await future
        except TimeoutError:
            raise WorkerUnreachable(f"{worker_id} did not answer {type(command).__name__}") from None
        finally:
            self._waiting.pop(command_id, None)

    async def workers(self) -> list[WorkerStatus]:
        """All workers that have told their status within ``WORKER_TTL_MS``, in order of id."""
        return [status for status in await self.registry() if not status.gone]

    async def registry(self) -> list[WorkerStatus]:
        """The living workers, and those whose end was seen (``gone``); in order of id."""
        return await _read_registry(self._redis)

    async def tell_presence(self) -> None:
        """Say that there is a control process to move rooms. Raises what redis-py raises."""
        await self._redis.set(_CONTROL, self.control_id, px=CONTROL_TTL_MS)

    async def _read_replies(self) -> None:
        key, last = _reply_key(self.control_id), b"0"
        while True:
            check_cancelled()
            try:
                answer: Any = await self._redis.xread({key: last}, count=256, block=_BLOCK_MS)
                for _, entries in answer or ():
                    for entry_id, fields in entries:
                        last = entry_id
                        self._settle(fields)
                    await self._redis.xdel(key, *(entry_id for entry_id, _ in entries))
            except (RedisError, OSError) as error:
                log.warning("bus unreachable, trying again", why=str(error))
                await asyncio.sleep(_RETRY_S)
            except Exception:  # noqa: BLE001 - without this loop no command is ever answered: logged, and it goes on
                log.fault("reading replies failed, goes on")
                await asyncio.sleep(_RETRY_S)

    def _settle(self, fields: dict[bytes, bytes]) -> None:
        future = self._waiting.get(fields.get(b"id", b""))
        if future is None or future.done():
            return
        try:
            future.set_result(decode_reply(fields[b"body"]))
        except (KeyError, msgspec.DecodeError) as error:
            future.set_result(Refused(code="internal", message=f"unreadable reply: {error}"))


async def _read_registry(redis: Redis) -> list[WorkerStatus]:
    ids: Any = await redis.zrange(_REGISTRY, 0, -1)
    if not ids:
        return []
    found: list[WorkerStatus] = []
    for worker_id, value in zip(ids, await redis.mget([_worker_key(i.decode()) for i in ids]), strict=True):
        if isinstance(value, bytes):
            try:
                found.append(decode_status(value))
            except msgspec.DecodeError as error:
                log.warning("worker status cannot be read", worker_id=worker_id, why=str(error))
    return sorted(found, key=lambda status: status.worker_id)


async def bury(redis: Redis, host: str, pid: int) -> None:
    """Tell control that the worker that was process ``pid`` of ``host`` has ended, for whoever has seen it end.

    Its rooms are moved at once then, and not only when its status has expired. Raises what redis-py raises.
    """
    for status in await _read_registry(redis):
        if (status.host, status.pid, status.gone) == (host, pid, False):
            gone = msgspec.structs.replace(status, gone=True, rooms=())
            await redis.set(_worker_key(WorkerId(status.worker_id)), encode(gone), px=GONE_TTL_MS)


class MediaLog:
    """The logs of a set of shards, as their leaseholder reads them."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._acknowledge = redis.register_script(_ACKNOWLEDGE)
        self._seen_pending: set[int] = set()
        self._pending_after: dict[int, bytes] = {}
        """Of shards whose pending entries are being read: the last one seen."""

    async def read(self, shards: set[int], block_ms: int = 500) -> list[tuple[int, bytes, Event]]:
        """Events not yet acknowledged, oldest first per shard: (shard, entry id, event).

        The first reads of a shard return what an earlier leaseholder took but did not acknowledge, each entry once.
        Entries that cannot be read are acknowledged, logged and left out. Forget a shard with ``release`` when its
        lease is lost.
        """
        fresh = shards - self._seen_pending
        for shard in fresh:
            await self._make_group(shard)
        events: list[tuple[int, bytes, Event]] = []
        if fresh:
            events += await self._read({_media_key(s): self._pending_after.get(s, "0") for s in fresh}, None)
            self._pending_after.update((shard, entry_id) for shard, entry_id, _ in events)
            if events:
                return events  # until no more are pending, then go on with new ones
            self._seen_pending |= fresh
            self._forget_places(fresh)
        if shards:
            events += await self._read({_media_key(s): ">" for s in shards}, block_ms)
        return events

    async def acknowledge(self, entries: list[tuple[int, bytes]]) -> None:
        """Delete entries, as (shard, entry id), that need not be seen again."""
        for start in range(0, len(entries), _ACKNOWLEDGE_MAX):
            some = entries[start : start + _ACKNOWLEDGE_MAX]
            await self._acknowledge(keys=[_media_key(shard) for shard, _ in some], args=[_GROUP, *(i for _, i in some)])

    async def unread(self, shard: int) -> list[Event]:
        """What workers have told in a shard and nobody has acknowledged, oldest first; nothing is taken away."""
        answer: Any = await self._redis.xrevrange(_media_key(shard), count=MEDIA_LOG_MAX)
        events: list[Event] = []
        for _, fields in reversed(answer):
            with contextlib.suppress(KeyError, msgspec.DecodeError):  # whoever reads the log says so
                events.append(decode_event(fields[b"body"]))
        return events

    def release(self, shards: set[int]) -> None:
        """Forget what was read of shards that someone else leads now."""
        self._seen_pending -= shards
        self._forget_places(shards)

    def _forget_places(self, shards: set[int]) -> None:
        for shard in shards:
            self._pending_after.pop(shard, None)

    async def _make_group(self, shard: int) -> None:
        try:
            await self._redis.xgroup_create(_media_key(shard), _GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def _read(self, keys: Mapping[str, str | bytes], block_ms: int | None) -> list[tuple[int, bytes, Event]]:
        try:
            streams: dict[Any, Any] = dict(keys)
            answer: Any = await self._redis.xreadgroup(_GROUP, _CONSUMER, streams, count=512, block=block_ms)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            self._seen_pending.clear()  # Redis came back empty: groups are made again at the next read
            self._pending_after.clear()
            return []
        events: list[tuple[int, bytes, Event]] = []
        for key, entries in answer or ():
            shard = int(key.rsplit(b":", 1)[1])
            for entry_id, fields in entries:
                try:
                    events.append((shard, entry_id, decode_event(fields[b"body"])))
                except (KeyError, msgspec.DecodeError) as error:
                    log.warning("media event cannot be read", shard=shard, entry=entry_id, why=str(error))
                    await self.acknowledge([(shard, entry_id)])
        return events


Handler = Callable[[Command], Awaitable[Reply]]


class WorkerBus:
    """A worker's side: take commands, tell events and status. Use as an async context manager."""

    def __init__(self, redis: Redis, worker_id: WorkerId, handler: Handler) -> None:
        self._redis = redis
        self._worker_id = worker_id
        self._handler = handler
        self._tell = redis.register_script(_TELL)
        self._replies: OrderedDict[bytes, asyncio.Task[Reply]] = OrderedDict()
        self._slots = asyncio.Semaphore(COMMANDS_AT_ONCE_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> WorkerBus:
        self._reader = asyncio.create_task(self._read_commands(), name="bus commands")
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = {self._reader, *self._tasks} - {None}
        for task in tasks:
            task.cancel()  # type: ignore[union-attr]
        await asyncio.gather(*tasks, return_exceptions=True)  # type: ignore[arg-type]
        try:
            await self._redis.delete(_worker_key(self._worker_id), _command_key(self._worker_id))
            await self._redis.zrem(_REGISTRY, self._worker_id)
        except (RedisError, OSError) as error:
            log.info("bus was gone before the worker", why=str(error))

    async def tell_status(self, status: WorkerStatus) -> None:
        """Say that this worker lives and what it holds. Raises what redis-py raises."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(_worker_key(self._worker_id), encode(status), px=WORKER_TTL_MS)
            pipe.zadd(_REGISTRY, {self._worker_id: status.at_ms})
            pipe.zremrangebyscore(_REGISTRY, 0, status.at_ms - REGISTRY_TTL_MS)
            pipe.expire(_command_key(self._worker_id), KEY_TTL_S)
            await pipe.execute()

    async def control_present(self) -> bool:
        """Whether a control process has shown itself lately. Raises what redis-py raises."""
        return bool(await self._redis.exists(_CONTROL))

    async def tell_events(self, events: list[Event]) -> None:
        """Append media events to the logs of their sessions' shards, in order. Raises what redis-py raises."""
        keys = [_media_key(shard_of(SessionId(event.session_id))) for event in events]
        await self._tell(keys=keys, args=[MEDIA_LOG_MAX, *map(encode, events)])

    async def _read_commands(self) -> None:
        key, last = _command_key(self._worker_id), b"0"
        while True:
            check_cancelled()
            try:
                answer: Any = await self._redis.xread({key: last}, count=64, block=_BLOCK_MS)
                for _, entries in answer or ():
                    for entry_id, fields in entries:
                        last = entry_id
                        await self._slots.acquire()
                        task = asyncio.create_task(self._carry_out(fields))
                        self._tasks.add(task)
                        task.add_done_callback(self._finished)
                    await self._redis.xdel(key, *(entry_id for entry_id, _ in entries))
            except (RedisError, OSError) as error:
                log.warning("bus unreachable, trying again", why=str(error))
                await asyncio.sleep(_RETRY_S)
            except Exception:  # noqa: BLE001 - without this loop the worker is deaf: logged, and it goes on
                log.fault("reading commands failed, goes on")
                await asyncio.sleep(_RETRY_S)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()

    async def _carry_out(self, fields: dict[bytes, bytes]) -> None:
        command_id, reply_to = fields.get(b"id", b""), fields.get(b"reply_to", b"").decode("ascii", "replace")
        work = self._replies.get(command_id)
        if work is None:
            work = asyncio.create_task(self._answer(fields.get(b"body", b"")))
            self._replies[command_id] = work
            while len(self._replies) > REPLIES_KEPT_MAX:
                self._replies.popitem(last=False)
        reply = await work
        entry: dict[Any, Any] = {"id": command_id, "body": encode(reply)}
        key = _reply_key(reply_to)
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.xadd(key, entry, maxlen=REPLY_LOG_MAX, approximate=True)
                pipe.expire(key, KEY_TTL_S)
                await pipe.execute()
        except (RedisError, OSError) as error:
            log.warning("reply lost, control will ask again", why=str(error))

    async def _answer(self, body: bytes) -> Reply:
        try:
            command = decode_command(body)
        except msgspec.DecodeError as error:
            return Refused(code="bad_command", message=str(error))
        try:
            return await self._handler(command)
        except Exception:  # noqa: BLE001 - a fault in one command must not end the worker's command loop
            session_id = getattr(command, "session_id", None)
            log.fault("command failed", command=type(command).__name__, session_id=session_id)
            return Refused(code="internal", message=REFUSALS["internal"])
