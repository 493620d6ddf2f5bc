"""A database, a spool and an object store for measuring the recorder alone, and calls that are spooled into it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg

from bench.recorder_media import AUDIO_SSRC, OPUS, VIDEO_SSRC, VP8, Sent
from config.clock import SystemClock
from config.database import Database
from config.embedded_postgres import EmbeddedPostgres
from config.ids import DEFAULT_TENANT, SessionId, UserId, new_public_id
from config.keys import KeyRing, SigningKey, WrappedKeys
from config.migrate import migrate
from config.objects_open import open_keys, open_objects
from config.settings import Settings
from recorder.catalogue import CONSENT_TEXT, Recordings
from recorder.job import Services
from recorder.root import Signer
from recorder.store import Store
from relay.plane import SpoolSink, StreamHandle
from relay.rtcp import ntp64_of
from relay.spool import PartHeader, PartParticipant, SpoolPart, SpoolStream, SpoolTrack

RECORDER: Final = (
    "import sys; from config.process import run_role; from config.settings import Settings; "
    "from recorder.service import main; sys.exit(run_role('recorder', Settings(), main))"
)
TICKS: Final = os.sysconf("SC_CLK_TCK")
REPORT_EVERY_MS: Final = 1_000


class Call(NamedTuple):
    """A call to be recorded: what a worker would be told of it."""

    header: PartHeader
    data_key: bytes


class World:
    """One installation's database and directories, without its roles. Made by ``world``."""

    def __init__(self, settings: Settings, owner: Any, recordings: Recordings, services: Services, pid: int) -> None:
        self.settings = settings
        self.recordings = recordings
        self.services = services
        self.postgres_pid = pid
        self._owner = owner
        self._sessions = 100

    async def call(self, participants: int = 2) -> Call:
        """A recording that both have agreed to, and whose session is about to begin."""
        self._sessions += 1
        session, public, people = SessionId(self._sessions), new_public_id("ses"), []
        for role in ("client", "provider")[:participants]:
            public_id = new_public_id("usr")
            user_id = await self._owner.fetchval(
                "insert into app_user (tenant_id, public_id, email, name, role, password_hash)"
                " values (1, $1::text, $1::text || '@bench.test', $1::text, $2, '') returning id",
                public_id,
                role,
            )
            people.append((UserId(user_id), public_id, str(public_id), role))
            await self.recordings.give_consent(DEFAULT_TENANT, session, UserId(user_id), CONSENT_TEXT.version, True)
        now_ms = time.time_ns() // 1_000_000
        new = await self.recordings.create(DEFAULT_TENANT, session, public, "video", people, now_ms)
        header = PartHeader(
            tenant_id=1,
            session_id=session,
            session_public_id=public,
            recording_public_id=new.public_id,
            epoch=1,
            worker_id="bench",
            key_id=new.key_id,
            wrapped_key=new.wrapped_key,
            started_wall_ms=time.time_ns() // 1_000_000,
            started_monotonic_ns=time.monotonic_ns(),
            participants=tuple(PartParticipant(user_id=u, public_id=p, name=n, role=r) for u, p, n, r in people),
        )
        return Call(header, self.services.keys.unwrap(new.key_id, new.wrapped_key, new.public_id))

    async def end(self, calls: list[Call]) -> None:
        """The sessions are over: what is stored may be signed."""
        for call in calls:
            await self.recordings.end(DEFAULT_TENANT, SessionId(call.header.session_id), time.time_ns() // 1_000_000)

    async def ready(self, calls: list[Call], timeout_s: float) -> None:
        """Wait until all are stored, verified and signed. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            for call in calls:
                while True:
                    found = await self.recordings.find(DEFAULT_TENANT, call.header.recording_public_id)
                    if found is not None and found.state == "ready":
                        break
                    await asyncio.sleep(0.2)

    def environment(self) -> dict[str, str]:
        """For roles of this installation."""
        return {
            **os.environ,
            "TURNPIKE_DATA": str(self.settings.data),
            "DATABASE_URL": self.settings.database_url or "",
            "TURNPIKE_SPOOL_FREE_MIN_BYTES": "0",
            "TURNPIKE_JOBS": "0",  # recording alone is measured
        }

    @contextlib.asynccontextmanager
    async def recorder(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """The recorder role as a process of its own."""
        with (self.settings.data / "recorder.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", RECORDER, env=self.environment(), stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A fresh one in a temporary directory, removed at the end."""
    data = Path(tempfile.mkdtemp(prefix="tp-"))
    try:
        async with contextlib.AsyncExitStack() as stack:
            postgres = await stack.enter_async_context(EmbeddedPostgres(data))
            await migrate(postgres.owner_url)
            settings = Settings(data=data, database_url=postgres.app_url, database_owner_url=postgres.owner_url)
            owner = await asyncpg.connect(postgres.owner_url, server_settings={"turnpike.tenant": "*"})
            stack.push_async_callback(owner.close)
            database = await stack.enter_async_context(await Database.open(postgres.app_url, name="bench"))
            executor = stack.enter_context(ThreadPoolExecutor(2))
            keys, wrapped = KeyRing.from_settings(settings), WrappedKeys(open_keys(settings))
            objects = open_objects(settings)
            store, clock = Store(database), SystemClock()
            recordings = Recordings(database, keys, wrapped, objects, clock)
            signer = Signer(store, objects, keys, wrapped, SigningKey.from_settings(settings), clock)
            services = Services(store, objects, keys, executor, settings.segment_ms, signer, recordings)
            pid = int((postgres.directory / "postmaster.pid").read_text().split()[0])
            yield World(settings, owner, recordings, services, pid)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def tracks_of(header: PartHeader, part: SpoolPart, now_ns: int) -> list[tuple[SpoolStream, SpoolStream]]:
    """A stream for sound and one for the picture of each participant."""
    out = []
    for person in header.participants:
        sound = SpoolTrack(
            user_id=person.user_id,
            source="microphone",
            ssrc=AUDIO_SSRC,
            kind="audio",
            clock_rate=48_000,
            codecs={OPUS: "opus"},
        )
        picture = SpoolTrack(
            user_id=person.user_id,
            source="camera",
            ssrc=VIDEO_SSRC,
            kind="video",
            clock_rate=90_000,
            codecs={VP8: "VP8"},
        )
        out.append((part.add_stream(sound, now_ns), part.add_stream(picture, now_ns)))
    return out


class Speaker:
    """One recorded call, fed from packets that all calls share."""

    def __init__(self, streams: list[tuple[SpoolStream, SpoolStream]], packets: list[Sent], start_ns: int) -> None:
        self._streams = streams
        self._packets = packets
        self._start_ns = start_ns
        self._next = 0
        self._report_ms = 250.0
        self.tap: list[list[SpoolSink]] = [[each.sink for each in pair] for pair in streams]

    def advance(self, now_ns: int) -> bool:
        """Spool what is due; whether there is more to come."""
        packets, at = self._packets, self._next
        until_ms = (now_ns - self._start_ns) / 1e6
        while at < len(packets) and packets[at].at_ms <= until_ms:
            at_ms, is_video, data = packets[at]
            if at_ms >= self._report_ms:
                self._report(at_ms)
            for pair in self.tap:
                pair[is_video](StreamHandle(0), now_ns, data)
            at += 1
        self._next = at
        return at < len(packets)

    def rewind(self, start_ns: int) -> None:
        """From the beginning once more."""
        self._start_ns, self._next, self._report_ms = start_ns, 0, float("inf")

    def _report(self, at_ms: float) -> None:
        self._report_ms += REPORT_EVERY_MS
        arrival_ns = self._start_ns + round(at_ms * 1e6)
        ntp64 = ntp64_of(time.time_ns() - time.monotonic_ns() + arrival_ns)
        for sound, picture in self._streams:
            sound.sender_report(arrival_ns, AUDIO_SSRC, ntp64, round(at_ms * 48) & 0xFFFF_FFFF)
            picture.sender_report(arrival_ns, VIDEO_SSRC, ntp64, round(at_ms * 90) & 0xFFFF_FFFF)

    def end(self, now_ns: int) -> None:
        """Both hang up."""
        for pair in self._streams:
            for stream in pair:
                stream.end(now_ns)


def cpu_s(pid: int) -> float:
    """CPU time of a process with all children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(each) for each in fields[11:15]) / TICKS


def family_cpu_s(pid: int) -> float:
    """CPU time of a process and all its children, living or dead."""
    total = cpu_s(pid)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == pid:
                total += sum(int(each) for each in fields[11:15]) / TICKS
    return total


def as_line(figures: dict[str, Any]) -> str:
    """JSON on one line."""
    return json.dumps(figures, separators=(", ", ": "))
