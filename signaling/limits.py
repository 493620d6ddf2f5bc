"""Rates: a token bucket for one socket's messages, and counters shared by all processes for sign-in attempts."""

from __future__ import annotations

import hashlib
from typing import Final

from redis.asyncio import Redis

from config.http import ApiError

SIGN_INS_PER_ADDRESS: Final = 30
SIGN_INS_PER_ACCOUNT: Final = 10
SIGN_IN_WINDOW_S: Final = 60


class TokenBucket:
    """``rate_per_s`` messages on average, ``burst`` at once. Sans-IO: the time is passed in."""

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


class SignInLimits:
    """Counts sign-in attempts per address and per account in Redis, whichever process they reach."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def admit(self, address: str, account: str) -> None:
        """Count one attempt. Raises 429 when there were too many within ``SIGN_IN_WINDOW_S``."""
        counts = (
            (f"tp:signin:address:{address}", SIGN_INS_PER_ADDRESS),
            (f"tp:signin:account:{hashlib.sha256(account.lower().encode()).hexdigest()}", SIGN_INS_PER_ACCOUNT),
        )
        async with self._redis.pipeline(transaction=True) as pipe:
            for key, _ in counts:
                pipe.set(key, 0, ex=SIGN_IN_WINDOW_S, nx=True)
                pipe.incr(key)
            answers = await pipe.execute()
        if any(int(n) > most for n, (_, most) in zip(answers[1::2], counts, strict=True)):
            raise ApiError(429, "too_many_attempts", "Too many sign-in attempts. Wait a minute and try again.")
