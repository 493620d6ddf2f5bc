"""One session's postings, found by their key: ``session_charge`` has all sessions' postings of many weeks.

Its only key begins with the time slot, and another index would cost every tick. The meter's row knows when the session
opened and in which slot it was posted to last; each slot between is looked up by itself, a few microseconds each.
"""

from __future__ import annotations

from typing import Any, Final

from billing.meter_store import SLOT_MS
from config.ids import SessionId, TenantId

SLOTS_MAX: Final = 2 * 86_400_000 // SLOT_MS
"""The newest slots of a session that are looked at: postings of the two days before its last one."""
SLOT_SLACK: Final = 3_600_000 // SLOT_MS
"""Slots come from the application's clock, the opening from the database's: so much they may lie apart."""

FROM_POSTINGS: Final = f"""
session_meter m
cross join lateral generate_series(
  greatest(extract(epoch from m.opened_at)::bigint * 1000 / {SLOT_MS} - {SLOT_SLACK}, m.last_slot - {SLOTS_MAX}),
  m.last_slot) as s (slot)
cross join lateral (
  -- Offset 0 keeps this a look-up for each slot, and each slot's partition the only one that is opened.
  select * from session_charge x where x.tenant_id = m.tenant_id and x.slot = s.slot and x.session_id = m.session_id
  offset 0) c
where m.last_slot > 0 and m.tenant_id = $1 and m.session_id = $2
"""
"""``c``: the postings of session $2 of tenant $1."""
_READ: Final = (
    "select c.slot, c.leg, c.amount_minor, c.fee_minor, c.promo_minor, c.through_ms, c.created_at from "
    f"{FROM_POSTINGS} order by c.slot, c.leg"
)


async def read_postings(connection: Any, tenant: TenantId, session_id: SessionId) -> list[Any]:
    """A session's postings that are not archived, oldest first."""
    rows: list[Any] = await connection.fetch(_READ, tenant, session_id)
    return rows
