"""What the relays of ``bench.relay`` are put to, and how a run is measured, whoever forwards."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

SLICE_S = 0.5
"""How long media runs without the interpreter, between looks at what keeps the connections alive."""
SETTLE_S = 0.3
KEEP_ALIVE_S = 0.05
REST_MAX_S = 3.0
REST_LOOK_S = 0.2
"""What a relay that was overrun still has to do is no part of another's run; it is looked at this often whether it has
done it, for so long at most."""
RESTS_BELOW = 0.05
"""Share of a core above its idle one."""


class Case(NamedTuple):
    """A load: who sends how much to whom."""

    name: str
    publishers: int
    fan: int
    """Subscribers of each; with 1 the publishers are calls of two, and hear each other."""
    packets_per_s: float
    """Published by all together."""
    burst: int = 4
    """Packets of one frame, sent back to back by one client."""


CASES = (
    Case("1to1_22k", 100, 1, 22_000),
    Case("1to1_saturated", 100, 1, 400_000),
    Case("1to15_3k", 1, 15, 3_000),
)
PAYLOAD_BYTES = 1_100
BUFFER_BYTES = 4 << 20
"""Asked of the kernel for the sockets of the load and of the floor; planes ask for twice as much, Janus for nothing."""
RELAY_CORE = 0
"""The processor that relays have; the load takes another."""


def subscribers_of(case: Case, publisher: int) -> list[int]:
    """The clients that hear a publisher's stream."""
    if case.fan == 1:
        return [publisher ^ 1]
    first = case.publishers + publisher * case.fan
    return list(range(first, first + case.fan))


@dataclass
class Rig:
    """One relay under load: media flows that go through it, and the processes whose time counts."""

    flows: Any
    pids: list[int]
    control: Callable[[int, bytes], None] = lambda _client, _datagram: None
    """What is done with a datagram that a client got and that is not RTP."""


class Run(NamedTuple):
    """What one run came to."""

    us_per_packet: float
    sent: int
    expected: int
    forwarded: int
    late: int
    busy: float
    """Share of one core that the relay used."""
    p50_us: int | None
    p99_us: int | None
    receive_errors: int
    """Datagrams that any socket of this machine had no room for."""
    steal_ticks: int


def cpu_s(pids: list[int]) -> float:
    """User and system time of all threads of these processes, from the scheduler's own count."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except OSError:
                continue  # the thread has ended
    return total / 1e9


def receive_errors() -> int:
    """UDP datagrams dropped for want of buffer (RcvbufErrors), on this machine so far."""
    rows = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Udp:")]
    return int(dict(zip(rows[0], rows[1], strict=True))["RcvbufErrors"])


def steal_ticks() -> int:
    """Ticks in which this machine waited for its host."""
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8])


async def idle_share(rig: Rig, seconds: float = 1.0) -> float:
    """What the relay uses of a core with all connections up and no media."""
    began, before = time.monotonic(), cpu_s(rig.pids)
    await _run(rig, seconds, sending=False)
    return (cpu_s(rig.pids) - before) / (time.monotonic() - began)


async def measure(rig: Rig, case: Case, seconds: float, idle: float) -> Run:
    """One run; the relay's idle share is taken off its time."""
    rig.flows.reset()
    sent_before = sum(rig.flows.sent())
    errors, steal = receive_errors(), steal_ticks()
    began, before = time.monotonic(), cpu_s(rig.pids)
    await _run(rig, seconds)
    await _run(rig, SETTLE_S, sending=False)
    elapsed, spent = time.monotonic() - began, cpu_s(rig.pids) - before
    sent, forwarded = sum(rig.flows.sent()) - sent_before, rig.flows.received
    run = Run(
        max(0.0, spent - idle * elapsed) / max(1, forwarded) * 1e6,
        sent,
        sent * case.fan,
        forwarded,
        sum(late for client in rig.flows.heard() for _, _, late in client),
        spent / elapsed,
        rig.flows.delay_us(0.5),
        rig.flows.delay_us(0.99),
        receive_errors() - errors,
        steal_ticks() - steal,
    )
    await _rest(rig, idle)
    return run


async def _rest(rig: Rig, idle: float) -> None:
    """Until the relay has nothing left to do."""
    until = time.monotonic() + REST_MAX_S
    while time.monotonic() < until and await idle_share(rig, REST_LOOK_S) > idle + RESTS_BELOW:
        pass


async def keep_alive(rig: Rig) -> None:
    """Answer what keeps the connections up while others are measured."""
    await _run(rig, KEEP_ALIVE_S, sending=False)


async def _run(rig: Rig, seconds: float, *, sending: bool = True) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        datagrams = await asyncio.to_thread(rig.flows.run, min(left, SLICE_S), sending=sending)
        for client, datagram in datagrams:
            rig.control(client, datagram)


def as_a_worker(*command: str) -> list[str]:
    """What runs a command as ours runs: on the relay's core, before what else wants it. For a session of its own."""
    begin = "import os, sys; from config.process import come_first; come_first({int(sys.argv[1])});"
    return [sys.executable, "-c", f"{begin} os.execvp(sys.argv[2], sys.argv[2:])", str(RELAY_CORE), *command]


def own_core(core: int) -> None:
    """Keep this process off the relay's core."""
    os.sched_setaffinity(0, {core})
