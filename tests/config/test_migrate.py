"""Migrations are applied once, checked for edits, and by one process at a time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from config import migrate as module
from config.database import ALL_TENANTS, Database
from config.ids import DEFAULT_TENANT, TenantId
from config.migrate import LOCK_KEY, OWNER_ROLE, MigrationError, files, migrate
from tests.conftest import DatabaseUrls


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The shipped migrations, and one more that a test may edit."""
    for file in files():
        (tmp_path / f"{file.name}.sql").write_text(file.sql)
    (tmp_path / "9000_more.sql").write_text("create table more (n int); insert into more values (1);")
    return tmp_path


async def test_pending_files_are_applied_once_and_named(database_urls: DatabaseUrls, directory: Path) -> None:
    assert await migrate(database_urls.owner_url, directory) == ["9000_more"]
    assert await migrate(database_urls.owner_url, directory) == []


async def test_file_changed_after_it_was_applied_is_refused(database_urls: DatabaseUrls, directory: Path) -> None:
    await migrate(database_urls.owner_url, directory)
    (directory / "9000_more.sql").write_text("create table more (n bigint);")
    with pytest.raises(MigrationError, match="9000_more was changed"):
        await migrate(database_urls.owner_url, directory)


async def test_failing_file_leaves_nothing_behind(database_urls: DatabaseUrls, directory: Path, owner: Any) -> None:
    (directory / "9000_more.sql").write_text("create table more (n int); select 1 / 0;")
    with pytest.raises(MigrationError, match="9000_more failed: division by zero"):
        await migrate(database_urls.owner_url, directory)
    assert await owner.fetchval("select to_regclass('more')") is None
    (directory / "9000_more.sql").write_text("create table more (n int);")
    assert await migrate(database_urls.owner_url, directory) == ["9000_more"]


async def test_database_of_a_newer_version_is_refused(database_urls: DatabaseUrls, directory: Path) -> None:
    await migrate(database_urls.owner_url, directory)
    with pytest.raises(MigrationError, match="9000_more"):
        await migrate(database_urls.owner_url)


async def test_many_processes_at_once_apply_each_file_once(database_urls: DatabaseUrls, directory: Path) -> None:
    applied = await asyncio.gather(*(migrate(database_urls.owner_url, directory) for _ in range(5)))
    assert sorted(applied) == [[], [], [], [], ["9000_more"]]


async def test_lock_is_polled_for_and_given_up_on(
    database_urls: DatabaseUrls, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await owner.execute("select pg_advisory_lock($1)", LOCK_KEY)
    waiting = asyncio.create_task(migrate(database_urls.owner_url))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    # Polled, not waited for: nobody is queued behind the lock.
    assert await owner.fetchval("select count(*) from pg_locks where locktype = 'advisory' and not granted") == 0
    await owner.execute("select pg_advisory_unlock($1)", LOCK_KEY)
    assert await waiting == []
    await owner.execute("select pg_advisory_lock($1)", LOCK_KEY)
    monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0.2)
    with pytest.raises(MigrationError, match="another process"):
        await migrate(database_urls.owner_url)


@pytest.fixture
async def busy(database_urls: DatabaseUrls) -> AsyncIterator[Any]:
    """A long report: a transaction that has read users."""
    connection = await asyncpg.connect(database_urls.owner_url)
    await connection.execute("begin; select * from app_user")
    yield connection
    await connection.close()


async def test_a_migration_behind_a_long_report_lets_others_by_and_begins_again(
    database_urls: DatabaseUrls, directory: Path, busy: Any, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TABLE_LOCK_MS", 50)
    monkeypatch.setattr(module, "TABLE_LOCK_PAUSE_S", 0.05)
    (directory / "9000_more.sql").write_text("create table more (n int); alter table app_user add column n int;")
    migrating = asyncio.create_task(migrate(database_urls.owner_url, directory))
    for _ in range(5):  # a lock that is waited for for good would hold these up for as long
        await owner.fetch("select * from app_user", timeout=5)
        await asyncio.sleep(0.05)
    assert not migrating.done()
    await busy.execute("commit")
    assert await migrating == ["9000_more"]


async def test_a_migration_gives_up_on_a_table_that_never_comes_free(
    database_urls: DatabaseUrls, directory: Path, busy: Any, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TABLE_LOCK_MS", 20)
    monkeypatch.setattr(module, "TABLE_LOCK_PAUSE_S", 0.0)
    monkeypatch.setattr(module, "TABLE_LOCK_TRIES", 3)
    (directory / "9000_more.sql").write_text("create table more (n int); alter table app_user add column n int;")
    with pytest.raises(MigrationError, match="long reports"):
        await migrate(database_urls.owner_url, directory)
    assert await owner.fetchval("select to_regclass('more')") is None


async def test_a_migration_that_gets_into_a_deadlock_gives_way_and_begins_again(
    database_urls: DatabaseUrls, directory: Path, busy: Any, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TABLE_LOCK_MS", 30_000)
    monkeypatch.setattr(module, "TABLE_LOCK_PAUSE_S", 0.05)
    (directory / "9000_more.sql").write_text(
        "create table more (n int); alter table tenant add column n int; alter table app_user add column n int;"
    )
    migrating = asyncio.create_task(migrate(database_urls.owner_url, directory))
    waits = "select exists (select from pg_locks where locktype = 'relation' and not granted)"
    while not await owner.fetchval(waits):  # noqa: ASYNC110 - the server tells of no event
        await asyncio.sleep(0.01)
    await busy.fetch("select * from tenant", timeout=10)  # which the migration holds; it waited first, and is cut
    await busy.execute("commit")
    assert await migrating == ["9000_more"]


async def test_an_index_is_built_while_others_write_and_a_half_built_one_is_built_again(
    database_urls: DatabaseUrls, directory: Path, owner: Any
) -> None:
    text = (
        "-- concurrently\ndrop index concurrently if exists by_name;\n"
        "create index concurrently by_name on app_user (name);\n"
    )
    (directory / "9000_more.sql").write_text(text)
    await owner.execute("create index by_name on app_user (role)")  # what a crash left
    assert await migrate(database_urls.owner_url, directory) == ["9000_more"]
    assert "(name)" in await owner.fetchval("select pg_get_indexdef('by_name'::regclass)")
    assert await migrate(database_urls.owner_url, directory) == []


@pytest.mark.parametrize("url", ["postgresql://who@127.0.0.1:1/x", "postgresql://who@/x?host=/nowhere", "nonsense"])
async def test_database_that_cannot_be_reached_is_told_without_the_url(url: str) -> None:
    with pytest.raises(MigrationError, match="cannot connect to the database"):
        await migrate(url)


@pytest.mark.parametrize("name", ["1_short.sql", "9001-dash.sql", "9000_again.sql"])
def test_misnamed_or_doubled_files_are_refused(directory: Path, name: str) -> None:
    (directory / name).write_text("select 1;")
    with pytest.raises(MigrationError):
        files(directory)


async def _add_user(connection: Any, tenant: int, email: str) -> None:
    await connection.execute(
        "insert into app_user (tenant_id, public_id, email, name, role, password_hash) "
        "values ($1, $2, $3, 'Ann', 'client', 'x')",
        tenant,
        f"usr_{email}",
        email,
    )


async def test_application_sees_and_writes_rows_of_its_tenant_only(database: Database, owner: Any) -> None:
    await owner.execute("insert into tenant (public_id, name) values ('ten_b', 'other')")
    await _add_user(owner, 1, "ann@one.example")
    await _add_user(owner, 2, "bob@two.example")
    async with database.transaction(DEFAULT_TENANT) as connection:
        assert await connection.fetch("select email from app_user") == [("ann@one.example",)]
        assert await connection.fetchval("select count(*) from tenant") == 1
    async with database.transaction(ALL_TENANTS) as connection:
        assert await connection.fetchval("select count(*) from app_user") == 2
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with database.transaction(TenantId(2)) as connection:
            await _add_user(connection, 1, "eve@one.example")


async def test_transaction_without_tenant_sees_nothing(database_urls: DatabaseUrls, owner: Any) -> None:
    await _add_user(owner, 1, "ann@one.example")
    connection = await asyncpg.connect(database_urls.app_url)
    try:
        assert await connection.fetchval("select count(*) from app_user") == 0
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "statement", ["delete from app_user", "truncate app_user", "create table mine (n int)", "set role turnpike_owner"]
)
async def test_application_may_not(database: Database, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(DEFAULT_TENANT) as connection:
            await connection.execute(statement)


async def test_email_is_unique_in_a_tenant_whatever_its_case(owner: Any) -> None:
    await _add_user(owner, 1, "ann@one.example")
    with pytest.raises(asyncpg.UniqueViolationError):
        await _add_user(owner, 1, "ANN@one.example")


@pytest.fixture
def empty_url(servers: Any) -> Iterator[str]:
    """An empty database, as its owner reaches it."""
    name = "test_empty"
    postgres = servers.postgres()
    servers.run(servers._sql(f"create database {name} owner {OWNER_ROLE}"))
    try:
        yield postgres.url(OWNER_ROLE, name)
    finally:
        servers.drop_database(name)


async def up_to(url: str, directory: Path, before: str) -> None:
    """Migrate with the files of the numbers below ``before`` alone, as an earlier version did."""
    for file in files():
        if file.name < before:
            (directory / f"{file.name}.sql").write_text(file.sql)
    await migrate(url, directory)


async def test_rows_of_an_earlier_version_are_validated_beside_those_who_write(empty_url: str, tmp_path: Path) -> None:
    await up_to(empty_url, tmp_path, "0071")
    writer = await asyncpg.connect(empty_url, server_settings={"turnpike.tenant": "*"})
    try:
        await writer.execute(
            "insert into session_package (tenant_id, session_id, ordinal, package_id, reserved_ms)"
            " select 1, n, 1, 1, 60000 from generate_series(1, 1000) n"
        )
        await up_to(empty_url, tmp_path, "0087")
        await writer.execute("begin; update session_package set taken_ms = 1000 where session_id = 1")
        assert (await asyncio.wait_for(migrate(empty_url), 20))[0] == "0087_taken_packages"
        await writer.execute("update session_package set taken_ms = 2000 where session_id = 2; commit")
        assert await writer.fetch("select conname from pg_constraint where not convalidated") == []
        with pytest.raises(asyncpg.CheckViolationError, match="session_package_taken"):
            await writer.execute("update session_package set taken_ms = 60001 where session_id = 3")
    finally:
        await writer.close()


def test_what_is_added_without_a_look_at_the_rows_is_validated_by_a_later_file() -> None:
    """In one transaction the look would be taken under the lock that keeps everybody out."""
    added: dict[str, str] = {}
    for file in files():
        for name in re.findall(r"validate\s+constraint\s+(\w+)", file.sql):
            assert added.pop(name) < file.name
        for name in re.findall(r"add\s+constraint\s+(\w+)[^;]*?\bnot\s+valid", file.sql):
            added[name] = file.name
    assert added == {}
