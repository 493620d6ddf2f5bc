"""``make soak``: the lives of test_ledger_machine.py, by the hundred thousand steps. Not part of the suite.

``SOAK_STEPS`` steps, from ``SOAK_SEED``, for ``SOAK_MINUTES`` at most: what was reached then is told. A life that fails
is shown whole, and comes again with the same seed.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.billing.conftest import Town
from tests.billing.test_ledger_machine import commands, live

STEPS = int(os.environ.get("SOAK_STEPS", "100000"))
MINUTES = float(os.environ.get("SOAK_MINUTES", "60"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
LIFE = 50
PART = 2_500
"""Steps on one database: proofs of the whole books become slow with their size."""

_began = time.monotonic()
_done = {"steps": 0}


def time_left() -> bool:
    return time.monotonic() - _began < MINUTES * 60


def lives(number: int, count: int) -> list[list[tuple[Any, ...]]]:
    """Hypothesis' choice, without its runner: shrinking takes longer here than it helps."""
    made: list[list[tuple[Any, ...]]] = []

    @seed(SEED * 1_000_000 + number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example, HealthCheck.data_too_large],
    )
    @given(life=st.lists(commands, min_size=LIFE, max_size=LIFE))
    def choose(life: list[tuple[Any, ...]]) -> None:
        made.append(life)

    choose()
    return made


@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(-(-STEPS // PART)))
async def test_soak(town: Town, owner: Any, part: int) -> None:
    for life in lives(part, PART // LIFE) if time_left() else ():
        if not time_left():
            break
        await live(town, owner, life)
        _done["steps"] += len(life)
    minutes = (time.monotonic() - _began) / 60
    sys.stderr.write(f"soak: {_done['steps']} of {STEPS} steps in {minutes:.1f} min, all agreed\n")
