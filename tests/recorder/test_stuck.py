"""A part that always fails holds up nothing but itself: neither its recording's end, nor other calls."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.clock import VirtualClock
from config.ids import DEFAULT_TENANT
from recorder import service, upkeep
from recorder.catalogue import Details
from recorder.check import Findings, check_store
from recorder.errors import RecorderError, Unavailable
from recorder.files import FolderFiles
from recorder.job import PartJob
from recorder.keeper import Keeper
from recorder.manifest import ENTRIES_PER_MANIFEST
from recorder.store import PartRow, Store
from relay.spool import SpoolPartReader
from tests.recorder.asking import REASON, Ask, code_of
from tests.recorder.conftest import Desk
from tests.recorder.test_job import call, stored
from tests.recorder.test_service import running, until_kept, until_state


class Poison:
    """Makes the part of one epoch fail as a fault in a depacketiser would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
        self.tries = 0
        run = PartJob.run

        async def fail(job: PartJob) -> str:
            if job.directory.name != str(epoch):
                return await run(job)
            self.tries += 1
            raise IndexError("index out of range")

        monkeypatch.setattr(service, "TRY_WAIT_S", 0.0)
        monkeypatch.setattr(PartJob, "run", fail)

    async def until(self, tries: int) -> None:
        async with asyncio.timeout(40):
            while self.tries < tries:  # noqa: ASYNC110 - another task
                await asyncio.sleep(0.01)


async def found(desk: Desk) -> Details:
    recording = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert recording is not None
    return recording


def spooled(desk: Desk, epoch: int) -> Path:
    scene = call(desk, 1.0, epoch=epoch)
    scene.close()
    return scene.directory


async def test_recording_settles_without_it_and_can_be_held_and_erased(
    desk: Desk, ask: Ask, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled(desk, 1)
    stuck = spooled(desk, 2)
    poison = Poison(monkeypatch, 2)
    path = f"/recordings/{desk.new.public_id}"
    keeper = Keeper(desk.recordings, desk.services.signer.key, clock, desk.settings)
    async with running(desk, clock) as recorder:
        await poison.until(1)
        assert await code_of(await ask("POST", path + "/erase", "admin", json=REASON)) == (409, "recording_in_progress")
        await until_state(desk, "failed")
        await poison.until(service.SET_ASIDE_TRIES + 2)
        async with asyncio.timeout(20):
            while (await found(desk)).root_key is None:  # noqa: ASYNC110 - another task
                await asyncio.sleep(0.05)
        assert "IndexError" in ((await found(desk)).failure or "")
        assert not upkeep.is_kept(stuck)
        await keeper._sweep_spool()
        assert stuck.exists()
        held = await (await ask("POST", path + "/holds", "compliance", json=REASON)).json()
        assert (await ask("POST", f"/holds/{held['id']}/release", "compliance", json=REASON)).status == 200
        assert (await ask("POST", path + "/erase", "admin", json=REASON)).status == 204
        await keeper._sweep_spool()
        assert not stuck.exists()
        async with asyncio.timeout(20):
            while recorder._tasks:  # noqa: ASYNC110 - another task
                await asyncio.sleep(0.01)
    assert (await found(desk)).state == "erased"


async def test_trying_again_in_vain_changes_nothing_that_was_signed(
    desk: Desk, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, owner: Any
) -> None:
    spooled(desk, 1)
    spooled(desk, 2)
    open_thread = PartJob._record
    tries: list[int] = []

    async def fail(job: PartJob, pipeline: Any, part: Any) -> None:
        if part.header.epoch == 1:
            await open_thread(job, pipeline, part)
            return
        tries.append(1)
        raise IndexError("index out of range")

    monkeypatch.setattr(service, "TRY_WAIT_S", 0.0)
    monkeypatch.setattr(PartJob, "_record", fail)
    async with running(desk, clock):
        await until_state(desk, "failed")
        async with asyncio.timeout(20):
            while (await found(desk)).root_key is None:  # noqa: ASYNC110 - another task
                await asyncio.sleep(0.05)
            seen = len(tries)
            while len(tries) < seen + 3:  # noqa: ASYNC110 - another task
                await asyncio.sleep(0.01)
    signed = await found(desk)
    assert (signed.state, await owner.fetchval("select roots from recording")) == ("failed", 1)
    monkeypatch.setattr(PartJob, "_record", open_thread)  # a newer version can read it
    async with running(desk, clock):
        await until_state(desk, "ready")
    assert await owner.fetchval("select roots from recording") == 2


async def test_what_was_stored_of_it_is_signed_and_checked(
    desk: Desk, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled(desk, 1)
    desk.services = dataclasses.replace(desk.services, segment_ms=1000)
    scene = call(desk, 14.0, epoch=2)
    scene.close()
    finish = PartJob._finish

    async def fail(job: PartJob, pipeline: Any, part: Any) -> str:
        if part.header.epoch == 1:
            return await finish(job, pipeline, part)
        raise IndexError("index out of range")

    monkeypatch.setattr(service, "TRY_WAIT_S", 0.0)
    monkeypatch.setattr(PartJob, "_finish", fail)
    async with running(desk, clock):
        await until_state(desk, "failed")
        async with asyncio.timeout(20):
            while (await found(desk)).root_key is None:  # noqa: ASYNC110 - another task
                await asyncio.sleep(0.05)

    async def told() -> tuple[list[str], list[str]]:
        findings = Findings()
        await check_store(FolderFiles(desk.objects_dir), desk.services.signer.key.public, findings)
        return findings.problems, findings.notes

    problems, notes = await told()
    assert problems == []
    assert "is a part that is not complete: IndexError" in notes[0]
    media = [name for name in stored(desk) if "/2/" in name and name.endswith(".seg")]
    assert len(media) > 2 * ENTRIES_PER_MANIFEST
    for name in (media[0], media[len(media) // 4]):  # in the first manifest, and in one after it
        path = desk.objects_dir / name
        content = path.read_bytes()
        path.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
        assert any(name in problem for problem in (await told())[0]), name
        path.write_bytes(content)


async def test_it_is_given_up_only_when_the_catalogue_was_told(
    desk: Desk, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = spooled(desk, 1)
    away, finish = [3], Store.finish_part

    async def hopeless(_job: PartJob) -> str:
        raise RecorderError("nobody can read this")

    async def finish_later(self: Store, part: PartRow, failure: str | None) -> str:
        if away[0]:
            away[0] -= 1
            raise Unavailable("PostgreSQL is away")
        return await finish(self, part, failure)

    monkeypatch.setattr(service, "TRY_WAIT_S", 0.0)
    monkeypatch.setattr(PartJob, "run", hopeless)
    monkeypatch.setattr(Store, "finish_part", finish_later)
    async with running(desk, clock):
        await until_kept(lost)
    assert (await found(desk)).state == "failed"


async def test_a_header_that_cannot_be_read_just_now_is_no_reason_to_tell_nobody(
    desk: Desk, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = spooled(desk, 1)
    await desk.services.store.begin_part(desk.header(1))
    away, open_part = [3], service.open_part

    async def hopeless(_job: PartJob) -> str:
        raise RecorderError("nobody can read this")

    def open_later(*args: Any) -> SpoolPartReader:
        if away[0]:
            away[0] -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return open_part(*args)

    monkeypatch.setattr(service, "TRY_WAIT_S", 0.0)
    monkeypatch.setattr(PartJob, "run", hopeless)
    monkeypatch.setattr(service, "open_part", open_later)
    async with running(desk, clock):
        await until_kept(lost)
    assert (away, (await found(desk)).state) == ([0], "failed")


async def test_other_calls_are_recorded_while_it_waits(
    desk: Desk, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "JOBS_MAX", 1)
    spooled(desk, 1)
    poison = Poison(monkeypatch, 1)
    async with running(desk, clock):
        await poison.until(service.TRIES_MAX + 1)
        other = spooled(desk, 2)
        async with asyncio.timeout(20):
            while await asyncio.to_thread(other.exists):  # noqa: ASYNC110 - another task's work on files
                await asyncio.sleep(0.02)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda header: header[: len(header) // 2],
    "no text": lambda header: header.replace(b"Ana", b"A\xff\xfe"),
    "endless": lambda header: header.replace(b"{", b'{"more": ' + b"[" * 100_000 + b"]" * 100_000 + b",", 1),
    "another recording": lambda header: header.replace(b"rec_", b"rfc_"),
    "another epoch": lambda header: header.replace(b'"epoch":1', b'"epoch":7'),
    "an epoch beyond all": lambda header: header.replace(b'"epoch":1', b'"epoch":' + b"9" * 18),
    "another tenant": lambda header: header.replace(b'"tenant_id":1', b'"tenant_id":4'),
    "a tenant beyond all": lambda header: header.replace(b'"tenant_id":1', b'"tenant_id":' + b"9" * 19),
    "no number": lambda header: header.replace(b'"tenant_id":1', b'"tenant_id":-1'),
    "zeros": lambda header: header.replace(b'"w1"', b'"w\\u0000"'),
}


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_part_with_a_damaged_header_is_set_aside_and_told_of(
    desk: Desk, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, owner: Any, damage: str, begun: bool
) -> None:
    monkeypatch.setattr(service, "TRY_WAIT_S", 0.0)
    lost = spooled(desk, 1)
    if begun:
        await desk.services.store.begin_part(desk.header(1))
    header = (lost / "part.json").read_bytes()
    damaged = DAMAGES[damage](header)
    assert damaged != header
    (lost / "part.json").write_bytes(damaged)
    tries, run = [], PartJob.run

    async def count(job: PartJob) -> str:
        tries.append(1)
        return await run(job)

    monkeypatch.setattr(PartJob, "run", count)
    async with running(desk, clock):
        await until_kept(lost)
        await asyncio.sleep(2 * service.SCAN_S)
    assert len(tries) == service.TRIES_MAX
    assert (lost / "0001.spool").exists()
    parts = await owner.fetch("select epoch, state, failure from recording_part")
    assert [(part["epoch"], part["state"]) for part in parts] == [(1, "failed")]
    recording = await found(desk)
    assert recording.state == "failed"
    assert recording.failure == parts[0]["failure"]
    assert (recording.failure or "").split(":")[0] in {"SpoolError", "UnknownRecording"}


async def test_a_disk_that_takes_no_mark_does_not_end_the_work_on_a_part(
    desk: Desk, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = spooled(desk, 1)
    (lost / "part.json").write_bytes(b"")
    full, keep = [2], upkeep.keep

    def keep_later(directory: Path, why: str) -> None:
        if full[0]:
            full[0] -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        keep(directory, why)

    monkeypatch.setattr(service, "TRY_WAIT_S", 0.0)
    monkeypatch.setattr(upkeep, "keep", keep_later)
    async with running(desk, clock) as recorder:
        task = None
        async with asyncio.timeout(20):
            while not upkeep.is_kept(lost):
                task = task or recorder._tasks.get(lost)
                await asyncio.sleep(0.01)
            assert task is not None
            await task
