"""Prepaid time: bought once, used in order, paid on in proportion, never used twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from billing import packages, reconcile
from billing.packages import Package, PackageOffer
from billing.service import Billing
from billing.terms import BillingRefusal, Opened, Quote, Rate, Wallet
from config.clock import VirtualClock
from config.ids import PublicId, UserId
from tests.billing.conftest import TENANT, Town, books
from tests.billing.worlds import Control

TEN_MINUTES = PackageOffer("Ten minutes", 600_000, 1_500, "USD", valid_days=30)


@pytest.fixture
async def control(billing: Billing, clock: VirtualClock) -> Control:
    return Control(billing, clock)


async def bought(town: Town, client: UserId, offer: PackageOffer = TEN_MINUTES, key: str = "buy-1") -> Package:
    public_id = await packages.add_offer(town.database, TENANT, offer)
    answer = await packages.buy(town.database, TENANT, client, public_id, key)
    assert isinstance(answer, Package), answer
    return answer


async def right(town: Town, owner: Any) -> None:
    await books(owner)
    assert [finding for finding in await reconcile.examine(town.database) if finding.disagreeing] == []


async def test_a_package_is_bought_once(town: Town, owner: Any) -> None:
    client = await town.client(5_000)
    offer = await packages.add_offer(town.database, TENANT, TEN_MINUTES)
    answers = await asyncio.gather(*(packages.buy(town.database, TENANT, client, offer, "buy-1") for _ in range(4)))
    assert len(set(answers)) == 1
    assert await town.balance(client) == 3_500
    other = await packages.add_offer(town.database, TENANT, TEN_MINUTES)
    buy = packages.buy
    assert await buy(town.database, TENANT, client, other, "buy-1") is BillingRefusal.KEY_REUSED
    assert await buy(town.database, TENANT, client, PublicId("pko_no"), "k") is BillingRefusal.NO_SUCH_PACKAGE
    assert await packages.withdraw_offer(town.database, TENANT, other)
    assert await buy(town.database, TENANT, client, other, "k") is BillingRefusal.NO_SUCH_PACKAGE
    poor = await town.client(10)
    assert await buy(town.database, TENANT, poor, offer, "k") is BillingRefusal.INSUFFICIENT_FUNDS
    euro = await town.client(5_000, "EUR")
    assert await buy(town.database, TENANT, euro, offer, "k") is BillingRefusal.CURRENCY_MISMATCH
    assert [one.public_id for one in await packages.read_offers(town.database, TENANT, "USD")] == [offer]
    await right(town, owner)


async def test_package_time_goes_first_and_money_after(town: Town, control: Control, owner: Any) -> None:
    client, provider = await town.client(1_700), await town.provider(Rate("video", 600, "USD"))
    await bought(town, client)
    ref = town.ref(client, provider, Rate("video", 600, "USD"))
    quote = await town.billing.quote(TENANT, client, provider, "video")
    assert isinstance(quote, Quote)
    assert quote.affordable_ms == 600_000 + 20_099
    opened = await town.billing.open_session(ref)
    assert opened == Opened(90_000, False)
    assert (await town.billing.wallet(TENANT, client, "client")).held_minor == 0
    control.room(ref, 90_000)
    await control.run(11 * 60)
    assert control.rooms[ref.session_id].live_ms == 620_099
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 620_099)
    assert (receipt.charged_minor, receipt.provider_minor) == (200, 140)
    assert await town.balance(provider, "provider") == 140 + 1_050, "the package's price is paid on with its use"
    assert await packages.read_packages(town.database, TENANT, client) != []
    await town.evidence(ref, 620_099)
    await right(town, owner)


async def test_packages_are_used_by_expiry_and_the_rest_comes_back(town: Town, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider()
    late = await bought(town, client, PackageOffer("Late", 100_000, 1_000, "USD", valid_days=60), "a")
    soon = await bought(town, client, PackageOffer("Soon", 60_000, 601, "USD", valid_days=10), "b")
    ref = await town.open(client, provider)
    held = await packages.read_packages(town.database, TENANT, client)
    assert [(one.public_id, one.reserved_ms) for one in held] == [(soon.public_id, 60_000), (late.public_id, 100_000)]
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 85_001)
    assert receipt.charged_minor == 0
    left = await packages.read_packages(town.database, TENANT, client)
    assert [(one.used_ms, one.left_ms) for one in left] == [(60_000, 0), (25_001, 74_999)]
    assert await town.balance(provider, "provider") == 601 * 7 // 10 + 250 * 7 // 10
    await town.evidence(ref, 85_001)
    await right(town, owner)


async def test_parallel_sessions_cannot_use_the_same_time(town: Town, owner: Any) -> None:
    client = await town.client(1_500)
    providers = [await town.provider() for _ in range(4)]
    await bought(town, client)
    refs = [town.ref(client, provider) for provider in providers]
    answers = await asyncio.gather(*(town.billing.open_session(ref) for ref in refs))
    assert sum(isinstance(answer, Opened) for answer in answers) == 1
    await right(town, owner)


async def test_without_money_after_it_a_package_ends_the_session(town: Town, control: Control, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider()
    await bought(town, client, PackageOffer("Two", 120_000, 300, "USD", then_money=False))
    ref = await town.open(client, provider)
    control.room(ref, 90_000)
    await control.run(150)
    assert control.rooms[ref.session_id].live_ms == 120_000
    assert control.last(ref).exhausted
    assert (await town.billing.settle(TENANT, ref.session_id, 1, 120_000)).charged_minor == 0
    assert await town.billing.wallet(TENANT, client, "client") == Wallet(4_700, 4_700, 0, "USD")
    await town.evidence(ref, 120_000)
    await right(town, owner)


async def test_a_package_for_another_provider_or_kind_is_left_alone(town: Town) -> None:
    client, provider, other = await town.client(5_000), await town.provider(), await town.provider()
    await bought(town, client, PackageOffer("Hers", 60_000, 100, "USD", provider_id=other), "a")
    await bought(town, client, PackageOffer("Audio", 60_000, 100, "USD", kind="audio"), "b")
    ref = await town.open(client, provider)
    assert (await town.billing.settle(TENANT, ref.session_id, 1, 60_000)).charged_minor == 199
    assert [one.used_ms for one in await packages.read_packages(town.database, TENANT, client)] == [0, 0]


async def test_what_is_left_of_an_expired_package_is_the_platforms(town: Town, owner: Any) -> None:
    client, provider = await town.client(1_500), await town.provider()
    await bought(town, client)
    ref = await town.open(client, provider)
    await town.billing.settle(TENANT, ref.session_id, 1, 60_000)
    await town.evidence(ref, 60_000)
    await owner.execute("update client_package set expires_at = now() - interval '1 minute'")
    assert await town.billing.open_session(town.ref(client, provider)) is BillingRefusal.INSUFFICIENT_FUNDS
    for closed in (1, 0):
        assert await owner.fetchval("select close_packages($1)", TENANT) == closed
    assert await owner.fetchval("select posted_minor from account where kind = 'package_liability'") == 0
    assert await owner.fetchval("select sum(posted_minor) from account where kind = 'platform_revenue'") == 1_395
    assert await town.balance(provider, "provider") == 105
    await right(town, owner)
