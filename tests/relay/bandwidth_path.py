"""A seeded path with a sender that follows the estimate: what the estimator sees of a subscriber, without sockets."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.netlink import CLEAN, UDP_OVERHEAD, Conditions, Link
from relay.bandwidth import BandwidthEstimator
from relay.feedback_reader import FeedbackReader
from relay.rtcp_transport_cc import TICK_NS, TransportFeedback
from relay.send_history import SendHistory

MS = 1_000_000
FEEDBACK_MS = 80
BACK_MS = 20
VIDEO_BYTES = 1_100
AUDIO_BYTES = 150


class Policer(Link):
    """Drops what is above a rate, and never queues: a bucket of tokens."""

    def __init__(self, rate_bps: int, burst_bytes: int) -> None:
        super().__init__("1")
        self.rate_bps, self.burst_bytes = rate_bps, burst_bytes
        self._tokens, self._filled_ns = float(burst_bytes), 0

    def send(self, size: int, now_ns: int) -> tuple[int, ...]:
        grown = (now_ns - self._filled_ns) * self.rate_bps / 8e9
        self._tokens, self._filled_ns = min(self.burst_bytes, self._tokens + grown), now_ns
        if self._tokens < size + UDP_OVERHEAD:
            return ()
        self._tokens -= size + UDP_OVERHEAD
        return (now_ns + 20 * MS,)


@dataclass
class Path:
    """Audio, video at ``min(source, target)`` with a publisher's lag, and probes; feedback every 80 ms."""

    seed: str = "1"
    source_bps: int = 1_500_000
    conditions: Conditions = CLEAN
    start_number: int = 0
    follows: bool = True
    """Whether the sender heeds the estimate."""
    lag_ms: int = 300
    estimator: BandwidthEstimator = field(default_factory=BandwidthEstimator)
    now_ms: int = 0
    audio_sent: int = 0
    audio_lost: int = 0
    lost: list[tuple[int, bool]] = field(default_factory=list)
    """Of each packet: when it was sent, and whether it was lost."""

    def __post_init__(self) -> None:
        self.link = Link(self.seed, self.conditions)
        self.history = SendHistory()
        self.reader = FeedbackReader()
        for _ in range(self.start_number):
            self.history.note(100, 0)
        self.arrivals: dict[int, int] = {}
        self.under_way: list[tuple[int, int]] = []
        self.base = self.start_number
        self.next = self.start_number
        self.targets: list[tuple[int, int]] = []
        self.video_debt = 0.0
        self.probe: tuple[int, int, int, int] | None = None
        self.probe_bytes = 0
        self.trace: list[tuple[int, int, float, float]] = []

    def run(self, ms: int, each: Callable[[Path], None] | None = None) -> Path:
        """Let time pass."""
        for _ in range(ms):
            self.now_ms += 1
            self._send()
            if self.now_ms % FEEDBACK_MS == 0:
                self._feed_back()
            if self.now_ms % 100 == 0:
                delay = self.estimator.delay
                self.trace.append((self.now_ms, self.estimator.estimate_bps, delay.standing_ms, delay.swing_ms))
                if each is not None:
                    each(self)
        return self

    def set(self, conditions: Conditions) -> Path:
        self.link.conditions = conditions
        return self

    def loss(self, since_ms: int) -> float:
        """The share lost of what was sent since."""
        lost = [gone for at, gone in self.lost if at >= since_ms]
        return sum(lost) / len(lost)

    @property
    def video_bps(self) -> float:
        """What the publisher sends at this moment."""
        if not self.follows:
            return self.source_bps
        due = [target for at, target in self.targets if at <= self.now_ms - self.lag_ms]
        wanted = due[-1] if due else self.source_bps
        return min(self.source_bps, wanted)

    def _send(self) -> None:
        now_ns = self.now_ms * MS
        self.targets = self.targets[-2_000:]
        self.targets.append((self.now_ms, max(0, self.estimator.target_bps - 70_000)))
        if self.now_ms % 20 == 0:
            self.audio_sent += 1
            self.audio_lost += not self._packet(AUDIO_BYTES, self._cluster())
        if self.now_ms % 33 == 0:
            self.video_debt += self.video_bps * 0.033 / 8
        if self.now_ms % 2 == 0 and self.video_debt > VIDEO_BYTES:
            self.video_debt -= VIDEO_BYTES
            self._packet(VIDEO_BYTES, self._cluster())
        if self.probe is None:
            plan = self.estimator.plan_probe(self.source_bps * 1.1 + 70_000, now_ns)
            if plan is not None:
                self.probe = (plan.cluster, plan.rate_bps, plan.size_bytes, self.now_ms)
                self.probe_bytes = plan.size_bytes
        elif self.probe[2] <= 0:
            self.probe = None
        else:
            cluster, rate, left, began = self.probe
            sent = self.probe_bytes - left
            while left > 0 and sent * 8_000 / rate <= self.now_ms - began:
                self._packet(VIDEO_BYTES, cluster)
                left -= VIDEO_BYTES
                sent += VIDEO_BYTES
            self.probe = (cluster, rate, left, began)

    def _cluster(self) -> int:
        return 0 if self.probe is None else self.probe[0]

    def _packet(self, size: int, cluster: int) -> bool:
        number = self.next
        self.next += 1
        self.history.note(size, self.now_ms * MS, cluster)
        times = self.link.send(size, self.now_ms * MS)
        for at in times[:1]:
            heapq.heappush(self.under_way, (at, number))
        self.lost.append((self.now_ms, not times))
        return bool(times)

    def _feed_back(self) -> None:
        now_ns = self.now_ms * MS
        while self.under_way and self.under_way[0][0] <= now_ns - BACK_MS * MS:
            at, number = heapq.heappop(self.under_way)
            self.arrivals[number] = at
        if not self.arrivals:
            return
        base, last = min(self.base, min(self.arrivals)), max(self.arrivals)
        if last < base:
            return
        first = next(number for number in range(base, last + 1) if number in self.arrivals)
        reference = self.arrivals[first] // TICK_NS >> 8 << 8
        previous = reference
        deltas: list[int | None] = []
        for number in range(base, last + 1):
            arrival = self.arrivals.get(number)
            deltas.append(None if arrival is None else arrival // TICK_NS - previous)
            previous = previous if arrival is None else arrival // TICK_NS
        feedback = TransportFeedback(1, 2, base & 0xFFFF, 0, reference & 0xFFFF_FFFF, tuple(deltas))
        sent = [self.history.get((base + i) & 0xFFFF) for i in range(len(deltas))]
        self.base = last + 1
        self.arrivals.clear()
        self.estimator.feedback(self.reader.read(feedback, sent), now_ns)
