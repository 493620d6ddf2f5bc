"""Fixtures over real servers: one PostgreSQL and one Valkey for the whole run, a fresh database for each test."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import asyncpg
import pytest
from redis.asyncio import Redis

from config.clock import VirtualClock
from config.connections import open_redis
from config.database import Database
from config.embedded_postgres import EmbeddedPostgres
from config.embedded_valkey import EmbeddedValkey
from config.migrate import APP_ROLE, OWNER_ROLE, migrate
from config.settings import Settings

T = TypeVar("T")
TEMPLATE = "turnpike"
"""The migrated database that each test's own is copied from."""


class DatabaseUrls(NamedTuple):
    """Where a test's database is: as the application, and as the role that owns it."""

    app_url: str
    owner_url: str


class _Servers:
    """The servers of a test run, on a thread and event loop of their own that outlive each test's loop."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="servers", daemon=True)
        self._thread.start()
        self._exits = contextlib.AsyncExitStack()
        self._numbers = itertools.count(1)
        self._postgres: EmbeddedPostgres | None = None
        self._valkey: EmbeddedValkey | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(90)

    def postgres(self) -> EmbeddedPostgres:
        if self._postgres is None:
            self._postgres = self.run(self._start(EmbeddedPostgres(self._data, durable=False)))
            self.run(migrate(self._postgres.owner_url))
        return self._postgres

    def valkey(self) -> EmbeddedValkey:
        if self._valkey is None:
            self._valkey = self.run(self._start(EmbeddedValkey(self._data, "test-password-test")))
        return self._valkey

    async def _start(self, server: Any) -> Any:
        return await self._exits.enter_async_context(server)

    def new_database(self) -> str:
        name = f"test_{next(self._numbers)}"
        self.run(self._sql(f"create database {name} template {TEMPLATE} owner {OWNER_ROLE} strategy file_copy"))
        return name

    def drop_database(self, name: str) -> None:
        self.run(self._sql(f"drop database {name} with (force)"))

    async def _sql(self, statement: str) -> None:
        connection = await asyncpg.connect(self.postgres_url())
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def postgres_url(self) -> str:
        assert self._postgres is not None
        return self._postgres.url("postgres", "postgres")

    def flush_valkey(self) -> None:
        self.run(self._flush())

    async def _flush(self) -> None:
        assert self._valkey is not None
        client = open_redis(self._valkey.url)
        await client.flushall()
        await client.aclose()

    def close(self) -> None:
        self.run(self._exits.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


@pytest.fixture(scope="session")
def servers() -> Iterator[_Servers]:
    """Both servers, started when first needed."""
    data = Path(tempfile.mkdtemp(prefix="tp-"))
    running = _Servers(data)
    try:
        yield running
    finally:
        running.close()
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture
def database_urls(servers: _Servers) -> Iterator[DatabaseUrls]:
    """A fresh, migrated database of this test's own."""
    postgres = servers.postgres()
    name = servers.new_database()
    try:
        yield DatabaseUrls(postgres.url(APP_ROLE, name), postgres.url(OWNER_ROLE, name))
    finally:
        servers.drop_database(name)


@pytest.fixture
async def database(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """The fresh database as the application sees it."""
    async with await Database.open(database_urls.app_url, name="test") as opened:
        yield opened


@pytest.fixture
async def owner(database_urls: DatabaseUrls) -> AsyncIterator[Any]:
    """A connection as the owner of the fresh database, who sees the rows of every tenant."""
    connection = await asyncpg.connect(database_urls.owner_url, server_settings={"turnpike.tenant": "*"})
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def redis_url(servers: _Servers) -> str:
    """An empty Valkey."""
    url: str = servers.valkey().url
    servers.flush_valkey()
    return url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of an empty Valkey; replies are bytes."""
    client = open_redis(redis_url)
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def settings(tmp_path: Path, database_urls: DatabaseUrls, redis_url: str) -> Settings:
    """Settings of an installation whose data lie in a directory of this test, on the fresh servers."""
    return Settings(
        data=tmp_path,
        database_url=database_urls.app_url,
        database_owner_url=database_urls.owner_url,
        redis_url=redis_url,
        http_port=0,
        demo=True,
        log_format="text",
    )


@pytest.fixture
def tool() -> Callable[[str, str], str]:
    """``tool("promtool", "prometheus")``: a program's path; skips, or fails where ``CI=true``, when it is missing."""

    def find(program: str, package: str) -> str:
        path = shutil.which(program)
        if path is None:
            message = f"{program} is not installed (Debian package {package})"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
        return path

    return find


@pytest.fixture(autouse=True)
def loop_faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Whatever an event loop reports as unhandled fails the test; one that provokes it clears this list."""
    original = asyncio.BaseEventLoop.call_exception_handler
    faults: list[dict[str, Any]] = []

    def note(loop: asyncio.BaseEventLoop, context: dict[str, Any]) -> None:
        faults.append(context)
        original(loop, context)

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_exception_handler", note)
    yield faults
    if faults:
        pytest.fail(f"unhandled in the event loop: {faults}")
