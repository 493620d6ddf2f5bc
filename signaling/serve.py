"""``turnpike serve``: a whole installation on one machine, in one terminal.

Lock the data directory → start the embedded servers → migrate → supervise control, workers and recorder → say where it
is, once control is ready. Told to stop, it stops them in that order, then the servers. Killed, it takes everything with
it (every child dies with its parent), and the next start waits for the last of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from typing import Final

import aiohttp
import msgspec

from config.connections import open_redis
from config.embedded import EmbeddedServerError
from config.logs import get_log
from config.migrate import MigrationError, migrate
from config.process import EXIT_FAULT, EXIT_USAGE, STOP_MAX_S
from config.settings import Settings
from relay.bus import BUS_ERRORS, bury
from relay.messages_status import WorkerStatus
from signaling import info
from signaling.info import RoleInfo, RunFile, exclusive, serve_lock, write_run_file
from signaling.installation import Servers, servers
from signaling.supervisor import ChildSpec, ChildState, Supervisor

STOP_SERVE_MAX_S: Final = 75
"""Time for an orderly stop of everything: the roles' and the servers' own times, one after the other."""
LEFTOVER_TIMEOUT_S: Final = STOP_MAX_S + 10.0
"""How long roles of a killed predecessor may take to end: as long as any role may take to stop."""
READY_POLL_S: Final = 0.1
READY_REMIND_S: Final = 30.0
PLANE_WAIT_S: Final = 10.0
RUN_FILE_EVERY_S: Final = 5.0
WORKER_STOP_MAX_S: Final = 28.0
"""A worker that is stopped alone waits for its rooms to be moved (``relay.worker.DRAIN_MAX_S``)."""
BURY_MAX_S: Final = 5.0

log = get_log("signaling.serve")


class CannotServe(Exception):
    """This installation cannot be started; the message says what to do about it."""


class DemoAccount(msgspec.Struct, kw_only=True):
    """A ready-made sign-in, as control tells it of a demo installation."""

    email: str
    password: str
    role: str


class DemoAccounts(msgspec.Struct, kw_only=True):
    """The answer of ``GET /api/v1/demo/accounts``."""

    accounts: list[DemoAccount]


async def main(settings: Settings) -> int:
    """Serve until told to stop. Status 2: this data directory is in use; 1: something cannot be started."""
    with exclusive(serve_lock(settings)) as lock:
        if lock is None:
            first = info.read_run_file(settings)
            by = f" (pid {first.pid}, {first.url})" if first else ""
            return _refuse(
                f"Turnpike already serves the data in {settings.data.resolve()}{by}. "
                "Stop that one first, or set TURNPIKE_DATA to another directory.",
                EXIT_USAGE,
            )
        try:
            async with _leftovers_gone(settings) as descriptor, servers(settings) as running:
                await migrate(running.settings.database_owner_url or "")
                await _serve(running, descriptor)
        except (EmbeddedServerError, MigrationError, CannotServe) as error:
            return _refuse(str(error), EXIT_FAULT)
        finally:
            log.info("everything stopped")
    return 0


def _refuse(why: str, status: int) -> int:
    sys.stderr.write(f"turnpike: {why}\n")
    return status


@contextlib.asynccontextmanager
async def _leftovers_gone(settings: Settings) -> AsyncIterator[int]:
    """The descriptor of a lock that every role inherits: had once the last role of a killed ``serve`` has ended."""
    path = settings.data / "roles.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LEFTOVER_TIMEOUT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise CannotServe(f"processes of an earlier start still run; see who holds {path}") from None
            await asyncio.sleep(0.1)
        yield descriptor
    finally:
        os.close(descriptor)


async def _serve(running: Servers, descriptor: int) -> None:
    """Supervise until cancelled."""
    settings = _with_http_port(running.settings)
    url = _url(settings.http_host, settings.http_port)
    started_at_ms = time.time_ns() // 1_000_000

    def tell(supervisor: Supervisor) -> None:
        roles = [_role_info(state, url) for state in supervisor.states]
        content = RunFile(
            pid=os.getpid(),
            version=info.version(),
            started_at_ms=started_at_ms,
            url=url,
            roles=roles,
            servers=running.describe(),
        )
        try:
            write_run_file(settings, content)
        except OSError as error:  # a full disk is no reason to stop: `info` knows less, calls go on
            log.warning("run file cannot be written", why=str(error))

    specs = role_specs(settings)
    try:
        async with Supervisor(specs, on_change=tell, pass_fds=(descriptor,)) as supervisor:
            announcing = asyncio.create_task(_announce(settings, url), name="announce")
            try:
                while True:
                    tell(supervisor)
                    await asyncio.sleep(RUN_FILE_EVERY_S)
            finally:
                announcing.cancel()
                await asyncio.gather(announcing, return_exceptions=True)
    finally:
        info.run_file(settings).unlink(missing_ok=True)


def role_specs(settings: Settings) -> list[ChildSpec]:
    """The table of roles of one installation; the settings lead to all servers, and name control's port."""
    common = {
        "DATABASE_URL": settings.database_url or "",
        # The right to change the schema, and with it the ledger's past, stays with the supervisor.
        "DATABASE_OWNER_URL": settings.database_url or "",
        "REDIS_URL": settings.redis_url or "",
        "TURNPIKE_DATA": str(settings.data.resolve()),
        "TURNPIKE_DEMO": str(settings.demo).lower(),
        "TURNPIKE_LOG_LEVEL": settings.log_level,
        "TURNPIKE_LOG_FORMAT": settings.log_format,
    }

    def control() -> Mapping[str, str]:
        return common | {"TURNPIKE_HTTP_PORT": str(settings.http_port)}

    def with_ops(index: int) -> Mapping[str, str]:
        ops = settings.ops_port + index if settings.ops_port else _free_port(settings.ops_host)
        media = settings.media_port + index if settings.media_port else 0
        return common | {"TURNPIKE_OPS_PORT": str(ops), "TURNPIKE_MEDIA_PORT": str(media)}

    def of_worker(index: int) -> Mapping[str, str]:
        cores = settings.cores_of_workers
        own = cores[index :: settings.workers] or cores[index % len(cores) :][:1] if cores else ()
        return {**with_ops(index), "TURNPIKE_WORKER_CORES": ",".join(map(str, own))}

    def run(role: str) -> list[str]:
        return [sys.executable, "-m", "signaling.cli", role]

    workers = [
        ChildSpec(
            f"worker-{index + 1}",
            run("worker"),
            functools.partial(of_worker, index),
            1,
            WORKER_STOP_MAX_S,
            functools.partial(_bury, settings.redis_url or ""),
        )
        for index in range(settings.workers)
    ]
    recorder = ChildSpec("recorder", run("recorder"), functools.partial(with_ops, settings.workers), 2, 20.0)
    return [ChildSpec("control", run("control"), control, 0, 10.0), *workers, recorder]


async def _bury(redis_url: str, pid: int) -> None:
    """A worker of this machine has ended: control need not wait until its status expires."""
    redis = open_redis(redis_url, name="turnpike-supervisor")
    try:
        async with asyncio.timeout(BURY_MAX_S):
            await bury(redis, socket.gethostname(), pid)
    except (*BUS_ERRORS, TimeoutError) as error:
        log.warning("end of a worker not told", pid=pid, why=str(error))
    finally:
        await redis.aclose()


def _role_info(state: ChildState, url: str) -> RoleInfo:
    port = state.env.get("TURNPIKE_OPS_PORT", "")
    return RoleInfo(
        name=state.name,
        pid=state.pid,
        started_at_ms=state.started_at_ms,
        restarts=state.restarts,
        last_exit=state.last_exit,
        url=f"http://127.0.0.1:{port}/metrics" if port else url,
    )


def _url(host: str, port: int) -> str:
    """Where a person on this machine finds what listens on ``host``."""
    shown = {"0.0.0.0": "localhost", "::": "localhost", "127.0.0.1": "localhost"}.get(host, host)  # noqa: S104
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _with_http_port(settings: Settings) -> Settings:
    """The settings with control's port chosen, where they left it open. Raises ``CannotServe`` when it is taken."""
    if settings.http_port == 0:
        return settings.model_copy(update={"http_port": _free_port(settings.http_host)})
    try:
        _free_port(settings.http_host, settings.http_port)
    except OSError as error:
        raise CannotServe(
            f"cannot listen on {settings.http_host}:{settings.http_port} ({error.strerror}); "
            "set TURNPIKE_HTTP_PORT to another port, or to 0 for any"
        ) from None
    return settings


def _free_port(host: str, port: int = 0) -> int:
    """A TCP port that can be bound now: ``port`` itself, or any for 0. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])


async def _announce(settings: Settings, url: str) -> None:
    """Once control is ready, print where it is, who may sign in and what forwards the media."""
    local = url.replace("//localhost", "//127.0.0.1") if settings.http_host != "::" else url
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
            await _until_ready(http, local)
            accounts = await _demo_accounts(http, local) if settings.demo else []
        workers = await _workers(settings)
        sys.stdout.write(banner(url, accounts, workers, settings))
        sys.stdout.flush()
    except Exception:  # noqa: BLE001 - the end of a task: what is supervised runs on without its banner
        log.fault("cannot tell where the installation is", url=url)


async def _until_ready(http: aiohttp.ClientSession, url: str) -> None:
    remind_at = time.monotonic() + READY_REMIND_S
    while True:
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with http.get(url + "/readyz") as answer:
                if answer.status == 200:
                    return
        if time.monotonic() > remind_at:
            remind_at = time.monotonic() + READY_REMIND_S
            log.warning("control is not ready yet", url=url)
        await asyncio.sleep(READY_POLL_S)


async def _demo_accounts(http: aiohttp.ClientSession, url: str) -> list[DemoAccount]:
    async with http.get(url + "/api/v1/demo/accounts") as answer:
        body = await answer.read()
        if answer.status != 200:
            return []
    try:
        return msgspec.json.decode(body, type=DemoAccounts).accounts
    except msgspec.DecodeError as error:
        log.warning("demo accounts cannot be read", why=str(error))
        return []


async def _workers(settings: Settings) -> list[WorkerStatus]:
    """The registered workers, once there are as many as were started, or after ``PLANE_WAIT_S``."""
    deadline = time.monotonic() + PLANE_WAIT_S
    while True:
        found = (await info.gather(settings)).workers
        if len(found) >= settings.workers or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.25)


def banner(url: str, accounts: list[DemoAccount], workers: list[WorkerStatus], settings: Settings) -> str:
    """What the newcomer reads."""
    lines = ["", "=" * 72, "", f"  Turnpike {info.version()} is ready:  {url}", ""]
    if accounts:
        width = max(len(account.email) for account in accounts)
        lines.append("  Demo accounts (two browser windows make a call):")
        lines += [f"    {a.role:<11} {a.email:<{width}}  password {a.password}" for a in accounts]
        lines += [
            "",
            "  Money is handled by the built-in test payment processor: no card is charged,",
            "  nobody is paid. Do not use this installation for real calls.",
            "",
        ]
    planes = sorted({(worker.plane, worker.plane_reason) for worker in workers})
    for plane, reason in planes:
        lines.append(f"  Media plane: {plane}" + (f" ({reason})" if reason else ""))
    if not workers:
        lines.append("  Media plane: no worker has registered yet (see the log).")
    lines += [f"  Data: {settings.data.resolve()}", "  Stop with Ctrl-C.", "", "=" * 72, ""]
    return "\n".join(lines) + "\n"
