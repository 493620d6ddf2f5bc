"""What finance reads: whose money is where, and what a provider earned by day."""

from __future__ import annotations

import datetime
from typing import Final, NamedTuple

from billing.store import LINES, ledger
from config.database import Database
from config.ids import TenantId, UserId

ACCOUNTS_MAX: Final = 50
"""Accounts found at once."""
EARNED_DAYS: Final = 62
"""Days that earnings are told of: this month and the one before."""


class Held(NamedTuple):
    """A user's account."""

    user_id: str
    """Public id."""
    name: str
    email: str
    role: str
    avatar_hue: int
    currency: str
    balance_minor: int
    held_minor: int
    promo_minor: int
    owed_minor: int


class EarnedDay(NamedTuple):
    """What a provider earned on one day (UTC), refunds taken off."""

    day: datetime.date
    amount_minor: int
    sessions: int


async def read_accounts(database: Database, tenant: TenantId, query: str) -> list[Held]:
    """Wallets and earnings of people whose name or address has ``query`` in it, or whose id it is; newest first."""
    async with ledger(database, tenant) as connection:
        rows = await connection.fetch(_ACCOUNTS, tenant, query, ACCOUNTS_MAX)
    return [Held(*row.values()) for row in rows]


_ACCOUNTS: Final = """
select u.public_id, u.name, u.email, u.role, coalesce(u.avatar_hue, 0) as avatar_hue, a.currency, a.posted_minor,
  a.held_minor, a.promo_minor,
  coalesce((select -sum(o.posted_minor) from account o where o.tenant_id = a.tenant_id and o.user_id = a.user_id
    and o.kind = 'receivable' and o.currency = a.currency), 0)::bigint as owed_minor
from account a join app_user u on u.tenant_id = a.tenant_id and u.id = a.user_id
where a.tenant_id = $1 and a.kind in ('client_wallet', 'provider_earnings')
  and ($2 = '' or u.public_id = $2 or strpos(lower(u.name), lower($2)) > 0 or strpos(lower(u.email), lower($2)) > 0)
order by u.id desc limit $3
"""


async def read_earned(database: Database, tenant: TenantId, user_id: UserId) -> list[EarnedDay]:
    """What a provider earned on each of the last days, newest first; days without anything are left out."""
    async with ledger(database, tenant) as connection:
        rows = await connection.fetch(_EARNED, tenant, user_id, "provider_earnings", EARNED_DAYS)
    return [EarnedDay(*row.values()) for row in rows]


_EARNED: Final = (
    LINES
    + """
select (at at time zone 'UTC')::date as day, sum(amount_minor)::bigint as amount_minor,
  count(*) filter (where kind = 'session') as sessions
from placed where kind <> 'recovery' and at >= now() - $4 * interval '1 day' group by 1 order by 1 desc
"""
)
