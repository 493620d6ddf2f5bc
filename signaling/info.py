"""``turnpike info``: what runs, and where its data lies; and the run file in which ``serve`` tells of itself."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.metadata
import os
import platform
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from redis.exceptions import RedisError

from config.connections import open_redis
from config.settings import Settings
from relay.bus import ControlBus
from relay.messages_status import WorkerStatus

EXIT_NOT_RUNNING = 3
"""As ``systemctl status`` has it."""
FILES_COUNTED_MAX = 200_000
"""Files of one directory that are looked at for its size; more are not counted."""
PARTS = ("postgres", "valkey", "objects", "spool", "journal", "secrets")
"""What lies under the data directory."""


class RoleInfo(msgspec.Struct, kw_only=True):
    """One supervised process."""

    name: str
    pid: int | None
    started_at_ms: int
    restarts: int
    last_exit: str
    url: str
    """Where it serves HTTP: the API for control, /metrics for the others."""


class ServerInfo(msgspec.Struct, kw_only=True):
    """A database or bus server: embedded, or elsewhere."""

    name: str
    embedded: bool
    pid: int | None = None
    version: str = ""
    socket: str = ""
    restarts: int = 0


class RunFile(msgspec.Struct, kw_only=True):
    """What ``serve`` tells of itself. Holds no secrets."""

    pid: int
    version: str
    started_at_ms: int
    url: str
    roles: list[RoleInfo]
    servers: list[ServerInfo]


class Info(msgspec.Struct, kw_only=True):
    """The whole answer, as ``--json`` prints it."""

    running: bool
    version: str
    python: str
    data: str
    data_bytes: dict[str, int]
    installation: RunFile | None = None
    workers: list[WorkerStatus] = msgspec.field(default_factory=list)
    bus: str = "not asked"


def version() -> str:
    """Turnpike's version."""
    try:
        return importlib.metadata.version("turnpike")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def run_file(settings: Settings) -> Path:
    return settings.data / "run.json"


def write_run_file(settings: Settings, content: RunFile) -> None:
    """Replace the run file in one step: readers see the old one or the new one."""
    path = run_file(settings)
    fresh = path.with_name(".run.json.new")
    fresh.write_bytes(msgspec.json.encode(content))
    fresh.replace(path)


def read_run_file(settings: Settings) -> RunFile | None:
    """The run file, or None when there is none that can be read."""
    try:
        return msgspec.json.decode(run_file(settings).read_bytes(), type=RunFile)
    except (OSError, msgspec.DecodeError):
        return None


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[int | None]:
    """The locked descriptor of a lock file, or None when another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)


def serve_lock(settings: Settings) -> Path:
    """The file that ``serve`` keeps locked: one installation a data directory."""
    return settings.data / "serve.lock"


def serve_runs(settings: Settings) -> bool:
    """Whether a ``serve`` works on this data directory now."""
    if not serve_lock(settings).exists():
        return False
    with exclusive(serve_lock(settings)) as lock:
        return lock is None


def size_bytes(directory: Path) -> int:
    """Bytes of the files under a directory; files that go away meanwhile count nothing."""
    total = counted = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
            counted += 1
            if counted >= FILES_COUNTED_MAX:
                return total
    return total


async def gather(settings: Settings) -> Info:
    """All that can be known of this installation. ``settings.redis_url`` None: the registry is not asked."""
    running = serve_runs(settings)
    sizes = await asyncio.to_thread(lambda: {part: size_bytes(settings.data / part) for part in PARTS})
    info = Info(
        running=running,
        version=version(),
        python=platform.python_version(),
        data=str(settings.data.resolve()),
        data_bytes=sizes,
        installation=read_run_file(settings) if running else None,
    )
    if settings.redis_url is not None:
        redis = open_redis(settings.redis_url, name="turnpike-info")
        try:
            async with asyncio.timeout(5):
                info.workers = await ControlBus(redis).workers()
            info.bus = "ok"
        except (RedisError, OSError, TimeoutError) as error:
            info.bus = f"cannot be reached: {type(error).__name__}"
        finally:
            await redis.aclose()
    return info


def _age(since_ms: int, now_ms: int) -> str:
    seconds = max(0, now_ms - since_ms) // 1000
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _workers(info: Info) -> list[str]:
    """A line for each worker that tells of itself, and for each process of ours that does not."""
    silent = {role.pid: role.name for role in info.installation.roles if role.pid} if info.installation else {}
    lines = []
    for worker in info.workers:
        name = silent.pop(worker.pid, "") if worker.host == socket.gethostname() else ""
        plane = worker.plane + (f" ({worker.plane_reason})" if worker.plane_reason else "")
        lines.append(
            f"  {worker.worker_id}{f' ({name})' if name else ''}: {worker.host} {', '.join(worker.addresses)}"
            f" UDP {worker.port}, plane {plane}, {len(worker.rooms)} rooms, load {worker.load:.0%}"
            f"{', draining' if worker.draining else ''}"
        )
    for pid, name in silent.items():
        if name.startswith("worker"):
            lines.append(f"  {name}: pid {pid} has not told of itself yet, so its plane is not known")
    return lines


def text(info: Info, now_ms: int) -> str:
    """The answer for people."""
    lines = [f"Turnpike {info.version}, Python {info.python}, data in {info.data}"]
    run = info.installation
    if run is not None:
        lines += ["", f"Running since {_age(run.started_at_ms, now_ms)} at {run.url} (supervisor: pid {run.pid})", ""]
        lines.append(f"  {'process':<12} {'pid':>8}  {'up':<14} {'restarts':>8}  serves")
        for role in run.roles:
            up = _age(role.started_at_ms, now_ms) if role.pid else f"down ({role.last_exit})"
            lines.append(f"  {role.name:<12} {role.pid or '-':>8}  {up:<14} {role.restarts:>8}  {role.url}")
        for server in run.servers:
            where = server.socket if server.embedded else "configured by URL"
            label = f"{server.name} {server.version}".strip()
            lines.append(f"  {label:<12} {server.pid or '-':>8}  {'':<14} {server.restarts:>8}  {where}")
    elif info.running:
        lines += ["", "Starting: the supervisor runs, and has told nothing yet."]
    else:
        lines += ["", "Nothing runs on this data. Start it with: turnpike serve"]
    workers = _workers(info)
    if workers:
        lines += ["", "Media workers", *workers]
    if info.bus not in ("ok", "not asked"):
        lines += ["", f"The bus {info.bus}."]
    lines += ["", "Data"]
    lines += [f"  {part:<10} {_bytes(size):>10}" for part, size in info.data_bytes.items()]
    return "\n".join(lines) + "\n"


async def show(settings: Settings, as_json: bool) -> int:
    """Print what runs; the exit status tells whether anything does."""
    info = await gather(settings)
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(info)).decode() + "\n")
    else:
        sys.stdout.write(text(info, time.time_ns() // 1_000_000))
    return 0 if info.running or info.workers else EXIT_NOT_RUNNING
