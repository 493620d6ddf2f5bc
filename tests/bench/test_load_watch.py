"""What counts as late evidence, and what is made of the load's results."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any
from xml.etree import ElementTree

from redis.asyncio import Redis

from bench.load_docs import plot, text
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


def step(calls: int, lost: int = 0) -> dict[str, Any]:
    return {"calls": calls, "lost": lost, "late_evidence": 0, "p99_ms": 2.5, "cores": {"worker-1": calls / 150}}


def test_results_become_a_table_and_a_plot() -> None:
    result = {
        **step(100),
        "date": "2026-01-02",
        "where": {"cpu": "C", "cpus": 2, "kernel": "6", "command": "python -m bench.load"},
        "cores": {"worker-1": 0.7, "load": 0.5, "control": 0.2},
        "packets": 920_000,
        "late_stamped": 0,
        "evidence_way_p99_ms": 9,
        "control_behind_ms": 30,
        "p50_delay_ms": 0.4,
        "p99_delay_ms": 2.5,
        "worker_cpu": 0.7,
        "rss_mb_per_call": 3.4,
        "ceiling_calls": 120,
        "ceiling_cause": "packets lost",
        "receive_errors": 0,
        "steal_ticks": 1,
        "pinned": True,
        "feedback_ms": 100.0,
        "steps": [step(100), step(110), step(120, lost=3)],
        "broadcast": {"viewers": 200, "lost": 0, "p99_delay_ms": 1.2, "cpu": 0.3, "us_per_packet": 3.0},
    }
    said = text([result, {**result, "pinned": False}])
    assert "| packets lost | 0 of 920,000 | 0 of 920,000 |" in said
    assert "120 calls: packets lost" in said
    assert "200 viewers" in said
    widths = {line.count("|") for line in said.splitlines() if line.startswith("|")}
    assert len(widths) == 1
    root = ElementTree.fromstring(plot(result["steps"]))
    dots = [e.attrib["class"] for e in root.iter() if re.search("circle$", e.tag)]
    assert dots.count("dot") == 6
    assert dots.count("gave") == 3
