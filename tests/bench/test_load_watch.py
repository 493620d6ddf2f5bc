"""What counts as late evidence."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from redis.asyncio import Redis

from bench.load_watch import Timeliness, Witness
from relay.messages import MediaEvidence
from relay.messages_json import encode


def evidence(session_id: int, at_ms: int, **more: Any) -> MediaEvidence:
    fields: dict[str, Any] = {"tenant_id": 1, "epoch": 1, "worker_id": "w", "seq": 1, "live_ms": 0, "running": True}
    return MediaEvidence(**{**fields, "session_id": session_id, "at_ms": at_ms, "granted_live_ms": 0, **more})


def test_late_on_the_bus_and_late_by_the_stamps_are_told_apart() -> None:
    counted = Timeliness()
    for second in range(1, 4):
        counted.take(evidence(7, second * 1_000), second * 1_000 + 5)
    assert (counted.late, counted.late_stamped, counted.seen) == (0, 0, 3)
    counted.take(evidence(7, 4_000), 4_800)  # stamped in time, and long on its way
    assert (counted.late, counted.late_stamped) == (1, 0)
    counted.take(evidence(7, 5_700), 5_705)  # stamped late, and not so long after the one before
    assert (counted.late, counted.late_stamped) == (1, 1)
    assert counted.way_ms(0.5) == 5
    assert counted.way_ms(0.99) == 800


def test_evidence_that_is_behind_by_as_much_each_time_is_late() -> None:
    counted = Timeliness()
    for second in range(1, 4):
        counted.take(evidence(7, second * 1_000), second * 1_000 + 2_000)
    assert (counted.late, counted.late_stamped, counted.seen) == (3, 0, 3)


def test_evidence_that_stops_is_late() -> None:
    counted = Timeliness()
    counted.take(evidence(7, 1_000), 1_000)
    counted.take(evidence(8, 1_000), 1_000)
    counted.begin({7, 8}, 1_100)
    counted.take(evidence(7, 2_000), 2_000)
    counted.end(2_400)
    assert counted.late == 0
    counted.end(2_600)
    assert counted.late == 1


def test_a_call_that_has_ended_is_not_waited_for() -> None:
    counted = Timeliness()
    counted.take(evidence(7, 1_000), 1_000)
    counted.take(evidence(7, 1_200, final=True), 1_200)
    counted.end(9_000)
    assert (counted.late, counted.sessions) == (0, 0)


def test_what_is_told_out_of_turn_puts_off_nothing() -> None:
    counted = Timeliness()
    counted.take(evidence(7, 1_000), 1_000)
    counted.take(evidence(7, 2_000, at_once=True), 2_000)
    counted.take(evidence(7, 2_600), 2_600)
    assert counted.late == 1


async def test_the_witness_misses_nothing_however_soon_it_is_taken_away(redis: Redis, redis_url: str) -> None:
    with Witness(redis_url) as witness:
        for _ in range(20):
            body = encode(evidence(7, int(time.time() * 1000), worker_id='a "quoted" \\ name'))
            entry = await redis.xadd("tp:media:7", {"body": body})
            await redis.xdel("tp:media:7", entry)
        for _ in range(500):
            await asyncio.sleep(0 if witness.seen == 20 else 0.01)
        counted, _ = witness.end()
    assert (counted.seen, counted.unreadable) == (20, 0)
    assert 0 <= counted.way_ms(0.99) < 5_000
