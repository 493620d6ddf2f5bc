"""Exports: asked for with a reason, prepared by a recorder as a job, downloaded with a grant of their own.

queued → running → ready | failed | cancelled; failed → queued again on demand. A recorder leases the job it works on;
when it dies, the lease runs out and another one begins anew.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import hashlib
import secrets
from typing import Any, Final

from config.clock import Clock
from config.database import ALL_TENANTS
from config.ids import PublicId, TenantId, UserId, new_public_id
from config.keys import SigningKey, UnknownKey
from config.logs import get_log
from config.objects import ObjectStoreError
from recorder import audit, bundle
from recorder.catalogue import Details, Recordings
from recorder.errors import SegmentCorrupt

log = get_log("recorder.exports")

LEASE_MS: Final = 60_000
TELL_BYTES: Final = 8 * 1024 * 1024
"""How much is read between two looks at whether the job was cancelled."""
ATTEMPTS_MAX: Final = 3
"""Tries that may die with their recorder before the job fails; asking again begins a new count."""
OPEN_MAX: Final = 20
"""Jobs of one tenant that may wait or run at a time."""
TOKEN_TTL_MS: Final = 15 * 60_000
COLUMNS: Final = (
    "e.id, e.tenant_id, e.public_id, e.user_id, r.public_id as recording_public_id, e.reason, e.state, e.failure,"
    " e.attempts, e.done_bytes, e.total_bytes, (extract(epoch from e.created_at) * 1000)::bigint as created_at_ms"
)
_FROM: Final = " from recording_export e join recording r on r.tenant_id = e.tenant_id and r.id = e.recording_id"


class Cancelled(Exception):
    """Somebody wants no more of this job, or another recorder took it over."""


@dataclasses.dataclass(frozen=True, slots=True)
class Export:
    """One job."""

    id: int
    tenant_id: TenantId
    public_id: PublicId
    user_id: UserId
    recording_public_id: PublicId
    reason: str
    state: str
    failure: str | None
    attempts: int
    done_bytes: int
    total_bytes: int
    created_at_ms: int


class Exports:
    """The jobs of all tenants. Methods raise what asyncpg raises while PostgreSQL is away."""

    def __init__(self, recordings: Recordings, clock: Clock) -> None:
        self._recordings = recordings
        self._clock = clock
        self._database = recordings.database

    async def ask(self, recording: Details, user_id: UserId, entry: audit.NewEntry) -> Export | None:
        """A job; None while too many are open. Audited in the same transaction."""
        public_id = new_public_id("exp")
        async with self._database.transaction(recording.tenant_id) as connection:
            await connection.execute("select pg_advisory_xact_lock(hashtext('export'), $1::int)", recording.tenant_id)
            waiting = await connection.fetchval(
                "select count(*) from recording_export where tenant_id = $1 and state in ('queued', 'running')",
                recording.tenant_id,
            )
            if waiting >= OPEN_MAX:
                return None
            await audit.append(connection, dataclasses.replace(entry, details={"export": public_id}))
            await connection.execute(
                "insert into recording_export (tenant_id, public_id, recording_id, user_id, reason, total_bytes,"
                " created_at) values ($1, $2, $3, $4, $5, $6, $7)",
                recording.tenant_id,
                public_id,
                recording.id,
                user_id,
                entry.reason,
                sum(stream.file_bytes or 0 for stream in recording.streams),
                self._now(),
            )
            return await _find(connection, recording.tenant_id, public_id)

    async def find(self, tenant: TenantId, public_id: str) -> Export | None:
        """One job."""
        async with self._database.transaction(tenant) as connection:
            return await _find(connection, tenant, public_id)

    async def change(self, export: Export, states: tuple[str, ...], state: str, entry: audit.NewEntry) -> bool:
        """Into another state, if it is in one of ``states``; audited in the same transaction."""
        async with self._database.transaction(export.tenant_id) as connection:
            done = await connection.fetchval(
                "update recording_export set state = $4, failure = null, attempts = 0, leased_until = null,"
                " token_sha256 = null, plan = null"
                " where tenant_id = $1 and id = $2 and state = any($3) returning true",
                export.tenant_id,
                export.id,
                list(states),
                state,
            )
            if done:
                await audit.append(connection, entry)
            return bool(done)

    async def grant(self, export: Export, entry: audit.NewEntry) -> tuple[str, int] | None:
        """Leave to download: (token, when it expires). The grant before it is void. None: it is not ready."""
        token, expires_at_ms = secrets.token_urlsafe(32), self._clock.wall_ms() + TOKEN_TTL_MS
        async with self._database.transaction(export.tenant_id) as connection:
            done = await connection.fetchval(
                "update recording_export set token_sha256 = $3, token_expires_at = $4"
                " where tenant_id = $1 and id = $2 and state = 'ready' returning true",
                export.tenant_id,
                export.id,
                hashlib.sha256(token.encode()).digest(),
                _time(expires_at_ms),
            )
            if not done:
                return None
            await audit.append(connection, entry)
        return token, expires_at_ms

    async def granted(self, token: str) -> tuple[Export, bool, str] | None:
        """(the job that a token is for, whether the token has expired, the actor's public id)."""
        async with self._database.transaction(ALL_TENANTS) as connection:
            row = await connection.fetchrow(
                f"select {COLUMNS}, e.token_expires_at <= $2 as expired, u.public_id as actor {_FROM}"
                " join app_user u on u.tenant_id = e.tenant_id and u.id = e.user_id"
                " where e.token_sha256 = $1 and e.state = 'ready' and u.disabled_at is null",
                hashlib.sha256(token.encode()).digest(),
                self._now(),
            )
        if row is None:
            return None
        values = dict(row)
        expired, actor = values.pop("expired"), values.pop("actor")
        return Export(**values), expired, actor

    async def plan(self, export: Export) -> list[bundle.Planned]:
        """What the bundle holds."""
        async with self._database.transaction(export.tenant_id) as connection:
            text = await connection.fetchval(
                "select plan from recording_export where tenant_id = $1 and id = $2", export.tenant_id, export.id
            )
        return await asyncio.to_thread(bundle.unpack, text)

    # --- the recorder's side ----------------------------------------------------------------------------------------

    async def work(self, key: SigningKey) -> bool:
        """Do one waiting job; whether there was one."""
        export = await self._claim()
        if export is None:
            return False
        try:
            await self._prepare(export, key)
            log.info("export ready", export=export.public_id, recording=export.recording_public_id)
        except Cancelled:
            log.info("export cancelled", export=export.public_id)
        except (SegmentCorrupt, UnknownKey) as error:
            log.error("export failed", export=export.public_id, why=f"{type(error).__name__}: {error}")
            await self._finish(export, "failed", f"The recording cannot be read: {error}", None)
        except ObjectStoreError as error:
            log.warning("export waits for the store", export=export.public_id, why=str(error))
            await self._finish(export, "queued" if export.attempts < ATTEMPTS_MAX else "failed", str(error), None)
        return True

    async def _claim(self) -> Export | None:
        async with self._database.transaction(ALL_TENANTS) as connection:
            await connection.execute(
                "update recording_export set state = 'failed', failure = 'The job died again and again.'"
                " where state = 'running' and leased_until < $1 and attempts >= $2",
                self._now(),
                ATTEMPTS_MAX,
            )
            row = await connection.fetchrow(
                "update recording_export set state = 'running', attempts = attempts + 1, leased_until = $2,"
                " done_bytes = 0 where id = (select id from recording_export where state = 'queued' or"
                " (state = 'running' and leased_until < $1) order by id limit 1 for update skip locked)"
                " returning tenant_id, public_id",
                self._now(),
                _time(self._clock.wall_ms() + LEASE_MS),
            )
            return None if row is None else await _find(connection, row["tenant_id"], row["public_id"])

    async def _prepare(self, export: Export, key: SigningKey) -> None:
        recording = await self._recordings.find(export.tenant_id, export.recording_public_id)
        if recording is None or recording.state != "ready":
            raise SegmentCorrupt("it is not ready any more")
        told = 0

        async def progress(done: int) -> None:
            nonlocal told
            if done - told >= TELL_BYTES:
                told = done
                await self._renew(export, done)

        about = {"export": export.public_id, "reason": export.reason, "made_at_ms": self._clock.wall_ms()}
        plan = await bundle.make_plan(self._recordings, recording, key, about, progress)
        await self._finish(export, "ready", None, await asyncio.to_thread(bundle.pack, plan))

    async def _renew(self, export: Export, done: int) -> None:
        async with self._database.transaction(export.tenant_id) as connection:
            if not await connection.fetchval(
                "update recording_export set done_bytes = $4, leased_until = $5"
                " where tenant_id = $1 and id = $2 and state = 'running' and attempts = $3 returning true",
                export.tenant_id,
                export.id,
                export.attempts,
                done,
                _time(self._clock.wall_ms() + LEASE_MS),
            ):
                raise Cancelled

    async def _finish(self, export: Export, state: str, failure: str | None, plan: str | None) -> None:
        async with self._database.transaction(export.tenant_id) as connection:
            if not await connection.fetchval(
                "update recording_export set state = $4, failure = $5, plan = $6::jsonb, leased_until = null,"
                " done_bytes = case when $4 = 'ready' then total_bytes else done_bytes end"
                " where tenant_id = $1 and id = $2 and state = 'running' and attempts = $3 returning true",
                export.tenant_id,
                export.id,
                export.attempts,
                state,
                failure,
                plan,
            ):
                raise Cancelled

    def _now(self) -> datetime.datetime:
        return _time(self._clock.wall_ms())


async def _find(connection: Any, tenant: TenantId, public_id: str) -> Export | None:
    row = await connection.fetchrow(
        f"select {COLUMNS} {_FROM} where e.tenant_id = $1 and e.public_id = $2",
        tenant,
        public_id,
    )
    return None if row is None else Export(**dict(row))


def _time(wall_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(wall_ms / 1000, datetime.UTC)
