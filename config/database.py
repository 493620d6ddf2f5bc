"""PostgreSQL for the application: a pool whose every transaction says which tenant it is for.

Row-level security (migration 0001) shows a transaction the rows of its tenant only; a job that works across
tenants, such as the meter of a shard, says ``ALL_TENANTS``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final, cast

import asyncpg

from config.ids import TenantId

ALL_TENANTS: Final = "*"
APP_ROLE: Final = "turnpike_app"
AWAY: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InternalClientError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    OSError,
    TimeoutError,
)
"""What a transaction raises when PostgreSQL cannot be reached, is changing over, or did not get to it: try again."""
Connection = asyncpg.Connection
"""A connection inside a transaction, as ``Database.transaction`` yields it."""


async def _as_it_is(_connection: Any) -> None:
    """A connection goes back without being asked to forget: all that is done with it is local to a transaction, which
    asyncpg sees to the end of. That spares a round trip for each."""


class Database:
    """The application's connections. Use as an async context manager, or call ``close``."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, url: str, *, name: str, min_size: int = 1, max_size: int = 8) -> Database:
        """Connect as the application's role. ``name`` shows in pg_stat_activity."""

        async def init(connection: Any) -> None:
            await connection.execute(f"set role {APP_ROLE}")

        pool = await asyncpg.create_pool(
            url,
            min_size=min_size,
            max_size=max_size,
            init=init,
            reset=_as_it_is,
            command_timeout=30,
            server_settings={
                "application_name": f"turnpike-{name}",
                "idle_in_transaction_session_timeout": "30000",
                "timezone": "UTC",
            },
        )
        return cls(pool)

    async def close(self) -> None:
        """Give every connection back and close it; connections still busy after 5 s are cut."""
        try:
            async with asyncio.timeout(5):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @contextlib.asynccontextmanager
    async def transaction(self, tenant: TenantId | str) -> AsyncIterator[Any]:
        """A READ COMMITTED transaction that sees the rows of ``tenant`` (or of ``ALL_TENANTS``)."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("select set_config('turnpike.tenant', $1, true)", str(tenant))
            yield connection

    async def ping(self) -> bool:
        """Whether the server answers a trivial query."""
        async with self._pool.acquire() as connection:
            return cast(int, await connection.fetchval("select 1")) == 1
