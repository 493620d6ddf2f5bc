"""An auditor with pencil and paper: what wallets and sessions should be, by arithmetic that is not billing's."""

from __future__ import annotations

import dataclasses
from typing import Any

from billing.money import Tariff
from billing.packages import PackageOffer
from billing.terms import Rate, SessionRef
from config.ids import PublicId, UserId

GRANT_MS = 90_000
START_MS = 60_000
FOREVER_MS = 10**10


@dataclasses.dataclass(frozen=True)
class Priced:
    """What a provider asks for one kind."""

    kind: Any
    tariff: Tariff

    @property
    def rate(self) -> Rate:
        return Rate(self.kind, self.tariff.minor_per_minute, "USD")


PROVIDERS: tuple[tuple[Priced, ...], ...] = (
    (Priced("video", Tariff(199, 7_000)), Priced("audio", Tariff(98, 6_000))),
    (Priced("video", Tariff(75_000, 3_333)), Priced("audio", Tariff(7, 3_333))),
    (
        Priced("video", Tariff(240, 10_000, step_ms=60_000, free_ms=10_000, minimum_minor=300)),
        Priced("audio", Tariff(121, 9_000, step_ms=5_000)),
    ),
    (Priced("video", Tariff(0, 7_000, flat_minor=900, included_ms=120_000)),),
)
"""Per second; dear, so that money runs out; by started minutes with free time and a minimum; flat. The second kind is
what a session may be changed to."""

OFFERS = (
    PackageOffer("Two minutes", 120_000, 333, "USD", valid_days=30),
    PackageOffer("Ninety seconds and no more", 90_000, 101, "USD", valid_days=30, then_money=False),
)


def price(tariff: Tariff, free_ms: int, live_ms: int, *, first: bool) -> int:
    """What one stretch costs."""
    if live_ms <= free_ms:
        return 0
    over_ms = max(0, live_ms - free_ms - tariff.included_ms)
    steps = over_ms // tariff.step_ms + (over_ms % tariff.step_ms > 0)
    metered = tariff.minor_per_minute * steps * tariff.step_ms // 60_000
    return max(tariff.minimum_minor if first else 0, tariff.flat_minor + metered)


@dataclasses.dataclass
class Package:
    """Bought time."""

    offer: PackageOffer
    used_ms: int = 0
    held_ms: int = 0
    paid_on: int = 0

    @property
    def left_ms(self) -> int:
        return self.offer.time_ms - self.used_ms - self.held_ms


@dataclasses.dataclass
class Stretch:
    """Part of a session at one tariff."""

    from_ms: int
    tariff: Tariff
    free_ms: int
    """Without package time."""
    package_ms: int


@dataclasses.dataclass
class Session:
    """What is known of one."""

    ref: SessionRef
    provider: int
    stretches: list[Stretch]
    held_packages: list[tuple[Package, int]]
    limit_ms: int
    granted_ms: int = 0
    epoch: int = 1
    base_ms: int = 0
    live_ms: int = 0
    billed_ms: int = 0
    settled: bool = False
    refunded: int = 0
    refunded_share: int = 0
    refunded_promo: int = 0

    @property
    def total_ms(self) -> int:
        return self.base_ms + self.live_ms

    def _parts(self, until_ms: int) -> list[tuple[Stretch, int]]:
        """(stretch, its cost) up to then."""
        ends = [*(one.from_ms for one in self.stretches[1:]), until_ms]
        return [
            (one, price(one.tariff, one.free_ms + one.package_ms, end - one.from_ms, first=index == 0))
            for index, (one, end) in enumerate(zip(self.stretches, ends, strict=True))
        ]

    def cost(self, until_ms: int) -> int:
        return sum(cost for _, cost in self._parts(until_ms))

    @property
    def charged(self) -> int:
        return self.cost(self.billed_ms)

    @property
    def share(self) -> int:
        return sum(cost * one.tariff.provider_bps // 10_000 for one, cost in self._parts(self.billed_ms))

    @property
    def held(self) -> int:
        return 0 if self.settled else self.cost(self.granted_ms) - self.charged

    def saw(self, live_ms: int) -> None:
        """Evidence arrives and is posted: billed as far as it was granted."""
        self.live_ms = max(self.live_ms, live_ms)
        self.billed_ms = max(self.billed_ms, min(self.total_ms, self.granted_ms))

    def package_used_ms(self) -> int:
        """Package time gone by now."""
        ends = [*(one.from_ms for one in self.stretches[1:]), self.billed_ms]
        return sum(
            min(one.package_ms, max(0, end - one.from_ms - one.free_ms))
            for one, end in zip(self.stretches, ends, strict=True)
        )

    def next_stretch(self, tariff: Tariff) -> Stretch:
        """What follows when the terms change now: free and package time that is left goes along."""
        last = self.stretches[-1]
        gone_ms = self.billed_ms - last.from_ms
        used_ms = min(last.package_ms, max(0, gone_ms - last.free_ms))
        return Stretch(self.billed_ms, tariff, max(0, last.free_ms - gone_ms), last.package_ms - used_ms)


@dataclasses.dataclass
class Gift:
    """A one-off charge."""

    public_id: PublicId
    provider: int
    amount: int
    share: int
    promo: int
    refunded: int = 0
    refunded_share: int = 0
    refunded_promo: int = 0


@dataclasses.dataclass
class Client:
    """A wallet: what came in and went out by now, and what of it is promotional credit."""

    user_id: UserId
    paid_in: int = 0
    promo: int = 0
    spent_at_once: int = 0
    refunded: int = 0
    keys: dict[str, int] = dataclasses.field(default_factory=dict)
    packages: list[Package] = dataclasses.field(default_factory=list)
    sessions: list[Session] = dataclasses.field(default_factory=list)
    gifts: list[Gift] = dataclasses.field(default_factory=list)
    seen_spent: int = 0

    @property
    def spent(self) -> int:
        return self.spent_at_once + sum(one.charged for one in self.sessions)

    @property
    def balance(self) -> int:
        return self.paid_in + self.refunded - self.spent

    @property
    def held(self) -> int:
        return sum(one.held for one in self.sessions)

    @property
    def available(self) -> int:
        return self.balance - self.held

    def spend_promo(self) -> None:
        """Promotional credit goes before money."""
        self.promo -= min(self.promo, self.spent - self.seen_spent)
        self.seen_spent = self.spent

    def open(self, ref: SessionRef, provider: int, priced: Priced) -> Session:
        """A session as it should be opened now; it is not the client's yet."""
        held = [(one, one.left_ms) for one in self.packages if one.left_ms > 0]
        package_ms = sum(left for _, left in held)
        tariff = priced.tariff
        limit_ms = tariff.free_ms + package_ms
        if all(one.offer.then_money for one, _ in held):
            limit_ms = FOREVER_MS if tariff.minor_per_minute else limit_ms + tariff.included_ms
        return Session(ref, provider, [Stretch(0, tariff, tariff.free_ms, package_ms)], held, limit_ms)


def settle_packages(session: Session) -> int:
    """Pay on what a session used of its packages, and give back the rest; returns the provider's part."""
    left_ms, shares = session.package_used_ms(), 0
    for package, held_ms in session.held_packages:
        used_ms = min(left_ms, held_ms)
        left_ms -= used_ms
        package.used_ms += used_ms
        package.held_ms -= held_ms
        worth = package.offer.price_minor * package.used_ms // package.offer.time_ms - package.paid_on
        package.paid_on += worth
        shares += worth * package.offer.provider_bps // 10_000
    return shares


def proportion(whole: int, part: int, gross: int) -> int:
    """A share of a refund: its part of the total given back by now, rounded up."""
    return -(-whole * part // gross)
