"""Tags: words that staff put on recordings to find them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from config.ids import TenantId

TAGS_MAX: Final = 20
CHARS_MAX: Final = 40
SHOWN_MAX: Final = 200


def tidy(wanted: Sequence[str]) -> list[str] | None:
    """The tags in order, each once, without spaces around; None where there are too many, or one is too long."""
    words = sorted({" ".join(tag.split()) for tag in wanted})
    return words if len(words) <= TAGS_MAX and all(1 <= len(word) <= CHARS_MAX for word in words) else None


async def put(connection: Any, tenant: TenantId, recording_id: int, words: Sequence[str]) -> None:
    """A recording's tags are these now."""
    await connection.execute(
        "update recording set tags = $3 where tenant_id = $1 and id = $2", tenant, recording_id, list(words)
    )


async def used(connection: Any, tenant: TenantId) -> list[dict[str, Any]]:
    """The tags that are most in use, and how often."""
    rows = await connection.fetch(
        "select tag, count(*) as count from recording r, unnest(r.tags) tag where tenant_id = $1"
        " group by tag order by count desc, tag limit $2",
        tenant,
        SHOWN_MAX,
    )
    return [dict(row) for row in rows]
