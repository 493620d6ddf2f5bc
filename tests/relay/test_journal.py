"""The journal on a real disk, its shipping to a real PostgreSQL, and what damage does to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from relay.bus import ControlBus
from relay.journal import (
    FILE_MAX_NS,
    FINAL_AFTER_NS,
    Journal,
    JournalEntry,
    closed_files,
    decode_lines,
    encode_line,
    read_file,
)
from relay.messages import MediaStarted
from relay.store import EvidenceStore, StoreUnavailable
from tests.conftest import DatabaseUrls
from tests.relay.call import Call, running_worker, two_pages

MINUTE_MS = 60_000


def entry(seq: int, session_id: int = 1, at_ms: int = 1_800_000_000_000, **fields: Any) -> JournalEntry:
    values = {
        "tenant_id": 1,
        "epoch": 1,
        "live_ms": seq * 10,
        "granted_live_ms": 90_000,
        "worker_id": "w",
        "final": False,
    }
    return JournalEntry(session_id=session_id, seq=seq, at_ms=at_ms, **{**values, **fields})


def test_file_of_a_living_writer_is_not_taken(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", "w1")
    journal.append([], 0)
    assert not (tmp_path / "journal").exists(), "nothing to say, nothing written"
    journal.append([entry(1), entry(2)], 0)
    assert closed_files(tmp_path / "journal") == []
    journal.close()
    (path,) = closed_files(tmp_path / "journal")
    assert read_file(path) == ([entry(1), entry(2)], 0)


def test_old_file_is_closed_and_the_next_begun(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "w1")
    journal.append([entry(1)], 0)
    journal.append([entry(2)], FILE_MAX_NS - 1)
    journal.append([entry(3)], FILE_MAX_NS)
    (path,) = closed_files(tmp_path)
    assert [e.seq for e in read_file(path).entries] == [1, 2]
    journal.append([], 2 * FILE_MAX_NS)
    assert len(closed_files(tmp_path)) == 2


@given(st.integers(0, 400))
def test_torn_tail_costs_its_own_line_only(cut: int) -> None:
    entries = [entry(n) for n in range(3)]
    data = b"".join(map(encode_line, entries))
    torn = decode_lines(data[: max(0, len(data) - cut)])
    assert torn.entries == entries[: len(torn.entries)]
    assert torn.damaged <= 1


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_flipped_byte_is_found_and_costs_no_other_line(at: int, flip: int) -> None:
    entries = [entry(n) for n in range(4)]
    data = bytearray(b"".join(map(encode_line, entries)))
    data[at % len(data)] ^= flip
    read = decode_lines(bytes(data))
    assert len(read.entries) >= 2
    assert all(e in entries for e in read.entries)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_a_fault(data: bytes) -> None:
    assert decode_lines(data).entries == []


async def test_shipping_keeps_the_greatest_of_each_minute_in_any_order(database_urls: DatabaseUrls, owner: Any) -> None:
    store = EvidenceStore(database_urls.app_url, "test")
    later = 1_800_000_000_000 + MINUTE_MS
    try:
        await store.ship([entry(5), entry(3), entry(9, at_ms=later, final=True), entry(1, session_id=2)])
        await store.ship([entry(4), entry(6), entry(2, session_id=2)])
        await store.ship([])
    finally:
        await store.close()
    rows = await owner.fetch("select session_id, seq, live_ms, final from media_evidence order by session_id, minute")
    assert [tuple(row) for row in rows] == [(1, 6, 60, False), (1, 9, 90, True), (2, 2, 20, False)]


async def test_database_that_is_away_is_said_so() -> None:
    store = EvidenceStore("postgresql://nobody@127.0.0.1:1/none", "test")
    with pytest.raises(StoreUnavailable):
        await store.ship([entry(1)])
    await store.close()


async def test_worker_journals_its_rooms_and_ships_what_dead_workers_left(
    redis: Redis, redis_url: str, tmp_path: Path, database_urls: DatabaseUrls, owner: Any
) -> None:
    left = Journal(tmp_path / "journal", "dead-worker")
    left.append([entry(8, session_id=99)], 0)
    left.close()
    async with ControlBus(redis) as bus, running_worker(redis, redis_url, tmp_path, database_urls.app_url) as worker:
        call = Call(worker, bus, redis)
        await call.open()
        async with two_pages(call):
            await call.wait_for(MediaStarted)
        closed = await call.close()
    assert len(closed_files(tmp_path / "journal")) == 1, "this worker's own, for the next to ship"
    async with running_worker(redis, redis_url, tmp_path, database_urls.app_url) as worker:
        await worker.ship_journals()
    assert list((tmp_path / "journal").glob("*.journal")) == []
    rows = await owner.fetch("select session_id, live_ms, final from media_evidence order by session_id")
    assert [tuple(row) for row in rows] == [(7, closed.live_ms, True), (99, 80, False)]


def test_file_that_holds_the_end_of_a_room_is_closed_within_seconds(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "wrk")
    journal.append([entry(1)], 0)
    journal.append([entry(2, final=True)], 1_000_000_000)
    assert closed_files(tmp_path) == []
    journal.append([], 1_000_000_000 + FINAL_AFTER_NS)
    assert [e.final for path in closed_files(tmp_path) for e in read_file(path).entries] == [False, True]
