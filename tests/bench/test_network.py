"""The instrument itself, on real browsers: a direct call of which no packet goes past the proxy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from bench.netlink import Conditions
from bench.netmedia import make_media
from bench.netscenarios import Scenario
from bench.network import run_once

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


async def test_outage_on_the_subscribers_line_stops_the_picture_for_as_long(
    tool: Callable[[str, str], str], tmp_path: Path
) -> None:
    tool("chromium", "chromium")
    outage = Scenario("outage", "", Conditions(down=True), impaired=lambda _: 1.5, tail_s=4)
    async with async_playwright() as driver:
        run = await run_once(outage, 1, "seed", driver, make_media(tmp_path), None)
    assert 1_300 <= run.figures["longest_gap_ms"] <= 3_500
    assert run.figures["frozen_ratio"] > 0.1
    assert run.figures["recover_ms"] is not None
    lines = run.hints["lines"]
    assert lines["subscriber down"]["lost"] > 0
    assert "lost" not in lines["publisher up"]
    assert lines["publisher up"]["packets"] == pytest.approx(lines["subscriber down"]["packets"], rel=0.02)
