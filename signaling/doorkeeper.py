"""Who gets in, beside a valid token: users in good standing, within their rate.

A token tells who its bearer was when it was issued. Whether they still are (not disabled, same role) is asked of the
database, at most once in ``STANDING_NS`` and user. With the database away, the token's word stands.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from aiohttp import web

from config.clock import Clock
from config.http import ApiError, client_address
from config.identity import Principal, Role
from config.ids import TenantId, UserId
from config.rates import Rates
from signaling.away import AWAY
from signaling.people import People

REQUESTS_PER_S: Final = 30.0
REQUESTS_BURST: Final = 150
STANDING_NS: Final = 10_000_000_000
RENEW_NS: Final = 6_000_000_000
"""Older standing is renewed by ``renew``; to be called so often that none reaches ``STANDING_NS``."""
USERS_MAX: Final = 50_000
"""Users whose standing is remembered; beyond, the one asked after longest ago is asked after anew."""


class Doorkeeper:
    """Admits or turns away, for REST and sockets alike."""

    def __init__(self, people: People, clock: Clock, trusted_proxies: str = "") -> None:
        self._people = people
        self._clock = clock
        self._proxies = frozenset(name.strip() for name in trusted_proxies.split(",") if name.strip())
        self._rates = Rates(REQUESTS_PER_S, REQUESTS_BURST)
        self._standing: OrderedDict[tuple[TenantId, UserId], tuple[int, str | None]] = OrderedDict()

    def address(self, request: web.Request) -> str:
        """The client's address, as far as the proxies in front can be believed."""
        return client_address(request, self._proxies)

    async def admit(self, request: web.Request, who: Principal | None) -> None:
        """Let a request pass. Raises 429 beyond the caller's rate, 401 when they are no longer who they were."""
        key = self.address(request) if who is None else (who.tenant_id, who.user_id)
        if not self._rates.take(key, self._clock.monotonic_ns()):
            raise ApiError(429, "too_many_requests", "Too many requests at once. Wait a moment and try again.")
        if who is not None:
            await self.check_standing(who)

    async def check_standing(self, who: Principal) -> None:
        """Raises 401 when the user is disabled or has another role than the token says."""
        key = (who.tenant_id, who.user_id)
        now_ns = self._clock.monotonic_ns()
        known = self._standing.get(key)
        if known is None or now_ns - known[0] > STANDING_NS:
            try:
                user = await self._people.get(who.tenant_id, who.user_id)
            except AWAY:
                return
            known = self._remember(key, now_ns, None if user is None else user.principal.role)
        if known[1] != who.role.value:
            raise ApiError(401, "invalid_token", "Your account has changed. Sign in again.")

    async def renew(self, everybody: Iterable[Principal]) -> None:
        """Look up together those whose standing is soon to be looked up one by one."""
        now_ns = self._clock.monotonic_ns()
        due: dict[TenantId, set[UserId]] = {}
        for who in everybody:
            known = self._standing.get((who.tenant_id, who.user_id))
            if known is None or now_ns - known[0] > RENEW_NS:
                due.setdefault(who.tenant_id, set()).add(who.user_id)
        for tenant, user_ids in due.items():
            try:
                roles = await self._people.roles(tenant, user_ids)
            except AWAY:
                return
            for user_id in user_ids:
                self._remember((tenant, user_id), now_ns, roles.get(user_id))

    def _remember(self, key: tuple[TenantId, UserId], now_ns: int, role: Role | None) -> tuple[int, str | None]:
        known = self._standing[key] = (now_ns, None if role is None else role.value)
        self._standing.move_to_end(key)
        while len(self._standing) > USERS_MAX:
            self._standing.popitem(last=False)
        return known
