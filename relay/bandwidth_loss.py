"""Whether packets get lost because too many are sent: the loss-based half of the bandwidth estimate.

After draft-ietf-rmcat-gcc-02 §6: above 10 % loss the bound falls by half the loss, below 2 % it rises by 8 % a second.
The draft's rule starves a call on a radio link that loses a fifth of whatever is sent. So each fall is a test: where
sending 30 % less loses about as large a share as before, and not what a full path of fixed capacity would have lost,
the loss is the path's own, the bound goes back to where it was, and from then on only loss beyond that counts. Where
the path's queue runs empty all the time, less than ``HEAVY`` loss is not a queue's, and needs no test.

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
        self._untested = False
        """Whether ``own`` goes by the queue alone; then it holds for as long as that runs empty."""
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
            if self._untested:
                self.own, self._untested = 0.0, False
        self._samples.append((now_ns, expected, lost))
        while self._samples and now_ns - self._samples[0][0] > WINDOW_NS:
            self._samples.popleft()
        total = sum(sample[1] for sample in self._samples)
        elapsed_s = min(now_ns - self._updated_ns, _SECOND_NS) / _SECOND_NS if self._updated_ns else 0.0
        self._updated_ns = now_ns
        if total < PACKETS_MIN:
            return
        gone = sum(sample[2] for sample in self._samples)
        self.share = max(0.0, gone / total)
        if queued:
            self._samples.clear()  # so that it is not held against the path once the queue is gone
        if now_ns > self._own_until_ns:
            self.own = 0.0
        self.own = min(self.own, self.share * 1.5)
        if now_ns - self._stood_ns > WINDOW_NS and HIGH < self.share < HEAVY and self._test is None:
            self.own, self._own_until_ns = max(self.own, self.share), now_ns + FORGIVEN_FOR_NS
            self._untested = True
        if self._test is not None and not self._try_test(sent_bps, now_ns, queued):
            return
        extra = self.share - self.own * 1.3
        if extra > HIGH and gone >= LOST_MIN and not queued:  # else the delay-based half knows better what fits
            if now_ns - self._fell_ns >= HOLD_NS + round_trip_ns:
                self._fall(extra, now_ns, estimate_bps, sent_bps)
        elif extra < LOW and self.bound_bps is not None:
            self.bound_bps *= 1 + RISE_PER_SECOND * elapsed_s
            if self._test is None and self.bound_bps > 2 * estimate_bps:
                self.bound_bps = None

    def raise_to(self, proven_bps: float) -> None:
        """A probe got through at this rate."""
        if self.bound_bps is not None and self.bound_bps < proven_bps:
            self.bound_bps = proven_bps
        self._test = None

    def _fall(self, extra: float, now_ns: int, estimate_bps: float, sent_bps: float) -> None:
        if self._test is None:
            self._test = (estimate_bps, sent_bps, self.share)
            self._testing = False
        base = min(estimate_bps, sent_bps) if sent_bps else estimate_bps
        self.bound_bps = base * (1 - (extra if extra > HEAVY else 0.5 * extra))
        self._fell_ns = now_ns
        self._samples.clear()  # what was lost before says nothing of the new rate

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
            self._samples.clear()
            return False
        else:
            self._test = None
            if_full = max(0.0, 1 - sent * (1 - share) / max(sent_bps, 1.0))
            if self.share > if_full + OWN_SHARE * (share - if_full):
                self.own, self._untested = self.share, False
                self._own_until_ns = now_ns + FORGIVEN_FOR_NS
                self.bound_bps = bound
        return True
