"""What ``turnpike info`` tells people of the workers."""

from __future__ import annotations

import socket
from typing import Literal

from relay.messages_status import WorkerStatus
from signaling.info import Info, RoleInfo, RunFile, text

HERE = socket.gethostname()


def role(name: str, pid: int | None) -> RoleInfo:
    return RoleInfo(name=name, pid=pid, started_at_ms=0, restarts=0, last_exit="exit 1", url="http://127.0.0.1:1")


def worker(pid: int, plane: Literal["python", "native"], why: str, host: str = HERE) -> WorkerStatus:
    return WorkerStatus(
        worker_id=f"w-{pid}", pid=pid, host=host, addresses=("127.0.0.1",), port=4000 + pid, plane=plane,
        plane_reason=why, ops_url="", rooms=(), load=0.25, draining=False, started_at_ms=0, at_ms=0, version="1",
    )  # fmt: skip


def lines(roles: list[RoleInfo], workers: list[WorkerStatus], bus: str = "ok") -> list[str]:
    run = RunFile(pid=1, version="1", started_at_ms=0, url="http://localhost:8080", roles=roles, servers=[])
    info = Info(
        running=True,
        version="1",
        python="3.11",
        data="/data",
        data_bytes={},
        installation=run,
        workers=workers,
        bus=bus,
    )
    told = text(info, 1_000).partition("Media workers\n")[2]
    return told.partition("\n\n")[0].splitlines()


def test_each_worker_is_told_by_its_process_with_its_plane_and_why() -> None:
    roles = [role("control", 9), role("worker-1", 10), role("worker-2", 11), role("worker-3", None)]
    told = lines(roles, [worker(10, "native", "it was built here"), worker(11, "python", "no C compiler was there")])
    assert told == [
        f"  w-10 (worker-1): {HERE} 127.0.0.1 UDP 4010, plane native (it was built here), 0 rooms, load 25%",
        f"  w-11 (worker-2): {HERE} 127.0.0.1 UDP 4011, plane python (no C compiler was there), 0 rooms, load 25%",
    ]


def test_a_worker_elsewhere_is_no_process_of_ours_though_it_has_the_same_number() -> None:
    told = lines([role("worker-1", 10)], [worker(10, "python", "as TURNPIKE_PLANE says", "elsewhere")])
    assert told[0].startswith("  w-10: elsewhere ")
    assert told[1] == "  worker-1: pid 10 has not told of itself yet, so its plane is not known"


def test_workers_are_listed_while_the_bus_is_away() -> None:
    assert lines([role("control", 9), role("worker-1", 10)], [], "cannot be reached: TimeoutError") == [
        "  worker-1: pid 10 has not told of itself yet, so its plane is not known"
    ]
