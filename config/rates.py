"""Token buckets: how often somebody may ask. Sans-IO: the time is passed in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class TokenBucket:
    """``rate_per_s`` messages on average, ``burst`` at once."""

    __slots__ = ("_burst", "_rate_per_s", "_seen_ns", "_tokens")

    def __init__(self, rate_per_s: float, burst: int, now_ns: int) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._seen_ns = now_ns

    def take(self, now_ns: int) -> bool:
        """Whether one more message is within the rate."""
        passed_s = max(0, now_ns - self._seen_ns) / 1e9
        self._seen_ns = max(now_ns, self._seen_ns)
        self._tokens = min(self._burst, self._tokens + passed_s * self._rate_per_s)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Rates:
    """A bucket for each of at most ``keys_max`` keys; of more, the one unused for longest starts afresh."""

    def __init__(self, rate_per_s: float, burst: int, keys_max: int = 50_000) -> None:
        self._rate_per_s, self._burst, self._keys_max = rate_per_s, burst, keys_max
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def take(self, key: Hashable, now_ns: int) -> bool:
        """Whether one more message of ``key`` is within the rate."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate_per_s, self._burst, now_ns)
            if len(self._buckets) > self._keys_max:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket.take(now_ns)
