"""The policy of a tenant for each kind of call: how long recordings are kept, what is made of them, who sees theirs.

How long is fixed for each recording when it begins; the rest is as the policy says when it is asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from config.ids import TenantId

KEEP_DAYS_DEFAULT: Final = 1827
"""Five years, leap day included: what MiFID II asks for at least (Directive 2014/65/EU, article 16(7))."""
KEEP_DAYS: Final = (1, 36_500)
AFTER_H: Final = (0, 8_760)
KINDS: Final = ("audio", "video")
LAYOUTS: Final = ("side_by_side", "speaker", "audio")
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS


class OwnRule(NamedTuple):
    """When people see recordings of their own calls."""

    after_h: int
    """Hours after the end of the call."""
    for_days: int
    """For so long from then on."""
    download: bool = False
    """Whether they may save files made of it as well."""

    def span_ms(self, ended_at_ms: int) -> tuple[int, int]:
        """From when until when, in Unix milliseconds."""
        first_ms = ended_at_ms + self.after_h * HOUR_MS
        return first_ms, first_ms + self.for_days * DAY_MS


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """What holds for one kind of call."""

    kind: str
    keep_days: int = KEEP_DAYS_DEFAULT
    preview: bool = True
    """Whether thumbnail and waveform are made of every recording."""
    compose: Sequence[str] = ()
    """What is composed of every recording: layouts."""
    client: OwnRule | None = None
    """When clients see their own; None: they do not."""
    provider: OwnRule | None = None
    announce: bool = True
    """Whether those in the call hear that it is recorded."""
    announce_url: str | None = None
    """The tenant's own spoken notice; None: a sound, and the text."""

    def own(self, role: str) -> OwnRule | None:
        """The rule for people of a role in the call."""
        return {"client": self.client, "provider": self.provider}.get(role)

    @property
    def sound(self) -> bool:
        """Whether such a policy may be."""
        rules = [rule for rule in (self.client, self.provider) if rule is not None]
        return (
            self.kind in KINDS
            and KEEP_DAYS[0] <= self.keep_days <= KEEP_DAYS[1]
            and set(self.compose) <= set(LAYOUTS)
            and all(AFTER_H[0] <= rule.after_h <= AFTER_H[1] for rule in rules)
            and all(KEEP_DAYS[0] <= rule.for_days <= KEEP_DAYS[1] for rule in rules)
        )


async def policy(connection: Any, tenant: TenantId, kind: str) -> Policy:
    """What holds for one kind now."""
    return (await policies(connection, tenant))[kind]


async def policies(connection: Any, tenant: TenantId) -> dict[str, Policy]:
    """What holds now, by kind."""
    rows = await connection.fetch("select * from retention_policy where tenant_id = $1", tenant)
    return {kind: Policy(kind) for kind in KINDS} | {row["kind"]: _policy(row) for row in rows}


async def set_policy(connection: Any, tenant: TenantId, wanted: Policy, *, only_first: bool = False) -> None:
    """For how long: for recordings that begin from now on; what was promised of older ones stands.

    ``only_first``: only where nothing was ever set.
    """
    known = "select true from retention_policy where tenant_id = $1 and kind = $2"
    if only_first and await connection.fetchval(known, tenant, wanted.kind):
        return
    await connection.execute(
        "insert into retention_policy (tenant_id, kind, keep_days, preview, compose, announce, announce_url,"
        " client_after_h, client_for_days, client_download, provider_after_h, provider_for_days, provider_download)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
        " on conflict (tenant_id, kind) do update set keep_days = excluded.keep_days, preview = excluded.preview,"
        " compose = excluded.compose, announce = excluded.announce, announce_url = excluded.announce_url,"
        " client_after_h = excluded.client_after_h, client_for_days = excluded.client_for_days,"
        " client_download = excluded.client_download, provider_after_h = excluded.provider_after_h,"
        " provider_for_days = excluded.provider_for_days, provider_download = excluded.provider_download",
        tenant,
        wanted.kind,
        wanted.keep_days,
        wanted.preview,
        list(wanted.compose),
        wanted.announce,
        wanted.announce_url,
        *(wanted.client or (None, None, False)),
        *(wanted.provider or (None, None, False)),
    )


def _policy(row: Any) -> Policy:
    names = ("after_h", "for_days", "download")
    rules = {
        role: None if row[f"{role}_after_h"] is None else OwnRule(*(row[f"{role}_{name}"] for name in names))
        for role in ("client", "provider")
    }
    announced = (row["announce"], row["announce_url"])
    return Policy(
        row["kind"],
        row["keep_days"],
        row["preview"],
        tuple(row["compose"]),
        rules["client"],
        rules["provider"],
        *announced,
    )


async def locked(connection: Any, tenant: TenantId) -> None:
    """Of several who change policies of a tenant at once, one does; the others wait until that is committed."""
    await connection.execute("select pg_advisory_xact_lock(hashtext('retention_policy'), $1::int)", tenant % 2**31)
