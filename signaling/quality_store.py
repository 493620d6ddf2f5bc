"""Quality in PostgreSQL: minutes of sessions, merged with what is there, and the summaries of those that are over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final, NamedTuple

from config.database import ALL_TENANTS, Database
from config.ids import SessionId, TenantId, UserId
from config.logs import get_log
from relay.messages import QualitySecond
from signaling.quality_series import SECONDS, BadSeries, Minute, Summary, pack, summarise, unpack

ROWS_AT_ONCE: Final = 500
MINUTES_MAX: Final = 1_440
"""Minutes read of one participant: a day. What comes after is kept, and not shown."""

log = get_log("signaling.quality")


class MinuteKey(NamedTuple):
    """Whose minute."""

    tenant_id: TenantId
    session_id: SessionId
    user_id: UserId
    minute: int


_SELECT: Final = """
select tenant_id, session_id, user_id, minute, samples from session_quality
where (tenant_id, session_id, user_id, minute)
  in (select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])) for update
"""
_UPSERT: Final = """
insert into session_quality (tenant_id, session_id, user_id, minute, samples)
select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[])
on conflict (tenant_id, session_id, user_id, minute) do update set samples = excluded.samples
"""
_OF_SESSION: Final = """
select user_id, minute, samples from session_quality
where tenant_id = $1 and session_id = $2 order by minute limit $3
"""
_SUMMARISE: Final = """
insert into session_quality_summary
  (tenant_id, session_id, user_id, seconds, worst_mos, median_mos, good_ratio, frozen_ms)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (tenant_id, session_id, user_id) do update set
  seconds = excluded.seconds, worst_mos = excluded.worst_mos, median_mos = excluded.median_mos,
  good_ratio = excluded.good_ratio, frozen_ms = excluded.frozen_ms
"""


class QualityStore:
    """Rows of ``session_quality`` and its summaries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, minutes: Mapping[MinuteKey, Minute]) -> None:
        """Add to what is stored; of the same second, the newer counts. Saving twice changes nothing."""
        keys = sorted(minutes)  # one order for all writers: no deadlock
        for start in range(0, len(keys), ROWS_AT_ONCE):
            chunk = keys[start : start + ROWS_AT_ONCE]
            columns = [[key[column] for key in chunk] for column in range(4)]
            async with self._database.transaction(ALL_TENANTS) as connection:
                stored = {
                    MinuteKey(*list(row)[:4]): row["samples"] for row in await connection.fetch(_SELECT, *columns)
                }
                packed = [_pack(minutes[key], stored.get(key), key.user_id) for key in chunk]
                await connection.execute(_UPSERT, *columns, packed)

    async def seconds(self, tenant_id: TenantId, session_id: SessionId) -> dict[UserId, dict[int, QualitySecond]]:
        """Everybody's seconds of a session: user → seconds since the Unix epoch → what was measured, in order."""
        async with self._database.transaction(tenant_id) as connection:
            rows = await connection.fetch(_OF_SESSION, tenant_id, session_id, 2 * MINUTES_MAX)
        found: dict[UserId, dict[int, QualitySecond]] = defaultdict(dict)
        for row in rows:
            for second, measured in _unpack(row["samples"], row["user_id"]).items():
                found[UserId(row["user_id"])][row["minute"] * SECONDS + second] = measured
        return dict(found)

    async def write_summary(self, tenant_id: TenantId, session_id: SessionId) -> list[Summary]:
        """Summarise what is stored of a session: a summary of each side. Again later, should more come."""
        found = await self.seconds(tenant_id, session_id)
        summaries = {user: summarise(list(seconds.values())) for user, seconds in found.items()}
        rows = [(tenant_id, session_id, user, *_figures(s)) for user, s in summaries.items() if s is not None]
        async with self._database.transaction(tenant_id) as connection:
            await connection.executemany(_SUMMARISE, rows)
        return [summary for summary in summaries.values() if summary is not None]


def _figures(summary: Summary) -> tuple[int, float, float, float, int]:
    return (summary.seconds, summary.worst_mos, summary.median_mos, summary.good_ratio, summary.frozen_ms)


def _pack(minute: Minute, onto: bytes | None, user_id: int) -> bytes:
    try:
        return pack(minute, onto)
    except BadSeries as error:
        log.error("stored quality cannot be read, and is replaced", user_id=user_id, why=str(error))
        return pack(minute)


def _unpack(samples: bytes, user_id: int) -> dict[int, QualitySecond]:
    try:
        return unpack(samples, user_id)
    except BadSeries as error:
        log.error("stored quality cannot be read", user_id=user_id, why=str(error))
        return {}
