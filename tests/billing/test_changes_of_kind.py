"""What a change of kind comes to: nothing is lost or won by changing, and nothing that was paid is paid again."""

from __future__ import annotations

import random
from typing import Any

import pytest

from billing import packages, reconcile
from billing.money import Tariff, cost, split
from billing.packages import Package, PackageOffer
from billing.tariffs import STANDARD, Offer
from billing.terms import BillingRefusal, Opened, Rate, SessionRef
from config.ids import UserId
from relay.messages import SessionKind
from tests.billing.conftest import TENANT, Town, books


class Call:
    """A session whose kind is changed again and again."""

    def __init__(self, town: Town, owner: Any, ref: SessionRef) -> None:
        self.town, self.owner, self.ref = town, owner, ref

    async def change(
        self, kind: SessionKind, live_ms: int, wait_ms: int = 5_000, revision: int | None = None
    ) -> Opened | BillingRefusal:
        self.town.clock.advance_ms(wait_ms)
        offers = (await self.town.billing.offers(TENANT, [self.ref.provider_id]))[self.ref.provider_id]
        rate = next(offer.rate for offer in offers if offer.kind == kind)
        return await self.town.billing.change_kind(TENANT, self.ref.session_id, 1, live_ms, rate, revision)

    async def goes(self, *changes: tuple[SessionKind, int]) -> None:
        for kind, live_ms in changes:
            assert isinstance(await self.change(kind, live_ms), Opened), (kind, live_ms)

    async def meter(self) -> Any:
        return await self.owner.fetchrow("select * from session_meter where session_id = $1", self.ref.session_id)

    async def posted(self) -> int:
        return int((await self.meter())["posted_minor"])

    async def settled(self, live_ms: int) -> int:
        """Settled, and found right; the charge."""
        receipt = await self.town.billing.settle(TENANT, self.ref.session_id, 1, live_ms)
        assert sum(part.amount_minor for part in receipt.stretches) == (
            receipt.charged_minor if receipt.stretches else 0
        )
        assert sum(part.prepaid_ms for part in receipt.stretches) == (receipt.prepaid_ms if receipt.stretches else 0)
        await self.town.evidence(self.ref, live_ms)
        await books(self.owner)
        assert [finding for finding in await reconcile.examine(self.town.database) if finding.disagreeing] == []
        return receipt.charged_minor


async def provider_of(town: Town, **tariffs: Tariff) -> UserId:
    provider = await town.user("provider")
    for kind, tariff in tariffs.items():
        await town.billing.set_offer(TENANT, provider, Offer(kind, STANDARD, tariff, "USD"))  # type: ignore[arg-type]
    return provider


async def call(town: Town, owner: Any, client: UserId, begin: SessionKind = "video", **tariffs: Tariff) -> Call:
    provider = await provider_of(town, **tariffs)
    ref = town.ref(client, provider, Rate(begin, tariffs[begin].minor_per_minute, "USD"))
    assert isinstance(await town.billing.open_session(ref), Opened)
    return Call(town, owner, ref)


async def bought(town: Town, client: UserId, offer: PackageOffer, key: str = "buy-1") -> None:
    public_id = await packages.add_offer(town.database, TENANT, offer)
    assert isinstance(await packages.buy(town.database, TENANT, client, public_id, key), Package)


TARIFFS = [
    Tariff(199, 7_000),
    Tariff(10, 3_333),
    Tariff(199, 7_000, step_ms=60_000),
    Tariff(7, 9_999, step_ms=5_000, free_ms=20_000, minimum_minor=3),
    Tariff(50, 6_000, free_ms=60_000, minimum_minor=300),
]


@pytest.mark.parametrize("tariff", TARIFFS)
async def test_changes_at_equal_terms_come_to_what_one_stretch_does(town: Town, owner: Any, tariff: Tariff) -> None:
    chosen = random.Random(tariff.minor_per_minute)
    one = await call(town, owner, await town.client(100_000), video=tariff, audio=tariff)
    live_ms = 0
    for number in range(60):
        live_ms += chosen.choice([0, 1, 250, 1_100, 5_900, 17_003, 61_000])
        await one.goes(("audio" if number % 2 == 0 else "video", live_ms))
        meter = await one.meter()
        gross = cost(tariff, meter["billed_through_ms"])
        assert (meter["posted_minor"], meter["posted_provider_minor"]) == (gross, split(tariff, gross).provider_minor)
    assert await one.settled(live_ms + 777) == cost(tariff, live_ms + 777)


async def test_random_changes_lose_less_than_a_unit_and_pay_at_most_one_step_ahead(town: Town, owner: Any) -> None:
    chosen = random.Random(4)
    kinds: dict[SessionKind, Tariff] = {
        "video": Tariff(199, 7_000),
        "audio": Tariff(121, 6_001, step_ms=5_000),
        "chat": Tariff(31, 3_333, step_ms=60_000),
    }
    for _ in range(5):
        one = await call(town, owner, await town.client(100_000), **kinds)
        worth, live_ms, kind = 0, 0, "video"
        for _ in range(30):
            gone_ms = chosen.choice([1, 250, 1_100, 5_900, 17_003, 61_000])
            worth, live_ms = worth + kinds[kind].minor_per_minute * gone_ms, live_ms + gone_ms  # type: ignore[index]
            to: SessionKind = chosen.choice([each for each in kinds if each != kind])
            await one.goes((to, live_ms))
            assert worth // 60_000 <= await one.posted() <= (worth + 31 * 60_000) // 60_000 + 1
            kind = to
        await one.settled(live_ms)


async def test_a_started_minute_is_paid_once_however_often_the_kind_changes(town: Town, owner: Any) -> None:
    minutes = Tariff(199, 7_000, step_ms=60_000)
    one = await call(town, owner, await town.client(5_000), video=minutes, audio=minutes)
    for second in range(1, 31):
        await one.goes(("audio" if second % 2 else "video", second * 1_000))
    assert await one.posted() == 199
    assert await one.settled(60_000) == 199


async def test_what_a_step_has_left_buys_time_at_the_new_rate(town: Town, owner: Any) -> None:
    one = await call(
        town, owner, await town.client(20_000), video=Tariff(200, 7_000, step_ms=60_000), chat=Tariff(100, 7_000)
    )
    await one.goes(("chat", 30_000))
    meter = await one.meter()
    assert (meter["posted_minor"], meter["paid_ms"], meter["free_ms"]) == (200, 60_000, 60_000)
    await one.goes(("video", 60_000))
    assert (await one.meter())["paid_ms"] == 15_000, "half a minute of chat is left, worth a quarter of video"
    assert await one.settled(75_001) == 400


async def test_the_minimum_charge_holds_for_the_session(town: Town, owner: Any) -> None:
    video = Tariff(240, 7_000, free_ms=60_000, minimum_minor=300)
    one = await call(town, owner, await town.client(5_000), video=video, audio=Tariff(60, 7_000))
    await one.goes(("audio", 10_000))
    assert await one.settled(61_000) == 300
    other = await call(town, owner, await town.client(5_000), video=video, audio=Tariff(60, 7_000))
    await other.goes(("audio", 61_000), ("video", 70_000))
    assert await other.posted() == 300, "and what was paid by it is not paid again"
    assert await other.settled(60_000 + 1_000 + 9_000 + 72_000) == (4_000 + 9_000 + 288_000) // 1_000


async def test_package_time_for_another_kind_comes_back_to_its_owner(town: Town, owner: Any) -> None:
    client = await town.client(5_000)
    await bought(town, client, PackageOffer("An hour of video", 3_600_000, 2_000, "USD", kind="video"))
    one = await call(town, owner, client, video=Tariff(199, 7_000), audio=Tariff(149, 7_000))
    await one.goes(("audio", 0))
    assert await one.settled(60_000) == 149
    (left,) = await packages.read_packages(town.database, TENANT, client)
    assert (left.reserved_ms, left.left_ms) == (0, 3_600_000)
    back = await town.billing.reverse(TENANT, left.public_id, 2_000, "back-1", UserId(1), "Not wanted")
    assert not isinstance(back, BillingRefusal)


async def test_package_time_is_used_by_the_kinds_that_it_is_for(town: Town, owner: Any) -> None:
    client = await town.client(5_000)
    await bought(town, client, PackageOffer("Video", 60_000, 600, "USD", kind="video", valid_days=9), "a")
    await bought(town, client, PackageOffer("Any", 30_000, 300, "USD", valid_days=20), "b")
    one = await call(town, owner, client, video=Tariff(600, 7_000), audio=Tariff(300, 7_000))
    terms = await town.billing.terms(TENANT, one.ref.session_id)
    assert terms is not None
    assert terms.own_package_ms == 60_000
    await one.goes(("audio", 20_000))
    assert (await one.meter())["prepaid_ms"] == 30_000, "what is for any kind goes along"
    await one.goes(("video", 40_000))
    assert (await one.meter())["prepaid_ms"] == 50_000, "and what is for video is there again"
    terms = await town.billing.terms(TENANT, one.ref.session_id)
    assert terms is not None
    assert terms.own_package_ms == 40_000
    await one.goes(("audio", 75_000))
    assert await one.settled(86_000) == 5, "5 s of the one for any are left, then a second of audio"
    held = await packages.read_packages(town.database, TENANT, client)
    assert [(each.used_ms, each.reserved_ms) for each in held] == [(55_000, 0), (30_000, 0)]


async def test_terms_that_changed_meanwhile_refuse_a_change(town: Town, owner: Any) -> None:
    one = await call(town, owner, await town.client(5_000), video=Tariff(199, 7_000), audio=Tariff(149, 7_000))
    assert isinstance(await one.change("audio", 10_000, revision=1), Opened)
    assert isinstance(await one.change("audio", 11_000, revision=1), Opened), "what is so already may be asked again"
    assert await one.change("video", 12_000, revision=1) is BillingRefusal.CHANGED_MEANWHILE
    assert (await one.meter())["kind"] == "audio"


async def test_changes_are_five_seconds_apart_and_a_hundred_at_most(town: Town, owner: Any) -> None:
    tariff = Tariff(60, 7_000)
    one = await call(town, owner, await town.client(5_000), video=tariff, audio=tariff)
    await one.goes(("audio", 1_000))
    assert await one.change("video", 5_999, wait_ms=4_999) is BillingRefusal.TOO_SOON
    kinds: tuple[SessionKind, SessionKind] = ("video", "audio")
    for number in range(99):
        await one.goes((kinds[number % 2], 6_000 + number))
    assert await one.change("audio", 7_000) is BillingRefusal.TOO_MANY_CHANGES
    assert (await one.meter())["revision"] == 101
    assert await one.settled(60_000) == 60


async def test_a_change_made_by_an_earlier_version_keeps_its_own_rounding(town: Town, owner: Any) -> None:
    one = await call(town, owner, await town.client(5_000), video=Tariff(199, 7_000), audio=Tariff(100, 6_001))
    await one.goes(("audio", 250))
    await owner.execute("alter table session_terms disable trigger user")
    await owner.execute("update session_terms set carried = false")
    await owner.execute("update session_meter set after_rest = 0, after_share_rest = 0")
    live_ms = 250 + 59_900
    assert (await one.meter())["posted_minor"] == 0
    await one.goes(("video", live_ms))
    meter = await one.meter()
    assert (meter["posted_minor"], meter["after_rest"]) == (99, 50_000), "from then on it is carried over"
    assert await one.settled(live_ms + 100) == 100


async def test_a_change_of_kind_does_not_lose_what_the_provider_earned_of_it(town: Town, owner: Any) -> None:
    """At a fifth of a unit a second, a share rounded at each change would come to nothing."""
    tariff = Tariff(12, 5_000)
    one = await call(town, owner, await town.client(5_000), video=tariff, audio=tariff)
    await one.goes(*(("audio" if n % 2 else "video", n * 5_000) for n in range(1, 61)))
    assert await one.settled(300_000) == 60
    assert await town.balance(one.ref.provider_id, "provider") == 30
