"""``LiveClock``: how long media has flowed both ways, and whether it may flow now. Sans-IO; 02 "Meter" in code.

The clock starts with the first packet forwarded in both directions. From then on time counts while both sides show
signs of life (STUN consent, RTP, RTCP) and the provider sends media, or has declared a source muted. It counts *up to
the older of the newest signs*: a side that was silent for less than the window and comes back loses nothing, one that
stays away has cost nothing since its last sign. So the total never has to be taken back, and never falls.

Gate and clock are one: the gate is open while the clock runs, and before it has started (the first packets must be
able to flow, for ``PREROLL_MAX_NS`` one-sidedly); it is closed while the clock stands still, and from the instant at
which the granted time is used up. At that instant what is still unconfirmed (at most the window) is counted, as it
was forwarded.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, Literal

LIVENESS_WINDOW_NS: Final = 5_000_000_000
"""A side without a sign of life for longer is gone."""
PREROLL_MAX_NS: Final = 10_000_000_000
"""How long packets may flow in one direction only, before the clock has started."""
_MS: Final = 1_000_000

Side = Literal["client", "provider"]


class ClockState(enum.Enum):
    """``WAITING`` → ``RUNNING`` ⇄ ``PAUSED``, ``RUNNING`` → ``USED_UP`` ⇄ (a raised grant); all → ``CLOSED``."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    USED_UP = "used_up"
    CLOSED = "closed"


class ClockEvent(enum.Enum):
    """What changed; the room tells control."""

    STARTED = "started"
    INTERRUPTED = "interrupted"
    RESUMED = "resumed"
    USED_UP = "used_up"


@dataclass(frozen=True, slots=True)
class Signs:
    """What the plane knows of one side. Monotonic nanoseconds; 0: never."""

    alive_ns: int = 0
    """Newest sign of life of any kind."""
    media_ns: int = 0
    """Newest RTP packet from this side."""
    forwarded: int = 0
    """Packets from this side forwarded to the other, in total."""


class LiveClock:
    """See the module's docstring. ``observe`` several times a second, ``handle_timer`` at ``next_timer_ns``."""

    def __init__(self, granted_live_ms: int) -> None:
        self.state = ClockState.WAITING
        self.granted_live_ms = granted_live_ms
        self.silent: Side | None = None
        """The side whose silence stopped the clock, while ``PAUSED``."""
        self._live_ns = 0
        self._counted_to_ns = 0
        """Up to where time has been counted, while ``RUNNING``."""
        self._client = Signs()
        self._provider = Signs()
        self._provider_muted = False
        self._unmuted_ns = 0
        self._preroll_from_ns = 0
        self._preroll_over = False

    @property
    def live_ms(self) -> int:
        """Confirmed live time in total, whole milliseconds. Never falls."""
        return self._live_ns // _MS

    @property
    def running(self) -> bool:
        """Whether time counts at this moment."""
        return self.state is ClockState.RUNNING

    @property
    def gate_open(self) -> bool:
        """Whether media may be forwarded."""
        if self.state is ClockState.WAITING:
            return self.granted_live_ms > 0 and not self._preroll_over
        return self.state is ClockState.RUNNING

    def set_grant(self, granted_live_ms: int, now_ns: int) -> list[ClockEvent]:
        """Raise the grant; a lower one than before changes nothing. Reopens the gate where it was used up."""
        self.granted_live_ms = max(self.granted_live_ms, granted_live_ms)
        if self.state is ClockState.USED_UP and self.granted_live_ms * _MS > self._live_ns:
            return self._try_to_run(now_ns)
        return []

    def declare_provider_muted(self, muted: bool, now_ns: int) -> None:
        """The provider says that a source of theirs is off: no media is expected of them until they say otherwise."""
        if self._provider_muted and not muted:
            self._unmuted_ns = now_ns  # give media the window to come back
        self._provider_muted = muted

    def observe(self, client: Signs, provider: Signs, now_ns: int) -> list[ClockEvent]:
        """Take in what the plane knows now. Signs only ever grow; smaller values than before change nothing."""
        before = self._horizon_ns()
        self._client = _newest(self._client, client)
        self._provider = _newest(self._provider, provider)
        horizon = self._horizon_ns()
        events: list[ClockEvent] = []
        if self.state is ClockState.RUNNING:
            # A silence that is over already, but was too long, is no live time: judge by what was known before it.
            events += self._expire(before if horizon - before > LIVENESS_WINDOW_NS else horizon, now_ns)
        match self.state:
            case ClockState.WAITING:
                events += self._try_to_start(now_ns)
            case ClockState.RUNNING:
                events += self._count(horizon, now_ns)
            case ClockState.PAUSED:
                events += self._try_to_run(now_ns)
            case ClockState.USED_UP | ClockState.CLOSED:
                pass
        return events

    def handle_timer(self, now_ns: int) -> list[ClockEvent]:
        """Stop where the grant is used up or a side has been silent for too long."""
        if self.state is not ClockState.RUNNING:
            return []
        return self._expire(self._horizon_ns(), now_ns)

    def next_timer_ns(self) -> int | None:
        """The instant at which the grant will be used up, or silence too long; None while nothing counts."""
        if self.state is not ClockState.RUNNING:
            return None
        return min(self._used_up_at_ns(), self._horizon_ns() + LIVENESS_WINDOW_NS + 1)

    def close(self, now_ns: int) -> None:
        """Count what is confirmed, and stop for good. Idempotent."""
        if self.state is ClockState.RUNNING:
            self._expire(self._horizon_ns(), now_ns)
        if self.state is ClockState.RUNNING:
            self._count(self._horizon_ns(), now_ns)
        self.state = ClockState.CLOSED

    def _horizon_ns(self) -> int:
        """The instant up to which every condition is known to have held."""
        media = max(self._provider.media_ns, self._unmuted_ns)
        if self._provider_muted:
            media = self._provider.alive_ns
        return min(self._client.alive_ns, self._provider.alive_ns, media)

    def _used_up_at_ns(self) -> int:
        return self._counted_to_ns + self.granted_live_ms * _MS - self._live_ns

    def _count(self, horizon_ns: int, now_ns: int) -> list[ClockEvent]:
        """Count up to the horizon, but not beyond the grant."""
        upto = min(horizon_ns, now_ns, self._used_up_at_ns())
        if upto > self._counted_to_ns:
            self._live_ns += upto - self._counted_to_ns
            self._counted_to_ns = upto
        if self._live_ns >= self.granted_live_ms * _MS:
            self.state = ClockState.USED_UP
            return [ClockEvent.USED_UP]
        return []

    def _expire(self, horizon_ns: int, now_ns: int) -> list[ClockEvent]:
        """Apply what has become true by the passing of time alone, the earlier of the two first."""
        silent_at = horizon_ns + LIVENESS_WINDOW_NS
        used_up_at = self._used_up_at_ns()
        if used_up_at <= min(now_ns, silent_at):
            self._live_ns = self.granted_live_ms * _MS
            self._counted_to_ns = used_up_at
            self.state = ClockState.USED_UP
            return [ClockEvent.USED_UP]
        if silent_at < now_ns:
            self._count(horizon_ns, now_ns)
            self._stand_still()
            return [ClockEvent.INTERRUPTED]
        return []

    def _stand_still(self) -> None:
        self.silent = "client" if self._client.alive_ns <= self._provider.alive_ns else "provider"
        if self._horizon_ns() < min(self._client.alive_ns, self._provider.alive_ns):
            self.silent = "provider"  # there, but sending nothing
        self.state = ClockState.PAUSED

    def _try_to_start(self, now_ns: int) -> list[ClockEvent]:
        if self._client.forwarded and self._provider.forwarded and self.granted_live_ms > 0:
            self.state = ClockState.RUNNING
            self._counted_to_ns = now_ns
            self._unmuted_ns = now_ns
            return [ClockEvent.STARTED]
        if not self._preroll_from_ns and (self._client.forwarded or self._provider.forwarded):
            self._preroll_from_ns = now_ns
        both_send = now_ns - min(self._client.media_ns, self._provider.media_ns) <= LIVENESS_WINDOW_NS
        overdue = self._preroll_from_ns and now_ns - self._preroll_from_ns > PREROLL_MAX_NS
        self._preroll_over = bool(overdue) and not both_send
        return []

    def _try_to_run(self, now_ns: int) -> list[ClockEvent]:
        if now_ns - self._horizon_ns() > LIVENESS_WINDOW_NS:
            if self.state is ClockState.PAUSED:
                return []
            self._stand_still()
            return [ClockEvent.INTERRUPTED]
        if self._live_ns >= self.granted_live_ms * _MS:
            self.state = ClockState.USED_UP
            return [ClockEvent.USED_UP]
        was = self.state
        self.state = ClockState.RUNNING
        self.silent = None
        self._counted_to_ns = now_ns
        return [ClockEvent.RESUMED] if was is ClockState.PAUSED else []


def _newest(before: Signs, now: Signs) -> Signs:
    return Signs(
        max(before.alive_ns, now.alive_ns), max(before.media_ns, now.media_ns), max(before.forwarded, now.forwarded)
    )
