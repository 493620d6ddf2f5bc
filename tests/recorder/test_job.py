"""A part goes from the spool into the store, whatever happens on the way."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from config.database import Database
from config.ids import DEFAULT_TENANT, SessionId
from config.objects import DirectoryStore, ObjectLock, ObjectStoreError
from recorder import job as module
from recorder import upkeep
from recorder.check import Findings, check_store
from recorder.files import FolderFiles
from recorder.job import PartJob
from recorder.pipeline import Pipeline
from recorder.store import Store, UnknownRecording
from recorder.verify import export_streams, verify
from tests.recorder.conftest import Desk
from tests.recorder.media import START_WALL_MS, Scene, Sender, audio, decode, video


def call(desk: Desk, seconds: float = 6.0, codec: str = "vp8", epoch: int = 1) -> Scene:
    """Both sides with sound and picture."""
    scene = desk.scene(epoch)
    for number, role in enumerate(("client", "provider")):
        user_id = desk.people[role].id
        sound = Sender("opus", ssrc=10 + number, user_id=user_id)
        picture = Sender(codec, ssrc=20 + number, user_id=user_id)
        scene.add(sound, sound.packets(audio(seconds)), reports_ms=(2500,))
        scene.add(picture, picture.packets(video(codec, seconds)))
    return scene


async def recorded(desk: Desk, seconds: float = 6.0, codec: str = "vp8", epoch: int = 1) -> None:
    """Such a call, spooled and stored as a part of the recording."""
    scene = call(desk, seconds, codec, epoch)
    scene.close()
    await PartJob(scene.directory, desk.services).run()


def stored(desk: Desk) -> dict[str, bytes]:
    root = desk.objects_dir
    objects = [path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix != ".part"]  # being written
    return {str(path.relative_to(root)): path.read_bytes() for path in objects}


async def test_finished_call_becomes_a_ready_recording(desk: Desk) -> None:
    scene = call(desk)
    scene.close()
    assert await PartJob(scene.directory, desk.services).run() == "ready"
    found = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert found is not None
    assert (found.state, found.duration_ms, found.started_at_ms) == ("ready", 6000, START_WALL_MS + 20)
    assert [stream.video_frames for stream in found.streams] == [180, 180]
    for exported in await export_streams(desk.recordings, desk.new.public_id):
        decoded = decode(exported.data)
        assert (len(decoded.video_ms), len(decoded.audio_ms), decoded.duration_ms) == (180, 300, 6000.0)
    assert await verify(desk.recordings, desk.new.public_id) == (True, [], len(await desk.recordings.entries(found)))
    assert not scene.directory.parent.exists()


async def test_nothing_of_the_media_is_on_disk_in_clear(desk: Desk) -> None:
    scene = call(desk, 3.0)
    scene.close()
    marks = [b"\x9d\x01\x2a", *(frame.data[40:72] for frame in video("vp8", 3.0)[:40:8])]
    in_spool = b"".join(path.read_bytes() for path in scene.directory.iterdir())
    await PartJob(scene.directory, desk.services).run()
    everything = in_spool + b"".join(stored(desk).values())
    assert not [mark for mark in marks[1:] if mark in everything]
    assert everything.count(marks[0]) < 4  # in clear there are eight; three bytes turn up by chance as well


async def test_manifest_tells_participants_clocks_and_chained_hashes(desk: Desk) -> None:
    await recorded(desk)
    manifest = json.loads(stored(desk)[f"recordings/1/{desk.new.public_id}/1/manifest.json"])
    assert manifest["version"] == 1
    assert manifest["encryption"]["key_id"] == desk.new.key_id
    assert {each["role"] for each in manifest["participants"]} == {"client", "provider"}
    assert [track["anchors"][0]["used"] for track in manifest["tracks"]] == [True] * 4
    assert len(manifest["chain"]["entries"]) == sum(name.endswith(".seg") for name in stored(desk))
    assert all(stream["derivative"]["file_sha256"] for stream in manifest["streams"])


@pytest.mark.parametrize("kind", ["segment", "front", "manifest", "missing", "swapped"])
async def test_tampering_is_found(desk: Desk, kind: str) -> None:
    await recorded(desk)
    folder = desk.objects_dir / "recordings" / "1" / desk.new.public_id / "1"
    if kind == "missing":
        (folder / "01-00000.seg").unlink()
    elif kind == "swapped":
        one, two = folder / "01-00000.seg", folder / "02-00000.seg"
        data = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(data)
    else:
        path = folder / {"segment": "02-00000.seg", "front": "01-front", "manifest": "manifest.json"}[kind]
        altered = bytearray(path.read_bytes())
        altered[len(altered) // 2] ^= 1
        path.write_bytes(altered)
    found = await verify(desk.recordings, desk.new.public_id)
    assert not found.ok
    assert found.problems


async def test_altered_catalogue_is_found(desk: Desk, owner: Any) -> None:
    await recorded(desk, 3.0)
    await owner.execute("update recording_segment set end_ms = end_ms + 1 where stream = 1 and segment = 0")
    found = await verify(desk.recordings, desk.new.public_id)
    assert "part 1: the chain of the catalogue does not hold" in found.problems


async def test_torn_tail_of_a_dead_worker_costs_only_the_tail(desk: Desk) -> None:
    scene = call(desk)
    scene.part.flush(sync=True)
    scene.part._unlock()  # what the kernel does when the worker dies
    for path in scene.directory.glob("*.spool"):
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * 0.9)])
    assert await PartJob(scene.directory, desk.services).run() == "ready"
    found = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert found is not None
    assert 5000 <= (found.duration_ms or 0) <= 5700
    assert [
        len(decode(each.data).video_ms) > 140 for each in await export_streams(desk.recordings, found.public_id)
    ] == [
        True,
        True,
    ]


async def test_recording_follows_a_live_part_and_completes_when_its_worker_dies(desk: Desk) -> None:
    scene = desk.scene()
    sound = Sender("opus", ssrc=1, user_id=desk.people["client"].id)
    stream = scene.part.add_stream(sound.track, sound.packets(audio(0.1))[0].arrival_ns)
    job = PartJob(scene.directory, desk.services)
    task = asyncio.create_task(job.run())
    packets = sound.packets(audio(12.0))
    for start in range(0, len(packets), 50):
        for packet in packets[start : start + 50]:
            stream.rtp(packet.arrival_ns, packet.data)
        scene.part.flush(sync=False)
    async with asyncio.timeout(20):
        while not any(name.endswith(".seg") for name in stored(desk)):  # noqa: ASYNC110 - a file of another task
            await asyncio.sleep(0.05)
    assert not task.done()
    last = sorted(scene.directory.glob("*.spool"))[-1]
    with last.open("ab") as file:
        file.write(last.read_bytes()[-700:-300])  # a block that the dead worker did not finish: rubbish at the end
    scene.part._unlock()
    assert await task == "ready"
    found = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert found is not None
    assert found.duration_ms == 12_000


class Flaky(DirectoryStore):
    """A store that is away every other time, and forgets to answer once it has stored."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.calls = 0

    async def put(self, key: str, data: bytes, *, sha256: bytes, lock: ObjectLock | None = None) -> None:
        self.calls += 1
        if self.calls % 3 == 1:
            raise ObjectStoreError("away")
        await super().put(key, data, sha256=sha256)
        if self.calls % 3 == 2:
            raise ObjectStoreError("the answer was lost")


async def test_store_that_is_away_is_waited_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_MIN_S", 0.001)
    monkeypatch.setattr(module, "WAIT_MAX_S", 0.001)
    scene = call(desk, 3.0)
    scene.close()
    services = dataclasses.replace(desk.services, objects=Flaky(desk.objects_dir))
    assert await PartJob(scene.directory, services).run() == "ready"
    assert (await verify(desk.recordings, desk.new.public_id)).ok


async def test_database_that_is_away_is_waited_for(
    desk: Desk, database_urls: Any, monkeypatch: pytest.MonkeyPatch, loop_faults: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(module, "WAIT_MIN_S", 0.01)
    scene = call(desk, 3.0)
    scene.close()
    async with await Database.open(database_urls.app_url, name="flaky") as database:
        other = await asyncpg.connect(database_urls.app_url)
        services = dataclasses.replace(desk.services, store=Store(database))
        task = asyncio.create_task(PartJob(scene.directory, services).run())
        for _ in range(5):
            await asyncio.sleep(0.02)
            await other.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'turnpike-flaky'"
            )
        assert await task == "ready"
        await other.close()
    loop_faults.clear()  # the pool's own attempts to connect, while the server says no
    assert (await verify(desk.recordings, desk.new.public_id)).ok


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
async def test_job_that_is_cut_off_anywhere_is_done_again_alike(
    desk: Desk, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorder dies after some segments are stored but the last of them is not in the catalogue."""

    class Killed(BaseException):
        pass

    scene = call(desk)
    scene.close()
    added, add_segment = 0, Store.add_segment

    async def dying(self: Store, *args: Any) -> None:
        nonlocal added
        added += 1
        if added == steps:
            raise Killed
        await add_segment(self, *args)

    monkeypatch.setattr(Store, "add_segment", dying)
    with pytest.raises(Killed):
        await PartJob(scene.directory, desk.services).run()
    before = stored(desk)
    assert await PartJob(scene.directory, desk.services).run() == "ready"
    after = stored(desk)
    assert {name: after[name] for name in before} == before
    assert (await verify(desk.recordings, desk.new.public_id)).ok
    assert [len(decode(each.data).video_ms) for each in await export_streams(desk.recordings, desk.new.public_id)] == [
        180,
        180,
    ]


class Overwriting(DirectoryStore):
    """A store that knows no ``If-None-Match``, as some services are."""

    async def put(self, key: str, data: bytes, *, sha256: bytes, lock: ObjectLock | None = None) -> None:
        await self.delete(key)
        await super().put(key, data, sha256=sha256, lock=lock)


async def test_last_manifest_stays_when_the_recorder_dies_after_it_was_noted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    scene = call(desk, 3.0)
    scene.close()
    services = dataclasses.replace(desk.services, objects=Overwriting(desk.objects_dir))

    async def dying(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Store, "finish_part", dying)
        with pytest.raises(Killed):
            await PartJob(scene.directory, services).run()
    before = {name: data for name, data in stored(desk).items() if "manifest" in name}
    assert await PartJob(scene.directory, services).run() == "ready"
    assert {name: data for name, data in stored(desk).items() if "manifest" in name} == before
    assert (await verify(desk.recordings, desk.new.public_id)).ok
    found = Findings()
    await check_store(FolderFiles(desk.objects_dir), desk.services.signer.key.public, found)
    assert found.problems == []


async def test_stream_that_is_muxed_differently_is_stored_anew_and_the_old_one_stays(desk: Desk) -> None:
    scene = call(desk)
    scene.close()
    other = dataclasses.replace(desk.services, segment_ms=1000)
    part = await desk.services.store.begin_part(desk.header())
    job = PartJob(scene.directory, other)
    pipeline = Pipeline(scene.directory, job._unwrap, 1000)
    round_ = pipeline.round()
    for output in round_.outputs[:6]:
        await job._take(pipeline, part, output)
    pipeline.close()
    before = stored(desk)
    assert await PartJob(scene.directory, desk.services).run() == "ready"
    assert before.items() <= stored(desk).items()
    assert (await verify(desk.recordings, desk.new.public_id)).ok
    found = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert found is not None
    assert len(await desk.recordings.all_streams(found)) > len(found.streams) == 2


async def test_part_of_many_streams_that_are_all_muxed_differently_is_stored_anew(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(BaseException):
        pass

    scene = desk.scene()
    user_id = desk.people["client"].id
    for number in range(module.DIVERGED_MAX + 2):  # as of somebody who comes back all the time
        sound, at_ms = Sender("opus", ssrc=10 + number, user_id=user_id), number * 4_000.0
        scene.add(sound, sound.packets(audio(3.0), at_ms), reports_ms=(), declared_ms=at_ms, ends=True)
    scene.close()

    async def dying(*_: Any) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Store, "finishing", dying)
        with pytest.raises(Stopped):
            await PartJob(scene.directory, dataclasses.replace(desk.services, segment_ms=1000)).run()
    assert await PartJob(scene.directory, desk.services).run() == "ready"
    found = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert found is not None
    assert len(found.streams) == module.DIVERGED_MAX + 2
    assert (await verify(desk.recordings, desk.new.public_id)).ok


async def test_stream_of_which_more_was_stored_than_there_is_now_is_stored_anew(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(BaseException):
        pass

    scene = call(desk)
    scene.close()
    with monkeypatch.context() as patched:

        async def dying(*_: Any) -> None:
            raise Stopped

        patched.setattr(Store, "finishing", dying)
        with pytest.raises(Stopped):
            await PartJob(scene.directory, desk.services).run()
    part = await desk.services.store.begin_part(desk.header())
    stream = part.streams[0]
    more = dataclasses.replace(next(each for each in part.entries if each.stream == stream.n), segment=90)
    await desk.services.store.add_segment(part, stream, more, 0)
    assert await PartJob(scene.directory, desk.services).run() == "ready"
    found = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert found is not None
    assert [each.video_frames for each in found.streams] == [180, 180]
    assert stream.n not in [each.n for each in found.streams]


def damage(scene: Scene) -> Path:
    """Flip a bit in the newest block of the spool's second file; returns that file."""
    damaged = scene.directory / "0002.spool"
    data = bytearray(damaged.read_bytes())
    data[-20] ^= 1
    damaged.write_bytes(data)
    return damaged


async def test_damaged_spool_gives_what_is_whole_and_is_kept(desk: Desk) -> None:
    scene = call(desk)
    scene.close()
    damaged = damage(scene)
    assert await PartJob(scene.directory, desk.services).run() == "ready"
    assert (scene.directory / "kept").exists()
    assert damaged.exists()
    manifest = json.loads(stored(desk)[f"recordings/1/{desk.new.public_id}/1/manifest.json"])
    assert "spool file 2" in manifest["problems"][0]


async def test_damaged_spool_is_kept_by_the_successor_of_a_recorder_that_died_before_it_could(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = call(desk)
    scene.close()
    damaged = damage(scene)

    def die(_directory: Path, _why: str) -> None:
        raise OSError("the end")

    with monkeypatch.context() as patched:
        patched.setattr(upkeep, "keep", die)
        with pytest.raises(OSError, match="the end"):
            await PartJob(scene.directory, desk.services).run()
    assert await PartJob(scene.directory, desk.services).run() == "ready"
    assert damaged.exists()
    assert "spool file 2" in (scene.directory / "kept").read_text()


async def test_parts_of_two_workers_make_one_recording(desk: Desk) -> None:
    for epoch in (1, 2):
        scene = call(desk, 3.0, epoch=epoch)
        scene.close()
        assert await PartJob(scene.directory, desk.services).run() == "ready"
    found = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert found is not None
    assert [(stream.n, stream.epoch) for stream in found.streams] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    assert await verify(desk.recordings, desk.new.public_id) == (True, [], 4)


async def test_part_of_a_recording_that_the_catalogue_does_not_know_is_not_touched(desk: Desk, owner: Any) -> None:
    scene = call(desk, 3.0)
    scene.close()
    await owner.execute("update recording set public_id = 'rec_another'")
    with pytest.raises(UnknownRecording):
        await PartJob(scene.directory, desk.services).run()
    assert scene.directory.exists()
    assert stored(desk) == {}


async def test_session_without_media_is_marked_as_failed(desk: Desk) -> None:
    scene = desk.scene()
    scene.close()
    assert await PartJob(scene.directory, desk.services).run() == "failed"
    await desk.recordings.end(DEFAULT_TENANT, SessionId(5), START_WALL_MS)
    summary = await desk.recordings.of_session(DEFAULT_TENANT, SessionId(5))
    assert summary is not None
    assert summary.state == "failed"


async def test_recording_that_no_worker_began_is_given_up_after_its_session(desk: Desk) -> None:
    store = desk.services.store
    await desk.recordings.end(DEFAULT_TENANT, SessionId(5), START_WALL_MS - 1)  # told before: the first time counts
    assert await store.give_up_unrecorded(START_WALL_MS + 60_000) == 0
    assert await store.give_up_unrecorded(START_WALL_MS + 60_001) == 1
