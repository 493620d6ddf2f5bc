"""The HTTP application of a control process: all endpoints, Socket.IO, operations, and the web app."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from config.http import DOOR, TOKENS, errors, mount
from config.logs import get_log
from config.metrics import histogram, ops_routes
from config.settings import Settings
from signaling import openapi
from signaling.assembly import Control, Servers
from signaling.away import AWAY, unavailable
from signaling.web import WebApp, safe_headers

DOCUMENT: Final = "/api/v1/openapi.json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = get_log("signaling.application")
_http_s = histogram("turnpike_http_request_seconds", "HTTP requests", ["method", "route", "status"])


def application(settings: Settings, control: Control, servers: Servers) -> web.Application:
    """Every route of a control process."""

    async def worker_there() -> bool:
        return bool(control.rooms.workers)

    async def redis_answers() -> bool:
        return bool(await servers.redis.ping())

    async def api_document(_: web.Request) -> web.Response:
        return web.json_response(described)

    described = openapi.document(control.endpoints, version())
    app = web.Application(middlewares=[_timed, errors, _away], client_max_size=settings.body_max_bytes)
    app[TOKENS] = control.tokens
    app[DOOR] = control.doorkeeper.admit
    app.on_response_prepare.append(safe_headers)
    mount(app, control.endpoints)
    app.router.add_get(DOCUMENT, api_document)
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
async def _away(request: web.Request, handler: Handler) -> web.StreamResponse:
    """PostgreSQL or Redis is away: a refusal, not a fault."""
    try:
        return await handler(request)
    except ConnectionResetError:
        raise  # the client's own connection
    except AWAY as error:
        log.warning("request not carried out", method=request.method, path=request.path, why=str(error))
        raise unavailable() from None


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
