"""Announcements: by policy, stored once each, in the story and in the signed root."""

from __future__ import annotations

import json
from typing import Any

import pytest

from config.clock import VirtualClock
from config.database import Database
from config.ids import DEFAULT_TENANT, PublicId, SessionId
from recorder import announcements, retention
from recorder.announcements import PER_PERSON_MAX, VERSION, Announcements, is_clip_url, is_version
from recorder.catalogue import CONSENT_TEXT, Story
from recorder.retention import Policy
from tests.recorder.conftest import Desk
from tests.recorder.media import START_WALL_MS
from tests.recorder.test_job import recorded

FIVE = SessionId(5)


async def test_by_policy_a_sound_a_clip_or_nothing(database: Database, clock: VirtualClock) -> None:
    made = Announcements(database, clock)
    plain = await made.due(DEFAULT_TENANT, "video")
    assert plain is not None
    assert (plain.version, plain.url) == (VERSION, None)
    assert await made.due(DEFAULT_TENANT, "chat") is None
    url = "https://tenant.example/notice.mp3"
    async with database.transaction(DEFAULT_TENANT) as connection:
        await retention.set_policy(connection, DEFAULT_TENANT, Policy("video", announce_url=url))
        await retention.set_policy(connection, DEFAULT_TENANT, Policy("audio", announce=False))
    clip = await made.due(DEFAULT_TENANT, "video")
    assert clip is not None
    assert clip.url == url
    assert clip.version != VERSION
    assert is_version(clip.version)
    assert await made.due(DEFAULT_TENANT, "audio") is None


@pytest.mark.parametrize("version", ["", "1", VERSION + "+", VERSION + "+zz", VERSION + "+" + "g" * 16, "x" * 60])
def test_versions_that_were_never_sent_are_not_taken(version: str) -> None:
    assert not is_version(version)


@pytest.mark.parametrize(
    "url", ["http://a.example/x", "//a.example/x", "https://", "https://a b", "https://" + "a" * 500]
)
def test_notices_lie_at_https_addresses_only(url: str) -> None:
    assert not is_clip_url(url)


async def test_who_heard_what_stands_in_story_and_root(desk: Desk, clock: VirtualClock) -> None:
    ana, ben = desk.people["client"], desk.people["provider"]
    clock.advance_ms(START_WALL_MS + 500 - clock.wall_ms())
    told = desk.recordings.announcements
    for key in ("first-one", "first-one"):
        await told.made(DEFAULT_TENANT, FIVE, ana.id, key, VERSION, "tone")
    await told.made(DEFAULT_TENANT, FIVE, ben.id, "of-the-other", VERSION, "shown")
    await recorded(desk, 1.0)
    root = json.loads(next(desk.objects_dir.rglob("root-000.json")).read_bytes())["statement"]
    at_ms = START_WALL_MS + 500
    assert root["announcements"] == [
        {"participant": ana.public_id, "version": VERSION, "how": "tone", "at_ms": at_ms},
        {"participant": ben.public_id, "version": VERSION, "how": "shown", "at_ms": at_ms},
    ]


async def test_they_are_events_of_the_story_in_their_place(desk: Desk, clock: VirtualClock, owner: Any) -> None:
    ana, ben = desk.people["client"], desk.people["provider"]
    ids, session = [ana.id, ben.id], SessionId(6)
    for user_id in ids:
        await desk.recordings.give_consent(DEFAULT_TENANT, session, user_id, CONSENT_TEXT.version, True)
    people = [(each.id, each.public_id, each.name, each.role) for each in (ana, ben)]
    number = PublicId("ses_00000000000000000006")
    await desk.recordings.create(DEFAULT_TENANT, session, number, "video", people, clock.wall_ms())
    await desk.recordings.announcements.made(DEFAULT_TENANT, session, ana.id, "only-one", VERSION, "clip")
    early, late = clock.wall_ms() - 5, clock.wall_ms() + 5
    story = Story([{"at_ms": early, "what": "accept"}, {"at_ms": late, "what": "client_end"}])
    await desk.recordings.end(DEFAULT_TENANT, session, late, story)
    kept = json.loads(await owner.fetchval("select story from recording where session_id = 6"))["events"]
    assert [each["what"] for each in kept] == ["accept", "recording_announced", "client_end"]
    assert kept[1] == {"at_ms": early + 5, "what": "recording_announced", "by": ana.public_id, "why": f"clip {VERSION}"}


async def test_one_person_fills_nothing_up(desk: Desk) -> None:
    ana, told = desk.people["client"], desk.recordings.announcements
    for n in range(PER_PERSON_MAX + 3):
        await told.made(DEFAULT_TENANT, FIVE, ana.id, f"number-{n:04}", VERSION, "tone")
    async with desk.recordings.database.transaction(DEFAULT_TENANT) as connection:
        assert len(await announcements.signed(connection, DEFAULT_TENANT, FIVE)) == PER_PERSON_MAX
