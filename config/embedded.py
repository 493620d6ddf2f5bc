"""Real servers as children: what the embedded PostgreSQL and Valkey have in common.

A server holds a lock file open for as long as any of its processes lives: the descriptor is locked here and
inherited. So a server left over from a supervisor that was killed is waited for, never raced, whatever its pid file
says. The server dies with this process (``launch``), and is started again when it dies alone.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import fcntl
import hashlib
import os
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from config import launch
from config.logs import get_log

SOCKET_PATH_MAX = 100
"""Bytes of a unix socket's path, of which Linux takes 107 and macOS 103."""
START_TIMEOUT_S = 60.0
"""How long a server may take to be ready, recovery after a crash and a leftover predecessor included."""
STOP_TIMEOUT_S = 20.0
"""How long a server may take to stop before it is killed; it recovers at the next start."""
RESTART_DELAY_MAX_S = 5.0
LINES_MAX = 40
"""Newest lines of a server's output that are kept for its error message; older ones are dropped."""
LINE_MAX_BYTES = 16 * 1024

log = get_log("config.embedded")


class EmbeddedServerError(Exception):
    """An embedded server cannot be started; the message says which, and its last words."""


def socket_dir(data: Path, name: str) -> Path:
    """Where a server of this data directory puts its socket: ``data``, or a short stand-in when that is too long.

    The stand-in's name follows from the path of ``data``, so that whoever knows one finds the other; it must be
    this user's alone.
    """
    here = data.resolve() / name
    if len(os.fsencode(here / ".s.PGSQL.5432")) <= SOCKET_PATH_MAX:
        here.mkdir(parents=True, exist_ok=True, mode=0o700)
        return here
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    digest = hashlib.sha256(os.fsencode(here)).hexdigest()[:16]
    short = base / f"turnpike-{os.getuid()}-{digest}"
    if len(os.fsencode(short / ".s.PGSQL.5432")) > SOCKET_PATH_MAX:
        short = Path("/tmp") / short.name  # noqa: S108 - owner and mode are checked below
    with contextlib.suppress(FileExistsError):
        short.mkdir(mode=0o700)
    state = short.lstat()
    ours = state.st_uid == os.getuid() or os.getuid() == 0
    if not stat.S_ISDIR(state.st_mode) or not ours or state.st_mode & 0o077:
        raise EmbeddedServerError(f"{short} is not a private directory of this user; remove it and start again")
    return short


class EmbeddedServer:
    """One child server: started, watched, restarted, stopped. Subclasses say how."""

    name = "server"
    stop_signal = signal.SIGTERM
    identity = "same"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.version = ""
        self.place = ""
        """The path of its socket."""
        self.pid: int | None = None
        self.restarts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._lines: collections.deque[str] = collections.deque(maxlen=LINES_MAX)
        self._tasks: list[asyncio.Task[None]] = []
        self._reader: asyncio.Task[None] | None = None
        self._stopping = False

    # What a subclass says.

    async def prepare(self) -> None:
        """Make the directory ready before each start; the lock is held, so no other server uses it."""

    def command(self) -> Sequence[str]:
        """The program and its arguments."""
        raise EmbeddedServerError(f"{self.name} says no command")

    def config(self) -> bytes:
        """What the program reads from its standard input."""
        return b""

    async def is_ready(self) -> bool:
        """Whether the server takes connections."""
        return True

    async def on_first_ready(self) -> None:
        """Called once, when the server first takes connections."""

    # The life of it.

    async def __aenter__(self) -> Self:
        """Start, and wait until ready. Raises ``EmbeddedServerError``."""
        try:
            await self._start(time.monotonic() + START_TIMEOUT_S)
            await self.on_first_ready()
        except BaseException:
            await self.close()
            raise
        self._tasks.append(asyncio.create_task(self._keep_alive(), name=f"embedded {self.name}"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop the server, killing it when it does not stop in time. Idempotent."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self.stop_signal)
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                log.warning("server does not stop, killed", server=self.name, pid=process.pid)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        await self._end_reader()
        self.pid = None

    async def _keep_alive(self) -> None:
        """Start the server again whenever it dies, ever more slowly while it keeps dying."""
        delay_s = 0.1
        while not self._stopping and self._process is not None:
            started = time.monotonic()
            status = await self._process.wait()
            if time.monotonic() - started > 30:
                delay_s = 0.1
            log.error("embedded server died", server=self.name, status=status, output=" | ".join(self._lines))
            while True:
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, RESTART_DELAY_MAX_S)
                try:
                    await self._start(time.monotonic() + START_TIMEOUT_S)
                    break
                except Exception:  # noqa: BLE001 - the end of a task, which must not end: everything needs the server
                    log.fault("embedded server cannot be restarted, retried", server=self.name)
            self.restarts += 1
            log.info("embedded server restarted", server=self.name, pid=self.pid)

    async def _start(self, deadline: float) -> None:
        """Start and wait until ready; a failed start is retried until ``deadline`` (monotonic seconds)."""
        while True:
            descriptor = await self._lock(deadline)
            try:
                await self.prepare()
                await self._spawn(descriptor)
            finally:
                os.close(descriptor)
            if await self._wait_ready(deadline):
                return
            if time.monotonic() > deadline or (self._process and self._process.returncode == launch.EXIT_CANNOT):
                raise EmbeddedServerError(f"{self.name} does not start: " + (" | ".join(self._lines) or "silent"))
            await asyncio.sleep(0.3)

    async def _lock(self, deadline: float) -> int:
        """The locked descriptor of the directory's lock file, once no process of a former server holds it."""
        self.directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.directory.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise EmbeddedServerError(
                        f"another {self.name} still runs on {self.directory}; stop it and start again"
                    ) from None
            await asyncio.sleep(0.05)

    async def _spawn(self, descriptor: int) -> None:
        await self._end_reader()
        process = await asyncio.create_subprocess_exec(
            *launch_command(self.stop_signal, self.identity, self.command()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=(descriptor,),
            start_new_session=True,  # Ctrl-C in the terminal is the supervisor's to pass on, in order
            limit=LINE_MAX_BYTES,
        )
        self._process, self.pid = process, process.pid
        if process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                process.stdin.write(self.config())
                await process.stdin.drain()
            process.stdin.close()
        self._reader = asyncio.create_task(self._read(process), name=f"output of {self.name}")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Keep the newest lines of output; the alarming ones go to our log. Reads on, so that it never blocks."""
        if process.stdout is None:
            return
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than LINE_MAX_BYTES: dropped
                continue
            if not line:
                return
            text = line.decode(errors="replace").strip()
            if text:
                self._lines.append(text)
                level = log.warning if "PANIC" in text or "FATAL" in text else log.debug
                level("embedded server says", server=self.name, line=text)

    async def _end_reader(self) -> None:
        """Let the output be read to its end (orphans may hold the pipe: not for long)."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await asyncio.wait([reader], timeout=0.5)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _wait_ready(self, deadline: float) -> bool:
        """True when ready, False when the process ended first; killed when it is not ready in time."""
        process = self._process
        if process is None:
            return False
        while process.returncode is None:
            if await self.is_ready():
                return True
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                break
            await asyncio.sleep(0.02)
        await self._end_reader()
        return False


def launch_command(sig: signal.Signals, identity: str, command: Sequence[str]) -> list[str]:
    """The argument list that runs ``command`` as a child that gets ``sig`` when this process dies."""
    head = [sys.executable, "-I", "-S", launch.__file__, sig.name, str(os.getpid()), identity, "--"]
    return [*head, *command]


async def run_tool(identity: str, command: Sequence[str], on_output: Callable[[str], None] | None = None) -> int:
    """Run a helper program to its end under ``identity``; returns its exit status."""
    process = await asyncio.create_subprocess_exec(
        *launch_command(signal.SIGKILL, identity, command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if on_output is not None:
        on_output(output.decode(errors="replace").strip())
    return process.returncode if process.returncode is not None else -1
