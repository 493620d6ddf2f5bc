"""One-off charges and reversals: once, shared, never more than there is."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import charges, reconcile
from billing.charges import Charge, ChargeOrder, Reversal
from billing.terms import BillingRefusal, Wallet
from config.ids import PublicId, TenantId, UserId
from tests.billing.conftest import TENANT, Town, books

FINANCE = UserId(99)


async def public_id(town: Town, user_id: UserId) -> PublicId:
    async with town.database.transaction(TENANT) as connection:
        found: PublicId = await connection.fetchval("select public_id from app_user where id = $1", user_id)
    return found


async def gift(town: Town, client: UserId, provider: UserId, amount: int, **changes: Any) -> ChargeOrder:
    order = ChargeOrder(TENANT, client, "gift", amount, "USD", await public_id(town, provider), None, "A rose", "key-1")
    return dataclasses.replace(order, **changes)


async def right(town: Town, owner: Any) -> None:
    await books(owner)
    assert [finding for finding in await reconcile.examine(town.database) if finding.disagreeing] == []


async def test_a_gift_is_charged_once_and_shared(town: Town, owner: Any) -> None:
    client, provider = await town.client(1_000), await town.provider()
    order = await gift(town, client, provider, 501)
    answers = await asyncio.gather(*(charges.charge(town.database, order) for _ in range(5)))
    assert isinstance(answers[0], Charge)
    assert len(set(answers)) == 1
    assert (answers[0].amount_minor, answers[0].provider_minor) == (501, 350)
    assert await town.balance(client) == 499
    assert await town.balance(provider, "provider") == 350
    (line,) = [x for x in await town.billing.entries(TENANT, client, "client", None, 9) if x.kind == "charge"]
    assert (line.amount_minor, line.public_id, line.balance_after_minor) == (-501, answers[0].public_id, 499)
    await right(town, owner)


async def test_the_share_follows_the_rule_of_provider_and_kind(town: Town) -> None:
    client, provider, other = await town.client(9_000), await town.provider(), await town.provider()
    await charges.set_share(town.database, TENANT, charges.EVERYBODY, "gift", 5_000)
    await charges.set_share(town.database, TENANT, provider, "gift", 9_000)
    shares = []
    for number, (whom, kind) in enumerate([(provider, "gift"), (other, "gift"), (provider, "tip")]):
        order = await gift(town, client, whom, 100, kind=kind, key=f"key-{number}")
        made = await charges.charge(town.database, order)
        assert isinstance(made, Charge)
        shares.append(made.provider_minor)
    assert shares == [90, 50, 70]


async def test_a_product_without_a_provider_is_the_platforms(town: Town, owner: Any) -> None:
    client = await town.client(1_000)
    order = ChargeOrder(TENANT, client, "product", 300, "USD", None, None, "Chart", "key-1")
    made = await charges.charge(town.database, order)
    assert isinstance(made, Charge)
    assert made.provider_minor == 0
    back = await charges.reverse(town.database, TENANT, made.public_id, 300, "r", FINANCE, "sold by mistake")
    assert isinstance(back, Reversal)
    assert await town.balance(client) == 1_000
    await right(town, owner)


async def test_what_a_session_holds_cannot_be_given_away(town: Town, owner: Any) -> None:
    client, provider = await town.client(400), await town.provider()
    await town.open(client, provider)
    refused = await charges.charge(town.database, await gift(town, client, provider, 103))
    assert refused is BillingRefusal.INSUFFICIENT_FUNDS
    assert isinstance(await charges.charge(town.database, await gift(town, client, provider, 102)), Charge)
    assert (await town.billing.wallet(TENANT, client, "client")).available_minor == 0
    await books(owner)


async def test_racing_gifts_cannot_spend_the_same_money(town: Town, owner: Any) -> None:
    client, provider = await town.client(1_000), await town.provider()
    orders = [await gift(town, client, provider, 300, key=f"key-{n}") for n in range(8)]
    answers = await asyncio.gather(*(charges.charge(town.database, order) for order in orders))
    assert sum(isinstance(answer, Charge) for answer in answers) == 3
    assert await town.balance(client) == 100
    await right(town, owner)


async def test_bad_charges_get_one_clear_refusal_and_write_nothing(town: Town, owner: Any) -> None:
    client, provider, stranger = await town.client(1_000), await town.provider(), await town.client(1_000)
    other = await town.provider()
    foreign = (await town.open(stranger, provider)).session_public_id
    mine = (await town.open(client, provider)).session_public_id
    good = await gift(town, client, provider, 100)
    assert isinstance(await charges.charge(town.database, good), Charge)
    before = await owner.fetch("select * from account order by id"), await owner.fetch("select * from transfer")
    other_id = await public_id(town, other)
    for changes, refusal in (
        ({"amount_minor": -5}, BillingRefusal.BAD_AMOUNT),
        ({"amount_minor": 0}, BillingRefusal.BAD_AMOUNT),
        ({"amount_minor": 10**18}, BillingRefusal.BAD_AMOUNT),
        ({"currency": "EUR", "key": "k2"}, BillingRefusal.CURRENCY_MISMATCH),
        ({"session": foreign, "key": "k3"}, BillingRefusal.NO_SUCH_SESSION),
        ({"session": mine, "provider": other_id, "key": "k4"}, BillingRefusal.NO_SUCH_SESSION),
        ({"session": PublicId("ses_none"), "key": "k5"}, BillingRefusal.NO_SUCH_SESSION),
        ({"provider": PublicId("usr_none"), "key": "k6"}, BillingRefusal.NO_WALLET),
        ({"provider": None, "key": "k7"}, BillingRefusal.NO_WALLET),
        ({"payer_id": provider, "key": "k8"}, BillingRefusal.NO_WALLET),
        ({"tenant_id": TenantId(2)}, BillingRefusal.NO_WALLET),
        ({"amount_minor": 101}, BillingRefusal.KEY_REUSED),
        ({"kind": "tip"}, BillingRefusal.KEY_REUSED),
        ({"provider": other_id}, BillingRefusal.KEY_REUSED),
        ({"amount_minor": 100_000, "key": "k9"}, BillingRefusal.INSUFFICIENT_FUNDS),
    ):
        answer = await charges.charge(town.database, dataclasses.replace(good, **changes))
        assert answer is refusal, changes
    assert (
        await owner.fetch("select * from account order by id"),
        await owner.fetch("select * from transfer"),
    ) == before
    assert await owner.fetchval("select count(*) from charge") == 1


async def test_a_refund_goes_back_in_proportion_and_no_further_than_the_charge(town: Town, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    await town.evidence(ref, 75_500)

    async def back(amount: int, key: str, reason: str = "bad line") -> Reversal | BillingRefusal:
        return await charges.reverse(town.database, TENANT, ref.session_public_id, amount, key, FINANCE, reason)

    assert await back(50, "r0") is BillingRefusal.NOT_SETTLED
    assert (await town.billing.settle(TENANT, ref.session_id, 1, 75_500)).provider_minor == 175
    for _ in range(2):
        first = await back(100, "r1")
        assert isinstance(first, Reversal)
        assert (first.amount_minor, first.provider_minor, first.receivable_minor) == (100, 70, 0)
    assert await town.balance(client) == 4_850
    assert await town.balance(provider, "provider") == 105
    assert await back(90, "r1") is BillingRefusal.KEY_REUSED
    assert await back(100, "r1", "other reason") is BillingRefusal.KEY_REUSED
    assert await back(151, "r2") is BillingRefusal.TOO_MUCH
    for senseless in (0, -1, 10**13):
        assert await back(senseless, "r3") is BillingRefusal.BAD_AMOUNT
    assert isinstance(await back(150, "r4"), Reversal)
    assert (await town.balance(client), await town.balance(provider, "provider")) == (5_000, 0)
    assert await back(1, "r5") is BillingRefusal.TOO_MUCH
    assert await owner.fetchval("select sum(posted_minor) from account where kind = 'platform_revenue'") == 0
    await right(town, owner)


async def test_what_a_provider_no_longer_has_becomes_a_receivable(town: Town, owner: Any) -> None:
    client, provider = await town.client(1_000), await town.provider()
    made = await charges.charge(town.database, await gift(town, client, provider, 1_000))
    assert isinstance(made, Charge)
    # As a payout would: most of the earnings have left.
    await owner.execute(
        "select move_money(1, 'trf_out', 'reversal', a.id, b.id, 600, 0, 'USD', 'out', null, '') from account a,"
        " account b where a.kind = 'provider_earnings' and a.user_id = $1 and b.kind = 'payment_clearing'",
        provider,
    )
    back = await charges.reverse(town.database, TENANT, made.public_id, 1_000, "r", FINANCE, "disputed")
    assert isinstance(back, Reversal)
    assert (back.provider_minor, back.receivable_minor) == (700, 600)
    assert await town.billing.wallet(TENANT, client, "client") == Wallet(1_000, 1_000, 0, "USD")
    assert await town.balance(provider, "provider") == 0
    assert await owner.fetchval("select posted_minor from account where kind = 'receivable'") == -600
    await books(owner)


async def test_promotional_credit_returns_as_such(town: Town, owner: Any) -> None:
    client, provider = await town.client(600), await town.provider()
    await town.billing.give_promo(TENANT, client, 400, "welcome", "Welcome")
    made = await charges.charge(town.database, await gift(town, client, provider, 1_000))
    assert isinstance(made, Charge)
    assert made.promo_minor == 400
    back = await charges.reverse(town.database, TENANT, made.public_id, 500, "r", FINANCE, "half of it")
    assert isinstance(back, Reversal)
    assert await town.billing.wallet(TENANT, client, "client") == Wallet(500, 500, 0, "USD", 200)
    await right(town, owner)


async def test_the_application_can_write_neither_charges_nor_reversals(town: Town, owner: Any) -> None:
    client, provider = await town.client(1_000), await town.provider()
    await charges.charge(town.database, await gift(town, client, provider, 100))
    for statement in (
        "update charge set amount_minor = 1",
        "delete from reversal",
        "insert into charge overriding system value select * from charge",
        "select move_money(1, 'x', 'topup', 1, 2, 5, 0, 'USD', 'x', null, '')",
        "select drop_charge_partition(0, 1, '', '')",
        "update client_package set used_ms = 0",
        "insert into session_terms select * from session_terms",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with town.database.transaction(TENANT) as connection:
                await connection.execute(statement)
    for statement in ("update charge set amount_minor = 1", "delete from reversal", "truncate charge_rule"):
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await owner.execute(statement)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(1, 400), st.integers(0, 10_000), st.integers(0, 300), st.lists(st.integers(1, 200), max_size=6))
async def test_many_small_reversals_are_one_large(
    town: Town, owner: Any, amount: int, bps: int, promo: int, parts: list[int]
) -> None:
    client, provider = await town.client(400), await town.provider()
    if promo:
        await town.billing.give_promo(TENANT, client, promo, "p", "")
    await charges.set_share(town.database, TENANT, provider, "gift", bps)
    made = await charges.charge(town.database, await gift(town, client, provider, amount))
    assert isinstance(made, Charge)
    given_back = 0
    for number, part in enumerate([*parts, amount]):
        part = min(part, amount - given_back)
        if part:
            key = f"{client}-{number}"
            back = await charges.reverse(town.database, TENANT, made.public_id, part, key, FINANCE, "some")
            assert isinstance(back, Reversal)
            assert back.receivable_minor == 0
            given_back += part
    assert await town.billing.wallet(TENANT, client, "client") == Wallet(400 + promo, 400 + promo, 0, "USD", promo)
    assert await town.balance(provider, "provider") == 0
    await right(town, owner)
