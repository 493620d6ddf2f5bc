"""What forwarding a packet costs, whoever does it: ``make bench-relay``. The last line is JSON.

Each relay runs in a process of its own on one core; clients, senders and receivers share the other. Relays are up few
at a time, each beside our native plane, and are measured in turn, round after round, so that what the machine does
meanwhile strikes all of them. The figure is CPU time of the relay, user and system, per packet that arrived,
decrypted and checked at its subscriber; the median of the rounds.

``floor`` forwards without crypto or rewriting; ``srtp_only`` is one unprotect and one protect; ``janus`` is Debian's,
the better of two settings of ``event_loops``; ``aiortc`` forwards encoded packets between the transports of its
own stack. null: not to be had here, or the case cannot be put to it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from bench import relay_aiortc, relay_janus
from bench.machine import announce, say
from bench.native import load
from bench.relay_case import (
    BUFFER_BYTES,
    CASES,
    PAYLOAD_BYTES,
    RELAY_CORE,
    Case,
    Rig,
    Run,
    idle_share,
    keep_alive,
    measure,
    own_core,
    subscribers_of,
)
from bench.relay_host import PAYLOAD_TYPE, TRANSPORT_CC_ID
from relay.plane import SrtpProfile
from relay.plane_choice import PLANES
from relay.srtp import SrtpContext

PROFILE = SrtpProfile.AEAD_AES_128_GCM
LOAD_CORE = 1
CRYPTO_PACKETS = 50_000
WARM_S = 3.5
"""How long each relay forwards before its first round that counts: caches of packets fill up in the first seconds."""
FIRST_SSRC = 1_000
# transport-wide number, absolute send time, mid of one character: 0xBEDE, two words
EXTENSION = bytes((0xBE, 0xDE, 0, 3, TRANSPORT_CC_ID << 4 | 1, 0, 0, 4 << 4 | 2, 1, 2, 3, 1 << 4, 0x30, 0, 0, 0))
TRANSPORT_CC_AT = 5
Contender = Callable[[Case], AbstractAsyncContextManager[Rig | None]]


def ours(plane: str) -> Contender:
    """A contender that is one of our planes, or the floor."""

    @contextlib.asynccontextmanager
    async def host(case: Case) -> AsyncIterator[Rig | None]:
        if plane not in PLANES and plane != "floor":
            yield None
            return
        calls = case.fan == 1
        count = case.publishers if calls else case.publishers * (1 + case.fan)
        sockets = [_socket() for _ in range(count)]
        size = PROFILE.key_bytes + PROFILE.salt_bytes
        keys = [(os.urandom(size), os.urandom(size)) for _ in range(count)]
        job = {
            "plane": plane,
            "profile": PROFILE.name,
            "cpus": [RELAY_CORE],
            "clients": [
                {"port": sock.getsockname()[1], "receive_key": up.hex(), "send_key": down.hex()}
                for sock, (up, down) in zip(sockets, keys, strict=True)
            ],
            "streams": [
                {"client": i, "ssrc": FIRST_SSRC + i, "subscribers": subscribers_of(case, i)}
                for i in range(case.publishers)
            ],
        }
        child = subprocess.Popen(  # noqa: ASYNC220 - its pipes are read in threads
            [sys.executable, "-m", "bench.relay_host"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # as the supervisor starts a worker: it ends when its stdin does
        )
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps(job) + "\n")
            child.stdin.flush()
            port = json.loads(await asyncio.to_thread(child.stdout.readline))["port"]
            heard = {s: i for i in range(case.publishers) for s in subscribers_of(case, i)}
            flows = load("flows").Flows(count, case.publishers)
            for index, (sock, (up, down)) in enumerate(zip(sockets, keys, strict=True)):
                # The floor passes on what it gets: its subscribers know their publisher's key.
                opened = down if plane != "floor" else keys[heard[index]][0] if index in heard else down
                flows.add_client(
                    sock,
                    ("127.0.0.1", port),
                    SrtpContext(PROFILE, up, inbound=False)._session,
                    SrtpContext(PROFILE, opened, inbound=True)._session,
                )
            add_senders(flows, case, range(case.publishers), [FIRST_SSRC + i for i in range(case.publishers)])
            yield Rig(flows, [child.pid])
        finally:
            out, _ = await asyncio.to_thread(child.communicate)
            say(f"  {plane} dropped: {out.strip() or 'nothing'}")
            for sock in sockets:
                sock.close()

    return host


def add_senders(flows: Any, case: Case, clients: Any, ssrcs: list[int], payload_type: int = PAYLOAD_TYPE) -> None:
    """The case's senders on these clients, with the same packets for every relay."""
    for client, ssrc in zip(clients, ssrcs, strict=True):
        flows.add_sender(
            client,
            kind="video",
            ssrc=ssrc,
            payload_type=payload_type,
            payload_bytes=PAYLOAD_BYTES,
            packets_per_s=case.packets_per_s / case.publishers,
            burst=case.burst,
            extension=EXTENSION,
            transport_cc_at=TRANSPORT_CC_AT,
        )


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


CONTENDERS: dict[str, Contender] = {
    "python": ours("python"),
    "native": ours("native"),
    "floor": ours("floor"),
    "janus": relay_janus.host(0),
    "janus_one_loop": relay_janus.host(1),
    "aiortc": relay_aiortc.host,
}


TOGETHER = (("python", "native", "floor"), ("native", "janus"), ("native", "janus_one_loop"), ("native", "aiortc"))
"""Who is up at the same time. More would take each other's time with keeping their connections up."""


async def run_case(case: Case, names: list[str], rounds: int, seconds: float) -> dict[str, list[Run]]:
    """All contenders of a case, in turn, ``rounds`` times; ours again beside each of the others."""
    runs: dict[str, list[Run]] = {}
    for some in TOGETHER:
        chosen = [name for name in some if name in names]
        if set(chosen) - {"native"} or (chosen and some is TOGETHER[0]):
            await _run_together(case, chosen, rounds, seconds, runs)
    return runs


async def _run_together(case: Case, names: list[str], rounds: int, seconds: float, runs: dict[str, list[Run]]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        rigs: dict[str, tuple[Rig, float]] = {}
        for name in names:
            rig = await stack.enter_async_context(CONTENDERS[name](case))
            if rig is not None:
                rigs[name] = (rig, await idle_share(rig))
                await measure(rig, case, WARM_S, 0.0)
        for _ in range(rounds):
            for name, (rig, idle) in rigs.items():
                run = await measure(rig, case, seconds, idle)
                runs.setdefault(name, []).append(run)
                for other, _ in rigs.values():
                    await keep_alive(other)
                say(
                    f"  {case.name:15} {name:15} {run.us_per_packet:7.2f} us  busy {run.busy:.2f}  "
                    f"{run.forwarded}/{run.expected} late {run.late}  delay {run.p50_us}/{run.p99_us} us  "
                    f"receive errors {run.receive_errors}  steal {run.steal_ticks}"
                )


def srtp_only() -> float:
    """Microseconds of processor time of one unprotect and one protect; the median of five."""
    module, key = load("flows"), os.urandom(PROFILE.key_bytes + PROFILE.salt_bytes)
    costs = []
    for _ in range(5):
        sealing, opening = SrtpContext(PROFILE, key, inbound=False), SrtpContext(PROFILE, key, inbound=True)
        pointers = [module.session_pointer(context._session) for context in (sealing, opening)]
        began_ns = time.thread_time_ns()
        module.crypto_cost_ns(*pointers, PAYLOAD_BYTES, CRYPTO_PACKETS)
        costs.append((time.thread_time_ns() - began_ns) / CRYPTO_PACKETS / 1000)
    return statistics.median(costs)


async def lossless(plane: str, rates: list[int], seconds: float) -> int:
    """The highest of ``rates`` at which three of five runs lose nothing at all; 0: none."""
    best = 0
    for rate in rates:
        case = CASES[0]._replace(packets_per_s=float(rate))
        async with CONTENDERS[plane](case) as rig:
            if rig is None:
                return 0
            clean = tries = 0
            while clean < 3 and tries - clean < 3:
                run = await measure(rig, case, seconds, 0.0)
                tries += 1
                clean += run.forwarded == run.expected and run.sent >= rate * seconds * 0.98
                say(
                    f"  lossless {rate}/s: {run.forwarded}/{run.expected} of {rate * seconds:.0f} wanted, "
                    f"busy {run.busy:.2f}, receive errors {run.receive_errors}, steal {run.steal_ticks}"
                )
        if clean < 3:
            break
        best = rate
    return best


async def delays(plane: str, rate: float, seconds: float) -> dict[str, Any]:
    """From a sender's call to its subscriber's, through the relay, at half of what it can do; alone, and beside a
    process that takes all it can get of the relay's core. Of three runs the best, and the middle one beside it."""
    case = CASES[0]._replace(packets_per_s=rate)
    found: dict[str, Any] = {"packets_per_s": rate}
    async with CONTENDERS[plane](case) as rig:
        if rig is None:
            return found
        for label, others in (("alone", 0), ("beside_a_busy_process", 1)):
            busy = [
                subprocess.Popen(  # noqa: ASYNC220 - nothing is read from it
                    ["taskset", "-c", str(RELAY_CORE), sys.executable, "-c", "while True: pass"]
                )
                for _ in range(others)
            ]
            try:
                runs = [await measure(rig, case, seconds, 0.0) for _ in range(3)]
            finally:
                for process in busy:
                    process.kill()
                    process.wait()
            best = min(runs, key=lambda run: run.p99_us or 0)
            found[label] = {"p50_ms": (best.p50_us or 0) / 1000, "p99_ms": (best.p99_us or 0) / 1000}
            for figure in ("p50", "p99"):
                middle = statistics.median(getattr(run, f"{figure}_us") or 0 for run in runs)
                found[label][f"{figure}_median_ms"] = middle / 1000
            say(f"  delay {label}: {found[label]}")
    return found


async def two_workers(plane: str, rounds: int, seconds: float) -> dict[str, Any]:
    """CPU per packet of one worker alone, and of two on the same core, each with the load that the one had; in turn."""
    case = CASES[0]
    async with CONTENDERS[plane](case) as one, CONTENDERS[plane](case) as other:
        if one is None or other is None:
            return {}
        alone, both = [], []
        for _ in range(rounds):
            alone.append((await measure(one, case, seconds, 0.0)).us_per_packet)
            pair = await asyncio.gather(*(measure(rig, case, seconds, 0.0) for rig in (one, other)))
            both.append(sum(run.us_per_packet for run in pair) / 2)
    result = {"one": round(statistics.median(alone), 2), "two": round(statistics.median(both), 2)}
    say(f"  workers: {result} us per packet")
    return {**result, "rise": round(result["two"] / result["one"] - 1, 3)}


def _middle(runs: list[Run] | None) -> float | None:
    costs = [run.us_per_packet for run in runs or () if run.forwarded]
    return round(statistics.median(costs), 2) if costs else None


def summary(runs: dict[str, list[Run]]) -> dict[str, float | None]:
    """The row of a case: medians, of Janus' settings the better one."""
    row = {name: _middle(runs.get(name)) for name in ("python", "native", "floor", "aiortc")}
    janus = [cost for name in ("janus", "janus_one_loop") if (cost := _middle(runs.get(name))) is not None]
    return {**row, "janus": min(janus, default=None)}


async def bench(args: argparse.Namespace) -> dict[str, Any]:
    own_core(LOAD_CORE)
    result: dict[str, Any] = {"cases": {}, "srtp_only": round(srtp_only(), 2), "lossless_pps_one_core": None}
    names = args.only.split(",") if args.only else list(CONTENDERS)
    spread: dict[str, Any] = {}
    errors = steal = 0
    for case in CASES:
        if args.cases and case.name not in args.cases.split(","):
            continue
        say(f"{case.name}: {case.publishers} publishers, {case.fan} subscribers each, {case.packets_per_s:.0f}/s in")
        runs = await run_case(case, names, args.rounds, args.seconds)
        result["cases"][case.name] = summary(runs)
        spread[case.name] = {
            name: {
                "least": round(min(run.us_per_packet for run in list_), 2),
                "most": round(max(run.us_per_packet for run in list_), 2),
                "busy": round(statistics.median(run.busy for run in list_), 2),
                "arrived": round(statistics.median(run.forwarded / max(1, run.expected) for run in list_), 4),
            }
            for name, list_ in runs.items()
        }
        errors += sum(run.receive_errors for list_ in runs.values() for run in list_)
        steal += sum(run.steal_ticks for list_ in runs.values() for run in list_)
    plane = "native" if "native" in PLANES else "python"
    if not args.cases and plane in names:
        result["lossless_pps_one_core"] = await lossless(plane, args.rates, args.seconds)
        half = max(result["lossless_pps_one_core"], args.rates[0]) / 2
        result["delay"] = await delays(plane, half, args.seconds)
        result["two_workers"] = await two_workers(plane, args.rounds, args.seconds)
    result["spread"] = spread
    result["receive_errors"], result["steal_ticks"] = errors, steal
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run")
    parser.add_argument("--only", help="relays, separated by commas: " + ", ".join(CONTENDERS))
    parser.add_argument("--cases", help="cases, separated by commas: " + ", ".join(case.name for case in CASES))
    parser.add_argument(
        "--rates", type=lambda text: [int(rate) for rate in text.split(",")],
        default=[60_000, 80_000, 100_000, 120_000, 140_000, 160_000], help="packets/s to try without loss",
    )  # fmt: skip
    parser.add_argument("--keep", type=Path, help="write the result there as well, for bench.relay_docs")
    args = parser.parse_args()
    where = announce("aiortc", "pylibsrtp", "Cython", janus=relay_janus.installed())
    result = asyncio.run(bench(args))
    if args.keep is not None:
        args.keep.write_text(json.dumps({**result, "where": where._asdict(), "date": time.strftime("%Y-%m-%d")}))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
