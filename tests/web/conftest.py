"""The web app in a real browser, on one installation for all tests of a module."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from bench.browser import CHROMIUM, FLAGS
from bench.installation import Installation


@pytest.fixture
def chromium_program(tool: Callable[[str, str], str]) -> str:
    """Chromium's path; skips, or fails where ``CI=true``, when it is missing."""
    return tool("chromium", "chromium")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def turnpike() -> AsyncIterator[Installation | None]:
    """A fresh installation; None where there is no browser to use it with."""
    if shutil.which("chromium") is None:
        yield None
        return
    async with Installation() as installation:
        yield installation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser | None]:
    """One Chromium; each user gets a context of their own in it. None where there is no Chromium."""
    if shutil.which("chromium") is None:
        yield None
        return
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        await chromium.close()
