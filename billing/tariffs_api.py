"""Tariffs over REST: what a provider charges, for everybody to see; and finance's way to set it."""

from __future__ import annotations

import datetime
from typing import Annotated, Final

from pydantic import Field

from billing.charges_api import Currency, PublicIdText
from billing.money import BPS, FREE_MAX_MS, INCLUDED_MAX_MS, PRICE_MAX, RATE_MAX, STEP_MAX_MS, Tariff
from billing.service import Billing
from billing.store import find_user
from billing.tariffs import STANDARD, Offer
from config.http import ApiError, Body, Call, Endpoint, View, endpoint, not_found
from config.identity import Role
from config.ids import PublicId, TenantId, UserId
from relay.messages import SessionKind

FINANCE: Final = (Role.FINANCE, Role.ADMIN)
Code = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")]


class TariffView(View):
    """How one kind of session is charged: free time first, then a flat price with what it includes, then steps."""

    kind: SessionKind
    code: str
    """What to ask for when calling; ``standard`` applies where nothing is asked for."""
    minor_per_minute: int
    """0: the session ends with the time that the flat price includes."""
    step_ms: int
    """Time is charged by started steps: 1 is per second, 60000 per started minute in advance."""
    free_ms: int
    free_daily_ms: int
    """Free time of one client with this provider in one day, at most; 0: no cap."""
    flat_minor: int
    included_ms: int
    minimum_minor: int
    currency: str


class Tariffs(View):
    """GET /api/v1/providers/{id}/tariffs"""

    tariffs: list[TariffView]


class SetTariff(Body):
    """PUT /api/v1/finance/tariffs: what a provider charges from now on, or from a moment ahead; sessions that were
    requested before keep what was shown to them."""

    provider_id: PublicIdText
    kind: SessionKind
    code: Code = STANDARD
    minor_per_minute: Annotated[int, Field(ge=0, le=RATE_MAX)] = 0
    step_ms: Annotated[int, Field(ge=1, le=STEP_MAX_MS)] = 1
    free_ms: Annotated[int, Field(ge=0, le=FREE_MAX_MS)] = 0
    free_daily_ms: Annotated[int, Field(ge=0, le=86_400_000)] = 0
    flat_minor: Annotated[int, Field(ge=0, le=PRICE_MAX)] = 0
    included_ms: Annotated[int, Field(ge=0, le=INCLUDED_MAX_MS)] = 0
    minimum_minor: Annotated[int, Field(ge=0, le=PRICE_MAX)] = 0
    currency: Currency
    provider_bps: Annotated[int, Field(ge=0, le=BPS)]
    valid_from_ms: Annotated[int, Field(ge=0, le=4 * 10**12)] | None = None
    valid_until_ms: Annotated[int, Field(ge=0, le=4 * 10**12)] | None = None


def endpoints(billing: Billing) -> list[Endpoint]:
    """The routes of tariffs."""

    async def provider(tenant: TenantId, public_id: PublicId) -> UserId:
        user = await find_user(billing.database, tenant, public_id)
        if user is None or user.role != Role.PROVIDER:
            raise not_found("provider")
        return user.id

    async def show(tenant: TenantId, provider_id: UserId) -> Tariffs:
        offers = (await billing.offers(tenant, [provider_id]))[provider_id]
        return Tariffs(tariffs=[tariff_view(offer) for offer in offers])

    async def read(call: Call) -> Tariffs:
        tenant = call.principal.tenant_id
        return await show(tenant, await provider(tenant, call.id("id")))

    async def write(call: Call) -> Tariffs:
        tenant, body = call.principal.tenant_id, call.body
        provider_id = await provider(tenant, PublicId(body.provider_id))
        try:
            offer = _offer(body)
        except ValueError as error:
            raise ApiError(400, "bad_request", f"These terms make no sense: {error}.") from None
        await billing.set_offer(tenant, provider_id, offer)
        return await show(tenant, provider_id)

    return [
        endpoint("GET", "/api/v1/providers/{id}/tariffs", "What a provider charges", read, result=Tariffs),
        endpoint(
            *("PUT", "/api/v1/finance/tariffs", "Set what a provider charges", write),
            roles=FINANCE,
            body=SetTariff,
            result=Tariffs,
        ),
    ]


def _offer(body: SetTariff) -> Offer:
    if body.valid_until_ms is not None and body.valid_until_ms <= (body.valid_from_ms or 0):
        raise ValueError("they end before they begin")
    tariff = Tariff(
        body.minor_per_minute,
        body.provider_bps,
        step_ms=body.step_ms,
        free_ms=body.free_ms,
        flat_minor=body.flat_minor,
        included_ms=body.included_ms,
        minimum_minor=body.minimum_minor,
    )
    return Offer(
        kind=body.kind,
        code=body.code,
        tariff=tariff,
        currency=body.currency,
        free_daily_ms=body.free_daily_ms,
        valid_from=_at(body.valid_from_ms),
        valid_until=_at(body.valid_until_ms),
    )


def _at(ms: int | None) -> datetime.datetime | None:
    return None if ms is None else datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC)


def tariff_view(offer: Offer) -> TariffView:
    """A tariff as everybody sees it."""
    tariff = offer.tariff
    return TariffView(
        kind=offer.kind,
        code=offer.code,
        minor_per_minute=tariff.minor_per_minute,
        step_ms=tariff.step_ms,
        free_ms=tariff.free_ms,
        free_daily_ms=offer.free_daily_ms,
        flat_minor=tariff.flat_minor,
        included_ms=tariff.included_ms,
        minimum_minor=tariff.minimum_minor,
        currency=offer.currency,
    )
