"""Who is there: heartbeats in Redis with a time to live, so that a control process that dies leaves no ghost behind.

| key | what |
|---|---|
| ``tp:here:{tenant}:{user}`` | sorted set: a device (socket) → when it is taken for gone |
| ``tp:here:{tenant}`` | sorted set: a user → when the last of their devices is taken for gone |
| ``tp:shown:{tenant}`` | hash: provider → presence as last told, so that only changes are told |
| ``tp:tenants`` | set: tenants that anybody of was here lately |

A provider is *offline* without a device, *busy* in a live session, *away* with the availability switch off, else
*online*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from config.clock import Clock
from config.identity import Principal, Role
from config.ids import TenantId, UserId
from signaling.events import Events
from signaling.messages import Presence as PresenceWord
from signaling.people import PROVIDERS_MAX, People, User
from signaling.server_events import PresenceEvent
from signaling.store import SessionStore

TTL_MS: Final = 30_000
"""A device that was not heard of for so long is gone."""
RELOAD_GRACE_MS: Final = 3_000
"""A socket that closed keeps its place so long: a page that is loaded again does not flicker."""
DEVICES_MAX: Final = 32
"""Devices remembered per user; the one heard of longest ago is forgotten first."""
TENANTS_TTL_S: Final = 86_400
LOOKS_MAX: Final = 10_000
"""Providers of a tenant whose heartbeats wait for the next sweep; others are looked at when they are heard of again."""
GONE_AT_ONCE: Final = 1_000
_TENANTS: Final = "tp:tenants"

_PUT: Final = """
local now, until_ms = ARGV[2], ARGV[3]
redis.call('zadd', KEYS[1], until_ms, ARGV[1])
redis.call('zremrangebyscore', KEYS[1], 0, now)
redis.call('zremrangebyrank', KEYS[1], 0, -1 - ARGV[4])
redis.call('pexpire', KEYS[1], ARGV[5])
local last = redis.call('zrange', KEYS[1], -1, -1, 'withscores')
local before = redis.call('zscore', KEYS[2], ARGV[6])
redis.call('zadd', KEYS[2], last[2] or now, ARGV[6])
redis.call('sadd', KEYS[3], ARGV[7])
redis.call('expire', KEYS[3], ARGV[8])
return (before and tonumber(before) > tonumber(now)) and 1 or 0
"""
"""Whether the user was here before."""


def word_for(*, here: bool, available: bool, busy: bool) -> PresenceWord:
    """The one word that others see."""
    if not here:
        return "offline"
    if busy:
        return "busy"
    return "online" if available else "away"


class Presence:
    """Keeps who is there, and tells of changes."""

    def __init__(self, redis: Redis, people: People, sessions: SessionStore, events: Events, clock: Clock) -> None:
        self._redis = redis
        self._people = people
        self._sessions = sessions
        self._events = events
        self._clock = clock
        self._put_script = redis.register_script(_PUT)
        self._to_look_at: dict[TenantId, set[UserId]] = {}
        """Providers that were here and were heard of: the next sweep looks at all of them at once."""

    async def heard(self, who: Principal, device: str) -> None:
        """A device connected, or sent its heartbeat. Who comes is told of at once."""
        was_here = await self._put(who, device, TTL_MS)
        if who.role is not Role.PROVIDER:
            return
        if not was_here:
            await self.refresh(who.tenant_id, [who.user_id])
            return
        waiting = self._to_look_at.setdefault(who.tenant_id, set())
        if len(waiting) < LOOKS_MAX:
            waiting.add(who.user_id)

    async def left(self, who: Principal, device: str) -> None:
        """A device disconnected: it is gone unless it comes back within ``RELOAD_GRACE_MS``."""
        await self._put(who, device, RELOAD_GRACE_MS)

    async def _put(self, who: Principal, device: str, for_ms: int) -> bool:
        now = self._clock.wall_ms()
        keys = [_devices(who.tenant_id, who.user_id), _users(who.tenant_id), _TENANTS]
        args = (device, now, now + for_ms, DEVICES_MAX, TTL_MS + RELOAD_GRACE_MS, who.user_id, who.tenant_id)
        was_here: int = await self._put_script(keys=keys, args=[*args, TENANTS_TTL_S])
        return was_here == 1

    async def here(self, tenant: TenantId, user_ids: Iterable[UserId]) -> set[UserId]:
        """Which of the users have a device."""
        ids = list(user_ids)
        if not ids:
            return set()
        until: Any = await self._redis.zmscore(_users(tenant), [str(user_id) for user_id in ids])
        now = self._clock.wall_ms()
        return {user_id for user_id, score in zip(ids, until, strict=True) if score is not None and score > now}

    async def of(self, tenant: TenantId, providers: list[User]) -> dict[UserId, PresenceWord]:
        """The presence of providers."""
        ids = [provider.id for provider in providers]
        here, busy = await self.here(tenant, ids), await self._sessions.busy(tenant, ids)
        return {p.id: word_for(here=p.id in here, available=p.available, busy=p.id in busy) for p in providers}

    async def refresh(self, tenant: TenantId, provider_ids: Iterable[UserId] | None = None) -> None:
        """Look at these providers, or all, and tell everybody of the tenant whose presence is not what was told."""
        providers = await self._people.providers(tenant, provider_ids)
        if not providers:
            return
        shown = f"tp:shown:{tenant}"
        words = await self.of(tenant, providers)
        before: Any = await self._redis.hmget(shown, [str(p.id) for p in providers])
        for provider, old in zip(providers, before, strict=True):
            word = words[provider.id]
            if (old or b"offline").decode() != word:
                await self._redis.hset(shown, str(provider.id), word)
                await self._events.show_all(
                    tenant, "presence.changed", PresenceEvent(user_id=provider.public_id, presence=word)
                )

    async def sweep(self) -> None:
        """Look at everybody who was here lately: tells of those who went without a word, and mends what was not told
        when it happened. Every control may do it."""
        now = self._clock.wall_ms()
        heard, self._to_look_at = self._to_look_at, {}
        for raw in await self._redis.smembers(_TENANTS):
            tenant = TenantId(int(raw))
            gone: Any = await self._redis.zrangebyscore(
                _users(tenant), 0, now, start=0, num=GONE_AT_ONCE, withscores=True
            )
            ids = sorted({UserId(int(user_id)) for user_id, _ in gone} | heard.get(tenant, set()))
            for start in range(0, len(ids), PROVIDERS_MAX):
                await self.refresh(tenant, ids[start : start + PROVIDERS_MAX])
            if gone:
                await self._redis.zremrangebyscore(_users(tenant), 0, _up_to(gone))


def _up_to(gone: Sequence[tuple[bytes, float]]) -> str:
    """Up to which score all were read, as Redis spells it: of more than were read, some may have the last one, too."""
    last = f"{gone[-1][1]:.0f}"
    return last if len(gone) < GONE_AT_ONCE or gone[0][1] == gone[-1][1] else f"({last}"


def _devices(tenant: TenantId, user_id: UserId) -> str:
    return f"tp:here:{tenant}:{user_id}"


def _users(tenant: TenantId) -> str:
    return f"tp:here:{tenant}"
