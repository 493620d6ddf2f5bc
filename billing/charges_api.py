"""What clients may pay for at once, and the time that they may buy ahead, over REST."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from pydantic import Field

from billing import packages
from billing.charges import CHARGE_MAX_MINOR, Charge, ChargeKind, ChargeOrder
from billing.packages import Package, PackageOffer
from billing.refusals import refused
from billing.service import Billing
from billing.store import find_user
from billing.terms import BillingRefusal, Wallet
from config.http import Body, Call, Endpoint, View, endpoint
from config.identity import Role
from config.ids import PublicId, TenantId, UserId
from relay.messages import SessionKind

RequestKey = Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
PublicIdText = Annotated[str, Field(pattern=r"^[a-z]{3}_[0-9a-z]{20}$")]
SessionIdText = Annotated[str, Field(pattern=r"^ses_[0-9a-z]{20}$")]
ChargeIdText = Annotated[str, Field(pattern=r"^chg_[0-9a-z]{20}$")]
PackageIdText = Annotated[str, Field(pattern=r"^pkg_[0-9a-z]{20}$")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
CLIENTS: Final = (Role.CLIENT,)

Charged = Callable[[TenantId, UserId, Wallet], Awaitable[None]]
"""Told after a wallet was charged, so that the user's pages hear of it."""
Paid = Callable[[TenantId, UserId, UserId, Charge], Awaitable[None]]
"""Told after somebody (the first) paid a provider (the second) at once, so that both pages say so."""


class NewCharge(Body):
    """POST /api/v1/charges: a gift, a premium message, a tip, a product. The same key and content count once."""

    kind: ChargeKind
    amount_minor: Annotated[int, Field(ge=1, le=CHARGE_MAX_MINOR)]
    currency: Currency
    provider_id: PublicIdText | None = None
    """Who is paid; only a product may have none."""
    session_id: SessionIdText | None = None
    """The session that it belongs to: one of the caller's, with that provider."""
    memo: Annotated[str, Field(max_length=200)] = ""
    request_key: RequestKey


class ChargeView(View):
    """A one-off charge as posted."""

    id: str
    kind: str
    amount_minor: int
    promo_minor: int
    """How much of it promotional credit paid."""
    currency: str
    session_id: str | None = None
    memo: str
    at_ms: int
    balance_minor: int
    """The wallet now."""


class PackageOfferView(View):
    """Prepaid time for sale."""

    id: str
    name: str
    time_ms: int
    price_minor: int
    currency: str
    kind: SessionKind | None = None
    """None: for any kind of session."""
    valid_days: int
    then_money: bool
    """Whether a session goes on with money when the time is used up."""


class PackageView(View):
    """Time that the caller has bought."""

    id: str
    name: str
    total_ms: int
    used_ms: int
    reserved_ms: int
    left_ms: int
    kind: SessionKind | None = None
    provider_id: str | None = None
    """None: with any provider."""
    then_money: bool
    expires_at_ms: int
    price_minor: int
    unearned_minor: int
    """What would be given back of it at most: the price of the time that was not used."""
    currency: str


class Packages(View):
    """GET /api/v1/packages: what is on sale in the caller's currency, and what the caller has, in the order of use."""

    offers: list[PackageOfferView]
    packages: list[PackageView]


class BuyPackage(Body):
    """POST /api/v1/packages"""

    offer_id: PublicIdText
    request_key: RequestKey


def endpoints(billing: Billing, charged: Charged | None = None, paid: Paid | None = None) -> list[Endpoint]:
    """The routes of one-off charges and packages."""

    async def told(call: Call) -> int:
        who = call.principal
        wallet = await billing.wallet(who.tenant_id, who.user_id, who.role)
        if charged is not None:
            await charged(who.tenant_id, who.user_id, wallet)
        return wallet.balance_minor

    async def earned(tenant: TenantId, payer: UserId, public_id: PublicId, made: Charge) -> None:
        provider = await find_user(billing.database, tenant, public_id)
        if provider is None:
            return
        if charged is not None:
            await charged(tenant, provider.id, await billing.wallet(tenant, provider.id, provider.role))
        if paid is not None:
            await paid(tenant, payer, provider.id, made)

    async def charge(call: Call) -> ChargeView:
        who, body = call.principal, call.body
        answer = await billing.charge(
            ChargeOrder(
                tenant_id=who.tenant_id,
                payer_id=who.user_id,
                kind=body.kind,
                amount_minor=body.amount_minor,
                currency=body.currency,
                provider=None if body.provider_id is None else PublicId(body.provider_id),
                session=None if body.session_id is None else PublicId(body.session_id),
                memo=body.memo,
                key=body.request_key,
            )
        )
        if isinstance(answer, BillingRefusal):
            raise refused(answer)
        if body.provider_id is not None:
            await earned(who.tenant_id, who.user_id, PublicId(body.provider_id), answer)
        return charge_view(answer, await told(call))

    async def shelf(call: Call) -> Packages:
        who = call.principal
        wallet = await billing.wallet(who.tenant_id, who.user_id, who.role)
        offers = await packages.read_offers(billing.database, who.tenant_id, wallet.currency)
        mine = await packages.read_packages(billing.database, who.tenant_id, who.user_id)
        return Packages(offers=[offer_view(one) for one in offers], packages=[package_view(one) for one in mine])

    async def buy(call: Call) -> PackageView:
        who, body = call.principal, call.body
        answer = await billing.buy_package(who.tenant_id, who.user_id, PublicId(body.offer_id), body.request_key)
        if isinstance(answer, BillingRefusal):
            raise refused(answer)
        await told(call)
        return package_view(answer)

    path = "/api/v1/packages"
    return [
        endpoint(
            *("POST", "/api/v1/charges", "Pay for a gift, a premium message, a tip or a product", charge),
            roles=CLIENTS,
            body=NewCharge,
            result=ChargeView,
            status=201,
        ),
        endpoint("GET", path, "Prepaid time, on sale and bought", shelf, roles=CLIENTS, result=Packages),
        endpoint("POST", path, "Buy prepaid time", buy, roles=CLIENTS, body=BuyPackage, result=PackageView, status=201),
    ]


def charge_view(charge: Charge, balance_minor: int) -> ChargeView:
    """A charge as its payer sees it."""
    return ChargeView(
        id=charge.public_id,
        kind=charge.kind,
        amount_minor=charge.amount_minor,
        promo_minor=charge.promo_minor,
        currency=charge.currency,
        session_id=charge.session,
        memo=charge.memo,
        at_ms=charge.at_ms,
        balance_minor=balance_minor,
    )


def offer_view(offer: PackageOffer) -> PackageOfferView:
    """A package on sale."""
    return PackageOfferView(
        id=offer.public_id or "",
        name=offer.name,
        time_ms=offer.time_ms,
        price_minor=offer.price_minor,
        currency=offer.currency,
        kind=offer.kind,
        valid_days=offer.valid_days,
        then_money=offer.then_money,
    )


def package_view(package: Package) -> PackageView:
    """A package that somebody has."""
    return PackageView(
        id=package.public_id,
        name=package.name,
        total_ms=package.total_ms,
        used_ms=package.used_ms,
        reserved_ms=package.reserved_ms,
        left_ms=package.left_ms,
        kind=package.kind,
        provider_id=package.provider,
        then_money=package.then_money,
        expires_at_ms=package.expires_at_ms,
        price_minor=package.price_minor,
        unearned_minor=package.unearned_minor,
        currency=package.currency,
    )
