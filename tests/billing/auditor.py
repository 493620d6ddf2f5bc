"""An auditor with pencil and paper: what wallets and sessions should be, by arithmetic that is not billing's."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
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
    (Priced("video", Tariff(199, 7_000)), Priced("audio", Tariff(199, 6_001)), Priced("chat", Tariff(98, 6_000))),
    (Priced("video", Tariff(75_000, 3_333)), Priced("audio", Tariff(7, 3_333)), Priced("chat", Tariff(7, 3_333))),
    (
        Priced("video", Tariff(240, 10_000, step_ms=60_000, free_ms=10_000, minimum_minor=300)),
        Priced("audio", Tariff(121, 9_000, step_ms=5_000)),
        Priced("chat", Tariff(240, 10_000, step_ms=60_000)),
    ),
    (Priced("video", Tariff(0, 7_000, flat_minor=900, included_ms=120_000)),),
)
"""Per second; dear, so that money runs out; by started minutes with free time and a minimum; flat. The first kind is
what a session begins as, some of the others cost the same."""

OFFERS = (
    PackageOffer("Video", 75_000, 500, "USD", kind="video", valid_days=30),
    PackageOffer("Video, a little", 20_000, 77, "USD", kind="video", valid_days=30),
    PackageOffer("Two minutes", 120_000, 333, "USD", valid_days=30),
    PackageOffer("Audio", 60_000, 90, "USD", kind="audio", valid_days=30),
    PackageOffer("Ninety seconds and no more", 90_000, 101, "USD", valid_days=30, then_money=False),
)


@dataclasses.dataclass
class Package:
    """Bought time."""

    public_id: PublicId
    offer: PackageOffer
    promo: int
    """How much of its price was promotional credit."""
    used_ms: int = 0
    held_ms: int = 0
    paid_on: int = 0
    given_back: int | None = None

    @property
    def left_ms(self) -> int:
        return 0 if self.given_back is not None else self.offer.time_ms - self.used_ms - self.held_ms

    def fits(self, kind: str) -> bool:
        return self.offer.kind in (None, kind)


@dataclasses.dataclass
class Held:
    """A package's time that a session has taken out of it."""

    package: Package
    ms: int
    gone_ms: int = 0


@dataclasses.dataclass
class Stretch:
    """Part of a session at one tariff."""

    from_ms: int
    priced: Priced
    free_ms: int
    """Of the free first time."""
    paid_ms: int
    """Time that was paid for before it."""
    package_ms: int

    @property
    def tariff(self) -> Tariff:
        return self.priced.tariff

    def parts(self, ms: int) -> tuple[int, int, int, int]:
        """The first ``ms`` of it: free, paid for before, on packages, and at its rate."""
        parts = []
        for most in (self.free_ms, self.paid_ms, self.package_ms):
            parts.append(min(ms, most))
            ms -= parts[-1]
        return parts[0], parts[1], parts[2], ms


def steps(tariff: Tariff, ms: int) -> int:
    """Time in started steps."""
    over_ms = max(0, ms - tariff.included_ms)
    return (over_ms // tariff.step_ms + (over_ms % tariff.step_ms > 0)) * tariff.step_ms


@dataclasses.dataclass
class Session:
    """What is known of one."""

    ref: SessionRef
    provider: int
    stretches: list[Stretch]
    held_packages: list[Held]
    limit_ms: int
    granted_ms: int = 0
    epoch: int = 1
    base_ms: int = 0
    live_ms: int = 0
    billed_ms: int = 0
    settled: bool = False
    changed_ms: int = -(10**9)
    """When its kind changed."""
    refunded: int = 0
    refunded_share: int = 0
    refunded_promo: int = 0

    @property
    def total_ms(self) -> int:
        return self.base_ms + self.live_ms

    def _ends(self, until_ms: int) -> list[tuple[Stretch, int]]:
        """(stretch, how long it is) up to then."""
        ends = [*(one.from_ms for one in self.stretches[1:]), until_ms]
        return [(one, end - one.from_ms) for one, end in zip(self.stretches, ends, strict=True)]

    def _parts(self, until_ms: int) -> list[tuple[Stretch, int]]:
        """(stretch, its cost) up to then: all that was worth its rate, and what of the last step is paid ahead."""
        parts, worth, so_far = [], Fraction(0), 0
        for one, ms in self._ends(until_ms):
            rate = Fraction(one.tariff.minor_per_minute, 60_000)
            _, paid_ms, _, over_ms = one.parts(ms)
            cost = so_far
            if over_ms > 0:
                worth_then = worth + rate * (one.paid_ms + steps(one.tariff, over_ms))
                least = self.stretches[0].tariff.minimum_minor
                cost = max(least, one.tariff.flat_minor + math.floor(worth_then))
            worth += rate * (paid_ms + max(0, over_ms - one.tariff.included_ms))
            parts.append((one, cost - so_far))
            so_far = cost
        return parts

    def cost(self, until_ms: int) -> int:
        return sum(cost for _, cost in self._parts(until_ms))

    @property
    def charged(self) -> int:
        return self.cost(self.billed_ms)

    @property
    def share(self) -> int:
        return sum(cost * one.tariff.provider_bps for one, cost in self._parts(self.billed_ms)) // 10_000

    @property
    def held(self) -> int:
        return 0 if self.settled else self.cost(self.granted_ms) - self.charged

    def saw(self, live_ms: int) -> None:
        """Evidence arrives and is posted: billed as far as it was granted."""
        self.live_ms = max(self.live_ms, live_ms)
        self.billed_ms = max(self.billed_ms, min(self.total_ms, self.granted_ms))

    def package_used_ms(self) -> int:
        """Package time gone by now."""
        return sum(one.parts(ms)[2] for one, ms in self._ends(self.billed_ms))

    def use_packages(self) -> None:
        """The last stretch is over: what it used is taken from the packages that fit it, in their order."""
        one, ms = self._ends(self.billed_ms)[-1]
        left_ms = one.parts(ms)[2]
        for held in self.held_packages:
            if held.package.fits(one.priced.kind):
                used_ms = min(left_ms, held.ms - held.gone_ms)
                held.gone_ms += used_ms
                left_ms -= used_ms
        assert left_ms == 0

    def package_left_ms(self, kind: str) -> int:
        """Of the packages that fit a kind, once the last stretch is over."""
        last, ms = self._ends(self.billed_ms)[-1]
        used_ms, left = last.parts(ms)[2], 0
        for held in self.held_packages:
            mine = held.ms - held.gone_ms
            if held.package.fits(last.priced.kind):
                gone = min(used_ms, mine)
                used_ms, mine = used_ms - gone, mine - gone
            left += mine if held.package.fits(kind) else 0
        return left

    def next_stretch(self, to: Priced) -> Stretch:
        """What follows when the terms change now: what is free, what is paid, and the packages that fit go along."""
        last, ms = self._ends(self.billed_ms)[-1]
        free_ms, paid_ms, _, over_ms = last.parts(ms)
        ahead_ms = steps(last.tariff, over_ms) - over_ms if over_ms > 0 else last.paid_ms - paid_ms
        bought_ms = ahead_ms * last.tariff.minor_per_minute // to.tariff.minor_per_minute
        return Stretch(self.billed_ms, to, last.free_ms - free_ms, bought_ms, self.package_left_ms(to.kind))

    def held_then(self, stretch: Stretch) -> int:
        """What would be held with that after the last stretch."""
        self.stretches.append(stretch)
        held = self.held
        self.stretches.pop()
        return held


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
        held = [Held(one, one.left_ms) for one in self.packages if one.left_ms > 0 and one.fits(priced.kind)]
        package_ms = sum(one.ms for one in held)
        tariff = priced.tariff
        limit_ms = tariff.free_ms + package_ms
        if all(one.package.offer.then_money for one in held):
            limit_ms = FOREVER_MS if tariff.minor_per_minute else limit_ms + tariff.included_ms
        return Session(ref, provider, [Stretch(0, priced, tariff.free_ms, 0, package_ms)], held, limit_ms)


def settle_packages(session: Session) -> int:
    """Pay on what a session used of its packages, and give back the rest; returns the provider's part."""
    session.use_packages()
    shares = 0
    for held in session.held_packages:
        package = held.package
        package.used_ms += held.gone_ms
        package.held_ms -= held.ms
        worth = package.offer.price_minor * package.used_ms // package.offer.time_ms - package.paid_on
        package.paid_on += worth
        shares += worth * package.offer.provider_bps // 10_000
    return shares


def proportion(whole: int, part: int, gross: int) -> int:
    """A share of a refund: its part of the total given back by now, rounded up."""
    return -(-whole * part // gross)
