"""The bill under kill -9 (``make chaos-billing``): calls while processes die at random, and what they were charged.

Clients of this project (``bench.lean_media``) call each other through a whole installation with two workers. For some
minutes control, workers, PostgreSQL and Valkey are killed with -9, one at a time, in an order that follows from the
seed; rooms move, sessions that cannot go on end, new ones begin. Then everybody hangs up, and each session's charge is
held against three things: the tariff, recomputed here from the stored evidence; the workers' own journals; and what the
two clients witnessed: for how long each heard the other through the same room.

``max_unbilled_ms`` is the most of any session, over all kills in its life; ``max_overbilled_ms`` likewise (0: none was
billed for more than was witnessed). Prints JSON as its last line; ``wrong`` says what of it should not be, and is empty
when every bill is right: else the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg

from bench.installation import Installation
from bench.machine import announce, say
from bench.people import Means, make_pairs
from config.settings import Settings
from relay.journal import closed_files
from signaling.info import read_run_file
from signaling.installation import beside

VICTIMS: Final = ("control", "worker-1", "worker-2", "postgres", "valkey")
BETWEEN_KILLS_S: Final = (5.0, 12.0)
SETTLE_S: Final = 90
FILE_CLOSES_S: Final = 5
"""A worker has closed its file by so long after the last room in it ended."""
PROCESSES: Final = 2
POOR_EVERY: Final = 8
"""One client in so many has money for little more than a minute, and tops up when it is used up."""
RICH_MINOR, POOR_MINOR = 50_000, 250
TARIFFS: Final = ((199, 1), (349, 5_000), (149, 60_000), (599, 1))
"""(minor units a minute, step in ms)"""
LINE_MAX: Final = 64 * 2**20

_METERS: Final = """
select m.session_id, m.session_public_id, m.state, m.posted_minor, m.billed_through_ms, m.granted_ms, m.live_ms,
  m.minor_per_minute, m.step_ms, m.free_ms, m.flat_minor, m.included_ms, m.minimum_minor, m.opened_at, m.settled_at,
  s.end_reason, s.room_epoch,
  (select coalesce(sum(amount_minor), 0) from session_charge c where c.session_id = m.session_id) as posted_rows,
  (select coalesce(sum(e.live_ms), 0) from (select max(live_ms) as live_ms from media_evidence v
    where v.session_id = m.session_id group by v.epoch) e) as journal_ms
from session_meter m join session s on s.id = m.session_id order by m.session_id
"""
_OPEN: Final = """
select count(*) from session s where s.accepted_at_ms is not null and (s.settled_at_ms is null
  or exists (select from session_meter m where m.session_id = s.id and m.state = 'open'))
"""
_NEGATIVE: Final = """
select count(*) from account where not overdraft and (posted_minor < 0 or posted_minor - held_minor < 0)
"""


def cost(row: Any, live_ms: int) -> int:
    """The tariff, written a second time so that the product's own function does not judge itself."""
    if live_ms <= row["free_ms"]:
        return 0
    over_ms = max(0, live_ms - row["free_ms"] - row["included_ms"])
    steps = -(-over_ms // row["step_ms"])
    metered = row["minor_per_minute"] * steps * row["step_ms"] // 60_000
    return int(max(row["minimum_minor"], row["flat_minor"] + metered))


class Chaos:
    """One run on one installation."""

    def __init__(self, turnpike: Installation, options: argparse.Namespace) -> None:
        self.turnpike = turnpike
        self.options = options
        self.settings = beside(Settings(data=turnpike.data))
        self.kills: list[tuple[float, str]] = []
        self.failed_pairs = 0
        self._chance = random.Random(options.seed)
        self._clients: list[asyncio.subprocess.Process] = []

    # --- people

    async def people(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Pairs of a client with money and a provider with a tariff."""
        means = [
            Means(POOR_MINOR if number % POOR_EVERY == 0 else RICH_MINOR, *TARIFFS[number % len(TARIFFS)])
            for number in range(self.options.sessions)
        ]
        return await make_pairs(self.settings, "audio", means)

    # --- calls

    async def begin(self) -> None:
        """Start the processes of clients, and wait until nearly all of them talk."""
        pairs = await self.people()
        async with (
            aiohttp.ClientSession() as http,
            http.get(
                f"{self.turnpike.url}/api/v1/consent", headers={"Authorization": f"Bearer {pairs[0][0]['token']}"}
            ) as answer,
        ):
            consent = {"version": (await answer.json())["version"], "accepted": False}
        processes = min(PROCESSES, len(pairs))
        for number in range(processes):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bench.chaos_clients"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LINE_MAX,
            )
            told = {
                "url": self.turnpike.url,
                "consent": consent,
                "pairs": pairs[number::processes],
                "ramp_s": self.options.ramp,
            }
            assert process.stdin is not None
            process.stdin.write(json.dumps(told).encode() + b"\n")
            await process.stdin.drain()
            self._clients.append(process)
        deadline = time.monotonic() + self.options.ramp + 30
        while (talking := await self._talking()) < 0.97 * len(pairs) and time.monotonic() < deadline:
            say(f"{talking} of {len(pairs)} sessions talk; load average {os.getloadavg()[0]:.1f}")
            await asyncio.sleep(3)
        say(f"{talking} of {len(pairs)} sessions talk")
        if talking < len(pairs) / 2:
            raise RuntimeError("the calls do not come about")

    async def _talking(self) -> int:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return int((await self._rows("select count(*) as n from session where state = 'active'"))[0]["n"])
        return 0

    async def _rows(self, query: str) -> list[Any]:
        owner = await asyncpg.connect(self.settings.database_owner_url, server_settings={"turnpike.tenant": "*"})
        try:
            rows: list[Any] = await owner.fetch(query)
            return rows
        finally:
            await owner.close()

    async def kill_for(self, seconds: float) -> None:
        """Kill one process after the other."""
        until = time.monotonic() + seconds
        while (pause := self._chance.uniform(*BETWEEN_KILLS_S)) < until - time.monotonic():
            await asyncio.sleep(pause)
            name = self._chance.choice(VICTIMS)
            pid = self._pid_of(name)
            if pid is None:
                say(f"{name} is not running at the moment")
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.kills.append((time.time(), name))
                say(f"kill -9 {name}; load average {os.getloadavg()[0]:.1f}")
        await asyncio.sleep(max(0.0, until - time.monotonic()))

    def _pid_of(self, name: str) -> int | None:
        run = read_run_file(self.settings)
        pids = {one.name: one.pid for one in run.roles} | {one.name: one.pid for one in run.servers} if run else {}
        return pids.get(name)

    async def hang_up(self) -> list[dict[str, Any]]:
        """Everybody hangs up; what they witnessed."""
        witnessed: list[dict[str, Any]] = []
        for process in self._clients:
            assert process.stdin is not None
            process.stdin.write(b"hang up\n")
            await process.stdin.drain()
        for process in self._clients:
            output, _ = await asyncio.wait_for(process.communicate(), 120)
            told = json.loads(output.splitlines()[-1])
            say(f"refusals and troubles: {told['troubles']}")
            if told["failed"]:
                say(f"pairs that failed: {told['failed'][:3]}")
            self.failed_pairs += len(told["failed"])
            witnessed += told["witnessed"]
        return witnessed

    async def stop(self) -> None:
        for process in self._clients:
            if process.returncode is None:
                process.kill()
                await process.wait()

    # --- the bill

    async def settled(self) -> None:
        """Wait until every session is settled, and the journals of all workers are shipped."""
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            if (await self._rows(_OPEN))[0]["count"] == 0:
                break
            await asyncio.sleep(1)
        else:
            say(f"{(await self._rows(_OPEN))[0]['count']} sessions are not settled after {SETTLE_S} s")
        await asyncio.sleep(FILE_CLOSES_S)
        deadline = time.monotonic() + self.options.evidence_wait
        while time.monotonic() < deadline:
            waiting = closed_files(self.settings.journal_dir)
            if not waiting:
                say("all journals are shipped")
                return
            await asyncio.sleep(1)
        say(f"journals not shipped: {[path.name for path in waiting]}")

    async def judge(self, witnessed: list[dict[str, Any]]) -> dict[str, Any]:
        """Hold every charge against tariff, evidence and witnesses."""
        meters = await self._rows(_METERS)
        seen = {one["session_id"]: one for one in witnessed}
        charged = expected = unsettled = misposted = without_witness = 0
        most = {"unbilled_ms": 0, "overbilled_ms": 0, "beyond_journal_ms": 0, "journal_unbilled_ms": 0}
        worst: dict[str, Any] = {}
        per_kill_ms = beyond_per_kill_ms = 0.0
        for row in meters:
            charged += row["posted_rows"]
            expected += cost(row, min(row["live_ms"], row["granted_ms"]))
            unsettled += row["state"] != "settled"
            misposted += row["posted_rows"] != row["posted_minor"]
            if row["posted_rows"] != row["posted_minor"] or row["state"] != "settled":
                say(f"session {row['session_id']}: {row['state']}, {row['posted_rows']} != {row['posted_minor']}")
            witness = seen.get(row["session_public_id"])
            billed_ms = row["billed_through_ms"]
            figures = {
                "beyond_journal_ms": billed_ms - int(row["journal_ms"]),
                "journal_unbilled_ms": min(int(row["journal_ms"]), row["granted_ms"]) - billed_ms,
            }
            if witness is None:
                without_witness += billed_ms > 0
                say(f"session {row['session_id']} has no witness, and was billed {billed_ms} ms")
            else:
                figures["unbilled_ms"] = witness["both_ms"] - billed_ms
                figures["overbilled_ms"] = billed_ms - witness["both_ms"]
                kills = self._kills_in(row)
                per_kill_ms = max(per_kill_ms, figures["unbilled_ms"] / max(1, kills))
            beyond_per_kill_ms = max(beyond_per_kill_ms, figures["beyond_journal_ms"] / max(1, self._kills_in(row)))
            for name, value in figures.items():
                if value > most[name]:
                    most[name], worst[name] = value, self._told(row, witness)
        for name, what in worst.items():
            say(f"most {name} {most[name]}: {what}")
        say(f"unbilled at most {per_kill_ms:.0f} ms a kill in the session's life")
        return {
            "sessions": len(meters),
            "kills": len(self.kills),
            "charged_minor": int(charged),
            "expected_minor": int(expected),
            "difference_minor": int(charged - expected),
            "negative_balances": (await self._rows(_NEGATIVE))[0]["count"],
            "max_unbilled_ms": most["unbilled_ms"],
            "max_unbilled_per_kill_ms": round(per_kill_ms),
            "max_overbilled_ms": most["overbilled_ms"],
            "max_beyond_journal_ms": most["beyond_journal_ms"],
            "max_beyond_journal_per_kill_ms": round(beyond_per_kill_ms),
            "unsettled": unsettled,
            "misposted": misposted,
            "without_witness": without_witness,
            "failed_pairs": self.failed_pairs,
        }

    def _kills_in(self, row: Any) -> int:
        """Kills between a session's opening and its settlement."""
        until = row["settled_at"].timestamp() if row["settled_at"] else time.time()
        return sum(row["opened_at"].timestamp() <= at <= until for at, _ in self.kills)

    def _told(self, row: Any, witness: dict[str, Any] | None) -> str:
        start = row["opened_at"].timestamp()
        end = row["settled_at"].timestamp() if row["settled_at"] else time.time()
        kills = [f"{name}@{at - start:.1f}" for at, name in self.kills if start - 1 <= at <= end]
        spans = [
            {epoch: [[round(ns / 1e9 - start, 2) for ns in span] for span in spans] for epoch, spans in side.items()}
            for side in (witness["heard"] if witness else ())
        ]
        return (
            f"session {row['session_id']} billed {row['billed_through_ms']} live {row['live_ms']} granted"
            f" {row['granted_ms']} journal {row['journal_ms']} epoch {row['room_epoch']} {row['end_reason']}"
            f" settled@{end - start:.1f} heard {spans} kills {kills}"
        )


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """The whole run; returns the figures."""
    env = {"TURNPIKE_WORKERS": "2", "TURNPIKE_LOG_LEVEL": "info"}
    async with Installation(env=env) as turnpike:
        chaos = Chaos(turnpike, options)
        try:
            await chaos.begin()
            await chaos.kill_for(options.duration)
            witnessed = await chaos.hang_up()
            await chaos.settled()
            figures = await chaos.judge(witnessed)
            figures["books_balance"] = await turnpike.books_balance()
            say("the books are right" if figures["books_balance"] else "THE BOOKS ARE WRONG")
            return {**figures, "wrong": wrong(figures)}
        except Exception:
            print(turnpike.log_tail(60), file=sys.stderr)
            raise
        finally:
            await chaos.stop()
            if options.keep_log is not None:
                options.keep_log.write_text(turnpike.log_text())


MOST: Final = {
    "difference_minor": 0,
    "negative_balances": 0,
    "unsettled": 0,
    "misposted": 0,
    "without_witness": 0,
    "failed_pairs": 0,
    "max_beyond_journal_per_kill_ms": 1_000,
    "max_overbilled_ms": 250,
    "max_unbilled_per_kill_ms": 1_000,
}
"""How much each figure may be. (A client counts a packet as it arrives: 250 ms of difference are its own. A worker
syncs its journal once a second: what it had told the bus since, each killed worker takes with it.)"""


def wrong(figures: dict[str, Any]) -> list[str]:
    """What is not as it has to be, each with its figure; empty: every bill is right."""
    found = [f"{name}: {figures[name]}" for name, most in MOST.items() if figures[name] > most]
    if figures["difference_minor"] < 0:
        found.append(f"difference_minor: {figures['difference_minor']}")
    if not figures["sessions"]:
        found.append("sessions: 0")
    if not figures["books_balance"]:
        found.append("the books do not balance")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=200, help="calls at a time")
    parser.add_argument("--duration", type=float, default=180, help="seconds of killing")
    parser.add_argument("--ramp", type=float, default=40, help="seconds over which the calls begin")
    parser.add_argument("--evidence-wait", type=float, default=60, help="seconds for journals to be shipped at the end")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--keep-log", type=Path, help="put the installation's log there")
    options = parser.parse_args()
    announce()
    figures = asyncio.run(run(options))
    print(json.dumps(figures))
    for one in figures["wrong"]:
        say(f"WRONG: {one}")
    sys.exit(1 if figures["wrong"] else 0)


if __name__ == "__main__":
    main()
