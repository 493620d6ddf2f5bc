"""The ledger's SQL: accounts and transfers; ``tariffs`` has that of rates, ``meter_store`` that of the meters.

Each function is one short transaction; what moves money is a function in the migration. Faults of the connection come
out as ``LedgerUnavailable``: every write here may be repeated, since the ledger works from totals and keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

import asyncpg

from billing.terms import (
    BillingRefusal,
    Entry,
    EntryCursor,
    LedgerUnavailable,
    Wallet,
)
from config.database import AWAY, Database
from config.ids import PublicId, TenantId, UserId, new_public_id
from config.logs import get_log

log = get_log("billing.store")

LANES: Final = 2
"""How many ticks may run side by side, each with platform accounts of its own."""
ConstraintViolated: Final = asyncpg.IntegrityConstraintViolationError

_HOUSE: Final = {"payment_clearing": True, "promo": True, "package_liability": False}
"""House accounts of each currency → whether they may be below zero. What packages are owed may not."""
CLIENT_WALLET: Final = "client_wallet"
PROVIDER_EARNINGS: Final = "provider_earnings"
WALLET_KINDS: Final = {"client": CLIENT_WALLET, "provider": PROVIDER_EARNINGS}
"""The account that a user of a role has."""


@contextlib.asynccontextmanager
async def ledger(database: Database, tenant: TenantId | str) -> AsyncIterator[Any]:
    """A transaction; raises ``LedgerUnavailable`` when PostgreSQL cannot be reached or does not answer."""
    try:
        async with database.transaction(tenant) as connection:
            yield connection
    except AWAY as error:
        raise LedgerUnavailable(f"{type(error).__name__}: {error}") from error


# --- accounts and transfers --------------------------------------------------------------------------------------


async def open_account(database: Database, tenant: TenantId, user_id: UserId, kind: str, currency: str) -> None:
    """A user's account, and the house accounts of its currency, unless they exist."""
    async with ledger(database, tenant) as connection:
        await connection.executemany(
            "insert into account (tenant_id, kind, user_id, lane, currency, overdraft) values ($1, $2, $3, $4, $5, $6)"
            " on conflict (tenant_id, kind, user_id, currency, lane) do nothing",
            [
                (tenant, kind, user_id, 0, currency, False),
                *((tenant, house, 0, 0, currency, overdraft) for house, overdraft in _HOUSE.items()),
                *((tenant, "platform_revenue", 0, lane, currency, True) for lane in range(LANES)),
            ],
        )


async def read_wallet(database: Database, tenant: TenantId, user_id: UserId, kind: str) -> Wallet | None:
    """The user's account of that kind, or None."""
    async with ledger(database, tenant) as connection:
        row = await find_account(connection, tenant, user_id, kind)
    return None if row is None else _wallet(row)


async def user_currency(database: Database, tenant: TenantId, user_id: UserId) -> str | None:
    """The currency that a user deals in; None: no such user."""
    async with ledger(database, tenant) as connection:
        currency: str | None = await connection.fetchval(
            "select currency from app_user where tenant_id = $1 and id = $2", tenant, user_id
        )
    return currency


class Holder(NamedTuple):
    """A user, as far as money is concerned."""

    id: UserId
    role: str


async def find_user(database: Database, tenant: TenantId, public_id: PublicId) -> Holder | None:
    """The user of that public id; None: there is none in this tenant."""
    async with ledger(database, tenant) as connection:
        row = await connection.fetchrow(
            "select id, role from app_user where tenant_id = $1 and public_id = $2", tenant, public_id
        )
    return None if row is None else Holder(row["id"], row["role"])


async def credit(
    database: Database, tenant: TenantId, user_id: UserId, kind: str, amount_minor: int, key: str, memo: str
) -> Wallet | BillingRefusal:
    """Credit a client's wallet, once per key: a ``topup`` from payment clearing, or ``promo`` credit from the house."""
    async with ledger(database, tenant) as connection:
        row = await find_account(connection, tenant, user_id, CLIENT_WALLET)
        if row is None:
            return BillingRefusal.NO_WALLET
        status = await connection.fetchval(
            "select post_transfer($1, $2, $3, a.id, $4, $5, $6, $7, $8) from account a"
            " where a.tenant_id = $1 and a.kind = $9 and a.currency = $6",
            tenant,
            new_public_id("trf"),
            kind,
            row["id"],
            amount_minor,
            row["currency"],
            key,
            memo,
            _SOURCES[kind],
        )
        if status not in ("done", "replayed"):
            return BillingRefusal(status)
        after = await find_account(connection, tenant, user_id, CLIENT_WALLET)
    return _wallet(after)


_SOURCES: Final = {"topup": "payment_clearing", "promo": "promo"}


async def read_entries(
    database: Database, tenant: TenantId, user_id: UserId, kind: str, after: EntryCursor | None, limit: int
) -> list[Entry]:
    """A wallet's history, newest first, from the place ``after`` on."""
    async with ledger(database, tenant) as connection:
        rows = await connection.fetch(_ENTRIES, tenant, user_id, kind, *(after or (None, None, None)), limit)
    return [
        Entry(
            EntryCursor(row["at_us"], row["part"], row["number"]),
            row["public_id"],
            row["kind"],
            row["amount_minor"],
            row["currency"],
            row["balance_minor"],
            row["memo"],
        )
        for row in rows
    ]


LINES: Final = """
with mine as (
  select id, currency from account where tenant_id = $1 and user_id = $2 and kind = $3 order by id limit 1
), line as (
  -- The legs of one charge, or one reversal, are one line.
  select max(t.created_at) as at, 't' as part, max(t.id) as number, coalesce(t.source_id, t.public_id) as public_id,
    t.kind, t.currency, case t.kind when 'reversal' then 'Given back' else max(t.memo) end as memo,
    sum(case when t.credit_account_id = mine.id then t.amount_minor else -t.amount_minor end)::bigint as amount_minor,
    (array_agg(case when t.credit_account_id = mine.id then t.credit_balance_minor else t.debit_balance_minor end
               order by t.id desc))[1] as balance_minor
  from transfer t join mine on mine.id in (t.credit_account_id, t.debit_account_id) where t.tenant_id = $1
  group by coalesce(t.source_id, t.public_id), t.kind, t.currency
  union all
  select coalesce(m.settled_at, m.posted_at), 's', m.session_id, m.session_public_id, 'session', m.currency,
    initcap(m.kind) || ' call',
    case when m.client_account_id = mine.id then -m.posted_minor else m.posted_provider_minor end,
    case when m.client_account_id = mine.id then m.client_balance_minor else m.provider_balance_minor end
  from session_meter m join mine on mine.id in (m.client_account_id, m.provider_account_id)
  where m.tenant_id = $1 and m.posted_minor > 0
), placed as (
  select l.*, (extract(epoch from l.at) * 1000000)::bigint as at_us from line l where l.amount_minor <> 0
)
"""
"""A wallet's history as lines: of user $2's account of kind $3. A session is one line, dated by its settlement. Why
something was given back is finance's to know, not on the line."""
_ENTRIES: Final = (
    LINES
    + """
select * from placed
where $4::bigint is null or (at_us, part, number) < ($4::bigint, $5::text, $6::bigint)
order by at_us desc, part desc, number desc limit $7
"""
)


async def find_account(connection: Any, tenant: TenantId, user_id: UserId, kind: str) -> Any:
    """A user's account row, or None."""
    return await connection.fetchrow(
        "select * from account where tenant_id = $1 and user_id = $2 and kind = $3 order by id limit 1",
        tenant,
        user_id,
        kind,
    )


def _wallet(row: Any) -> Wallet:
    return Wallet(
        row["posted_minor"],
        row["posted_minor"] - row["held_minor"],
        row["held_minor"],
        row["currency"],
        row["promo_minor"],
    )
