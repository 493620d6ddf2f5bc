"""A connection that goes back to the pool leaves nothing behind for whoever gets it next."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from config.database import Database
from config.ids import DEFAULT_TENANT, TenantId
from tests.conftest import DatabaseUrls

TENANT = "select current_setting('turnpike.tenant', true)"


@pytest.fixture
async def single(database_urls: DatabaseUrls) -> Any:
    """A pool of one connection."""
    async with await Database.open(database_urls.app_url, name="test", max_size=1) as opened:
        yield opened


async def _left(single: Database) -> tuple[str, str]:
    """(tenant, role) of the connection outside of any transaction."""
    async with single._pool.acquire() as connection:
        assert not connection.is_in_transaction()
        return await connection.fetchval(TENANT) or "", await connection.fetchval("select current_user")


async def test_the_tenant_ends_with_the_transaction(single: Database) -> None:
    async with single.transaction(TenantId(7)) as connection:
        assert await connection.fetchval(TENANT) == "7"
        await connection.execute("set local lock_timeout = 5")
    assert await _left(single) == ("", "turnpike_app")


async def test_a_transaction_that_fails_is_undone_before_the_connection_goes_on(single: Database) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with single.transaction(DEFAULT_TENANT) as connection:
            await connection.execute("select 1 / 0")
    assert await _left(single) == ("", "turnpike_app")


async def test_a_transaction_that_is_cancelled_is_undone_before_the_connection_goes_on(single: Database) -> None:
    began = asyncio.Event()

    async def slow() -> None:
        async with single.transaction(DEFAULT_TENANT) as connection:
            began.set()
            await connection.execute("select pg_sleep(30)")

    task = asyncio.create_task(slow())
    await began.wait()
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await _left(single) == ("", "turnpike_app")
