"""Recordings, from the pause in a call to the proof of an erasure: each page doing what its user came for.

The tests build on each other: the recording is that of one call, made in the second test under the policy of the first.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Download, Page, expect

from bench.installation import Installation
from tests.web.actions import ADA, ADMIN, CLIENT, COMPLIANCE, flows, ring, signed_in, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.usefixtures("chromium_program"),
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]

WHY = "Complaint 4711: what was said about the fee"
WIDTHS = (360, 1440)
FITS = "() => document.documentElement.scrollWidth <= innerWidth"
QUALITY_SIDES = "async () => (await window.turnpike.session.qualitySeries()).participants.length"
LEFT_OUT = """
() => {
  const session = window.turnpike.session;
  const side = {connected: true, score: 2, rtt_ms: 9, loss_up: 0, loss_down: 0, jitter_ms: 1, bitrate_up_bps: 1,
                bitrate_down_bps: 1, cause: 'video_paused', videos_paused: ['camera']};
  session.takeQuality({session_id: session.id, sides: [{...side, user_id: session.selfId}]});
}
"""
"""What the server tells when this page's connection is too slow for the other's video."""


async def reason(page: Page, why: str = WHY) -> None:
    """Fill in the dialog that asks why."""
    await page.get_by_test_id("reason-input").fill(why)
    await page.get_by_test_id("reason-submit").click()
    await expect(page.get_by_test_id("reason-input")).to_have_count(0)


async def at(page: Page) -> float:
    """Where the player is, in seconds."""
    return float(await page.get_by_test_id("player").get_attribute("data-position") or -1)


async def open_recording(page: Page) -> None:
    """From the search to the player."""
    await page.get_by_test_id("recording-row").get_by_role("link").click()
    await page.get_by_test_id("recording-open").click(timeout=30_000)
    await reason(page)
    await expect(page.get_by_test_id("player")).to_be_visible()


async def test_a_key_admin_sets_how_long_recordings_are_kept_and_who_has_their_own(
    turnpike: Installation, browser: Browser
) -> None:
    async with signed_in(browser, turnpike.url, ADMIN) as admin:
        await admin.goto(turnpike.url + "/recordings/policies")
        await admin.get_by_test_id("policy-change-video").click()
        await admin.get_by_test_id("policy-days").fill("400")
        await expect(admin.get_by_test_id("own-client")).to_be_checked()
        await admin.get_by_test_id("own-provider").uncheck()
        await reason(admin, "Decision of the board of 3 November")
        card = admin.get_by_test_id("policy-video")
        await expect(card).to_contain_text("400 days")
        await expect(card).to_contain_text("Yes, at once")
    async with signed_in(browser, turnpike.url, COMPLIANCE) as officer:
        await officer.goto(turnpike.url + "/recordings/policies")
        await expect(officer.get_by_test_id("policy-video")).to_contain_text("400 days")
        await expect(officer.get_by_test_id("policy-change-video")).to_have_count(0)


async def test_the_provider_pauses_the_recording_and_both_see_it(turnpike: Installation, browser: Browser) -> None:
    async with signed_in(browser, turnpike.url, ADA) as ada, signed_in(browser, turnpike.url, CLIENT) as client:
        await ring(client, ada, "video")
        await ada.get_by_test_id("accept").click()
        await flows(client)
        await flows(ada)
        await expect(client.get_by_test_id("recording-said")).to_contain_text("being recorded")

        await ada.keyboard.press("r")
        await ada.get_by_test_id("recording-pause").click()
        state = client.get_by_test_id("recording-state")
        await expect(state).to_have_attribute("data-state", "paused")
        await expect(state).to_contain_text(re.compile(r"Paused [12]:\d\d"))
        await expect(client.get_by_test_id("recording-said")).to_contain_text("Nothing is kept")
        await state.click()
        await expect(client.get_by_role("dialog")).to_contain_text("Nothing is being kept")
        await expect(client.get_by_test_id("recording-pause")).to_have_count(0)
        await client.keyboard.press("Escape")
        await client.wait_for_timeout(1_000)
        await ada.get_by_test_id("recording-resume").click()
        await expect(state).to_have_attribute("data-state", "recording")

        await client.evaluate(LEFT_OUT)
        await expect(client.get_by_test_id("video-paused")).to_contain_text("You still hear each other")
        await expect(client.get_by_test_id("quality-notice")).to_contain_text("audio kept")

        await client.get_by_test_id("chat").click()
        await client.get_by_test_id("chat-input").fill("Is the fee refundable?")
        await client.get_by_test_id("chat-send").click()
        await flows(client)

        async def quality_is_kept() -> bool:
            return bool(await client.evaluate(QUALITY_SIDES) == 2)

        await until(quality_is_kept, client)  # it is saved every ten seconds
        await ada.keyboard.press("e")
        await ada.get_by_role("dialog").get_by_role("button", name="Hang up").click()
        await expect(client.get_by_test_id("receipt-total")).to_be_visible(timeout=15_000)


async def test_search_finds_by_what_is_asked_and_says_when_nothing_matches(
    turnpike: Installation, browser: Browser
) -> None:
    async with signed_in(browser, turnpike.url, COMPLIANCE) as page:
        rows = page.get_by_test_id("recording-row")
        await expect(rows).to_have_count(1)
        await page.get_by_test_id("recording-search").fill("mira")
        await page.get_by_test_id("search-submit").click()
        await expect(rows).to_have_count(1)
        await page.get_by_test_id("more-filters").click()
        await page.get_by_test_id("filter-kind").select_option("audio")
        await page.get_by_test_id("search-submit").click()
        await expect(rows).to_have_count(0)
        await page.reload()  # the address has the search
        await expect(page.get_by_text("Nothing matches")).to_be_visible()
        await page.get_by_role("button", name="Remove the filter Audio call").click()
        await expect(rows).to_have_count(1)
        await page.get_by_test_id("search-clear").click()
        await expect(page).to_have_url(turnpike.url + "/recordings")


async def test_the_player_shows_voices_pauses_and_chat_and_goes_where_one_clicks(
    turnpike: Installation, browser: Browser
) -> None:
    async with signed_in(browser, turnpike.url, COMPLIANCE) as page:
        await open_recording(page)
        chat = page.get_by_test_id("player-chat")
        await expect(chat).to_contain_text("Is the fee refundable?")
        await expect(chat).to_contain_text("Recording paused")
        await expect(page.get_by_test_id("player-line-event").filter(has_text="Recording announced")).to_have_count(2)
        await page.get_by_test_id("player-line-message").click()
        there = await at(page)
        assert there > 1
        await page.keyboard.press("0")
        assert await at(page) == 0
        await page.keyboard.press("ArrowRight")
        assert 4.9 <= await at(page) <= 5.1
        await page.keyboard.press("n")
        await page.get_by_test_id("player-seek").focus()
        await page.keyboard.press("ArrowLeft")
        await page.get_by_test_id("player-quality").click()
        await expect(page.get_by_test_id("tile-quality")).to_have_count(2)
        await page.get_by_test_id("player-line-message").click()  # both were recorded then
        await page.get_by_test_id("player-speed").select_option("0.5")
        await page.get_by_test_id("player-play").click()

        async def played() -> bool:
            return await at(page) > there + 0.5

        await until(played, page)
        times = "() => [...document.querySelectorAll('video')].filter((v) => !v.paused).map((v) => v.currentTime)"
        playing = await page.evaluate(times)
        assert len(playing) >= 2
        assert max(playing) - min(playing) < 2, playing
        await expect(page.get_by_test_id("access-log")).to_contain_text(WHY)


async def test_tags_and_a_legal_hold_are_found_by_search(turnpike: Installation, browser: Browser) -> None:
    async with signed_in(browser, turnpike.url, COMPLIANCE) as page:
        await page.get_by_test_id("recording-row").get_by_role("link").click()
        await page.get_by_test_id("tags-edit").click()
        await page.get_by_test_id("tags-input").fill("complaint 4711, fees ,fees")
        await page.get_by_test_id("tags-save").click()
        await expect(page.get_by_test_id("tags").locator(".tag")).to_have_text(["complaint 4711", "fees"])
        await page.get_by_test_id("hold-place").click()
        await reason(page, "Court order 12 O 345/26 of 3 November")
        await expect(page.get_by_test_id("hold")).to_contain_text("Court order")
        await page.goto(turnpike.url + "/recordings?held=1&tag=fees")
        await expect(page.get_by_test_id("recording-row")).to_contain_text("Legal hold")
        await page.get_by_test_id("recording-row").get_by_role("link").click()
        await page.get_by_test_id("hold-lift").click()
        await reason(page, "The court lifted it on 12 November")
        await expect(page.get_by_test_id("hold")).to_have_count(0)
        await expect(page.get_by_test_id("holds")).to_contain_text("1 lifted hold")


async def test_files_are_made_and_downloaded(turnpike: Installation, browser: Browser, tmp_path: Path) -> None:
    async with signed_in(browser, turnpike.url, COMPLIANCE) as page:
        await open_recording(page)
        await page.get_by_test_id("make-audio").click()
        await reason(page)
        await page.get_by_test_id("make-export").click()
        await reason(page, "Handed to the regulator, letter of 12 November")
        for button, suffix in (("download-export", ".zip"), ("download-audio", ".m4a")):
            async with page.expect_download(timeout=60_000) as coming:
                await page.get_by_test_id(button).click(timeout=60_000)
            download: Download = await coming.value
            assert download.suggested_filename.endswith(suffix)
            await download.save_as(tmp_path / button)
            assert (tmp_path / button).stat().st_size > 1_000


async def test_participants_play_their_own_where_the_policy_lets_them(turnpike: Installation, browser: Browser) -> None:
    async with signed_in(browser, turnpike.url, CLIENT) as client:
        session = await client.evaluate("async () => (await window.turnpike.client.sessions()).sessions[0].id")
        await client.goto(f"{turnpike.url}/sessions/{session}")
        await client.get_by_test_id("own-open").click()
        await expect(client.get_by_test_id("player")).to_be_visible()
        await expect(client.get_by_test_id("player-chat")).to_contain_text("Is the fee refundable?")
    async with signed_in(browser, turnpike.url, ADA) as ada:
        await ada.goto(f"{turnpike.url}/sessions/{session}")
        await expect(ada.get_by_test_id("past-session")).to_be_visible()
        await expect(ada.get_by_test_id("own-recording")).to_have_count(0)


async def test_reports_tell_who_did_what_and_prove_what_is_gone(
    turnpike: Installation, browser: Browser, tmp_path: Path
) -> None:
    async with signed_in(browser, turnpike.url, ADMIN) as admin:
        await admin.goto(turnpike.url + "/recordings")
        await admin.get_by_test_id("recording-row").get_by_role("link").click()
        await expect(admin.get_by_test_id("recording-open")).to_have_count(0)
        await admin.get_by_test_id("erase").click()
        await reason(admin, "Erasure request 881, checked by legal")
        await expect(admin.get_by_text("nobody can read it any more")).to_be_visible()
        await admin.get_by_role("link", name="See the proof").click()
        await expect(admin.get_by_test_id("deletion")).to_contain_text("Erasure request 881")
    async with signed_in(browser, turnpike.url, COMPLIANCE) as page:
        await page.get_by_role("link", name="Policies").click()
        await expect(page.get_by_test_id("consent-text")).to_contain_text("This call is recorded")
        await page.get_by_role("link", name="Access report").click()
        report = page.get_by_test_id("access-report")
        await expect(report).to_contain_text("Handed to the regulator")
        await page.get_by_test_id("report-person").fill("Tomas")
        await page.get_by_test_id("report-show").click()
        await expect(report).to_contain_text("Erasure request 881")
        await expect(report).not_to_contain_text("Handed to the regulator")
        async with page.expect_download() as coming:
            await page.get_by_test_id("report-csv").click()
        await (await coming.value).save_as(tmp_path / "report.csv")
        csv = (tmp_path / "report.csv").read_text()
        assert "Erasure request 881" in csv
        assert "Ines Duarte" not in csv


async def test_an_admin_makes_and_revokes_the_key_of_a_platform(turnpike: Installation, browser: Browser) -> None:
    async with signed_in(browser, turnpike.url, ADMIN) as admin:
        await admin.goto(turnpike.url + "/recordings/platforms")
        await admin.get_by_test_id("platform-add").click()
        await admin.get_by_test_id("platform-name").fill("Partner")
        await reason(admin, "Contract 12 with the partner of 3 November")
        await expect(admin.get_by_test_id("platform-secret")).to_have_value(re.compile(r"^plk_\w+\n[0-9a-f]{64}$"))
        await admin.keyboard.press("Escape")
        await expect(admin.get_by_test_id("platform-secret")).to_have_count(0)
        await expect(admin.get_by_test_id("platform-row")).to_contain_text("In use")
        for width in WIDTHS:
            await admin.set_viewport_size({"width": width, "height": 800})
            assert await admin.evaluate(FITS), width
        await admin.get_by_test_id("platform-revoke").click()
        await reason(admin, "The contract with the partner has ended")
        await expect(admin.get_by_test_id("platform-row")).to_contain_text("Revoked on")


async def test_no_page_of_the_archive_is_wider_than_the_window(turnpike: Installation, browser: Browser) -> None:
    async with signed_in(browser, turnpike.url, COMPLIANCE) as page:
        row = await page.get_by_test_id("recording-row").get_by_role("link").get_attribute("href")
        for path in (
            "/recordings?kind=video",
            row,
            *(f"/recordings/{p}" for p in ("accesses", "deletions", "policies")),
        ):
            await page.goto(turnpike.url + str(path))
            await expect(page.locator("main h1").first).to_be_visible()
            await expect(page.locator(".skeleton")).to_have_count(0)
            for width in WIDTHS:
                await page.set_viewport_size({"width": width, "height": 800})
                assert await page.evaluate(FITS), (path, width)
