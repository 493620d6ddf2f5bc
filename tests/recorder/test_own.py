"""People see recordings of their own calls where the policy lets them, when it lets them, and never unnoticed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import ClientResponse

from config.clock import VirtualClock
from config.ids import DEFAULT_TENANT, SessionId
from recorder.retention import DAY_MS, HOUR_MS
from tests.recorder.asking import REASON, Ask, audited, code_of
from tests.recorder.conftest import Desk
from tests.recorder.media import START_WALL_MS
from tests.recorder.test_job import recorded

ENDED_MS = START_WALL_MS + 60_000
RULE = {"own": {"provider": {"after_h": 2, "for_days": 30}}}


@pytest.fixture
async def ready(desk: Desk) -> str:
    """Id of a recording that can be played."""
    await recorded(desk, 2.0)
    return desk.new.public_id


async def set_policy(ask: Ask, **what: Any) -> ClientResponse:
    return await ask("PUT", "/recordings/policies", "admin", json={"kind": "video", **REASON, **what})


async def listed(ask: Ask, role: str, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await (await ask("GET", "/me/recordings" + query, role)).json())["recordings"]
    return found


def go_to(clock: VirtualClock, wall_ms: int) -> None:
    clock.advance_ms(wall_ms - clock.wall_ms())


async def test_without_a_rule_nobody_sees_their_own(desk: Desk, ask: Ask, ready: str, clock: VirtualClock) -> None:
    assert await listed(ask, "client") == await listed(ask, "provider") == []
    refused = await ask("POST", f"/me/recordings/{ready}/access", "client")
    assert await code_of(refused) == (403, "own_not_allowed")
    assert (await audited(ask, f"/recordings/{ready}"))[-1] == ("access_refused", "Ana")


async def test_provider_plays_their_own_after_the_wait_and_until_its_end(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock
) -> None:
    assert (await set_policy(ask, **RULE)).status == 200
    path = f"/me/recordings/{ready}/access"
    go_to(clock, ENDED_MS + HOUR_MS)
    [shown] = await listed(ask, "provider")
    assert (shown["available"], shown["why"]) == (False, "not_yet")
    assert (shown["available_from_ms"], shown["available_until_ms"]) == (
        ENDED_MS + 2 * HOUR_MS,
        ENDED_MS + 2 * HOUR_MS + 30 * DAY_MS,
    )
    assert await code_of(await ask("POST", path, "provider")) == (409, "own_not_yet")
    assert await listed(ask, "client") == []
    go_to(clock, ENDED_MS + 3 * HOUR_MS)
    assert (await listed(ask, "provider", "?session=ses_00000000000000000005"))[0]["available"]
    assert await listed(ask, "provider", "?session=ses_00000000000000000006") == []
    grant = await (await ask("POST", path, "provider")).json()
    played = await ask("GET", grant["streams"][0]["url"])
    assert (played.status, len(await played.read()) > 1000) == (200, True)
    story = await (await ask("GET", grant["story_url"])).json()
    assert "rhubarb" in story["chat"][0]["body"]
    entries = (await (await ask("GET", f"/recordings/{ready}/accesses", "admin")).json())["accesses"]
    granted = next(each for each in entries if each["action"] == "recording.access_granted")
    assert (granted["user"]["name"], granted["reason"]) == ("Ben", "own")
    go_to(clock, ENDED_MS + 2 * HOUR_MS + 30 * DAY_MS)
    assert (await listed(ask, "provider"))[0]["why"] == "over"
    assert await code_of(await ask("POST", path, "provider")) == (409, "own_over")


async def test_nobody_plays_the_calls_of_others(desk: Desk, ask: Ask, ready: str, owner: Any) -> None:
    await set_policy(ask, own={"client": {"after_h": 0, "for_days": 30}, "provider": {"after_h": 0, "for_days": 30}})
    await owner.execute("update recording_participant set user_id = $1 where role = 'client'", desk.people["admin"].id)
    assert await listed(ask, "client") == []
    assert await code_of(await ask("POST", f"/me/recordings/{ready}/access", "client")) == (404, "not_found")
    assert (await audited(ask, f"/recordings/{ready}"))[-1] == ("access_refused", "Ana")
    assert await code_of(await ask("GET", "/me/recordings", "compliance")) == (403, "forbidden")


async def test_recording_that_goes_on_or_is_gone_says_so(desk: Desk, ask: Ask, clock: VirtualClock) -> None:
    await set_policy(ask, own={"client": {"after_h": 0, "for_days": 30}})
    path = f"/me/recordings/{desk.new.public_id}/access"
    assert (await listed(ask, "client"))[0]["why"] == "not_ready"
    assert await code_of(await ask("POST", path, "client")) == (409, "recording_in_progress")
    await recorded(desk, 1.0)
    await ask("POST", f"/recordings/{desk.new.public_id}/erase", "admin", json=REASON)
    assert (await listed(ask, "client"))[0]["why"] == "gone"
    assert await code_of(await ask("POST", path, "client")) == (409, "recording_erased")


async def test_policies_are_set_in_part_and_reset(desk: Desk, ask: Ask) -> None:
    await set_policy(ask, keep_days=10, compose=["speaker"])
    shown = await (await set_policy(ask, **RULE)).json()
    video = next(each for each in shown["policies"] if each["kind"] == "video")
    assert (video["keep_days"], video["compose"], video["is_default"]) == (10, ["speaker"], False)
    assert video["own"] == {"client": None, "provider": {"after_h": 2, "for_days": 30, "download": False}}
    gone = await (await set_policy(ask, own={"provider": None})).json()
    assert gone["policies"][1]["own"]["provider"] is None
    reset = await ask("POST", "/recordings/policies/video/reset", "admin", json=REASON)
    assert (await reset.json())["policies"][1]["is_default"]
    for wrong in ({"keep_days": 0}, {"compose": ["mosaic"]}, {"own": {"client": {"after_h": -1, "for_days": 1}}}):
        assert await code_of(await set_policy(ask, **wrong)) == (400, "bad_request")
    assert await code_of(await ask("PUT", "/recordings/policies", "admin", json={"kind": "video"})) == (
        400,
        "reason_required",
    )
    assert await code_of(await ask("PUT", "/recordings/policies", "compliance", json={"kind": "video", **REASON})) == (
        403,
        "forbidden",
    )


async def test_changes_of_a_policy_at_once_both_stay(desk: Desk, ask: Ask) -> None:
    for keep_days in range(10, 15):
        own = {"client": {"after_h": keep_days, "for_days": 1}}
        both = await asyncio.gather(set_policy(ask, keep_days=keep_days), set_policy(ask, own=own))
        assert [each.status for each in both] == [200, 200]
        shown = await (await ask("GET", "/recordings/policies", "admin")).json()
        video = next(each for each in shown["policies"] if each["kind"] == "video")
        assert (video["keep_days"], video["own"]["client"]["after_h"]) == (keep_days, keep_days)


async def test_whoever_may_not_change_a_policy_is_written_down(desk: Desk, ask: Ask) -> None:
    wish = {"kind": "video", **REASON, "keep_days": 1}
    assert (await ask("PUT", "/recordings/policies", "compliance", json=wish)).status == 403
    report = await (await ask("GET", "/recordings/reports/access?recording=retention of video", "admin")).json()
    [entry] = report["entries"]
    assert (entry["action"], entry["user"]["name"]) == ("recording.access_refused", "Cleo")
    assert entry["details"] == {"why": "forbidden"}


async def test_notices_of_the_tenants_own_are_at_https_addresses(desk: Desk, ask: Ask) -> None:
    shown = await (await set_policy(ask, announce_url="https://tenant.example/notice.mp3")).json()
    assert shown["policies"][1]["announce_url"] == "https://tenant.example/notice.mp3"
    for wrong in ("http://tenant.example/notice.mp3", "javascript:alert(1)", "https://tenant.example/a b"):
        assert await code_of(await set_policy(ask, announce_url=wrong)) == (400, "bad_announcement")
    gone = await (await set_policy(ask, announce_url="", announce=False)).json()
    assert (gone["policies"][1]["announce"], gone["policies"][1]["announce_url"]) == (False, None)


async def test_search_by_length_kind_quality_and_tags(desk: Desk, ask: Ask, ready: str) -> None:
    await desk.recordings.note_quality(DEFAULT_TENANT, SessionId(5), 2.5, 4.0, 0.9)
    path = f"/recordings/{ready}"
    tagged = await ask("PUT", path + "/tags", "compliance", json={"tags": [" advice  fund ", "advice fund", "urgent"]})
    assert (await tagged.json())["tags"] == ["advice fund", "urgent"]

    async def count(query: str) -> int:
        return len((await (await ask("GET", "/recordings?" + query, "admin")).json())["recordings"])

    hits = ["tag=urgent", "kind=video", "state=ready", "min_duration_ms=1900", "max_duration_ms=2100", "min_mos=2.4"]
    hits += ["max_mos=2.6", "tag=urgent&kind=video&min_mos=2&max_duration_ms=5000"]
    assert [await count(query) for query in hits] == [1] * len(hits)
    misses = ["tag=other", "kind=audio", "state=failed", "min_duration_ms=2200", "max_duration_ms=1000", "min_mos=2.6"]
    assert [await count(query) for query in [*misses, "max_mos=2.4", "held=1"]] == [0] * 8
    shown = await (await ask("GET", path, "compliance")).json()
    assert shown["quality"] == {"worst_mos": 2.5, "median_mos": 4.0, "good_ratio": 0.9}
    assert shown["may"] == ["exporter", "hold_manager", "viewer"]
    assert (await (await ask("GET", "/recordings/tags", "admin")).json())["tags"][0] == {
        "tag": "advice fund",
        "count": 1,
    }
    assert await code_of(await ask("GET", "/recordings?max_mos=good", "admin")) == (400, "bad_query")
    assert await code_of(await ask("PUT", path + "/tags", "compliance", json={"tags": ["x" * 41]})) == (400, "bad_tags")
    assert await code_of(await ask("PUT", path + "/tags", "admin", json={"tags": []})) == (403, "forbidden")
    assert ("tagged", "Cleo") in await audited(ask, path)
