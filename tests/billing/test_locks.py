"""The order of locks, and what keeps postings cheap: both are easily lost by a well-meant change of the SQL."""

from __future__ import annotations

import asyncio
import datetime
import re
from typing import Any

import asyncpg
import pytest

from billing import meter_store
from billing.meter_store import lane_of
from billing.store import CLIENT_WALLET, LANES, PROVIDER_EARNINGS
from billing.terms import LedgerUnavailable, SessionRef, TickInput, TickResult
from config.database import Database
from config.ids import UserId
from tests.billing.conftest import Town, books
from tests.conftest import DatabaseUrls

PROVIDERS = 9
ORDERED_LOCKS = re.compile(r"perform 1 from account a where a\.id = any \(v_(?:users|house)\)[^;]*;")


async def crossing(town: Town, owner: Any) -> tuple[list[list[SessionRef]], list[int]]:
    """For each lane a session with every provider: those of one lane in the order of their wallets, those of the other
    in the opposite one. And the providers' accounts, in order."""
    providers = [await town.provider() for _ in range(PROVIDERS)]
    lanes: list[list[UserId]] = [[] for _ in range(LANES)]
    while min(map(len, lanes)) < PROVIDERS:
        client = await town.client(5_000)
        wallet = await owner.fetchval("select id from account where user_id = $1 and kind = $2", client, CLIENT_WALLET)
        lanes[lane_of(wallet)].append(client)
    orders = (providers, providers[::-1])
    refs = [
        [await town.open(client, provider) for client, provider in zip(lane, order, strict=False)]
        for lane, order in zip(lanes, orders, strict=True)
    ]
    rows = await owner.fetch("select id from account where kind = $1 order by id", PROVIDER_EARNINGS)
    return refs, [row["id"] for row in rows]


async def both_lanes_at_once(town: Town, owner: Any, urls: DatabaseUrls) -> list[list[TickResult] | BaseException]:
    """Tick both lanes while somebody holds the provider in the middle, and let go once both wait."""
    refs, accounts = await crossing(town, owner)
    leases = await meter_store.lease_shards(town.database, "me", datetime.timedelta(minutes=1))
    gate = await asyncpg.connect(urls.owner_url, server_settings={"turnpike.tenant": "*"})
    async with await Database.open(urls.app_url, name="lanes", min_size=2) as database:
        held = gate.transaction()
        await held.start()
        await gate.execute("select 1 from account where id = $1 for update", accounts[PROVIDERS // 2])
        ticks = [
            asyncio.create_task(
                meter_store.tick(
                    database,
                    [TickInput(ref.session_id, 1, 0, 60_000, leases[ref.session_id % 64]) for ref in lane],
                    1,
                    90_000,
                )
            )
            for lane in refs
        ]
        for _ in range(2_000):
            if await owner.fetchval("select count(*) from pg_locks where not granted") == len(ticks):
                break
            await asyncio.sleep(0.01)
        await held.rollback()
        answers = await asyncio.gather(*ticks, return_exceptions=True)
    await gate.close()
    return list(answers)


async def test_lanes_that_share_providers_wait_for_each_other_and_never_deadlock(
    town: Town, owner: Any, database_urls: DatabaseUrls
) -> None:
    answers = await both_lanes_at_once(town, owner, database_urls)
    assert [[one.status for one in lane] for lane in answers if isinstance(lane, list)] == [["ok"] * PROVIDERS] * 2
    await books(owner)


async def test_without_the_ordered_locks_the_same_lanes_deadlock(
    town: Town, owner: Any, database_urls: DatabaseUrls
) -> None:
    """That the test above can fail."""
    source = await owner.fetchval("select pg_get_functiondef('meter_tick'::regproc)")
    assert len(ORDERED_LOCKS.findall(source)) == 2
    await owner.execute(ORDERED_LOCKS.sub("", source))
    answers = await both_lanes_at_once(town, owner, database_urls)
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(failed) == 1
    assert isinstance(failed[0], LedgerUnavailable)
    assert "Deadlock" in str(failed[0])


@pytest.mark.parametrize(
    ("table", "changing"),
    [
        ("account", ("posted_minor", "held_minor", "promo_minor")),
        (
            "session_meter",
            ("live_ms", "billed_through_ms", "granted_ms", "posted_minor", "held_minor", "last_slot", "posted_at"),
        ),
    ],
)  # fmt: skip
async def test_no_index_names_what_every_posting_changes(owner: Any, table: str, changing: tuple[str, ...]) -> None:
    """Not even in its condition: PostgreSQL could update no row of the table in place then, and each posting would
    cost an entry in every index (measured: twice the time of a tick)."""
    indexes = await owner.fetch("select indexdef from pg_indexes where tablename = $1", table)
    assert len(indexes) > 2
    for row in indexes:
        assert not set(re.findall(r"\w+", row["indexdef"].split(" USING ")[1])) & set(changing), row["indexdef"]
