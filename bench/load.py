"""How many whole calls a worker carries: ``make bench-load CALLS=100``. The last line is JSON.

A whole installation with one worker; one-to-one video calls of 1.5 Mb/s each way, every one a paid session that
the meter follows live, a fifth of them recorded. Clients are ours (``bench.load_calls``), their media and feedback come
from ``bench.flows``, which checks every packet's number and delay; no two are in step. All of it shares this machine's
cores; ``--pin`` gives one of them to the worker alone.

``lost``: packets sent and not received. ``late_evidence``: evidence that came on the bus more than half a second after
its second, or not at all. ``p99_delay_ms``: from one client's call of sendmmsg to the other's socket. ``worker_cpu``:
the worker's share of a core. The ceiling is found by adding calls until something gives in two measurements on end, or
taking some away until nothing does: packets lost, evidence late, a delay of 100 ms, or the load itself behind.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from bench.installation import Installation
from bench.load_calls import (
    FEEDBACK_MS,
    SLICE_S,
    VIDEO_BURST,
    VIDEO_PACKETS_PER_S,
    Call,
    Load,
)
from bench.load_watch import Cores, Witness, rss_mb
from bench.machine import announce, say
from bench.native import load as load_native
from bench.people import Means, make_pairs
from bench.person import Person
from bench.relay import CONTENDERS
from bench.relay_case import RELAY_CORE, SETTLE_S, Case, measure, receive_errors, steal_ticks
from config.process import stay_off
from config.settings import Settings
from signaling.installation import beside

RECORDED_EVERY: Final = 5
DELAY_MAX_MS: Final = 100.0
BEHIND_MAX: Final = 0.01
"""Share of its packets that the load may be too late for and still be a load."""
FULL: Final = 0.95
"""A process that takes more than this of a core has no more to give."""
BEGIN_AT_ONCE: Final = 4
WARM_UP_S: Final = 2.0
TICK_MS: Final = 1.0
"""How often the load looks around."""
MONEY: Final = Means(50_000, 199, 1)
BROADCAST: Final = Case("1to200", 1, 200, VIDEO_PACKETS_PER_S, VIDEO_BURST)


class Step(NamedTuple):
    """What so many calls came to."""

    calls: int
    lost: int
    expected: int
    late_evidence: int
    late_stamped: int
    """Of that: late by the worker's own stamps."""
    evidence: int
    evidence_way_p99_ms: int
    """From the worker's stamp to the bus."""
    control_behind_ms: int
    """The age of the oldest entry of the bus that control had not taken in."""
    p50_ms: float
    p99_ms: float
    cores: dict[str, float]
    rss_mb: float
    behind: float
    """Share of its packets that the load did not send, as they were too late by then."""
    receive_errors: int
    steal_ticks: int

    @property
    def worker_cpu(self) -> float:
        """Of one core."""
        return self.cores["worker-1"]

    @property
    def gave_out(self) -> str | None:
        """What did, where anything did, with what shows it."""
        if self.behind > BEHIND_MAX:
            return f"the load itself, which shares the cores ({self.behind:.1%} not sent in time)"
        cause = None
        if self.lost:
            cause = "receive buffers" if self.receive_errors else "packets lost"
        elif self.late_evidence:
            cause = "evidence late" if self.late_stamped else "evidence late on the bus"
        elif self.p99_ms >= DELAY_MAX_MS:
            cause = "delay"
        if cause is None or self.worker_cpu < FULL:
            return cause
        return f"the worker's core ({cause})"


class Bench:
    """Calls on one installation, and how it carries them."""

    def __init__(self, turnpike: Installation, http: aiohttp.ClientSession, pairs: list[Any], options: Any) -> None:
        self._turnpike, self._http, self._pairs, self._options = turnpike, http, pairs, options
        self._begun = 0
        self.consent: dict[str, Any] = {}
        self.load = Load(load_native("flows").Flows(2 * len(pairs), 4 * len(pairs), tick_ms=options.tick_ms))
        self.witness: Witness
        self.steps: list[Step] = []
        self.worker_pid = 0
        self.idle_mb = 0.0

    async def grow(self, calls: int) -> None:
        """Begin calls until there are so many; media flows meanwhile."""
        slots = asyncio.Semaphore(BEGIN_AT_ONCE)
        begun: list[Call] = []

        async def begin(number: int) -> None:
            async with slots:
                first, second = (Person(self._turnpike.url, self._http, who) for who in self._pairs[number])
                recorded = number % RECORDED_EVERY == 0
                call = Call(
                    (first, second), recorded=recorded, consent=self.consent, feedback_ms=self._options.feedback_ms
                )
                await call.begin()
                begun.append(call)

        more = calls - len(self.load.calls)
        beginning = asyncio.gather(*(begin(number) for number in range(self._begun, self._begun + more)))
        self._begun += more
        while not beginning.done():
            await self.load.run(SLICE_S)
            while begun:
                self.load.add(begun.pop())
        await beginning
        for call in begun:
            self.load.add(call)

    async def measure(self, seconds: float) -> Step:
        """Hold the present calls for a while."""
        flows = self.load.flows
        say(f"measuring {len(self.load.calls)} calls, worker={self.worker_pid}")
        cores = Cores(await self._turnpike.info())
        await self.load.run(WARM_UP_S)
        await self.load.run(SETTLE_S, sending=False)
        flows.reset()
        self.witness.begin()
        cores.begin()
        before = sum(flows.sent())
        errors, steal = receive_errors(), steal_ticks()
        await self.load.run(seconds)
        shares = cores.end()
        await self.load.run(SETTLE_S, sending=False)
        evidence, behind_ms = self.witness.end()
        sent = sum(flows.sent()) - before
        calls = len(self.load.calls)
        step = Step(
            calls,
            sent - flows.received,
            sent,
            evidence.late + max(0, calls - evidence.sessions),
            evidence.late_stamped,
            evidence.seen,
            evidence.way_ms(0.99),
            behind_ms,
            (flows.delay_us(0.5) or 0) / 1000,
            (flows.delay_us(0.99) or 0) / 1000,
            shares,
            rss_mb(self.worker_pid),
            flows.missed / max(1, sent + flows.missed),
            receive_errors() - errors,
            steal_ticks() - steal,
        )
        say(str(step._asdict()))
        self.steps.append(step)
        return step

    async def shrink(self, calls: int) -> None:
        """Hang up until there are so many."""
        await self.load.remove(len(self.load.calls) - calls)


@contextlib.asynccontextmanager
async def installed(options: argparse.Namespace) -> AsyncIterator[Bench]:
    """A fresh installation with one worker, and people for so many calls."""
    async with contextlib.AsyncExitStack() as stack:
        env = {"TURNPIKE_WORKERS": "1", "TURNPIKE_PLANE": options.plane}
        if options.pin:
            env["TURNPIKE_WORKER_CORES"] = str(RELAY_CORE)
            stay_off([RELAY_CORE])
        turnpike = await stack.enter_async_context(Installation(env=env))
        settings = beside(Settings(data=turnpike.data))
        # Twice as many for the search's way back: whose call has ended does not call again.
        pairs = await make_pairs(
            settings, "video", [MONEY] * (max(options.calls, options.calls_max) + 2 * options.step)
        )
        http = await stack.enter_async_context(aiohttp.ClientSession())
        bench = Bench(turnpike, http, pairs, options)
        headers = {"Authorization": f"Bearer {pairs[0][0]['token']}"}
        async with http.get(f"{turnpike.url}/api/v1/consent", headers=headers) as answer:
            bench.consent = {"version": (await answer.json())["version"]}
        bench.worker_pid = await turnpike.pid_of("worker-1")
        bench.idle_mb = rss_mb(bench.worker_pid)
        assert settings.redis_url is not None
        bench.witness = stack.enter_context(Witness(settings.redis_url))
        try:
            yield bench
        except Exception:
            print(turnpike.log_tail(60), file=sys.stderr)
            raise


async def broadcast(seconds: float) -> dict[str, Any]:
    """One publisher of 1.5 Mb/s to 200 viewers through the native plane, on one core."""
    async with CONTENDERS["native"](BROADCAST) as rig:
        if rig is None:
            return {}
        run = await measure(rig, BROADCAST, seconds, 0.0)
    return {
        "viewers": BROADCAST.fan,
        "lost": run.expected - run.forwarded,
        "p99_delay_ms": (run.p99_us or 0) / 1000,
        "cpu": round(run.busy, 3),
        "us_per_packet": round(run.us_per_packet, 2),
    }


async def ceiling(bench: Bench, first: Step, options: argparse.Namespace) -> tuple[int, str]:
    """The most calls at which nothing gave out, and what did beyond; 0 calls: it did with the fewest as well."""

    async def hold(calls: int) -> str | None:
        """What gave out twice, if anything did: once is this machine's hiccup."""
        await (bench.grow(calls) if calls > len(bench.load.calls) else bench.shrink(calls))
        for _ in range(2):
            step = await bench.measure(options.search_seconds)
            if step.gave_out is None:
                return None
        return step.gave_out

    calls = first.calls
    cause = None if first.gave_out is None else await hold(calls)
    if cause is not None:
        while calls > options.step:
            calls -= options.step
            found = await hold(calls)
            if found is None:
                return calls, cause
            cause = found
        return 0, cause
    while calls + options.step <= options.calls_max:
        cause = await hold(calls + options.step)
        if cause is not None:
            return calls, cause
        calls += options.step
    return calls, f"none up to {calls} calls"


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """The figures at ``options.calls``, then the ceiling."""
    async with installed(options) as bench:
        say(f"beginning {options.calls} calls")
        await bench.grow(options.calls)
        step = await bench.measure(options.seconds)
        most, cause = await ceiling(bench, step, options) if options.calls_max > 0 else (None, "not looked for")
        result: dict[str, Any] = {
            "calls": step.calls,
            "lost": step.lost,
            "late_evidence": step.late_evidence,
            "p99_delay_ms": step.p99_ms,
            "worker_cpu": round(step.worker_cpu, 3),
            "rss_mb_per_call": round((step.rss_mb - bench.idle_mb) / step.calls, 3),
            "ceiling_calls": most,
            "ceiling_cause": cause,
            "p50_delay_ms": step.p50_ms,
            "packets": step.expected,
            "late_stamped": step.late_stamped,
            "evidence_way_p99_ms": step.evidence_way_p99_ms,
            "control_behind_ms": step.control_behind_ms,
            "cores": step.cores,
            "load_behind": round(step.behind, 4),
            "receive_errors": step.receive_errors,
            "steal_ticks": step.steal_ticks,
            "pinned": options.pin,
            "feedback_ms": options.feedback_ms,
        }
        result["steps"] = [each._asdict() for each in bench.steps]
        say("hanging up")
        ends = await asyncio.gather(*(call.end() for call in bench.load.calls), return_exceptions=True)
        result["ended_in_error"] = sum(isinstance(end, BaseException) for end in ends)
    if not options.no_broadcast:
        result["broadcast"] = await broadcast(options.seconds)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--calls-max", type=int, default=240, help="where the search ends; 0: no search")
    parser.add_argument("--step", type=int, default=10, help="calls added or taken away at a time in that search")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the calls are held")
    parser.add_argument("--search-seconds", type=float, default=8.0, help="how long in each step of the search")
    parser.add_argument("--feedback-ms", type=float, default=FEEDBACK_MS, help="between two feedbacks of a client")
    parser.add_argument("--tick-ms", type=float, default=TICK_MS, help="how often the load looks around; 0: at once")
    parser.add_argument("--pin", action="store_true", help="a core for the worker alone, the others for all else")
    parser.add_argument("--plane", default="auto")
    parser.add_argument("--no-broadcast", action="store_true")
    parser.add_argument("--keep", type=Path, help="write the result here, for bench.load_docs")
    options = parser.parse_args()
    where = announce("pylibsrtp", "Cython")
    result = asyncio.run(run(options))
    if options.keep:
        options.keep.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "where": where._asdict(), **result}))
    print(json.dumps({name: value for name, value in result.items() if name != "steps"}))


if __name__ == "__main__":
    main()
