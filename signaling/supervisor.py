"""Keep a table of child processes running: each is started again whenever it ends, ever later while it keeps ending.

``Backoff`` is the rule, ``Supervisor`` the processes. Children are told to stop in the order of ``stop_order``, those
of one order at once, so that whoever feeds another ends before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import groupby
from typing import Self

from config.clock import Clock, SystemClock
from config.logs import get_log
from config.process import PARENT

log = get_log("signaling.supervisor")


class Backoff:
    """How long to wait before a child is started again. It doubles up to a maximum and never gives up."""

    def __init__(self, first_ms: int = 200, most_ms: int = 10_000, healthy_ms: int = 30_000) -> None:
        self._first_ms, self._most_ms, self._healthy_ms = first_ms, most_ms, healthy_ms
        self._next_ms = first_ms

    def delay_ms(self, ran_ms: int) -> int:
        """The wait after a run of ``ran_ms``; a run of at least ``healthy_ms`` begins anew."""
        if ran_ms >= self._healthy_ms:
            self._next_ms = self._first_ms
        delay_ms, self._next_ms = self._next_ms, min(self._next_ms * 2, self._most_ms)
        return delay_ms


@dataclasses.dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run, and how to end it."""

    name: str
    """Unique in the table, e.g. ``worker-1``."""
    command: Sequence[str]
    env: Callable[[], Mapping[str, str]] = dict
    """Environment on top of this process's own, asked for at each start (a port may be taken by then)."""
    stop_order: int = 0
    stop_timeout_s: float = 10.0
    """It is killed when it has not ended this long after SIGTERM."""
    on_exit: Callable[[int], Awaitable[None]] | None = None
    """Called with the pid of each process of it that has ended by itself."""


@dataclasses.dataclass(slots=True)
class ChildState:
    """What is known of a child now."""

    name: str
    pid: int | None = None
    started_at_ms: int = 0
    restarts: int = 0
    last_exit: str = ""
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)


def describe_exit(status: int) -> str:
    """``status 3`` or ``SIGKILL``, of a return code as asyncio tells it."""
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


class _Child:
    """One child and the task that keeps it running."""

    def __init__(self, spec: ChildSpec, owner: Supervisor) -> None:
        self.spec = spec
        self.state = ChildState(spec.name)
        self._owner = owner
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._telling: set[asyncio.Future[None]] = set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name=f"supervise {self.spec.name}")

    async def _keep(self) -> None:
        clock, backoff = self._owner.clock, self._owner.new_backoff()
        while True:
            started_ns = clock.monotonic_ns()
            try:
                self._process = await self._spawn()
            except OSError as error:
                self.state.last_exit = str(error)
                log.error("role cannot be started", name=self.spec.name, why=str(error))
            else:
                self.state.pid, self.state.started_at_ms = self._process.pid, clock.wall_ms()
                log.info("role started", name=self.spec.name, pid=self._process.pid)
                self._owner.changed()
                self.state.last_exit = describe_exit(await self._process.wait())
                self.state.pid = None
                self._tell_exit(self._process.pid)
            ran_ms = (clock.monotonic_ns() - started_ns) // 1_000_000
            delay_ms = backoff.delay_ms(ran_ms)
            self.state.restarts += 1
            log.warning(
                "role ended, will be started again",
                name=self.spec.name,
                exit=self.state.last_exit,
                ran_ms=ran_ms,
                delay_ms=delay_ms,
            )
            self._owner.changed()
            await asyncio.sleep(delay_ms / 1000)

    def _tell_exit(self, pid: int) -> None:
        if self.spec.on_exit is not None:
            task = asyncio.ensure_future(self.spec.on_exit(pid))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _spawn(self) -> asyncio.subprocess.Process:
        env = self.spec.env()
        self.state.env = env
        return await asyncio.create_subprocess_exec(
            *self.spec.command,
            env={**os.environ, **env, PARENT: str(os.getpid())},
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=self._owner.pass_fds,
            start_new_session=True,  # Ctrl-C in a terminal is for the supervisor, which stops roles in order
        )

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self.spec.stop_timeout_s):
                status = await process.wait()
        except TimeoutError:
            log.warning("role does not stop, killed", name=self.spec.name, pid=process.pid)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            status = await process.wait()
        self.state.pid, self.state.last_exit = None, describe_exit(status)
        log.info("role stopped", name=self.spec.name, exit=self.state.last_exit)


class Supervisor:
    """The children of a table, for the time of an ``async with``.

    ``on_change`` is called whenever a child starts or ends; ``pass_fds`` stay open in the children.
    """

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        *,
        on_change: Callable[[Supervisor], None] | None = None,
        pass_fds: Sequence[int] = (),
        new_backoff: Callable[[], Backoff] = Backoff,
        clock: Clock | None = None,
    ) -> None:
        if len({spec.name for spec in specs}) != len(specs):
            raise ValueError("two children of one name")
        self.clock: Clock = clock or SystemClock()
        self.new_backoff = new_backoff
        self.pass_fds = tuple(pass_fds)
        self._on_change = on_change
        self._children = [_Child(spec, self) for spec in sorted(specs, key=lambda spec: spec.stop_order)]

    @property
    def states(self) -> list[ChildState]:
        """What is known of each child, in the order in which they are stopped."""
        return [child.state for child in self._children]

    def changed(self) -> None:
        """Tell ``on_change``."""
        if self._on_change is not None:
            self._on_change(self)

    async def __aenter__(self) -> Self:
        for child in self._children:
            child.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop all children, order by order; a second cancellation does not leave any behind."""
        for _order, group in groupby(self._children, key=lambda child: child.spec.stop_order):
            stops = asyncio.gather(*(child.stop() for child in group))
            try:
                await asyncio.shield(stops)
            except asyncio.CancelledError:
                await stops
                raise
