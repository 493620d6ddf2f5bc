"""What clients may ask of billing, over HTTP."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from billing.api import endpoints
from billing.service import Billing
from billing.terms import Wallet
from config.http import TOKENS, errors, mount
from config.identity import Principal, Role, Tokens
from config.ids import TenantId, UserId, new_public_id
from config.settings import Settings
from tests.billing.conftest import TENANT, Town

Ask = Callable[..., Any]


@pytest.fixture
def told() -> list[tuple[UserId, int]]:
    return []


@pytest.fixture
async def ask(billing: Billing, told: list[tuple[UserId, int]]) -> AsyncIterator[Ask]:
    """``await ask(role, user_id, method, path, json=…)`` → (status, body)."""
    tokens = Tokens(b"s" * 32, 600)

    async def changed(_: TenantId, user_id: UserId, wallet: Wallet) -> None:
        told.append((user_id, wallet.balance_minor))

    app = web.Application(middlewares=[errors])
    app[TOKENS] = tokens
    mount(app, endpoints(billing, changed))
    async with TestClient(TestServer(app)) as client:

        async def call(role: Role | None, user_id: int, method: str, path: str, **options: Any) -> tuple[int, Any]:
            headers = {}
            if role is not None:
                who = Principal(TENANT, UserId(user_id), new_public_id("usr"), role, "Somebody")
                headers["Authorization"] = "Bearer " + tokens.issue(who, int(time.time()))
            async with client.request(method, "/api/v1" + path, headers=headers, **options) as answer:
                return answer.status, await answer.json()

        yield call


async def test_a_wallet_shows_what_is_held(town: Town, ask: Ask) -> None:
    client, provider = await town.client(5_000), await town.provider()
    await town.open(client, provider)
    assert await ask(Role.CLIENT, client, "GET", "/wallet") == (
        200,
        {"balance_minor": 5_000, "available_minor": 4_702, "held_minor": 298, "currency": "USD", "promo_minor": 0},
    )
    status, earnings = await ask(Role.PROVIDER, provider, "GET", "/wallet")
    assert (status, earnings["balance_minor"]) == (200, 0)


async def test_a_top_up_is_made_once_and_told(town: Town, ask: Ask, told: list[tuple[UserId, int]]) -> None:
    client = await town.client(0)
    body = {"amount_minor": 2_500, "request_key": "key-0001"}
    for _ in range(2):
        status, wallet = await ask(Role.CLIENT, client, "POST", "/wallet/topups", json=body)
        assert (status, wallet["balance_minor"]) == (200, 2_500)
    assert told == [(client, 2_500)] * 2
    status, refused = await ask(Role.CLIENT, client, "POST", "/wallet/topups", json=body | {"amount_minor": 300})
    assert (status, refused["error"]["code"]) == (409, "key_reused")


SENSELESS: list[Any] = [
    {"amount_minor": 99, "request_key": "key-0001"},
    {"amount_minor": 50_001, "request_key": "key-0001"},
    {"amount_minor": "500", "request_key": "key-0001"},
    {"amount_minor": 500.5, "request_key": "key-0001"},
    {"amount_minor": True, "request_key": "key-0001"},
    {"amount_minor": 500, "request_key": "short"},
    {"amount_minor": 500, "request_key": "key\u0000-0001"},
    {"amount_minor": 500, "request_key": "key-0001", "user_id": 7},
    {"amount_minor": 500},
    [],
    "money",
]


async def test_a_senseless_top_up_is_refused_by_field(town: Town, ask: Ask) -> None:
    client = await town.client(0)
    for body in SENSELESS:
        status, answer = await ask(Role.CLIENT, client, "POST", "/wallet/topups", json=body)
        assert (status, answer["error"]["code"]) == (400, "bad_request"), body
    assert await town.balance(client) == 0


async def test_roles_without_a_wallet_are_kept_out(town: Town, ask: Ask) -> None:
    provider = await town.provider()
    assert (await ask(None, 0, "GET", "/wallet"))[0] == 401
    assert (await ask(Role.COMPLIANCE, provider, "GET", "/wallet"))[0] == 403
    body = {"amount_minor": 2_500, "request_key": "key-0001"}
    assert (await ask(Role.PROVIDER, provider, "POST", "/wallet/topups", json=body))[0] == 403


async def test_history_is_paged_by_cursor(town: Town, ask: Ask) -> None:
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    await town.billing.settle(TENANT, ref.session_id, 1, 60_000)
    _, whole = await ask(Role.CLIENT, client, "GET", "/wallet/transfers")
    assert [line["amount_minor"] for line in whole["transfers"]] == [-199, 5_000]
    assert (whole["next_cursor"], whole["transfers"][0]["session_id"]) == (None, ref.session_public_id)
    assert whole["transfers"][0]["memo"] == "Video call"
    _, first = await ask(Role.CLIENT, client, "GET", "/wallet/transfers?limit=1")
    _, second = await ask(Role.CLIENT, client, "GET", f"/wallet/transfers?limit=1&cursor={first['next_cursor']}")
    assert first["transfers"] + second["transfers"] == whole["transfers"]
    assert second["next_cursor"] is None


MADE_UP = ["cursor=x", "cursor=1.t", "cursor=1.x1", "cursor=-1.t1", "cursor=\u0661.t1", "cursor=" + "9" * 300,
           "limit=0", "limit=201", "limit=x"]  # fmt: skip


async def test_a_made_up_page_is_refused(town: Town, ask: Ask) -> None:
    client = await town.client(0)
    for query in MADE_UP:
        status, answer = await ask(Role.CLIENT, client, "GET", f"/wallet/transfers?{query}")
        assert (status, answer["error"]["code"]) == (400, "bad_query"), query


async def test_without_demo_there_is_no_test_money(billing: Billing, settings: Settings) -> None:
    paths = [route.path for route in endpoints(billing)]
    assert "/api/v1/wallet/topups" in paths
    earnest = Billing(billing.database, billing._clock, settings.model_copy(update={"demo": False}))
    assert [route.path for route in endpoints(earnest)] == [path for path in paths if path != "/api/v1/wallet/topups"]
