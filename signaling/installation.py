"""The servers of an installation: those of the URLs in its settings, embedded ones for URLs that are not set.

Where the embedded servers listen follows from the data directory alone, so that a command run beside ``serve`` finds
them (``beside``), and one run without it starts what it needs for its own time (``servers``).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from config.embedded import EmbeddedServer
from config.embedded_postgres import EmbeddedPostgres
from config.embedded_valkey import EmbeddedValkey
from config.settings import Settings
from signaling.info import ServerInfo


def _valkey(settings: Settings) -> EmbeddedValkey:
    return EmbeddedValkey(settings.data, settings.secret("valkey").hex())


def beside(settings: Settings) -> Settings:
    """The settings with the URLs of the embedded servers that a running ``serve`` has started."""
    postgres = EmbeddedPostgres(settings.data)
    return settings.model_copy(
        update={
            "database_url": settings.database_url or postgres.app_url,
            "database_owner_url": settings.database_owner_url or settings.database_url or postgres.owner_url,
            "redis_url": settings.redis_url or _valkey(settings).url,
        }
    )


class Servers:
    """The embedded servers that run, and the settings that lead to all servers."""

    def __init__(self, settings: Settings, embedded: list[EmbeddedServer]) -> None:
        self.settings = settings
        self.embedded = embedded

    def describe(self) -> list[ServerInfo]:
        """Both servers, for the run file."""
        running = {server.name: server for server in self.embedded}
        found = []
        for name in ("postgres", "valkey"):
            server = running.get(name)
            if server is None:
                found.append(ServerInfo(name=name, embedded=False))
                continue
            found.append(
                ServerInfo(
                    name=name,
                    embedded=True,
                    pid=server.pid,
                    version=server.version,
                    socket=server.place,
                    restarts=server.restarts,
                )
            )
        return found


@contextlib.asynccontextmanager
async def servers(settings: Settings, *, bus: bool = True) -> AsyncIterator[Servers]:
    """Start the embedded servers that are needed, for the time of the ``async with``.

    ``bus`` False: no Valkey. The caller holds the data directory's lock. Raises ``EmbeddedServerError``.
    """
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    embedded: list[EmbeddedServer] = []
    async with contextlib.AsyncExitStack() as exits:
        if settings.database_url is None:
            embedded.append(await exits.enter_async_context(EmbeddedPostgres(settings.data)))
        if settings.redis_url is None and bus:
            embedded.append(await exits.enter_async_context(_valkey(settings)))
        yield Servers(beside(settings), embedded)
