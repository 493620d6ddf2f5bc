"""The ledger's SQL: accounts, transfers, rates; ``meter_store`` has that of the meters.

Each function is one short transaction; what moves money is a function in the migration. Faults of the connection come
out as ``LedgerUnavailable``: every write here may be repeated, since the ledger works from totals and keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import asyncpg

from billing.terms import (
    BillingRefusal,
    Entry,
    EntryCursor,
    LedgerUnavailable,
    Rate,
    Wallet,
)
from config.database import Database
from config.ids import TenantId, UserId, new_public_id
from config.logs import get_log

log = get_log("billing.store")

LANES: Final = 2
"""How many ticks may run side by side, each with platform accounts of its own."""
ConstraintViolated: Final = asyncpg.IntegrityConstraintViolationError

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
    except (
        asyncpg.PostgresConnectionError,
        asyncpg.OperatorInterventionError,
        asyncpg.InsufficientResourcesError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        asyncpg.TransactionRollbackError,
        OSError,
        TimeoutError,
    ) as error:
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
                (tenant, "payment_clearing", 0, 0, currency, True),
                *((tenant, "platform_revenue", 0, lane, currency, False) for lane in range(LANES)),
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


async def top_up(
    database: Database, tenant: TenantId, user_id: UserId, amount_minor: int, key: str, memo: str
) -> Wallet | BillingRefusal:
    """Credit a client's wallet from payment clearing, once per key."""
    async with ledger(database, tenant) as connection:
        row = await find_account(connection, tenant, user_id, CLIENT_WALLET)
        if row is None:
            return BillingRefusal.NO_WALLET
        clearing = await connection.fetchval(
            "select id from account where tenant_id = $1 and kind = 'payment_clearing' and currency = $2",
            tenant,
            row["currency"],
        )
        status = await connection.fetchval(
            "select post_transfer($1, $2, 'topup', $3, $4, $5, $6, $7, $8)",
            tenant,
            new_public_id("trf"),
            clearing,
            row["id"],
            amount_minor,
            row["currency"],
            key,
            memo,
        )
        if status not in ("done", "replayed"):
            return BillingRefusal(status)
        after = await find_account(connection, tenant, user_id, CLIENT_WALLET)
    return _wallet(after)


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


_ENTRIES: Final = """
with mine as (
  select id, currency from account where tenant_id = $1 and user_id = $2 and kind = $3 order by id limit 1
), line as (
  select t.created_at as at, 't' as part, t.id as number, t.public_id, t.kind, t.currency, t.memo,
    case when t.credit_account_id = mine.id then t.amount_minor else -t.amount_minor end as amount_minor,
    case when t.credit_account_id = mine.id then t.credit_balance_minor else t.debit_balance_minor end as balance_minor
  from transfer t join mine on mine.id in (t.credit_account_id, t.debit_account_id) where t.tenant_id = $1
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
select * from placed
where $4::bigint is null or (at_us, part, number) < ($4::bigint, $5::text, $6::bigint)
order by at_us desc, part desc, number desc limit $7
"""


async def find_account(connection: Any, tenant: TenantId, user_id: UserId, kind: str) -> Any:
    """A user's account row, or None."""
    return await connection.fetchrow(
        "select * from account where tenant_id = $1 and user_id = $2 and kind = $3 order by id limit 1",
        tenant,
        user_id,
        kind,
    )


def _wallet(row: Any) -> Wallet:
    return Wallet(row["posted_minor"], row["posted_minor"] - row["held_minor"], row["held_minor"], row["currency"])


# --- rates -------------------------------------------------------------------------------------------------------


async def read_rates(database: Database, tenant: TenantId, provider_ids: Sequence[UserId]) -> dict[UserId, list[Rate]]:
    """The newest rate of each kind, by provider; all of the providers asked for are keys."""
    async with ledger(database, tenant) as connection:
        rows = await connection.fetch(
            "select distinct on (provider_id, kind) provider_id, kind, minor_per_minute, currency from tariff"
            " where tenant_id = $1 and provider_id = any ($2) order by provider_id, kind, id desc",
            tenant,
            list(provider_ids),
        )
    found: dict[UserId, list[Rate]] = {provider_id: [] for provider_id in provider_ids}
    for row in rows:
        found[row["provider_id"]].append(Rate(row["kind"], row["minor_per_minute"], row["currency"]))
    return found


async def add_rate(database: Database, tenant: TenantId, provider_id: UserId, rate: Rate, provider_bps: int) -> None:
    """Add to the history of rates, unless this is the newest already."""
    async with ledger(database, tenant) as connection:
        await connection.execute(
            "insert into tariff (tenant_id, provider_id, kind, minor_per_minute, currency, provider_bps)"
            " select $1, $2, $3::text, $4, $5::text, $6 where not exists (select from ("
            "  select * from tariff where tenant_id = $1 and provider_id = $2 and kind = $3::text"
            "  order by id desc limit 1"
            ") t where t.minor_per_minute = $4 and t.currency = $5::text and t.provider_bps = $6)",
            tenant,
            provider_id,
            rate.kind,
            rate.minor_per_minute,
            rate.currency,
            provider_bps,
        )
