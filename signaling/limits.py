"""How often sign-in may be tried, counted in Redis by all processes together."""

from __future__ import annotations

import hashlib
from typing import Final

from redis.asyncio import Redis

from config.http import ApiError

SIGN_INS_PER_ADDRESS: Final = 30
SIGN_INS_PER_PAIR: Final = 10
"""Attempts at one account from one address."""
SIGN_INS_PER_ACCOUNT: Final = 200
"""Attempts at one account from anywhere: high, so that a stranger cannot lock its owner out, yet no dictionary fits."""
SIGN_IN_WINDOW_S: Final = 60


class SignInLimits:
    """Counts sign-in attempts per address and per account in Redis, whichever process they reach."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def admit(self, address: str, account: str) -> None:
        """Count one attempt. Raises 429 when there were too many within ``SIGN_IN_WINDOW_S``."""
        name = hashlib.sha256(account.lower().encode()).hexdigest()
        counts = (
            (f"tp:signin:address:{address}", SIGN_INS_PER_ADDRESS),
            (f"tp:signin:pair:{name}:{address}", SIGN_INS_PER_PAIR),
            (f"tp:signin:account:{name}", SIGN_INS_PER_ACCOUNT),
        )
        async with self._redis.pipeline(transaction=True) as pipe:
            for key, _ in counts:
                pipe.set(key, 0, ex=SIGN_IN_WINDOW_S, nx=True)
                pipe.incr(key)
            answers = await pipe.execute()
        if any(int(n) > most for n, (_, most) in zip(answers[1::2], counts, strict=True)):
            raise ApiError(429, "too_many_attempts", "Too many sign-in attempts. Wait a minute and try again.")
