"""``LiveClock``: how long media has flowed both ways, and whether it may flow now. Sans-IO; the meter's rules in code.

The clock starts with the first packet forwarded in both directions. From then on time counts while both sides show
signs of life (STUN consent, RTP, RTCP) and the provider sends media, or has declared their sources off. It counts *up
to the older of the newest signs*: a side that was silent for less than the window and comes back loses nothing. So the
total never has to be taken back, and never falls.

**What is not billed is not forwarded.** The gate is open while the clock runs, and closed while it stands still. It
cannot close at a side's last sign, only a window later, so each silence leaves a *stretch* in which media was forwarded
but not counted. Whose silence it was decides what becomes of it:

- The client's: it is counted as soon as the client comes back, from their first silence on; who stays away has paid
  nothing since their last sign. A silence thus costs what was forwarded in it, at most one window, whether it lasts a
  little less than the window or any time longer; were the longer one free, showing a packet every window and a bit
  would be a free call. All the open time that a session never pays for is the one stretch that it ends with.
- The provider's: it is never counted. Where both were silent, it is counted up to the provider's last sign.

Where the granted time would be used up, the gate closes at that instant (``HELD``), and the same rule decides on the
stretch: signs that follow count it, and the grant is used up to the millisecond; silence does not.

**Before the clock has started** the gate is open too, or no first packet could flow. How long packets may flow in one
direction only is bounded per room: ``PREROLL_MAX_NS``, and ``JOINING_MAX_NS`` more while both sides send.
"""

from __future__ import annotations

import enum
from typing import Final, Literal, NamedTuple

LIVENESS_WINDOW_NS: Final = 5_000_000_000
"""A side without a sign of life for longer is gone."""
PREROLL_MAX_NS: Final = 10_000_000_000
"""How long packets may flow in one direction only, in total, before the clock has started."""
JOINING_MAX_NS: Final = 5_000_000_000
"""How much longer, in total, while packets come from both sides, though those of one cannot be forwarded (yet)."""
_MS: Final = 1_000_000

Side = Literal["client", "provider"]


class ClockState(enum.Enum):
    """``WAITING`` → ``RUNNING`` ⇄ ``PAUSED``; ``RUNNING`` → ``HELD`` → ``USED_UP`` or ``PAUSED``; ``HELD`` and
    ``USED_UP`` → ``RUNNING``, where the grant was raised; all → ``CLOSED``."""

    WAITING = "waiting"
    RUNNING = "running"
    HELD = "held"
    """Where the grant ends, should the sides turn out to have been there: their newest signs are a little older."""
    PAUSED = "paused"
    USED_UP = "used_up"
    CLOSED = "closed"


class ClockEvent(enum.Enum):
    """What changed; the room tells control."""

    STARTED = "started"
    INTERRUPTED = "interrupted"
    RESUMED = "resumed"
    USED_UP = "used_up"


class Signs(NamedTuple):
    """What the plane knows of one side. Monotonic nanoseconds; 0: never."""

    alive_ns: int = 0
    """Newest sign of life of any kind."""
    media_ns: int = 0
    """Newest RTP packet from this side."""
    forwarded: int = 0
    """Packets from this side forwarded to the other, in total."""


class LiveClock:
    """See the module's docstring. ``observe`` several times a second, ``handle_timer`` at ``next_timer_ns``."""

    def __init__(self, granted_live_ms: int, *, by_presence: bool = False) -> None:
        self.state = ClockState.WAITING
        self.by_presence = by_presence
        """What is paid for is that both are there (a chat): no media is needed for the clock to start."""
        self.granted_live_ms = granted_live_ms
        self.silent: Side | None = None
        """The side whose silence stopped the clock, while ``PAUSED``."""
        self._live_ns = 0
        self._counted_to_ns = 0
        """Up to where time has been counted."""
        self._closed_at_ns = 0
        """Where the gate closed, while ``HELD`` or ``PAUSED``: what is not counted before it is the open stretch."""
        self._client = Signs()
        self._provider = Signs()
        self._provider_muted = False
        self._unmuted_ns = 0
        self._provider_there_ns = 0
        """Up to where the provider is known to have been there, without a silence longer than the window."""
        self._preroll_ns = 0
        """How long the gate was open while packets flowed one way only."""
        self._preroll_seen_ns = 0
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
        """The provider says that all their sources are off: no media is expected of them until they say otherwise."""
        if self._provider_muted and not muted:
            self._unmuted_ns = now_ns  # give media the window to come back
        self._provider_muted = muted
        self._believe_provider()

    def observe(self, client: Signs, provider: Signs, now_ns: int) -> list[ClockEvent]:
        """Take in what the plane knows now. Signs only ever grow; smaller values than before change nothing."""
        before_ns, was_silent = self._horizon_ns(), self._older_side()
        self._client = _newest(self._client, client)
        self._provider = _newest(self._provider, provider)
        events: list[ClockEvent] = []
        if self.state in _OPEN_STRETCH and self._heard_ns() - before_ns > LIVENESS_WINDOW_NS:
            # A silence that is over already was too long: judge by what was known before it.
            events += self._expire(before_ns, was_silent, now_ns)
        self._believe_provider()
        match self.state:
            case ClockState.WAITING:
                events += self._try_to_start(now_ns)
            case ClockState.RUNNING:
                self._count(now_ns)
                events += self._end_if_used_up()
            case ClockState.HELD:
                events += self._settle(now_ns)
            case ClockState.PAUSED:
                events += self._try_to_run(now_ns)
            case ClockState.USED_UP | ClockState.CLOSED:
                pass
        return events + self.handle_timer(now_ns)

    def handle_timer(self, now_ns: int) -> list[ClockEvent]:
        """Stop where the grant is used up or a side has been silent for too long."""
        return self._expire(self._horizon_ns(), self._older_side(), now_ns)

    def next_timer_ns(self) -> int | None:
        """The instant at which the grant will be used up, or silence too long; None while nothing counts."""
        if self.state not in _OPEN_STRETCH:
            return None
        silent_at_ns = self._horizon_ns() + LIVENESS_WINDOW_NS + 1
        return silent_at_ns if self.state is ClockState.HELD else min(self._used_up_at_ns(), silent_at_ns)

    def close(self, now_ns: int) -> None:
        """Count what is confirmed, and stop for good. Idempotent."""
        self.handle_timer(now_ns)
        if self.state in _OPEN_STRETCH:
            self._count(now_ns)
        self.state = ClockState.CLOSED

    def _horizon_ns(self) -> int:
        """The instant up to which every condition is known to have held."""
        return min(self._client.alive_ns, self._provider_there_ns)

    def _older_side(self) -> Side:
        """The side whose silence is the longer one."""
        return "client" if self._client.alive_ns <= self._provider_there_ns else "provider"

    def _provider_heard_ns(self) -> int:
        """The provider's newest sign that does what is asked of them: media, unless they declared it off."""
        if self._provider_muted:
            return self._provider.alive_ns
        return min(self._provider.alive_ns, max(self._provider.media_ns, self._unmuted_ns))

    def _heard_ns(self) -> int:
        """The older of the newest signs."""
        return min(self._client.alive_ns, self._provider_heard_ns())

    def _believe_provider(self) -> None:
        """The provider was there up to their newest sign, unless too long a silence lies before it."""
        heard_ns = self._provider_heard_ns()
        if heard_ns - self._provider_there_ns <= LIVENESS_WINDOW_NS:
            self._provider_there_ns = max(self._provider_there_ns, heard_ns)

    def _used_up_at_ns(self) -> int:
        return self._counted_to_ns + self.granted_live_ms * _MS - self._live_ns

    def _count(self, now_ns: int) -> None:
        """Count up to the horizon, but not beyond the grant, nor what came after the gate closed."""
        upto = min(self._horizon_ns(), now_ns, self._used_up_at_ns())
        if self.state is not ClockState.RUNNING:
            upto = min(upto, self._closed_at_ns)
        if upto > self._counted_to_ns:
            self._live_ns += upto - self._counted_to_ns
            self._counted_to_ns = upto

    def _end_if_used_up(self) -> list[ClockEvent]:
        if self._live_ns < self.granted_live_ms * _MS:
            return []
        self.state = ClockState.USED_UP
        self.silent = None
        return [ClockEvent.USED_UP]

    def _expire(self, horizon_ns: int, silent: Side, now_ns: int) -> list[ClockEvent]:
        """Apply what has become true by the passing of time alone, the earlier of the two first."""
        silent_at_ns = horizon_ns + LIVENESS_WINDOW_NS
        used_up_at_ns = self._used_up_at_ns()
        if self.state is ClockState.RUNNING and used_up_at_ns <= min(now_ns, silent_at_ns):
            self.state = ClockState.HELD
            self._closed_at_ns = used_up_at_ns
            if horizon_ns >= used_up_at_ns:
                return self._settle(now_ns)
        if self.state in _OPEN_STRETCH and silent_at_ns < now_ns:
            if self.state is ClockState.RUNNING:
                self._closed_at_ns = silent_at_ns
            self.state = ClockState.PAUSED
            self.silent = silent
            return [ClockEvent.INTERRUPTED]
        return []

    def _settle(self, now_ns: int) -> list[ClockEvent]:
        """``HELD``: count what the newest signs confirm. Once that is all: the grant is used up, or was raised."""
        self._count(now_ns)
        if self._counted_to_ns < self._closed_at_ns:
            return []
        return self._end_if_used_up() or self._try_to_run(now_ns)

    def _try_to_start(self, now_ns: int) -> list[ClockEvent]:
        both_there = now_ns - min(self._client.alive_ns, self._provider.alive_ns) <= LIVENESS_WINDOW_NS
        begun = both_there if self.by_presence else self._client.forwarded and self._provider.forwarded
        if begun and self.granted_live_ms > 0:
            self.state = ClockState.RUNNING
            self._counted_to_ns = self._unmuted_ns = self._provider_there_ns = now_ns
            return [ClockEvent.STARTED]
        if self._client.forwarded or self._provider.forwarded:
            if self.gate_open and self._preroll_seen_ns:
                self._preroll_ns += max(0, now_ns - self._preroll_seen_ns)
            self._preroll_seen_ns = now_ns
        both_send = now_ns - min(self._client.media_ns, self._provider.media_ns) <= LIVENESS_WINDOW_NS
        self._preroll_over = self._preroll_ns >= PREROLL_MAX_NS + (JOINING_MAX_NS if both_send else 0)
        return []

    def _try_to_run(self, now_ns: int) -> list[ClockEvent]:
        """The clock stands still: count the stretch that a silent client left, and go on, if both sides are there."""
        was = self.state
        if now_ns - self._heard_ns() > LIVENESS_WINDOW_NS:
            if was is ClockState.PAUSED:
                return []
            self.silent = "client" if self._client.alive_ns <= self._provider_heard_ns() else "provider"
            self.state = ClockState.PAUSED
            self._closed_at_ns = self._counted_to_ns
            return [ClockEvent.INTERRUPTED]
        if was is ClockState.PAUSED:
            self._count(now_ns)
        if used_up := self._end_if_used_up():
            return used_up
        self.state = ClockState.RUNNING
        self.silent = None
        self._counted_to_ns = now_ns
        self._provider_there_ns = self._provider_heard_ns()
        return [ClockEvent.RESUMED] if was is ClockState.PAUSED else []


_OPEN_STRETCH: Final = frozenset({ClockState.RUNNING, ClockState.HELD})
"""Where time that was forwarded may still be counted as newer signs come."""


def _newest(before: Signs, now: Signs) -> Signs:
    return Signs(
        max(before.alive_ns, now.alive_ns), max(before.media_ns, now.media_ns), max(before.forwarded, now.forwarded)
    )
