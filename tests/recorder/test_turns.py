"""What fails again and again holds up nothing else: recordings that cannot be signed, leftovers that are locked."""

from __future__ import annotations

from typing import Any

import pytest

from config.clock import VirtualClock
from config.ids import DEFAULT_TENANT
from config.objects import DirectoryStore, ObjectStoreError
from recorder import leftovers, root
from recorder.leftovers import Leftovers
from recorder.root import AGAIN_MS, UNSIGNED_MAX
from tests.recorder.conftest import Desk


async def older(owner: Any, count: int, story: str | None) -> None:
    """Recordings that are complete, older than any other, and whose keys nobody has."""
    for number in range(1, count + 1):
        await owner.execute(
            "insert into recording (tenant_id, id, public_id, session_id, session_public_id, kind, format_version,"
            " key_id, state, started_at_ms, ended_at_ms, retain_until_ms, story) overriding system value"
            " values (1, $1, $2, $3, $4, 'video', 1, 'k', 'failed', 0, 1, 2, $5::jsonb)",
            *(-number, f"rec_{number:020d}", 1000 + number, f"ses_{number:020d}", story),
        )
        await owner.execute(
            "insert into recording_part (tenant_id, recording_id, epoch, worker_id, chain, state)"
            " values (1, $1, 1, 'w1', '', 'ready')",
            -number,
        )


async def complete(desk: Desk) -> None:
    part = await desk.services.store.begin_part(desk.header())
    await desk.services.store.finish_part(part, None)


async def is_signed(desk: Desk) -> bool:
    found = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert found is not None
    return found.root_key is not None


async def test_recordings_that_cannot_be_signed_hold_up_no_other_and_are_told_of_once(
    desk: Desk, owner: Any, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await complete(desk)
    await older(owner, UNSIGNED_MAX, '{"chat": [], "events": []}')
    told: list[str] = []
    monkeypatch.setattr(root.log, "error", lambda _text, recording, why: told.append(f"{recording} {why}"))
    signer = desk.services.signer
    assert [await signer.sign_complete(), await is_signed(desk)] == [0, False]
    assert [await signer.sign_complete(), await is_signed(desk)] == [1, True]
    assert len(told) == UNSIGNED_MAX
    assert "UnknownKey" in told[0]
    tried = "select count(distinct sign_tried_at) from recording where sign_tried_at is not null"
    clock.advance_ms(AGAIN_MS - 1)
    assert [await signer.sign_complete(), await owner.fetchval(tried)] == [0, 1]
    clock.advance_ms(1)
    assert await signer.sign_complete() == 0
    last = await owner.fetchval("select extract(epoch from max(sign_tried_at)) * 1000 from recording")
    assert round(last) == clock.wall_ms()
    assert len(told) == UNSIGNED_MAX


async def test_one_that_the_store_refuses_is_not_the_first_one_again(
    desk: Desk, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await complete(desk)
    await older(owner, 1, None)
    put = DirectoryStore.put

    async def refuse(self: DirectoryStore, key: str, *args: Any, **more: Any) -> None:
        if f"rec_{1:020d}" in key:
            raise ObjectStoreError("access denied")
        await put(self, key, *args, **more)

    monkeypatch.setattr(DirectoryStore, "put", refuse)
    for _ in range(2):
        with pytest.raises(ObjectStoreError):
            await desk.services.signer.sign_complete()
    assert await is_signed(desk)


async def test_leftovers_that_are_locked_hold_up_no_other(
    desk: Desk, owner: Any, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "BATCH_MAX", 5)
    folder = desk.objects_dir / f"recordings/1/{desk.new.public_id}/0"
    folder.mkdir(parents=True)
    for number in range(1, 13):
        (folder / f"{number:02d}-00000.seg").write_bytes(b"half")
        await owner.execute(
            "insert into recording_job (tenant_id, public_id, recording_id, kind, layout, state, outputs, created_at)"
            " values (1, $1, $2, 'composition', 'audio', 'cancelled', array[$3::int], now())",
            *(f"job_{number:020d}", desk.new.recording_id, number),
        )
    delete, tried, locked = DirectoryStore.delete, list[int](), set(range(1, 11))

    async def refuse(self: DirectoryStore, key: str) -> None:
        number = int(key.rsplit("/", 1)[-1][:2])
        tried.append(number)
        if number in locked:
            raise ObjectStoreError("locked")
        await delete(self, key)

    monkeypatch.setattr(DirectoryStore, "delete", refuse)
    sweeper = Leftovers(desk.recordings, clock)
    assert [await sweeper.sweep() for _ in range(3)] == [5, 5, 2]
    assert tried == list(range(1, 13))
    assert len(list(folder.iterdir())) == len(locked)
    locked.clear()
    assert [await sweeper.sweep() for _ in range(4)] == [5, 5, 0, 0]
    assert list(folder.iterdir()) == []
