"""Connections to Redis (or Valkey) as every process opens them."""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, TimeoutError

UNREACHABLE = (ConnectionError, TimeoutError, OSError)
"""What a command raises that did not reach a server, or got no answer, after all its tries."""
CONNECTIONS_MAX = 64
"""Connections of one process; a caller that finds all in use waits up to ``WAIT_S``, then gets a ConnectionError."""
WAIT_S = 5.0
CONNECT_TIMEOUT_S = 3.0
REPLY_TIMEOUT_S = 15.0
"""Longest wait for a reply: so ``BLOCK`` in a stream read must stay below it (10 s at most)."""
RETRIES = 6
"""A server that restarts is back within about 3 s of retries."""


def open_redis(url: str, *, name: str = "turnpike") -> Redis:
    """A client for ``redis://``, ``rediss://`` or ``unix://`` URLs; replies are bytes. Close with ``aclose()``.

    It connects at first use. A command whose connection breaks is sent again, so that commands may arrive twice:
    whatever is added to a log carries its own id. ``name`` shows in CLIENT LIST.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS_MAX,
        timeout=WAIT_S,
        client_name=name,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=REPLY_TIMEOUT_S,
        health_check_interval=15,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), RETRIES),
        retry_on_error=[ConnectionError, TimeoutError, BusyLoadingError],
        decode_responses=False,
    )
    return Redis.from_pool(pool)
