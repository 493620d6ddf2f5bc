"""A session's parts at different terms, told from what is stored: what each was charged.

Amounts are differences of the session's cost at the parts' ends, so that they make up the charge. That cost is counted
otherwise than the meter does it: by what all time used so far was worth at the rate of its own terms, and what of the
newest step is paid ahead (``turnpike reconcile`` does the same in SQL).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from billing.money import MINUTE_MS, round_down
from billing.terms import Rate, Stretch


class StoredTerms(NamedTuple):
    """One part's terms as stored, and how long it was."""

    rate: Rate
    step_ms: int
    flat_minor: int
    included_ms: int
    minimum_minor: int
    """Of its tariff: that of the first part counts."""
    from_ms: int
    live_ms: int
    free_ms: int
    """Time that cost nothing in it: free first time, what a step before had paid for, then package time."""
    paid_ms: int
    prepaid_ms: int
    carried: bool
    """Whether it continues the part before to the unit."""


def stretches(parts: Iterable[StoredTerms]) -> tuple[Stretch, ...]:
    """What each part of a session came to, in their order."""
    made: list[Stretch] = []
    worth = before_minor = posted_minor = minimum_minor = 0
    for part in parts:
        if not part.carried or not made:
            worth, before_minor = 0, posted_minor
            minimum_minor = 0 if made else part.minimum_minor
        over_ms = max(0, part.live_ms - part.free_ms - part.included_ms)
        cost_minor = posted_minor
        if part.live_ms > part.free_ms:
            paid_ms = part.paid_ms + -(-over_ms // part.step_ms) * part.step_ms
            metered = round_down(worth + part.rate.minor_per_minute * paid_ms, MINUTE_MS)
            cost_minor = before_minor + max(minimum_minor, part.flat_minor + metered)
        first_ms = part.free_ms - part.paid_ms - part.prepaid_ms
        worth += part.rate.minor_per_minute * (min(part.paid_ms, max(0, part.live_ms - first_ms)) + over_ms)
        prepaid_ms = min(part.prepaid_ms, max(0, part.live_ms - first_ms - part.paid_ms))
        made.append(Stretch(part.rate, part.from_ms, part.live_ms, prepaid_ms, cost_minor - posted_minor))
        posted_minor = cost_minor
    return tuple(made)
