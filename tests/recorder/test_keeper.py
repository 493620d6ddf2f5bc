"""What a recorder does beside recording: of a recording that is gone nothing stays, wherever it lay."""

from __future__ import annotations

import asyncio

import pytest

from config.clock import VirtualClock
from config.ids import DEFAULT_TENANT
from recorder import keeper as module
from recorder import upkeep
from recorder.jobs import Jobs
from recorder.keeper import Keeper, keeping
from tests.recorder.asking import REASON, Ask
from tests.recorder.conftest import Desk
from tests.recorder.test_job import recorded


async def test_erasure_takes_along_what_was_kept_in_the_spool(
    desk: Desk, ask: Ask, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "JOBS_EVERY_S", 0.02)
    await recorded(desk, 2.0)
    damaged = desk.settings.spool_dir / desk.new.public_id / "2"
    damaged.mkdir(parents=True)
    (damaged / "part.json").write_text("{}")
    upkeep.keep(damaged, "a block is damaged")
    other = desk.settings.spool_dir / "rec_00000000000000000000" / "1"
    other.mkdir(parents=True)
    upkeep.keep(other, "nobody knows it")
    settings = desk.settings.model_copy(update={"jobs": 0})
    keeper = Keeper(desk.recordings, desk.services.signer.key, clock, settings)
    await keeper._sweep_spool()
    assert damaged.exists()
    assert (await ask("POST", f"/recordings/{desk.new.public_id}/erase", "admin", json=REASON)).status == 204
    async with keeping(keeper), asyncio.timeout(20):
        while await asyncio.to_thread(damaged.parent.exists):  # noqa: ASYNC110 - another task's work on files
            await asyncio.sleep(0.02)
    assert other.exists()


async def test_previews_are_asked_for_by_themselves(
    desk: Desk, ask: Ask, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "JOBS_EVERY_S", 0.02)
    await recorded(desk, 1.0)
    found = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert found is not None
    settings, jobs = desk.settings.model_copy(update={"jobs": 0}), Jobs(desk.recordings, clock)
    async with keeping(Keeper(desk.recordings, desk.services.signer.key, clock, settings)), asyncio.timeout(20):
        while not await jobs.of(found):  # noqa: ASYNC110 - another task
            await asyncio.sleep(0.02)
    assert [(job.kind, job.state, job.user_id) for job in await jobs.of(found)] == [("preview", "queued", None)]
