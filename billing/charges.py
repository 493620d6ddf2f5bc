"""What is charged at once (gifts, premium messages, tips, products), and what is given back.

One function moves the money for all of them (``post_charge`` in the migration): it locks the wallet as the meter does,
counts what sessions hold, spends promotional credit first, and shares the amount, in one transaction. A repetition
under the same key returns the first charge; the same key for something else is refused.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final, Literal

from billing.store import CLIENT_WALLET, PROVIDER_EARNINGS, ConstraintViolated, find_account, ledger
from billing.terms import PROVIDER_BPS, BillingRefusal
from config.database import Database
from config.ids import PublicId, TenantId, UserId, new_public_id

ChargeKind = Literal["gift", "premium_message", "tip", "product"]
CHARGE_MAX_MINOR: Final = 1_000_000
"""Largest one-off charge, in minor units."""
EVERYBODY: Final = 0
"""In a rule: all providers that have none of their own."""


@dataclasses.dataclass(frozen=True, slots=True)
class ChargeOrder:
    """What a client wants to pay for."""

    tenant_id: TenantId
    payer_id: UserId
    kind: ChargeKind
    amount_minor: int
    currency: str
    provider: PublicId | None
    """Who is paid; None: a product of the platform's own."""
    session: PublicId | None
    """The session that it belongs to, between these two."""
    memo: str
    key: str
    """The payer's own; counts once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Charge:
    """A one-off charge as posted."""

    public_id: PublicId
    kind: str
    amount_minor: int
    provider_minor: int
    promo_minor: int
    currency: str
    session: PublicId | None
    memo: str
    at_ms: int


@dataclasses.dataclass(frozen=True, slots=True)
class Reversal:
    """What was given back."""

    public_id: PublicId
    amount_minor: int
    provider_minor: int
    """The provider's part, as it was shared."""
    receivable_minor: int
    """How much of that the provider no longer had, and owes now."""
    promo_minor: int
    currency: str
    reason: str
    at_ms: int


async def charge(database: Database, order: ChargeOrder) -> Charge | BillingRefusal:
    """Charge at once, once per key of the payer. Refused: nothing is written."""
    if not 0 < order.amount_minor <= CHARGE_MAX_MINOR or (order.provider is None and order.kind != "product"):
        return BillingRefusal.BAD_AMOUNT if order.provider is not None else BillingRefusal.NO_WALLET
    tenant = order.tenant_id
    async with ledger(database, tenant) as connection:
        payer = await find_account(connection, tenant, order.payer_id, CLIENT_WALLET)
        provider_id = await _provider_id(connection, order)
        provider = await find_account(connection, tenant, provider_id, PROVIDER_EARNINGS) if provider_id else None
        if payer is None or (order.provider is not None and provider is None):
            return BillingRefusal.NO_WALLET
        if payer["currency"] != order.currency or (provider is not None and provider["currency"] != order.currency):
            return BillingRefusal.CURRENCY_MISMATCH
        if order.session is not None and not await _between(connection, tenant, order.session, payer, provider):
            return BillingRefusal.NO_SUCH_SESSION
        key = f"charge:{order.payer_id}:{order.key}"
        status = await connection.fetchval(
            "select post_charge($1, $2, $3, $4, $5, a.id, $6, $7, $8, $9, $10, $11, $12) from account a"
            " where a.tenant_id = $1 and a.kind = 'platform_revenue' and a.currency = $7 and a.lane = 0",
            *(tenant, new_public_id("chg"), order.kind, payer["id"], None if provider is None else provider["id"]),
            *(order.amount_minor, order.currency, await _share_bps(connection, tenant, order.kind, provider_id)),
            *(order.session, key, _content(order), order.memo),
        )
        if status not in ("done", "replayed"):
            return BillingRefusal(status)
        row = await connection.fetchrow(
            "select * from charge where tenant_id = $1 and idempotency_key = $2", tenant, key
        )
    return _charge(row)


async def _provider_id(connection: Any, order: ChargeOrder) -> UserId | None:
    if order.provider is None:
        return None
    found: UserId | None = await connection.fetchval(
        "select id from app_user where tenant_id = $1 and public_id = $2 and role = 'provider'",
        order.tenant_id,
        order.provider,
    )
    return found


async def _between(connection: Any, tenant: TenantId, session: PublicId, payer: Any, provider: Any) -> bool:
    return bool(
        await connection.fetchval(
            "select 1 from session_meter where tenant_id = $1 and session_public_id = $2 and client_account_id = $3"
            " and ($4::bigint is null or provider_account_id = $4)",
            *(tenant, session, payer["id"], None if provider is None else provider["id"]),
        )
    )


async def _share_bps(connection: Any, tenant: TenantId, kind: str, provider_id: UserId | None) -> int:
    """The newest rule for this provider and kind, else that for everybody."""
    bps = await connection.fetchval(
        "select provider_bps from charge_rule where tenant_id = $1 and kind = $2 and provider_id = any ($3)"
        " order by provider_id desc, id desc limit 1",
        *(tenant, kind, [EVERYBODY, provider_id or EVERYBODY]),
    )
    return PROVIDER_BPS if bps is None else int(bps)


def _content(order: ChargeOrder) -> str:
    parts = [order.kind, order.amount_minor, order.currency, order.provider, order.session, order.memo]
    return json.dumps(parts, ensure_ascii=False)


async def set_share(database: Database, tenant: TenantId, provider_id: int, kind: str, provider_bps: int) -> None:
    """What a provider (``EVERYBODY``: all) gets of a kind of one-off charge from now on, in basis points."""
    async with ledger(database, tenant) as connection:
        await connection.execute(
            "insert into charge_rule (tenant_id, provider_id, kind, provider_bps) values ($1, $2, $3, $4)",
            *(tenant, provider_id, kind, provider_bps),
        )


async def of_session(database: Database, tenant: TenantId, session: PublicId) -> tuple[list[Charge], list[Reversal]]:
    """The one-off charges of a session, and what was given back of it and of them; oldest first."""
    async with ledger(database, tenant) as connection:
        charges = await connection.fetch(
            "select * from charge where tenant_id = $1 and session_public_id = $2 order by id", tenant, session
        )
        reversals = await connection.fetch(
            "select r.* from reversal r where r.tenant_id = $1 and (r.charge_id = any ($3) or r.session_id = ("
            " select session_id from session_meter where tenant_id = $1 and session_public_id = $2)) order by r.id",
            *(tenant, session, [row["id"] for row in charges]),
        )
    return [_charge(row) for row in charges], [_reversal(row) for row in reversals]


async def reverse(
    database: Database,
    tenant: TenantId,
    what: PublicId,
    amount_minor: int,
    key: str,
    actor_id: UserId,
    reason: str,
) -> Reversal | BillingRefusal:
    """Give back part or all of a settled session (``ses_…``) or a one-off charge (``chg_…``), or what is left of a
    package (``pkg_…``, without an amount), once per key."""
    order = (what, amount_minor, key, actor_id, reason)
    try:
        return await _reverse(database, tenant, *order)
    except ConstraintViolated:  # the same key for something else at the same moment: now it is there to be seen
        return await _reverse(database, tenant, *order)


async def _reverse(
    database: Database, tenant: TenantId, what: PublicId, amount_minor: int, key: str, actor_id: UserId, reason: str
) -> Reversal | BillingRefusal:
    if what.startswith("pkg_"):
        return await _refund_package(database, tenant, what, key, actor_id, reason)
    if not 0 < amount_minor <= 10**12 or not 3 <= len(reason) <= 500:
        return BillingRefusal.BAD_AMOUNT
    is_session, full_key = what.startswith("ses_"), f"reversal:{actor_id}:{key}"
    async with ledger(database, tenant) as connection:
        status = await connection.fetchval(
            "select post_reversal($1, $2, $3, $4, $5, $6, $7, $8)",
            *(tenant, new_public_id("rev"), what if is_session else None, None if is_session else what),
            *(amount_minor, full_key, actor_id, reason),
        )
        if status == "unknown":
            return BillingRefusal.NO_SUCH_SESSION if is_session else BillingRefusal.NO_SUCH_CHARGE
        if status not in ("done", "replayed"):
            return BillingRefusal(status)
        row = await connection.fetchrow(
            "select * from reversal where tenant_id = $1 and idempotency_key = $2", tenant, full_key
        )
    return _reversal(row)


async def _refund_package(
    database: Database, tenant: TenantId, package: PublicId, key: str, actor_id: UserId, reason: str
) -> Reversal | BillingRefusal:
    if not 3 <= len(reason) <= 500:
        return BillingRefusal.BAD_AMOUNT
    full_key = f"reversal:{actor_id}:{key}"
    async with ledger(database, tenant) as connection:
        status = await connection.fetchval(
            "select refund_package($1, $2, $3, $4, $5, $6)",
            *(tenant, new_public_id("rev"), package, full_key, actor_id, reason),
        )
        if status == "unknown":
            return BillingRefusal.NO_SUCH_PACKAGE
        if status not in ("done", "replayed"):
            return BillingRefusal(status)
        row = await connection.fetchrow(
            "select * from reversal where tenant_id = $1 and idempotency_key = $2", tenant, full_key
        )
    return _reversal(row)


async def parties(database: Database, tenant: TenantId, what: PublicId) -> list[tuple[UserId, str]]:
    """Whose wallets a session, a charge or a package is about, with their roles."""
    async with ledger(database, tenant) as connection:
        rows = await connection.fetch(
            "select distinct a.user_id, a.kind from account a join ("
            " select array[client_account_id, provider_account_id] as ids from session_meter"
            "  where tenant_id = $1 and session_public_id = $2"
            " union all select array[payer_account_id, provider_account_id] from charge"
            "  where tenant_id = $1 and public_id = $2"
            " union all select array[client_account_id] from client_package where tenant_id = $1 and public_id = $2"
            ") x on a.id = any (x.ids) where a.tenant_id = $1",
            *(tenant, what),
        )
    return [(row["user_id"], "client" if row["kind"] == CLIENT_WALLET else "provider") for row in rows]


def _charge(row: Any) -> Charge:
    return Charge(
        public_id=row["public_id"],
        kind=row["kind"],
        amount_minor=row["amount_minor"],
        provider_minor=row["provider_minor"],
        promo_minor=row["promo_minor"],
        currency=row["currency"],
        session=row["session_public_id"],
        memo=row["memo"],
        at_ms=int(row["created_at"].timestamp() * 1000),
    )


def _reversal(row: Any) -> Reversal:
    return Reversal(
        public_id=row["public_id"],
        amount_minor=row["amount_minor"],
        provider_minor=row["provider_minor"],
        receivable_minor=row["receivable_minor"],
        promo_minor=row["promo_minor"],
        currency=row["currency"],
        reason=row["reason"],
        at_ms=int(row["created_at"].timestamp() * 1000),
    )
