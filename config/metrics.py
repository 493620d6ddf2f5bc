"""Numbers for Prometheus: one registry a process, and the small HTTP server of processes that have no other.

Names start with ``turnpike_``, are in base units (``_seconds``, ``_bytes``), and end in ``_total`` exactly when they
count. Labels take values from closed sets only (a reason, a direction, a role): never ids, of which there is no end.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Self

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from config.logs import get_log

REGISTRY: Final = CollectorRegistry(auto_describe=True)
"""This process's metrics."""
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
CHECK_TIMEOUT_S: Final = 2.0
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Buckets for waits of people and networks."""
_NAME = re.compile(r"turnpike_[a-z][a-z0-9_]*[a-z0-9]")
_NOT_BASE_UNITS = re.compile(r"_(ms|us|ns|millis\w*|micros\w*|minutes|hours|kb|kib|mb|mib|kbps|bits)(_|$)")

Check = Callable[[], bool | Awaitable[bool]]
"""Answers whether something that this process needs is there."""

log = get_log("config.metrics")


def _checked(name: str, counts: bool) -> str:
    if _NAME.fullmatch(name) is None or _NOT_BASE_UNITS.search(name) is not None:
        raise ValueError(f"{name} is not a metric name: turnpike_ first, base units")
    if name.endswith("_total") != counts:
        raise ValueError(f"{name}: counters end in _total, others do not")
    return name


def counter(name: str, help_: str, labels: Sequence[str] = ()) -> Counter:
    """A counter, ``…_total``. Raises ValueError on a name that is not as above, or is taken."""
    return Counter(_checked(name, True), help_, labels, registry=REGISTRY)


def gauge(name: str, help_: str, labels: Sequence[str] = ()) -> Gauge:
    """A value that goes up and down."""
    return Gauge(_checked(name, False), help_, labels, registry=REGISTRY)


def histogram(name: str, help_: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS) -> Histogram:
    """A distribution; the default buckets suit seconds."""
    return Histogram(_checked(name, False), help_, labels, buckets=buckets, registry=REGISTRY)


def render() -> bytes:
    """All metrics of this process in the text format."""
    return generate_latest(REGISTRY)


async def failing(checks: Mapping[str, Check]) -> list[str]:
    """The names of the checks that say no, raise, or do not answer within ``CHECK_TIMEOUT_S``; asked all at once."""
    answers = await asyncio.gather(*(_ask(name, check) for name, check in checks.items()))
    return [name for name, good in zip(checks, answers, strict=True) if not good]


async def _ask(name: str, check: Check) -> bool:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            answer = check()
            return answer if isinstance(answer, bool) else await answer
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in a check, its subject is not ready
        log.debug("check failed", check=name, why=repr(error))
        return False


def ops_routes(checks: Mapping[str, Check]) -> list[web.RouteDef]:
    """``/healthz`` (this process lives), ``/readyz`` (so does what it needs; 503 with names else), ``/metrics``."""

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        missing = await failing(checks)
        status = "unavailable" if missing else "ok"
        body = {"status": status, "checks": {name: "failing" if name in missing else "ok" for name in checks}}
        return web.json_response(body, status=503 if missing else 200)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=render(), headers={"Content-Type": CONTENT_TYPE})

    return [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)]


class OpsServer:
    """The HTTP server of a process that otherwise has none: ``async with OpsServer(host, 0, checks) as ops``."""

    def __init__(self, host: str, port: int, checks: Mapping[str, Check]) -> None:
        self._host = host
        self._wanted_port = port
        self._checks = checks
        self._runner: web.AppRunner | None = None
        self.port = 0
        """The port in use, once entered."""

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        """Start to listen. Raises OSError when the port is taken."""
        app = web.Application()
        app.add_routes(ops_routes(self._checks))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._wanted_port).start()
        except OSError:
            await self.__aexit__()
            raise
        self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(self, *_: object) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
