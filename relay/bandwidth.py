"""How much one subscriber's path takes: the send-side estimate, from transport-cc feedback.

``feedback_reader`` joins a page's feedback with what was sent; ``BandwidthEstimator`` turns it into one number: a
delay-based estimate (``bandwidth_delay``, ``bandwidth_collapse``; falls to 0.85 of what arrives, rises by 8 % a second
while it is used, after draft-ietf-rmcat-gcc-02 §5.5), a loss-based bound (``bandwidth_loss``) and probes
(``bandwidth_probe``) that lift both. Without transport-cc, a REMB is taken for the estimate.

Sans-IO, one per subscriber transport. Rates are bits per second on the wire, IP and UDP headers included.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from relay.bandwidth_calm import calm, is_calm
from relay.bandwidth_collapse import CollapseDetector
from relay.bandwidth_delay import LONG_STANDING_MS, DelayDetector, Usage
from relay.bandwidth_loss import LossBound
from relay.bandwidth_loss_probe import BYTES_MIN, GROWTH, LossProbe
from relay.bandwidth_probe import ProbePlan, Prober
from relay.feedback_reader import Told
from relay.plane import SentPacket, SentRun

START_BPS: Final = 3_000_000
"""Assumed until something is known: a path is innocent until its queue grows."""
BPS_MIN: Final = 30_000
BPS_MAX: Final = 30_000_000
BETA: Final = 0.85
RISE_PER_SECOND: Final = 0.08
USED: Final = 1.5
"""The estimate rises by itself to this many times what arrives; beyond, only probes lift it."""
HOLD_NS: Final = 300_000_000
"""Between two falls: the round trip and this."""
RATE_WINDOW_NS: Final = 500_000_000
NEWEST_NS: Final = 150_000_000
RATE_SPAN_MIN_NS: Final = 200_000_000
SAMPLES_MAX: Final = 4_096
BURST_LOSS: Final = 0.4
"""Of one feedback's packets; with a queue above ``BURST_QUEUE_MS`` it has overflowed, and nobody need wait and see."""
BURST_PACKETS_MIN: Final = 10
BURST_QUEUE_MS: Final = 40.0
COLLAPSED: Final = 0.5
"""What packets that come one by one say of the path is believed at once when it is less than this of the estimate."""
OUTAGE_NS: Final = 300_000_000
"""Packets lost in a row over more than this time met an outage, not a queue."""
REORDERED_MAX_NS: Final = 15_000_000
"""What is overtaken by longer than this was sent again."""
DRAINS_MS: Final = 30.0
"""Where less stands, the queue is empty now and then: it is not what loses packets."""
DRAIN_S: Final = 1.0
"""A standing queue is to be gone within this time."""
DRAIN_SHARE_MIN: Final = 0.4
RECEIVER_ESTIMATE_NS: Final = 10_000_000_000
"""How long a REMB holds without being repeated."""
_SECOND_NS: Final = 1_000_000_000


class _Rate:
    """Bits per second over the last ``RATE_WINDOW_NS``."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque()
        self._bytes = 0

    def add(self, at_ns: int, size_bytes: int) -> None:
        self._samples.append((at_ns, size_bytes))
        self._bytes += size_bytes
        while at_ns - self._samples[0][0] > RATE_WINDOW_NS or len(self._samples) > SAMPLES_MAX:
            self._bytes -= self._samples.popleft()[1]

    @property
    def bps(self) -> float | None:
        """None: too little is known."""
        if len(self._samples) < 2:
            return None
        span_ns = self._samples[-1][0] - self._samples[0][0]
        if span_ns < RATE_SPAN_MIN_NS:
            return None
        return (self._bytes - self._samples[0][1]) * 8 * _SECOND_NS / span_ns

    @property
    def newest_bps(self) -> float | None:
        """Of the last ``NEWEST_NS`` only; None: too little is known."""
        samples = self._samples
        if len(samples) < 2:
            return None
        since_ns = samples[-1][0] - NEWEST_NS
        total, first_ns = 0, samples[-1][0]
        for at_ns, size_bytes in reversed(samples):
            if at_ns < since_ns:
                break
            total, first_ns, first_bytes = total + size_bytes, at_ns, size_bytes
        span_ns = samples[-1][0] - first_ns
        return (total - first_bytes) * 8 * _SECOND_NS / span_ns if span_ns > NEWEST_NS // 4 else None


class BandwidthEstimator:
    """See the module's docstring."""

    def __init__(self, log: Callable[..., None] | None = None) -> None:
        self.delay = DelayDetector()
        self._collapse = CollapseDetector()
        self.loss = LossBound()
        self.prober = Prober()
        self._loss_probe = LossProbe()
        self._tested_cluster = -1
        """The newest that was sent to lose: what became of it counts for the test alone."""
        self.limited = False
        """Whether the path has ever shown a limit: before, the estimate is only the assumption."""
        self.feedbacks = 0
        self._estimate = float(START_BPS)
        self._arriving = _Rate()
        self._sending = _Rate()
        self._fell_ns = 0
        self._updated_ns = 0
        self._round_trip_ns = 100_000_000
        self._receiver: tuple[float, int] | None = None
        self._lost_run: list[Told] = []
        self._cluster_seen_ns = 0
        self._log = log

    @property
    def estimate_bps(self) -> int:
        """What the path takes."""
        estimate = self._estimate if self._receiver is None else self._receiver[0]
        if self.loss.bound_bps is not None:
            estimate = min(estimate, self.loss.bound_bps)
        return int(min(max(estimate, BPS_MIN), BPS_MAX))

    @property
    def target_bps(self) -> int:
        """What to send: the estimate, less while a queue stands, so that it drains."""
        estimate = self.estimate_bps
        surplus_ms = self.delay.standing_ms - self.delay.allowed_ms
        if not self.limited or surplus_ms <= 0:
            return estimate
        share = 1.0 - min(surplus_ms / 1000 / DRAIN_S, 1.0)
        return max(BPS_MIN, int(estimate * max(share, DRAIN_SHARE_MIN)))

    @property
    def arriving_bps(self) -> float | None:
        """What arrived in the last half second; None: too little is known."""
        return self._arriving.bps

    def set_round_trip(self, round_trip_ns: int) -> None:
        """As measured from reports."""
        self._round_trip_ns = round_trip_ns

    def receiver_estimate(self, bitrate_bps: int, now_ns: int) -> None:
        """A REMB: taken for clients without transport-cc."""
        if not self.feedbacks:
            self._receiver = (float(bitrate_bps), now_ns)
            self.limited = True

    def report(self, fraction_lost: float, packets: int, sent_bps: float, now_ns: int) -> None:
        """A receiver report, for clients without transport-cc."""
        if not self.feedbacks:
            lost = round(fraction_lost * packets)
            self._update_loss(packets, lost, now_ns, sent_bps)

    def feedback(self, told: Sequence[Told], now_ns: int) -> None:
        """What one feedback told."""
        self.feedbacks += 1
        self._receiver = None
        if self._at_ease:
            run = calm(told, self.delay.base_ns)
            if run is not None:
                self._take_calm(run, told, now_ns)
                return
        expected = lost = 0
        for packet, again in zip(told, _sent_again(told), strict=True):
            if packet.arrival_ns is None:
                if packet.sent.cluster != self._tested_cluster:
                    self._lost_run.append(packet)
                continue
            if again:  # it was lost at first, and says nothing of the path's delay
                if not packet.late:
                    self._lost_run.append(packet)
                self._arriving.add(packet.arrival_ns, packet.sent.size_bytes)
                continue
            run_lost = self._end_lost_run(packet)
            expected += run_lost + (packet.sent.cluster != self._tested_cluster)
            lost += run_lost
            self._arrived(packet.sent, packet.arrival_ns)
        overflowed = (
            expected >= BURST_PACKETS_MIN
            and lost > BURST_LOSS * expected
            and self.delay.queue_ms > self.delay.allowed_ms + BURST_QUEUE_MS
        )
        if not self._collapsed(now_ns):
            self._aimd(now_ns, overflowed)
        if expected or lost:
            self._update_loss(expected, lost, now_ns, self._sending.bps or 0.0)
        self._finish_probe(told, now_ns)

    @property
    def _at_ease(self) -> bool:
        """Whether a feedback may turn out to need no look at each packet."""
        return not (self.limited or self.loss.asks or self._lost_run) and self.delay.usage is Usage.NORMAL

    def take_run(self, run: SentRun, now_ns: int) -> bool:
        """One feedback, added up already; False: it has to be read packet by packet, and nothing has happened yet."""
        if not self._at_ease or self.prober.open_cluster:
            return False
        if not is_calm(run, self.delay.base_ns):
            return False
        self.feedbacks += 1
        self._receiver = None
        self._take_calm(run, (), now_ns)
        return True

    def _take_calm(self, run: SentRun, told: Sequence[Told], now_ns: int) -> None:
        """Packets that came at once: the rates at which they were sent and came, and no more."""
        self.delay.add_calm(run)
        self._collapse.clear()
        self._arriving.add(run.last_arrival_ns, run.size_bytes)
        self._sending.add(run.last_sent_ns, run.size_bytes)
        self._aimd(now_ns, overflowed=False)
        if not self.loss.none_lost(run.packets, now_ns):
            self._update_loss(run.packets, 0, now_ns, self._sending.bps or 0.0)
        self._finish_probe(told, now_ns)

    def handle_timer(self, now_ns: int) -> None:
        """Now and then: a REMB that is not repeated holds no longer."""
        if self._receiver is not None and now_ns - self._receiver[1] > RECEIVER_ESTIMATE_NS:
            self._receiver = None

    def cancel_probe(self, now_ns: int) -> None:
        """What was planned is not sent, or not to its end: it proves nothing, and nothing is held against the path."""
        self.prober.cancel(now_ns)

    def plan_probe(self, wanted_bps: float, now_ns: int) -> ProbePlan | None:
        """A cluster to send now, if ``wanted_bps`` is more than the estimate and it is time."""
        if not self.feedbacks or self.delay.usage is not Usage.NORMAL or self.delay.standing_ms > self.delay.allowed_ms:
            return None
        if self.loss.asks:
            sent_bps, share = self.loss.asked
            rate_bps = int(min(GROWTH * sent_bps, BPS_MAX))
            plan = self.prober.plan_test(rate_bps, BYTES_MIN, now_ns) if rate_bps > BPS_MIN else None
            if plan is not None:
                self._loss_probe.begin(plan.cluster, sent_bps, share)
                self._tested_cluster = plan.cluster
            return plan
        if self.loss.held(now_ns):
            return None
        return self.prober.plan(wanted_bps, self.estimate_bps, now_ns)

    def _arrived(self, sent: SentPacket, arrival_ns: int) -> None:
        self.delay.add(sent.sent_ns, arrival_ns)
        self._collapse.add(sent.sent_ns, arrival_ns, sent.size_bytes)
        self._arriving.add(arrival_ns, sent.size_bytes)
        if sent.cluster != self._tested_cluster:
            self._sending.add(sent.sent_ns, sent.size_bytes)
        if sent.cluster:
            self.prober.add(sent.cluster, sent.size_bytes, sent.sent_ns, arrival_ns)

    def _end_lost_run(self, arrived: Told) -> int:
        """Packets lost just before one that arrived, unless an outage took them."""
        run, self._lost_run = self._lost_run, []
        if not run or arrived.sent.sent_ns - run[0].sent.sent_ns > OUTAGE_NS:
            return 0
        for packet in run:
            self._sending.add(packet.sent.sent_ns, packet.sent.size_bytes)
        return len(run)

    def _collapsed(self, now_ns: int) -> bool:
        """Take the newest packets' word for it where they say that the path is suddenly far thinner than thought."""
        rate = self._collapse.seen()
        if rate is None or rate > COLLAPSED * self._estimate:
            return False
        self._collapse.clear()
        self._fell_ns = self._updated_ns = now_ns
        self.limited = True
        self._estimate = max(BPS_MIN, BETA * rate)
        self.prober.fell(now_ns)
        self._note("collapse")
        return True

    def _aimd(self, now_ns: int, overflowed: bool) -> None:
        elapsed_s = min(now_ns - self._updated_ns, _SECOND_NS) / _SECOND_NS if self._updated_ns else 0.0
        self._updated_ns = now_ns
        arriving = self._arriving.bps
        if overflowed or self.delay.standing_ms > self.delay.allowed_ms + LONG_STANDING_MS:
            newest = self._arriving.newest_bps
            if newest is not None:
                arriving = newest if arriving is None else min(arriving, newest)  # the half second saw better times
        if arriving is None:
            return
        usage = self.delay.usage
        if usage is Usage.OVER or overflowed:
            if now_ns - self._fell_ns >= HOLD_NS + self._round_trip_ns:
                self._fell_ns = now_ns
                self.limited = True
                self._estimate = max(BPS_MIN, min(self._estimate, BETA * arriving))
                self.prober.fell(now_ns)
                self._note("overflow" if overflowed else "over use")
        elif usage is Usage.NORMAL and self._estimate < USED * arriving:
            self._estimate = min(self._estimate * (1 + RISE_PER_SECOND * elapsed_s) + 1000 * elapsed_s, USED * arriving)

    def _update_loss(self, expected: int, lost: int, now_ns: int, sent_bps: float) -> None:
        before = self.loss.bound_bps
        self.loss.update(
            expected,
            lost,
            now_ns,
            estimate_bps=self.estimate_bps,
            sent_bps=sent_bps,
            round_trip_ns=self._round_trip_ns,
            queued=self.delay.standing_ms > self.delay.allowed_ms,
            drains=self.feedbacks > 0 and self.delay.standing_ms < DRAINS_MS,  # reports tell nothing of queues
        )
        after = self.loss.bound_bps
        if after is not None and (before is None or after < before):
            self.limited = True
            self.prober.fell(now_ns)
            self._note("loss")

    def _finish_probe(self, told: Sequence[Told], now_ns: int) -> None:
        cluster = self.prober.open_cluster
        if not cluster or not told:
            return
        passed = any(packet.sent.cluster == cluster for packet in told) and told[-1].sent.cluster != cluster
        seen_before = self._cluster_seen_ns == cluster
        if told[-1].sent.cluster == cluster:
            self._cluster_seen_ns = cluster
        passed = passed or (seen_before and not _has(told, cluster))
        if cluster == self._loss_probe.cluster:
            self._finish_test(told, cluster, now_ns, passed=passed)
            return
        rate = self.prober.result(self.estimate_bps, now_ns, passed=passed)
        if rate is not None and self.delay.usage is not Usage.OVER:
            self._estimate = max(self._estimate, min(rate, BPS_MAX))
            self.loss.raise_to(rate)
            self._note("probe")

    def _finish_test(self, told: Sequence[Told], cluster: int, now_ns: int, *, passed: bool) -> None:
        """Sending more tells whether loss on an empty queue is the path's own."""
        probe = self._loss_probe
        probe.add(
            (one.sent, one.arrival_ns is not None) for one in told if one.sent.cluster == cluster and not one.late
        )
        if not passed:
            return
        self.prober.end_test()
        own = probe.own()
        if own is None:
            return
        before = self.loss.bound_bps
        self.loss.tested(own, probe.rate_bps, probe.through_bps, now_ns)
        after = self.loss.bound_bps
        if after is not None and (before is None or after < before):
            self.limited = True
            self.prober.fell(now_ns)
        self._note("loss is the path's own" if own else "policed")

    def _note(self, why: str) -> None:
        if self._log is not None:
            self._log(
                "bandwidth",
                why=why,
                estimate_bps=self.estimate_bps,
                arriving_bps=int(self._arriving.bps or 0),
                standing_ms=round(self.delay.standing_ms),
                swing_ms=round(self.delay.swing_ms),
                loss=round(self.loss.share, 3),
            )


def _sent_again(told: Sequence[Told]) -> list[bool]:
    """Which of them came because they were sent again under the same number, as audio is: told lost before, or long
    overtaken by later ones."""
    again: list[bool] = []
    later_ns: int | None = None
    for packet in reversed(told):
        arrival_ns = packet.arrival_ns
        overtaken = arrival_ns is not None and later_ns is not None and arrival_ns - later_ns > REORDERED_MAX_NS
        again.append(packet.late or overtaken)
        if arrival_ns is not None:
            later_ns = arrival_ns if later_ns is None else min(later_ns, arrival_ns)
    return again[::-1]


def _has(told: Sequence[Told], cluster: int) -> bool:
    return any(packet.sent.cluster == cluster for packet in told)
