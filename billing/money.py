"""What time costs. Integers only; the SQL functions ``cost_minor``, ``affordable_ms`` and ``share_minor`` are twins.

Every amount is computed from totals, never from differences, so that nothing drifts: a posting is the cost of all the
time so far less what is posted already.
"""

from __future__ import annotations

import dataclasses
from typing import Final, NamedTuple

MINUTE_MS: Final = 60_000
BPS: Final = 10_000
"""Basis points in a whole."""
RATE_MAX: Final = 10_000_000
"""Highest rate, in minor units a minute."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tariff:
    """A price per second of live time, quoted by the minute."""

    minor_per_minute: int
    provider_bps: int

    def __post_init__(self) -> None:
        if not 1 <= self.minor_per_minute <= RATE_MAX:
            raise ValueError(f"a rate is from 1 to {RATE_MAX} minor units a minute")
        if not 0 <= self.provider_bps <= BPS:
            raise ValueError(f"a share is from 0 to {BPS} basis points")


class Split(NamedTuple):
    """An amount divided between provider and platform; the two make up the whole."""

    provider_minor: int
    platform_minor: int


def round_down(numerator: int, denominator: int) -> int:
    """The one rounding rule: towards zero, in the favour of who pays. Both are ≥ 0."""
    return numerator // denominator


def cost(tariff: Tariff, live_ms: int) -> int:
    """What ``live_ms`` of live time costs in all, in minor units."""
    return round_down(tariff.minor_per_minute * live_ms, MINUTE_MS)


def affordable_ms(tariff: Tariff, amount_minor: int) -> int:
    """The longest live time that costs no more than ``amount_minor``: the exact inverse of ``cost``."""
    return ((amount_minor + 1) * MINUTE_MS - 1) // tariff.minor_per_minute


def split(tariff: Tariff, gross_minor: int) -> Split:
    """The provider's share, rounded down; the platform's by subtraction, so that no unit is lost."""
    provider_minor = round_down(gross_minor * tariff.provider_bps, BPS)
    return Split(provider_minor, gross_minor - provider_minor)
