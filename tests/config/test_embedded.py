"""The embedded servers are real, private, and come back with all data after any kill."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from config import embedded, embedded_postgres, launch
from config.connections import open_redis
from config.embedded import EmbeddedServerError, run_tool, socket_dir
from config.embedded_postgres import EmbeddedPostgres
from config.embedded_valkey import EmbeddedValkey

PASSWORD = "a-password-of-a-test"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that several tests use one after the other, as restarts would."""
    return tmp_path_factory.mktemp("d")


@pytest.fixture
async def postgres(cluster: Path) -> AsyncIterator[EmbeddedPostgres]:
    async with EmbeddedPostgres(cluster, durable=False) as server:
        await _execute(server.owner_url, "create table if not exists kept (n int primary key)")
        yield server


@pytest.fixture
async def valkey(cluster: Path) -> AsyncIterator[EmbeddedValkey]:
    async with EmbeddedValkey(cluster, PASSWORD) as server:
        yield server


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _count(url: str, n: int) -> int:
    """How often ``n`` is kept, asked until the server is back."""
    deadline = time.monotonic() + 20
    while True:
        try:
            connection = await asyncpg.connect(url)
            try:
                return int(await connection.fetchval("select count(*) from kept where n = $1", n))
            finally:
                await connection.close()
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            assert time.monotonic() < deadline, "PostgreSQL did not come back"
            await asyncio.sleep(0.05)


async def test_postgres_is_version_18_on_a_private_socket_only(postgres: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(postgres.app_url)
    try:
        assert str(await connection.fetchval("show server_version")).startswith("18.")
        assert await connection.fetchval("show listen_addresses") == ""
        assert await connection.fetchval("show data_checksums") == "on"
        assert await connection.fetchval("select current_user") == "turnpike_app"
        assert not await connection.fetchval("select rolsuper from pg_roles where rolname = current_user")
    finally:
        await connection.close()
    assert stat.S_IMODE(postgres.socket_dir.stat().st_mode) == 0o700


async def test_durable_by_default(tmp_path: Path) -> None:
    command = EmbeddedPostgres(tmp_path).command()
    assert not [part for part in command if part.startswith(("fsync=", "synchronous_commit=", "full_page_writes="))]


async def test_killed_postgres_comes_back_with_what_was_committed(postgres: EmbeddedPostgres) -> None:
    await _execute(postgres.owner_url, "insert into kept values (1)")
    killed = postgres.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    async with asyncio.timeout(20):
        while postgres.restarts == 0:  # noqa: ASYNC110 - a count of another object's, not an event
            await asyncio.sleep(0.02)
    assert await _count(postgres.owner_url, 1) == 1
    assert postgres.pid != killed


async def test_pid_file_with_somebody_elses_pid_is_no_obstacle(cluster: Path) -> None:
    (cluster / "postgres" / "postmaster.pid").write_text(
        f"{os.getpid()}\n{cluster / 'postgres'}\n1\n5432\n\n\n1 1\nready\n"
    )
    async with EmbeddedPostgres(cluster, durable=False) as server:
        assert await _count(server.owner_url, 1) == 1


async def test_second_server_on_the_same_data_is_refused(
    postgres: EmbeddedPostgres, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "START_TIMEOUT_S", 0.2)
    with pytest.raises(EmbeddedServerError, match="another postgres still runs"):
        await EmbeddedPostgres(cluster, durable=False).__aenter__()
    assert await _count(postgres.owner_url, 1) == 1


async def test_server_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "START_TIMEOUT_S", 2.0)
    monkeypatch.setitem(sys.modules["config.embedded_postgres"].SETTINGS, "max_connections", "none")
    with pytest.raises(EmbeddedServerError, match='invalid value for parameter "max_connections"'):
        await EmbeddedPostgres(tmp_path, durable=False).__aenter__()


async def test_valkey_asks_for_its_password(valkey: EmbeddedValkey) -> None:
    reader, writer = await asyncio.open_unix_connection(str(valkey.socket))
    writer.write(b"KEYS *\r\n")
    assert (await reader.readline()).startswith(b"-NOAUTH")
    writer.close()
    await writer.wait_closed()


async def test_killed_valkey_comes_back_with_its_logs_and_clients_notice_only_a_wait(valkey: EmbeddedValkey) -> None:
    client = open_redis(valkey.url)
    try:
        await client.xadd("log", {"n": 1})
        await asyncio.sleep(1.1)  # appendfsync everysec; a kill loses less than that, but the test asks for no less
        assert valkey.pid is not None
        os.kill(valkey.pid, signal.SIGKILL)
        assert await client.xlen("log") == 1
        assert valkey.restarts == 1
    finally:
        await client.aclose()


HOLDER = """
import asyncio, sys
from pathlib import Path
from config.embedded_postgres import EmbeddedPostgres
from config.embedded_valkey import EmbeddedValkey

async def main():
    data = Path(sys.argv[1])
    async with EmbeddedPostgres(data, durable=False) as postgres, EmbeddedValkey(data, sys.argv[2]) as valkey:
        print(postgres.pid, valkey.pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def _runs(pid: int) -> bool:
    """Whether the process works on; a dead one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_servers_die_with_their_killed_owner_and_start_again_at_once(cluster: Path) -> None:
    holder = subprocess.Popen(  # noqa: ASYNC220 - nothing else waits in this loop
        [sys.executable, "-c", HOLDER, str(cluster), PASSWORD], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert holder.stdout is not None
    pids = [int(word) for word in holder.stdout.readline().split()]
    assert len(pids) == 2
    await _execute(EmbeddedPostgres(cluster).owner_url, "insert into kept values (2)")
    holder.kill()
    holder.communicate()
    async with EmbeddedPostgres(cluster, durable=False) as postgres, EmbeddedValkey(cluster, PASSWORD) as valkey:
        assert await _count(postgres.owner_url, 2) == 1
        client = open_redis(valkey.url)
        assert await client.xlen("log") == 1
        await client.aclose()
        assert not set(pids) & {postgres.pid, valkey.pid}
        for pid in pids:
            assert not _runs(pid)


async def test_long_data_path_gets_a_short_private_socket_directory(tmp_path: Path) -> None:
    data = tmp_path / ("deep-" * 25)
    async with EmbeddedValkey(data, PASSWORD) as server:
        assert len(str(server.socket)) < 108
        assert not server.socket.is_relative_to(data)
        client = open_redis(server.url)
        assert await client.ping()
        await client.aclose()
        assert socket_dir(data, "run") == server.socket.parent
    server.socket.parent.rmdir()


def test_short_socket_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    data = tmp_path / ("deep-" * 25)
    short = socket_dir(data, "run")
    try:
        short.chmod(0o777)
        with pytest.raises(EmbeddedServerError, match="not a private directory"):
            socket_dir(data, "run")
    finally:
        short.rmdir()


@pytest.mark.parametrize("password", ["short", "with spaces in between", "line\nbreak-line\nbreak"])
def test_password_that_would_break_the_configuration_is_refused(tmp_path: Path, password: str) -> None:
    with pytest.raises(ValueError):
        EmbeddedValkey(tmp_path, password)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
async def test_root_without_user_namespaces_runs_postgres_as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def without_namespaces(identity: str, *rest: Any) -> int:
        return launch.EXIT_CANNOT if identity == "namespace" else await run_tool(identity, *rest)

    monkeypatch.setattr(embedded_postgres, "run_tool", without_namespaces)
    data = Path(tempfile.mkdtemp(prefix="tp-"))
    try:
        async with EmbeddedPostgres(data, durable=False) as server:
            assert server.identity == "nobody"
            await _execute(server.owner_url, "create table kept as select 7 as n")
        monkeypatch.undo()
        async with EmbeddedPostgres(data, durable=False) as server:  # namespaces work again: its files are nobody's
            assert server.identity == "nobody"
            assert await _count(server.owner_url, 7) == 1
    finally:
        shutil.rmtree(data)


async def test_data_of_another_user_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "postgres").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(EmbeddedServerError, match="belongs to the user with id"):
        await embedded_postgres.unprivileged_identity(tmp_path / "postgres")
