"""Whole installations and real browsers; each test starts its own ``turnpike serve`` on an empty directory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from bench.installation import Installation


@pytest.fixture
def chromium_program(tool: Callable[[str, str], str]) -> str:
    """Chromium's path; skips, or fails where ``CI=true``, when it is missing."""
    return tool("chromium", "chromium")


@pytest.fixture
async def turnpike() -> AsyncIterator[Installation]:
    """A fresh installation that says what it logged when the test fails."""
    async with Installation() as installation:
        yield installation
