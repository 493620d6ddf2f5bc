"""Shard leases among control processes, in PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

from billing.leases import LEASE_TTL_MS, Leases
from config.clock import VirtualClock
from config.database import Database
from config.ids import SHARDS


def _disjoint(*held: dict[int, int]) -> bool:
    return sum(len(one) for one in held) == len(set().union(*held))


async def test_one_process_leads_all_shards_and_keeps_its_epochs(database: Database, clock: VirtualClock) -> None:
    leases = Leases(database, clock, "a")
    first = await leases.refresh()
    assert first == dict.fromkeys(range(SHARDS), 1)
    assert await leases.refresh() == first == leases.held


async def test_several_processes_come_to_fair_shares(database: Database, clock: VirtualClock) -> None:
    all_of_them = [Leases(database, clock, name) for name in "abc"]
    for _ in range(3):
        for leases in all_of_them:
            await leases.refresh()
            assert _disjoint(*(other.held for other in all_of_them if other is not leases))
    shares = [leases.held for leases in all_of_them]
    assert _disjoint(*shares)
    assert sorted(len(share) for share in shares) == [20, 22, 22]


async def test_racing_processes_never_hold_one_shard_at_one_epoch(database: Database, clock: VirtualClock) -> None:
    all_of_them = [Leases(database, clock, name) for name in "abcd"]
    for _ in range(5):
        await asyncio.gather(*(leases.refresh() for leases in all_of_them))
    assert sum(len(leases.held) for leases in all_of_them) == SHARDS
    assert _disjoint(*(leases.held for leases in all_of_them))


async def test_the_leases_of_a_dead_process_pass_on_with_a_higher_epoch(
    database: Database, clock: VirtualClock, owner: Any
) -> None:
    dead, heir = Leases(database, clock, "dead"), Leases(database, clock, "heir")
    await dead.refresh()
    assert await heir.refresh() == {}
    await owner.execute("update shard_lease set expires_at = clock_timestamp() - interval '1 s'")
    await owner.execute("update shard_owner set expires_at = clock_timestamp() - interval '1 s' where owner = 'dead'")
    assert await heir.refresh() == dict.fromkeys(range(SHARDS), 2)
    assert await dead.refresh() == {}


async def test_a_server_clock_set_back_does_not_lock_shards_for_an_hour(
    database: Database, clock: VirtualClock, owner: Any
) -> None:
    await Leases(database, clock, "before").refresh()
    await owner.execute("update shard_lease set expires_at = expires_at + interval '1 hour'")
    await owner.execute("update shard_owner set expires_at = expires_at + interval '1 hour'")
    assert len(await Leases(database, clock, "after").refresh()) == SHARDS


async def test_released_leases_are_free_at_once(database: Database, clock: VirtualClock) -> None:
    leaving, staying = Leases(database, clock, "leaving"), Leases(database, clock, "staying")
    await leaving.refresh()
    await leaving.release()
    assert leaving.held == {}
    assert len(await staying.refresh()) == SHARDS


async def test_leases_that_cannot_be_renewed_run_out_on_our_side(database: Database, clock: VirtualClock) -> None:
    leases = Leases(database, clock, "a")
    held = await leases.refresh()
    await database.close()
    clock.advance_ms(2_000)
    assert await leases.refresh() == held
    clock.advance_ms(LEASE_TTL_MS - 2_000)
    assert leases.held == {}
    assert await leases.refresh() == {}
    await leases.release()
