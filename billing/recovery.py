"""What providers owe after refunds that they no longer had, paid off with what they earn next.

One function of the ledger does it (``recover_receivable``): one transaction, once per movement of the receivable. It is
called after whatever earned them something, and nightly for everybody, in case that call was lost.
"""

from __future__ import annotations

from typing import Final

from billing.store import ConstraintViolated, ledger
from billing.terms import LedgerUnavailable
from config.database import ALL_TENANTS, Database
from config.ids import SessionId, TenantId, UserId
from config.logs import get_log

OWING_MAX: Final = 1_000
"""Providers looked up at a time."""

log = get_log("billing.recovery")


async def after_session(database: Database, tenant: TenantId, session_id: SessionId) -> int:
    """A session was settled: its provider pays what they owe, as far as they have it."""
    return await _try(
        database,
        tenant,
        "select recover_receivable(m.tenant_id, e.user_id) from session_meter m"
        " join account e on e.tenant_id = m.tenant_id and e.id = m.provider_account_id"
        " where m.tenant_id = $1 and m.session_id = $2 and exists (select from account o where o.user_id = e.user_id"
        "  and o.tenant_id = e.tenant_id and o.kind = 'receivable' and o.posted_minor < 0)",
        session_id,
    )


async def of_provider(database: Database, tenant: TenantId, user_id: UserId) -> int:
    """A provider earned something: they pay what they owe, as far as they have it. Returns how much."""
    return await _try(database, tenant, "select recover_receivable($1, $2)", user_id)


async def of_everybody(database: Database) -> int:
    """What the calls after each earning may have missed. One provider whose debt cannot be paid stops nobody else's."""
    paid, after = 0, (TenantId(0), UserId(0))
    while True:
        async with ledger(database, ALL_TENANTS) as connection:
            owing = await connection.fetch(_ABLE, *after, OWING_MAX)
        for row in owing:
            after = (TenantId(row["tenant_id"]), UserId(row["user_id"]))
            try:
                paid += await of_provider(database, *after)
            except ConstraintViolated as error:
                log.error("debt not paid off", tenant_id=after[0], user_id=after[1], why=str(error))
        if len(owing) < OWING_MAX:
            return paid


_ABLE: Final = """
select distinct o.tenant_id, o.user_id from account o join account e on e.tenant_id = o.tenant_id
  and e.user_id = o.user_id and e.currency = o.currency and e.kind = 'provider_earnings'
where o.kind = 'receivable' and o.posted_minor < 0 and e.posted_minor > e.held_minor
  and (o.tenant_id, o.user_id) > ($1, $2) order by 1, 2 limit $3
"""
"""Those who owe and have something, from the place $1, $2 on."""


async def owed(database: Database, tenant: TenantId, user_id: UserId) -> int:
    """What a provider owes now, in minor units."""
    async with ledger(database, tenant) as connection:
        minor: int = await connection.fetchval(
            "select coalesce(-sum(posted_minor), 0)::bigint from account where tenant_id = $1 and user_id = $2"
            " and kind = 'receivable'",
            *(tenant, user_id),
        )
    return minor


async def _try(database: Database, tenant: TenantId, statement: str, key: int) -> int:
    try:
        async with ledger(database, tenant) as connection:
            paid: int = await connection.fetchval(statement, tenant, key) or 0
    except LedgerUnavailable as error:  # what earned it is posted; the night makes up for this
        log.warning("debt not looked at", why=str(error))
        return 0
    if paid:
        log.info("debt paid off", tenant_id=tenant, amount_minor=paid)
    return paid
