"""Recordings over HTTP: nobody plays without a reason, and every attempt is in the audit log before bytes flow."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from config.clock import VirtualClock
from config.ids import DEFAULT_TENANT, PublicId, SessionId
from recorder.catalogue import CONSENT_TEXT, GRANT_TTL_MS
from recorder.segments import STORY, Name
from recorder.verify import export_streams
from tests.recorder.asking import REASON, Ask, audited, code_of
from tests.recorder.conftest import Desk
from tests.recorder.media import START_WALL_MS
from tests.recorder.test_job import recorded


@pytest.fixture
async def ready(desk: Desk) -> str:
    """Path of a recording that can be played."""
    await recorded(desk, 5.0)
    return f"/recordings/{desk.new.public_id}"


async def test_list_and_detail_show_streams_and_state(desk: Desk, ask: Ask, ready: str) -> None:
    listed = await (await ask("GET", "/recordings?participant=ana", "admin")).json()
    assert [each["id"] for each in listed["recordings"]] == [desk.new.public_id]
    assert listed["next_cursor"] is None
    shown = await (await ask("GET", ready, "compliance")).json()
    assert {**shown, "may": ["key_admin"]} == listed["recordings"][0]
    assert shown["may"] == ["exporter", "hold_manager", "viewer"]
    assert (shown["state"], shown["duration_ms"], shown["hashes_ok"], shown["gaps"]) == ("ready", 5000, True, [])
    assert [(s["kind"], s["offset_ms"], s["duration_ms"], s["video_codec"]) for s in shown["streams"]] == [
        ("video", 0, 5000, "vp8")
    ] * 2
    assert {s["participant_id"] for s in shown["streams"]} == {p["id"] for p in shown["participants"]}


async def test_pages_go_on_from_the_cursor(desk: Desk, ask: Ask) -> None:
    people = [desk.people[role] for role in ("client", "provider")]
    made = [desk.new.public_id]
    for number in range(6, 10):
        for person in people:
            await desk.recordings.give_consent(
                DEFAULT_TENANT, SessionId(number), person.id, CONSENT_TEXT.version, accepted=True
            )
        sides = [(p.id, p.public_id, p.name, p.role) for p in people]
        new = await desk.recordings.create(
            DEFAULT_TENANT, SessionId(number), PublicId(f"ses_{number}"), "audio", sides, START_WALL_MS
        )
        made.append(new.public_id)
    cursor, found = "", []
    while cursor is not None:
        page = await (await ask("GET", f"/recordings?limit=2&cursor={cursor or 0}", "admin")).json()
        found += [each["id"] for each in page["recordings"]]
        cursor = page["next_cursor"]
    assert found == made[::-1]
    assert await code_of(await ask("GET", "/recordings?limit=0", "admin")) == (400, "bad_query")
    assert await code_of(await ask("GET", "/recordings?from_ms=x", "admin")) == (400, "bad_query")


async def test_access_with_a_reason_plays_and_is_audited_first(desk: Desk, ask: Ask, ready: str) -> None:
    granted = await ask("POST", ready + "/access", "compliance", json=REASON)
    assert granted.status == 200
    assert await audited(ask, ready) == [("access_granted", "Cleo")]
    grant = await granted.json()
    for stream, exported in zip(
        grant["streams"], await export_streams(desk.recordings, desk.new.public_id), strict=True
    ):
        played = await ask("GET", stream["url"])
        assert (played.status, played.headers["Content-Type"]) == (200, stream["content_type"])
        data = await played.read()
        assert data == exported.data
        assert played.headers["ETag"] == f'"{hashlib.sha256(data).hexdigest()}"'
        part = await ask("GET", stream["url"], headers={"Range": "bytes=100-"})
        assert part.status == 206
    manifest = await (await ask("GET", grant["manifest_url"])).json()
    assert manifest["parts"][0]["recording"] == desk.new.public_id
    opened = [("stream_opened", "Cleo")] * 2
    assert await audited(ask, ready) == [("access_granted", "Cleo"), *opened, ("manifest_read", "Cleo")]


async def test_ranges_are_served_exactly(ask: Ask, ready: str) -> None:
    url = (await (await ask("POST", ready + "/access", "compliance", json=REASON)).json())["streams"][0]["url"]
    whole = await (await ask("GET", url)).read()
    size = len(whole)
    for text, start, end in (
        ("bytes=0-0", 0, 1),
        (f"bytes=1000-{size * 2}", 1000, size),
        ("bytes=-500", size - 500, size),
        (f"bytes={size - 1}-", size - 1, size),
        (f"bytes={size // 3}-{size // 2}", size // 3, size // 2 + 1),
    ):
        part = await ask("GET", url, headers={"Range": text})
        assert (part.status, await part.read()) == (206, whole[start:end])
        assert part.headers["Content-Range"] == f"bytes {start}-{end - 1}/{size}"
    for text in ("bytes=9-3", "lines=0-3", "bytes=0-1,4-5", "bytes=-", "bytes=" + "9" * 200):
        assert (await ask("GET", url, headers={"Range": text})).status == 200
    stale = await ask("GET", url, headers={"Range": "bytes=0-3", "If-Range": '"another"'})
    assert (stale.status, len(await stale.read())) == (200, size)
    head = await ask("HEAD", url)
    assert (head.status, head.headers["Content-Length"], head.headers["Accept-Ranges"]) == (200, str(size), "bytes")
    fresh = await ask("GET", url, headers={"Range": "bytes=0-3", "If-Range": head.headers["ETag"]})
    assert fresh.status == 206
    beyond = await ask("GET", url, headers={"Range": f"bytes={size}-"})
    assert beyond.headers["Content-Range"] == f"bytes */{size}"
    assert await code_of(beyond) == (416, "range_beyond_end")
    assert ("access_refused", "Cleo") in await audited(ask, ready)


@pytest.mark.parametrize("reason", ["", "short", " " * 40, "x" * 501])
async def test_access_without_a_proper_reason_is_refused_and_audited(ask: Ask, ready: str, reason: str) -> None:
    refused = await ask("POST", ready + "/access", "compliance", json={"reason": reason})
    assert await code_of(refused) == (400, "reason_required")
    assert await audited(ask, ready) == [("access_refused", "Cleo")]


@pytest.mark.parametrize("role", ["client", "provider", "admin"])
async def test_others_than_compliance_do_not_play_and_the_attempt_is_audited(
    desk: Desk, ask: Ask, ready: str, role: str
) -> None:
    assert await code_of(await ask("POST", ready + "/access", role, json=REASON)) == (403, "forbidden")
    assert await audited(ask, ready) == [("access_refused", desk.people[role].name)]


@pytest.mark.parametrize("role", ["client", "provider"])
async def test_participants_do_not_search(ask: Ask, ready: str, role: str) -> None:
    for path in ("/recordings", ready, ready + "/accesses"):
        assert await code_of(await ask("GET", path, role)) == (403, "forbidden")


async def test_without_signing_in_there_is_nothing(ask: Ask, ready: str) -> None:
    for method, path in (
        ("GET", "/recordings"),
        ("GET", ready),
        ("POST", ready + "/access"),
        ("GET", ready + "/accesses"),
    ):
        assert await code_of(await ask(method, path)) == (401, "unauthenticated")
    for path in (ready + "/streams/1", ready + "/streams/1?grant=x", ready + "/manifest?grant=" + "x" * 3000):
        assert await code_of(await ask("GET", path)) == (403, "no_access")


async def test_expired_grant_is_refused_and_audited(ask: Ask, ready: str, clock: VirtualClock) -> None:
    url = (await (await ask("POST", ready + "/access", "compliance", json=REASON)).json())["streams"][0]["url"]
    clock.advance_ms(GRANT_TTL_MS - 1)
    assert (await ask("GET", url)).status == 200
    clock.advance_ms(1)
    assert await code_of(await ask("GET", url)) == (403, "access_expired")
    assert (await audited(ask, ready))[-1] == ("access_refused", "Cleo")


async def test_grant_is_for_one_recording(ask: Ask, ready: str) -> None:
    url = (await (await ask("POST", ready + "/access", "compliance", json=REASON)).json())["streams"][0]["url"]
    other = url.replace(ready.rsplit("/", 1)[1], "rec_" + "0" * 20)
    assert await code_of(await ask("GET", other)) == (403, "no_access")
    assert (await audited(ask, ready))[-1] == ("access_refused", "Cleo")


async def test_token_is_not_stored(ask: Ask, ready: str, owner: Any) -> None:
    url = (await (await ask("POST", ready + "/access", "compliance", json=REASON)).json())["manifest_url"]
    token = url.rsplit("=", 1)[1]
    dump = str(await owner.fetch("select g::text, l::text from recording_grant g, audit_log l"))
    assert token not in dump


async def test_unknown_things_are_not_found(ask: Ask, ready: str) -> None:
    assert await code_of(await ask("GET", "/recordings/rec_" + "0" * 20, "admin")) == (404, "not_found")
    assert await code_of(await ask("GET", "/recordings/%00", "admin")) == (404, "not_found")
    grant = await (await ask("POST", ready + "/access", "compliance", json=REASON)).json()
    for n in ("9", "x", "0", "99999999999", "²"):
        url = grant["streams"][0]["url"].replace("/streams/1", f"/streams/{n}")
        assert await code_of(await ask("GET", url)) == (404, "not_found")


async def test_recording_in_progress_cannot_be_played_yet(desk: Desk, ask: Ask) -> None:
    path = f"/recordings/{desk.new.public_id}"
    assert await code_of(await ask("POST", path + "/access", "compliance", json=REASON)) == (
        409,
        "recording_in_progress",
    )
    await desk.services.store.finishing(await desk.services.store.begin_part(desk.header()))
    assert await code_of(await ask("POST", path + "/access", "compliance", json=REASON)) == (409, "recording_finishing")


async def test_damaged_recording_is_an_error_and_no_bytes(desk: Desk, ask: Ask, ready: str) -> None:
    (desk.objects_dir / "recordings" / "1" / desk.new.public_id / "1" / "01-front").write_bytes(b"damage")
    url = (await (await ask("POST", ready + "/access", "compliance", json=REASON)).json())["streams"][0]["url"]
    assert await code_of(await ask("GET", url)) == (503, "recording_unreadable")


async def test_a_manifest_that_was_exchanged_in_the_store_is_not_shown(desk: Desk, ask: Ask, ready: str) -> None:
    url = (await (await ask("POST", ready + "/access", "compliance", json=REASON)).json())["manifest_url"]
    assert (await ask("GET", url)).status == 200
    [path] = desk.objects_dir.rglob("manifest.json")
    path.write_bytes(path.read_bytes().replace(b'"gaps":[', b'"gaps": ['))
    assert await code_of(await ask("GET", url)) == (503, "recording_unreadable")


async def test_a_story_that_was_exchanged_in_the_store_is_not_shown(desk: Desk, ask: Ask, ready: str) -> None:
    url = (await (await ask("POST", ready + "/access", "compliance", json=REASON)).json())["story_url"]
    assert (await ask("GET", url)).status == 200
    recording = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert recording is not None
    name = Name(DEFAULT_TENANT, desk.new.public_id, 0, 0, STORY)
    other = (await desk.recordings.sealer(recording)).seal(name, b'{"chat":[],"events":[]}')
    (desk.objects_dir / str(recording.story_key)).write_bytes(other)  # by somebody who has the key as well
    assert await code_of(await ask("GET", url)) == (503, "recording_unreadable")


async def test_malformed_bodies_are_refused(ask: Ask, ready: str) -> None:
    for body in (b"{", b"[]", b'{"reason": 5}', b'{"reason": "' + b"x" * 3000 + b'"}', b'{"other": 1}'):
        assert await code_of(await ask("POST", ready + "/access", "compliance", data=body)) == (400, "bad_request")
