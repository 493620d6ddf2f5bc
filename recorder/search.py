"""What recordings are searched by, and the one statement that finds them."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from config.ids import TenantId, UserId


class Search(NamedTuple):
    """What recordings are looked for; None: anything."""

    participant: str | None = None
    """A public id, or part of a name."""
    session: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    before: int | None = None
    """Cursor: recordings older than this one."""
    held: bool = False
    """Only those under a legal hold."""
    kind: str | None = None
    state: str | None = None
    min_duration_ms: int | None = None
    max_duration_ms: int | None = None
    tag: str | None = None
    min_mos: float | None = None
    max_mos: float | None = None
    own: UserId | None = None
    """Only those that this user took part in."""


HELD: Final = (
    "exists (select from legal_hold h where h.tenant_id = r.tenant_id and h.recording_id = r.id"
    " and h.released_at is null) as held"
)
_SEARCH: Final = f"""
select *, {HELD} from recording r where tenant_id = $1
  and ($2::bigint is null or id < $2) and ($3::text is null or session_public_id = $3)
  and ($4::bigint is null or started_at_ms >= $4) and ($5::bigint is null or started_at_ms <= $5)
  and ($6::text is null or exists (select from recording_participant p where p.tenant_id = r.tenant_id
    and p.recording_id = r.id and (p.public_id = $6 or p.name ilike $7)))
  and ($9::boolean is not true or exists (select from legal_hold h where h.tenant_id = r.tenant_id
    and h.recording_id = r.id and h.released_at is null))
  and ($10::text is null or kind = $10) and ($11::text is null or state = $11)
  and ($12::bigint is null or duration_ms >= $12) and ($13::bigint is null or duration_ms <= $13)
  and ($14::text is null or tags @> array[$14::text])
  and ($15::real is null or worst_mos >= $15) and ($16::real is null or worst_mos <= $16)
  and ($17::bigint is null or exists (select from recording_participant p where p.tenant_id = r.tenant_id
    and p.recording_id = r.id and p.user_id = $17))
order by id desc limit $8
"""  # noqa: S608 - no values in it


async def find_rows(connection: Any, tenant: TenantId, search: Search, limit: int) -> list[Any]:
    """Rows of ``recording``, newest first, with ``held``."""
    rows: list[Any] = await connection.fetch(
        _SEARCH,
        tenant,
        search.before,
        search.session,
        search.from_ms,
        search.to_ms,
        search.participant,
        _like(search.participant or ""),
        limit,
        search.held,
        search.kind,
        search.state,
        search.min_duration_ms,
        search.max_duration_ms,
        search.tag,
        search.min_mos,
        search.max_mos,
        search.own,
    )
    return rows


def _like(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"
