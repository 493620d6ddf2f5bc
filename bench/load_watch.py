"""What ``bench.load`` watches from outside: evidence on its way over the bus, and what each process takes.

Two things can be late, and they are counted apart: the worker that stamps evidence once a second, and the way over the
bus. ``Witness`` sees every command that Valkey carries out (MONITOR), so that it misses nothing, however soon control
has taken an entry in. How far behind control is shows in the age of the oldest entry that still waits.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from redis import Redis

from bench.relay_case import cpu_s
from config.ids import SHARDS
from relay.messages import MediaEvidence
from relay.messages_json import decode_event

LATE_MS: Final = 500
"""Evidence that comes later than this after its second is late."""
SECOND_MS: Final = 1_000
LOOK_S: Final = 1.0
BODY: Final = b'"body" "'
ESCAPED: Final = re.compile(rb"\\(.)")
TAKEN_MAX: Final = 100_000
"""Evidence kept for one count; what is beyond counts as unreadable."""


@dataclass
class Timeliness:
    """When evidence was stamped and came, and what of it was late. Sans-IO."""

    late: int = 0
    """Came on the bus more than half a second after its second, or after its stamp."""
    late_stamped: int = 0
    """So much later than the one before by the worker's own clock."""
    seen: int = 0
    unreadable: int = 0
    ways_ms: list[int] = field(default_factory=list)
    """From the worker's stamp to the bus."""
    _newest: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Session → when its newest came, when it was stamped."""

    def begin(self, sessions: set[int], now_ms: int) -> None:
        """Expect evidence of these sessions from now on, and of each within its second."""
        self._newest = {session: self._newest.get(session, (now_ms, now_ms)) for session in sessions}
        self.late = self.late_stamped = self.seen = self.unreadable = 0
        self.ways_ms.clear()

    def take(self, event: MediaEvidence, came_ms: int) -> None:
        """Evidence came; what was told out of turn is not counted on."""
        if event.final:
            self._newest.pop(event.session_id, None)
        if event.at_once or event.final or len(self.ways_ms) >= TAKEN_MAX:
            return
        self.seen += 1
        self.ways_ms.append(came_ms - event.at_ms)
        before = self._newest.get(event.session_id, (came_ms, event.at_ms))
        # What is behind by as much each time comes in its rhythm, and late.
        self.late += came_ms - before[0] > SECOND_MS + LATE_MS or came_ms - event.at_ms > LATE_MS
        self.late_stamped += event.at_ms - before[1] > SECOND_MS + LATE_MS
        self._newest[event.session_id] = (came_ms, event.at_ms)

    def end(self, now_ms: int) -> None:
        """Count what should have come by now and has not."""
        overdue = sum(now_ms - came_ms > SECOND_MS + LATE_MS for came_ms, _ in self._newest.values())
        self.late += overdue
        self.late_stamped += overdue

    @property
    def sessions(self) -> int:
        """Sessions that have ever told evidence."""
        return len(self._newest)

    def way_ms(self, share: float) -> int:
        """That ``share`` of evidence was on the bus within, after its stamp."""
        ordered = sorted(self.ways_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0


class Witness:
    """Watches the bus from a thread of its own, so that what else this process does delays nothing."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._lock = threading.Lock()
        self._counted = Timeliness()
        self._behind_ms = 0
        self._watching, self._stop = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._watch, self._look)]

    def __enter__(self) -> Witness:
        for thread in self._threads:
            thread.start()
        if not self._watching.wait(LOOK_S * 10):
            raise TimeoutError("Valkey tells nothing of its commands")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)

    @property
    def seen(self) -> int:
        """Evidence that has come since ``begin``."""
        with self._lock:
            return self._counted.seen

    def begin(self) -> None:
        """Count anew, for the sessions known by now."""
        with self._lock:
            self._counted.begin(set(self._counted._newest), int(time.time() * 1000))
            self._behind_ms = 0

    def end(self) -> tuple[Timeliness, int]:
        """What was counted since ``begin``, and the age in ms of the oldest entry that control had not taken in."""
        with self._lock:
            counted, behind_ms = self._counted, self._behind_ms
            counted.end(int(time.time() * 1000))
            self._counted = Timeliness(_newest=dict(counted._newest))
        return counted, behind_ms

    def _watch(self) -> None:
        """Read what Valkey tells, a line for each command. By hand: there are thousands, and few of them count."""
        with Redis.from_url(self._url) as redis:
            connection = redis.connection_pool.get_connection()
            connection.send_command("MONITOR")
            connection.read_response()
            self._watching.set()
            told: socket.socket = connection._sock
            told.settimeout(LOOK_S)
            rest = b""
            while not self._stop.is_set():
                try:
                    data = told.recv(1 << 16)
                except TimeoutError:
                    continue
                if not data:
                    return  # Valkey has ended
                *lines, rest = (rest + data).split(b"\r\n")
                for line in lines:
                    if line.startswith(b"+") and b'"XADD" "tp:media:' in line and b"live_ms" in line:
                        self._added(line)

    def _added(self, line: bytes) -> None:
        """A line such as ``+1700000000.123456 [0 unix:…] "XADD" "tp:media:7" … "body" "{…}"``, quotes escaped."""
        came_ms = int(float(line[1 : line.index(b" ")]) * 1000)
        body = ESCAPED.sub(rb"\1", line[line.index(BODY) + len(BODY) : -1])
        with self._lock:
            try:
                event = decode_event(body)
            except msgspec.DecodeError:
                self._counted.unreadable += 1
                return
            if isinstance(event, MediaEvidence):
                self._counted.take(event, came_ms)

    def _look(self) -> None:
        """How old what still waits is, now and then."""
        with Redis.from_url(self._url) as redis:
            while not self._stop.wait(LOOK_S):
                pipe = redis.pipeline(transaction=False)
                for shard in range(SHARDS):
                    pipe.xrange(f"tp:media:{shard}", count=1)
                oldest = [entries[0][0] for entries in pipe.execute() if entries]
                now_ms = int(time.time() * 1000)
                ages = [now_ms - int(entry_id.split(b"-")[0]) for entry_id in oldest]
                with self._lock:
                    self._behind_ms = max(self._behind_ms, *ages, 0)


class Cores:
    """Shares of a core that the installation's processes and this one take; each with its children."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        """``told``: what ``turnpike info --json`` says."""
        installation = told["installation"]
        self._roots = {p["name"]: int(p["pid"]) for p in installation["roles"] + installation["servers"] if p["pid"]}
        self._spent: dict[str, float] = {}
        self._began = 0.0

    def pids(self) -> list[int]:
        """All processes of the installation."""
        return [pid for root in self._roots.values() for pid in family(root)]

    def begin(self) -> None:
        """Count from now on."""
        self._spent, self._began = self._count(), time.monotonic()

    def end(self) -> dict[str, float]:
        """Shares since ``begin``, by name; ``load`` is this process."""
        elapsed = time.monotonic() - self._began
        return {name: round((spent - self._spent[name]) / elapsed, 3) for name, spent in self._count().items()}

    def _count(self) -> dict[str, float]:
        return {"load": cpu_s([os.getpid()])} | {name: cpu_s(family(pid)) for name, pid in self._roots.items()}


def family(pid: int) -> list[int]:
    """A process and its children's children."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = thread.read_text().split()
        except OSError:
            continue  # the thread has ended
        for child in children:
            found += family(int(child))
    return found


def rss_mb(pid: int) -> float:
    """Memory that a process has in RAM, in MB of 10⁶ bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
