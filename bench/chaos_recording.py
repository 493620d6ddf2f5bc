"""Recordings under kill -9 (``make chaos-recording``): recorded calls while what records them dies at random.

Clients of this project call each other through a whole installation with two workers, whose recordings go to an S3
service (``rclone serve s3``). Workers, recorder and that service are killed with -9 in an order that follows from the
seed; the service is also made to refuse every upload for a while, as one does that is full. Clients come back when
their room moves. Then all hang up, and nobody helps: every recording must be uploaded, signed, and verified by
``turnpike verify``, and each packet that the *other side* got (so it had reached the server) must be in it.

``worst_loss_ms`` is the longest stretch of one track that is missing in one place; ``unsigned`` and ``unverified``
count recordings; ``least_heard_percent`` is what came of the track that came least, of all that it sends in a call.
Prints JSON as its last line; status 1 where it shows less than ``bench.chaos_verdict`` wants, be it that too little
was heard or killed for the rest to mean anything.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import random
import shutil
import signal
import struct
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import av

from bench.chaos_verdict import KINDS, SOURCES, heard_percent, killed, longest_hole, wrong
from bench.installation import Installation, free_port, sign_in
from bench.machine import announce, say
from bench.media_client import MediaClient, Negotiator
from bench.media_tracks import ReceivedTrack, SentTrack
from bench.person import TROUBLE, Refused
from bench.recorded_calls import Side, begin, consent_version
from billing.service import Billing
from config.clock import SystemClock
from config.database import Database
from config.identity import Principal, Role, Tokens
from config.ids import DEFAULT_TENANT, UserId, new_public_id
from config.settings import Settings
from signaling.assembly import TOKEN_SECRET
from signaling.info import read_run_file
from signaling.installation import beside

KEYS: Final = {"AWS_ACCESS_KEY_ID": "turnpike", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-bench"}
BETWEEN_KILLS_S: Final = (4.0, 9.0)
STORE_AWAY_S: Final = (0.5, 4.0)
TURNS_MAX_S: Final = 120.0
"""How much longer than wanted is killed, until each kind has had its turn."""
QUIET_S: Final = 4.0
TOLD_FROM_NS: Final = 200_000_000
"""Holes longer than this are told of one by one."""
MONEY_MINOR: Final = 50_000
_NEW_USER: Final = (
    "insert into app_user (tenant_id, public_id, email, name, role, password_hash, currency)"
    " values ($1, $2, $3, $4, $5, '', 'USD') returning id"
)
_MARK: Final = b"TPMC"
_STAMP: Final = struct.Struct("!4sIQ")


def stamp_in(payload: bytes) -> int | None:
    """When the packet was sent, on the sender's monotonic clock (ns); None where it carries no stamp."""
    at = payload.find(_MARK, 0, 40)
    return None if at < 0 or len(payload) < at + _STAMP.size else int(_STAMP.unpack_from(payload, at)[2])


@dataclass
class LeanTrack(SentTrack):
    """Ten small pictures a second, so that many calls fit on a small machine."""

    @property
    def interval_ns(self) -> int:
        return SOURCES["camera" if self.is_video else "microphone"]


@dataclass
class NotingTrack(ReceivedTrack):
    """Notes the stamp of every packet that came."""

    stamps: set[int] = field(default_factory=set)

    def _check(self, payload: bytes, now_ns: int) -> None:
        found = stamp_in(payload)
        if found is not None:
            self.stamps.add(found)
        super()._check(payload, now_ns)


class StampClient(MediaClient):
    """A media client whose packets are told apart, sent and received."""

    def __init__(self, negotiate: Negotiator, heard: dict[str, set[int]]) -> None:
        super().__init__(negotiate)
        self._heard = heard

    async def _offer(self, *, fresh: bool) -> None:
        await super()._offer(fresh=fresh)
        for source, sent in self.sent.items():
            if not isinstance(sent, LeanTrack):
                self.sent[source] = LeanTrack(
                    source,
                    sent.mid,
                    sent.ssrc,
                    sent.rtx_ssrc,
                    sent.payload_type,
                    sent.rtx_payload_type,
                    sent.clock_rate,
                )
        for source, got in self.received.items():
            if not isinstance(got, NotingTrack):
                stamps = self._heard.setdefault(source, set())
                self.received[source] = NotingTrack(source, got.ssrc, got.rtx_ssrc, stamps=stamps)


class StampSide(Side):
    """A side that comes back by itself."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.heard: dict[str, set[int]] = {}
        """Source of the *other* side → stamps that arrived here."""

    def make(self, negotiate: Negotiator, **more: Any) -> MediaClient:
        return StampClient(negotiate, self.heard)

    async def stay(self, session_id: str) -> None:
        """Be in the call, whatever happens to its room, until cancelled."""
        since = 0.0
        while True:
            view = self.views.get(session_id, {})
            newest = max((track.last_ns for track in self.client.received.values()), default=0) if self.client else 0
            quiet = time.monotonic() - max(since, newest / 1e9) > QUIET_S
            if self.client is None or quiet or view.get("room_epoch", 0) > self.epoch:
                since = time.monotonic()
                with contextlib.suppress(Refused, *TROUBLE):
                    self.learn(await self.ask("GET", f"/sessions/{session_id}"))
                    await self.join(session_id)
                since = time.monotonic()
            await asyncio.sleep(0.2)


class Store:
    """``rclone serve s3`` on a directory, that may be killed, or refuse uploads."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *, full: bool = False) -> None:
        """Start it; ``full``: it takes nothing more."""
        (self._folder / "bucket").mkdir(parents=True, exist_ok=True)
        program = Path(sysconfig.get_path("scripts")) / "rclone"
        self._process = await asyncio.create_subprocess_exec(
            *(program, "serve", "s3", "--addr", f"127.0.0.1:{self.port}", "--auth-key", ",".join(KEYS.values())),
            *(["--read-only"] if full else []),
            self._folder,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "RCLONE_CONFIG": "/dev/null"},
        )

    async def kill(self) -> bool:
        """Whether it was up."""
        if self._process is None or self._process.returncode is not None:
            return False
        self._process.kill()
        await self._process.wait()
        return True


@dataclass
class Talk:
    """One call."""

    session_id: str
    sides: tuple[StampSide, StampSide]
    tasks: list[asyncio.Task[None]]
    began_ns: int
    lasted_ns: int = 0


class Chaos:
    """One run."""

    def __init__(self, turnpike: Installation, store: Store, options: argparse.Namespace) -> None:
        self.turnpike, self.store, self.options = turnpike, store, options
        self.settings = beside(Settings(data=turnpike.data))
        self.kills: list[tuple[float, str]] = []
        self._chance = random.Random(options.seed)

    async def people(self) -> list[tuple[dict[str, str], dict[str, str]]]:
        """Pairs of a client with money and a provider with a tariff, signed in."""
        tokens = Tokens(self.settings.secret(TOKEN_SECRET), 3600)
        assert self.settings.database_url is not None
        pairs = []
        async with await Database.open(self.settings.database_url, name="chaos") as database:
            billing = Billing(database, SystemClock(), self.settings)
            for number in range(self.options.calls):
                pair = []
                for role in (Role.CLIENT, Role.PROVIDER):
                    public_id = new_public_id("usr")
                    about = (DEFAULT_TENANT, public_id, f"{role}{number}@chaos.test", f"{role} {number}", role)
                    async with database.transaction(DEFAULT_TENANT) as connection:
                        user_id = UserId(await connection.fetchval(_NEW_USER, *about))
                    await billing.open_wallets(DEFAULT_TENANT, user_id, role, "USD")
                    if role is Role.CLIENT:
                        await billing.top_up(DEFAULT_TENANT, user_id, MONEY_MINOR, "opening", "Opening balance")
                    else:
                        await billing.set_rate(DEFAULT_TENANT, user_id, "video", 199, "USD")
                    principal = Principal(DEFAULT_TENANT, user_id, public_id, role, f"{role} {number}")
                    pair.append({"id": str(public_id), "token": tokens.issue(principal, int(time.time()))})
                pairs.append((pair[0], pair[1]))
        return pairs

    async def talk(self, http: aiohttp.ClientSession) -> list[Talk]:
        """Everybody calls."""
        talks: list[Talk] = []
        pairs = await self.people()
        version = await consent_version(http, self.turnpike.url, pairs[0][0]["token"])
        for number, pair in enumerate(pairs):
            sides = [StampSide(self.turnpike.url, f"{number}", who, http, None) for who in pair]
            await asyncio.gather(*(side.connect() for side in sides))
            session_id = await begin(sides[0], sides[1], version, f"chaos-{number}-{self.options.seed}")
            tasks = [asyncio.create_task(side.stay(session_id)) for side in sides]
            talks.append(Talk(session_id, (sides[0], sides[1]), tasks, time.monotonic_ns()))
            await asyncio.sleep(0.3)
        return talks

    async def kill_for(self, seconds: float) -> None:
        """Kill one after the other for so long, and on until each kind has had its turn; what does not come up in
        ``TURNS_MAX_S`` more has none, and the verdict says so."""
        until, bag = time.monotonic() + seconds, list[str]()
        while (now := time.monotonic()) < until or not all(killed(name for _, name in self.kills).values()):
            if now >= until + TURNS_MAX_S:
                say("not everything came up to be killed")
                return
            await asyncio.sleep(self._chance.uniform(*BETWEEN_KILLS_S))
            bag = bag or self._chance.sample(list(KINDS), len(KINDS))  # each has its turn before any has another
            name = bag.pop()
            away_s = self._chance.uniform(*STORE_AWAY_S)
            at = time.monotonic()
            if not await (self._kill_store(name, away_s) if name.startswith("store") else self._kill_role(name)):
                say(f"{name} is not up: its turn comes again")
                bag.insert(0, name)
                continue
            say(f"killed -9 {name}; load average {os.getloadavg()[0]:.1f}")
            self.kills.append((at, name))

    async def _kill_store(self, name: str, away_s: float) -> bool:
        was_up = await self.store.kill()
        if name == "store full":
            await self.store.start(full=True)
        await asyncio.sleep(away_s)
        await self.store.kill()
        await self.store.start()
        return was_up

    async def _kill_role(self, name: str) -> bool:
        run = read_run_file(self.settings)
        pid = next((role.pid for role in (run.roles if run else ()) if role.name == name), None)
        if pid is None:
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    async def hang_up(self, talks: list[Talk]) -> None:
        for talk in talks:
            talk.lasted_ns = time.monotonic_ns() - talk.began_ns
            for task in talk.tasks:
                task.cancel()
            await asyncio.gather(*talk.tasks, return_exceptions=True)
            for side in talk.sides:
                await side.leave()
            while True:
                try:
                    await talk.sides[0].ask("POST", f"/sessions/{talk.session_id}/end")
                    break
                except Refused:
                    break
                except TROUBLE:
                    await asyncio.sleep(0.5)

    async def judge(self, http: aiohttp.ClientSession, talks: list[Talk]) -> dict[str, Any]:
        """Wait for the recordings, as anybody would, and hold them against what came through."""
        headers, _ = await sign_in(http, self.turnpike.url, "compliance")
        out: dict[str, Any] = {"calls": len(talks), "recordings": 0, "kills": len(self.kills)}
        out |= {"worst_loss_ms": 0, "unsigned": 0, "unverified": 0, "killed": killed(name for _, name in self.kills)}
        heard = [heard_percent(side.heard, talk.lasted_ns) for talk in talks for side in talk.sides]
        out["least_heard_percent"] = round(min(heard, default=0.0), 1)
        until = time.monotonic() + self.options.settle
        for talk in talks:
            found = await self._signed(http, headers, talk, until)
            if found is None:
                out["unsigned"] += 1
                out["unverified"] += 1
                continue
            out["recordings"] += 1
            out["unverified"] += not await self._verified(found["id"])
            kept = await self._kept(http, headers, found["id"])
            for side, other in (talk.sides, talk.sides[::-1]):
                for source, each_ns in SOURCES.items():
                    missing = other.heard.get(source, set()) - kept.get((side.id, source), set())
                    worst_ns, where_ns = longest_hole(missing, each_ns)
                    out["worst_loss_ms"] = max(out["worst_loss_ms"], worst_ns // 1_000_000)
                    if worst_ns > TOLD_FROM_NS:
                        near = [(name, round(where_ns / 1e9 - at, 1)) for at, name in self.kills]
                        near = [each for each in near if abs(each[1]) < 5]
                        say(f"  {talk.session_id} {source}: {worst_ns / 1e6:.0f} ms missing, seconds after {near}")
        return out

    async def _signed(self, http: aiohttp.ClientSession, headers: Any, talk: Talk, until: float) -> Any:
        url = f"{self.turnpike.url}/api/v1/recordings"
        found: list[Any] = []
        while time.monotonic() < until:
            with contextlib.suppress(*TROUBLE):
                async with http.get(url, params={"session": talk.session_id}, headers=headers) as answer:
                    found = (await answer.json())["recordings"]
                if found and found[0]["state"] == "ready" and found[0]["signed"]:
                    return found[0]
            await asyncio.sleep(0.3)
        say(f"not signed: {found}")
        return None

    async def _verified(self, recording: str) -> bool:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "signaling.cli", "verify", f"recordings/1/{recording}"),
            env=self.turnpike.environment(),
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await process.communicate()
        if process.returncode != 0:
            say(f"{recording} does not verify: {told.decode()}")
        return process.returncode == 0

    async def _kept(self, http: aiohttp.ClientSession, headers: Any, recording: str) -> dict[tuple[str, str], set[int]]:
        """(participant, source) → stamps in the recording."""
        url = f"{self.turnpike.url}/api/v1/recordings/{recording}/access"
        async with http.post(url, json={"reason": "Counting what was recorded"}, headers=headers) as answer:
            answer.raise_for_status()
            streams = (await answer.json())["streams"]
        kept: dict[tuple[str, str], set[int]] = {}
        for stream in streams:
            async with http.get(self.turnpike.url + stream["url"]) as answer:
                answer.raise_for_status()
                data = await answer.read()
            for kind, stamps in stamps_of(data).items():
                source = "camera" if kind == "video" else "microphone"
                kept.setdefault((stream["participant_id"], source), set()).update(stamps)
        return kept


def stamps_of(data: bytes) -> dict[str, set[int]]:
    """Kind → stamps of the packets in a file, without decoding."""
    out: dict[str, set[int]] = {"audio": set(), "video": set()}
    with av.open(io.BytesIO(data)) as container:
        opened: Any = container
        for packet in opened.demux():
            found = stamp_in(bytes(packet)) if packet.size else None
            if found is not None:
                out[packet.stream.type].add(found)
    return out


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """The whole run; returns the figures."""
    folder = Path(tempfile.mkdtemp(prefix="tp-store-"))
    store = Store(folder)
    await store.start()
    os.environ.update(KEYS)  # as the commands of this bench need them too
    env = {
        "TURNPIKE_WORKERS": "2",
        "TURNPIKE_OBJECTS": "s3://bucket/chaos",
        "TURNPIKE_OBJECTS_ENDPOINT": store.url,
        "TURNPIKE_SPOOL_FREE_MIN_BYTES": "0",
    }
    try:
        async with Installation(env=env) as turnpike, aiohttp.ClientSession() as http:
            chaos = Chaos(turnpike, store, options)
            try:
                talks = await chaos.talk(http)
                say(f"{len(talks)} calls")
                await chaos.kill_for(options.seconds)
                say("hanging up")
                await chaos.hang_up(talks)
                figures = await chaos.judge(http, talks)
                for talk in talks:
                    for side in talk.sides:
                        await side.close()
                return figures
            except Exception:
                print(turnpike.log_tail(60), file=sys.stderr)
                raise
            finally:
                if options.keep_log is not None:
                    options.keep_log.write_text(turnpike.log_text())
    finally:
        await store.kill()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=90, help="of killing")
    parser.add_argument("--settle", type=float, default=180, help="seconds until all must be signed")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--keep-log", type=Path, help="put the installation's log there")
    options = parser.parse_args()
    announce("av")
    figures = asyncio.run(run(options))
    missed = wrong(figures)
    for one in missed:
        say(f"not as it has to be: {one}")
    print(json.dumps(figures))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
