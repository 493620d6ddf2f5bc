"""A recording of which a part could not be stored: the rest, once it is signed, is played and exported all the same."""

from __future__ import annotations

import io
import json
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest

from config.clock import VirtualClock
from recorder.job import PartJob
from recorder.missing import span_ms
from recorder.store import Store
from tests.recorder.asking import REASON, Ask, code_of
from tests.recorder.conftest import Desk
from tests.recorder.test_compliance import check, exported, work
from tests.recorder.test_job import call

WHY = "IndexError: index out of range (it is tried again)"


async def give_up(desk: Desk, epoch: int) -> None:
    part = await desk.services.store.begin_part(desk.header(epoch))
    await desk.services.store.finish_part(part, WHY)


@pytest.fixture
async def partial(desk: Desk) -> str:
    """Path of a signed recording whose second part, of two, failed."""
    scene = call(desk, 2.0)
    scene.close()
    await give_up(desk, 2)
    assert await PartJob(scene.directory, desk.services).run() == "failed"
    assert await desk.services.signer.sign_complete() == 1
    return f"/recordings/{desk.new.public_id}"


async def test_it_shows_what_is_missing_and_plays_the_rest(desk: Desk, ask: Ask, partial: str) -> None:
    view = await (await ask("GET", partial, "admin")).json()
    assert (view["state"], view["signed"], view["hashes_ok"]) == ("failed", True, None)
    missing = [{"epoch": 2, "failure": WHY, "from_ms": view["duration_ms"], "to_ms": None}]
    assert view["missing"] == missing
    asked = await ask("POST", partial + "/access", "compliance", json=REASON)
    assert asked.status == 200
    grant = await asked.json()
    assert [stream["n"] for stream in grant["streams"]] == [1, 2]
    for stream, shown in zip(grant["streams"], view["streams"], strict=True):
        played = await ask("GET", stream["url"], headers={"Range": "bytes=0-99"})
        assert (played.status, len(await played.read())) == (206, 100)
        assert len(await (await ask("GET", stream["url"])).read()) == shown["bytes"]
    manifest = await (await ask("GET", grant["manifest_url"])).json()
    assert ([part["epoch"] for part in manifest["parts"]], manifest["missing"]) == ([1], missing)
    assert "rhubarb" in await (await ask("GET", grant["story_url"])).text()


async def test_its_export_verifies_and_names_what_is_missing(
    desk: Desk, ask: Ask, partial: str, clock: VirtualClock, tmp_path: Path
) -> None:
    data = await exported(ask, desk, partial, clock)
    path = tmp_path / "bundle.zip"
    path.write_bytes(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert len([name for name in archive.namelist() if name.startswith("media/")]) == 2
        told = json.loads(archive.read("bundle.json"))["statement"]["missing"]
    assert [(each["epoch"], each["failure"]) for each in told] == [(2, WHY)]
    found = await check(path, desk)
    assert (found.problems, found.notes) == ([], [f"part 2 of the call is missing: {WHY}"])


async def test_a_part_that_failed_half_way_is_neither_played_nor_a_problem_of_the_export(
    desk: Desk, ask: Ask, clock: VirtualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = call(desk, 2.0), call(desk, 2.0, epoch=2)
    first.close()
    second.close()
    finish = Store.finish_part

    async def fail(self: Store, part: Any, _failure: str | None) -> str:
        return await finish(self, part, WHY)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "finish_part", fail)  # all of it is stored by then
        await PartJob(second.directory, desk.services).run()
    assert await PartJob(first.directory, desk.services).run() == "failed"
    assert await desk.services.signer.sign_complete() == 1
    path = f"/recordings/{desk.new.public_id}"
    view = await (await ask("GET", path, "admin")).json()
    assert (view["signed"], len(view["streams"])) == (True, 2)
    grant = await (await ask("POST", path + "/access", "compliance", json=REASON)).json()
    first_url = grant["streams"][0]["url"]
    played = {stream["n"] for stream in grant["streams"]}
    for n in range(1, 5):
        answer = await ask("GET", first_url.replace(f"/streams/{grant['streams'][0]['n']}?", f"/streams/{n}?"))
        assert answer.status == (200 if n in played else 404)
    (tmp_path / "bundle.zip").write_bytes(await exported(ask, desk, path, clock))
    found = await check(tmp_path / "bundle.zip", desk)
    assert (found.problems, found.notes) == ([], [f"part 2 of the call is missing: {WHY}"])


async def test_one_file_is_made_of_the_rest(desk: Desk, ask: Ask, partial: str, clock: VirtualClock) -> None:
    asked = await ask("POST", partial + "/compositions", "compliance", json={**REASON, "layout": "audio"})
    assert asked.status == 202
    assert await work(desk, clock)
    grant = await (await ask("POST", partial + "/access", "compliance", json=REASON)).json()
    [made] = grant["compositions"]
    assert len(await (await ask("GET", made["url"])).read()) == made["bytes"]


async def test_what_was_never_signed_is_not_played(desk: Desk, ask: Ask, clock: VirtualClock) -> None:
    await give_up(desk, 1)
    path = f"/recordings/{desk.new.public_id}"
    for what in ("/access", "/exports"):
        assert await code_of(await ask("POST", path + what, "compliance", json=REASON)) == (409, "recording_failed")


@pytest.mark.parametrize("begun", [True, False])
async def test_of_one_without_any_media_the_chat_is_signed_and_exported(
    desk: Desk, ask: Ask, clock: VirtualClock, tmp_path: Path, begun: bool
) -> None:
    if begun:
        await give_up(desk, 1)
    else:
        assert await desk.services.signer.sign_complete() == 0, "its spool may yet turn up"
        assert await desk.services.store.give_up_unrecorded(clock.wall_ms() * 2) == 1
    assert await desk.services.signer.sign_complete() == 1
    path = f"/recordings/{desk.new.public_id}"
    view = await (await ask("GET", path, "admin")).json()
    assert (view["state"], view["signed"], view["streams"]) == ("failed", True, [])
    for what in ("/access", "/preview"):
        assert await code_of(await ask("POST", path + what, "compliance", json=REASON)) == (409, "recording_failed")
    data = await exported(ask, desk, path, clock)
    (tmp_path / "bundle.zip").write_bytes(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert b"rhubarb" in archive.read("story.json")
        assert not [name for name in archive.namelist() if name.startswith("media/")]
    found = await check(tmp_path / "bundle.zip", desk)
    assert (found.problems, found.notes) == ([], [f"part 1 of the call is missing: {WHY}"] if begun else [])
    assert await desk.services.signer.sign_complete() == 0


async def test_media_that_turns_up_after_that_is_signed_with_the_same_chat(
    desk: Desk, ask: Ask, clock: VirtualClock, tmp_path: Path
) -> None:
    await desk.services.store.give_up_unrecorded(clock.wall_ms() * 2)
    assert await desk.services.signer.sign_complete() == 1
    scene = call(desk, 2.0)
    scene.close()
    assert await PartJob(scene.directory, desk.services).run() == "ready"
    path = f"/recordings/{desk.new.public_id}"
    (tmp_path / "bundle.zip").write_bytes(await exported(ask, desk, path, clock))
    found = await check(tmp_path / "bundle.zip", desk)
    assert (found.problems, found.notes) == ([], [])
    assert b"rhubarb" in zipfile.ZipFile(tmp_path / "bundle.zip").read("story.json")


async def test_once_the_part_is_there_after_all_nothing_is_missing(desk: Desk, ask: Ask, partial: str) -> None:
    grant = await (await ask("POST", partial + "/access", "compliance", json=REASON)).json()
    scene = call(desk, 2.0, epoch=2)
    scene.close()
    assert await PartJob(scene.directory, desk.services).run() == "ready"
    view = await (await ask("GET", partial, "admin")).json()
    assert (view["state"], view["missing"], len(view["streams"])) == ("ready", [], 4)
    assert (await ask("GET", grant["streams"][0]["url"])).status == 200


def test_what_is_missing_lies_between_what_is_there() -> None:
    streams: list[Any] = [
        types.SimpleNamespace(epoch=epoch, start_ms=start_ms, end_ms=end_ms)
        for epoch, start_ms, end_ms in ((1, 0, 900), (1, 10, 1000), (3, 5200, 9000), (3, 5000, 8000))
    ]
    assert span_ms(2, streams) == (1000, 5000)
    assert span_ms(4, streams) == (9000, None)
    assert span_ms(0, streams) == (None, 0)
    assert span_ms(1, []) == (None, None)
