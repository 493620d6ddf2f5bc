"""What clients may ask of billing: their wallet, its history, and a top-up by the built-in test processor; and the
table of all of billing's routes."""

from __future__ import annotations

import datetime
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from pydantic import Field

from billing import charges_api, finance, finance_api, recovery, statements_api, tariffs_api
from billing.refusals import refused
from billing.service import Billing
from billing.terms import BillingRefusal, Entry, EntryCursor, Wallet
from config.http import ApiError, Body, Call, Endpoint, View, endpoint
from config.identity import Role
from config.ids import TenantId, UserId

TOP_UP_MIN_MINOR: Final = 100
TOP_UP_MAX_MINOR: Final = 50_000
PAGE_DEFAULT: Final = 50
PAGE_MAX: Final = 200
HOLDERS: Final = (Role.CLIENT, Role.PROVIDER)
"""The roles that have a wallet."""

WalletChanged = Callable[[TenantId, UserId, Wallet], Awaitable[None]]
"""Told after a top-up, so that the user's other devices hear of it."""

_CURSOR = re.compile(r"(\d{1,18})\.([st])(\d{1,18})")


class WalletView(View):
    """GET /api/v1/wallet: a client's money, or a provider's earnings."""

    balance_minor: int
    available_minor: int
    """What is not held for a session that runs."""
    held_minor: int
    currency: str
    promo_minor: int = 0
    """How much of the balance is promotional credit: spent first, never paid out."""


class TransferView(View):
    """One line of a wallet's history; a session is one line, however often it was posted."""

    id: str
    kind: str
    amount_minor: int
    """Negative: money that left the wallet."""
    currency: str
    balance_after_minor: int
    session_id: str | None = None
    memo: str
    at_ms: int


class Transfers(View):
    """GET /api/v1/wallet/transfers?cursor=&limit= : newest first."""

    transfers: list[TransferView]
    next_cursor: str | None = None


class EarnedDayView(View):
    """What a provider earned on one day (UTC), refunds taken off."""

    day: str
    amount_minor: int
    sessions: int


class EarningsView(View):
    """GET /api/v1/wallet/earnings: posted earnings; what a call that goes on has earned since its last posting is in
    ``session.cost``."""

    currency: str
    balance_minor: int
    owed_minor: int
    """To be recovered of refunds that were not covered: the next earnings pay it."""
    today_minor: int
    month_minor: int
    days: list[EarnedDayView]
    """This month and the one before; days without earnings are left out."""


class TopUp(Body):
    """POST /api/v1/wallet/topups"""

    amount_minor: Annotated[int, Field(ge=TOP_UP_MIN_MINOR, le=TOP_UP_MAX_MINOR)]
    request_key: Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


def endpoints(
    billing: Billing, changed: WalletChanged | None = None, paid: charges_api.Paid | None = None
) -> list[Endpoint]:
    """Billing's routes. The test processor's is there in demo installations only."""

    async def wallet(call: Call) -> WalletView:
        who = call.principal
        return _wallet(await billing.wallet(who.tenant_id, who.user_id, who.role))

    async def transfers(call: Call) -> Transfers:
        who = call.principal
        limit = call.query_int("limit", PAGE_DEFAULT, 1, PAGE_MAX)
        after = parse_cursor(call.query_text("cursor"))
        page = await billing.entries(who.tenant_id, who.user_id, who.role, after, limit + 1)
        lines, more = page[:limit], page[limit:]
        return Transfers(
            transfers=[_line(entry) for entry in lines],
            next_cursor=_cursor(lines[-1].cursor) if more else None,
        )

    async def top_up(call: Call) -> WalletView:
        who = call.principal
        body: TopUp = call.body
        answer = await billing.top_up(who.tenant_id, who.user_id, body.amount_minor, body.request_key, "Test top-up")
        if isinstance(answer, BillingRefusal):
            raise refused(answer)
        if changed is not None:
            await changed(who.tenant_id, who.user_id, answer)
        return _wallet(answer)

    routes = [
        _earnings(billing),
        endpoint("GET", "/api/v1/wallet", "The caller's wallet", wallet, roles=HOLDERS, result=WalletView),
        endpoint("GET", "/api/v1/wallet/transfers", "Its history", transfers, roles=HOLDERS, result=Transfers),
    ]
    if billing.settings.demo:
        routes.append(
            endpoint(
                "POST",
                "/api/v1/wallet/topups",
                "Top up with test money",
                top_up,
                roles=[Role.CLIENT],
                body=TopUp,
                result=WalletView,
            )
        )
    return [
        *routes,
        *charges_api.endpoints(billing, changed, paid),
        *tariffs_api.endpoints(billing),
        *statements_api.endpoints(billing, changed),
        *finance_api.endpoints(billing),
    ]


def _earnings(billing: Billing) -> Endpoint:
    async def earnings(call: Call) -> EarningsView:
        who = call.principal
        wallet = await billing.wallet(who.tenant_id, who.user_id, who.role)
        days = await finance.read_earned(billing.database, who.tenant_id, who.user_id)
        today = datetime.datetime.now(datetime.UTC).date()
        return EarningsView(
            currency=wallet.currency,
            balance_minor=wallet.balance_minor,
            owed_minor=await recovery.owed(billing.database, who.tenant_id, who.user_id),
            today_minor=sum(one.amount_minor for one in days if one.day == today),
            month_minor=sum(one.amount_minor for one in days if one.day.replace(day=1) == today.replace(day=1)),
            days=[
                EarnedDayView(day=one.day.isoformat(), amount_minor=one.amount_minor, sessions=one.sessions)
                for one in days
            ],
        )

    return endpoint(
        *("GET", "/api/v1/wallet/earnings", "What a provider earned by day", earnings),
        roles=[Role.PROVIDER],
        result=EarningsView,
    )


def parse_cursor(text: str | None) -> EntryCursor | None:
    """The place in a history that a cursor stands for. Raises 400 on one that was not made here."""
    if text is None:
        return None
    match = _CURSOR.fullmatch(text)
    if match is None or not text.isascii():
        raise ApiError(400, "bad_query", "“cursor” is not one that was given out.")
    return EntryCursor(int(match[1]), match[2], int(match[3]))


def _cursor(place: EntryCursor) -> str:
    return f"{place.at_us}.{place.part}{place.number}"


def _wallet(wallet: Wallet) -> WalletView:
    return WalletView(
        balance_minor=wallet.balance_minor,
        available_minor=wallet.available_minor,
        held_minor=wallet.held_minor,
        currency=wallet.currency,
        promo_minor=wallet.promo_minor,
    )


def _line(entry: Entry) -> TransferView:
    return TransferView(
        id=entry.public_id,
        kind=entry.kind,
        amount_minor=entry.amount_minor,
        currency=entry.currency,
        balance_after_minor=entry.balance_after_minor,
        session_id=entry.public_id if entry.kind == "session" else None,
        memo=entry.memo,
        at_ms=entry.cursor.at_us // 1000,
    )
