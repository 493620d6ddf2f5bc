"""How a role lives and dies: ``run_role`` is the outermost function of control, worker and recorder."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any, Final

import uvloop

from config.launch import die_with_parent
from config.logs import get_log, setup_logs
from config.settings import Settings
from config.slices import short_slice

__all__ = [
    "AUTOGROUP",
    "PARENT",
    "RoleMain",
    "bound_memory",
    "calm_collector",
    "come_first",
    "die_with_parent",
    "raise_file_limit",
    "run_role",
    "stand_back",
    "stay_off",
]

RoleMain = Callable[[Settings], Awaitable[int]]
"""A role's ``main``: runs until it is cancelled, then ends in order; returns an exit status."""

PARENT: Final = "TURNPIKE_PARENT"
"""Environment variable in which the supervisor tells its pid to the roles that must not outlive it."""
AUTOGROUP: Final = Path("/proc/self/autogroup")
AUTOGROUP_TRIES: Final = 20
AUTOGROUP_WAIT_S: Final = 0.1
"""The kernel lets those without privileges set one autogroup on the whole machine in this time."""
OOM_SCORE: Final = Path("/proc/self/oom_score_adj")
FIRST_NICENESS: Final = -20
"""The lowest there is. Who computes all the time on the same core is given its share of it for a whole tick of the
kernel at a time; with a larger share (niceness -10: a tenth) one packet in a hundred waits for three milliseconds."""
SLICE_NS: Final = 100_000
"""The shortest that the kernel gives."""
SWITCH_S: Final = 0.0005
"""How long the event loop waits for another thread of the process to let it have the interpreter (5 ms otherwise)."""
FILES_MAX = 65536
STOP_MAX_S = 30
"""A role that has not ended this long after it was told to is ended by the kernel."""
GC_THRESHOLDS: Final = (5_000, 20, 100)
"""See ``gc.set_threshold``: the oldest generation is looked at after ten million new objects that stayed."""
EXIT_FAULT = 1
EXIT_USAGE = 2

log = get_log("config.process")


def raise_file_limit() -> int:
    """Let this process and its children open as many files as it may, up to ``FILES_MAX``; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(FILES_MAX, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft


def calm_collector() -> None:
    """Look for garbage among new objects, and rarely among old ones.

    Nearly everything here is freed by its reference count; a collection of all generations stops the process for as
    long as it takes to visit every session that it knows (with 10,000: 0.3 s were seen), every few seconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def stand_back(niceness: int) -> None:
    """Let everything else on the machine come first. For a process with a session of its own.

    Linux groups processes by session where autogroup is on (sched(7)): niceness then counts within a session only, so
    the session stands back as a whole as well. Blocks for a moment where others do the same just now.
    """
    os.nice(niceness)
    failure = _place_session(niceness)
    if failure is not None:
        log.warning("the session does not stand back", why=failure)


def come_first(cores: Collection[int] = ()) -> None:
    """Run before what else wants the processors, as far as the kernel lets us: of these delays people hear every one.

    A short slice lets who wakes up run at once before who computes for long (Linux ≥ 6.12; nobody needs a privilege
    for it); lower niceness, of the process and of a session of its own, is for those who may (CAP_SYS_NICE or
    RLIMIT_NICE); ``cores``: the only processors to run on. Before any thread is started. Raises OSError where those are
    none of this machine's.
    """
    sys.setswitchinterval(SWITCH_S)
    if cores:
        os.sched_setaffinity(0, cores)
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    lowest = max(-20, 20 - resource.getrlimit(resource.RLIMIT_NICE)[0]) if hasattr(resource, "RLIMIT_NICE") else 0
    for wanted in (FIRST_NICENESS, max(FIRST_NICENESS, lowest)):
        if wanted < niceness:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, wanted)
                niceness = wanted
    why = short_slice(SLICE_NS, niceness)
    session = None
    if niceness < 0:
        session = _place_session(niceness) if os.getsid(0) == os.getpid() else "not its own"
    log.info("priority", niceness=niceness, slice_ns=SLICE_NS if why is None else why, session=session or "as well")


def _place_session(niceness: int) -> str | None:
    """Give this process's session a niceness among the sessions; why that cannot be, None: it could, or counts not."""
    for _ in range(AUTOGROUP_TRIES):
        try:
            AUTOGROUP.write_text(str(niceness))
        except FileNotFoundError:  # a kernel without it counts niceness for all processes alike
            return None
        except BlockingIOError:
            time.sleep(AUTOGROUP_WAIT_S * random.uniform(0.5, 1.5))
            continue
        except OSError as error:
            return str(error)
        return None
    return "others of this machine do so all the time"


def stay_off(cores: Collection[int]) -> None:
    """Leave these processors to whom they were given, where others remain. What this process starts stays off too."""
    if cores and (rest := os.sched_getaffinity(0) - set(cores)):
        os.sched_setaffinity(0, rest)


def bound_memory(data_max_bytes: int) -> None:
    """Let this process have so much memory of its own and no more; where memory runs out, it is the first to die."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bound = data_max_bytes if hard == resource.RLIM_INFINITY else min(data_max_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
    with contextlib.suppress(OSError):
        OOM_SCORE.write_text("1000")


def run_role(role: str, settings: Settings, main: RoleMain, *, stop_max_s: int = STOP_MAX_S) -> int:
    """Run ``main`` on a uvloop loop until it returns or SIGTERM or SIGINT comes; returns the exit status.

    A signal cancels ``main``; ending in order is its ``finally`` clauses' work, for ``stop_max_s`` at most. Under a
    supervisor the role is told to stop when the supervisor dies. Processors that workers are given are left to them.
    """
    setup_logs(role, settings.log_level, settings.log_format)
    raise_file_limit()
    calm_collector()
    stay_off(settings.cores_of_workers)
    parent = os.environ.get(PARENT, "")
    if parent.isdigit():
        die_with_parent(signal.SIGTERM, int(parent))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_guard(role, settings, main, stop_max_s))


async def _guard(role: str, settings: Settings, main: RoleMain, stop_max_s: int) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_unhandled)
    task = asyncio.ensure_future(main(settings))
    stopped_by: list[signal.Signals] = []

    def stop(sig: signal.Signals) -> None:
        if not stopped_by:
            log.info("told to stop", by=sig.name)
            signal.alarm(stop_max_s)
        stopped_by.append(sig)
        task.cancel()

    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop, sig)
    try:
        return await task
    except asyncio.CancelledError:
        if stopped_by:
            return 0
        log.fault("role cancelled, though nobody told it to stop", role=role)
        return EXIT_FAULT
    except (Exception, BaseExceptionGroup):  # noqa: BLE001 - the outermost boundary: logged once, then a new one starts
        log.fault("role failed", role=role)
        return EXIT_FAULT
    finally:
        signal.alarm(0)
        sys.stderr.flush()


def _log_unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nothing else caught: a task's or callback's exception, once, with where it came from."""
    error = context.get("exception")
    source = context.get("task") or context.get("future") or context.get("handle")
    what = context.get("message", "")
    if error is None:
        log.error("unhandled in the event loop", what=what, source=repr(source)[:300])
        return
    try:
        raise error
    except BaseException:  # noqa: BLE001 - raised the line before, to be logged with its traceback
        log.fault("unhandled in the event loop", what=what, source=repr(source)[:300])
