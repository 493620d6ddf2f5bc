"""``make soak``: the lives of test_ledger_machine.py, by the hundred thousand steps. Not part of the suite.

``SOAK_STEPS`` steps, from ``SOAK_SEED``, for ``SOAK_MINUTES`` at most, in ``SOAK_PROCESSES`` processes, each with a
server of its own: what was reached then is told as JSON. A life that fails is shown whole, and comes again with the
same seed.
"""

from __future__ import annotations

import json
import os
import subprocess
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
PROCESSES = int(os.environ.get("SOAK_PROCESSES", "2"))
MINE = int(os.environ.get("SOAK_PROCESS", "0"))
"""Which of them this is."""
LIFE = 50
PART = 2_500
"""Steps on one database: proofs of the whole books become slow with their size."""

TOLD = "soak: steps so far "

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
@pytest.mark.parametrize("part", range(MINE, -(-STEPS // PART), PROCESSES))
async def test_soak(town: Town, owner: Any, part: int) -> None:
    for life in lives(part, PART // LIFE) if time_left() else ():
        if not time_left():
            break
        await live(town, owner, life)
        _done["steps"] += len(life)
    sys.stderr.write(f"{TOLD}{_done['steps']}\n")


def main() -> int:
    """Share the steps out, wait, and add up; 1: something disagreed."""
    command = [sys.executable, "-m", "pytest", "-s", "-q", __file__, *sys.argv[1:]]
    running = [
        subprocess.Popen(command, env=os.environ | {"SOAK_PROCESS": str(n)}, stderr=subprocess.PIPE, text=True)
        for n in range(PROCESSES)
    ]
    try:
        told = [process.communicate()[1] for process in running]
    finally:
        for process in running:
            process.kill()
    counts = [[int(line.removeprefix(TOLD)) for line in one.splitlines() if line.startswith(TOLD)] for one in told]
    for one in told:
        sys.stderr.writelines(line for line in one.splitlines(keepends=True) if not line.startswith(TOLD))
    agreed = all(process.returncode == 0 for process in running)
    minutes = round((time.monotonic() - _began) / 60, 1)
    steps = sum(max(each, default=0) for each in counts)
    found = {"steps": steps, "of": STEPS, "minutes": minutes, "seed": SEED, "agreed": agreed}
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
