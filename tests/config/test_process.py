"""A role runs until it is told to stop, ends in order, and does not outlive its supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from config import process, slices
from config.logs import setup_logs

ROLE = """
import asyncio, sys
from config.process import run_role
from config.settings import Settings

async def main(settings):
    print("up", flush=True)
    try:
        {body}
    finally:
        await asyncio.sleep(0)
        print("ended in order", flush=True)
    return 7

sys.exit(run_role("test", Settings(log_format="text"), main))
"""


def _start(body: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", ROLE.format(body=body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | (env or {}),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_role_in_order(sig: signal.Signals) -> None:
    process = _start("await asyncio.sleep(60)")
    process.send_signal(sig)
    out, err = process.communicate(timeout=10)
    assert out == "ended in order\n"
    assert process.returncode == 0
    assert "told to stop" in err


def test_status_is_what_main_returns() -> None:
    process = _start("pass")
    process.communicate(timeout=10)
    assert process.returncode == 7


def test_fault_is_logged_once_and_ends_with_status_1() -> None:
    process = _start("raise LookupError('gone')")
    _, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert err.count("LookupError: gone") == 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("asyncio.current_task().cancel(); await asyncio.sleep(1)", "though nobody told it to stop"),
        ("raise BaseExceptionGroup('several', [asyncio.CancelledError('lost')])", "CancelledError: lost"),
    ],
)
def test_an_end_that_nobody_asked_for_is_logged_with_its_reason(body: str, why: str) -> None:
    process = _start(body)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert err.count(why) == 1
    assert "fault" in err.lower() or "error" in err.lower()


def test_unhandled_task_exception_is_logged_and_the_role_lives_on() -> None:
    body = "asyncio.get_running_loop().call_soon(lambda: 1 / 0); await asyncio.sleep(0.1)"
    process = _start(body)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 7
    assert err.count("ZeroDivisionError: division by zero") == 1


def test_role_stops_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "role.py"
    script.write_text(ROLE.format(body="await asyncio.sleep(60)"))
    out = tmp_path / "out"
    supervisor = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, subprocess, sys, time\n"
            "os.environ['TURNPIKE_PARENT'] = str(os.getpid())\n"
            f"subprocess.Popen([sys.executable, {str(script)!r}], stdout=open({str(out)!r}, 'w'))\n"
            "time.sleep(60)",
        ],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    _wait_for(out, "up")
    supervisor.kill()
    supervisor.wait()
    _wait_for(out, "ended in order")


def test_role_whose_supervisor_is_already_gone_does_not_start() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ROLE.format(body="await asyncio.sleep(60)")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TURNPIKE_PARENT": "1" if os.getpid() != 1 else "2"},
    )
    assert process.wait(10) == -signal.SIGTERM


def _wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 10
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"{text!r} was never written"
        time.sleep(0.02)


class _Busy:
    """An autogroup that takes no more than one write in a while."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.written = ""

    def write_text(self, text: str) -> None:
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError("Resource temporarily unavailable")
        self.written = text


@pytest.mark.parametrize("refusals", [0, 3])
def test_session_stands_back_also_when_others_do_so_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    group = _Busy(refusals)
    monkeypatch.setattr(process, "AUTOGROUP", group)
    monkeypatch.setattr(process, "AUTOGROUP_WAIT_S", 0.0)
    process.stand_back(0)
    assert group.written == "0"


def test_session_that_may_never_stand_back_is_logged_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setup_logs("test")
    monkeypatch.setattr(process, "AUTOGROUP", _Busy(10**6))
    monkeypatch.setattr(process, "AUTOGROUP_WAIT_S", 0.0)
    process.stand_back(0)
    assert "does not stand back" in capsys.readouterr().err


def test_memory_beyond_the_bound_is_refused_and_not_taken_from_others() -> None:
    body = "from config.process import bound_memory; bound_memory(300_000_000); print('up', flush=True); bytes(2**30)"
    ended = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.returncode) == ("up\n", 1)
    assert "MemoryError" in ended.stderr


FIRST = """
import os
from config.process import come_first
come_first({cores})
print(sorted(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0))
"""


def first(cores: set[int]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FIRST.format(cores=cores)],
        capture_output=True,
        text=True,
        timeout=20,
        start_new_session=True,
        check=False,
    )


def test_who_comes_first_runs_on_its_cores_and_never_behind_where_it_began() -> None:
    core = min(os.sched_getaffinity(0))
    cores, niceness = first({core}).stdout.rsplit(maxsplit=1)
    assert cores == f"[{core}]"
    assert int(niceness) <= os.getpriority(os.PRIO_PROCESS, 0)


def test_cores_that_the_machine_has_not_are_refused() -> None:
    assert "OSError" in first({1_023}).stderr


STAY_OFF = """
import os, subprocess, sys
from config.process import come_first, stay_off
stay_off({cores})
print(sorted(os.sched_getaffinity(0)))
come_first({first})
print(sorted(os.sched_getaffinity(0)))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor for all")
def test_processors_of_workers_are_left_to_them_where_others_remain() -> None:
    every = os.sched_getaffinity(0)

    def run(cores: set[int], first: set[int]) -> list[str]:
        body = STAY_OFF.format(cores=cores, first=first)
        told = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, timeout=20, check=True)
        return told.stdout.splitlines()

    one = min(every)
    assert run({one}, {one}) == [str(sorted(every - {one})), f"[{one}]"]
    assert run({one, 1_023}, set()) == [str(sorted(every - {one}))] * 2
    assert run(every, set()) == [str(sorted(every))] * 2


def test_slice_that_the_kernel_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert slices.short_slice(100_000, os.getpriority(os.PRIO_PROCESS, 0)) in (None, "not on this machine")
    monkeypatch.setattr(slices, "SCHED_SETATTR", {})
    assert slices.short_slice(100_000, 0) == "not on this machine"


def test_a_session_of_others_is_left_as_it_is_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setup_logs("test")
    group = _Busy(0)
    monkeypatch.setattr(process, "AUTOGROUP", group)
    monkeypatch.setattr(process, "short_slice", lambda *_: None)
    monkeypatch.setattr(os, "setpriority", lambda *_: None)
    monkeypatch.setattr(os, "getsid", lambda _: 1)
    process.come_first()
    assert group.written == ""
    assert "not its own" in capsys.readouterr().err
