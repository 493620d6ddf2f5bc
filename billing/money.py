"""What time costs. Integers only; ``tariff_cost``, ``tariff_affordable_ms`` and ``share_minor`` in SQL are twins.

Every amount is computed from totals, never from differences, so that nothing drifts: a posting is the cost of all the
time so far less what is posted already. Where a session's terms change, what is paid goes along to the unit: a
sixty-thousandth of a minor unit, in which a rate times milliseconds is a whole number.
"""

from __future__ import annotations

import dataclasses
from typing import Final, NamedTuple

MINUTE_MS: Final = 60_000
BPS: Final = 10_000
"""Basis points in a whole."""
RATE_MAX: Final = 10_000_000
"""Highest rate, in minor units a minute."""
LIVE_MAX_MS: Final = 10**10
"""Longest session, in milliseconds: 115 days."""
STEP_MAX_MS: Final = 3_600_000
FREE_MAX_MS: Final = 3_600_000
INCLUDED_MAX_MS: Final = 86_400_000
PRICE_MAX: Final = 10**10
_PAID_MAX: Final = 10**12
"""More money than this buys no more time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tariff:
    """What live time costs: free time first, then a flat price with what it includes, then steps at a rate.

    Steps of 1 ms are a price per second; of 60,000 ms, per started minute in advance; of 5,000, every five seconds.
    """

    minor_per_minute: int
    """0: the session ends with the time that the flat price includes."""
    provider_bps: int
    step_ms: int = 1
    """Time is charged by started steps."""
    free_ms: int = 0
    """Time that costs no money: free first time, and for a session also what is paid for already: the rest of a step
    from before its terms changed, and the package time that it has."""
    flat_minor: int = 0
    included_ms: int = 0
    """What the flat price covers."""
    minimum_minor: int = 0
    """At least so much, once anything is charged at all."""
    after_ms: int = 0
    """For a session whose terms have changed: its live time before, what that cost, and the provider's part."""
    after_minor: int = 0
    after_provider_minor: int = 0
    after_rest: int = 0
    """What that time was worth beyond ``after_minor``, in 1/60000 units; below 0: a minimum charge has paid ahead."""
    after_share_rest: int = 0
    """The provider's part of it beyond ``after_provider_minor``, in 1/10000 units."""
    limit_ms: int = LIVE_MAX_MS
    """As long as the session may be, whatever the wallet has."""

    def __post_init__(self) -> None:
        flat = self.flat_minor > 0 and self.included_ms > 0
        if not (0 if flat else 1) <= self.minor_per_minute <= RATE_MAX:
            raise ValueError(f"a rate is from 1 to {RATE_MAX} minor units a minute (0: a flat price alone)")
        if not 0 <= self.provider_bps <= BPS:
            raise ValueError(f"a share is from 0 to {BPS} basis points")
        if not (1 <= self.step_ms <= STEP_MAX_MS and 0 <= self.free_ms <= LIVE_MAX_MS):
            raise ValueError(f"a step is from 1 to {STEP_MAX_MS} ms, free time from 0 to {LIVE_MAX_MS} ms")
        if flat != (self.flat_minor != 0 or self.included_ms != 0) or self.included_ms > INCLUDED_MAX_MS:
            raise ValueError(f"a flat price is from 1 and includes from 1 to {INCLUDED_MAX_MS} ms; else both are 0")
        if not (0 <= self.flat_minor <= PRICE_MAX and 0 <= self.minimum_minor <= PRICE_MAX):
            raise ValueError(f"a flat price and a minimum charge are at most {PRICE_MAX} minor units")

    @property
    def longest_ms(self) -> int:
        """As long as a session at these terms may be: without overtime, what is free and what is included."""
        rateless_ms = self.after_ms + self.free_ms + self.included_ms
        return self.limit_ms if self.minor_per_minute else min(self.limit_ms, rateless_ms)


class Split(NamedTuple):
    """An amount divided between provider and platform; the two make up the whole."""

    provider_minor: int
    platform_minor: int


def round_down(numerator: int, denominator: int) -> int:
    """The one rounding rule: towards zero, in the favour of who pays. (A numerator below 0 is time that a minimum
    charge has paid for: it costs 0, by the minimum itself.)"""
    return numerator // denominator


def cost(tariff: Tariff, live_ms: int) -> int:
    """What ``live_ms`` of live time costs in all, in minor units."""
    since_ms = live_ms - tariff.after_ms
    if since_ms <= tariff.free_ms:
        return tariff.after_minor
    steps = -(-max(0, since_ms - tariff.free_ms - tariff.included_ms) // tariff.step_ms)
    metered = round_down(tariff.after_rest + tariff.minor_per_minute * steps * tariff.step_ms, MINUTE_MS)
    return tariff.after_minor + max(tariff.minimum_minor, tariff.flat_minor + metered)


def affordable_ms(tariff: Tariff, amount_minor: int) -> int:
    """The longest live time that costs no more than ``amount_minor``: the exact inverse of ``cost``, up to
    ``longest_ms``. The amount is at least what the time before the present terms cost."""
    amount_minor -= tariff.after_minor
    free_ms = tariff.after_ms + tariff.free_ms
    if amount_minor < max(tariff.minimum_minor, tariff.flat_minor):
        return min(free_ms, tariff.longest_ms)
    if tariff.minor_per_minute == 0:
        return tariff.longest_ms
    paid = ((min(amount_minor, _PAID_MAX) - tariff.flat_minor + 1) * MINUTE_MS - 1 - tariff.after_rest) // (
        tariff.minor_per_minute * tariff.step_ms
    )
    return min(free_ms + tariff.included_ms + paid * tariff.step_ms, tariff.longest_ms)


def split(tariff: Tariff, gross_minor: int) -> Split:
    """The provider's share, rounded down; the platform's by subtraction, so that no unit is lost."""
    fresh = (gross_minor - tariff.after_minor) * tariff.provider_bps + tariff.after_share_rest
    provider_minor = tariff.after_provider_minor + round_down(fresh, BPS)
    return Split(provider_minor, gross_minor - provider_minor)
