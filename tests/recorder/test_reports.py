"""Reports: who accessed what, and why; what is gone, and the proof; in pages and as CSV."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from config.clock import VirtualClock
from recorder.lifecycle import Lifecycle
from recorder.reports_api import ReportedAccess, as_csv
from recorder.views import WhoView
from tests.recorder.asking import REASON, Ask, code_of
from tests.recorder.conftest import Desk
from tests.recorder.test_job import recorded


@pytest.fixture
async def ready(desk: Desk) -> str:
    """Id of a recording that can be played."""
    await recorded(desk, 2.0)
    return desk.new.public_id


async def report(ask: Ask, query: str, role: str = "compliance") -> dict[str, Any]:
    answer: dict[str, Any] = await (await ask("GET", "/recordings/reports/" + query, role)).json()
    return answer


async def test_access_report_is_paged_and_filtered(desk: Desk, ask: Ask, ready: str) -> None:
    for _ in range(5):
        await ask("POST", f"/recordings/{ready}/access", "compliance", json=REASON)
    await ask("POST", f"/recordings/{ready}/access", "admin", json=REASON)
    seen, cursor = [], ""
    while cursor is not None:
        page = await report(ask, f"access?limit=2&recording={ready}&cursor={cursor or 0}")
        assert len(page["entries"]) <= 2
        seen += [entry["n"] for entry in page["entries"]]
        cursor = page["next_cursor"]
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 6
    cleo = desk.people["compliance"].public_id
    by_cleo = (await report(ask, f"access?user={cleo}"))["entries"]
    assert {(each["user"]["name"], each["reason"]) for each in by_cleo} == {("Cleo", REASON["reason"])}
    refused = (await report(ask, "access?action=recording.access_refused"))["entries"]
    assert [each["user"]["name"] for each in refused] == ["Ada"]
    at_ms = by_cleo[0]["at_ms"]
    assert (await report(ask, f"access?from_ms={at_ms + 60_000}"))["entries"] == []
    assert len((await report(ask, f"access?to_ms={at_ms + 60_000}"))["entries"]) == 6
    page = await (await ask("GET", f"/recordings/{ready}/accesses?limit=4", "admin")).json()
    rest = await (await ask("GET", f"/recordings/{ready}/accesses?cursor={page['next_cursor']}", "admin")).json()
    assert [each["n"] for each in page["accesses"] + rest["accesses"]] == seen
    assert await code_of(await ask("GET", "/recordings/reports/access", "client")) == (403, "forbidden")


async def test_report_as_csv_is_itself_written_down(desk: Desk, ask: Ask, ready: str) -> None:
    for _ in range(3):
        await ask("POST", f"/recordings/{ready}/access", "compliance", json=REASON)
    taken = await ask("GET", "/recordings/reports/access?format=csv&limit=2", "admin")
    assert (taken.status, taken.content_type) == (200, "text/csv")
    rows = list(csv.DictReader(io.StringIO(await taken.text())))
    assert [row["user_name"] for row in rows] == ["Cleo", "Cleo"]
    assert rows[0]["recording_id"] == ready
    assert taken.headers["Turnpike-Next-Cursor"] == rows[-1]["n"]
    newest = (await report(ask, "access?limit=1"))["entries"][0]
    assert (newest["action"], newest["details"]["rows"]) == ("recording.report_taken", 2)


def test_csv_holds_no_formulas() -> None:
    entry = ReportedAccess(
        n=1, at_ms=2, user=WhoView(id="u", name="=cmd()"), action="a", recording_id="r", reason="+1", details={}
    )
    row = next(csv.DictReader(io.StringIO(as_csv([entry]))))
    assert (row["user_name"], row["reason"]) == ("'=cmd()", "'+1")


async def test_lifecycle_report_proves_what_is_gone(desk: Desk, ask: Ask, ready: str, clock: VirtualClock) -> None:
    before = await report(ask, "lifecycle")
    assert before["entries"] == []
    assert [(each["recording_id"], each["held"]) for each in before["upcoming"]] == [(ready, False)]
    found = await desk.recordings.find(desk.header().tenant_id, ready)  # type: ignore[arg-type]
    assert found is not None
    assert (await ask("POST", f"/recordings/{ready}/erase", "admin", json=REASON)).status == 204
    await Lifecycle(desk.recordings, desk.services.signer.key, clock).anchor()
    after = await report(ask, "lifecycle")
    [entry] = after["entries"]
    assert (entry["what"], entry["by"]["name"], entry["swept"]) == ("erased", "Ada", True)
    assert (entry["root_key"], entry["root_sha256"]) == (found.root_key, (found.root_sha256 or b"").hex())
    assert entry["objects"] > 0
    assert entry["anchor_key"] is not None
    assert len(entry["entry_sha256"]) == 64
    assert after["upcoming"] == []


async def test_texts_that_were_agreed_to_are_shown(desk: Desk, ask: Ask) -> None:
    texts = (await (await ask("GET", "/recordings/consent-texts", "compliance")).json())["texts"]
    assert [(each["of"], each["version"]) for each in texts] == [("turnpike", "2026-11-1")]
    assert "recorded" in texts[0]["text"]
