"""What finance looks at: people's accounts, tariffs with their history, presets, and the rows behind a figure."""

from __future__ import annotations

import datetime
import json
from typing import Any, Final, Literal

from billing import finance, inspect
from billing.charges_api import Packages, package_view
from billing.finance import Held
from billing.packages import read_packages
from billing.service import Billing
from billing.store import find_user
from billing.tariffs import PRESETS, Offer, read_history
from billing.tariffs_api import FINANCE, TariffView, tariff_view
from config.http import ApiError, Call, Endpoint, View, endpoint, not_found
from config.identity import Role
from config.ids import PublicId

PATH: Final = "/api/v1/finance"
KEY_MAX_CHARS: Final = 64


class HeldView(View):
    """A user's account: a client's wallet, or a provider's earnings."""

    user_id: str
    name: str
    email: str
    role: str
    avatar_hue: int
    currency: str
    balance_minor: int
    held_minor: int
    promo_minor: int
    owed_minor: int
    """A provider's: what is still to be recovered of refunds."""


class HeldAccounts(View):
    """GET /api/v1/finance/accounts?query= : by name, e-mail address or id; the newest without one."""

    accounts: list[HeldView]


class TariffRow(TariffView):
    """One row of a provider's history."""

    id: int
    provider_bps: int
    valid_from_ms: int
    valid_until_ms: int | None = None
    state: Literal["current", "announced", "past"]


class TariffHistory(View):
    """GET /api/v1/finance/providers/{id}/tariffs: newest first."""

    tariffs: list[TariffRow]


class Preset(View):
    """How platforms are known to charge; a 1 is to be replaced by the price."""

    name: str
    minor_per_minute: int
    provider_bps: int
    step_ms: int
    flat_minor: int
    included_ms: int


class Presets(View):
    """GET /api/v1/finance/presets"""

    presets: list[Preset]


class LedgerReport(View):
    """GET /api/v1/finance/ledger/{what}/{key}: what ``turnpike ledger`` prints, of the caller's tenant."""

    what: str
    key: str
    report: dict[str, Any]


def endpoints(billing: Billing) -> list[Endpoint]:
    """The routes."""

    async def accounts(call: Call) -> HeldAccounts:
        query = call.query_text("query", KEY_MAX_CHARS) or ""
        found = await finance.read_accounts(billing.database, call.principal.tenant_id, query.strip())
        return HeldAccounts(accounts=[_held(one) for one in found])

    async def history(call: Call) -> TariffHistory:
        tenant = call.principal.tenant_id
        provider = await find_user(billing.database, tenant, call.id("id"))
        if provider is None or provider.role != Role.PROVIDER:
            raise not_found("provider")
        now = datetime.datetime.now(datetime.UTC)
        return TariffHistory(tariffs=rows_of(await read_history(billing.database, tenant, provider.id), now))

    async def presets(_: Call) -> Presets:
        return Presets(
            presets=[
                Preset(
                    name=name,
                    minor_per_minute=terms.minor_per_minute,
                    provider_bps=terms.provider_bps,
                    step_ms=terms.step_ms,
                    flat_minor=terms.flat_minor,
                    included_ms=terms.included_ms,
                )
                for name, terms in PRESETS.items()
            ]
        )

    async def packages(call: Call) -> Packages:
        tenant = call.principal.tenant_id
        client = await find_user(billing.database, tenant, call.id("id"))
        if client is None or client.role != Role.CLIENT:
            raise not_found("client")
        mine = await read_packages(billing.database, tenant, client.id)
        return Packages(offers=[], packages=[package_view(one) for one in mine])

    async def look(call: Call) -> LedgerReport:
        what, key = call.request.match_info["what"], call.request.match_info["key"]
        if what not in inspect.LOOKS or len(key) > KEY_MAX_CHARS or "\0" in key:
            raise not_found("thing")
        report = await inspect.look(billing.database, what, key, call.principal.tenant_id)
        if report is None:
            raise ApiError(404, "not_found", f"There is no {what} {key}.")
        return LedgerReport(what=what, key=key, report=json.loads(json.dumps(report, default=str)))

    one, ledger_path = f"{PATH}/providers/{{id}}/tariffs", f"{PATH}/ledger/{{what}}/{{key}}"
    mine = f"{PATH}/users/{{id}}/packages"
    return [
        endpoint("GET", f"{PATH}/accounts", "Wallets and earnings", accounts, roles=FINANCE, result=HeldAccounts),
        endpoint("GET", one, "A provider's tariffs, with history", history, roles=FINANCE, result=TariffHistory),
        endpoint("GET", f"{PATH}/presets", "How platforms charge", presets, roles=FINANCE, result=Presets),
        endpoint("GET", mine, "A client's packages", packages, roles=FINANCE, result=Packages),
        endpoint("GET", ledger_path, "The rows behind a figure", look, roles=FINANCE, result=LedgerReport),
    ]


def rows_of(offers: list[Offer], now: datetime.datetime) -> list[TariffRow]:
    """Newest first, each with whether it is in force: of one kind and code the newest valid row is."""
    in_force: set[tuple[str, str]] = set()
    rows = []
    for offer in offers:
        since, until = offer.valid_from or now, offer.valid_until
        place = (offer.kind, offer.code)
        state: Literal["current", "announced", "past"] = "past"
        if since > now:
            state = "announced"
        elif place not in in_force and (until is None or until > now):
            state = "current"
            in_force.add(place)
        rows.append(
            TariffRow(
                **tariff_view(offer).model_dump(),
                id=offer.tariff_id or 0,
                provider_bps=offer.tariff.provider_bps,
                valid_from_ms=int(since.timestamp() * 1000),
                valid_until_ms=None if until is None else int(until.timestamp() * 1000),
                state=state,
            )
        )
    return rows


def _held(one: Held) -> HeldView:
    return HeldView(
        user_id=PublicId(one.user_id),
        name=one.name,
        email=one.email,
        role=one.role,
        avatar_hue=one.avatar_hue,
        currency=one.currency,
        balance_minor=one.balance_minor,
        held_minor=one.held_minor,
        promo_minor=one.promo_minor,
        owed_minor=one.owed_minor,
    )
