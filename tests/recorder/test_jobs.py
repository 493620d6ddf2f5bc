"""Jobs: done once, by whoever is alive, below everything else in priority; what they make is stored like evidence."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import av
import pytest

from config.clock import SystemClock, VirtualClock
from config.ids import DEFAULT_TENANT
from config.objects import ObjectStoreError
from config.process import AUTOGROUP
from recorder import retention
from recorder.check import Findings, check_store
from recorder.files import FolderFiles
from recorder.job_pool import JobPool
from recorder.job_work import NICENESS, Tools, do
from recorder.jobs import ATTEMPTS_MAX, LEASE_MS, Job, Jobs
from recorder.leftovers import Leftovers
from recorder.lifecycle import Lifecycle
from recorder.products import products_of
from tests.recorder.asking import REASON, Ask, audited, code_of
from tests.recorder.conftest import Desk
from tests.recorder.test_job import recorded, stored


@pytest.fixture
async def ready(desk: Desk) -> str:
    """Path of a recording of two parts: the call was moved to another worker."""
    for epoch in (1, 2):
        await recorded(desk, 2.0, epoch=epoch)
    return f"/recordings/{desk.new.public_id}"


def tools(desk: Desk, clock: VirtualClock) -> Tools:
    return Tools(desk.recordings, desk.services.signer.key, clock)


async def work(desk: Desk, clock: VirtualClock) -> str | None:
    job = await Jobs(desk.recordings, clock).claim()
    return None if job is None else await do(job, tools(desk, clock))


async def granted(ask: Ask, ready: str) -> dict[str, Any]:
    answer: dict[str, Any] = await (await ask("POST", ready + "/access", "compliance", json=REASON)).json()
    return answer


async def compose(ask: Ask, ready: str, layout: str = "audio") -> dict[str, Any]:
    asked = await ask("POST", ready + "/compositions", "compliance", json={**REASON, "layout": layout})
    assert asked.status == 202
    job: dict[str, Any] = await asked.json()
    return job


async def test_composition_plays_by_range_and_is_audited(desk: Desk, ask: Ask, ready: str, clock: VirtualClock) -> None:
    job = await compose(ask, ready, "side_by_side")
    assert (job["state"], job["layout"], job["by"]["name"]) == ("queued", "side_by_side", "Cleo")
    assert (await compose(ask, ready, "side_by_side"))["id"] == job["id"]
    assert await work(desk, clock) == "done"
    shown = await (await ask("GET", f"/jobs/{job['id']}", "compliance")).json()
    assert (shown["state"], shown["progress"], shown["failure"]) == ("done", 100, None)
    grant = await granted(ask, ready)
    [made] = grant["compositions"]
    whole = await (await ask("GET", made["url"])).read()
    assert (len(whole), made["content_type"], made["width"]) == (made["bytes"], "video/mp4", 1280)
    with av.open(io.BytesIO(whole)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert frames == pytest.approx(made["duration_ms"] / 40, abs=1)
    part = await ask("GET", made["url"] + "&download=1", headers={"Range": "bytes=100-299"})
    assert (part.status, await part.read()) == (206, whole[100:300])
    assert f'{desk.new.public_id}-side_by_side.mp4"' in part.headers["Content-Disposition"]
    beyond = await ask("GET", made["url"], headers={"Range": f"bytes={len(whole)}-"})
    assert await code_of(beyond) == (416, "range_beyond_end")
    view = await (await ask("GET", ready, "admin")).json()
    assert [each["layout"] for each in view["compositions"]] == ["side_by_side"]
    actions = [action for action, _ in await audited(ask, ready)]
    opened = ["access_granted", "stream_opened", "composition_downloaded", "access_refused"]
    assert actions == ["composition_asked"] * 2 + opened


@pytest.mark.parametrize("codec", ["h264", "vp9", "av1"])
async def test_every_codec_that_is_recorded_can_be_composed(
    desk: Desk, ask: Ask, clock: VirtualClock, codec: str
) -> None:
    await recorded(desk, 2.0, codec)
    path = f"/recordings/{desk.new.public_id}"
    await compose(ask, path, "side_by_side")
    assert await work(desk, clock) == "done"
    [made] = (await granted(ask, path))["compositions"]
    with av.open(io.BytesIO(await (await ask("GET", made["url"])).read())) as container:
        frame = list(container.decode(video=0))[25]
    line = bytes(frame.planes[0])[200 * frame.planes[0].line_size :][:1280]
    assert [max(half) - min(half) > 60 for half in (line[:640], line[640:])] == [True, True]  # no sign: a picture


async def test_nothing_that_is_made_is_stored_in_clear(desk: Desk, ask: Ask, ready: str, clock: VirtualClock) -> None:
    for layout in ("side_by_side", "audio"):
        await compose(ask, ready, layout)
        assert await work(desk, clock) == "done"
    asked = await ask("POST", ready + "/preview", "compliance", json=REASON)
    assert asked.status == 202
    assert await work(desk, clock) == "done"
    grant = await granted(ask, ready)
    made = [await (await ask("GET", each["url"])).read() for each in grant["compositions"]]
    made += [await (await ask("GET", grant[name])).read() for name in ("thumbnail_url", "waveform_url")]
    everything = b"".join(stored(desk).values())
    for content in made:
        assert not [at for at in range(0, len(content) - 64, len(content) // 16) if content[at : at + 64] in everything]
    for mark in (b"ftyp", b"moov", b"JFIF", b'"peaks"'):
        assert mark not in everything
    waveform = json.loads(made[3])
    assert [each["name"] for each in waveform["participants"]] == ["Ana", "Ben"]
    assert max(waveform["participants"][0]["peaks"]) > 60


async def test_products_verify_offline_and_every_altered_one_is_named(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock
) -> None:
    await compose(ask, ready)
    await work(desk, clock)

    async def problems() -> list[str]:
        found = Findings()
        await check_store(FolderFiles(desk.objects_dir), desk.services.signer.key.public, found)
        return [*found.problems, *found.notes]

    assert await problems() == []
    for key in [key for key in stored(desk) if "/0/" in key]:
        path = desk.objects_dir / key
        content = path.read_bytes()
        path.write_bytes(content[:20] + bytes([content[20] ^ 1]) + content[21:])
        assert any(key in problem for problem in await problems()), key
        path.write_bytes(content)


async def test_erased_recording_takes_its_products_along(desk: Desk, ask: Ask, ready: str, clock: VirtualClock) -> None:
    await compose(ask, ready)
    await work(desk, clock)
    grant = await granted(ask, ready)
    assert (await ask("POST", ready + "/erase", "admin", json=REASON)).status == 204
    assert await code_of(await ask("GET", grant["compositions"][0]["url"])) == (409, "recording_erased")
    assert not [key for key in stored(desk) if key.startswith("recordings/")]
    assert await code_of(
        await ask("POST", ready + "/compositions", "compliance", json={**REASON, "layout": "audio"})
    ) == (409, "recording_erased")


async def test_cancelled_composition_leaves_nothing_behind(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.job_work.RENEW_S", 0.01)
    before = set(stored(desk))
    asked = await compose(ask, ready, "side_by_side")
    jobs = Jobs(desk.recordings, clock)
    job = await jobs.claim()
    assert job is not None
    assert (await (await ask("POST", f"/jobs/{asked['id']}/cancel", "compliance")).json())["state"] == "cancelled"
    assert await do(job, tools(desk, clock)) == "cancelled"
    clock.advance_ms(LEASE_MS + 1)
    await Leftovers(desk.recordings, clock).sweep()
    assert set(stored(desk)) == before
    retried = await (await ask("POST", f"/jobs/{asked['id']}/retry", "compliance")).json()
    assert retried["state"] == "queued"
    assert await work(desk, clock) == "done"
    await ask("POST", f"/jobs/{asked['id']}/cancel", "compliance")  # thrown away again
    clock.advance_ms(LEASE_MS + 1)
    await Leftovers(desk.recordings, clock).sweep()
    assert set(stored(desk)) == before
    assert (await granted(ask, ready))["compositions"] == []


async def test_job_of_a_dead_recorder_is_done_anew_and_its_remains_deleted(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock
) -> None:
    await compose(ask, ready)
    jobs = Jobs(desk.recordings, clock)
    job = await jobs.claim()
    assert job is not None
    number = await jobs.begin_product(job)
    orphan = desk.objects_dir / f"recordings/1/{desk.new.public_id}/0/{number:02d}-00000.seg"
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"half")
    assert await work(desk, clock) is None
    clock.advance_ms(LEASE_MS + 1)
    assert await work(desk, clock) == "done"
    await Leftovers(desk.recordings, clock).sweep()
    assert not orphan.exists()
    assert len((await granted(ask, ready))["compositions"]) == 1


async def test_policy_has_previews_and_compositions_made(desk: Desk, ask: Ask, ready: str, clock: VirtualClock) -> None:
    wanted = {"kind": "video", "compose": ["audio"], **REASON}
    assert (await ask("PUT", "/recordings/policies", "admin", json=wanted)).status == 200
    jobs = Jobs(desk.recordings, clock)
    assert await jobs.prepare() == 1
    assert await jobs.prepare() == 0
    listed = (await (await ask("GET", ready + "/jobs", "admin")).json())["jobs"]
    assert {(job["kind"], job["layout"], job["by"]) for job in listed} == {
        ("preview", None, None),
        ("composition", "audio", None),
    }
    assert [await work(desk, clock) for _ in range(3)] == ["done", "done", None]
    grant = await granted(ask, ready)
    assert grant["thumbnail_url"] is not None
    assert len(grant["compositions"]) == 1


async def test_part_that_turns_up_late_makes_products_anew(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock
) -> None:
    first = await compose(ask, ready)
    await work(desk, clock)
    await recorded(desk, 2.0, epoch=3)
    found = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert found is not None
    assert await products_of(desk.recordings, found) == []
    again = await compose(ask, ready)
    assert again["id"] != first["id"]


async def test_wrong_wishes_are_refused_clearly(desk: Desk, ask: Ask, ready: str, clock: VirtualClock) -> None:
    wish = {**REASON, "layout": "audio"}
    assert await code_of(await ask("POST", ready + "/compositions", "admin", json=wish)) == (403, "forbidden")
    assert await code_of(await ask("POST", ready + "/compositions", "compliance", json={"layout": "audio"})) == (
        400,
        "reason_required",
    )
    assert await code_of(await ask("POST", ready + "/compositions", "compliance", json={**REASON, "layout": "x"})) == (
        400,
        "bad_layout",
    )
    job = await compose(ask, ready)
    assert await code_of(await ask("POST", f"/jobs/{job['id']}/download", "compliance")) == (409, "job_not_done")
    assert await code_of(await ask("POST", f"/jobs/{job['id']}/retry", "compliance")) == (409, "wrong_state")
    assert await code_of(await ask("GET", f"/jobs/{job['id']}", "client")) == (403, "forbidden")
    assert await code_of(await ask("GET", "/jobs/job_00000000000000000000", "compliance")) == (404, "not_found")
    assert await code_of(await ask("GET", ready + "/thumbnail?grant=x")) == (403, "no_access")


async def test_process_of_lowest_priority_does_a_job_and_one_that_dies_is_tried_again(
    desk: Desk, ask: Ask, ready: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SystemClock()
    jobs = Jobs(desk.recordings, clock)
    settings = desk.settings.model_copy(update={"jobs": 1})
    desk.recordings._clock = clock  # type: ignore[attr-defined] - the child's clock is the system's
    asked, other = await compose(ask, ready), await compose(ask, ready, "speaker")
    pool = JobPool(jobs, settings)

    async def until(state: str, of: dict[str, Any]) -> Job:
        async with asyncio.timeout(60):
            while True:
                job = await jobs.find(DEFAULT_TENANT, of["id"])
                assert job is not None
                if job.state == state:
                    return job
                await asyncio.sleep(0.05)

    try:
        await pool.fill()
        await pool.fill()  # one at once
        assert (await until("queued", other)).attempts == 0
        assert await asyncio.to_thread(_niceness_reached, asked["id"]) == (NICENESS, NICENESS)
        await until("done", asked)
        filling = asyncio.create_task(_fill(pool))
        os.kill(await asyncio.to_thread(_process_of, other["id"]), signal.SIGKILL)
        again = await until("queued", other)
        assert "SIGKILL" in (again.failure or "")
        filling.cancel()
    finally:
        await pool.close()


async def _fill(pool: JobPool) -> None:
    """As the keeper does."""
    while True:
        await pool.fill()
        await asyncio.sleep(0.02)


def _process_of(public_id: str) -> int:
    """The process that does a job, once it is there."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if public_id.encode() in path.read_bytes():
                    return int(path.parent.name)
        time.sleep(0.01)
    raise AssertionError("no process does the job")


def _niceness_reached(public_id: str) -> tuple[int, int]:
    """The niceness of the job's process and of its session at last: they stand back before anything else is done."""
    place = Path(f"/proc/{_process_of(public_id)}")
    own = group = 0
    with contextlib.suppress(OSError):
        while min(own, group) < NICENESS:
            own = int((place / "stat").read_text().rsplit(")", 1)[1].split()[16])
            # "/autogroup-123 nice 19"; a kernel without it counts niceness for all processes alike
            group = int((place / "autogroup").read_text().split()[-1]) if AUTOGROUP.exists() else own
    return own, group


async def test_missing_segment_fails_the_job_by_its_name(desk: Desk, ask: Ask, ready: str, clock: VirtualClock) -> None:
    job = await compose(ask, ready)
    next(desk.objects_dir.rglob("*.seg")).unlink()
    assert await work(desk, clock) == "failed"
    shown = await (await ask("GET", f"/jobs/{job['id']}", "compliance")).json()
    assert (shown["state"], ".seg is missing" in shown["failure"]) == ("failed", True)


async def test_store_that_is_away_in_the_middle_makes_the_job_wait(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.job_work.PIECE_BYTES", 8 * 1024)
    job = await compose(ask, ready, "side_by_side")
    put = desk.services.objects.put

    async def fails(key: str, data: bytes, **more: Any) -> None:
        if key.endswith("-00002.seg"):
            raise ObjectStoreError("the bucket does not answer")
        await put(key, data, **more)

    monkeypatch.setattr(desk.recordings.objects, "put", fails)
    assert await work(desk, clock) == "waiting"
    shown = await (await ask("GET", f"/jobs/{job['id']}", "compliance")).json()
    assert (shown["state"], shown["attempts"], "does not answer" in shown["failure"]) == ("queued", 1, True)
    monkeypatch.setattr(desk.recordings.objects, "put", put)
    clock.advance_ms(LEASE_MS + 1)
    assert await work(desk, clock) == "done"
    grant = await granted(ask, ready)
    whole = await (await ask("GET", grant["compositions"][0]["url"])).read()
    with av.open(io.BytesIO(whole)) as container:
        assert sum(1 for _ in container.decode(video=0)) > 40


async def test_attempts_run_out(desk: Desk, ask: Ask, ready: str, clock: VirtualClock) -> None:
    asked = await compose(ask, ready)
    jobs = Jobs(desk.recordings, clock)
    for attempt in range(1, ATTEMPTS_MAX + 1):
        job = await jobs.claim()
        assert job is not None
        assert job.attempts == attempt
        await jobs.fail(job, "The store could not be reached.", for_good=False)
        assert await jobs.claim() is None  # not at once
        clock.advance_ms(120_000)
    shown = await jobs.find(DEFAULT_TENANT, asked["id"])
    assert shown is not None
    assert (shown.state, shown.failure) == ("failed", "The store could not be reached.")


async def test_expiry_and_hold_cover_products(desk: Desk, ask: Ask, ready: str, clock: VirtualClock) -> None:
    await compose(ask, ready)
    await work(desk, clock)
    hold = await (await ask("POST", ready + "/holds", "compliance", json=REASON)).json()
    lifecycle = Lifecycle(desk.recordings, desk.services.signer.key, clock)
    clock.advance_ms(retention.KEEP_DAYS_DEFAULT * retention.DAY_MS + 1)
    assert await lifecycle.expire() == 0
    assert [key for key in stored(desk) if "/0/01-" in key]
    await ask("POST", f"/holds/{hold['id']}/release", "compliance", json=REASON)
    assert await lifecycle.expire() == 1
    assert not [key for key in stored(desk) if key.startswith("recordings/")]
