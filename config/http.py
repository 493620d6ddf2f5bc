"""REST routes: a table of endpoints with checked bodies, roles and one error shape.

A package's ``api.py`` makes ``Endpoint`` objects with the ``endpoint`` decorator; ``signaling`` mounts them all with
``mount``. Handlers take a ``Call`` and return a pydantic model (or a prepared aiohttp response, for streams). The same
table makes the OpenAPI document. Wire errors have one shape::

    {"error": {"code": "insufficient_funds", "message": "…", "details": {…}, "request_id": "req_…"}}
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import pydantic
from aiohttp import web

from config.identity import InvalidToken, Principal, Role, Tokens
from config.ids import PublicId, new_public_id
from config.logs import get_log

log = get_log("config.http")

TOKENS: Final = web.AppKey("tokens", Tokens)
Admit = Callable[[web.Request, "Principal | None"], Awaitable[None]]
DOOR: Final[web.AppKey[Admit]] = web.AppKey("door")
"""Called before each handler with the caller, where set; turns them away by raising ``ApiError``."""
REQUEST_ID: Final = web.RequestKey("request_id", str)
ANYONE: Final[frozenset[Role]] = frozenset(Role)
_ID: Final = re.compile(r"[a-z]{3}_[0-9a-z]{1,40}")


class ApiError(Exception):
    """A refusal, as the client sees it: HTTP status, code for programs, message for people."""

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.details = status, code, message, details

    def body(self, request_id: str) -> dict[str, Any]:
        return {
            "error": {
                "code": self.code,
                "message": self.message,
                "details": self.details,
                "request_id": request_id,
            }
        }


def not_found(what: str) -> ApiError:
    """404 for a thing that is not there, or that the caller may not know of (the two look alike)."""
    return ApiError(404, "not_found", f"There is no such {what}.")


class Body(pydantic.BaseModel):
    """Base of request bodies: unknown fields are refused, numbers are not made of strings."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)

    @pydantic.field_validator("*", mode="after")
    @classmethod
    def _no_nul(cls, value: Any) -> Any:
        """PostgreSQL's texts cannot hold it, and nobody types it."""
        if isinstance(value, str) and "\0" in value:
            raise ValueError("must not contain the character U+0000")
        return value


class View(pydantic.BaseModel):
    """Base of responses and of events to clients."""

    model_config = pydantic.ConfigDict(frozen=True)


B = TypeVar("B", bound=pydantic.BaseModel)


@dataclass(frozen=True, slots=True)
class Call:
    """One request to an endpoint."""

    request: web.Request
    who: Principal | None
    body: Any
    """An instance of the endpoint's body model, or None."""

    @property
    def principal(self) -> Principal:
        """The caller; only in endpoints that admit roles."""
        if self.who is None:
            raise ApiError(401, "unauthenticated", "Sign in first.")
        return self.who

    def id(self, name: str) -> PublicId:
        """A public id from the path. Raises 404 on what cannot be one."""
        text = self.request.match_info[name]
        if _ID.fullmatch(text) is None:
            raise not_found("thing")
        return PublicId(text)

    def query_int(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from the query string, within bounds. Raises 400."""
        text = self.request.query.get(name)
        if text is None:
            return default
        if not (len(text) <= 18 and text.isascii() and text.lstrip("-").isdigit() and low <= int(text) <= high):
            raise ApiError(400, "bad_query", f"“{name}” must be a whole number from {low} to {high}.")
        return int(text)

    def query_text(self, name: str, max_chars: int = 200) -> str | None:
        """A text from the query string, or None. Raises 400 when too long, or not a text at all."""
        text = self.request.query.get(name)
        if text is not None and (len(text) > max_chars or "\0" in text):
            raise ApiError(400, "bad_query", f"“{name}” is too long, or has characters that no text has.")
        return text


Handler = Callable[[Call], Awaitable[pydantic.BaseModel | web.StreamResponse | None]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route. ``roles`` None: no sign-in needed. A None result answers 204."""

    method: str
    path: str
    handler: Handler
    summary: str
    roles: frozenset[Role] | None
    body: type[pydantic.BaseModel] | None
    result: type[pydantic.BaseModel] | None
    status: int


def endpoint(
    method: str,
    path: str,
    summary: str,
    handler: Handler,
    *,
    roles: Iterable[Role] | None = ANYONE,
    body: type[pydantic.BaseModel] | None = None,
    result: type[pydantic.BaseModel] | None = None,
    status: int = 200,
) -> Endpoint:
    """An ``Endpoint`` for a table of routes."""
    return Endpoint(method, path, handler, summary, None if roles is None else frozenset(roles), body, result, status)


def bearer(request: web.Request) -> str | None:
    """The token of an Authorization header, or None."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else None


def authenticate(request: web.Request) -> Principal:
    """The caller that the request's token names. Raises 401."""
    token = bearer(request)
    if token is None:
        raise ApiError(401, "unauthenticated", "Sign in first.")
    try:
        return request.app[TOKENS].check(token)
    except InvalidToken:
        raise ApiError(401, "invalid_token", "Your sign-in has expired or is not valid. Sign in again.") from None


def client_address(request: web.Request, proxies: frozenset[str] = frozenset()) -> str:
    """The address a request came from; from one of ``proxies``, the newest address that its X-Forwarded-For tells."""
    remote = request.remote or ""
    if remote not in proxies:
        return remote
    for name in reversed(request.headers.get("X-Forwarded-For", "")[-1024:].split(",")):
        if name.strip() and name.strip() not in proxies:
            return name.strip()[:64]
    return remote


def mount(app: web.Application, endpoints: Iterable[Endpoint]) -> None:
    """Add the endpoints' routes to the application."""
    for entry in endpoints:
        app.router.add_route(entry.method, entry.path, _wrap(entry))


def _wrap(entry: Endpoint) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def run(request: web.Request) -> web.StreamResponse:
        who = None
        if entry.roles is not None:
            who = authenticate(request)
            if who.role not in entry.roles:
                raise ApiError(403, "forbidden", "Your role does not allow this.")
        admit = request.app.get(DOOR)
        if admit is not None:
            await admit(request, who)
        body = await _read(request, entry.body) if entry.body is not None else None
        answer = await entry.handler(Call(request, who, body))
        if isinstance(answer, web.StreamResponse):
            return answer
        if answer is None:
            return web.Response(status=204)
        return web.Response(status=entry.status, text=answer.model_dump_json(), content_type="application/json")

    return run


async def _read(request: web.Request, model: type[B]) -> B:
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise ApiError(413, "body_too_large", "The request is too large.") from None
    return parse(model, raw or b"{}")


def parse(model: type[B], raw: bytes | dict[str, Any]) -> B:
    """``raw`` (JSON text, or JSON already read) as ``model``. Raises 400 with what is wrong, by field."""
    try:
        if isinstance(raw, bytes):
            return model.model_validate_json(raw)
        return model.model_validate(raw)
    except pydantic.ValidationError as error:
        fields = {
            ".".join(str(part) for part in item["loc"]) or "body": item["msg"]
            for item in error.errors(include_url=False, include_input=False, include_context=False)[:20]
        }
        raise ApiError(400, "bad_request", "The request cannot be read.", fields=fields) from None


@web.middleware
async def errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """The one place that turns refusals and faults into wire errors."""
    request_id = new_public_id("req")
    request[REQUEST_ID] = request_id
    try:
        return await handler(request)
    except ApiError as refusal:
        return web.json_response(refusal.body(request_id), status=refusal.status)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}.get(error.status, "bad_request")
        return web.json_response(ApiError(error.status, code, error.reason).body(request_id), status=error.status)
    except (asyncio.CancelledError, ConnectionResetError):
        raise
    except Exception:
        log.fault("request failed", request_id=request_id, method=request.method, path=request.path)
        if request.transport is None:
            raise
        fault = ApiError(500, "internal", "Something went wrong on our side. It has been logged.")
        return web.json_response(fault.body(request_id), status=500)
