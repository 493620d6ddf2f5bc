"""Connection quality in five steps, from what reports say: falls at once, rises slowly.

A simplified E-model (ITU-T G.107): delay and loss each take away from a rating of 100; loss weighs most, as speech with
5 % of it is hard to follow. People see the score, so that it must not flicker: a worse rating counts at once, a better
one moves it up a fifth of the way each second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_RISE: Final = 0.2
_STEPS: Final = ((85.0, 5), (70.0, 4), (55.0, 3), (35.0, 2))
_LOSS_WEIGHT: Final = 6.0
"""Rating points per percent lost."""
_DELAY_FREE_MS: Final = 150.0
_DELAY_WEIGHT: Final = 0.12
_JITTER_BUFFER: Final = 2.0
"""A receiver buffers about twice the jitter it sees, which adds to the delay."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One second of one side's connection."""

    rtt_ms: float | None = None
    loss_up: float = 0.0
    loss_down: float = 0.0
    jitter_ms: float = 0.0


def rating(measured: Measured) -> float:
    """0 (nothing gets through) to 100 (nothing to wish for)."""
    loss_percent = 100.0 * max(measured.loss_up, measured.loss_down)
    delay_ms = (measured.rtt_ms or 0.0) / 2 + _JITTER_BUFFER * measured.jitter_ms
    lost = _LOSS_WEIGHT * loss_percent + _DELAY_WEIGHT * max(0.0, delay_ms - _DELAY_FREE_MS)
    return max(0.0, 100.0 - lost)


class QualityScore:
    """The score of one side; ``update`` once a second."""

    def __init__(self) -> None:
        self._rating = 100.0

    def update(self, measured: Measured | None) -> int:
        """Take in a second's measure (None: the side is gone) and return the score, 1 to 5."""
        now = rating(measured) if measured is not None else 0.0
        self._rating = now if now < self._rating else self._rating + _RISE * (now - self._rating)
        return next((score for floor, score in _STEPS if self._rating >= floor), 1)
