"""Relays that are compared run alike."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.relay_case import RELAY_CORE, as_a_worker

HOW = "import os; print(sorted(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0))"
OURS = f"from config.process import come_first; come_first([{RELAY_CORE}]); {HOW}"


@pytest.mark.skipif(RELAY_CORE not in os.sched_getaffinity(0), reason="the relays' core is not ours")
def test_a_relay_of_others_runs_with_the_cores_and_priority_of_ours() -> None:
    def how(*command: str) -> list[str]:
        return subprocess.run(
            command, stdout=subprocess.PIPE, text=True, timeout=20, start_new_session=True, check=True
        ).stdout.split()

    theirs = how(*as_a_worker(sys.executable, "-c", HOW))
    ours = how(sys.executable, "-c", OURS)
    assert theirs == ours
    assert theirs[0] == f"[{RELAY_CORE}]"
