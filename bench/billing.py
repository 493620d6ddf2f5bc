"""What the ledger bears (``make bench-billing``): 10,000 live sessions on the embedded PostgreSQL, fsync on.

Three measurements, all through the product's own ``Meter`` on a virtual clock:

- *worst case*: every session is due in every tick, while wallets are topped up side by side in the same process.
  ``tick_ms`` is all of ``Meter.tick``: what it reads, decides, posts, and tells. ``transfers_per_s`` counts one row a
  session, though each moves money from the client to provider and platform.
- *one transaction per session* over 10 connections: the same statement, given one session at a time.
- *steady state*: evidence every five seconds, each session posting once a minute at a time of its own.
  ``mb_per_hour`` is how much the tables and indexes grew; what went through the log is told beside it.

At the end the books are proved. Prints JSON as its last line.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import time
from collections.abc import Callable
from typing import Any, Final

import uvloop

from bench.billing_town import Town, town
from bench.machine import announce, say
from billing import meter_store
from billing.meter import Meter
from billing.meter_store import SLOT_MS
from billing.reconcile import examine
from billing.terms import TickInput, Wallet
from config.database import Database
from config.ids import DEFAULT_TENANT, SHARDS, SessionId
from config.process import calm_collector
from relay.messages import MediaEvidence

TICK_MS: Final = 5_000
CONNECTIONS: Final = 10
TOPUP_PAUSE_S: Final = 0.005
GROWTH: Final = """
select coalesce(sum(pg_relation_size(c.oid)), 0)::bigint, pg_current_wal_insert_lsn() - '0/0'::pg_lsn
from pg_class c where c.relkind in ('r', 'i', 't') and c.relnamespace = 'public'::regnamespace
"""


def percentile(values: list[float], share: float) -> float:
    """The value below or at which this share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Bench:
    """One run."""

    def __init__(self, made: Town) -> None:
        self.town = made
        self.leases = {shard: 0 for shard in range(SHARDS)}
        self.live_ms = dict.fromkeys(made.sessions, 0)
        self.meter = Meter(made.database, made.clock, made.billing.settings)
        self._seq = 0

    async def lease(self) -> None:
        """Lease all shards for the whole run."""
        hour = datetime.timedelta(hours=1)
        self.leases = await meter_store.lease_shards(self.town.database, "bench", hour)
        if len(self.leases) != SHARDS:
            raise RuntimeError(f"only {len(self.leases)} shards leased")

    def evidence(self, more_ms: Callable[[SessionId], int]) -> None:
        """What the workers say: each session was live for so much longer."""
        self._seq += 1
        for session_id in self.town.sessions:
            self.live_ms[session_id] += more_ms(session_id)
            self.meter.take(
                MediaEvidence(
                    tenant_id=DEFAULT_TENANT,
                    session_id=session_id,
                    epoch=1,
                    worker_id="bench",
                    at_ms=self.town.clock.wall_ms(),
                    seq=self._seq,
                    live_ms=self.live_ms[session_id],
                    granted_live_ms=10**9,
                    running=True,
                )
            )

    async def tick(self) -> float:
        """One tick of the meter; how long it took, in ms."""
        started = time.perf_counter()
        outcomes = await self.meter.tick(self.leases, self.town.clock.monotonic_ns())
        took_ms = (time.perf_counter() - started) * 1000
        if len(outcomes) != len(self.town.sessions):
            raise RuntimeError(f"{len(outcomes)} outcomes of {len(self.town.sessions)} sessions")
        return took_ms

    async def rows(self) -> int:
        """Postings so far."""
        return int(await self.town.owner.fetchval("select count(*) from session_charge"))

    # --- the three measurements

    async def worst(self, ticks: int) -> tuple[list[float], list[float], int]:
        """Every session due in every tick, and top-ups meanwhile: (ms a tick, ms a top-up, postings)."""
        before = await self.rows()
        took: list[float] = []
        topups: list[float] = []
        running = asyncio.Event()
        tops = asyncio.create_task(self._top_up(topups, running))
        for number in range(ticks):
            self.town.clock.advance_ms(60_000)
            self.evidence(lambda _: 60_000)
            await asyncio.sleep(0.02)
            running.set()
            took.append(await self.tick())
            running.clear()
            if number % 20 == 19:
                say(f"worst case: {number + 1} of {ticks} ticks, p50 {percentile(took, 0.5):.0f} ms")
        tops.cancel()
        await asyncio.gather(tops, return_exceptions=True)
        return took, topups, await self.rows() - before

    async def _top_up(self, took: list[float], running: asyncio.Event) -> None:
        """Top up one wallet after the other; those that begin during a tick count."""
        number = 0
        while True:
            await running.wait()
            client = self.town.clients[number * 7_919 % len(self.town.clients)]
            number += 1
            started = time.perf_counter()
            answer = await self.town.billing.top_up(DEFAULT_TENANT, client, 100, f"bench{number}", "Bench")
            took.append((time.perf_counter() - started) * 1000)
            if not isinstance(answer, Wallet):
                raise RuntimeError(f"top-up refused: {answer}")
            await asyncio.sleep(TOPUP_PAUSE_S)

    async def one_by_one(self, rounds: int) -> list[float]:
        """The same posting, a transaction for each session over ten connections: ms for all of them."""
        took = []
        async with await Database.open(
            self.town.postgres.app_url, name="bench-single", min_size=CONNECTIONS, max_size=CONNECTIONS
        ) as database:
            for _ in range(rounds):
                self.town.clock.advance_ms(60_000)
                slot = self.town.clock.wall_ms() // SLOT_MS
                inputs = []
                for session_id in self.town.sessions:
                    self.live_ms[session_id] += 60_000
                    lease = self.leases[session_id % SHARDS]
                    inputs.append(TickInput(session_id, 1, 0, self.live_ms[session_id], lease))
                todo = iter(inputs)
                started = time.perf_counter()

                async def work(todo: Any = todo, slot: int = slot) -> None:
                    for one in todo:
                        (result,) = await meter_store.tick(database, [one], slot, self.town.billing.settings.grant_ms)
                        if result.status != "ok":
                            raise RuntimeError(f"session {one.session_id}: {result.status}")

                await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
                took.append((time.perf_counter() - started) * 1000)
                say(f"one transaction per session: {took[-1]:.0f} ms for {len(inputs)}")
        self.meter = Meter(self.town.database, self.town.clock, self.town.billing.settings)
        return took

    async def steady(self, minutes: int) -> tuple[float, float, list[float]]:
        """So many minutes of calls: (MB an hour in tables and indexes, the same in the log, ms a tick)."""
        took: list[float] = []
        for warming in (True, False):
            # Posted all at once before: the first two minutes are for sessions to drift apart and tables to settle.
            if not warming:
                await self.town.owner.execute("vacuum")
                size, log = await self.town.owner.fetchrow(GROWTH)
                took.clear()
            for _ in range((2 if warming else minutes) * 60_000 // TICK_MS):
                self.town.clock.advance_ms(TICK_MS)
                self.evidence(lambda _: TICK_MS)
                took.append(await self.tick())
            say(f"steady state{', warming up' if warming else ''}: p50 {percentile(took, 0.5):.0f} ms a tick")
        grown, logged = await self.town.owner.fetchrow(GROWTH)
        hours = minutes / 60
        return (grown - size) / 1e6 / hours, float(logged - log) / 1e6 / hours, took


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The whole run; returns the figures."""
    started = time.monotonic()
    async with town(options.sessions, options.seed) as made:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            async with made.database.transaction("*") as connection:
                if await connection.fetchval(f"show {name}") != "on":
                    raise RuntimeError(f"{name} is off")
        say(f"{options.sessions} sessions made in {time.monotonic() - started:.0f} s")
        bench = Bench(made)
        await bench.lease()
        took, topups, posted = await bench.worst(options.ticks)
        single = await bench.one_by_one(options.rounds)
        growth, log, calm = await bench.steady(options.minutes)
        say(f"steady state: {growth:.0f} MB an hour in tables and indexes, {log:.0f} MB an hour through the log")
        say(f"steady tick: p50 {percentile(calm, 0.5):.0f} ms, p99 {percentile(calm, 0.99):.0f} ms")
        say(f"worst tick: {max(took):.0f} ms; top-ups: {len(topups)}, p50 {percentile(topups, 0.5):.1f} ms")
        # The workers of this bench keep no journal, so the check that compares with it has nothing to say.
        wrong = [f"{one.name}: {one.rows[:2]}" for one in await examine(made.database) if one.disagreeing]
        if wrong:
            raise RuntimeError(f"the books are wrong: {wrong}")
        say(f"the books are right; {time.monotonic() - started:.0f} s in all")
    p50 = percentile(took, 0.5)
    return {
        "sessions": options.sessions,
        "tick_ms_p50": round(p50, 1),
        "tick_ms_p99": round(percentile(took, 0.99), 1),
        "topup_ms_p99": round(percentile(topups, 0.99), 1),
        "transfers_per_s": round(posted / (sum(took) / 1000)),
        "per_call_transaction_ms": round(percentile(single, 0.5), 1),
        "ratio": round(percentile(single, 0.5) / p50, 1),
        "mb_per_hour": round(growth, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--ticks", type=int, default=120, help="ticks in which every session posts")
    parser.add_argument("--rounds", type=int, default=2, help="passes of one transaction per session")
    parser.add_argument("--minutes", type=int, default=10, help="of steady state, on a virtual clock")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    announce("asyncpg", PostgreSQL="18 (embedded, fsync on)")
    calm_collector()  # and uvloop: as every process of the product
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(measure(options))))


if __name__ == "__main__":
    main()
