"""What finance reads: whose money is where, and what a provider earned by day."""

from __future__ import annotations

import datetime
from typing import Final, NamedTuple

from billing.store import ledger
from config.database import Database
from config.ids import TenantId, UserId

ACCOUNTS_MAX: Final = 50
"""Accounts found at once."""
EARNED_DAYS: Final = 62
"""Days that earnings are told of: this month and the one before."""
OPEN_DAYS: Final = 7
"""A session that was open for longer before these days is left out."""
IDS_SLACK: Final = 10_000
"""Numbers of transfers rise with time, but for those that were written side by side."""


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
    """What a provider earned on each of the last days, newest first; days without anything are left out.

    What was given back counts on the day of the refund, whole: also the part that they did not have and owe from then
    on. Paying that off takes nothing off once more."""
    async with ledger(database, tenant) as connection:
        rows = await connection.fetch(_EARNED, tenant, user_id, EARNED_DAYS, OPEN_DAYS, IDS_SLACK)
    return [EarnedDay(*row.values()) for row in rows]


_EARNED: Final = """
with mine as (
  select a.id, a.kind from account a where a.tenant_id = $1 and a.user_id = $2
    and a.kind in ('provider_earnings', 'receivable') and a.currency = (
      select e.currency from account e where e.tenant_id = $1 and e.user_id = $2 and e.kind = 'provider_earnings'
      order by e.id limit 1)
), since as materialized (
  select now() - $3 * interval '1 day' as at, now() - ($3 + $4) * interval '1 day' as opened, (
    select t.id - $5 from transfer t where t.tenant_id = $1 and t.created_at >= now() - $3 * interval '1 day'
    order by t.created_at limit 1) as transfer_id
), earned as (
  select coalesce(m.settled_at, m.posted_at) as at, m.posted_provider_minor as amount_minor, 1 as sessions
  from since, mine join session_meter m on m.tenant_id = $1 and m.provider_account_id = mine.id
  where mine.kind = 'provider_earnings' and m.opened_at >= since.opened and m.posted_provider_minor > 0
  union all
  select t.created_at, t.amount_minor, 0
  from since, mine join transfer t on t.tenant_id = $1 and t.credit_account_id = mine.id
  where mine.kind = 'provider_earnings' and t.id >= since.transfer_id and t.kind in ('charge', 'package_use')
  union all
  select t.created_at, -t.amount_minor, 0
  from since, mine join transfer t on t.tenant_id = $1 and t.debit_account_id = mine.id
  where t.id >= since.transfer_id and t.kind = 'reversal'
)
select (e.at at time zone 'UTC')::date as day, sum(e.amount_minor)::bigint as amount_minor, sum(e.sessions) as sessions
from earned e, since where e.at >= since.at group by 1 order by 1 desc
"""
