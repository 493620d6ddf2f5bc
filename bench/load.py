"""How many whole calls a worker carries: ``make bench-load CALLS=100``. The last line is JSON.

A whole installation with one worker; one-to-one video calls of 1.5 Mb/s each way, every one a paid session that
the meter follows live, a fifth of them recorded. Clients are ours (``bench.load_calls``), their media is sent and
checked by ``bench.flows``: every packet's number and delay. All of it shares this machine's cores.

``late_evidence`` counts evidence that came more than half a second after its second; ``p99_delay_ms`` is from one
client's call of sendmmsg to the other's of recvmmsg; ``worker_cpu`` is the worker's share of a core. The ceiling is
found by adding calls until something gives: packets lost, evidence late, a delay of 100 ms, or the load itself behind.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
from redis.asyncio import Redis

from bench import relay as relays
from bench.chaos_clients import Person
from bench.installation import Installation
from bench.load_calls import AUDIO_PACKETS_PER_S, VIDEO_BURST, VIDEO_PACKETS_PER_S, Call, Load, Town
from bench.native import load as load_native
from bench.people import Means, make_pairs
from bench.relay_case import SETTLE_S, SLICE_S, Case, cpu_s, receive_errors, steal_ticks
from config.connections import open_redis
from config.ids import SHARDS
from config.settings import Settings
from relay.messages import MediaEvidence
from relay.messages_json import decode_event
from signaling.installation import beside

RECORDED_EVERY: Final = 5
EVIDENCE_LATE_MS: Final = 1_500
DELAY_MAX_US: Final = 100_000
BEGIN_AT_ONCE: Final = 4
WARM_UP_S: Final = 2.0
MONEY: Final = Means(50_000, 199, 1)
BROADCAST: Final = Case("1to200", 1, 200, VIDEO_PACKETS_PER_S, VIDEO_BURST)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Witness:
    """Reads the evidence off the bus beside the meter, and counts what came late."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._last: dict[str, str] = {f"tp:media:{shard}": "$" for shard in range(SHARDS)}
        self._came: dict[int, int] = {}
        self.late = self.seen = 0

    def forget(self) -> None:
        """Begin to count anew."""
        self._came.clear()
        self.late = self.seen = 0

    async def run(self) -> None:
        """Until cancelled. Entries are read as they come: the meter deletes what it has taken in."""
        while True:
            for key, entries in await self._redis.xread(self._last, block=1000) or []:
                for entry_id, fields in entries:
                    self._last[key.decode()] = entry_id.decode()
                    self._take(int(entry_id.split(b"-")[0]), next(iter(fields.values())))

    def _take(self, came_ms: int, data: bytes) -> None:
        event = decode_event(data)
        if not isinstance(event, MediaEvidence) or event.at_once:
            return
        before = self._came.get(event.session_id)
        self.late += before is not None and came_ms - before > EVIDENCE_LATE_MS
        self._came[event.session_id] = came_ms
        self.seen += 1


class Step(NamedTuple):
    """What so many calls came to."""

    calls: int
    lost: int
    expected: int
    late_evidence: int
    evidence: int
    p50_ms: float
    p99_ms: float
    worker_cpu: float
    rss_mb: float
    behind: float
    """Share of its packets that the load did not send in time."""
    receive_errors: int
    steal_ticks: int

    @property
    def gave_out(self) -> str | None:
        """What did, where anything did."""
        if self.behind > 0.03:
            return "the load itself, which shares the cores"
        if self.lost:
            return "receive buffers" if self.receive_errors else "packets lost"
        if self.late_evidence:
            return "evidence late"
        return "delay" if self.p99_ms * 1000 >= DELAY_MAX_US else None


class Bench:
    """Calls on one installation, and how it carries them."""

    def __init__(self, turnpike: Installation, http: aiohttp.ClientSession, pairs: list[Any], consent: Any) -> None:
        self._turnpike, self._pairs, self._consent = turnpike, pairs, consent
        self._town: Any = Town(turnpike.url, http)
        self.load = Load(load_native("flows").Flows(2 * len(pairs), 4 * len(pairs)))
        self.witness: Witness
        self.worker_pid = 0
        self.idle_mb = 0.0

    async def grow(self, calls: int) -> None:
        """Begin calls until there are so many; media flows meanwhile."""
        slots = asyncio.Semaphore(BEGIN_AT_ONCE)

        async def begin(number: int) -> Call:
            async with slots:
                client, provider = (Person(self._town, who) for who in self._pairs[number])
                call = Call((client, provider), recorded=number % RECORDED_EVERY == 0, consent=self._consent)
                await call.begin()
                return call

        beginning = asyncio.gather(*(begin(number) for number in range(len(self.load.calls), calls)))
        while not beginning.done():
            await self.run(SLICE_S)
        for call in await beginning:
            self.load.add(call)

    async def run(self, seconds: float, *, sending: bool = True) -> None:
        """Media for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            part = min(left, SLICE_S)
            datagrams = await asyncio.to_thread(lambda part=part: self.load.flows.run(part, sending=sending))
            for client, datagram in datagrams:
                self.load.control(client, datagram)
            self.load.keep_alive()
            await self.load.beat()

    async def measure(self, seconds: float) -> Step:
        """Hold the present calls for a while."""
        flows = self.load.flows
        await self.run(WARM_UP_S)
        await self.run(SETTLE_S, sending=False)
        flows.reset()
        self.witness.forget()
        before = sum(flows.sent())
        errors, steal = receive_errors(), steal_ticks()
        began, spent = time.monotonic(), cpu_s([self.worker_pid])
        await self.run(seconds)
        elapsed = time.monotonic() - began
        spent = cpu_s([self.worker_pid]) - spent
        await self.run(SETTLE_S, sending=False)
        sent = sum(flows.sent()) - before
        wanted = 2 * len(self.load.calls) * (VIDEO_PACKETS_PER_S + AUDIO_PACKETS_PER_S) * elapsed
        step = Step(
            len(self.load.calls),
            sent - flows.received,
            sent,
            self.witness.late,
            self.witness.seen,
            (flows.delay_us(0.5) or 0) / 1000,
            (flows.delay_us(0.99) or 0) / 1000,
            spent / elapsed,
            rss_mb(self.worker_pid),
            max(0.0, 1 - sent / max(1.0, wanted)),
            receive_errors() - errors,
            steal_ticks() - steal,
        )
        say(str(step))
        return step


def rss_mb(pid: int) -> float:
    """Memory that a process has in RAM, in MB of 10⁶ bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextlib.asynccontextmanager
async def installed(calls_max: int, plane: str) -> AsyncIterator[Bench]:
    """A fresh installation with one worker, and people for so many calls."""
    async with contextlib.AsyncExitStack() as stack:
        env = {"TURNPIKE_WORKERS": "1", "TURNPIKE_PLANE": plane}
        turnpike = await stack.enter_async_context(Installation(env=env))
        settings = beside(Settings(data=turnpike.data))
        pairs = await make_pairs(settings, "video", [MONEY] * calls_max)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        headers = {"Authorization": f"Bearer {pairs[0][0]['token']}"}
        async with http.get(f"{turnpike.url}/api/v1/consent", headers=headers) as answer:
            consent = {"version": (await answer.json())["version"]}
        bench = Bench(turnpike, http, pairs, consent)
        bench.worker_pid = await turnpike.pid_of("worker-1")
        bench.idle_mb = rss_mb(bench.worker_pid)
        assert settings.redis_url is not None
        redis = open_redis(settings.redis_url)
        stack.push_async_callback(redis.aclose)
        bench.witness = Witness(redis)
        watching = asyncio.create_task(bench.witness.run())
        try:
            yield bench
        except Exception:
            print(turnpike.log_tail(60), file=sys.stderr)
            raise
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def broadcast(seconds: float) -> dict[str, Any]:
    """One publisher of 1.5 Mb/s to 200 viewers through the native plane, on one core."""
    async with relays.CONTENDERS["native"](BROADCAST) as rig:
        if rig is None:
            return {}
        run = await relays.measure(rig, BROADCAST, seconds, 0.0)
    return {
        "viewers": BROADCAST.fan,
        "lost": run.expected - run.forwarded,
        "p99_delay_ms": (run.p99_us or 0) / 1000,
        "cpu": round(run.busy, 3),
        "us_per_packet": round(run.us_per_packet, 2),
    }


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """The figures at ``args.calls``, then the ceiling."""
    async with installed(max(args.calls, args.calls_max), args.plane) as bench:
        say(f"beginning {args.calls} calls")
        await bench.grow(args.calls)
        step = await bench.measure(args.seconds)
        ceiling, cause = (step.calls, None) if step.gave_out is None else (0, step.gave_out)
        while cause is None and len(bench.load.calls) + args.step <= args.calls_max:
            await bench.grow(len(bench.load.calls) + args.step)
            found = await bench.measure(args.seconds / 2)
            cause = found.gave_out
            ceiling = found.calls if cause is None else ceiling
        result: dict[str, Any] = {
            "calls": step.calls,
            "lost": step.lost,
            "late_evidence": step.late_evidence,
            "p99_delay_ms": step.p99_ms,
            "worker_cpu": round(step.worker_cpu, 3),
            "rss_mb_per_call": round((step.rss_mb - bench.idle_mb) / step.calls, 3),
            "ceiling_calls": ceiling,
            "ceiling_cause": cause or f"none up to {args.calls_max} calls",
            "p50_delay_ms": step.p50_ms,
            "packets": step.expected,
            "receive_errors": step.receive_errors,
            "steal_ticks": step.steal_ticks,
        }
        say("hanging up")
        ends = await asyncio.gather(*(call.end() for call in bench.load.calls), return_exceptions=True)
        result["ended_in_error"] = sum(isinstance(end, BaseException) for end in ends)
    if not args.no_broadcast:
        result["broadcast"] = await broadcast(args.seconds)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--calls-max", type=int, default=240, help="where the search for the ceiling ends")
    parser.add_argument("--step", type=int, default=20, help="calls added at a time in that search")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the calls are held")
    parser.add_argument("--plane", default="auto")
    parser.add_argument("--no-broadcast", action="store_true")
    args = parser.parse_args()
    machine = f"{platform.platform()}, {os.cpu_count()} CPUs, {relays.cpu_name()}"
    print(f"machine: {machine}\ncommand: python -m bench.load {' '.join(sys.argv[1:])}".rstrip(), file=sys.stderr)
    print(json.dumps(asyncio.run(run(args))))


if __name__ == "__main__":
    main()
