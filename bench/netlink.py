"""One direction of a bad network, as a function of time: which packets get through, and when.

No sockets and no clock here: ``Link.send`` is told the time and answers with the times at which the packet leaves
the other end. The same seed gives the nth packet the same luck, whatever the other settings are.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

MS = 1_000_000
"""Nanoseconds in a millisecond."""
UDP_OVERHEAD = 28
"""Bytes of IPv4 and UDP header, which a link of limited rate carries too."""
DRAWS = 4
"""Random numbers drawn for each packet, used or not, so that one setting doesn't change the luck of another."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """How one direction of a link behaves. The default is a perfect one."""

    loss: float = 0.0
    """Probability that a packet is lost, each on its own."""
    delay_ms: float = 0.0
    """Fixed one-way delay."""
    jitter_ms: float = 0.0
    """The delay wanders between 0 and this much more. Packets keep their order."""
    jitter_hold_ms: float = 100.0
    """How often the wandering delay takes a new random direction."""
    reorder: float = 0.0
    """Probability that a packet is held back, so that later ones overtake it."""
    reorder_ms: float = 40.0
    """How long such a packet is held back: between a quarter of this and all of it."""
    duplicate: float = 0.0
    """Probability that a packet arrives twice."""
    rate_bps: int | None = None
    """Bits per second, headers included; None: no limit."""
    buffer_ms: float = 500.0
    """Length of the queue before the limited rate. A packet that would wait longer is dropped (drop-tail)."""
    down: bool = False
    """Nothing gets through."""


CLEAN = Conditions()


@dataclass(slots=True)
class LinkStats:
    """What became of the packets so far."""

    packets: int = 0
    bytes: int = 0
    lost: int = 0
    """By chance or in an outage."""
    overflowed: int = 0
    """At the full queue before the limited rate."""
    reordered: int = 0
    duplicated: int = 0
    queue_ms_max: float = 0.0
    """The longest that a packet waited in the queue."""


@dataclass(slots=True)
class Link:
    """One direction. Times are nanoseconds of any clock that does not go back."""

    seed: str
    conditions: Conditions = CLEAN
    stats: LinkStats = field(default_factory=LinkStats)
    _random: random.Random = field(init=False, repr=False)
    _busy_until_ns: int = field(default=0, init=False)
    _newest_ns: int = field(default=0, init=False)
    _knots: dict[int, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def send(self, size: int, now_ns: int) -> tuple[int, ...]:
        """The times at which a packet of ``size`` bytes of payload arrives: none when it is lost, two when doubled."""
        now = self.conditions
        lost, held, held_for, doubled = (self._random.random() for _ in range(DRAWS))
        self.stats.packets += 1
        self.stats.bytes += size
        if now.down or lost < now.loss:
            self.stats.lost += 1
            return ()
        through_ns = self._through_queue(size, now_ns)
        if through_ns is None:
            self.stats.overflowed += 1
            return ()
        arrives_ns = through_ns + round((now.delay_ms + self._wander_ms(through_ns)) * MS)
        if held < now.reorder:
            self.stats.reordered += 1
            arrives_ns = max(arrives_ns, self._newest_ns) + round(now.reorder_ms * (0.25 + 0.75 * held_for) * MS)
        else:
            arrives_ns = self._newest_ns = max(arrives_ns, self._newest_ns)
        if doubled < now.duplicate:
            self.stats.duplicated += 1
            return arrives_ns, arrives_ns
        return (arrives_ns,)

    def _through_queue(self, size: int, now_ns: int) -> int | None:
        """When the last bit has passed the limited rate; None when the queue is full."""
        now = self.conditions
        if now.rate_bps is None:
            return now_ns
        start_ns = max(now_ns, self._busy_until_ns)
        waits_ms = (start_ns - now_ns) / MS
        if waits_ms > now.buffer_ms:
            return None
        self.stats.queue_ms_max = max(self.stats.queue_ms_max, waits_ms)
        bits = (size + UDP_OVERHEAD) * 8
        self._busy_until_ns = start_ns + -(-bits * 1_000_000_000 // now.rate_bps)
        return self._busy_until_ns

    def _wander_ms(self, at_ns: int) -> float:
        """The wandering part of the delay: straight lines between random values, one each ``jitter_hold_ms``."""
        now = self.conditions
        if not now.jitter_ms:
            return 0.0
        knot, into = divmod(at_ns / MS, now.jitter_hold_ms)
        share = into / now.jitter_hold_ms
        return now.jitter_ms * (self._knot(int(knot)) * (1 - share) + self._knot(int(knot) + 1) * share)

    def _knot(self, number: int) -> float:
        if number not in self._knots:
            if len(self._knots) > 2:
                self._knots.clear()
            self._knots[number] = random.Random(f"{self.seed}/{number}").random()
        return self._knots[number]
