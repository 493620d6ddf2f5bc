"""Charges, packages, tariffs, statements and finance over HTTP; and what bad input gets."""

from __future__ import annotations

import datetime
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from billing import nightly, statements
from billing.api import endpoints
from billing.service import Billing
from config.http import TOKENS, errors, mount
from config.identity import Principal, Role, Tokens
from config.ids import UserId, new_public_id
from tests.billing.conftest import TENANT, Town

Ask = Callable[..., Any]
STAFF = 77


@pytest.fixture
async def ask(billing: Billing) -> AsyncIterator[Ask]:
    tokens = Tokens(b"s" * 32, 600)
    app = web.Application(middlewares=[errors])
    app[TOKENS] = tokens
    mount(app, endpoints(billing))
    async with TestClient(TestServer(app)) as client:

        async def call(role: Role, user_id: int, method: str, path: str, **options: Any) -> tuple[int, Any]:
            who = Principal(TENANT, UserId(user_id), new_public_id("usr"), role, "Somebody")
            headers = {"Authorization": "Bearer " + tokens.issue(who, int(time.time()))}
            async with client.request(method, "/api/v1" + path, headers=headers, **options) as answer:
                is_json = answer.content_type == "application/json"
                return answer.status, await (answer.json() if is_json else answer.text())

        yield call


async def id_of(owner: Any, user_id: UserId) -> str:
    return str(await owner.fetchval("select public_id from app_user where id = $1", user_id))


async def test_a_gift_in_a_call_is_on_its_receipt_and_statement(town: Town, ask: Ask, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    body = {"kind": "gift", "amount_minor": 500, "currency": "USD", "provider_id": await id_of(owner, provider),
            "session_id": ref.session_public_id, "memo": "=A rose", "request_key": "gift-0001"}  # fmt: skip
    status, made = await ask(Role.CLIENT, client, "POST", "/charges", json=body)
    assert (status, made["amount_minor"], made["balance_minor"]) == (201, 500, 4_500)
    assert (await ask(Role.CLIENT, client, "POST", "/charges", json=body))[1]["id"] == made["id"]
    await town.billing.settle(TENANT, ref.session_id, 1, 60_000)
    charges, _ = await town.billing.extras(TENANT, ref.session_public_id)
    assert [one.public_id for one in charges] == [made["id"]]
    status, statement = await ask(Role.CLIENT, client, "GET", "/wallet/statement")
    assert (status, statement["opening_minor"], statement["closing_minor"]) == (200, 0, 4_301)
    assert [(one["kind"], one["amount_minor"], one["balance_minor"]) for one in statement["lines"]] == [
        ("topup", 5_000, 5_000), ("charge", -500, 4_500), ("session", -199, 4_301)]  # fmt: skip
    status, text = await ask(Role.CLIENT, client, "GET", "/wallet/statement?format=csv")
    assert status == 200
    assert text.splitlines()[0] == "at,id,kind,memo,amount_minor,balance_minor,currency"
    assert "'=A rose" in text, "no formula for a spreadsheet"
    assert text.splitlines()[-1].endswith("closing,Closing balance,,4301,USD")
    _, earned = await ask(Role.PROVIDER, provider, "GET", "/wallet/statement")
    assert earned["closing_minor"] == 350 + 139


async def test_a_statement_of_a_day_before_anything_happened_is_empty(town: Town, ask: Ask) -> None:
    client = await town.client(5_000)
    _, statement = await ask(Role.CLIENT, client, "GET", "/wallet/statement?from=2020-01-01&to=2020-01-31")
    assert (statement["opening_minor"], statement["closing_minor"], statement["lines"]) == (0, 0, [])


@pytest.mark.parametrize(
    "query",
    ["from=x", "from=2027-13-01", "from=2027-02-02&to=2027-02-01", "from=2020-01-01&to=2026-01-01", "format=xml",
     "to=9999-12-31", "from=0001-01-01&to=0001-01-02"],
)  # fmt: skip
async def test_a_senseless_period_is_refused(town: Town, ask: Ask, query: str) -> None:
    client = await town.client(100)
    status, answer = await ask(Role.CLIENT, client, "GET", f"/wallet/statement?{query}")
    assert (status, answer["error"]["code"]) == (400, "bad_query")


async def test_a_statement_that_would_be_cut_is_refused(town: Town, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await town.client(100)
    await town.billing.top_up(TENANT, client, 100, "more", "")
    monkeypatch.setattr(statements, "LINES_MAX", 1)
    assert (await ask(Role.CLIENT, client, "GET", "/wallet/statement"))[0] == 413


async def test_bad_charges_get_one_clear_error_and_write_nothing(town: Town, ask: Ask, owner: Any) -> None:
    client, provider, stranger = await town.client(1_000), await town.provider(), await town.client(1_000)
    foreign = await owner.fetchval(
        "update session_meter set session_public_id = 'ses_00000000000000000001' where session_id = $1 returning 1",
        (await town.open(stranger, provider)).session_id,
    )
    assert foreign
    good = {"kind": "tip", "amount_minor": 100, "currency": "USD", "provider_id": await id_of(owner, provider),
            "request_key": "tip-00001"}  # fmt: skip
    assert (await ask(Role.CLIENT, client, "POST", "/charges", json=good))[0] == 201
    fresh = good | {"request_key": "tip-00002"}
    for changed, status, code in (
        (fresh | {"amount_minor": -1}, 400, "bad_request"),
        (fresh | {"amount_minor": 0}, 400, "bad_request"),
        (fresh | {"amount_minor": 10**30}, 400, "bad_request"),
        (fresh | {"amount_minor": 1.5}, 400, "bad_request"),
        (fresh | {"amount_minor": "100"}, 400, "bad_request"),
        (fresh | {"currency": "usd"}, 400, "bad_request"),
        (fresh | {"kind": "topup"}, 400, "bad_request"),
        (fresh | {"payer_id": 7}, 400, "bad_request"),
        (fresh | {"currency": "EUR"}, 409, "currency_mismatch"),
        (fresh | {"session_id": "ses_00000000000000000001"}, 404, "no_such_session"),
        (fresh | {"provider_id": "usr_00000000000000000000"}, 404, "no_wallet"),
        (fresh | {"amount_minor": 901}, 402, "insufficient_funds"),
        (good | {"amount_minor": 101}, 409, "key_reused"),
        (good | {"memo": "other"}, 409, "key_reused"),
    ):
        got, answer = await ask(Role.CLIENT, client, "POST", "/charges", json=changed)
        assert (got, answer["error"]["code"]) == (status, code), changed
        assert answer["error"]["message"]
    assert (await ask(Role.PROVIDER, provider, "POST", "/charges", json=fresh))[0] == 403
    assert await owner.fetchval("select count(*) from charge") == 1
    assert await town.balance(client) == 900


async def test_finance_gives_back_and_others_may_not(town: Town, ask: Ask, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    await owner.execute("update session_meter set session_public_id = 'ses_00000000000000000001'")
    body = {"session_id": "ses_00000000000000000001", "amount_minor": 50, "reason": "bad line",
            "request_key": "back-0001"}  # fmt: skip
    assert (await ask(Role.FINANCE, STAFF, "POST", "/finance/reversals", json=body))[0] == 409
    await town.billing.settle(TENANT, ref.session_id, 1, 60_000)
    for role in (Role.CLIENT, Role.PROVIDER, Role.COMPLIANCE):
        assert (await ask(role, client, "POST", "/finance/reversals", json=body))[0] == 403
    status, back = await ask(Role.FINANCE, STAFF, "POST", "/finance/reversals", json=body)
    assert (status, back["amount_minor"], back["provider_minor"]) == (201, 50, 35)
    assert await owner.fetchval("select actor_id from reversal") == STAFF
    for changed, code in (
        ({"amount_minor": 51}, "key_reused"),
        ({"amount_minor": 150, "request_key": "back-0002"}, "too_much"),
        ({"charge_id": "chg_00000000000000000000"}, "bad_request"),
        ({"session_id": "ses_00000000000000000009"}, "no_such_session"),
        ({"session_id": None, "charge_id": "chg_00000000000000000000"}, "no_such_charge"),
        ({"reason": ""}, "bad_request"),
    ):
        _, answer = await ask(Role.FINANCE, STAFF, "POST", "/finance/reversals", json=body | changed)
        assert answer["error"]["code"] == code, changed
    _, revenue = await ask(Role.FINANCE, STAFF, "GET", "/finance/revenue")
    figures = {(one["source"], one["gross_minor"], one["platform_minor"]) for one in revenue["lines"]}
    assert figures == {("reversal", -50, -15)}, "the session's slot is of the virtual clock's year"
    monthly = {"from": "2020-01-01", "to": "2020-01-31"}
    assert (await ask(Role.FINANCE, STAFF, "GET", "/finance/revenue", params=monthly))[1]["lines"] == []
    _, theirs = await ask(Role.ADMIN, STAFF, "GET", f"/finance/users/{await id_of(owner, client)}/statement")
    assert theirs["closing_minor"] == 5_000 - 199 + 50
    assert (await ask(Role.ADMIN, STAFF, "GET", "/finance/users/usr_00000000000000000000/statement"))[0] == 404


async def test_promo_and_packages_are_given_and_sold(town: Town, ask: Ask, owner: Any) -> None:
    client = await town.client(2_000)
    promo = {"user_id": await id_of(owner, client), "amount_minor": 300, "memo": "Welcome", "request_key": "promo-01"}
    assert (await ask(Role.FINANCE, STAFF, "POST", "/finance/promo", json=promo))[1]["promo_minor"] == 300
    offer = {"name": "Hour", "minutes": 60, "price_minor": 2_100, "currency": "USD"}
    _, made = await ask(Role.FINANCE, STAFF, "POST", "/finance/packages", json=offer)
    body = {"offer_id": made["id"], "request_key": "buy-00001"}
    status, bought = await ask(Role.CLIENT, client, "POST", "/packages", json=body)
    assert (status, bought["left_ms"]) == (201, 3_600_000)
    _, shelf = await ask(Role.CLIENT, client, "GET", "/packages")
    assert ([one["id"] for one in shelf["offers"]], [one["id"] for one in shelf["packages"]]) == (
        [made["id"]], [bought["id"]])  # fmt: skip
    assert (await ask(Role.CLIENT, client, "GET", "/wallet"))[1]["promo_minor"] == 0
    status, answer = await ask(Role.CLIENT, client, "POST", "/packages", json=body | {"request_key": "buy-00002"})
    assert (status, answer["error"]["code"]) == (402, "insufficient_funds")


async def test_tariffs_are_set_by_finance_and_seen_by_all(town: Town, ask: Ask, owner: Any) -> None:
    provider = await id_of(owner, await town.provider())
    body = {"provider_id": provider, "kind": "video", "code": "flat_30", "flat_minor": 2_500, "included_ms": 1_800_000,
            "currency": "USD", "provider_bps": 7_000}  # fmt: skip
    assert (await ask(Role.PROVIDER, STAFF, "PUT", "/finance/tariffs", json=body))[0] == 403
    status, now = await ask(Role.FINANCE, STAFF, "PUT", "/finance/tariffs", json=body)
    assert (status, [one["code"] for one in now["tariffs"]]) == (200, ["flat_30", "standard"])
    assert (await ask(Role.CLIENT, STAFF, "GET", f"/providers/{provider}/tariffs"))[1] == now
    for changes in (
        {"flat_minor": 0},
        {"included_ms": 0},
        {"minor_per_minute": -1},
        {"step_ms": 0},
        {"provider_bps": 10_001},
        {"code": "Flat 30"},
        {"valid_from_ms": 2_000, "valid_until_ms": 1_000},
    ):
        status, answer = await ask(Role.FINANCE, STAFF, "PUT", "/finance/tariffs", json=body | changes)
        assert (status, answer["error"]["code"]) == (400, "bad_request"), changes


async def test_finance_sees_the_newest_proof_and_alerts(town: Town, ask: Ask) -> None:
    assert (await ask(Role.FINANCE, STAFF, "GET", "/finance/books"))[1]["disagreements"] is None
    await nightly.prove(town.database)
    assert (await ask(Role.FINANCE, STAFF, "GET", "/finance/books"))[1]["disagreements"] == 0
    assert (await ask(Role.FINANCE, STAFF, "GET", "/finance/alerts"))[1] == {"alerts": []}


async def test_revenue_is_told_by_day_and_source(town: Town, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    now = int(time.time()) // 5
    await owner.fetch("select * from settle_meter($1, 1, 60000, $2)", ref.session_id, now)
    today = datetime.datetime.now(datetime.UTC).date()
    lines = await statements.read_revenue(town.database, TENANT, statements.Period(today, today))
    assert [(one.source, one.gross_minor, one.platform_minor) for one in lines] == [("sessions", 199, 60)]
