"""Money in the app: kinds, tips, packages, the wallet, receipts, the time line, and finance's pages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from bench.installation import Installation
from tests.web.actions import ADA, CLIENT, ring, signed_in, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.usefixtures("chromium_program"),
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]

FINANCE = "finance@demo.test"
CONNECTED = "() => window.turnpike.room?.state === 'connected'"
FRAMES = "async () => (await window.turnpike.room.stats()).remote.camera.frames_decoded"
KIND = "() => window.turnpike.session.view.kind"


async def sees(page: Page) -> None:
    """Frames of the other side are being decoded, from now on: each change of kind begins to count anew."""
    last, seen = await page.evaluate(FRAMES), 0

    async def more() -> bool:
        nonlocal last, seen
        now = await page.evaluate(FRAMES)
        seen += max(0, now - last)
        last = now
        return seen > 5

    await until(more, page)


async def change(page: Page, kind: str) -> None:
    await page.get_by_test_id("kind").click()
    await page.get_by_test_id(f"kind-{kind}").click()


async def minor(page: Page, test_id: str) -> int:
    return int(await page.get_by_test_id(test_id).get_attribute("data-minor") or 0)


def text_of(path: Path) -> str:
    return path.read_text()


async def hang_up(page: Page) -> None:
    await page.get_by_test_id("hangup").click()
    await expect(page.get_by_test_id("receipt-total")).to_be_visible(timeout=20_000)


async def test_audio_call_becomes_a_video_call_and_back_with_a_tip(turnpike: Installation, browser: Browser) -> None:
    """Both agree to the dearer kind, the cheaper one comes at once, and the receipt has a line for each."""
    async with signed_in(browser, turnpike.url, ADA) as ada, signed_in(browser, turnpike.url, CLIENT) as client:
        await ring(client, ada, "audio")
        await expect(ada.get_by_test_id("incoming")).to_contain_text("You earn $1.04 per minute")
        await ada.get_by_test_id("accept").click()
        for page in (client, ada):
            await page.wait_for_function(CONNECTED)
        await expect(client.get_by_test_id("cost")).not_to_have_attribute("data-minor", "0", timeout=20_000)

        await change(ada, "video")
        await expect(client.get_by_test_id("kind-asked")).to_contain_text("$1.99")
        await expect(ada.get_by_test_id("kind-waiting")).to_be_visible()
        await client.get_by_test_id("kind-agree").click()
        await expect(client.get_by_test_id("camera")).to_be_visible()
        await sees(client)
        await sees(ada)

        await client.get_by_test_id("tip").click()
        await client.get_by_test_id("tip-200").click()
        await client.get_by_test_id("tip-pay").click()
        await expect(client.get_by_test_id("charged")).to_contain_text("$2.00")
        await expect(ada.get_by_test_id("charged")).to_contain_text("you earn $1.40")

        await change(client, "audio")
        for page in (client, ada):
            await page.wait_for_function(f"{KIND} === 'audio'")
            await expect(page.get_by_test_id("camera")).to_have_count(0)
        assert await client.evaluate("() => window.turnpike.room.local.camera.live") is False

        await change(ada, "video")
        await client.get_by_test_id("kind-agree").click()
        await sees(client)
        await sees(ada)

        await change(client, "chat")  # which waits until the change before is five seconds ago
        await expect(ada.get_by_test_id("mute")).to_have_count(0, timeout=15_000)
        await hang_up(client)
        await expect(client.get_by_test_id("receipt")).to_contain_text("Audio call")
        await expect(client.get_by_test_id("receipt")).to_contain_text("Video call")
        await expect(client.get_by_test_id("receipt-extra")).to_have_text("$2.00")


async def test_chat_is_billed_by_presence_and_goes_on_with_sound(turnpike: Installation, browser: Browser) -> None:
    async with signed_in(browser, turnpike.url, ADA) as ada, signed_in(browser, turnpike.url, CLIENT) as client:
        await client.goto(turnpike.url + "/providers")
        await client.locator(".person", has_text="Ada Fox").locator("[data-testid$='-chat']:enabled").click()
        await client.get_by_test_id("call-start").click()
        await expect(ada.get_by_test_id("accept")).to_be_enabled()
        await ada.get_by_test_id("accept").click()
        await client.get_by_test_id("chat-input").fill("Good evening")
        await client.get_by_test_id("chat-send").click()
        await expect(ada.get_by_test_id("chat-message")).to_contain_text("Good evening")
        await expect(client.get_by_test_id("cost")).not_to_have_attribute("data-minor", "0", timeout=20_000)
        await change(client, "audio")
        await expect(ada.get_by_test_id("kind-asked")).to_contain_text("You earn $1.04 a minute")
        await ada.get_by_test_id("kind-agree").click()
        heard = "async () => (await window.turnpike.room.stats()).remote.microphone.first_at_ms !== null"
        for page in (client, ada):

            async def hears(page: Page = page) -> bool:
                return bool(await page.evaluate(heard))

            await until(hears, page)
        await hang_up(client)


async def test_session_page_has_states_evidence_and_charges_on_one_line(
    turnpike: Installation, browser: Browser
) -> None:
    """The newest session is that of the tests before."""
    async with signed_in(browser, turnpike.url, CLIENT) as page:
        await page.goto(turnpike.url + "/sessions")
        rows = page.get_by_test_id("session-row")
        await expect(rows.first.get_by_test_id("session-outcome")).to_contain_text("billed")
        await rows.nth(1).click()
        total = await minor(page, "receipt-total")
        await page.get_by_test_id("connection-details").click()
        await expect(page.get_by_test_id("timeline-plot")).to_be_visible()
        assert await minor(page, "timeline-amount") == total - 200
        table = page.get_by_test_id("timeline-table")
        for text in ("In progress", "Kind changed", "Video call", "Settled", "Tip", "connected in"):
            await expect(table).to_contain_text(text)
        await page.get_by_test_id("lane-money").click()
        lanes = await table.locator("tbody tr").evaluate_all("rows => rows.map((row) => row.dataset.lane)")
        assert set(lanes) == {"money"}
        await expect(page.get_by_test_id("quality-plot")).to_be_visible()


async def test_finance_sells_a_package_and_the_client_buys_it(turnpike: Installation, browser: Browser) -> None:
    async with signed_in(browser, turnpike.url, FINANCE) as page:
        await page.get_by_test_id("tab-tariffs").click()
        await page.get_by_test_id("sell-package").click()
        await page.get_by_test_id("package-name").fill("Thirty minutes")
        await page.get_by_test_id("package-minutes").fill("30")
        await page.get_by_test_id("package-price").fill("12.50")
        await page.get_by_test_id("package-sell").click()
        await expect(page.get_by_role("status")).to_contain_text("Thirty minutes is on sale")
    async with signed_in(browser, turnpike.url, CLIENT) as page:
        await page.get_by_role("link", name="Wallet").click()
        before = await page.get_by_test_id("purse-amount").inner_text()
        await page.get_by_test_id("buy-package").click()
        await page.get_by_test_id("buy-confirm").click()
        await expect(page.get_by_test_id("package")).to_have_attribute("data-left", "1800000")
        await expect(page.get_by_test_id("purse-amount")).not_to_have_text(before)
        await expect(page.get_by_test_id("transfers")).to_contain_text("Thirty minutes")


async def test_statement_is_saved_as_a_file(turnpike: Installation, browser: Browser) -> None:
    async with signed_in(browser, turnpike.url, CLIENT) as page:
        await page.get_by_role("link", name="Wallet").click()
        async with page.expect_download() as saving:
            await page.get_by_test_id("statement-csv").click()
        saved = await saving.value
        assert re.fullmatch(r"statement-\d{4}-\d\d-\d\d-\d{4}-\d\d-\d\d\.csv", saved.suggested_filename)
        lines = text_of(await saved.path()).splitlines()
        assert lines[0].startswith("at,id,kind,memo,amount_minor")
        assert any(",session," in line for line in lines)
        async with page.expect_download() as saving:
            await page.get_by_test_id("statement-json").click()
        statement = json.loads(text_of(await (await saving.value).path()))
        moved = sum(line["amount_minor"] for line in statement["lines"])
        assert statement["opening_minor"] + moved == statement["closing_minor"]


async def test_wallet_and_earnings_move_during_a_call(turnpike: Installation, browser: Browser) -> None:
    async with signed_in(browser, turnpike.url, ADA) as ada, signed_in(browser, turnpike.url, CLIENT) as client:
        await ring(client, ada, "video")
        await ada.get_by_test_id("accept").click()
        for page in (client, ada):
            await page.wait_for_function(CONNECTED)
        for page in (client, ada):
            await page.evaluate("() => history.pushState(null, '', '/wallet')")
            await page.evaluate("() => dispatchEvent(new PopStateEvent('popstate'))")
        # The package of the test before pays for the client; the provider's page shows the call all the same.
        await expect(client.get_by_test_id("live-call")).to_contain_text("Call with Ada Fox")
        await expect(ada.get_by_test_id("live-call")).to_contain_text("Call with Mira Lindqvist")
        await expect(client.get_by_test_id("package")).to_contain_text("in use now")
        await ada.get_by_test_id("live-call").click()
        await hang_up(ada)
        await ada.goto(turnpike.url + "/wallet")
        await expect(ada.get_by_test_id("earned-today")).not_to_have_text("$0.00")


async def test_finance_gives_back_a_part_and_what_is_left_of_a_package(
    turnpike: Installation, browser: Browser
) -> None:
    async with signed_in(browser, turnpike.url, FINANCE) as page:
        await page.goto(turnpike.url + "/sessions")
        await page.get_by_test_id("session-row").nth(2).click()
        await page.get_by_test_id("connection-details").click()
        await page.get_by_test_id("refund").click()
        await expect(page.get_by_test_id("refund-submit")).to_be_disabled()
        await page.get_by_test_id("refund-part").check()
        await page.get_by_test_id("refund-amount").fill("0.10")
        await page.get_by_test_id("refund-reason").fill("the sound failed")
        await page.get_by_test_id("refund-submit").click()
        await page.get_by_test_id("refund-close").click()
        await expect(page.get_by_test_id("timeline-table")).to_contain_text("the sound failed")
        await expect(page.get_by_test_id("timeline-table")).to_contain_text("−$0.10")

        await page.goto(turnpike.url + "/finance")
        await page.get_by_test_id("tab-accounts").click()
        await page.get_by_test_id("account-search").fill("mira")
        await page.keyboard.press("Enter")
        await expect(page.get_by_test_id("account")).to_have_count(1)
        await page.get_by_test_id("account-packages").click()
        await page.get_by_test_id("refund-package").click()
        await page.get_by_test_id("refund-reason").fill("bought by mistake")
        await page.get_by_test_id("refund-submit").click()
        await page.get_by_test_id("refund-close").click()
        await expect(page.get_by_test_id("refund-package")).to_have_count(0)
        await page.get_by_test_id("account-ledger").click()
        report = page.get_by_test_id("ledger-report")
        await expect(report).to_contain_text("agrees")
        await report.get_by_role("button", name=re.compile("^trf_")).first.click()
        await expect(report).to_contain_text("Legs")


async def test_finance_announces_a_tariff_and_nobody_else_gets_there(turnpike: Installation, browser: Browser) -> None:
    async with signed_in(browser, turnpike.url, FINANCE) as page:
        await page.get_by_test_id("tab-tariffs").click()
        await page.get_by_test_id("tariff-change-video").click()
        await page.get_by_test_id("tariff-preset").select_option("per_started_minute_70_30")
        await page.get_by_test_id("tariff-rate").fill("not a price")
        await page.get_by_test_id("tariff-save").click()
        await expect(page.get_by_test_id("tariff-rate")).to_have_attribute("aria-invalid", "true")
        await page.get_by_test_id("tariff-rate").fill("2.49")
        await page.get_by_test_id("tariff-later").check()
        await page.get_by_test_id("tariff-from").fill("2090-01-01T00:00")
        await page.get_by_test_id("tariff-save").click()
        announced = page.locator("[data-state=announced]")
        await expect(announced).to_contain_text("$2.49/min")
        await expect(page.locator("[data-state=current]").first).to_be_visible()
    async with signed_in(browser, turnpike.url, CLIENT) as page:
        await page.goto(turnpike.url + "/finance")
        await expect(page.get_by_test_id("finance")).to_have_count(0)


async def test_receipt_prints_on_one_page(turnpike: Installation, browser: Browser, tmp_path: Path) -> None:
    async with signed_in(browser, turnpike.url, CLIENT) as page:
        await page.goto(turnpike.url + "/sessions")
        await page.get_by_test_id("session-row").last.click()
        await expect(page.get_by_test_id("receipt-total")).to_be_visible()
        printed = await page.pdf(format="A4")
        assert printed.count(b"/Type /Page\n") + printed.count(b"/Type/Page/") <= 1
        await page.emulate_media(media="print")
        await expect(page.locator(".topbar")).to_be_hidden()
        await expect(page.locator(".receipt-actions")).to_be_hidden()


async def test_money_pages_fit_every_window(turnpike: Installation, browser: Browser) -> None:
    pages = {CLIENT: ("/wallet", "/sessions"), ADA: ("/wallet",), FINANCE: ("/finance",)}
    for email, paths in pages.items():
        async with signed_in(browser, turnpike.url, email) as page:
            for path in paths:
                await page.goto(turnpike.url + path)
                await page.wait_for_load_state("networkidle")
                for width in (360, 1440):
                    await page.set_viewport_size({"width": width, "height": 800})
                    assert await page.evaluate("() => document.documentElement.scrollWidth") <= width, path
