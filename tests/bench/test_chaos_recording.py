"""The killing ends, whatever does not come up to be killed."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

import pytest

from bench import chaos_recording
from bench.chaos_recording import Chaos, Store


class Nothing:
    """An installation of which nothing is up."""

    def __init__(self, data: Path) -> None:
        self.data = data


async def test_killing_ends_though_nothing_ever_comes_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def is_down(*_: Any) -> bool:
        return False

    monkeypatch.setattr(chaos_recording, "BETWEEN_KILLS_S", (0.0, 0.001))
    monkeypatch.setattr(chaos_recording, "TURNS_MAX_S", 0.01)
    monkeypatch.setattr(Chaos, "_kill_role", is_down)
    monkeypatch.setattr(Chaos, "_kill_store", is_down)
    chaos = Chaos(Nothing(tmp_path), Store(tmp_path), argparse.Namespace(seed="1"))  # type: ignore[arg-type]
    async with asyncio.timeout(30):
        await chaos.kill_for(0.0)
    assert chaos.kills == []
