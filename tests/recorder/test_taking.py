"""Playing is one thing, keeping a copy another: files made of recordings are saved by exporters, and by policy."""

from __future__ import annotations

from typing import Any

import pytest

from config.clock import VirtualClock
from recorder.retention import HOUR_MS
from tests.recorder.asking import Ask, audited, code_of
from tests.recorder.conftest import Desk
from tests.recorder.test_job import recorded
from tests.recorder.test_jobs import compose, granted, work
from tests.recorder.test_own import ENDED_MS, go_to, set_policy


@pytest.fixture
async def made(desk: Desk, ask: Ask, clock: VirtualClock) -> str:
    """Path of a recording that a file was made of."""
    await recorded(desk, 2.0)
    path = f"/recordings/{desk.new.public_id}"
    await compose(ask, path)
    assert await work(desk, clock) == "done"
    return path


async def test_a_viewer_plays_and_does_not_save(desk: Desk, ask: Ask, made: str, owner: Any) -> None:
    grant = await granted(ask, made)
    url = grant["compositions"][0]["url"]
    assert grant["may_download"]
    await owner.execute("insert into recording_duty values (1, $1, array['viewer'])", desk.people["compliance"].id)
    assert (await ask("GET", url)).status == 200
    assert await code_of(await ask("GET", url + "&download=1")) == (403, "download_not_allowed")
    assert (await audited(ask, made))[-1] == ("access_refused", "Cleo")
    assert not (await granted(ask, made))["may_download"]


async def test_every_saving_is_written_down_also_after_playing(ask: Ask, made: str) -> None:
    url = (await granted(ask, made))["compositions"][0]["url"]
    assert (await ask("GET", url)).status == 200
    for headers in ({}, {"Range": "bytes=0-99"}):
        assert (await ask("GET", url + "&download=1", headers=headers)).status in (200, 206)
    actions = [action for action, _ in await audited(ask, made)]
    assert actions[-3:] == ["stream_opened", "composition_downloaded", "composition_downloaded"]


@pytest.mark.parametrize("download", [False, True])
async def test_people_save_their_own_where_the_policy_says_so(
    desk: Desk, ask: Ask, made: str, clock: VirtualClock, download: bool
) -> None:
    await set_policy(ask, own={"client": {"after_h": 0, "for_days": 30, "download": download}})
    go_to(clock, ENDED_MS + HOUR_MS)
    grant = await (await ask("POST", f"/me{made}/access", "client")).json()
    assert grant["may_download"] == download
    url = grant["compositions"][0]["url"]
    assert (await ask("GET", url)).status == 200
    saved = await ask("GET", url + "&download=1")
    assert saved.status == (200 if download else 403)
    assert (await audited(ask, made))[-1] == (
        ("composition_downloaded", "Ana") if download else ("access_refused", "Ana")
    )
