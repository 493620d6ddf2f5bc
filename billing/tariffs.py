"""Tariffs as data: what providers charge, with history; and presets of how host platforms are known to charge."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any, Final

from billing.money import MINUTE_MS, Tariff
from billing.store import ledger
from billing.terms import Rate
from config.database import Database
from config.ids import TenantId, UserId
from relay.messages import SessionKind

STANDARD: Final = "standard"
"""The code of the tariff that applies where none is asked for."""
HISTORY_MAX: Final = 500
"""Rows of a provider's history that are shown, the newest."""


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """One tariff of a provider for a kind of session."""

    kind: SessionKind
    code: str
    tariff: Tariff
    """``free_ms`` is what is advertised; a pair that has had its free time of the day gets less."""
    currency: str
    free_daily_ms: int = 0
    """Free time of one client with this provider in one day (UTC), at most; 0: no cap."""
    valid_from: datetime.datetime | None = None
    """None: at once. Later: a change announced ahead."""
    valid_until: datetime.datetime | None = None
    tariff_id: int | None = None

    @property
    def rate(self) -> Rate:
        return Rate(self.kind, self.tariff.minor_per_minute, self.currency, self.tariff_id)


PER_SECOND: Final = Tariff(1, 7_000)
PRESETS: Final[dict[str, Tariff]] = {
    "per_second": PER_SECOND,
    "per_started_minute_70_30": dataclasses.replace(PER_SECOND, step_ms=MINUTE_MS),
    "every_5_s_90_10": dataclasses.replace(PER_SECOND, step_ms=5_000, provider_bps=9_000),
    **{
        f"flat_{minutes}": Tariff(0, 7_000, flat_minor=1, included_ms=minutes * MINUTE_MS)
        for minutes in (15, 30, 45, 60)
    },
    **{
        f"flat_{minutes}_overtime": Tariff(1, 7_000, step_ms=MINUTE_MS, flat_minor=1, included_ms=minutes * MINUTE_MS)
        for minutes in (15, 30, 45, 60)
    },
}
"""How platforms charge, with a price of 1 to be replaced (``preset``). Minute packages are offers of their own
(``billing.packages``); a session on packages alone needs no more than a per-second tariff beside them."""


def preset(name: str, minor_per_minute: int = 0, flat_minor: int = 0) -> Tariff:
    """A preset with its price. Raises KeyError on an unknown name, ValueError on a price that it has no place for."""
    base = PRESETS[name]
    if bool(base.flat_minor) != bool(flat_minor) or bool(base.minor_per_minute) != bool(minor_per_minute):
        raise ValueError(f"preset {name} has another kind of price")
    return dataclasses.replace(base, minor_per_minute=minor_per_minute, flat_minor=flat_minor)


async def add_offer(database: Database, tenant: TenantId, provider_id: UserId, offer: Offer) -> None:
    """Add to a provider's history, unless this is the newest of its kind and code already."""
    tariff = offer.tariff
    async with ledger(database, tenant) as connection:
        await connection.execute(
            "insert into tariff (tenant_id, provider_id, kind, code, minor_per_minute, step_ms, free_ms, free_daily_ms,"
            " flat_minor, included_ms, minimum_minor, currency, provider_bps, valid_from, valid_until)"
            " select $1, $2, $3::text, $4::text, $5, $6, $7, $8, $9, $10, $11, $12::text, $13,"
            "  coalesce($14::timestamptz, now()), $15"
            " where not exists (select from (select * from tariff where tenant_id = $1 and provider_id = $2"
            "  and kind = $3::text and code = $4::text order by id desc limit 1) t"
            "  where (t.minor_per_minute, t.step_ms, t.free_ms, t.free_daily_ms, t.flat_minor, t.included_ms,"
            "   t.minimum_minor, t.currency, t.provider_bps) = ($5, $6, $7, $8, $9, $10, $11, $12::text, $13)"
            "  and t.valid_from <= coalesce($14::timestamptz, now()) and t.valid_until is not distinct from $15)",
            *(tenant, provider_id, offer.kind, offer.code, tariff.minor_per_minute, tariff.step_ms, tariff.free_ms),
            *(offer.free_daily_ms, tariff.flat_minor, tariff.included_ms, tariff.minimum_minor, offer.currency),
            *(tariff.provider_bps, offer.valid_from, offer.valid_until),
        )


async def read_offers(
    database: Database, tenant: TenantId, provider_ids: Sequence[UserId]
) -> dict[UserId, list[Offer]]:
    """The valid tariffs of each of these providers, by kind and code; all of the providers asked for are keys."""
    async with ledger(database, tenant) as connection:
        rows = await connection.fetch(
            "select distinct on (provider_id, kind, code) * from tariff where tenant_id = $1 and provider_id = any ($2)"
            " and valid_from <= now() and (valid_until is null or valid_until > now())"
            " order by provider_id, kind, code, id desc",
            tenant,
            list(provider_ids),
        )
    found: dict[UserId, list[Offer]] = {provider_id: [] for provider_id in provider_ids}
    for row in rows:
        found[row["provider_id"]].append(_offer(row))
    return found


async def read_history(database: Database, tenant: TenantId, provider_id: UserId) -> list[Offer]:
    """All tariffs that a provider ever had, and those announced, newest first."""
    async with ledger(database, tenant) as connection:
        rows = await connection.fetch(
            "select * from tariff where tenant_id = $1 and provider_id = $2 order by id desc limit $3",
            *(tenant, provider_id, HISTORY_MAX),
        )
    return [_offer(row) for row in rows]


async def read_tariff(database: Database, tenant: TenantId, tariff_id: int | None) -> Tariff | None:
    """What a tariff charges; None: there is no such tariff."""
    async with ledger(database, tenant) as connection:
        row = await connection.fetchrow("select * from tariff where tenant_id = $1 and id = $2", tenant, tariff_id)
    return None if row is None else _offer(row).tariff


def _offer(row: Any) -> Offer:
    return Offer(
        kind=row["kind"],
        code=row["code"],
        tariff=Tariff(
            row["minor_per_minute"],
            row["provider_bps"],
            row["step_ms"],
            row["free_ms"],
            row["flat_minor"],
            row["included_ms"],
            row["minimum_minor"],
        ),
        currency=row["currency"],
        free_daily_ms=row["free_daily_ms"],
        valid_from=row["valid_from"],
        valid_until=row["valid_until"],
        tariff_id=row["id"],
    )


async def for_pair(
    database: Database, tenant: TenantId, client_id: UserId, provider_id: UserId, offer: Offer
) -> Tariff:
    """The tariff as it would be for a session of these two now: with the free time that is left to them today, and
    the package time that the client has."""
    async with ledger(database, tenant) as connection:
        row = await connection.fetchrow(_FOR_PAIR, tenant, client_id, provider_id, offer.kind, offer.free_daily_ms)
    free_ms = offer.tariff.free_ms
    if offer.free_daily_ms and row["free_ms"] is not None:
        free_ms = min(free_ms, row["free_ms"])
    tariff = dataclasses.replace(offer.tariff, free_ms=free_ms + row["prepaid_ms"])
    return tariff if row["then_money"] else dataclasses.replace(tariff, limit_ms=tariff.free_ms)


_FOR_PAIR: Final = """
with client as (
  select id from account where tenant_id = $1 and user_id = $2 and kind = 'client_wallet' order by id limit 1
), provider as (
  select id from account where tenant_id = $1 and user_id = $3 and kind = 'provider_earnings' order by id limit 1
)
select free_left_ms($1, (select id from client), (select id from provider), $5) as free_ms,
  coalesce(sum(total_ms - used_ms - reserved_ms), 0)::bigint as prepaid_ms,
  coalesce(bool_and(then_money), true) as then_money
from client_package
where tenant_id = $1 and client_account_id = (select id from client) and closed_at is null and expires_at > now()
  and total_ms > used_ms + reserved_ms and (provider_id is null or provider_id = $3) and (kind is null or kind = $4)
"""
