"""Sessions at every kind of tariff, on a real database: what is held, charged, and when the session ends."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from typing import Any

import pytest

from billing import reconcile
from billing.money import Tariff, cost
from billing.service import Billing
from billing.tariffs import Offer, preset
from billing.terms import BillingRefusal, Opened, Quote, Rate, SessionRef, Wallet
from config.clock import VirtualClock
from config.ids import UserId
from tests.billing.conftest import TENANT, Town, books
from tests.billing.worlds import Control

MINUTE = 60_000


@pytest.fixture
async def control(billing: Billing, clock: VirtualClock) -> Control:
    return Control(billing, clock)


async def offered(town: Town, tariff: Tariff, **more: Any) -> tuple[UserId, Rate]:
    """A provider with this tariff alone, and its rate as a client is shown it."""
    provider = await town.user("provider")
    await town.billing.set_offer(TENANT, provider, Offer("video", "standard", tariff, "USD", **more))
    ((offer,),) = (await town.billing.offers(TENANT, [provider])).values()
    return provider, offer.rate


async def start(town: Town, control: Control, client: UserId, provider: UserId, rate: Rate) -> SessionRef:
    ref = town.ref(client, provider, rate)
    opened = await town.billing.open_session(ref)
    assert isinstance(opened, Opened), opened
    control.room(ref, opened.granted_live_ms)
    return ref


async def right(town: Town, owner: Any) -> None:
    await books(owner)
    wrong = [finding for finding in await reconcile.examine(town.database) if finding.disagreeing]
    assert wrong == []


async def test_a_started_minute_is_paid_in_advance_and_the_call_ends_below_one_minutes_rate(
    town: Town, control: Control, owner: Any
) -> None:
    provider, rate = await offered(town, preset("per_started_minute_70_30", 299))
    client = await town.client(1_000)
    ref = await start(town, control, client, provider, rate)
    await control.run(10)
    assert control.last(ref).cost_minor == 299, "the first minute, as soon as it has started"
    await control.run(230)
    assert control.rooms[ref.session_id].live_ms == 3 * MINUTE
    assert control.last(ref).exhausted
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 3 * MINUTE)
    assert (receipt.charged_minor, receipt.provider_minor, receipt.balance_after_minor) == (897, 627, 103)
    await town.evidence(ref, 3 * MINUTE)
    await right(town, owner)


async def test_whoever_cannot_pay_one_started_minute_does_not_start(town: Town) -> None:
    provider, rate = await offered(town, preset("per_started_minute_70_30", 299))
    client = await town.client(298)
    assert await town.billing.quote(TENANT, client, provider, "video") is BillingRefusal.INSUFFICIENT_FUNDS
    assert await town.billing.open_session(town.ref(client, provider, rate)) is BillingRefusal.INSUFFICIENT_FUNDS


async def test_every_five_seconds_at_90_10_is_charged_exactly(town: Town, control: Control, owner: Any) -> None:
    provider, rate = await offered(town, preset("every_5_s_90_10", 100))
    client = await town.client(1_000)
    ref = await start(town, control, client, provider, rate)
    await control.run(125)
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 126_000)
    assert (receipt.charged_minor, receipt.provider_minor) == (100 * 130_000 // MINUTE, 216 * 9 // 10)
    await town.evidence(ref, 126_000)
    await right(town, owner)


async def test_a_flat_price_is_charged_once_and_ends_with_its_time(town: Town, control: Control, owner: Any) -> None:
    provider, rate = await offered(town, preset("flat_15", flat_minor=2_500))
    client = await town.client(9_000)
    assert await town.billing.quote(TENANT, client, provider, "video") == Quote(rate, 15 * MINUTE)
    ref = await start(town, control, client, provider, rate)
    await control.run(5)
    assert control.last(ref).cost_minor == 2_500
    await control.run(16 * 60)
    assert control.rooms[ref.session_id].live_ms == 15 * MINUTE
    assert control.last(ref).exhausted
    assert [s for o in control.outcomes[ref.session_id] for s in o.warnings] == [60, 30, 10]
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 15 * MINUTE)
    assert (receipt.charged_minor, receipt.balance_after_minor) == (2_500, 6_500)
    assert await owner.fetchval("select count(*) from session_charge") == 1
    await town.evidence(ref, 15 * MINUTE)
    await right(town, owner)


async def test_paid_overtime_follows_a_flat_price(town: Town, control: Control, owner: Any) -> None:
    tariff = preset("flat_15_overtime", 100, 2_500)
    provider, rate = await offered(town, tariff)
    ref = await start(town, control, await town.client(2_750), provider, rate)
    await control.run(20 * 60)
    assert control.rooms[ref.session_id].live_ms == 17 * MINUTE, "two minutes of overtime, then the money is gone"
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 17 * MINUTE)
    assert (receipt.charged_minor, receipt.balance_after_minor) == (2_700, 50)
    await town.evidence(ref, 17 * MINUTE)
    await right(town, owner)


async def test_free_first_seconds_are_capped_a_pair_and_day(town: Town, owner: Any) -> None:
    provider, rate = await offered(town, Tariff(600, 7_000, free_ms=60_000), free_daily_ms=90_000)
    client, other = await town.client(5_000), await town.client(5_000)
    charged = []
    for who in (client, client, client, other):
        ref = town.ref(who, provider, rate)
        assert isinstance(await town.billing.open_session(ref), Opened)
        charged.append((await town.billing.settle(TENANT, ref.session_id, 1, 80_000)).charged_minor)
        await town.evidence(ref, 80_000)
    assert charged == [200, 500, 800, 200]
    await right(town, owner)


async def test_parallel_sessions_cannot_have_the_same_free_seconds(town: Town) -> None:
    provider, rate = await offered(town, Tariff(600, 7_000, free_ms=60_000), free_daily_ms=60_000)
    client = await town.client(5_000)
    refs = [town.ref(client, provider, rate) for _ in range(3)]
    await asyncio.gather(*(town.billing.open_session(ref) for ref in refs))
    receipts = [await town.billing.settle(TENANT, ref.session_id, 1, 60_000) for ref in refs]
    assert sorted(receipt.charged_minor for receipt in receipts) == [0, 600, 600]


async def test_a_minimum_charge_applies_once_anything_is_charged(town: Town, owner: Any) -> None:
    provider, rate = await offered(town, Tariff(60, 7_000, minimum_minor=150))
    client = await town.client(1_000)
    for live_ms, charged in ((0, 0), (1_000, 150), (90_000, 150)):
        ref = town.ref(client, provider, rate)
        assert isinstance(await town.billing.open_session(ref), Opened)
        assert (await town.billing.settle(TENANT, ref.session_id, 1, live_ms)).charged_minor == charged
        await town.evidence(ref, live_ms)
    await right(town, owner)


async def test_a_tariff_keeps_its_history_and_its_validity(town: Town) -> None:
    provider, rate = await offered(town, Tariff(100, 7_000))
    now = datetime.datetime.now(datetime.UTC)
    later = Offer("video", "standard", Tariff(300, 7_000), "USD", valid_from=now + datetime.timedelta(days=1))
    await town.billing.set_offer(TENANT, provider, later)
    assert (await town.billing.rates(TENANT, [provider]))[provider] == [rate], "announced, not yet valid"
    over = Offer("video", "happy_hour", Tariff(50, 7_000), "USD", valid_from=now - datetime.timedelta(hours=2),
                 valid_until=now - datetime.timedelta(hours=1))  # fmt: skip
    await town.billing.set_offer(TENANT, provider, over)
    assert [offer.code for offer in (await town.billing.offers(TENANT, [provider]))[provider]] == ["standard"]


async def test_promo_credit_is_spent_first_and_only_once(town: Town, control: Control, owner: Any) -> None:
    provider, rate = await offered(town, Tariff(600, 7_000))
    client = await town.client(5_000)
    for _ in range(2):
        given = await town.billing.give_promo(TENANT, client, 700, "welcome", "Welcome credit")
        assert given == Wallet(5_700, 5_700, 0, "USD", 700)
    refs = [await start(town, control, client, provider, rate) for _ in range(2)]
    await control.run(60)
    for ref in refs:
        await town.billing.settle(TENANT, ref.session_id, 1, 60_000)
        await town.evidence(ref, 60_000)
    assert await town.billing.wallet(TENANT, client, "client") == Wallet(4_500, 4_500, 0, "USD", 0)
    assert await owner.fetchval("select sum(posted_promo_minor) from session_meter") == 700
    assert await owner.fetchval("select sum(promo_minor) from session_charge") == 700
    assert await town.balance(provider, "provider") == 840, "a provider earns of promotional credit as of money"
    await right(town, owner)


async def test_a_change_of_kind_rates_anew_from_that_moment(town: Town, control: Control, owner: Any) -> None:
    provider, audio = await offered(town, Tariff(100, 7_000))
    await town.billing.set_rate(TENANT, provider, "audio", 50, "USD")
    await town.billing.set_rate(TENANT, provider, "video", 200, "USD", 6_000)
    rates = {rate.kind: rate for rate in (await town.billing.rates(TENANT, [provider]))[provider]}
    client = await town.client(1_000)
    ref = await start(town, control, client, provider, rates["audio"])
    await control.run(61)
    changed = await town.billing.change_kind(TENANT, ref.session_id, 1, 61_300, rates["video"])
    assert isinstance(changed, Opened)
    first = cost(Tariff(50, 7_000), 61_300)
    await control.run(30)
    now = Tariff(200, 6_000, after_ms=61_300, after_minor=first, after_provider_minor=35)
    assert control.last(ref).cost_minor == cost(now, control.last(ref).live_ms)
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 121_300)
    assert (receipt.charged_minor, receipt.provider_minor) == (first + 200, 51 * 7 // 10 + 120)
    await town.evidence(ref, 121_300)
    await right(town, owner)
    back = await town.billing.change_kind(TENANT, ref.session_id, 1, 121_300, audio)
    assert back is BillingRefusal.ALREADY_SETTLED


async def test_a_change_of_kind_that_cannot_be_paid_changes_nothing(town: Town, control: Control, owner: Any) -> None:
    provider, _ = await offered(town, Tariff(100, 7_000))
    await town.billing.set_rate(TENANT, provider, "audio", 50, "USD")
    await town.billing.set_rate(TENANT, provider, "video", 90_000, "USD")
    rates = {rate.kind: rate for rate in (await town.billing.rates(TENANT, [provider]))[provider]}
    ref = await start(town, control, await town.client(1_000), provider, rates["audio"])
    await control.run(30)
    refused = await town.billing.change_kind(TENANT, ref.session_id, 1, 30_000, rates["video"])
    assert refused is BillingRefusal.INSUFFICIENT_FUNDS
    assert await owner.fetchval("select minor_per_minute from session_meter") == 50
    chat = dataclasses.replace(rates["audio"], kind="chat")
    assert await town.billing.change_kind(TENANT, ref.session_id, 1, 30_000, chat) is BillingRefusal.NO_RATE
    await right(town, owner)


async def test_a_flat_price_keeps_its_kind(town: Town, control: Control) -> None:
    provider, rate = await offered(town, preset("flat_15", flat_minor=500))
    await town.billing.set_rate(TENANT, provider, "audio", 50, "USD")
    ref = await start(town, control, await town.client(1_000), provider, rate)
    answer = await town.billing.change_kind(TENANT, ref.session_id, 1, 5_000, Rate("audio", 50, "USD"))
    assert answer is BillingRefusal.NOT_METERED
