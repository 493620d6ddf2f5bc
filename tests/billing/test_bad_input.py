"""Every way to write money over HTTP, and every way to ask for nonsense: one clear refusal, and nothing written."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from billing.packages import Package, PackageOffer, add_offer
from config.identity import Role
from config.ids import UserId
from tests.billing.conftest import TENANT, Town
from tests.billing.test_finance_api import STAFF, Ask, ask, id_of

__all__ = ["ask"]


class Write(NamedTuple):
    """One request that is right as it is."""

    role: Role
    user_id: int
    method: str
    path: str
    body: dict[str, Any]


class World(NamedTuple):
    """The right requests, and what is somebody else's."""

    writes: dict[str, Write]
    foreign: dict[str, Any]


@pytest.fixture
async def world(town: Town, owner: Any) -> World:
    client, provider = await town.client(50_000), await town.provider()
    stranger, their_provider = await town.client(5_000), await town.provider()
    ref, theirs = await town.open(client, provider), await town.open(stranger, their_provider)
    open_id, done_id, theirs_id = (f"ses_{'0' * 19}{n}" for n in (1, 2, 3))
    done = await town.open(client, provider)
    for one, public_id in ((ref, open_id), (done, done_id), (theirs, theirs_id)):
        await owner.execute(
            "update session_meter set session_public_id = $2 where session_id = $1", one.session_id, public_id
        )
    await town.billing.settle(TENANT, done.session_id, 1, 60_000)
    offer = await add_offer(town.database, TENANT, PackageOffer("Hour", 3_600_000, 500, "USD"))
    package = await town.billing.buy_package(TENANT, client, offer, "bought-0001")
    assert isinstance(package, Package)
    unwanted = {"package_id": package.public_id, "reason": "Not wanted", "request_key": "right-0002"}
    provider_id, client_id = await id_of(owner, provider), await id_of(owner, client)
    gift = {"kind": "gift", "amount_minor": 500, "currency": "USD", "provider_id": provider_id, "session_id": open_id,
            "memo": "A rose", "request_key": "right-0001"}  # fmt: skip
    back = {"session_id": done_id, "amount_minor": 50, "reason": "A bad line", "request_key": "right-0001"}
    promo = {"user_id": client_id, "amount_minor": 300, "memo": "Welcome", "request_key": "right-0001"}
    sale = {"name": "Hour", "minutes": 60, "price_minor": 2_100, "currency": "USD"}
    tariff = {"provider_id": provider_id, "kind": "video", "code": "standard", "minor_per_minute": 250,
              "currency": "USD", "provider_bps": 7_000}  # fmt: skip
    finance, mine = (Role.FINANCE, STAFF), (Role.CLIENT, client)
    return World(
        {
            "top_up": Write(*mine, "POST", "/wallet/topups", {"amount_minor": 900, "request_key": "right-0001"}),
            "charge": Write(*mine, "POST", "/charges", gift),
            "buy": Write(*mine, "POST", "/packages", {"offer_id": offer, "request_key": "right-0001"}),
            "reversal": Write(*finance, "POST", "/finance/reversals", back),
            "package_back": Write(*finance, "POST", "/finance/reversals", unwanted),
            "promo": Write(*finance, "POST", "/finance/promo", promo),
            "sale": Write(*finance, "POST", "/finance/packages", sale),
            "tariff": Write(*finance, "PUT", "/finance/tariffs", tariff),
        },
        {
            "session": theirs_id,
            "provider": await id_of(owner, their_provider),
            "euro": await id_of(owner, await town.client(0, "EUR")),
            "nobody": "usr_00000000000000000000",
        },
    )


async def everything(owner: Any) -> dict[str, Any]:
    """All balances and holds, and how many rows each table has."""
    tables = await owner.fetch("select tablename from pg_tables where schemaname = 'public' order by 1")
    query = "select " + ", ".join(f"(select count(*) from {row[0]}) as {row[0]}" for row in tables)
    counts = dict(await owner.fetchrow(query))
    return counts | {
        "accounts": await owner.fetch("select * from account order by id"),
        "meters": await owner.fetch("select * from session_meter order by session_id"),
    }


async def refused(ask: Ask, owner: Any, write: Write, body: Any) -> str:
    """Send something that must be refused; the code."""
    before = await everything(owner)
    status, answer = await ask(write.role, write.user_id, write.method, write.path, json=body)
    assert 400 <= status < 500, (status, answer)
    assert set(answer) == {"error"}
    assert answer["error"]["code"]
    assert len(answer["error"]["message"]) > 5
    assert await everything(owner) == before, "something was written"
    return str(answer["error"]["code"])


AMOUNTS = [-1, -(10**12), 0, 10**13, 2**63, 10**40, 1.5, "100", True, [], {}]
FIELDS = [
    ("top_up", "amount_minor"),
    ("charge", "amount_minor"),
    ("reversal", "amount_minor"),
    ("promo", "amount_minor"),
    ("sale", "price_minor"),
    ("sale", "minutes"),
    ("tariff", "minor_per_minute"),
    ("tariff", "step_ms"),
]


@pytest.mark.parametrize(("name", "field"), FIELDS)
async def test_senseless_amounts_are_refused_and_nothing_is_written(
    world: World, ask: Ask, owner: Any, name: str, field: str
) -> None:
    write = world.writes[name]
    for amount in AMOUNTS:
        code = await refused(ask, owner, write, write.body | {field: amount})
        assert code in ("bad_request", "bad_amount", "too_much"), (field, amount)


@pytest.mark.parametrize("name", ["charge", "sale", "tariff"])
@pytest.mark.parametrize("currency", ["usd", "US", "USDT", "", 840, "EUR\u0000"])
async def test_what_is_no_currency_is_refused(world: World, ask: Ask, owner: Any, name: str, currency: Any) -> None:
    write = world.writes[name]
    assert await refused(ask, owner, write, write.body | {"currency": currency}) == "bad_request"


async def test_the_wrong_currency_is_refused(world: World, ask: Ask, owner: Any) -> None:
    write = world.writes["charge"]
    assert await refused(ask, owner, write, write.body | {"currency": "EUR"}) == "currency_mismatch"


async def test_a_foreign_session_is_refused(world: World, ask: Ask, owner: Any) -> None:
    charge, back = world.writes["charge"], world.writes["reversal"]
    foreign = {"session_id": world.foreign["session"]}
    assert await refused(ask, owner, charge, charge.body | foreign) == "no_such_session"
    assert await refused(ask, owner, charge, charge.body | {"provider_id": world.foreign["provider"]}) == (
        "no_such_session"
    ), "theirs, but with another provider"
    unknown = {"session_id": "ses_00000000000000000009"}
    assert await refused(ask, owner, charge, charge.body | unknown) == "no_such_session"
    assert await refused(ask, owner, back, back.body | unknown) == "no_such_session"


async def test_a_foreign_person_is_refused(world: World, ask: Ask, owner: Any) -> None:
    promo, tariff, charge = (world.writes[name] for name in ("promo", "tariff", "charge"))
    for write, field in ((promo, "user_id"), (tariff, "provider_id"), (charge, "provider_id")):
        code = await refused(ask, owner, write, write.body | {field: world.foreign["nobody"]})
        assert code in ("not_found", "no_wallet", "no_such_session"), write.path


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("top_up", {"amount_minor": 901}),
        ("charge", {"amount_minor": 501}),
        ("charge", {"kind": "tip"}),
        ("charge", {"session_id": None}),
        ("reversal", {"amount_minor": 51}),
        ("reversal", {"reason": "Another reason"}),
        ("package_back", {"reason": "Another reason"}),
        ("promo", {"amount_minor": 301}),
    ],
)
async def test_a_key_used_for_other_content_is_refused(
    world: World, ask: Ask, owner: Any, name: str, change: dict[str, Any]
) -> None:
    write = world.writes[name]
    for _ in range(2):
        status, _ = await ask(write.role, write.user_id, write.method, write.path, json=write.body)
        assert status in (200, 201), "a repetition is answered"
    assert await refused(ask, owner, write, write.body | change) == "key_reused"


@pytest.mark.parametrize("name", ["top_up", "charge", "buy", "reversal", "package_back", "promo"])
@pytest.mark.parametrize("key", ["", "short", "x" * 65, "with space", 12345678, None])
async def test_a_senseless_key_is_refused(world: World, ask: Ask, owner: Any, name: str, key: Any) -> None:
    write = world.writes[name]
    assert await refused(ask, owner, write, write.body | {"request_key": key}) == "bad_request"


@pytest.mark.parametrize("name", ["top_up", "charge", "buy", "reversal", "package_back", "promo", "sale", "tariff"])
async def test_bodies_that_are_none_and_strangers_are_refused(world: World, ask: Ask, owner: Any, name: str) -> None:
    write = world.writes[name]
    bodies: list[Any] = [None, [], "text", 7, {}, write.body | {"unknown": 1}]
    for body in bodies:
        assert await refused(ask, owner, write, body) == "bad_request", body
    for role in {Role.CLIENT, Role.PROVIDER, Role.COMPLIANCE, Role.FINANCE} - {write.role}:
        assert await refused(ask, owner, write._replace(role=role), write.body) == "forbidden"


async def test_a_package_is_given_back_whole_once_and_when_nothing_holds_it(
    world: World, ask: Ask, owner: Any, town: Town
) -> None:
    write = world.writes["package_back"]
    for amount in (*AMOUNTS, 500):
        assert await refused(ask, owner, write, write.body | {"amount_minor": amount}) == "bad_request", amount
    unknown = {"package_id": "pkg_00000000000000000009"}
    assert await refused(ask, owner, write, write.body | unknown) == "no_such_package"
    both = {"session_id": world.writes["reversal"].body["session_id"]}
    assert await refused(ask, owner, write, write.body | both) == "bad_request"
    ref = await town.open(UserId(world.writes["buy"].user_id), await town.provider())
    assert await refused(ask, owner, write, write.body) == "package_in_use"
    await town.billing.settle(TENANT, ref.session_id, 0, 0)
    status, back = await ask(write.role, write.user_id, write.method, write.path, json=write.body)
    assert (status, back["amount_minor"]) == (201, 500)
    assert await refused(ask, owner, write, write.body | {"request_key": "right-0003"}) == "package_over"


LOOKS = [
    ("/finance/accounts?query=" + "x" * 500, 400),
    ("/finance/providers/usr_00000000000000000000/tariffs", 404),
    ("/finance/providers/nobody/tariffs", 404),
    ("/finance/users/usr_00000000000000000000/packages", 404),
    ("/finance/users/0/packages", 404),
    ("/finance/ledger/nothing/1", 404),
    ("/finance/ledger/account/-1", 404),
    ("/finance/ledger/account/99999999999999999999999", 404),
    ("/finance/ledger/account/1%00", 404),
    ("/finance/ledger/session/' or true --", 404),
    ("/finance/ledger/transfer/trf_none", 404),
    ("/finance/revenue?from=yesterday", 400),
    ("/finance/revenue?from=2026-02-30", 400),
    ("/finance/revenue?from=2026-02-02&to=2026-01-01", 400),
    ("/finance/revenue?format=xml", 400),
    ("/finance/users/usr_00000000000000000000/statement", 404),
]


@pytest.mark.parametrize(("path", "status"), LOOKS)
async def test_finance_pages_asked_for_nonsense_say_so(world: World, ask: Ask, path: str, status: int) -> None:
    assert world.writes
    got, answer = await ask(Role.FINANCE, STAFF, "GET", path)
    assert (got, set(answer)) == (status, {"error"})
    assert len(answer["error"]["message"]) > 5
    got, answer = await ask(Role.CLIENT, world.writes["buy"].user_id, "GET", path)
    assert (got, answer["error"]["code"]) == (403, "forbidden")
