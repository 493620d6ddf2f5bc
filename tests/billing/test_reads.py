"""What pages read of the money is found by indexes, however long the ledger has grown."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from billing import charges, finance, inspect, postings, story
from billing.charges import ChargeOrder
from billing.store import ledger
from config.clock import VirtualClock
from config.database import Database
from config.ids import TenantId
from tests.billing.conftest import TENANT, Town

GROWING = (
    *("session_charge", "session_meter", "session_terms", "session_package", "media_evidence", "transfer", "charge"),
    *("reversal", "account", "app_user", "archived_charge", "archived_movement"),
)
"""Tables that no page may read whole."""
SLOT_MS = 5_000
WEEK = 120_960


class Explaining:
    """A connection that looks at the plan of each statement before it runs it."""

    def __init__(self, connection: Any, read_whole: set[str]) -> None:
        self._connection = connection
        self._read_whole = read_whole

    async def _explain(self, statement: str, values: tuple[Any, ...]) -> None:
        if statement.startswith("set "):
            return
        (row,) = await self._connection.fetch("explain (format json) " + statement, *values)
        for node in nodes(json.loads(row[0])[0]["Plan"]):
            table = node.get("Relation Name", "")
            found = "Index Cond" in node or "Recheck Cond" in node or node.get("Index Name") == "session_meter_open"
            if table.startswith(GROWING) and table != "session_charge_other" and not found:
                self._read_whole.add(f"{table}: {node['Node Type']} in {statement}")

    async def execute(self, statement: str, *values: Any) -> Any:
        return await self._connection.execute(statement, *values)

    async def fetch(self, statement: str, *values: Any) -> Any:
        await self._explain(statement, values)
        return await self._connection.fetch(statement, *values)

    async def fetchrow(self, statement: str, *values: Any) -> Any:
        await self._explain(statement, values)
        return await self._connection.fetchrow(statement, *values)

    async def fetchval(self, statement: str, *values: Any) -> Any:
        await self._explain(statement, values)
        return await self._connection.fetchval(statement, *values)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@pytest.fixture
def read_whole(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What was read without an index, while PostgreSQL uses one wherever it can."""
    found: set[str] = set()

    @contextlib.asynccontextmanager
    async def explaining(database: Database, tenant: TenantId | str) -> AsyncIterator[Any]:
        async with ledger(database, tenant) as connection:
            await connection.execute("set local enable_seqscan = off")
            yield Explaining(connection, found)

    for module in (story, finance, inspect, charges):
        monkeypatch.setattr(module, "ledger", explaining)
    return found


async def a_session_with_a_gift(town: Town, owner: Any) -> Any:
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    public: Any = await owner.fetchval("select public_id from app_user where id = $1", provider)
    order = ChargeOrder(TENANT, client, "gift", 500, "USD", public, ref.session_public_id, "A rose", "gift-1")
    await town.billing.charge(order)
    await town.billing.settle(TENANT, ref.session_id, 1, 60_000)
    await town.evidence(ref, 60_000)
    return ref


Read = Callable[[Town, Any, str], Awaitable[Any]]
READS: dict[str, Read] = {
    "time line": lambda town, ref, _: story.read(town.database, TENANT, ref.session_id),
    "earnings": lambda town, ref, _: finance.read_earned(town.database, TENANT, ref.provider_id),
    "extras of a receipt": lambda town, ref, _: town.billing.extras(TENANT, ref.session_public_id),
    "ledger of a user": lambda town, _, user: inspect.look(town.database, "account", user, TENANT),
    "ledger of a session": lambda town, ref, _: inspect.look(town.database, "session", ref.session_public_id, TENANT),
    "ledger of a transfer": lambda town, ref, _: inspect.look(town.database, "transfer", "trf_of_test", TENANT),
}


@pytest.mark.parametrize("name", READS)
async def test_pages_read_by_index_only(name: str, town: Town, owner: Any, read_whole: set[str]) -> None:
    ref = await a_session_with_a_gift(town, owner)
    user = await owner.fetchval("select public_id from app_user where id = $1", ref.client_id)
    await READS[name](town, ref, user)
    assert read_whole == set()


async def test_a_house_account_is_not_added_up_over_http(town: Town, owner: Any, read_whole: set[str]) -> None:
    await a_session_with_a_gift(town, owner)
    house = await owner.fetchval("select id from account where kind = 'platform_revenue' and posted_minor > 0 limit 1")
    report = await inspect.look(town.database, "account", str(house), TENANT)
    assert report is not None
    assert (report["history"], len(report["accounts"])) == ([], 1)
    assert read_whole == set()
    whole = await inspect.look(town.database, "account", str(house), whole=True)
    assert whole is not None
    assert whole["history"][0]["agrees"] is True


async def test_both_ways_of_adding_an_account_up_agree(town: Town, owner: Any) -> None:
    ref = await a_session_with_a_gift(town, owner)
    for user_id in (ref.client_id, ref.provider_id):
        user = await owner.fetchval("select public_id from app_user where id = $1", user_id)
        quick = await inspect.look(town.database, "account", user, TENANT)
        whole = await inspect.look(town.database, "account", user, whole=True)
        assert quick is not None
        assert whole is not None
        assert [row["agrees"] for row in (*quick["history"], *whole["history"])] == [True, True]


async def test_a_time_line_opens_only_the_partitions_of_its_session(
    town: Town, clock: VirtualClock, owner: Any
) -> None:
    slot = clock.wall_ms() // SLOT_MS
    for week in range(-3, 3):
        await owner.execute("select ensure_charge_partition($1)", slot + week * WEEK)
    for week in range(-3, 3):  # others talk in every week
        clock.step_wall_ms(week * WEEK * SLOT_MS)
        other = await town.open(await town.client(5_000), await town.provider())
        await town.billing.settle(TENANT, other.session_id, 1, 60_000)
        clock.step_wall_ms(-week * WEEK * SLOT_MS)
    ref = await town.open(await town.client(5_000), await town.provider())
    await owner.execute(
        "update session_meter set opened_at = to_timestamp($2) where session_id = $1", ref.session_id, slot * 5
    )
    await town.billing.settle(TENANT, ref.session_id, 1, 60_000)
    async with town.database.transaction(TENANT) as connection:
        (row,) = await connection.fetch("explain (analyze, format json) " + postings._READ, TENANT, ref.session_id)
        (posting,) = await postings.read_postings(connection, TENANT, ref.session_id)
    read = {
        node["Relation Name"]
        for node in nodes(json.loads(row[0])[0]["Plan"])
        if node.get("Relation Name", "").startswith("session_charge") and node["Actual Loops"] > 0
    }
    assert read == {f"session_charge_{slot // WEEK}"}
    assert (posting["slot"], posting["amount_minor"], posting["leg"]) == (slot, 199, 1)
    money = await story.read(town.database, TENANT, ref.session_id)
    assert money is not None
    assert [move.amount_minor for move in money.movements if move.what == "settled"] == [199]
