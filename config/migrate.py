"""Bring the database up to date: plain SQL files, applied once each, in order, by one process at a time.

A file ``migrations/NNNN_name.sql`` runs in a transaction of its own and is remembered with its SHA-256, so that a
file that was edited after it had been applied is noticed. Several processes may migrate at once: an advisory lock,
asked for again and again, lets one work. (A lock that is waited for would hold a snapshot, and so deadlock with
``create index concurrently``.)

An older version may be at work meanwhile. Whoever waits for a table's lock makes all others wait behind it, so a file
waits ``TABLE_LOCK_MS`` at a time, is rolled back, lets the others by, and begins again; so it does where it and others
each wait for a table that the other one holds. A file whose first line is ``-- concurrently`` runs outside of a
transaction, statement by statement (each ends with ``;`` at a line's end): for ``create index concurrently``. It must
be fit to be begun again, as after a crash in its middle.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg

from config.database import APP_ROLE
from config.logs import get_log

__all__ = ["APP_ROLE", "DATABASE", "OWNER_ROLE", "MigrationError", "files", "migrate", "prepare_server"]

OWNER_ROLE = "turnpike_owner"
DATABASE = "turnpike"
DIRECTORY = Path(__file__).with_name("migrations")
LOCK_KEY = 0x7475726E70696B65
"""The advisory lock's key: "turnpike" as eight bytes."""
LOCK_POLL_S = 0.1
LOCK_TIMEOUT_S = 120.0
TABLE_LOCK_MS = 2_000
"""How long a file waits for a table, and with it everybody who comes after."""
TABLE_LOCK_PAUSE_S = 1.0
TABLE_LOCK_TRIES = 30
CONCURRENTLY = "-- concurrently\n"

log = get_log("config.migrate")


class MigrationError(Exception):
    """The database cannot be brought up to date; the message says what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class MigrationFile:
    """One file: its name (``0001_base``), text and SHA-256 in hexadecimal."""

    name: str
    sql: str
    sha256: str


def files(directory: Path = DIRECTORY) -> list[MigrationFile]:
    """All migrations in order. Raises ``MigrationError`` on a misnamed file or a number used twice."""
    found: dict[str, MigrationFile] = {}
    for path in sorted(directory.glob("*.sql")):
        if re.fullmatch(r"\d{4}_[a-z0-9_]+", path.stem) is None:
            raise MigrationError(f"{path.name} is not named NNNN_name.sql")
        number = path.stem[:4]
        if number in found:
            raise MigrationError(f"{path.name} and {found[number].name}.sql have the same number")
        content = path.read_bytes()
        found[number] = MigrationFile(path.stem, content.decode(), hashlib.sha256(content).hexdigest())
    return list(found.values())


async def migrate(owner_url: str, directory: Path = DIRECTORY) -> list[str]:
    """Apply what is pending; returns the names applied. Idempotent, and safe to run from many processes at once."""
    wanted = files(directory)
    try:
        connection = await asyncpg.connect(owner_url, server_settings={"application_name": "turnpike-migrate"})
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise MigrationError(f"cannot connect to the database as the role that migrates: {error}") from error
    try:
        async with _lock(connection):
            return await _apply(connection, wanted)
    finally:
        await connection.close()


async def _apply(connection: Any, wanted: list[MigrationFile]) -> list[str]:
    await connection.execute(
        "create table if not exists schema_migration ("
        " name text primary key, sha256 text not null, applied_at timestamptz not null default now())"
    )
    # Migrations that move rows see those of every tenant.
    await connection.execute("set turnpike.tenant = '*'")
    applied = {row["name"]: row["sha256"] for row in await connection.fetch("select * from schema_migration")}
    unknown = sorted(applied.keys() - {file.name for file in wanted})
    if unknown:
        raise MigrationError(
            f"the database has migrations that this version does not know ({', '.join(unknown)}): it was used by a "
            "newer version; run that one"
        )
    for file in wanted:
        if applied.get(file.name, file.sha256) != file.sha256:
            raise MigrationError(
                f"migration {file.name} was changed after it had been applied; restore the file, and put the change "
                "into a new one"
            )
    pending = [file for file in wanted if file.name not in applied]
    for file in pending:
        try:
            await _run(connection, file)
        except asyncpg.PostgresError as error:
            raise MigrationError(f"migration {file.name} failed: {error}") from error
        log.info("migration applied", name=file.name)
    return [file.name for file in pending]


async def _run(connection: Any, file: MigrationFile) -> None:
    """Apply one file and remember it; waits for tables in short stretches."""
    if file.sql.startswith(CONCURRENTLY):
        for statement in filter(str.strip, re.split(r";\s*\n", file.sql)):
            await connection.execute(statement)
        await connection.execute(_REMEMBER, file.name, file.sha256)
        return
    for left in reversed(range(TABLE_LOCK_TRIES)):
        try:
            async with connection.transaction():
                await connection.execute(f"set local lock_timeout = {TABLE_LOCK_MS}")
                await connection.execute(file.sql)
                await connection.execute(_REMEMBER, file.name, file.sha256)
            return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            if not left:
                raise MigrationError(
                    f"migration {file.name} did not get its tables in {TABLE_LOCK_TRIES} tries: something holds them "
                    "for longer than two seconds at a time; see that long reports and backups end, and start again"
                ) from error
            log.warning("migration waits for a table", name=file.name, tries_left=left)
        await asyncio.sleep(TABLE_LOCK_PAUSE_S)


_REMEMBER = "insert into schema_migration (name, sha256) values ($1, $2)"


@contextlib.asynccontextmanager
async def _lock(connection: Any) -> AsyncIterator[None]:
    """Hold the advisory lock, asked for every ``LOCK_POLL_S``; gives up after ``LOCK_TIMEOUT_S``."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while not await connection.fetchval("select pg_try_advisory_lock($1)", LOCK_KEY):
        if time.monotonic() > deadline:
            raise MigrationError(f"another process has been migrating for {LOCK_TIMEOUT_S:.0f} s; see that it ends")
        await asyncio.sleep(LOCK_POLL_S)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("select pg_advisory_unlock($1)", LOCK_KEY)


async def prepare_server(admin_url: str) -> None:
    """Make both roles and the database on a server of ours, as its administrator. Idempotent."""
    connection = await asyncpg.connect(admin_url, server_settings={"application_name": "turnpike-prepare"})
    try:
        for role in (OWNER_ROLE, APP_ROLE):
            if not await connection.fetchval("select 1 from pg_roles where rolname = $1", role):
                await connection.execute(f"create role {role} login")
        if not await connection.fetchval("select 1 from pg_database where datname = $1", DATABASE):
            await connection.execute(f"create database {DATABASE} owner {OWNER_ROLE}")
        # Said again each time: an earlier start may have been killed right after it had made the database.
        await connection.execute(f"revoke all on database {DATABASE} from public")
        await connection.execute(f"grant connect on database {DATABASE} to {APP_ROLE}")
    finally:
        await connection.close()
