"""PostgreSQL for the worker: where its journal of evidence ends up. The worker writes nothing else there."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Final

import asyncpg

from config.database import ALL_TENANTS, Database
from relay.journal import JournalEntry, minute_of

ROWS_PER_STATEMENT_MAX: Final = 1000

_UPSERT: Final = """
insert into media_evidence
  (tenant_id, session_id, epoch, minute, seq, live_ms, granted_live_ms, worker_id, final, at)
select * from unnest($1::bigint[], $2::bigint[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                     $8::text[], $9::boolean[], $10::timestamptz[])
on conflict (tenant_id, session_id, epoch, minute) do update set
  seq = excluded.seq, live_ms = excluded.live_ms, granted_live_ms = excluded.granted_live_ms,
  worker_id = excluded.worker_id, final = excluded.final, at = excluded.at
where excluded.seq > media_evidence.seq
"""


class StoreUnavailable(Exception):
    """PostgreSQL is away, or will not have it now: try again later."""


class EvidenceStore:
    """Rows of ``media_evidence``. Connects at first use, so that a worker starts without the database."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._database: Database | None = None

    async def close(self) -> None:
        """Give the connections back."""
        database, self._database = self._database, None
        if database is not None:
            await database.close()

    async def ship(self, entries: Iterable[JournalEntry]) -> int:
        """Store the newest entry of each session, epoch and minute; returns how many rows were offered.

        Shipping anything twice, or in any order, ends in the same rows. Raises ``StoreUnavailable``.
        """
        try:
            if self._database is None:
                self._database = await Database.open(self._url, name=self._name, min_size=0, max_size=1)
            return await self._ship(self._database, entries)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise StoreUnavailable(str(error) or type(error).__name__) from error

    async def _ship(self, database: Database, entries: Iterable[JournalEntry]) -> int:
        newest: dict[tuple[int, int, int, int], JournalEntry] = {}
        for entry in entries:
            key = (entry.tenant_id, entry.session_id, entry.epoch, minute_of(entry.at_ms))
            if key not in newest or entry.seq > newest[key].seq:
                newest[key] = entry
        rows = [(key, newest[key]) for key in sorted(newest)]  # one order for all shippers: no deadlock
        for start in range(0, len(rows), ROWS_PER_STATEMENT_MAX):
            chunk = rows[start : start + ROWS_PER_STATEMENT_MAX]
            async with database.transaction(ALL_TENANTS) as connection:
                await connection.execute(
                    _UPSERT,
                    *([key[column] for key, _ in chunk] for column in range(4)),
                    [entry.seq for _, entry in chunk],
                    [entry.live_ms for _, entry in chunk],
                    [entry.granted_live_ms for _, entry in chunk],
                    [entry.worker_id for _, entry in chunk],
                    [entry.final for _, entry in chunk],
                    [datetime.datetime.fromtimestamp(entry.at_ms / 1000, tz=datetime.UTC) for _, entry in chunk],
                )
        return len(rows)
