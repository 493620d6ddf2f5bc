"""PostgreSQL for the worker: where its journal of evidence ends up. The worker writes nothing else there."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Final

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


class EvidenceStore:
    """Rows of ``media_evidence``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ship(self, entries: Iterable[JournalEntry]) -> int:
        """Store the newest entry of each session, epoch and minute; returns how many rows were offered.

        Shipping anything twice, or in any order, ends in the same rows. Raises what asyncpg raises.
        """
        newest: dict[tuple[int, int, int, int], JournalEntry] = {}
        for entry in entries:
            key = (entry.tenant_id, entry.session_id, entry.epoch, minute_of(entry.at_ms))
            if key not in newest or entry.seq > newest[key].seq:
                newest[key] = entry
        rows = [(key, newest[key]) for key in sorted(newest)]  # one order for all shippers: no deadlock
        for start in range(0, len(rows), ROWS_PER_STATEMENT_MAX):
            chunk = rows[start : start + ROWS_PER_STATEMENT_MAX]
            async with self._database.transaction(ALL_TENANTS) as connection:
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
