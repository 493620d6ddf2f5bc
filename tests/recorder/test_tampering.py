"""Whatever is changed in what was stored is found and named; and nothing that was said lies anywhere in the clear."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import random
import tempfile
import zipfile
from pathlib import Path

import pytest

from config.clock import SystemClock, VirtualClock
from config.ids import DEFAULT_TENANT
from config.objects import ObjectLock
from recorder.check import Findings, check_store
from recorder.check_audit import check_extract
from recorder.files import Digest, FilesError
from recorder.job import PartJob
from recorder.job_pool import JobPool
from recorder.jobs import Jobs
from recorder.lifecycle import Lifecycle
from tests.recorder.asking import REASON, Ask
from tests.recorder.conftest import Desk
from tests.recorder.media import audio, video
from tests.recorder.test_compliance import exported, ready
from tests.recorder.test_job import call, stored

__all__ = ["ready"]
FLIPS = 400


class Held:
    """Objects in memory, as ``turnpike verify`` reads them."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects

    async def names(self) -> list[str]:
        return sorted(self.objects)

    async def read(self, name: str) -> bytes | None:
        return self.objects.get(name)

    async def digest(self, name: str) -> Digest | None:
        data = self.objects.get(name)
        return None if data is None else Digest(len(data), hashlib.sha256(data).digest())


async def problems(objects: dict[str, bytes], desk: Desk) -> list[str]:
    found = Findings()
    try:
        await check_store(Held(objects), desk.services.signer.key.public, found)
    except FilesError as error:
        return [str(error)]
    return found.problems


async def test_any_flipped_bit_at_any_place_of_any_object_is_found_and_named(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock
) -> None:
    assert (await ask("POST", f"{ready}/access", "compliance", json=REASON)).status == 200
    await Lifecycle(desk.recordings, desk.services.signer.key, clock).anchor()
    whole = stored(desk)
    assert await problems(whole, desk) == []
    dice, names = random.Random(11), sorted(whole)
    for number in range(FLIPS):
        name = names[number % len(names)]
        altered = bytearray(whole[name])
        place = dice.randrange(len(altered))
        altered[place] ^= 1 << dice.randrange(8)
        told = await problems({**whole, name: bytes(altered)}, desk)
        assert any(name in each for each in told), (name, place, told)


async def test_objects_cut_lengthened_swapped_or_taken_away_are_found(desk: Desk, ready: str) -> None:
    whole = stored(desk)
    media = [name for name in whole if name.endswith(".seg")]
    for name, data in whole.items():
        for other in (data[:-1], data + b"\n", b""):
            assert any(name in each for each in await problems({**whole, name: other}, desk)), name
        assert await problems({key: value for key, value in whole.items() if key != name}, desk), name
    for one, two in itertools.pairwise(media):
        told = await problems({**whole, one: whole[two], two: whole[one]}, desk)
        assert any(one in each for each in told)
        assert any(two in each for each in told)


async def test_any_changed_letter_of_an_audit_row_is_found_and_the_row_named(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock, tmp_path: Path
) -> None:
    path = tmp_path / "bundle.zip"
    path.write_bytes(await exported(ask, desk, ready, clock))
    with zipfile.ZipFile(path) as archive:
        extract = json.loads(archive.read("audit.json"))
    fine = Findings()
    check_extract(extract, [], fine)
    assert fine.problems == []
    for place, row in enumerate(extract["rows"]):
        for field in ("text", "text_sha256", "hash"):
            if field not in row:
                continue
            for at in range(len(row[field])):
                letter = "0" if row[field][at] != "0" else "1"
                changed = {**row, field: row[field][:at] + letter + row[field][at + 1 :]}
                found = Findings()
                rows = [*extract["rows"][:place], changed, *extract["rows"][place + 1 :]]
                check_extract({**extract, "rows": rows}, [], found)
                assert any(f"audit row {row['n']} was altered" in each for each in found.problems), (
                    row["n"],
                    field,
                    at,
                )
        found = Findings()
        check_extract({**extract, "rows": [*extract["rows"][:place], *extract["rows"][place + 1 :]]}, [], found)
        assert found.problems or place == len(extract["rows"]) - 1  # the last one's loss shows by the signed head


def in_clear(folder: Path, needles: list[bytes]) -> list[str]:
    """Files below a folder in which a piece of the media stands."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found += [str(path)] * any(needle in data for needle in needles)
    return found


async def test_no_media_is_ever_in_the_clear_on_disk_or_in_the_store(
    desk: Desk, ask: Ask, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = desk.settings.data
    temporary = data / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    needles = [frame.data[40:64] for frame in video("vp8", 3.0) if len(frame.data) > 64]
    needles += [packet.data[8:32] for packet in audio(3.0) if len(packet.data) > 32]
    assert len(needles) > 20
    assert in_clear(data, needles) == []
    scene = call(desk, 3.0)
    assert in_clear(data, needles) == [], "while it is spooled"
    scene.close()
    assert any(scene.directory.rglob("*.spool"))
    await PartJob(scene.directory, desk.services).run()
    assert in_clear(data, needles) == [], "when it is stored"
    bundle = await exported(ask, desk, f"/recordings/{desk.new.public_id}", clock)
    assert any(needle in bundle for needle in needles), "the needles are right: a bundle is for whoever may have it"
    assert in_clear(data, needles) == [], "when it was exported"


async def test_no_media_is_in_the_clear_while_files_are_made_of_it_nor_after(
    desk: Desk, ask: Ask, ready: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = desk.settings.data
    temporary = data / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))  # of the process that does the job
    untouched_ns = temporary.stat().st_mtime_ns
    needles = [frame.data[40:64] for frame in video("vp8", 2.0) if len(frame.data) > 64] + [b"ftyp", b"moov", b"JFIF"]
    asked = await ask("POST", ready + "/compositions", "compliance", json={**REASON, "layout": "side_by_side"})
    wanted = [(await asked.json())["id"]]
    asked = await ask("POST", ready + "/preview", "compliance", json=REASON)
    wanted.append((await asked.json())["id"])
    jobs = Jobs(desk.recordings, SystemClock())  # as the process's own
    pool = JobPool(jobs, desk.settings.model_copy(update={"jobs": 1}))
    looked = 0
    try:
        async with asyncio.timeout(120):
            while wanted:
                await pool.fill()
                assert await asyncio.to_thread(in_clear, data, needles) == []
                looked += 1
                found = await jobs.find(DEFAULT_TENANT, wanted[0])
                assert found is not None
                assert found.state in ("queued", "running", "done"), found.failure
                if found.state == "done":
                    wanted.pop(0)
                await asyncio.sleep(0.02)
    finally:
        await pool.close()
    assert looked > 5
    assert await asyncio.to_thread(in_clear, data, needles) == []
    assert temporary.stat().st_mtime_ns == untouched_ns, "nothing was ever made there, not even for a moment"


async def test_anchors_of_the_audit_log_are_locked_where_recordings_are(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await ask("POST", f"{ready}/access", "compliance", json=REASON)).status == 200
    locks: dict[str, ObjectLock | None] = {}

    async def put(key: str, _data: bytes, *, sha256: bytes, lock: ObjectLock | None = None) -> None:
        locks[key] = lock

    monkeypatch.setattr(desk.recordings.objects, "put", put)
    assert await Lifecycle(desk.recordings, desk.services.signer.key, clock, "compliance").anchor() == 1
    ((key, lock),) = locks.items()
    found = await desk.recordings.find(desk.header().tenant_id, desk.new.public_id)  # type: ignore[arg-type]
    assert key.startswith("audit/1/")
    assert lock is not None
    assert found is not None
    assert lock.mode == "compliance"
    assert lock.until_ms >= found.retain_until_ms
