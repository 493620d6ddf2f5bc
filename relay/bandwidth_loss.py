"""Whether packets get lost because too many are sent: the loss-based half of the bandwidth estimate.

After draft-ietf-rmcat-gcc-02 §6: above 10 % loss the bound falls by half the loss, below 2 % it rises by 8 % a second.
The draft's rule starves a call on a radio link that loses a fifth of whatever is sent. So each fall is a test: where
sending 30 % less loses about as large a share as before, and not what a full path of fixed capacity would have lost,
the loss is the path's own, the bound goes back to where it was, and from then on only loss beyond that counts. Where
the path's queue runs empty all the time, less than ``HEAVY`` loss is not a queue's: there the test is to send more for
a moment (``bandwidth_loss_probe``), and what fails it twice is a policer: it gets what it lets through and no more, for
a time that doubles each time it is found again.

While too little is sent to judge, as where videos are paused, what was asked of the path as it was is asked no more,
and a bound under which nothing is lost rises as ever: else it would keep back what alone could show that it is old.

Sans-IO. Outages (everything lost for a while, then nothing) say nothing about capacity and are left out by the caller.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_SECOND_NS: Final = 1_000_000_000
WINDOW_NS: Final = _SECOND_NS
PACKETS_MIN: Final = 50
"""Fewer in the window say nothing."""
LOST_MIN: Final = 10
"""Fewer lost ones are chance."""
HIGH: Final = 0.10
LOW: Final = 0.02
RISE_PER_SECOND: Final = 0.08
HEAVY: Final = 0.3
"""More than this is taken at its word: what arrives is what fits."""
HOLD_NS: Final = 400_000_000
"""Between two falls: the round trip and this."""
TEST_FALL: Final = 0.7
"""The test looks at what is lost once no more than this share of the rate before is sent."""
OWN_SHARE: Final = 0.75
"""How much nearer to the loss before than to that of a full path the loss of a test must be, to be the path's own."""
FORGIVEN_FOR_NS: Final = 60 * _SECOND_NS
"""How long loss is taken for the path's own before that is tested again."""
ASK_MAX_NS: Final = 1_500_000_000
"""How long is waited for a test by sending more; where none can be made, the bound falls."""
ASK_REST_NS: Final = 5 * _SECOND_NS
"""From a test that came to nothing to the next: other probes have their turn."""
ASKED: Final = 0.04
"""Of a path that has a bound already, loss from here on is tested."""
ASKED_LOST_MIN: Final = 5
PROVEN_FOR_NS: Final = 15 * _SECOND_NS
"""How long a test by sending more holds: it costs little."""
DOUBTS: Final = 2
"""Tests in a row that must say that the path is policed."""
POLICED_SPARE: Final = 0.95
POLICED_NS: Final = 10 * _SECOND_NS
POLICED_MAX_NS: Final = 60 * _SECOND_NS
"""How long a policer is not tried again: at first, and at most."""
SAMPLES_MAX: Final = 256


class LossBound:
    """See the module's docstring."""

    def __init__(self) -> None:
        self.bound_bps: float | None = None
        """What loss allows; None: anything."""
        self.share = 0.0
        """Lost of what was sent in the last second."""
        self.own = 0.0
        """The share that the path loses by itself."""
        self._samples: deque[tuple[int, int, int]] = deque(maxlen=SAMPLES_MAX)
        self._fell_ns = 0
        self._asked_ns: int | None = None
        """Since when a test by sending more is waited for."""
        self._doubts = 0
        self._rests_until_ns = 0
        """No test is asked for before."""
        self._counted_ns = -WINDOW_NS
        """Since when samples are counted."""
        self._policed_ns = POLICED_NS
        self._held_until_ns = 0
        self.asked: tuple[float, float] = (0.0, 0.0)
        """What was sent when a test was asked for, and the share lost of it: the test itself is not counted."""
        self._stood_ns = -WINDOW_NS
        """When the path's queue was last seen to stand."""
        self._updated_ns = 0
        self._test: tuple[float, float, float] | None = None  # bound, sent rate and loss before
        self._testing = False
        """Little enough is sent to look at what of it is lost."""
        self._own_until_ns = 0

    def update(
        self,
        expected: int,
        lost: int,
        now_ns: int,
        *,
        estimate_bps: float,
        sent_bps: float,
        round_trip_ns: int,
        queued: bool,
        drains: bool,
    ) -> None:
        """One feedback: ``expected`` packets, ``lost`` of them. ``queued``: the path's queue stands; ``drains``: it
        runs empty.
        """
        if not drains:
            self._stood_ns = now_ns
        self._samples.append((now_ns, expected, lost))
        while self._samples and now_ns - self._samples[0][0] > WINDOW_NS:
            self._samples.popleft()
        total, gone = sum(sample[1] for sample in self._samples), sum(sample[2] for sample in self._samples)
        silent = now_ns - self._updated_ns > WINDOW_NS
        elapsed_s = min(now_ns - self._updated_ns, _SECOND_NS) / _SECOND_NS if self._updated_ns else 0.0
        self._updated_ns = now_ns
        if silent:
            self._ask_no_more()
        if total < PACKETS_MIN:
            if now_ns - self._counted_ns >= WINDOW_NS:
                self._idle(gone, now_ns, elapsed_s, estimate_bps)
            return
        self.share = max(0.0, gone / total)
        if queued:
            self._count_anew(now_ns)  # so that it is not held against the path once the queue is gone
        if now_ns > self._own_until_ns:
            self.own = 0.0
        self.own = min(self.own, self.share * 1.5)
        if self._test is not None and not self._try_test(sent_bps, now_ns, queued):
            return
        extra = self.share - self.own * 1.3
        if self._asks(extra, gone, sent_bps, now_ns):
            return
        if extra > HIGH and gone >= LOST_MIN and not queued:  # else the delay-based half knows better what fits
            if now_ns - self._fell_ns >= HOLD_NS + round_trip_ns:
                self._fall(extra, now_ns, estimate_bps, sent_bps)
        elif extra < LOW:
            self._rise(now_ns, elapsed_s, estimate_bps)

    def _rise(self, now_ns: int, elapsed_s: float, estimate_bps: float) -> None:
        if self.bound_bps is not None and now_ns >= self._held_until_ns:
            self.bound_bps *= 1 + RISE_PER_SECOND * elapsed_s
            if self._test is None and self.bound_bps > 2 * estimate_bps:
                self.bound_bps = None

    def _idle(self, gone: int, now_ns: int, elapsed_s: float, estimate_bps: float) -> None:
        """Too little was sent in the last second to judge it by its losses."""
        self._ask_no_more()
        if not gone:
            self.share = 0.0
            self._rise(now_ns, elapsed_s, estimate_bps)

    def _ask_no_more(self) -> None:
        self._asked_ns, self._doubts = None, 0

    def _count_anew(self, now_ns: int) -> None:
        self._samples.clear()
        self._counted_ns = now_ns

    def none_lost(self, expected: int, now_ns: int) -> bool:
        """One feedback without a loss on an empty queue; False: ``update`` has to look at it, for there was loss
        lately, or a bound."""
        if self.share or self.own or self.bound_bps is not None or self._test is not None or self._asked_ns is not None:
            return False
        self._samples.append((now_ns, expected, 0))
        self._updated_ns = now_ns
        return True

    @property
    def asks(self) -> bool:
        """Whether a test by sending more is waited for."""
        return self._asked_ns is not None

    def held(self, now_ns: int) -> bool:
        """Whether the path is policed, and trying again would only lose packets."""
        return now_ns < self._held_until_ns

    def tested(self, own: bool, rate_bps: float, through_bps: float, now_ns: int) -> None:
        """A test by sending more, at ``rate_bps``, says whether the path loses its share whatever is sent;
        ``through_bps``: what of it came through."""
        if self._asked_ns is None:
            return
        self._asked_ns = now_ns  # a second test has as much time as the first
        self._doubts = 0 if own else self._doubts + 1
        sent_bps, share = self.asked[0], max(self.asked[1], self.share)
        if own:
            self._asked_ns = None
            self.own, self._own_until_ns = share, now_ns + PROVEN_FOR_NS
            self.raise_to(rate_bps)
        elif self._doubts >= DOUBTS:
            self._asked_ns, self._doubts = None, 0
            self.bound_bps = POLICED_SPARE * min(sent_bps * (1 - share), through_bps)
            if now_ns - self._held_until_ns > POLICED_MAX_NS:
                self._policed_ns = POLICED_NS
            self._held_until_ns = now_ns + self._policed_ns
            self._policed_ns = min(2 * self._policed_ns, POLICED_MAX_NS)
            self._fell_ns = now_ns
            self._count_anew(now_ns)

    def raise_to(self, proven_bps: float) -> None:
        """A probe got through at this rate."""
        if self.bound_bps is not None and self.bound_bps < proven_bps:
            self.bound_bps = proven_bps
        self._test = None

    def _asks(self, extra: float, gone: int, sent_bps: float, now_ns: int) -> bool:
        """Whether loss on an empty queue waits for its test; else it is judged as ever."""
        high, least = (HIGH, LOST_MIN) if self.bound_bps is None else (ASKED, ASKED_LOST_MIN)
        empty = now_ns - self._stood_ns > WINDOW_NS and self._test is None and self.share < HEAVY
        if not empty or extra <= high or gone < least:
            self._ask_no_more()
            return False
        if now_ns < self._rests_until_ns:
            return False
        if self._asked_ns is None:
            self._asked_ns, self.asked = now_ns, (sent_bps, self.share)
        if now_ns - self._asked_ns < ASK_MAX_NS:
            return True
        self._ask_no_more()
        self._rests_until_ns = now_ns + ASK_REST_NS
        return False

    def _fall(self, extra: float, now_ns: int, estimate_bps: float, sent_bps: float) -> None:
        if self._test is None:
            self._test = (estimate_bps, sent_bps, self.share)
            self._testing = False
        base = min(estimate_bps, sent_bps) if sent_bps else estimate_bps
        self.bound_bps = base * (1 - (extra if extra > HEAVY else 0.5 * extra))
        self._fell_ns = now_ns
        self._count_anew(now_ns)  # what was lost before says nothing of the new rate

    def _try_test(self, sent_bps: float, now_ns: int, queued: bool) -> bool:
        """Whether there is a verdict, or none can be hoped for yet; False: wait for it."""
        if self._test is None:
            return True
        bound, sent, share = self._test
        if self.share < HIGH:
            self._test = None  # sending less cured it
        elif sent_bps > TEST_FALL * sent or queued:
            return True
        elif not self._testing:
            self._testing = True
            self._count_anew(now_ns)
            return False
        else:
            self._test = None
            if_full = max(0.0, 1 - sent * (1 - share) / max(sent_bps, 1.0))
            if self.share > if_full + OWN_SHARE * (share - if_full):
                self.own = self.share
                self._own_until_ns = now_ns + FORGIVEN_FOR_NS
                self.bound_bps = bound
        return True
