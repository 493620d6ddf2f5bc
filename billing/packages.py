"""Prepaid time: what is offered, bought, and left.

A package's price lies in ``package_liability`` until its time is used: then it goes to provider and platform in
proportion, and what is left when it expires is the platform's. A session takes the packages that fit it in the order of
their expiry, holds all that is left of them while it runs, and gives back the rest at the end.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from billing.store import CLIENT_WALLET, find_account, ledger
from billing.terms import PROVIDER_BPS, BillingRefusal
from config.database import Database
from config.ids import PublicId, TenantId, UserId, new_public_id
from relay.messages import SessionKind

OFFERS_MAX: Final = 200
"""Offers and packages shown at once, newest offers and soonest expiry first."""


@dataclasses.dataclass(frozen=True, slots=True)
class PackageOffer:
    """Time for sale."""

    name: str
    time_ms: int
    price_minor: int
    currency: str
    provider_id: UserId | None = None
    """None: with any provider."""
    kind: SessionKind | None = None
    """None: any kind of session."""
    provider_bps: int = PROVIDER_BPS
    valid_days: int = 365
    then_money: bool = True
    """Whether a session goes on with money when the time is used up."""
    public_id: PublicId | None = None
    """None: not on sale yet."""


@dataclasses.dataclass(frozen=True, slots=True)
class Package:
    """Time that a client has bought."""

    public_id: PublicId
    name: str
    total_ms: int
    used_ms: int
    reserved_ms: int
    """Held by sessions that run."""
    kind: SessionKind | None
    provider: PublicId | None
    then_money: bool
    expires_at_ms: int
    price_minor: int
    unearned_minor: int
    """The part of the price that nobody has earned yet: what is given back of it, at most."""
    currency: str

    @property
    def left_ms(self) -> int:
        return self.total_ms - self.used_ms - self.reserved_ms


async def add_offer(database: Database, tenant: TenantId, offer: PackageOffer) -> PublicId:
    """Put a package on sale."""
    public_id = new_public_id("pko")
    async with ledger(database, tenant) as connection:
        await connection.execute(
            "insert into package_offer (tenant_id, public_id, provider_id, kind, name, time_ms, price_minor, currency,"
            " provider_bps, valid_days, then_money) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            *(tenant, public_id, offer.provider_id, offer.kind, offer.name, offer.time_ms, offer.price_minor),
            *(offer.currency, offer.provider_bps, offer.valid_days, offer.then_money),
        )
    return public_id


async def withdraw_offer(database: Database, tenant: TenantId, offer: PublicId) -> bool:
    """Sell it no more; who has bought it keeps it. False: there is no such offer."""
    async with ledger(database, tenant) as connection:
        done: str = await connection.execute(
            "update package_offer set withdrawn_at = now() where tenant_id = $1 and public_id = $2"
            " and withdrawn_at is null",
            *(tenant, offer),
        )
    return done == "UPDATE 1"


async def read_offers(database: Database, tenant: TenantId, currency: str) -> list[PackageOffer]:
    """What is on sale."""
    async with ledger(database, tenant) as connection:
        rows = await connection.fetch(
            "select * from package_offer where tenant_id = $1 and currency = $2 and withdrawn_at is null"
            " order by id desc limit $3",
            *(tenant, currency, OFFERS_MAX),
        )
    names = [field.name for field in dataclasses.fields(PackageOffer)]
    return [PackageOffer(**{name: row[name] for name in names}) for row in rows]


async def read_packages(database: Database, tenant: TenantId, client_id: UserId) -> list[Package]:
    """A client's packages that are not over, in the order in which they are used."""
    async with ledger(database, tenant) as connection:
        rows = await connection.fetch(
            _MINE,
            *(tenant, client_id, OFFERS_MAX),
        )
    return [_package(row) for row in rows]


async def buy(
    database: Database, tenant: TenantId, client_id: UserId, offer: PublicId, key: str
) -> Package | BillingRefusal:
    """Buy a package from the wallet, once per key of the client. Refused: nothing is written."""
    async with ledger(database, tenant) as connection:
        wallet = await find_account(connection, tenant, client_id, CLIENT_WALLET)
        if wallet is None:
            return BillingRefusal.NO_WALLET
        full_key, public_id = f"charge:{client_id}:{key}", new_public_id("pkg")
        wanted = await connection.fetchrow(
            "select o.id, o.currency, o.withdrawn_at, c.id as charge_id from package_offer o left join charge c"
            " on c.tenant_id = o.tenant_id and c.idempotency_key = $3 where o.tenant_id = $1 and o.public_id = $2",
            *(tenant, offer, full_key),
        )
        if wanted is None or (wanted["withdrawn_at"] is not None and wanted["charge_id"] is None):
            return BillingRefusal.NO_SUCH_PACKAGE
        if wanted["currency"] != wallet["currency"]:
            return BillingRefusal.CURRENCY_MISMATCH
        status = await connection.fetchval(
            "select buy_package($1, $2, $3, $4, $5, $6)",
            *(tenant, public_id, new_public_id("chg"), wallet["id"], wanted["id"], full_key),
        )
        if status not in ("done", "replayed"):
            return BillingRefusal(status)
        row = await connection.fetchrow(
            _OF_CHARGE,
            *(tenant, client_id, full_key),
        )
    return _package(row)


_PACKAGES: Final = (
    "select c.*, o.name, p.public_id as provider from client_package c"
    " join package_offer o on o.tenant_id = c.tenant_id and o.id = c.offer_id"
    " join account a on a.tenant_id = c.tenant_id and a.id = c.client_account_id"
    " left join app_user p on p.tenant_id = c.tenant_id and p.id = c.provider_id"
    " where c.tenant_id = $1 and a.user_id = $2"
)
_MINE: Final = _PACKAGES + " and c.closed_at is null and c.expires_at > now() order by c.expires_at, c.id limit $3"
_OF_CHARGE: Final = (
    _PACKAGES + " and c.charge_id = (select id from charge where tenant_id = $1 and idempotency_key = $3)"
)


def _package(row: Any) -> Package:
    return Package(
        public_id=row["public_id"],
        name=row["name"],
        total_ms=row["total_ms"],
        used_ms=row["used_ms"],
        reserved_ms=row["reserved_ms"],
        kind=row["kind"],
        provider=row["provider"],
        then_money=row["then_money"],
        expires_at_ms=int(row["expires_at"].timestamp() * 1000),
        price_minor=row["price_minor"],
        unearned_minor=row["price_minor"] - row["recognised_minor"],
        currency=row["currency"],
    )
