"""REST: sign-in, people, sessions, chat and receipts over real HTTP; what is refused, and how."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from config.identity import Principal
from config.ids import DEFAULT_TENANT
from config.keys import SigningKey
from recorder import api as recorder_api
from recorder import compliance_api
from signaling import openapi
from signaling.assembly import Servers
from signaling.limits import SIGN_INS_PER_PAIR
from tests.signaling.conftest import CONSENT, World

Http = TestClient[Any, Any]
CONSENTED = {"version": CONSENT.version, "accepted": True}


class Caller:
    """Requests of one person."""

    def __init__(self, http: Http, world: World, who: Principal | None) -> None:
        self._http = http
        token = None if who is None else world.control.tokens.issue(who, world.clock.wall_ms() // 1000)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    async def __call__(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        async with self._http.request(method, f"/api/v1{path}", json=body, headers=self._headers) as answer:
            content = await answer.json()
            assert answer.status == status, content
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            if status >= 400:
                assert content["error"].keys() == {"code", "message", "details", "request_id"}
                return content["error"]
            return content


@pytest.fixture
def as_(client_of_world: Http, world: World) -> Any:
    return lambda name: Caller(client_of_world, world, None if name is None else world.people[name])


async def test_signing_in_gives_a_token_that_works(client_of_world: Http, as_: Any) -> None:
    shown = (await as_(None)("GET", "/demo/accounts"))["accounts"]
    assert [account["role"] for account in shown] == [
        "client",
        "provider",
        "provider",
        "compliance",
        "finance",
        "admin",
    ]
    for account in shown:
        signed_in = await as_(None)("POST", "/auth/login", {k: account[k] for k in ("email", "password")})
        headers = {"Authorization": f"Bearer {signed_in['access_token']}"}
        async with client_of_world.get("/api/v1/me", headers=headers) as answer:
            assert (await answer.json())["user"]["name"] == account["name"]


async def test_wrong_password_and_unknown_user_look_alike(as_: Any) -> None:
    wrong = await as_(None)("POST", "/auth/login", {"email": "client@demo.test", "password": "no"}, status=401)
    unknown = await as_(None)("POST", "/auth/login", {"email": "who@demo.test", "password": "no"}, status=401)
    assert (wrong["code"], wrong["message"]) == (unknown["code"], unknown["message"])


async def test_guessing_passwords_is_slowed_down(as_: Any) -> None:
    guess = {"email": "Client@demo.test", "password": "guess"}
    for _ in range(SIGN_INS_PER_PAIR):
        await as_(None)("POST", "/auth/login", guess, status=401)
    assert (await as_(None)("POST", "/auth/login", guess, status=429))["code"] == "too_many_attempts"
    await as_(None)("POST", "/auth/login", {"email": "ada@demo.test", "password": "demo-ada"})


async def test_providers_show_presence_and_rates(as_: Any, world: World) -> None:
    listed = (await as_("client")("GET", "/providers"))["providers"]
    assert [(p["user"]["name"], p["presence"]) for p in listed] == [("Ada Fox", "online"), ("Ben Okafor", "online")]
    assert {(r["kind"], r["minor_per_minute"]) for r in listed[0]["rates"]} == {
        ("video", 199),
        ("audio", 149),
        ("chat", 99),
    }
    me = await as_("ada")("PUT", "/me/availability", {"available": False})
    assert me["available"] is False
    await world.ring(world.ben)
    listed = (await as_("client")("GET", "/providers"))["providers"]
    assert [p["presence"] for p in listed] == ["away", "busy"]


async def test_a_whole_call_over_rest(as_: Any, world: World) -> None:
    client, ada = as_("client"), as_("ada")
    wish = {
        "provider_id": world.ada.public_id,
        "kind": "video",
        "consent": CONSENTED,
        "request_key": "rest-request-1",
    }
    session = await client("POST", "/sessions", wish, status=201)
    path = f"/sessions/{session['id']}"
    assert (await ada("GET", path))["state"] == "ringing"
    assert (await client("GET", f"{path}/receipt", status=409))["code"] == "not_settled"
    assert (await ada("POST", f"{path}/accept", {"consent": CONSENTED}))["room_epoch"] == 1
    stored = await world.control.sessions.by_public_id(DEFAULT_TENANT, session["id"])
    assert stored is not None
    await world.worker.flow(stored)
    await world.worker.live(stored, 60_000)
    await world.read()
    text = {"client_message_id": "message-1", "text": "Thank you!"}
    sent = await client("POST", f"{path}/messages", text, status=201)
    assert await client("POST", f"{path}/messages", text, status=201) == sent
    assert (await ada("GET", f"{path}/messages"))["messages"] == [sent]
    assert (await client("POST", f"{path}/end"))["state"] == "ended"
    await world.over(stored)
    assert (await client("GET", path))["settled"] is True
    mine, hers = await client("GET", f"{path}/receipt"), await ada("GET", f"{path}/receipt")
    staffs = await as_("compliance")("GET", f"{path}/receipt")
    assert mine["charged_minor"] == hers["charged_minor"] == staffs["charged_minor"] == 199
    assert (mine["provider_minor"], mine["platform_minor"], mine["balance_after_minor"]) == (None, None, 4801)
    assert (hers["provider_minor"], hers["platform_minor"], hers["balance_after_minor"]) == (139, 60, None)
    assert sum(line["amount_minor"] for line in mine["lines"]) == 199
    assert (await client("GET", "/wallet"))["balance_minor"] == 4801


async def test_sessions_are_paged_newest_first_and_only_ones_own(as_: Any, world: World) -> None:
    made = []
    for _ in range(3):
        session = await world.ring()
        await world.control.director.cancel(world.client, session.public_id)
        made.append(session.public_id)
    first = await as_("client")("GET", "/sessions?limit=2")
    second = await as_("client")("GET", f"/sessions?limit=2&cursor={first['next_cursor']}")
    assert [s["id"] for s in first["sessions"] + second["sessions"]] == made[::-1]
    assert second["next_cursor"] is None
    assert (await as_("ben")("GET", "/sessions"))["sessions"] == []
    assert len((await as_("admin")("GET", "/sessions"))["sessions"]) == 3


async def test_wrong_roles_are_refused(as_: Any, world: World) -> None:
    session = await world.ring()
    path = f"/sessions/{session.public_id}"
    wish = {"provider_id": world.ada.public_id, "kind": "video", "consent": CONSENTED, "request_key": "12345678"}
    assert (await as_("ada")("POST", "/sessions", wish, status=403))["code"] == "forbidden"
    assert (await as_("client")("POST", f"{path}/accept", {"consent": CONSENTED}, status=403))["code"] == "forbidden"
    assert (await as_("ben")("POST", f"{path}/decline", status=404))["code"] == "not_found"
    assert (await as_("ben")("GET", f"{path}/messages", status=404))["code"] == "not_found"
    assert (await as_("admin")("POST", f"{path}/end", status=403))["code"] == "forbidden"
    assert (await as_("client")("GET", "/workers", status=403))["code"] == "forbidden"
    assert (await as_("admin")("GET", "/workers"))["workers"][0]["worker_id"] == "worker-1"
    assert (await as_(None)("GET", "/me", status=401))["code"] == "unauthenticated"


async def test_bad_tokens_are_refused(client_of_world: Http) -> None:
    for token in ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "é" * 10, "x" * 5000]:
        headers = {"Authorization": f"Bearer {token}".encode("latin-1", "replace").decode("latin-1")}
        async with client_of_world.get("/api/v1/me", headers=headers) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (401, "invalid_token")


BAD_BODIES = [
    (b"{", 400, "bad_request"),
    (b"[]", 400, "bad_request"),
    (b'{"email": 1, "password": "x"}', 400, "bad_request"),
    (b'{"email": "a@b.c", "password": "x", "more": 1}', 400, "bad_request"),
    (b"\xff\xfe\x00", 400, "bad_request"),
    (b'{"email": "a\\u0000@b.c", "password": "x"}', 400, "bad_request"),
    (b"[" * 100_000, 400, "bad_request"),
    (b'{"email": "' + b"a" * 400_000 + b'"}', 413, "body_too_large"),
]


async def test_bad_bodies_are_refused(client_of_world: Http) -> None:
    for body, status, code in BAD_BODIES:
        async with client_of_world.post("/api/v1/auth/login", data=body) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)


async def test_bad_queries_are_refused(as_: Any) -> None:
    for query in ["limit=0", "limit=x", "limit=9999999999999999999", "cursor=" + "c" * 100]:
        assert (await as_("client")("GET", f"/sessions?{query}", status=400))["code"] == "bad_query"


async def test_unknown_things_are_not_found(as_: Any) -> None:
    for path in ["/sessions/ses_00000000000000000000", "/sessions/%00", "/sessions/'--", "/nothing"]:
        assert (await as_("client")("GET", path, status=404))["code"] == "not_found"


async def test_an_unknown_method_is_named(client_of_world: Http) -> None:
    async with client_of_world.delete("/api/v1/me") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (405, "method_not_allowed")


async def test_operations_tell_health_readiness_and_numbers(client_of_world: Http, world: World) -> None:
    async with client_of_world.get("/healthz") as answer:
        assert answer.status == 200
    async with client_of_world.get("/readyz") as answer:
        assert (await answer.json())["checks"] == {"postgresql": "ok", "redis": "ok", "worker": "ok"}
    world.control.rooms._workers = []
    async with client_of_world.get("/readyz") as answer:
        assert (answer.status, (await answer.json())["checks"]["worker"]) == (503, "failing")
    async with client_of_world.get("/metrics") as answer:
        text = await answer.text()
    assert "turnpike_http_request_seconds_bucket" in text
    assert "ses_" not in text


async def test_the_api_describes_itself(client_of_world: Http, world: World) -> None:
    async with client_of_world.get("/api/v1/openapi.json") as answer:
        described = await answer.json()
    assert described["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(described).validate()
    operations = [op for path in described["paths"].values() for op in path.values()]
    assert len(operations) == len(world.control.endpoints)
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))


async def test_query_parameters_belong_to_paths_that_exist(world: World) -> None:
    tables: Any = types.SimpleNamespace(database=None, objects=None)
    recorders = [*compliance_api.endpoints(tables, SigningKey(bytes(32)), world.clock), *recorder_api.endpoints(tables)]
    known = {entry.path for entry in [*world.control.endpoints, *recorders]}
    assert openapi.QUERIES.keys() <= known


async def test_the_page_is_served_with_a_strict_policy(client_of_world: Http) -> None:
    async with client_of_world.get("/sessions/whatever") as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe-eval" not in policy
        assert answer.content_type == "text/html"
    for path in ("/../../pyproject.toml", "/..%2f..%2fpyproject.toml", "/assets/missing.js", "/%00"):
        async with client_of_world.get(path) as answer:
            assert b"setuptools" not in await answer.read()


async def test_prometheus_finds_nothing_wrong_with_the_numbers(
    client_of_world: Http, tool: Callable[[str, str], str]
) -> None:
    async with client_of_world.get("/metrics") as answer:
        text = await answer.read()
    check = await asyncio.create_subprocess_exec(
        *(tool("promtool", "prometheus"), "check", "metrics"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await check.communicate(text)
    assert (check.returncode, said.decode()) == (0, "")


async def test_without_postgresql_a_request_is_refused_as_unavailable(as_: Any, servers_of_control: Servers) -> None:
    client = as_("client")
    await client("GET", "/me")
    servers_of_control.database._pool.terminate()
    assert (await client("GET", "/me", status=503))["code"] == "unavailable"
