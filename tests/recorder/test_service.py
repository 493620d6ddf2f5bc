"""The recorder as a process: killed, stopped, poisoned; what it had in hand is completed without a hand."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from config.clock import VirtualClock
from config.ids import DEFAULT_TENANT, SessionId
from config.metrics import render
from recorder import metrics, service, upkeep
from recorder.errors import RecorderError, Unavailable
from recorder.job import PartJob
from recorder.service import Recorder
from recorder.verify import export_streams, verify
from tests.recorder.conftest import Desk
from tests.recorder.media import Scene, Sender, audio, decode, video
from tests.recorder.scenes import mux
from tests.recorder.test_job import call, stored

_ROLE = "import sys; from config.process import run_role; from config.settings import Settings; "
_ROLE += "from recorder.service import main; sys.exit(run_role('recorder', Settings(), main))"


class Process:
    """The recorder role."""

    def __init__(self, desk: Desk) -> None:
        environment = {
            **os.environ,
            "TURNPIKE_DATA": str(desk.settings.data),
            "DATABASE_URL": desk.settings.database_url or "",
            "TURNPIKE_SEGMENT_MS": "1000",
            "TURNPIKE_LOG_FORMAT": "text",
        }
        self.process = subprocess.Popen([sys.executable, "-c", _ROLE], env=environment)

    def stop(self, sig: signal.Signals) -> int:
        self.process.send_signal(sig)
        return self.process.wait(30)


async def until_stored(desk: Desk, segments: int) -> None:
    async with asyncio.timeout(40):
        while sum(name.endswith(".seg") for name in stored(desk)) < segments:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


async def until_state(desk: Desk, state: str) -> None:
    async with asyncio.timeout(40):
        while True:
            found = await desk.recordings.of_session(DEFAULT_TENANT, SessionId(5))
            if found is not None and found.state == state:
                return
            await asyncio.sleep(0.05)


async def until_kept(directory: Path) -> None:
    async with asyncio.timeout(40):
        while not upkeep.is_kept(directory):  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.05)


def speak(scene: Scene, desk: Desk, seconds: float) -> list[tuple[int, bytes, int]]:
    """Two tracks, as (arrival, packet, which stream), in order of arrival."""
    user_id = desk.people["client"].id
    sound, picture = Sender("opus", ssrc=1, user_id=user_id), Sender("vp8", ssrc=2, user_id=user_id)
    for sender in (sound, picture):
        scene.part.add_stream(sender.track, scene.part.header.started_monotonic_ns)
    packets = [(p.arrival_ns, p.data, 0) for p in sound.packets(audio(seconds))]
    packets += [(p.arrival_ns, p.data, 1) for p in picture.packets(video("vp8", seconds))]
    return sorted(packets)


def spool(scene: Scene, packets: list[tuple[int, bytes, int]]) -> None:
    for number, (arrival_ns, data, stream) in enumerate(packets):
        scene.part._streams[stream].rtp(arrival_ns, data)
        if number % 40 == 0:
            scene.part.flush(sync=False)
    scene.part.flush(sync=False)


async def test_recorder_killed_twice_in_a_call_loses_nothing(desk: Desk, tmp_path: Path) -> None:
    scene = desk.scene()
    packets = speak(scene, desk, 14.0)
    third = len(packets) * 3 // 4
    recorder = Process(desk)
    try:
        spool(scene, packets[:third])
        await until_stored(desk, 2)
        recorder.stop(signal.SIGKILL)
        before = stored(desk)
        recorder = Process(desk)
        spool(scene, packets[third:-40])
        await until_stored(desk, len([name for name in before if name.endswith(".seg")]) + 1)
        recorder.stop(signal.SIGKILL)
        before |= stored(desk)
        spool(scene, packets[-40:])
        scene.close()
        recorder = Process(desk)
        await until_state(desk, "ready")
        assert recorder.stop(signal.SIGTERM) == 0
    finally:
        recorder.process.kill()
        recorder.process.wait()
    assert before.items() <= stored(desk).items()
    assert (await verify(desk.recordings, desk.new.public_id)).ok
    (exported,) = await export_streams(desk.recordings, desk.new.public_id)
    found = decode(exported.data)
    assert (len(found.video_ms), len(found.audio_ms), found.duration_ms) == (420, 700, 14_000.0)
    assert not scene.directory.exists()


_WORKER = """
import sys, time
from pathlib import Path
import msgspec
from relay.spool import PartHeader, SpoolWriter
from tests.recorder.media import START_NS, Sender, audio, video
from tests.recorder.test_service import Scene
directory, key = Path(sys.argv[1]), bytes.fromhex(sys.argv[3])
header = msgspec.json.decode(sys.argv[2], type=PartHeader)
with SpoolWriter() as writer:
    part = writer.open_part(directory, header, key).result()
    user = header.participants[0].user_id
    senders = [Sender("opus", ssrc=1, user_id=user), Sender("vp8", ssrc=2, user_id=user)]
    streams = [part.add_stream(sender.track, START_NS) for sender in senders]
    packets = [(p.arrival_ns, p.data, 0) for p in senders[0].packets(audio(20.0))]
    packets += [(p.arrival_ns, p.data, 1) for p in senders[1].packets(video("vp8", 8.0))]
    for number, (at, data, stream) in enumerate(sorted(packets)):
        streams[stream].rtp(at, data)
        if number % 60 == 0:
            time.sleep(0.1)
            print(number, flush=True)
"""


async def test_worker_killed_in_a_call_leaves_a_complete_recording(desk: Desk) -> None:
    header = msgspec.json.encode(desk.header()).decode()
    key = desk.keys.unwrap(desk.new.key_id, desk.new.wrapped_key, desk.new.public_id)
    recorder = Process(desk)
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WORKER, str(desk.settings.spool_dir), header, key.hex(), stdout=subprocess.PIPE
    )
    try:
        assert worker.stdout is not None
        async with asyncio.timeout(30):
            while int(await worker.stdout.readline() or b"9999") < 700:
                pass
        worker.kill()
        await worker.wait()
        await until_state(desk, "ready")
        assert recorder.stop(signal.SIGTERM) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            worker.kill()
        recorder.process.kill()
        recorder.process.wait()
    assert (await verify(desk.recordings, desk.new.public_id)).ok
    (exported,) = await export_streams(desk.recordings, desk.new.public_id)
    found = decode(exported.data)
    assert found.audio_ms[-1] > 4500
    assert len(found.video_ms) > 100


async def test_told_to_stop_it_leaves_live_calls_to_its_successor_at_once(desk: Desk) -> None:
    scene = desk.scene()
    spool(scene, speak(scene, desk, 7.0))
    recorder = Process(desk)
    try:
        await until_stored(desk, 1)
        began = time.monotonic()
        assert recorder.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began < 5
    finally:
        recorder.process.kill()
        recorder.process.wait()
    assert scene.directory.exists()
    assert upkeep.crashes(scene.directory) == 0
    scene.close()


@contextlib.asynccontextmanager
async def running(desk: Desk, clock: VirtualClock) -> AsyncIterator[Recorder]:
    recorder = Recorder(desk.settings, desk.services, clock)
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await recorder.drain()


async def test_part_that_cannot_be_read_harms_no_other_and_is_kept(
    desk: Desk, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "TRY_WAIT_S", 0.01)
    scene = call(desk, 3.0)
    scene.close()
    poison = desk.settings.spool_dir / "rec_0" / "1"
    poison.mkdir(parents=True)
    (poison / "part.json").write_text('{"version": 1}')
    async with running(desk, clock):
        await until_state(desk, "ready")
        await until_kept(poison)
    assert "SpoolError" in (poison / upkeep.KEPT_NAME).read_text()
    assert (poison / "part.json").exists()


async def test_what_is_not_stored_is_tried_for_ever_after_a_fault_that_may_pass(
    desk: Desk, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "TRY_WAIT_S", 0.0)
    scene, tries = call(desk, 2.0), []
    scene.close()
    run = PartJob.run

    async def fail_often(job: PartJob) -> str:
        tries.append(1)
        if len(tries) <= service.TRIES_MAX + 4:
            raise OSError("the disk has a bad day")
        return await run(job)

    monkeypatch.setattr(PartJob, "run", fail_often)
    async with running(desk, clock):
        await until_state(desk, "ready")
    assert not upkeep.is_kept(scene.directory)


async def test_given_up_part_is_told_in_the_catalogue_and_may_be_tried_again(
    desk: Desk, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "TRY_WAIT_S", 0.01)
    scene = call(desk, 3.0)
    scene.close()
    good, blind = desk.services.keys, type(desk.services.keys)({"other": bytes(32)}, "other")
    desk.services = dataclasses.replace(desk.services, keys=blind)
    async with running(desk, clock):
        await until_state(desk, "failed")
        await until_kept(scene.directory)
    (scene.directory / upkeep.KEPT_NAME).unlink()
    desk.services = dataclasses.replace(desk.services, keys=good)
    async with running(desk, clock):
        await until_state(desk, "ready")


async def test_part_that_killed_the_recorder_is_worked_on_in_a_process_of_its_own(
    desk: Desk, clock: VirtualClock
) -> None:
    scene = call(desk, 3.0)
    scene.close()
    for _ in range(upkeep.CRASHES_MAX):
        upkeep.note_attempt(scene.directory)
    async with running(desk, clock) as recorder:
        await asyncio.sleep(0.1)
        assert scene.directory in recorder._tasks
        assert scene.directory not in recorder._jobs
        await until_state(desk, "ready")


async def test_process_that_dies_with_a_part_is_no_reason_to_give_the_part_up(
    desk: Desk, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = iter([-9, service.EXIT_FAILED, service.EXIT_HOPELESS])

    class Dead:
        async def wait(self) -> int:
            return next(statuses)

    async def dead(*_: object, **__: object) -> Dead:
        return Dead()

    monkeypatch.setattr(asyncio, "create_subprocess_exec", dead)
    recorder = Recorder(desk.settings, desk.services, clock)
    for kind in (ChildProcessError, ChildProcessError, RecorderError):
        with pytest.raises(kind) as told:
            await recorder._alone(Path("part"))
        assert service.is_hopeless(told.value) == (kind is RecorderError)
    assert not service.is_hopeless(Unavailable("PostgreSQL is away"))


async def test_second_recorder_waits_for_the_first(tmp_path: Path) -> None:
    async with service.only_recorder(tmp_path):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), service.only_recorder(tmp_path):
                pass
    async with asyncio.timeout(1), service.only_recorder(tmp_path):
        pass


def test_remnants_go_and_parts_being_made_stay(tmp_path: Path) -> None:
    for name, age_s in (("old", 100), ("new", 0)):
        (tmp_path / name / "1").mkdir(parents=True)
        lock = tmp_path / name / "1" / "lock"
        lock.touch()
        os.utime(lock, (time.time() - age_s,) * 2)
    upkeep.remove_remnants(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_reading_a_part_needs_no_more_than_its_files(tmp_path: Path) -> None:
    scene = Scene(tmp_path, bytes(range(32)))
    scene.close()
    assert mux(scene.directory).runs == []


def test_metrics_follow_the_rules_of_prometheus(tool: Callable[[str, str], str]) -> None:
    promtool = tool("promtool", "prometheus")
    metrics.RETRIES.labels("store")
    checked = subprocess.run([promtool, "check", "metrics"], input=render(), capture_output=True, check=False)
    assert b"turnpike_recorder_bytes_total" in render()
    assert not [line for line in checked.stderr.decode().splitlines() if "recorder" in line]
