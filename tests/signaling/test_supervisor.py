"""Children are kept running, ever more patiently, and are stopped in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.supervisor import Backoff, ChildSpec, Supervisor, describe_exit

SLEEPER = "import time, sys; print('up', flush=True); time.sleep(60)"


def test_waits_double_up_to_the_maximum_while_a_child_keeps_dying() -> None:
    backoff = Backoff(first_ms=200, most_ms=1000, healthy_ms=30_000)
    assert [backoff.delay_ms(10) for _ in range(5)] == [200, 400, 800, 1000, 1000]


def test_wait_begins_anew_after_a_healthy_run() -> None:
    backoff = Backoff(first_ms=200, most_ms=1000, healthy_ms=30_000)
    assert [backoff.delay_ms(ran) for ran in (10, 10, 29_999, 30_000, 10)] == [200, 400, 800, 200, 400]


@given(st.lists(st.integers(0, 10**9), max_size=50))
def test_wait_is_always_within_its_bounds(runs: list[int]) -> None:
    backoff = Backoff()
    assert all(200 <= backoff.delay_ms(ran) <= 10_000 for ran in runs)


@pytest.mark.parametrize(("status", "text"), [(0, "status 0"), (3, "status 3"), (-9, "SIGKILL"), (-200, "signal 200")])
def test_exits_are_told_in_words(status: int, text: str) -> None:
    assert describe_exit(status) == text


def _python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.01)


def _quick() -> Backoff:
    return Backoff(first_ms=20, most_ms=40)


async def test_child_that_dies_is_started_again_and_its_exit_is_told() -> None:
    spec = ChildSpec("sleeper", _python(SLEEPER))
    async with Supervisor([spec], new_backoff=_quick) as supervisor:
        (state,) = supervisor.states
        await _until(lambda: state.pid is not None)
        first = state.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await _until(lambda: state.pid not in (None, first))
        assert state.restarts == 1
        assert state.last_exit == "SIGKILL"


async def test_child_that_keeps_dying_is_never_given_up_on(tmp_path: Path) -> None:
    spec = ChildSpec("broken", _python("raise SystemExit(3)"))
    async with Supervisor([spec], new_backoff=_quick) as supervisor:
        await _until(lambda: supervisor.states[0].restarts >= 4)
        assert supervisor.states[0].last_exit == "status 3"


async def test_program_that_does_not_exist_is_tried_again_too() -> None:
    async with Supervisor([ChildSpec("absent", ["/nonexistent/program"])], new_backoff=_quick) as supervisor:
        await _until(lambda: supervisor.states[0].restarts >= 2)
        assert "No such file" in supervisor.states[0].last_exit


async def test_children_are_stopped_in_order(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = (
        "import signal, sys, time\n"
        "def stop(*_):\n"
        "    time.sleep(0.1)\n"
        f"    open({str(out)!r}, 'a').write(sys.argv[1] + ' ')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        f"open({str(tmp_path)!r} + '/up-' + sys.argv[1], 'w').close()\n"
        "time.sleep(60)"
    )
    names = ["recorder", "control", "worker"]
    orders = {"control": 0, "worker": 1, "recorder": 2}
    specs = [ChildSpec(name, [*_python(script), name], stop_order=orders[name]) for name in names]
    async with Supervisor(specs):
        await _until(lambda: len(list(tmp_path.glob("up-*"))) == 3)
    assert out.read_text() == "control worker recorder "


async def test_child_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    up = tmp_path / "up"
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"open({str(up)!r}, 'w').close(); time.sleep(60)"
    )
    async with Supervisor([ChildSpec("deaf", _python(script), stop_timeout_s=0.1)]) as supervisor:
        await _until(up.exists)
    assert supervisor.states[0].last_exit == "SIGKILL"


async def test_environment_is_asked_for_at_each_start(tmp_path: Path) -> None:
    asked = iter(range(100))
    out = tmp_path / "out"
    script = f"import os; open({str(out)!r}, 'a').write(os.environ['N'] + ' ' + os.environ['TURNPIKE_PARENT'] + '\\n')"
    spec = ChildSpec("counting", _python(script), lambda: {"N": str(next(asked))})
    async with Supervisor([spec], new_backoff=_quick) as supervisor:
        await _until(lambda: supervisor.states[0].restarts >= 2)
    assert out.read_text().splitlines()[:2] == [f"0 {os.getpid()}", f"1 {os.getpid()}"]


async def test_changes_are_told() -> None:
    told: list[tuple[str, bool]] = []

    def on_change(supervisor: Supervisor) -> None:
        told.extend((state.name, state.pid is not None) for state in supervisor.states)

    async with Supervisor([ChildSpec("short", _python("pass"))], on_change=on_change, new_backoff=_quick):
        await _until(lambda: len(told) >= 3)
    assert told[:3] == [("short", True), ("short", False), ("short", True)]


def test_two_children_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError):
        Supervisor([ChildSpec("a", []), ChildSpec("a", [])])
