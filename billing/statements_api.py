"""Statements for wallet holders, and statements, revenue, reversals, promotional credit and alerts for finance."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Literal

from aiohttp import web
from pydantic import Field

from billing import alerts, nightly, statements
from billing.charges_api import (
    ChargeIdText,
    Currency,
    PackageIdText,
    PackageOfferView,
    PublicIdText,
    RequestKey,
    SessionIdText,
    offer_view,
)
from billing.packages import PackageOffer, add_offer
from billing.refusals import refused
from billing.service import Billing
from billing.statements import Period, Statement, TooLong
from billing.store import WALLET_KINDS, find_user
from billing.terms import BillingRefusal, Wallet
from config.http import ApiError, Body, Call, Endpoint, View, endpoint, not_found
from config.identity import Role
from config.ids import PublicId, TenantId, UserId
from relay.messages import SessionKind

WalletChanged = Callable[[TenantId, UserId, Wallet], Awaitable[None]]
"""Told after money came into a wallet."""
HOLDERS: Final = (Role.CLIENT, Role.PROVIDER)
FINANCE: Final = (Role.FINANCE, Role.ADMIN)
DEFAULT_DAYS: Final = 30


class StatementLineView(View):
    """One line, oldest first."""

    at_ms: int
    id: str
    kind: str
    memo: str
    amount_minor: int
    balance_minor: int


class StatementView(View):
    """GET /api/v1/wallet/statement?from=&to=&format=json|csv : whole days, UTC, both included."""

    first: str
    last: str
    currency: str
    opening_minor: int
    closing_minor: int
    lines: list[StatementLineView]


class RevenueLineView(View):
    """What one source moved on one day, and what of it was the platform's."""

    day: str
    currency: str
    source: str
    gross_minor: int
    platform_minor: int


class RevenueView(View):
    """GET /api/v1/finance/revenue?from=&to=&format=json|csv"""

    lines: list[RevenueLineView]


class NewReversal(Body):
    """POST /api/v1/finance/reversals: give back part or all of a settled session or of a one-off charge, or what is
    left of a package."""

    session_id: SessionIdText | None = None
    charge_id: ChargeIdText | None = None
    package_id: PackageIdText | None = None
    amount_minor: Annotated[int, Field(ge=1, le=10**12)] | None = None
    """Of a package there is no choice: the price of the time that was not used."""
    reason: Annotated[str, Field(min_length=3, max_length=500)]
    request_key: RequestKey


class ReversalView(View):
    """What was given back, and from whom."""

    id: str
    amount_minor: int
    provider_minor: int
    receivable_minor: int
    """How much of the provider's part they no longer had, and owe now."""
    promo_minor: int
    currency: str
    reason: str
    at_ms: int


class NewPromo(Body):
    """POST /api/v1/finance/promo: promotional credit for a client, spent first and never paid out."""

    user_id: PublicIdText
    amount_minor: Annotated[int, Field(ge=1, le=1_000_000)]
    memo: Annotated[str, Field(min_length=1, max_length=200)]
    request_key: RequestKey


class NewPackageOffer(Body):
    """POST /api/v1/finance/packages: put prepaid time on sale."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    minutes: Annotated[int, Field(ge=1, le=6_000)]
    price_minor: Annotated[int, Field(ge=1, le=10**9)]
    currency: Currency
    provider_id: PublicIdText | None = None
    kind: SessionKind | None = None
    provider_bps: Annotated[int, Field(ge=0, le=10_000)] = 7_000
    valid_days: Annotated[int, Field(ge=1, le=3_650)] = 365
    then_money: bool = True


class WalletAfter(View):
    """A wallet after something was put into it."""

    balance_minor: int
    promo_minor: int
    currency: str


class AlertView(View):
    """Something that looks like abuse; nothing was done about it."""

    rule: str
    means: str
    user_id: str | None = None
    day: str
    figure: int


class Alerts(View):
    """GET /api/v1/finance/alerts: newest first."""

    alerts: list[AlertView]


class BooksView(View):
    """GET /api/v1/finance/books: the newest proof of the books."""

    proved_at_ms: int | None = None
    disagreements: int | None = None
    """None: they have not been proved yet."""
    waiting_for_evidence: int | None = None
    findings: list[dict[str, Any]] = Field(default_factory=list)


def period_of(call: Call) -> Period:
    """The query's ``from`` and ``to``; the last 30 days by default. Raises 400."""
    today = datetime.datetime.now(datetime.UTC).date()
    last = _day(call, "to") or today
    first = _day(call, "from") or last - datetime.timedelta(days=DEFAULT_DAYS - 1)
    if not (first <= last and (last - first).days < statements.PERIOD_DAYS_MAX and 2000 <= first.year <= 9998):
        raise ApiError(400, "bad_query", f"“from” and “to” are days of at most {statements.PERIOD_DAYS_MAX} days.")
    return Period(first, last)


def _day(call: Call, name: str) -> datetime.date | None:
    text = call.query_text(name, 10)
    if text is None:
        return None
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        raise ApiError(400, "bad_query", f"“{name}” is a day such as 2027-01-31.") from None
    if day.year == datetime.MAXYEAR:
        raise ApiError(400, "bad_query", f"“{name}” is too late.")
    return day


def _format(call: Call) -> Literal["json", "csv"]:
    match call.query_text("format", 8) or "json":
        case "json":
            return "json"
        case "csv":
            return "csv"
    raise ApiError(400, "bad_query", "“format” is json or csv.")


def _csv(text: str, name: str, period: Period) -> web.Response:
    disposition = f'attachment; filename="{name}-{period.first}-{period.last}.csv"'
    return web.Response(text=text, content_type="text/csv", headers={"Content-Disposition": disposition})


def endpoints(billing: Billing, changed: WalletChanged | None = None) -> list[Endpoint]:
    """The routes of statements, and of finance."""

    async def answer_statement(call: Call, user_id: UserId, role: str) -> StatementView | web.Response:
        period, form = period_of(call), _format(call)
        try:
            found = await statements.read_statement(
                billing.database, call.principal.tenant_id, user_id, WALLET_KINDS[role], period
            )
        except TooLong:
            raise ApiError(413, "too_long", "That is too much for one statement. Choose a shorter period.") from None
        if found is None:
            raise refused(BillingRefusal.NO_WALLET)
        if form == "csv":
            return _csv(statements.statement_csv(found), "statement", period)
        return _statement(found)

    async def mine(call: Call) -> StatementView | web.Response:
        return await answer_statement(call, call.principal.user_id, call.principal.role)

    async def of_user(call: Call) -> StatementView | web.Response:
        user = await find_user(billing.database, call.principal.tenant_id, call.id("id"))
        if user is None or user.role not in WALLET_KINDS:
            raise not_found("wallet")
        return await answer_statement(call, user.id, user.role)

    async def revenue(call: Call) -> RevenueView | web.Response:
        period, form = period_of(call), _format(call)
        lines = await statements.read_revenue(billing.database, call.principal.tenant_id, period)
        if form == "csv":
            rows = [(one.day, one.currency, one.source, one.gross_minor, one.platform_minor) for one in lines]
            header = ("day", "currency", "source", "gross_minor", "platform_minor")
            return _csv(statements.as_csv(header, rows), "revenue", period)
        return RevenueView(
            lines=[
                RevenueLineView(
                    day=one.day.isoformat(),
                    currency=one.currency,
                    source=one.source,
                    gross_minor=one.gross_minor,
                    platform_minor=one.platform_minor,
                )
                for one in lines
            ]
        )

    statement_result, path = StatementView, "/api/v1/finance"
    return [
        endpoint("GET", "/api/v1/wallet/statement", "A statement", mine, roles=HOLDERS, result=statement_result),
        endpoint("GET", f"{path}/users/{{id}}/statement", "Anybody's", of_user, roles=FINANCE, result=statement_result),
        endpoint("GET", f"{path}/revenue", "Revenue by day", revenue, roles=FINANCE, result=RevenueView),
        *_writes(billing, path, changed),
        *_shelf(billing, path),
        *_watch(billing, path),
    ]


def _writes(billing: Billing, path: str, changed: WalletChanged | None) -> list[Endpoint]:
    async def reverse(call: Call) -> ReversalView:
        who, body = call.principal, call.body
        named = [one for one in (body.session_id, body.charge_id, body.package_id) if one is not None]
        if len(named) != 1 or (body.package_id is None) == (body.amount_minor is None):
            raise ApiError(400, "bad_request", "Name a session or a charge with an amount, or a package without one.")
        answer = await billing.reverse(
            who.tenant_id, PublicId(named[0]), body.amount_minor or 0, body.request_key, who.user_id, body.reason
        )
        if isinstance(answer, BillingRefusal):
            raise refused(answer)
        if changed is not None:
            for user_id, role in await billing.parties(who.tenant_id, PublicId(named[0])):
                await changed(who.tenant_id, user_id, await billing.wallet(who.tenant_id, user_id, role))
        return ReversalView(
            id=answer.public_id,
            amount_minor=answer.amount_minor,
            provider_minor=answer.provider_minor,
            receivable_minor=answer.receivable_minor,
            promo_minor=answer.promo_minor,
            currency=answer.currency,
            reason=answer.reason,
            at_ms=answer.at_ms,
        )

    async def promo(call: Call) -> WalletAfter:
        who, body = call.principal, call.body
        user = await find_user(billing.database, who.tenant_id, PublicId(body.user_id))
        if user is None or user.role != Role.CLIENT:
            raise not_found("client")
        answer = await billing.give_promo(who.tenant_id, user.id, body.amount_minor, body.request_key, body.memo)
        if isinstance(answer, BillingRefusal):
            raise refused(answer)
        return WalletAfter(balance_minor=answer.balance_minor, promo_minor=answer.promo_minor, currency=answer.currency)

    return [
        endpoint(
            *("POST", f"{path}/reversals", "Give back a charge", reverse),
            roles=FINANCE,
            body=NewReversal,
            result=ReversalView,
            status=201,
        ),
        endpoint(
            *("POST", f"{path}/promo", "Give promotional credit", promo),
            roles=FINANCE,
            body=NewPromo,
            result=WalletAfter,
            status=201,
        ),
    ]


def _shelf(billing: Billing, path: str) -> list[Endpoint]:
    async def offer(call: Call) -> PackageOfferView:
        who, body = call.principal, call.body
        provider = None
        if body.provider_id is not None:
            provider = await find_user(billing.database, who.tenant_id, PublicId(body.provider_id))
            if provider is None or provider.role != Role.PROVIDER:
                raise not_found("provider")
        made = PackageOffer(
            name=body.name,
            time_ms=body.minutes * 60_000,
            price_minor=body.price_minor,
            currency=body.currency,
            provider_id=None if provider is None else provider.id,
            kind=body.kind,
            provider_bps=body.provider_bps,
            valid_days=body.valid_days,
            then_money=body.then_money,
        )
        public_id = await add_offer(billing.database, who.tenant_id, made)
        return offer_view(made).model_copy(update={"id": public_id})

    return [
        endpoint(
            *("POST", f"{path}/packages", "Put prepaid time on sale", offer),
            roles=FINANCE,
            body=NewPackageOffer,
            result=PackageOfferView,
            status=201,
        ),
    ]


def _watch(billing: Billing, path: str) -> list[Endpoint]:
    async def watch(call: Call) -> Alerts:
        found = await alerts.read(billing.database, call.principal.tenant_id)
        return Alerts(
            alerts=[
                AlertView(rule=one.rule, means=one.means, user_id=one.user, day=one.day.isoformat(), figure=one.figure)
                for one in found
            ]
        )

    async def books(_: Call) -> BooksView:
        run = await nightly.newest(billing.database)
        if run is None:
            return BooksView()
        return BooksView(
            proved_at_ms=int(run.at.timestamp() * 1000),
            disagreements=run.disagreements,
            waiting_for_evidence=run.waiting_for_evidence,
            findings=run.findings,
        )

    return [
        endpoint("GET", f"{path}/alerts", "What looks like abuse", watch, roles=FINANCE, result=Alerts),
        endpoint("GET", f"{path}/books", "The newest proof of the books", books, roles=FINANCE, result=BooksView),
    ]


def _statement(found: Statement) -> StatementView:
    return StatementView(
        first=found.period.first.isoformat(),
        last=found.period.last.isoformat(),
        currency=found.currency,
        opening_minor=found.opening_minor,
        closing_minor=found.closing_minor,
        lines=[
            StatementLineView(
                at_ms=int(line.at.timestamp() * 1000),
                id=line.public_id,
                kind=line.kind,
                memo=line.memo,
                amount_minor=line.amount_minor,
                balance_minor=line.balance_minor,
            )
            for line in found.lines
        ],
    )
