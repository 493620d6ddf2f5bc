"""``turnpike serve`` and the commands beside it, as a person runs them; the roles are tiny, the rest is real."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from signaling.serve import role_specs

REPOSITORY = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "tests.signaling.small_installation"]


def _env(data: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TURNPIKE_") and not k.endswith("_URL")}
    told = {"TURNPIKE_DATA": str(data), "TURNPIKE_DEMO": "true", "TURNPIKE_LOG_FORMAT": "text", "PYTHONUNBUFFERED": "1"}
    return kept | told


def _run(data: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments], env=_env(data) | env, cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )


@dataclasses.dataclass
class Serving:
    """A running ``serve`` and what it has said so far."""

    process: subprocess.Popen[str]
    data: Path
    said: list[str]

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + 30
        while True:
            found = condition()
            if found:
                return found
            text = "".join(self.said)
            assert self.process.poll() is None, f"serve ended with {self.process.returncode}:\n{text}"
            assert time.monotonic() < deadline, f"{what} never came:\n{text}"
            time.sleep(0.05)

    def until_says(self, pattern: str) -> re.Match[str]:
        found = self.until(lambda: re.search(pattern, "".join(self.said)), pattern)
        assert isinstance(found, re.Match)
        return found

    def info(self) -> dict[str, Any]:
        done = _run(self.data, "info", "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[], Serving]]:
    """Starts ``serve`` on the test's data directory; whatever still runs is ended after the test."""
    started: list[Serving] = []

    def start() -> Serving:
        process = subprocess.Popen(
            [*PROGRAM, "serve"],
            env=_env(tmp_path),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        serving = Serving(process, tmp_path, [])
        threading.Thread(target=lambda: serving.said.extend(process.stdout or ()), daemon=True).start()
        started.append(serving)
        return serving

    yield start
    for serving in started:
        if serving.process.poll() is None:
            serving.process.terminate()
            serving.process.wait(60)


def _ask(data: Path, sql: str) -> str:
    """A row's value, and how often control has started, asked by a process that knows the data directory alone."""
    script = (
        "import asyncio, asyncpg, sys\n"
        "from config.connections import open_redis\n"
        "from config.settings import Settings\n"
        "from signaling.installation import beside\n"
        "async def main():\n"
        "    settings = beside(Settings())\n"
        "    redis = open_redis(settings.redis_url)\n"
        "    options = {'turnpike.tenant': '*'}\n"
        "    connection = await asyncpg.connect(settings.database_owner_url, server_settings=options)\n"
        "    print(await connection.fetchval(sys.argv[1]), int(await redis.get('starts')))\n"
        "    await connection.close()\n"
        "    await redis.aclose()\n"
        "asyncio.run(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, sql], env=_env(data), cwd=REPOSITORY, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_serve_tells_where_it_is_restarts_what_dies_and_stops_in_order(serve: Callable[[], Serving]) -> None:
    running = serve()
    url = running.until_says(r"is ready:  (http://localhost:\d+)")[1]
    running.until_says(r"client\s+ann@demo.example\s+password demo")
    running.until_says("test payment processor")
    running.until_says(r"Media plane: python \(small\)")
    assert _ready(url)

    told = running.info()
    assert told["running"]
    assert told["installation"]["url"] == url
    assert [role["name"] for role in told["installation"]["roles"]] == ["control", "worker-1", "recorder"]
    assert [server["version"][:2] for server in told["installation"]["servers"]] == ["18", "9."]
    assert told["workers"][0]["plane"] == "python"
    assert told["data_bytes"]["postgres"] > 1_000_000
    secret = (running.data / "secrets" / "valkey").read_bytes().hex()
    assert secret not in json.dumps(told)
    assert secret not in (running.data / "run.json").read_text()
    assert "Running since" in _run(running.data, "info").stdout

    second = _run(running.data, "serve")
    assert second.returncode == 2
    assert "already serves the data in" in second.stderr

    (control,) = [role["pid"] for role in told["installation"]["roles"] if role["name"] == "control"]
    os.kill(control, signal.SIGKILL)
    running.until_says(r"role ended, will be started again name=control exit=SIGKILL")
    running.until(lambda: running.info()["installation"]["roles"][0]["pid"] not in (None, control), "a new control")

    running.until(lambda: _ready(url), "readiness of the new control")

    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 0
    stopped = re.findall(r"role stopped name=(\S+) exit=status 0", "".join(running.said))
    assert stopped == ["control", "worker-1", "recorder"]
    assert not (running.data / "run.json").exists()
    assert not any(_alive(server["pid"]) for server in told["installation"]["servers"])
    nothing = _run(running.data, "info")
    assert nothing.returncode == 3
    assert "Nothing runs on this data" in nothing.stdout


def test_killed_supervisor_takes_everything_along_and_the_next_start_has_all_data(
    serve: Callable[[], Serving],
) -> None:
    running = serve()
    running.until_says("is ready")
    told = running.info()["installation"]
    pids = [part["pid"] for part in (*told["roles"], *told["servers"])]
    assert len(pids) == 5
    insert = "insert into tenant (public_id, name) values ('ten_k', 'kept') returning name"
    assert _ask(running.data, insert) == "kept 1"
    running.process.kill()
    running.process.wait()
    again = serve()
    again.until_says("is ready")
    assert not any(_alive(pid) for pid in pids)
    assert _ask(again.data, "select name from tenant where public_id = 'ten_k'") == "kept 2"


@pytest.mark.parametrize("command", ["control", "worker", "recorder"])
def test_role_alone_without_servers_says_what_it_needs(tmp_path: Path, command: str) -> None:
    done = _run(tmp_path, command)
    assert done.returncode == 2
    assert "needs DATABASE_URL and REDIS_URL" in done.stderr


def test_taken_port_is_told_before_anything_runs(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = _run(tmp_path, "serve", TURNPIKE_HTTP_PORT=str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "set TURNPIKE_HTTP_PORT" in done.stderr


def test_migrate_alone_starts_the_database_for_its_time(tmp_path: Path) -> None:
    done = _run(tmp_path, "migrate")
    assert done.returncode == 0, done.stderr
    assert "up to date" in done.stdout or "0001_base" in done.stdout
    assert _run(tmp_path, "info").returncode == 3


def test_wrong_setting_is_told_by_name(tmp_path: Path) -> None:
    done = _run(tmp_path, "serve", TURNPIKE_WORKERS="many")
    assert done.returncode == 2
    assert "setting workers" in done.stderr


@pytest.mark.parametrize(
    ("workers", "cores", "each"),
    [
        (1, "", [""]),
        (1, "2,3", ["2,3"]),
        (2, "2,3", ["2", "3"]),
        (2, "2,3,4", ["2,4", "3"]),
        (3, "2,3", ["2", "3", "2"]),
    ],
)
def test_processors_are_shared_out_among_workers(workers: int, cores: str, each: list[str]) -> None:
    specs = role_specs(Settings(workers=workers, worker_cores=cores, ops_port=9_000, http_port=8_000))
    of_workers = [spec.env()["TURNPIKE_WORKER_CORES"] for spec in specs if spec.name.startswith("worker-")]
    assert of_workers == each
