"""What leaves the house as a bundle: sealed until it does, for a day, so much at a time, no byte after erasure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientError, ClientResponse

from config.clock import VirtualClock
from config.ids import DEFAULT_TENANT
from recorder import bundles, sending
from recorder import jobs as module
from recorder.jobs import EXPORT_KEPT_MS, LEASE_MS, Jobs
from recorder.leftovers import Leftovers
from recorder.playback import PlainCache, StreamFile
from recorder.verify import verify
from tests.recorder.asking import REASON, Ask, audited, code_of
from tests.recorder.conftest import Desk
from tests.recorder.test_compliance import exported, ready, work
from tests.recorder.test_job import recorded, stored

__all__ = ["ready"]


async def export(desk: Desk, ask: Ask, ready: str, clock: VirtualClock) -> str:
    """The path of an export that is done."""
    asked = await ask("POST", ready + "/exports", "compliance", json=REASON)
    assert await work(desk, clock)
    return f"/jobs/{(await asked.json())['id']}"


async def taken(ask: Ask, job: str) -> str:
    """The URL that an export is downloaded from."""
    return str((await (await ask("POST", job + "/download", "compliance")).json())["url"])


async def in_clear(owner: Any) -> list[str]:
    """Tables in whose rows of recordings a word of the chat stands."""
    tables = ("recording", "recording_job", "recording_product", "audit_log")
    rows = {name: await owner.fetch(f"select to_jsonb(t)::text as row from {name} t") for name in tables}
    return [name for name, found in rows.items() if any("rhubarb" in row["row"] for row in found)]


async def test_chat_stands_nowhere_in_clear_once_it_is_signed(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock, owner: Any
) -> None:
    assert b"rhubarb" in await exported(ask, desk, ready, clock)
    assert await in_clear(owner) == []
    assert b"rhubarb" not in b"".join(stored(desk).values())


async def test_a_later_root_names_the_story_that_was_sealed_before(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock
) -> None:
    await recorded(desk, 1.0, epoch=3)
    assert (await verify(desk.recordings, desk.new.public_id)).ok
    assert b"rhubarb" in await exported(ask, desk, ready, clock)


async def test_an_export_is_kept_for_a_day(desk: Desk, ask: Ask, ready: str, clock: VirtualClock) -> None:
    before = set(stored(desk))
    job = await export(desk, ask, ready, clock)
    jobs, url = Jobs(desk.recordings, clock), await taken(ask, job)
    clock.advance_ms(EXPORT_KEPT_MS - 1)
    assert await jobs.expire_exports() == 0
    clock.advance_ms(1)
    assert await jobs.expire_exports() == 1
    assert await code_of(await ask("GET", url)) == (403, "no_access")
    assert await code_of(await ask("POST", job + "/download", "compliance")) == (409, "job_not_done")
    await Leftovers(desk.recordings, clock).sweep()
    assert set(stored(desk)) == before
    assert (await ask("POST", job + "/retry", "compliance")).status == 200
    clock.advance_ms(LEASE_MS)
    assert await work(desk, clock)
    assert (await ask("GET", await taken(ask, job))).status == 200


async def test_ranges_of_an_export_read_its_plan_once(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, plan = [], Jobs.plan

    async def counted(self: Jobs, job: Any) -> str | None:
        reads.append(job.public_id)
        return await plan(self, job)

    monkeypatch.setattr(Jobs, "plan", counted)
    url = await taken(ask, await export(desk, ask, ready, clock))
    for start in (0, 100, 5000):
        assert (await ask("GET", url, headers={"Range": f"bytes={start}-{start + 9}"})).status == 206
    assert len(reads) == 1


async def test_downloads_are_so_many_at_a_time(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await taken(ask, await export(desk, ask, ready, clock))
    for bound in ("DOWNLOADS_MAX", "DOWNLOADS_OF_ONE_MAX"):
        with monkeypatch.context() as patch:
            patch.setattr(bundles, bound, 0)
            assert await code_of(await ask("GET", url)) == (429, "too_many_downloads")
        assert (await ask("GET", url)).status == 200  # and who was refused took nobody's place


async def test_a_token_of_another_export_is_refused_and_audited(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock
) -> None:
    first, second = [await export(desk, ask, ready, clock) for _ in range(2)]
    token = (await taken(ask, first)).partition("?")[2]
    await taken(ask, second)
    assert await code_of(await ask("GET", f"{second}/bundle?{token}")) == (403, "no_access")
    assert (await audited(ask, ready))[-1] == ("access_refused", "Cleo")


async def test_bytes_stop_flowing_when_the_recording_is_erased(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "LOOK_S", 0.0)
    monkeypatch.setattr("recorder.playback.CHUNK_BYTES", 1000)
    read = StreamFile.read

    async def slowly(self: StreamFile, start: int, end: int, cache: PlainCache) -> AsyncIterator[bytes]:
        async for number, chunk in _numbered(read(self, start, end, cache)):
            if number == 5:
                assert (await ask("POST", ready + "/erase", "admin", json=REASON)).status == 204
            yield chunk

    grant = await (await ask("POST", ready + "/access", "compliance", json=REASON)).json()
    whole = await (await ask("GET", grant["streams"][0]["url"])).read()
    monkeypatch.setattr(StreamFile, "read", slowly)
    got = await _until_cut(await ask("GET", grant["streams"][0]["url"]))
    assert 0 < got <= 5000 < len(whole)


async def _until_cut(response: ClientResponse) -> int:
    """How many bytes come before the connection ends; it must not end in order."""
    got = 0
    try:
        async for data in response.content.iter_any():
            got += len(data)
    except ClientError:
        return got
    raise AssertionError("all of it came")


async def _numbered(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    number = 0
    async for chunk in chunks:
        yield number, chunk
        number += 1


async def test_a_colleagues_job_is_changed_for_ones_own_reason_only(
    desk: Desk, ask: Ask, ready: str, clock: VirtualClock, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await ask("POST", ready + "/compositions", "compliance", json={**REASON, "layout": "audio"})
    job = f"/jobs/{(await asked.json())['id']}"
    await owner.execute("update recording_job set user_id = $1", desk.people["admin"].id)
    assert await code_of(await ask("POST", job + "/cancel", "compliance")) == (400, "reason_required")
    own = {"reason": "It is not needed any more."}
    assert (await ask("POST", job + "/cancel", "compliance", json=own)).status == 200
    entries = (await (await ask("GET", ready + "/accesses", "admin")).json())["accesses"]
    assert (entries[0]["action"], entries[0]["reason"]) == ("recording.job_cancelled", own["reason"])
    monkeypatch.setattr(module, "OPEN_MAX", 0)
    assert await code_of(await ask("POST", job + "/retry", "compliance", json=own)) == (429, "too_many_jobs")
    monkeypatch.undo()
    await owner.execute("update recording_job set user_id = $1", desk.people["compliance"].id)
    assert (await ask("POST", job + "/retry", "compliance")).status == 200
    entries = (await (await ask("GET", ready + "/accesses", "admin")).json())["accesses"]
    assert (entries[0]["action"], entries[0]["reason"]) == ("recording.job_retried", REASON["reason"])
    assert (await Jobs(desk.recordings, clock).find(DEFAULT_TENANT, job.rsplit("/", 1)[-1])) is not None
