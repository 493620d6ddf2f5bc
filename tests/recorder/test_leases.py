"""A job is held from its claim to its end, by one only, however slowly a process starts or how late one is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config.clock import VirtualClock
from config.ids import DEFAULT_TENANT, TenantId
from recorder import job_pool, job_work
from recorder.catalogue import Details, Recordings
from recorder.job_pool import JobPool
from recorder.job_work import do, main
from recorder.jobs import LEASE_MS, Cancelled, Job, Jobs
from tests.recorder.asking import REASON, Ask
from tests.recorder.conftest import Desk
from tests.recorder.test_job import stored
from tests.recorder.test_jobs import compose, ready, tools

__all__ = ["ready"]


async def claimed(jobs: Jobs) -> Job:
    job = await jobs.claim()
    assert job is not None
    return job


async def test_process_that_takes_long_to_start_keeps_its_job(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await compose(ask, ready)
    jobs, started, ends, told = Jobs(desk.recordings, clock), asyncio.Event(), asyncio.Event(), []

    class Slow:
        async def wait(self) -> int:
            started.set()
            await ends.wait()
            return 0

    async def begin(*command: str, **_: object) -> Slow:
        told.append(command[-1])
        return Slow()

    monkeypatch.setattr(asyncio, "create_subprocess_exec", begin)
    monkeypatch.setattr(job_pool, "RENEW_S", 0.01)
    pool = JobPool(jobs, desk.settings.model_copy(update={"jobs": 1}))
    renewed = asyncio.Event()
    renew = Jobs.renew

    async def seen(self: Jobs, job: Job, progress: int | None = None) -> None:
        await renew(self, job, progress)
        renewed.set()

    monkeypatch.setattr(Jobs, "renew", seen)
    await pool.fill()
    await started.wait()
    for _ in range(5):
        clock.advance_ms(LEASE_MS * 2 // 3)
        async with asyncio.timeout(20):
            for _ in range(2):  # one that was under way counts from before
                renewed.clear()
                await renewed.wait()
        assert await jobs.claim() is None
    ends.set()
    async with asyncio.timeout(20):
        while pool._tasks:  # noqa: ASYNC110 - another task
            await asyncio.sleep(0.01)
    assert told == ["1"]
    clock.advance_ms(LEASE_MS + 1)
    assert (await claimed(jobs)).attempts == 2  # its process ended, and left it undone


async def test_late_process_does_not_adopt_the_lease_of_its_successor(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock
) -> None:
    await compose(ask, ready)
    jobs = Jobs(desk.recordings, clock)
    first = await claimed(jobs)
    clock.advance_ms(LEASE_MS + 1)
    second = await claimed(jobs)
    before = set(stored(desk))
    assert await main(desk.settings, TenantId(first.tenant_id), first.public_id, first.lease) == 0
    assert await jobs.find(DEFAULT_TENANT, first.public_id) == second
    assert set(stored(desk)) == before


async def test_no_lease_ever_comes_again(desk: Desk, ask: Ask, ready: str, clock: VirtualClock) -> None:
    asked = await compose(ask, ready)
    jobs = Jobs(desk.recordings, clock)
    old = [await claimed(jobs)]
    await jobs.put_back(old[-1])
    old.append(await claimed(jobs))
    for step in ("cancel", "retry"):
        assert (await ask("POST", f"/jobs/{asked['id']}/{step}", "compliance", json=REASON)).status == 200
    clock.advance_ms(LEASE_MS + 1)
    newest = await claimed(jobs)
    assert newest.attempts == 1
    for each in old:
        with pytest.raises(Cancelled):
            await jobs.renew(each, 50)
        with pytest.raises(Cancelled):
            await jobs.finish(each)
        await jobs.fail(each, "too late", for_good=True)
    assert await jobs.find(DEFAULT_TENANT, asked["id"]) == newest
    await jobs.renew(newest)
    await jobs.renew(newest, 50)


async def test_without_postgresql_nothing_is_stored_after_the_lease(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await compose(ask, ready)
    before = set(stored(desk))

    async def away(*_: object) -> None:
        raise OSError("PostgreSQL is away")

    job = await claimed(Jobs(desk.recordings, clock))
    monkeypatch.setattr(job_work, "LEASE_MS", 0)
    monkeypatch.setattr(Jobs, "renew", away)
    assert await do(job, tools(desk, clock)) == "cancelled"
    assert set(stored(desk)) == before


async def test_recording_that_gets_another_part_meanwhile_is_prepared_afterwards(
    desk: Desk, ready: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, owner: Any
) -> None:
    find = Recordings.find

    async def late(self: Recordings, tenant: TenantId, public_id: str) -> Details | None:
        found = await find(self, tenant, public_id)
        await owner.execute("update recording set state = 'recording', prepared = false")
        return found

    jobs = Jobs(desk.recordings, clock)
    monkeypatch.setattr(Recordings, "find", late)
    await jobs.prepare()
    monkeypatch.undo()
    await owner.execute("update recording set state = 'ready'")
    recording = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert recording is not None
    assert await jobs.of(recording) == []
    await jobs.prepare()
    assert [job.kind for job in await jobs.of(recording)] == ["preview"]


async def test_what_the_policy_names_twice_is_made_once(
    desk: Desk, ready: str, clock: VirtualClock, owner: Any
) -> None:
    await owner.execute(
        "insert into retention_policy (tenant_id, kind, keep_days, compose)"
        " values (1, 'video', 10, array['audio', 'audio'])"
    )
    jobs = Jobs(desk.recordings, clock)
    await jobs.prepare()
    recording = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert recording is not None
    assert sorted((job.kind, job.layout) for job in await jobs.of(recording)) == [
        ("composition", "audio"),
        ("preview", None),
    ]
