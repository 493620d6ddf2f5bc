"""Which shards this process meters. PostgreSQL hands the leases out, each process a fair share of them.

A lease has an epoch that rises with each change of owner; the tick refuses one that is not the newest, so that a
process that was away too long does no harm. On its own side a process stops using leases that it could not renew.
"""

from __future__ import annotations

import datetime
from typing import Final

from billing import meter_store
from billing.terms import LedgerUnavailable
from config.clock import Clock
from config.database import Database
from config.logs import get_log

log = get_log("billing.leases")

LEASE_TTL_MS: Final = 6_000
RENEW_EVERY_MS: Final = 2_000
"""How often to call ``refresh``: a lease outlives two that fail."""
_MARGIN_MS: Final = 500
"""A lease is given up this much before it ends, since clocks differ in speed and answers take time."""


class Leases:
    """The shard leases of one process. Call ``refresh`` every ``RENEW_EVERY_MS``, and ``release`` at the end."""

    def __init__(self, database: Database, clock: Clock, owner: str, ttl_ms: int = LEASE_TTL_MS) -> None:
        self._database = database
        self._clock = clock
        self._owner = owner
        self._ttl_ms = ttl_ms
        self._held: dict[int, int] = {}
        self._until_ns = 0

    @property
    def held(self) -> dict[int, int]:
        """Shard → lease epoch, of the leases that are certainly ours at this moment."""
        return dict(self._held) if self._clock.monotonic_ns() < self._until_ns else {}

    async def refresh(self) -> dict[int, int]:
        """Renew, give up or take leases; returns ``held``. When PostgreSQL is away, what is left runs out by itself."""
        asked_ns = self._clock.monotonic_ns()
        try:
            held = await meter_store.lease_shards(
                self._database, self._owner, datetime.timedelta(milliseconds=self._ttl_ms)
            )
        except LedgerUnavailable as error:
            log.warning("leases not renewed", owner=self._owner, why=str(error))
            return self.held
        gained, lost = held.keys() - self._held.keys(), self._held.keys() - held.keys()
        if gained or lost:
            log.info("leases changed", owner=self._owner, held=len(held), gained=sorted(gained), lost=sorted(lost))
        self._held = held
        self._until_ns = asked_ns + max(0, self._ttl_ms - _MARGIN_MS) * 1_000_000
        return self.held

    async def release(self) -> None:
        """Give up all leases at once, so that others need not wait for them to run out."""
        self._held, self._until_ns = {}, 0
        try:
            await meter_store.release_shards(self._database, self._owner)
        except LedgerUnavailable as error:
            log.warning("leases not released, they run out", owner=self._owner, why=str(error))
