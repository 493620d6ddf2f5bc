"""For how long recordings are kept: the policy of a tenant by kind, fixed for each recording when it begins."""

from __future__ import annotations

from typing import Any, Final

from config.ids import TenantId

KEEP_DAYS_DEFAULT: Final = 1827
"""Five years, leap day included: what MiFID II asks for at least (Directive 2014/65/EU, article 16(7))."""
KEEP_DAYS: Final = (1, 36_500)
KINDS: Final = ("audio", "video")


async def policies(connection: Any, tenant: TenantId) -> dict[str, int]:
    """Days that recordings begun now are kept, by kind."""
    rows = await connection.fetch("select kind, keep_days from retention_policy where tenant_id = $1", tenant)
    return {**dict.fromkeys(KINDS, KEEP_DAYS_DEFAULT), **{row["kind"]: row["keep_days"] for row in rows}}


async def set_policy(connection: Any, tenant: TenantId, kind: str, keep_days: int) -> None:
    """For recordings that begin from now on; what was promised of older ones stands."""
    await connection.execute(
        "insert into retention_policy (tenant_id, kind, keep_days) values ($1, $2, $3)"
        " on conflict (tenant_id, kind) do update set keep_days = excluded.keep_days",
        tenant,
        kind,
        keep_days,
    )
