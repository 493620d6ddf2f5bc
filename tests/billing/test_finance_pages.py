"""What finance's pages read: accounts, tariffs with their history, presets, the ledger; and a provider's earnings."""

from __future__ import annotations

import datetime
from typing import Any

from billing import inspect, packages
from billing.packages import Package, PackageOffer
from billing.tariffs import PRESETS
from config.identity import Role
from tests.billing.conftest import TENANT, Town
from tests.billing.test_finance_api import STAFF, Ask, ask, id_of
from tests.billing.test_recovery import owing, talk

__all__ = ["ask"]


async def test_earnings_are_told_by_day_with_refunds_taken_off(town: Town, ask: Ask, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    await town.billing.settle(TENANT, ref.session_id, 1, 60_000)
    _, earned = await ask(Role.PROVIDER, provider, "GET", "/wallet/earnings")
    assert (earned["today_minor"], earned["month_minor"], earned["owed_minor"]) == (139, 139, 0)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    assert earned["days"] == [{"day": today, "amount_minor": 139, "sessions": 1}]
    body = {
        "session_id": ref.session_public_id,
        "amount_minor": 199,
        "reason": "a complaint",
        "request_key": "r-000001",
    }
    status, _ = await ask(Role.FINANCE, STAFF, "POST", "/finance/reversals", json=body)
    assert status == 201
    _, after = await ask(Role.PROVIDER, provider, "GET", "/wallet/earnings")
    assert (after["today_minor"], after["balance_minor"]) == (0, 0)
    assert (await ask(Role.CLIENT, client, "GET", "/wallet/earnings"))[0] == 403


async def test_a_refund_that_the_provider_owes_is_taken_off_once(town: Town, ask: Ask, owner: Any) -> None:
    other, provider = await owing(town, owner)  # earned 630, paid out, gave 630 back
    _, earned = await ask(Role.PROVIDER, provider, "GET", "/wallet/earnings")
    assert (earned["today_minor"], earned["owed_minor"]) == (0, 630)
    await talk(town, other, provider, 90_000)  # earns 630, all of which pays the debt off
    _, earned = await ask(Role.PROVIDER, provider, "GET", "/wallet/earnings")
    assert (earned["today_minor"], earned["owed_minor"], earned["balance_minor"]) == (630, 0, 0)
    assert earned["days"][0]["sessions"] == 2


async def test_what_is_left_of_a_package_is_given_back_over_rest(town: Town, ask: Ask, owner: Any) -> None:
    client = await town.client(5_000)
    offer = await packages.add_offer(town.database, TENANT, PackageOffer("Ten minutes", 600_000, 1_500, "USD"))
    bought = await town.billing.buy_package(TENANT, client, offer, "buy-1")
    assert isinstance(bought, Package)
    _, shelf = await ask(Role.FINANCE, STAFF, "GET", f"/finance/users/{await id_of(owner, client)}/packages")
    (pack,) = shelf["packages"]
    assert (pack["id"], pack["unearned_minor"], pack["left_ms"]) == (bought.public_id, 1_500, 600_000)
    body = {"package_id": pack["id"], "reason": "by mistake", "request_key": "p-000001"}
    bad = {**body, "amount_minor": 100}
    assert (await ask(Role.FINANCE, STAFF, "POST", "/finance/reversals", json=bad))[0] == 400
    for name in ("session_id", "charge_id"):  # a package by another name is none
        other = {name: pack["id"], "amount_minor": 100, "reason": "by mistake", "request_key": "p-000009"}
        assert (await ask(Role.FINANCE, STAFF, "POST", "/finance/reversals", json=other))[0] == 400
    status, back = await ask(Role.FINANCE, STAFF, "POST", "/finance/reversals", json=body)
    assert (status, back["amount_minor"], back["provider_minor"]) == (201, 1_500, 0)
    assert (await ask(Role.FINANCE, STAFF, "POST", "/finance/reversals", json=body))[1] == back
    over = {**body, "request_key": "p-000002"}
    status, refusal = await ask(Role.FINANCE, STAFF, "POST", "/finance/reversals", json=over)
    assert (status, refusal["error"]["code"]) == (409, "package_over")
    assert (await ask(Role.CLIENT, client, "POST", "/finance/reversals", json=body))[0] == 403


async def test_accounts_are_found_by_name_address_and_id(town: Town, ask: Ask, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider()
    await town.open(client, provider)
    found = (await ask(Role.FINANCE, STAFF, "GET", "/finance/accounts"))[1]["accounts"]
    assert [one["role"] for one in found] == ["provider", "client"]
    held = found[1]
    assert (held["balance_minor"], held["owed_minor"]) == (5_000, 0)
    assert held["held_minor"] > 0
    for query in (held["name"].lower(), held["email"], held["user_id"]):
        _, again = await ask(Role.ADMIN, STAFF, "GET", "/finance/accounts", params={"query": query})
        assert [one["user_id"] for one in again["accounts"]] == [held["user_id"]]
    for query in ("nobody", "%", "_"):
        _, none = await ask(Role.ADMIN, STAFF, "GET", "/finance/accounts", params={"query": query})
        assert none["accounts"] == []
    assert (await ask(Role.CLIENT, client, "GET", "/finance/accounts"))[0] == 403


async def test_a_tariffs_history_says_what_is_in_force(town: Town, ask: Ask, owner: Any) -> None:
    provider = await id_of(owner, await town.provider())
    later = int(datetime.datetime(2090, 1, 1, tzinfo=datetime.UTC).timestamp() * 1000)
    for rate, more in ((250, {}), (300, {"valid_from_ms": later})):
        body = {"provider_id": provider, "kind": "video", "minor_per_minute": rate, "currency": "USD", **more}
        status, _ = await ask(Role.FINANCE, STAFF, "PUT", "/finance/tariffs", json={**body, "provider_bps": 8_000})
        assert status == 200
    rows = (await ask(Role.FINANCE, STAFF, "GET", f"/finance/providers/{provider}/tariffs"))[1]["tariffs"]
    assert [(row["minor_per_minute"], row["provider_bps"], row["state"]) for row in rows] == [
        (300, 8_000, "announced"),
        (250, 8_000, "current"),
        (199, 7_000, "past"),
    ]
    presets = (await ask(Role.FINANCE, STAFF, "GET", "/finance/presets"))[1]["presets"]
    assert [one["name"] for one in presets] == list(PRESETS)


async def test_the_ledger_is_looked_into_from_account_to_chain(town: Town, ask: Ask, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    await town.billing.settle(TENANT, ref.session_id, 1, 60_000)

    async def look(what: str, key: str, role: Role = Role.FINANCE) -> tuple[int, Any]:
        status, answer = await ask(role, STAFF, "GET", f"/finance/ledger/{what}/{key}")
        return status, answer.get("report", answer)

    _, account = await look("account", await id_of(owner, client))
    assert account["history"][0]["agrees"] is True
    topup = account["newest_transfers"][0]["public_id"]
    _, chain = await look("transfer", topup)
    assert (chain["total_minor"], len(chain["legs"])) == (5_000, 1)
    _, session = await look("session", ref.session_public_id)
    assert session["meter"]["posted_minor"] == 199
    assert (await look("transfer", "trf_no"))[0] == 404
    assert (await look("secrets", "x"))[0] == 404
    assert (await look("account", "x" * 65))[0] == 404
    assert (await look("account", await id_of(owner, client), Role.COMPLIANCE))[0] == 403


async def test_another_tenants_ledger_is_not_looked_into(town: Town, ask: Ask, owner: Any) -> None:
    client = await town.client(100)
    number = await owner.fetchval("select id from account where user_id = $1", client)
    await owner.execute("insert into tenant (public_id, name) values ('ten_other', 'other')")
    other = await owner.fetchval("select id from tenant where name = 'other'")

    assert await inspect.look(town.database, "account", str(number), other) is None
    assert await inspect.look(town.database, "account", str(number), TENANT) is not None
