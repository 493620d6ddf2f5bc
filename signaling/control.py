"""The control role: REST, Socket.IO, sessions, the meter, and the web app, in one stateless process.

``main`` opens what the parts need, serves, and runs the loops until it is cancelled; then it disconnects its sockets
(their pages connect to another control), finishes what it was winding up, and passes its shards on.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from recorder.catalogue import Recordings
from redis.exceptions import RedisError

from config.clock import Clock, SystemClock
from config.connections import open_redis
from config.database import Database
from config.http import TOKENS, errors, mount
from config.keys import KeyRing
from config.logs import get_log
from config.metrics import gauge, histogram, ops_routes
from config.objects import DirectoryStore
from config.settings import Settings
from recorder import api as recorder_api
from relay.bus import ControlBus
from signaling import demo, openapi
from signaling.assembly import Control, Servers, assemble
from signaling.lifecycle import LIVE
from signaling.sockets import close_server
from signaling.web import WebApp, safe_headers

POOL_MAX: Final = 16
METER_POOL_MAX: Final = 4
PRESENCE_EVERY_S: Final = 2.0
COUNT_EVERY_S: Final = 5.0
FINISH_S: Final = 5.0
"""An orderly end waits so long for sessions that are being wound up; the next leaseholder does the rest."""

log = get_log("signaling.control")
_sessions = gauge("turnpike_sessions", "Live sessions of the installation, by state", ["state"])
_http_s = histogram("turnpike_http_request_seconds", "HTTP requests", ["method", "route", "status"])

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def main(settings: Settings) -> int:
    """Run until cancelled."""
    async with serving(settings, SystemClock()) as (_, port):
        log.info("control serves", host=settings.http_host, port=port)
        await asyncio.Event().wait()
    return 0


@contextlib.asynccontextmanager
async def serving(settings: Settings, clock: Clock) -> AsyncIterator[tuple[Control, int]]:
    """A running control process: its parts, and the port that it listens on."""
    if settings.database_url is None or settings.redis_url is None:
        raise ValueError("control needs DATABASE_URL and REDIS_URL")
    async with contextlib.AsyncExitStack() as stack:
        servers = await _open(stack, settings.database_url, settings.redis_url)
        keys, objects = KeyRing.from_settings(settings), DirectoryStore(settings.objects_dir)
        recordings = Recordings(servers.database, keys, objects, clock)
        control = assemble(settings, clock, servers, recordings, recorder_api.endpoints(recordings))
        if settings.demo:
            await demo.furnish(settings, control.people, control.billing)
        port = await _listen(stack, settings, application(settings, control, servers))
        stack.push_async_callback(_finish, control)
        loops = [control.rooms.watch(), control.shards.run(), _presence(control), _count(control)]
        tasks = [asyncio.create_task(loop) for loop in loops]
        stack.push_async_callback(_stop, tasks)
        yield control, port


async def _open(stack: contextlib.AsyncExitStack, database_url: str, redis_url: str) -> Servers:
    database = await stack.enter_async_context(await Database.open(database_url, name="control", max_size=POOL_MAX))
    meter = await stack.enter_async_context(await Database.open(database_url, name="meter", max_size=METER_POOL_MAX))
    redis = open_redis(redis_url, name="turnpike-control")
    stack.push_async_callback(redis.aclose)
    bus = await stack.enter_async_context(ControlBus(redis))
    return Servers(database, meter, redis, redis_url, bus)


async def _listen(stack: contextlib.AsyncExitStack, settings: Settings, app: web.Application) -> int:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, settings.http_host, settings.http_port, backlog=1024)
    await site.start()
    return int(runner.addresses[0][1])


async def _stop(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _finish(control: Control) -> None:
    """Sockets first, so that nothing new comes; then what was begun."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FINISH_S):
            await control.sockets.close()
            await control.closer.finish()
    await close_server(control.sio)


def application(settings: Settings, control: Control, servers: Servers) -> web.Application:
    """Every route of a control process."""

    async def worker_there() -> bool:
        return bool(control.rooms.workers)

    async def redis_answers() -> bool:
        return bool(await servers.redis.ping())

    async def api_document(_: web.Request) -> web.Response:
        return web.json_response(described)

    described = openapi.document(control.endpoints, version())
    app = web.Application(middlewares=[_timed, errors], client_max_size=settings.body_max_bytes)
    app[TOKENS] = control.tokens
    app.on_response_prepare.append(safe_headers)
    mount(app, control.endpoints)
    app.router.add_get("/api/v1/openapi.json", api_document)
    app.add_routes(ops_routes({"postgresql": servers.database.ping, "redis": redis_answers, "worker": worker_there}))
    control.sio.attach(app)
    app.router.add_get("/{path:.*}", WebApp().page)
    return app


def version() -> str:
    """The installed version of Turnpike."""
    try:
        return importlib.metadata.version("turnpike")
    except importlib.metadata.PackageNotFoundError:
        return "0"


@web.middleware
async def _timed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Outermost: every answer is timed by its route, never by its path, of which there is no end."""
    if request.path.startswith("/socket.io"):
        return await handler(request)
    started = time.monotonic()
    status = 500
    try:
        response = await handler(request)
        status = response.status
        return response
    except web.HTTPException as error:
        status = error.status
        raise
    finally:
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "none"
        _http_s.labels(request.method, route, f"{status // 100}xx").observe(time.monotonic() - started)


async def _presence(control: Control) -> None:
    while True:
        await asyncio.sleep(PRESENCE_EVERY_S)
        try:
            await control.presence.sweep()
        except (RedisError, OSError) as error:
            log.warning("presence not swept", why=str(error))
        except Exception:  # noqa: BLE001 - a loop's boundary: logged, and tried again
            log.fault("presence not swept")


async def _count(control: Control) -> None:
    while True:
        try:
            counts = await control.sessions.count_by_state()
            for state in LIVE:
                _sessions.labels(state.value).set(counts.get(state.value, 0))
        except Exception as error:  # noqa: BLE001 - a loop's boundary: the numbers stay as they are until the next look
            log.warning("sessions not counted", why=repr(error))
        await asyncio.sleep(COUNT_EVERY_S)
