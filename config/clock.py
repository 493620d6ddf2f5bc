"""The two clocks. Cores never read them: shells read a ``Clock`` and pass the value in."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic time for durations, wall time for what people read."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back; comparable within one process only."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch; may jump, so never subtracted to bill anything."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000


class VirtualClock:
    """A clock that moves only when told to; both faces move together."""

    def __init__(self, monotonic_ns: int = 1_000_000_000, wall_ms: int = 1_800_000_000_000) -> None:
        self._monotonic_ns = monotonic_ns
        self._wall_ms = wall_ms

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def wall_ms(self) -> int:
        return self._wall_ms

    def advance_ms(self, ms: int) -> None:
        """Let ``ms`` milliseconds pass on both faces."""
        self._monotonic_ns += ms * 1_000_000
        self._wall_ms += ms

    def step_wall_ms(self, ms: int) -> None:
        """Set the wall clock forward or back, as an administrator or NTP might."""
        self._wall_ms += ms
