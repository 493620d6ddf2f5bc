"""Exports, holds, retention, erasure: each needs a duty and a reason, and leaves its trace."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from config.clock import VirtualClock
from config.ids import DEFAULT_TENANT
from recorder import retention
from recorder.catalogue import CONSENT_TEXT
from recorder.check import Findings, check_store
from recorder.check_bundle import check_bundle
from recorder.files import FolderFiles, ZipFiles
from recorder.job_work import Tools, do
from recorder.jobs import ATTEMPTS_MAX, LEASE_MS, TOKEN_TTL_MS, Jobs
from recorder.lifecycle import Lifecycle
from recorder.offline import EXIT_BAD, EXIT_GOOD, EXIT_UNREADABLE, verify_target
from recorder.verify import export_streams
from tests.recorder.asking import REASON, Ask, audited, code_of
from tests.recorder.conftest import Desk
from tests.recorder.test_job import recorded, stored

DAY_MS = 86_400_000


@pytest.fixture
async def ready(desk: Desk) -> str:
    """Path of a signed recording of two parts."""
    for epoch in (1, 2):
        await recorded(desk, 2.0, epoch=epoch)
    return f"/recordings/{desk.new.public_id}"


async def work(desk: Desk, clock: VirtualClock) -> bool:
    tools = Tools(desk.recordings, desk.services.signer.key, clock)
    job = await tools.jobs.claim()
    if job is not None:
        await do(job, tools)
    return job is not None


async def state_of(desk: Desk) -> str:
    found = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert found is not None
    return found.state


async def exported(ask: Ask, desk: Desk, ready: str, clock: VirtualClock) -> bytes:
    asked = await ask("POST", ready + "/exports", "compliance", json=REASON)
    assert asked.status == 202
    export = await asked.json()
    assert await work(desk, clock)
    shown = await (await ask("GET", f"/jobs/{export['id']}", "compliance")).json()
    assert (shown["state"], shown["progress"], shown["failure"]) == ("done", 100, None)
    grant = await (await ask("POST", f"/jobs/{export['id']}/download", "compliance")).json()
    taken = await ask("GET", grant["url"])
    data = await taken.read()
    assert (taken.status, len(data)) == (200, grant["bytes"])
    return data


async def check(path: Path, desk: Desk) -> Findings:
    found = Findings()
    await check_bundle(ZipFiles(path), desk.services.signer.key.public, found)
    return found


async def test_root_signs_who_agreed_to_which_text(desk: Desk, ready: str) -> None:
    root = json.loads(next(desk.objects_dir.rglob("root-000.json")).read_bytes())["statement"]
    assert [(each["text_version"], each["accepted"]) for each in root["consents"]] == [(CONSENT_TEXT.version, True)] * 2
    digest = hashlib.sha256(CONSENT_TEXT.text.encode()).hexdigest()
    assert root["consent_texts"] == [{"version": CONSENT_TEXT.version, "source": "turnpike", "sha256": digest}]


async def test_export_is_a_bundle_that_verifies_offline_and_plays(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock, tmp_path: Path
) -> None:
    data = await exported(ask, desk, ready, clock)
    path = tmp_path / "bundle.zip"
    path.write_bytes(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        media = [name for name in archive.namelist() if name.startswith("media/")]
        assert [archive.read(name) for name in media] == [
            each.data for each in await export_streams(desk.recordings, desk.new.public_id)
        ]
        assert {"parts/1/manifest.json", "parts/2/manifest.json", "audit.json"} < set(archive.namelist())
        assert "rhubarb" in archive.read("story.json").decode()
        assert json.loads(archive.read("lock.json"))["held"] is False
    found = await check(path, desk)
    assert found.problems == []
    assert found.signers == {desk.services.signer.key.key_id}
    actions = [action for action, _ in await audited(ask, ready)]
    assert actions == ["export_asked", "export_granted", "export_downloaded"]


async def test_any_altered_byte_of_a_bundle_is_found_and_named(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock, tmp_path: Path
) -> None:
    data = await exported(ask, desk, ready, clock)
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for victim, content in members.items():
        for place in (0, len(content) // 2, len(content) - 1):
            with zipfile.ZipFile(path, "w") as archive:
                for name, each in members.items():
                    altered = bytearray(each)
                    if name == victim:
                        altered[place] ^= 1
                    archive.writestr(name, bytes(altered))
            found = await check(path, desk)
            assert any(victim in problem for problem in found.problems), (victim, place, found.problems)
    row = json.loads(members["audit.json"])
    row["rows"][0]["text"] = row["rows"][0]["text"].replace("4711", "4712")
    with zipfile.ZipFile(path, "w") as archive:
        for name, each in members.items():
            archive.writestr(name, json.dumps(row) if name == "audit.json" else each)
    assert f"audit row {row['rows'][0]['n']} was altered" in (await check(path, desk)).problems


async def test_bundle_signed_by_another_key_is_not_trusted(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock, tmp_path: Path
) -> None:
    path = tmp_path / "bundle.zip"
    path.write_bytes(await exported(ask, desk, ready, clock))
    found = Findings()
    await check_bundle(ZipFiles(path), bytes(32), found)
    assert any("another key" in problem for problem in found.problems)


async def test_any_altered_object_of_a_store_is_found_and_named(desk: Desk, ready: str, clock: VirtualClock) -> None:
    key = desk.services.signer.key
    await Lifecycle(desk.recordings, key, clock).anchor()

    async def problems() -> list[str]:
        found = Findings()
        await check_store(FolderFiles(desk.objects_dir), key.public, found)
        assert found.recordings == 1
        return found.problems

    assert await problems() == []
    for name, content in stored(desk).items():
        path = desk.objects_dir / name
        for place in (0, len(content) // 2, len(content) - 1):
            altered = bytearray(content)
            altered[place] ^= 1
            path.write_bytes(altered)
            assert any(name in problem for problem in await problems()), (name, place)
        path.unlink()
        assert await problems(), name
        path.write_bytes(content)
    assert await problems() == []


async def test_ranges_of_a_bundle_are_served_exactly(desk: Desk, ask: Ask, ready: str, clock: VirtualClock) -> None:
    whole = await exported(ask, desk, ready, clock)
    export = (await (await ask("POST", ready + "/exports", "compliance", json=REASON)).json())["id"]
    assert await work(desk, clock)
    grant = await (await ask("POST", f"/jobs/{export}/download", "compliance")).json()
    size = grant["bytes"]
    whole = await (await ask("GET", grant["url"])).read()
    for start, end in ((0, 1), (size - 1, size), (size // 3, size // 2), (100, size)):
        part = await ask("GET", grant["url"], headers={"Range": f"bytes={start}-{end - 1}"})
        assert (part.status, await part.read()) == (206, whole[start:end])
    assert await code_of(await ask("GET", grant["url"], headers={"Range": f"bytes={size}-"})) == (
        416,
        "range_beyond_end",
    )
    clock.advance_ms(TOKEN_TTL_MS)
    assert await code_of(await ask("GET", grant["url"])) == (403, "access_expired")
    assert (await audited(ask, ready))[-1] == ("access_refused", "Cleo")


async def test_exports_can_be_cancelled_and_tried_again(desk: Desk, ask: Ask, ready: str, clock: VirtualClock) -> None:
    export = (await (await ask("POST", ready + "/exports", "compliance", json=REASON)).json())["id"]
    path = f"/jobs/{export}"
    assert await code_of(await ask("POST", path + "/download", "compliance")) == (409, "job_not_done")
    assert await code_of(await ask("POST", path + "/retry", "compliance")) == (409, "wrong_state")
    assert (await (await ask("POST", path + "/cancel", "compliance")).json())["state"] == "cancelled"
    assert not await work(desk, clock)
    assert (await (await ask("POST", path + "/retry", "compliance")).json())["state"] == "queued"
    segment = next(desk.objects_dir.rglob("*.seg"))
    kept = segment.read_bytes()
    segment.unlink()
    assert await work(desk, clock)
    shown = await (await ask("GET", path, "compliance")).json()
    assert (shown["state"], "missing" in shown["failure"]) == ("failed", True)
    segment.write_bytes(kept)
    await ask("POST", path + "/retry", "compliance")
    assert await work(desk, clock)
    assert (await (await ask("GET", path, "compliance")).json())["state"] == "done"
    actions = [action for action, _ in await audited(ask, ready)]
    assert (actions.count("job_retried"), actions.count("job_cancelled")) == (2, 1)


async def test_export_of_a_recorder_that_died_is_done_by_the_next(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock
) -> None:
    path = "/jobs/" + (await (await ask("POST", ready + "/exports", "compliance", json=REASON)).json())["id"]
    jobs = Jobs(desk.recordings, clock)
    assert await jobs.claim() is not None
    assert not await work(desk, clock)
    clock.advance_ms(LEASE_MS + 1)
    assert await work(desk, clock)
    assert (await (await ask("GET", path, "compliance")).json())["state"] == "done"
    await ask("POST", path + "/cancel", "compliance")
    await ask("POST", path + "/retry", "compliance")
    for _ in range(ATTEMPTS_MAX):
        assert await jobs.claim() is not None
        clock.advance_ms(LEASE_MS + 1)
    assert not await work(desk, clock)
    assert (await (await ask("GET", path, "compliance")).json())["state"] == "failed"


async def test_a_hold_keeps_a_recording_that_has_expired_and_one_to_be_erased(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock, owner: Any
) -> None:
    hold = await (await ask("POST", ready + "/holds", "compliance", json=REASON)).json()
    assert (await (await ask("GET", ready, "compliance")).json())["held"]
    lifecycle = Lifecycle(desk.recordings, desk.services.signer.key, clock)
    clock.advance_ms(retention.KEEP_DAYS_DEFAULT * DAY_MS + 1)
    assert await lifecycle.expire() == 0
    assert await code_of(await ask("POST", ready + "/erase", "admin", json=REASON)) == (409, "recording_held")
    assert (await audited(ask, ready))[-1] == ("access_refused", "Ada")
    released = await ask("POST", f"/holds/{hold['id']}/release", "compliance", json=REASON)
    assert (await released.json())["released_at_ms"] is not None
    again = await ask("POST", f"/holds/{hold['id']}/release", "compliance", json=REASON)
    assert await code_of(again) == (409, "released_before")
    held = {
        row["object_key"]: row["object_sha256"].hex() for row in await owner.fetch("select * from recording_segment")
    }
    assert await lifecycle.expire() == 1
    assert await state_of(desk) == "expired"
    assert [name for name in stored(desk) if name.startswith("recordings/")] == []
    entries = (await (await ask("GET", ready + "/accesses", "admin")).json())["accesses"]
    assert entries[0]["action"] == "recording.deleted"
    assert entries[0]["details"]["objects"] == held
    assert await code_of(await ask("POST", ready + "/holds", "compliance", json=REASON)) == (409, "cannot_hold")
    assert await code_of(await ask("POST", ready + "/access", "compliance", json=REASON)) == (409, "recording_expired")


async def test_recordings_are_kept_as_the_policy_was_when_they_began(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock
) -> None:
    wish = {"kind": "video", "keep_days": 10, **REASON}
    assert await code_of(await ask("PUT", "/recordings/policies", "compliance", json=wish)) == (403, "forbidden")
    shown = await (await ask("PUT", "/recordings/policies", "admin", json=wish)).json()
    assert shown["keep_days"] == {"audio": retention.KEEP_DAYS_DEFAULT, "video": 10}
    for bad in ({"kind": "chat"}, {"keep_days": 0}, {"reason": "short"}):
        refused = await ask("PUT", "/recordings/policies", "admin", json=wish | bad)
        assert refused.status == 400
    clock.advance_ms(10 * DAY_MS)
    assert await Lifecycle(desk.recordings, desk.services.signer.key, clock).expire() == 0


async def test_erasure_destroys_the_key_so_that_copies_cannot_be_read(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock
) -> None:
    url = (await (await ask("POST", ready + "/access", "compliance", json=REASON)).json())["streams"][0]["url"]
    await exported(ask, desk, ready, clock)
    recording = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert recording is not None
    for role in ("compliance", "client"):
        assert await code_of(await ask("POST", ready + "/erase", role, json=REASON)) == (403, "forbidden")
    assert (await ask("POST", ready + "/erase", "admin", json=REASON)).status == 204
    with pytest.raises(Exception, match=desk.new.public_id):
        await desk.recordings.sealer(recording)
    assert not list((desk.settings.data / "keys").rglob("*.key"))
    assert await state_of(desk) == "erased"
    assert await code_of(await ask("GET", url)) == (409, "recording_erased")
    assert await code_of(await ask("POST", ready + "/erase", "admin", json=REASON)) == (409, "recording_gone")


@pytest.mark.parametrize("action", ["exports", "holds", "erase"])
async def test_without_duty_or_reason_nothing_happens_and_it_is_audited(ask: Ask, ready: str, action: str) -> None:
    able = "admin" if action == "erase" else "compliance"
    for role in ("client", "provider", "compliance" if able == "admin" else "admin"):
        assert await code_of(await ask("POST", f"{ready}/{action}", role, json=REASON)) == (403, "forbidden")
    assert await code_of(await ask("POST", f"{ready}/{action}", able, json={})) == (400, "reason_required")
    assert [what for what, _ in await audited(ask, ready)] == ["access_refused"] * 4
    nothing = "/recordings/rec_" + "0" * 20
    assert await code_of(await ask("POST", f"{nothing}/{action}", able, json=REASON)) == (404, "not_found")


async def test_a_users_own_duties_take_the_place_of_the_roles(ask: Ask, desk: Desk, ready: str, owner: Any) -> None:
    await owner.execute(
        "insert into recording_duty values (1, $1, array['hold_manager'])", desk.people["compliance"].id
    )
    assert await code_of(await ask("POST", ready + "/access", "compliance", json=REASON)) == (403, "forbidden")
    assert (await ask("POST", ready + "/holds", "compliance", json=REASON)).status == 201


async def test_public_key_is_published(ask: Ask, desk: Desk) -> None:
    shown = await (await ask("GET", "/recordings/signing-key")).json()
    assert bytes.fromhex(shown["public_key"]) == desk.services.signer.key.public
    assert shown["key_id"] == "ed25519-" + hashlib.sha256(bytes.fromhex(shown["public_key"])).hexdigest()[:32]


async def test_story_is_sealed_in_the_store(desk: Desk, ready: str) -> None:
    assert not [name for name, data in stored(desk).items() if b"rhubarb" in data]


async def test_verify_tells_by_its_status_what_it_found(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, key = tmp_path / "bundle.zip", desk.services.signer.key.public.hex()
    bundle.write_bytes(await exported(ask, desk, ready, clock))
    prefix = f"recordings/1/{desk.new.public_id}"
    for target in (str(bundle), str(desk.objects_dir), prefix):
        assert await verify_target(desk.settings, target, key) == EXIT_GOOD
        assert "exactly what was signed" in capsys.readouterr().out
    assert await verify_target(desk.settings, prefix, "00" * 32) == EXIT_BAD
    assert "another key" in capsys.readouterr().out
    segment = next(desk.objects_dir.rglob("*.seg"))
    segment.write_bytes(segment.read_bytes() + b"!")
    assert await verify_target(desk.settings, prefix, None) == EXIT_BAD
    assert f"{segment.name} was altered" in capsys.readouterr().out
    bundle.write_bytes(b"no archive")
    for target, given in ((str(bundle), key), ("nowhere/at/all", key), (prefix, "no key")):
        assert await verify_target(desk.settings, target, given) == EXIT_UNREADABLE
