"""A fresh installation for a measurement or a test: ``turnpike serve`` as a user would start it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import aiohttp

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 40


class InstallationFailed(Exception):
    """The server did not come up; the end of its log is the message."""


def free_port() -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Installation:
    """``async with Installation() as turnpike:`` starts on an empty data directory and stops at the end.

    ``env`` adds settings, e.g. ``{"TURNPIKE_TICK_MS": "1000"}``. The directory is removed unless ``data`` names one.
    """

    def __init__(self, data: Path | None = None, env: dict[str, str] | None = None) -> None:
        self._own_data = data is None
        self.data = data or Path(tempfile.mkdtemp(prefix="tp-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = env or {}
        self._log_path = self.data.with_name(self.data.name + ".log")
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        if self._own_data:
            shutil.rmtree(self.data, ignore_errors=True)
            self._log_path.unlink(missing_ok=True)

    def environment(self) -> dict[str, str]:
        """The environment of the installation's processes, for commands such as ``turnpike reconcile``."""
        outside = ("DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL")
        return {
            **{k: v for k, v in os.environ.items() if k not in outside},
            "TURNPIKE_DATA": str(self.data),
            "TURNPIKE_HTTP_PORT": str(self.port),
            "TURNPIKE_MEDIA_ADDRESSES": "127.0.0.1",
            "TURNPIKE_DEMO": "true",
            **self._env,
        }

    async def start(self) -> None:
        """Start and wait until it is ready. Raises ``InstallationFailed``."""
        with self._log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "signaling.cli", "serve", env=self.environment(), stdout=log, stderr=log
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._until_ready()
        except TimeoutError:
            await self.stop()
            raise InstallationFailed(self.log_tail()) from None

    async def _until_ready(self) -> None:
        assert self._process is not None
        async with aiohttp.ClientSession() as http:
            while True:
                if self._process.returncode is not None:
                    raise InstallationFailed(self.log_tail())
                try:
                    async with http.get(f"{self.url}/readyz", timeout=aiohttp.ClientTimeout(total=2)) as answer:
                        if answer.status == 200:
                            return
                except (aiohttp.ClientError, TimeoutError, OSError):
                    pass
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Stop as Ctrl-C does; kill what has not stopped in time."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def kill(self) -> None:
        """kill -9 the supervisor, with which everything dies. ``start`` comes back on the same data."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()

    async def info(self) -> dict[str, Any]:
        """What ``turnpike info --json`` tells."""
        command = [sys.executable, "-m", "signaling.cli", "info", "--json"]
        process = await asyncio.create_subprocess_exec(*command, env=self.environment(), stdout=subprocess.PIPE)
        output, _ = await process.communicate()
        told: dict[str, Any] = json.loads(output)
        return told

    async def pid_of(self, name: str) -> int:
        """The process id of a role (``control``, ``worker-1``, ``recorder``) or server (``postgres``, ``valkey``)."""
        installation = (await self.info())["installation"]
        return int(next(p["pid"] for p in installation["roles"] + installation["servers"] if p["name"] == name))

    async def kill_9(self, name: str) -> None:
        """kill -9 one process of the installation; the supervisor starts it again."""
        os.kill(await self.pid_of(name), signal.SIGKILL)

    async def worker_of_room(self) -> str:
        """The role (``worker-2``) of the worker that holds a room, of an installation with one call."""
        told = await self.info()
        pid = next(worker["pid"] for worker in told["workers"] if worker["rooms"])
        return str(next(role["name"] for role in told["installation"]["roles"] if role["pid"] == pid))

    async def stop_worker(self, name: str) -> None:
        """Tell one worker to stop, as a deploy does; the supervisor starts another in its place."""
        os.kill(await self.pid_of(name), signal.SIGTERM)

    async def books_balance(self) -> bool:
        """Whether ``turnpike reconcile`` finds nothing wrong."""
        command = [sys.executable, "-m", "signaling.cli", "reconcile"]
        with self._log_path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(*command, env=self.environment(), stdout=log, stderr=log)
        return await process.wait() == 0

    def log_text(self) -> str:
        """Everything that the installation has logged so far."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def log_tail(self, lines: int = 60) -> str:
        """The newest lines of the log."""
        return "\n".join(self.log_text().splitlines()[-lines:])


async def sign_in(
    http: aiohttp.ClientSession, url: str, role: str, nth: int = 0
) -> tuple[dict[str, str], dict[str, Any]]:
    """Sign in as a demo account of that role: (headers with its token, the account)."""
    async with http.get(f"{url}/api/v1/demo/accounts") as answer:
        accounts = [a for a in (await answer.json())["accounts"] if a["role"] == role]
    account = accounts[nth]
    body = {"email": account["email"], "password": account["password"]}
    async with http.post(f"{url}/api/v1/auth/login", json=body) as answer:
        answer.raise_for_status()
        signed_in = await answer.json()
    return {"Authorization": f"Bearer {signed_in['access_token']}"}, {**account, "id": signed_in["me"]["user"]["id"]}


async def open_recording(
    http: aiohttp.ClientSession, url: str, session_id: str, why: str, wait_s: float
) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
    """Wait for a session's recording as a compliance officer: (headers, the recording, the grant to play it).

    Raises TimeoutError where it is not ready after ``wait_s``.
    """
    headers, _ = await sign_in(http, url, "compliance")
    recordings = f"{url}/api/v1/recordings"
    deadline = time.monotonic() + wait_s
    while True:
        async with http.get(recordings, params={"session": session_id}, headers=headers) as answer:
            answer.raise_for_status()
            found = (await answer.json())["recordings"]
        if found and found[0]["state"] == "ready":
            break
        if time.monotonic() > deadline:
            raise TimeoutError(f"recording not ready: {found}")
        await asyncio.sleep(0.3)
    async with http.post(f"{recordings}/{found[0]['id']}/access", json={"reason": why}, headers=headers) as answer:
        answer.raise_for_status()
        grant: dict[str, Any] = await answer.json()
    return headers, found[0], grant
