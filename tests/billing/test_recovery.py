"""What is left of packages goes back to who paid; what providers owe is paid off by what they earn next."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import asyncpg
import pytest

from billing import charges, nightly, packages, reconcile, recovery
from billing.charges import ChargeOrder, Reversal
from billing.packages import Package, PackageOffer
from billing.store import ConstraintViolated
from billing.terms import BillingRefusal, Rate, Wallet
from config.database import Database
from config.ids import PublicId, UserId
from tests.billing.conftest import TENANT, Town, books
from tests.conftest import DatabaseUrls

FINANCE = UserId(99)
TEN_MINUTES = PackageOffer("Ten minutes", 600_000, 1_500, "USD", valid_days=30)
RATE = Rate("video", 600, "USD")


async def right(town: Town, owner: Any) -> None:
    await books(owner)
    assert [finding for finding in await reconcile.examine(town.database) if finding.disagreeing] == []


async def bought(town: Town, client: UserId) -> Package:
    offer = await packages.add_offer(town.database, TENANT, TEN_MINUTES)
    package = await town.billing.buy_package(TENANT, client, offer, "buy-1")
    assert isinstance(package, Package)
    return package


async def give_back(
    town: Town, what: PublicId, amount_minor: int = 0, key: str = "back-1"
) -> Reversal | BillingRefusal:
    return await town.billing.reverse(TENANT, what, amount_minor, key, FINANCE, "moved to another town")


async def talk(town: Town, client: UserId, provider: UserId, live_ms: int) -> PublicId:
    ref = await town.open(client, provider, RATE)
    await town.billing.settle(TENANT, ref.session_id, 1, live_ms)
    await town.evidence(ref, live_ms)
    return ref.session_public_id


async def test_what_is_left_of_a_package_goes_back_once(town: Town, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider(RATE)
    package = await bought(town, client)
    await talk(town, client, provider, 60_000)
    answers = await asyncio.gather(*(give_back(town, package.public_id) for _ in range(4)))
    assert len(set(answers)) == 1
    assert isinstance(answers[0], Reversal)
    assert (answers[0].amount_minor, answers[0].provider_minor) == (1_350, 0)
    assert await town.balance(client) == 5_000 - 150
    assert await packages.read_packages(town.database, TENANT, client) == []
    assert await give_back(town, package.public_id, key="back-2") is BillingRefusal.PACKAGE_OVER
    await right(town, owner)


async def test_a_package_in_use_is_not_given_back(town: Town, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider(RATE)
    package = await bought(town, client)
    ref = await town.open(client, provider, RATE)
    assert await give_back(town, package.public_id) is BillingRefusal.PACKAGE_IN_USE
    await town.billing.settle(TENANT, ref.session_id, 1, 0)
    assert isinstance(await give_back(town, package.public_id), Reversal)
    assert await give_back(town, PublicId("pkg_no")) is BillingRefusal.NO_SUCH_PACKAGE
    assert await town.balance(client) == 5_000
    await right(town, owner)


async def test_a_used_key_gives_back_no_other_package(town: Town, owner: Any) -> None:
    client = await town.client(5_000)
    package = await bought(town, client)
    assert isinstance(await give_back(town, package.public_id), Reversal)
    offer = await packages.add_offer(town.database, TENANT, TEN_MINUTES)
    other = await town.billing.buy_package(TENANT, client, offer, "buy-2")
    assert isinstance(other, Package)
    assert await give_back(town, other.public_id) is BillingRefusal.KEY_REUSED
    await right(town, owner)


async def test_one_key_for_two_things_at_one_moment_gives_back_one(
    town: Town, owner: Any, database_urls: DatabaseUrls
) -> None:
    dollars, euros = await town.client(5_000), await town.client(5_000, "EUR")
    offer = await packages.add_offer(town.database, TENANT, TEN_MINUTES)
    in_euros = await packages.add_offer(town.database, TENANT, dataclasses.replace(TEN_MINUTES, currency="EUR"))
    bought = [
        await town.billing.buy_package(TENANT, client, package, f"buy-{package}")
        for client, package in ((dollars, offer), (euros, in_euros))
    ]
    gate = await asyncpg.connect(database_urls.owner_url, server_settings={"turnpike.tenant": "*"})
    await gate.execute("begin; select * from account where kind = 'client_wallet' for update")
    async with await Database.open(database_urls.app_url, name="race", min_size=3) as database:
        racing = [
            asyncio.create_task(charges.reverse(database, TENANT, package.public_id, 0, "same", FINANCE, "a mistake"))
            for package in bought
            if isinstance(package, Package)
        ]
        while await owner.fetchval("select count(*) from pg_locks where not granted") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await gate.execute("commit")
        answers = await asyncio.gather(*racing)
    await gate.close()
    assert sorted(isinstance(answer, Reversal) for answer in answers) == [False, True]
    assert BillingRefusal.KEY_REUSED in answers
    await right(town, owner)


async def test_promotional_credit_of_a_package_returns_as_such(town: Town, owner: Any) -> None:
    client = await town.client(1_000)
    await town.billing.give_promo(TENANT, client, 600, "promo-1", "Welcome")
    package = await bought(town, client)
    assert isinstance(await give_back(town, package.public_id), Reversal)
    wallet = await town.billing.wallet(TENANT, client, "client")
    assert (wallet.balance_minor, wallet.promo_minor) == (1_600, 600)
    await right(town, owner)


async def test_all_used_leaves_nothing_to_give_back(town: Town, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider(RATE)
    package = await bought(town, client)
    for _ in range(7):
        await talk(town, client, provider, 90_000)
    assert await give_back(town, package.public_id) is BillingRefusal.PACKAGE_OVER
    await right(town, owner)


async def owing(town: Town, owner: Any) -> tuple[UserId, UserId]:
    """A provider who owes 700: the earnings of a session that was given back after they were paid out (as it were)."""
    client, provider = await town.client(9_000), await town.provider(RATE)
    other = await town.client(9_000)
    session = await talk(town, client, provider, 90_000)
    async with owner.transaction():  # paid out: the money has left
        earnings = await owner.fetchrow("select id, posted_minor from account where kind = 'provider_earnings'")
        clearing = await owner.fetchval("select id from account where kind = 'payment_clearing' and currency = 'USD'")
        await owner.execute(
            "select move_money($1, 'trf_payout', 'charge', $2, $3, $4, 0, 'USD', 'payout-1', null, 'Payout')",
            *(TENANT, earnings["id"], clearing, earnings["posted_minor"]),
        )
    back = await give_back(town, session, 900)
    assert isinstance(back, Reversal)
    assert back.receivable_minor == 630
    return other, provider


async def debt(town: Town, provider: UserId) -> int:
    return await recovery.owed(town.database, TENANT, provider)


async def test_the_next_session_pays_what_a_provider_owes(town: Town, owner: Any) -> None:
    client, provider = await owing(town, owner)
    assert await debt(town, provider) == 630
    await talk(town, client, provider, 60_000)
    assert (await debt(town, provider), await town.balance(provider, "provider")) == (210, 0)
    await talk(town, client, provider, 60_000)
    assert (await debt(town, provider), await town.balance(provider, "provider")) == (0, 210)
    lines = await town.billing.entries(TENANT, provider, "provider", None, 20)
    assert [line.amount_minor for line in lines if line.kind == "recovery"] == [-210, -420]
    await right(town, owner)


async def test_a_gift_pays_it_too_and_racing_calls_pay_it_once(town: Town, owner: Any) -> None:
    client, provider = await owing(town, owner)
    public: Any = await owner.fetchval("select public_id from app_user where id = $1", provider)
    gift = ChargeOrder(TENANT, client, "gift", 1_000, "USD", public, None, "A rose", "key-1")
    await town.billing.charge(gift)
    paid = await asyncio.gather(*(recovery.of_provider(town.database, TENANT, provider) for _ in range(4)))
    assert sum(paid) == 0, "the gift has paid it already"
    assert (await debt(town, provider), await town.balance(provider, "provider")) == (0, 70)
    await right(town, owner)


async def test_the_night_makes_up_for_a_lost_call(town: Town, owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client, provider = await owing(town, owner)

    async def lost(*_: object) -> int:
        return 0

    with monkeypatch.context() as patched:
        patched.setattr(recovery, "after_session", lost)
        await talk(town, client, provider, 60_000)
    assert await debt(town, provider) == 630
    await nightly.Nightly(town.database, town.clock).run({0: 1})
    assert await debt(town, provider) == 210
    await right(town, owner)


async def test_those_who_cannot_pay_keep_nobody_from_paying(
    town: Town, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, provider = await owing(town, owner)
    for _ in range(3):  # they owe too, and have nothing; or their debt cannot be paid at all
        poor = await town.provider()
        await owner.execute(
            "insert into account (tenant_id, kind, user_id, lane, currency, overdraft, posted_minor)"
            " values ($1, 'receivable', $2, 0, 'USD', true, -100)",
            *(TENANT, poor),
        )
    await owner.execute("update account set user_id = user_id + 1000 where user_id = $1", provider)  # looked at last
    provider = UserId(provider + 1000)
    monkeypatch.setattr(recovery, "OWING_MAX", 1)
    for user_id, has in ((provider, 420), (poor, 50)):
        await owner.execute(
            "update account set posted_minor = $2 where kind = 'provider_earnings' and user_id = $1", user_id, has
        )
    of_provider = recovery.of_provider

    async def failing(database: Any, tenant: Any, user_id: UserId) -> int:
        if user_id == poor:
            raise ConstraintViolated("account_never_negative")
        return await of_provider(database, tenant, user_id)

    monkeypatch.setattr(recovery, "of_provider", failing)
    assert await recovery.of_everybody(town.database) == 420
    assert await debt(town, provider) == 210


async def test_a_wallet_topped_up_meanwhile_is_not_touched(town: Town, owner: Any) -> None:
    client, provider = await owing(town, owner)
    assert isinstance(await town.billing.top_up(TENANT, client, 100, "top-up-1", ""), Wallet)
    await recovery.of_everybody(town.database)
    assert await town.balance(client) == 9_100
    assert await debt(town, provider) == 630
