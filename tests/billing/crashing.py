"""A database that goes away at the n-th thing that is asked of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from billing.terms import LedgerUnavailable
from config.database import Database
from config.ids import TenantId

T = TypeVar("T")
CRASHES_MAX = 200
"""No operation asks for so much."""


class CrashingDatabase(Database):
    """Counts what is asked of the database; what would be number ``fail_at`` fails as when the server dies.

    Before each statement and each commit, so that nothing of the transaction stays; and after each commit, so that all
    of it does, and nobody was told.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database._pool)
        self.fail_at: int | None = None
        self._count = 0

    def count(self) -> None:
        self._count += 1
        if self._count == self.fail_at:
            raise asyncpg.ConnectionDoesNotExistError("killed in the test")

    def begin(self, fail_at: int | None) -> None:
        """Count anew."""
        self.fail_at, self._count = fail_at, 0

    @contextlib.asynccontextmanager
    async def transaction(self, tenant: TenantId | str) -> AsyncIterator[Any]:
        self.count()
        async with super().transaction(tenant) as connection:
            yield _Connection(connection, self)
            self.count()
        self.count()


class _Connection:
    def __init__(self, connection: Any, database: CrashingDatabase) -> None:
        self._connection = connection
        self._database = database

    def __getattr__(self, name: str) -> Any:
        self._database.count()
        return getattr(self._connection, name)


async def despite_crashes(database: CrashingDatabase, operation: Callable[[], Awaitable[T]]) -> T:
    """Do something again and again, with a crash at its first call, then at its second …, until none is left."""
    for number in range(1, CRASHES_MAX):
        database.begin(number)
        try:
            return await operation()
        except LedgerUnavailable:
            continue
        finally:
            database.begin(None)
    raise AssertionError(f"still crashing after {CRASHES_MAX} attempts")
