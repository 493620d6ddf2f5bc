"""Legal holds: while one stands, nothing of the recording is deleted or erased, whatever the policy says."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, Final

from config.clock import Clock
from config.ids import PublicId, TenantId, UserId, new_public_id
from recorder import audit
from recorder.catalogue import Details, Recordings

HOLDS_MAX: Final = 100
"""Standing holds of one recording."""


@dataclasses.dataclass(frozen=True, slots=True)
class LegalHold:
    """One hold, standing or released."""

    id: PublicId
    recording_id: PublicId
    reason: str
    placed_by: PublicId
    placed_at_ms: int
    released_by: PublicId | None
    released_at_ms: int | None
    release_reason: str | None


class Holds:
    """The holds of all tenants."""

    def __init__(self, recordings: Recordings, clock: Clock) -> None:
        self._database = recordings.database
        self._clock = clock

    async def place(self, recording: Details, user_id: UserId, entry: audit.NewEntry) -> LegalHold | None:
        """Place one more; None for what is gone already, or held too often. Audited in the same transaction."""
        public_id = new_public_id("hld")
        async with self._database.transaction(recording.tenant_id) as connection:
            key = (recording.tenant_id, recording.id)
            # Whoever deletes or erases locks the same row, so that a hold comes before, or finds it gone.
            state = await connection.fetchval(
                "select state from recording where tenant_id = $1 and id = $2 for update", *key
            )
            standing = await connection.fetchval(
                "select count(*) from legal_hold where tenant_id = $1 and recording_id = $2 and released_at is null",
                *key,
            )
            if state in ("expired", "erased") or standing >= HOLDS_MAX:
                return None
            await audit.append(connection, dataclasses.replace(entry, details={"hold": public_id}))
            await connection.execute(
                "insert into legal_hold (tenant_id, public_id, recording_id, reason, placed_by, placed_at)"
                " values ($1, $2, $3, $4, $5, $6)",
                recording.tenant_id,
                public_id,
                recording.id,
                entry.reason,
                user_id,
                self._now(),
            )
            return await _find(connection, recording.tenant_id, public_id)

    async def release(self, hold: LegalHold, user_id: UserId, entry: audit.NewEntry) -> LegalHold | None:
        """Release a hold; None if it was released before. Audited in the same transaction."""
        async with self._database.transaction(entry.tenant_id) as connection:
            done = await connection.fetchval(
                "update legal_hold set released_by = $3, released_at = $4, release_reason = $5"
                " where tenant_id = $1 and public_id = $2 and released_at is null returning true",
                entry.tenant_id,
                hold.id,
                user_id,
                self._now(),
                entry.reason,
            )
            if not done:
                return None
            await audit.append(connection, dataclasses.replace(entry, details={"hold": hold.id}))
            return await _find(connection, entry.tenant_id, hold.id)

    async def find(self, tenant: TenantId, public_id: str) -> LegalHold | None:
        """One hold."""
        async with self._database.transaction(tenant) as connection:
            return await _find(connection, tenant, public_id)

    async def of(self, recording: Details) -> list[LegalHold]:
        """All holds that a recording has had, newest first."""
        async with self._database.transaction(recording.tenant_id) as connection:
            rows = await connection.fetch(
                _SELECT + " and h.recording_id = $2 order by h.id desc limit 500", recording.tenant_id, recording.id
            )
        return [LegalHold(**dict(row)) for row in rows]

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._clock.wall_ms() / 1000, datetime.UTC)


async def stands(connection: Any, tenant: TenantId, recording_id: int) -> bool:
    """Whether a hold stands, in the caller's transaction, which has locked the recording."""
    return bool(
        await connection.fetchval(
            "select exists (select from legal_hold where tenant_id = $1 and recording_id = $2 and released_at is null)",
            tenant,
            recording_id,
        )
    )


async def _find(connection: Any, tenant: TenantId, public_id: str) -> LegalHold | None:
    row = await connection.fetchrow(_SELECT + " and h.public_id = $2", tenant, public_id)
    return None if row is None else LegalHold(**dict(row))


_SELECT: Final = """
select h.public_id as id, r.public_id as recording_id, h.reason, p.public_id as placed_by,
  (extract(epoch from h.placed_at) * 1000)::bigint as placed_at_ms, q.public_id as released_by,
  (extract(epoch from h.released_at) * 1000)::bigint as released_at_ms, h.release_reason
from legal_hold h join recording r on r.tenant_id = h.tenant_id and r.id = h.recording_id
join app_user p on p.tenant_id = h.tenant_id and p.id = h.placed_by
left join app_user q on q.tenant_id = h.tenant_id and q.id = h.released_by
where h.tenant_id = $1
"""
