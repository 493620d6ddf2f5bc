"""Jobs on recordings: exports, compositions, previews. queued → running → done | failed | cancelled.

A recorder leases the job it works on, from the claim to the end of the process that does it; when the recorder dies,
the lease runs out and another one begins anew, a bounded number of times. Each lease has a number of its own, which
whoever changes the job has to name. What a cancelled or dead attempt had stored is deleted.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import secrets
from collections.abc import Sequence
from typing import Any, Final

from config.clock import Clock
from config.database import ALL_TENANTS
from config.ids import PublicId, RecordingId, TenantId, UserId, new_public_id
from recorder import audit
from recorder.catalogue import RETRIEVABLE, Details, Recordings

LEASE_MS: Final = 30_000
ATTEMPTS_MAX: Final = 3
"""Tries before a job fails; retrying by hand begins a new count."""
WAIT_MS: Final = 10_000
"""Pause before the second try; doubled for the third."""
OPEN_MAX: Final = 50
"""Jobs of one tenant that people asked for and that wait or run."""
SHOWN_MAX: Final = 100
PREPARED_AT_ONCE: Final = 20
TOKEN_TTL_MS: Final = 15 * 60_000
EXPORT_KEPT_MS: Final = 24 * 3_600_000
"""An export is there for so long; then it is asked for, and made, again."""
OPEN: Final = ("queued", "running")


class Cancelled(Exception):
    """Somebody wants no more of this job, or another recorder took it over."""


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One job."""

    id: int
    tenant_id: TenantId
    public_id: PublicId
    recording_id: RecordingId
    recording_public_id: PublicId
    kind: str
    layout: str | None
    user_id: UserId | None
    user_public_id: PublicId | None
    user_name: str | None
    reason: str | None
    state: str
    failure: str | None
    attempts: int
    lease: int
    """Of the claim that this is; no other claim has the same."""
    progress: int
    outputs: list[int]
    created_at_ms: int
    finished_at_ms: int | None


_COLUMNS: Final = (
    "j.id, j.tenant_id, j.public_id, j.recording_id, r.public_id as recording_public_id, j.kind, j.layout, j.user_id,"
    " u.public_id as user_public_id, u.name as user_name, j.reason, j.state, j.failure, j.attempts, j.lease,"
    " j.progress, j.outputs, (extract(epoch from j.created_at) * 1000)::bigint as created_at_ms,"
    " (extract(epoch from j.finished_at) * 1000)::bigint as finished_at_ms"
)
_FROM: Final = (
    " from recording_job j join recording r on r.tenant_id = j.tenant_id and r.id = j.recording_id"
    " left join app_user u on u.tenant_id = j.tenant_id and u.id = j.user_id"
)


class Jobs:
    """The jobs of all tenants. Methods raise what asyncpg raises while PostgreSQL is away."""

    def __init__(self, recordings: Recordings, clock: Clock) -> None:
        self._recordings = recordings
        self._database = recordings.database
        self._clock = clock

    # --- for those who ask --------------------------------------------------------------------------------------

    async def ask(
        self, recording: Details, user_id: UserId, kind: str, layout: str | None, entry: audit.NewEntry
    ) -> Job | None:
        """A job; None while too many are open. Audited in the same transaction.

        A composition or preview that is there already, or being made, is not made again: that job is the answer.
        """
        tenant = recording.tenant_id
        async with self._database.transaction(tenant) as connection:
            open_ = await _open_jobs(connection, tenant)
            known = None
            if kind != "export":
                known = await connection.fetchval(_SAME, tenant, recording.id, kind, layout)
            if known is None:
                if open_ >= OPEN_MAX:
                    return None
                known = await _insert(connection, recording, kind, layout, user_id, entry.reason, self._now())
            details = {**entry.details, "job": known, **({"layout": layout} if layout else {})}
            await audit.append(connection, dataclasses.replace(entry, details=details))
            return await _find(connection, tenant, known)

    async def prepare(self) -> int:
        """Ask for what the policy wants made of each recording that has become ready: of how many it was asked."""
        async with self._database.transaction(ALL_TENANTS) as connection:
            rows = await connection.fetch(_UNPREPARED, PREPARED_AT_ONCE)
        prepared = 0
        for row in rows:
            recording = await self._recordings.find(row["tenant_id"], row["public_id"])
            if recording is None:
                continue
            prepared += 1
            async with self._database.transaction(recording.tenant_id) as connection:
                first = await connection.fetchval(
                    "update recording set prepared = true where tenant_id = $1 and id = $2 and not prepared"
                    " and state = 'ready' returning true",
                    recording.tenant_id,
                    recording.id,
                )
                wanted: list[tuple[str, str | None]] = [
                    ("composition", layout) for layout in dict.fromkeys(row["compose"] or ())
                ]
                if row["preview"]:
                    wanted.insert(0, ("preview", None))
                for kind, layout in wanted if first else ():
                    await _insert(connection, recording, kind, layout, None, None, self._now())
        return prepared

    async def find(self, tenant: TenantId, public_id: str) -> Job | None:
        """One job."""
        async with self._database.transaction(tenant) as connection:
            return await _find(connection, tenant, public_id)

    async def of(self, recording: Details) -> list[Job]:
        """A recording's jobs, newest first."""
        async with self._database.transaction(recording.tenant_id) as connection:
            rows = await connection.fetch(
                f"select {_COLUMNS} {_FROM} where j.tenant_id = $1 and j.recording_id = $2 order by j.id desc limit $3",
                recording.tenant_id,
                recording.id,
                SHOWN_MAX,
            )
        return [Job(**dict(row)) for row in rows]

    async def change(self, job: Job, states: tuple[str, ...], state: str, entry: audit.NewEntry) -> str:
        """Into another state, from one of ``states``; audited in the same transaction: ``done``, ``wrong_state``, or
        ``too_many`` that wait already."""
        async with self._database.transaction(job.tenant_id) as connection:
            if state == "queued" and await _open_jobs(connection, job.tenant_id) >= OPEN_MAX:
                return "too_many"
            done = await connection.fetchval(
                _CHANGE,
                job.tenant_id,
                job.id,
                list(states),
                state,
                self._now(),
            )
            if not done:
                return "wrong_state"
            await audit.append(connection, entry)
            return "done"

    async def grant(self, job: Job, entry: audit.NewEntry) -> tuple[str, int] | None:
        """Leave to download an export: (token, when it expires). The grant before it is void. None: it is not done."""
        token, expires_at_ms = secrets.token_urlsafe(32), self._clock.wall_ms() + TOKEN_TTL_MS
        async with self._database.transaction(job.tenant_id) as connection:
            done = await connection.fetchval(
                "update recording_job set token_sha256 = $3, token_expires_at = $4"
                " where tenant_id = $1 and id = $2 and state = 'done' returning true",
                job.tenant_id,
                job.id,
                hashlib.sha256(token.encode()).digest(),
                _time(expires_at_ms),
            )
            if not done:
                return None
            await audit.append(connection, entry)
        return token, expires_at_ms

    async def granted(self, token: str) -> tuple[Job, bool] | None:
        """(the export that a token is for, whether the token has expired)."""
        async with self._database.transaction(ALL_TENANTS) as connection:
            row = await connection.fetchrow(
                f"select {_COLUMNS}, j.token_expires_at <= $2 as expired {_FROM}"
                " where j.token_sha256 = $1 and j.state = 'done' and u.disabled_at is null",
                hashlib.sha256(token.encode()).digest(),
                self._now(),
            )
        if row is None:
            return None
        values = dict(row)
        expired = values.pop("expired")
        return Job(**values), expired

    async def plan(self, job: Job) -> str | None:
        """What an export's bundle holds, as ``bundle.pack`` told; None: it is there no more."""
        async with self._database.transaction(job.tenant_id) as connection:
            plan: str | None = await connection.fetchval(
                "select plan from recording_job where tenant_id = $1 and id = $2", job.tenant_id, job.id
            )
            return plan

    # --- for those who work -------------------------------------------------------------------------------------

    async def claim(self) -> Job | None:
        """The next job to work on, leased to the caller: one that waits, or one whose worker died."""
        now = self._now()
        async with self._database.transaction(ALL_TENANTS) as connection:
            await connection.execute(
                "update recording_job set state = 'failed', failure = 'The job died again and again.', finished_at = $1"
                " where state = 'running' and leased_until < $1 and attempts >= $2",
                now,
                ATTEMPTS_MAX,
            )
            row = await connection.fetchrow(
                "update recording_job set state = 'running', attempts = attempts + 1, lease = lease + 1,"
                " leased_until = $2, progress = 0"
                " where id = (select id from recording_job"
                " where (state = 'queued' and coalesce(wait_until <= $1, true) and coalesce(leased_until < $1, true))"
                " or (state = 'running' and leased_until < $1)"
                " order by kind = 'composition', id limit 1 for update skip locked) returning tenant_id, public_id",
                now,
                _time(self._clock.wall_ms() + LEASE_MS),
            )
            return None if row is None else await _find(connection, row["tenant_id"], row["public_id"])

    async def renew(self, job: Job, progress: int | None = None) -> None:
        """The job is being worked on, and how far it is, if that is known. Raises ``Cancelled`` when it should not be
        any more."""
        async with self._database.transaction(job.tenant_id) as connection:
            if not await connection.fetchval(
                "update recording_job set progress = coalesce($4, progress), leased_until = $5"
                " where tenant_id = $1 and id = $2 and state = 'running' and lease = $3 returning true",
                job.tenant_id,
                job.id,
                job.lease,
                progress,
                _time(self._clock.wall_ms() + LEASE_MS),
            ):
                raise Cancelled

    async def begin_product(self, job: Job) -> int:
        """A number for something that the job makes; what is stored under it is deleted unless the job gets done."""
        async with self._database.transaction(job.tenant_id) as connection:
            number: int | None = await connection.fetchval(
                "update recording set products = products + 1 where tenant_id = $1 and id = $2"  # noqa: S608 - ours
                f" and {RETRIEVABLE} returning products",
                job.tenant_id,
                job.recording_id,
            )
            if number is None or not await connection.fetchval(
                "update recording_job set outputs = outputs || $4::int"
                " where tenant_id = $1 and id = $2 and state = 'running' and lease = $3 returning true",
                job.tenant_id,
                job.id,
                job.lease,
                number,
            ):
                raise Cancelled
            return number

    async def finish(self, job: Job, products: Sequence[dict[str, Any]] = (), plan: str | None = None) -> None:
        """Done, and with what. Raises ``Cancelled`` when nobody wants it any more."""
        made = {product["n"] for product in products}
        async with self._database.transaction(job.tenant_id) as connection:
            if not await connection.fetchval(
                f"select true from recording where tenant_id = $1 and id = $2 and {RETRIEVABLE} for share",  # noqa: S608
                job.tenant_id,
                job.recording_id,
            ):
                raise Cancelled
            if not await connection.fetchval(
                "update recording_job set state = 'done', failure = null, progress = 100, plan = $4::jsonb,"
                " leased_until = null, finished_at = $5,"
                " outputs = array(select n from unnest(outputs) n where not n = any($6::int[]))"
                " where tenant_id = $1 and id = $2 and state = 'running' and lease = $3 returning true",
                job.tenant_id,
                job.id,
                job.lease,
                plan,
                self._now(),
                list(made),
            ):
                raise Cancelled
            for product in products:
                names = ", ".join(product)
                places = ", ".join(f"${place}" for place in range(5, 5 + len(product)))
                await connection.execute(
                    f"insert into recording_product (tenant_id, recording_id, job_id, made_at, {names})"  # noqa: S608 - ours
                    f" values ($1, $2, $3, $4, {places})",
                    job.tenant_id,
                    job.recording_id,
                    job.id,
                    self._now(),
                    *product.values(),
                )

    async def fail(self, job: Job, why: str, *, for_good: bool) -> None:
        """It did not work: never will, or is to be tried again in a while, if there are tries left."""
        again = not for_good and job.attempts < ATTEMPTS_MAX
        wait_ms = WAIT_MS * 2 ** (job.attempts - 1)
        async with self._database.transaction(job.tenant_id) as connection:
            await connection.execute(
                "update recording_job set state = $4, failure = $5, leased_until = null, progress = 0, wait_until = $6,"
                " finished_at = $7 where tenant_id = $1 and id = $2 and state = 'running' and lease = $3",
                job.tenant_id,
                job.id,
                job.lease,
                "queued" if again else "failed",
                why[:500],
                _time(self._clock.wall_ms() + wait_ms) if again else None,
                None if again else self._now(),
            )

    async def put_back(self, job: Job) -> None:
        """The worker has to stop: the job waits for another one, and the try does not count."""
        async with self._database.transaction(job.tenant_id) as connection:
            await connection.execute(
                "update recording_job set state = 'queued', attempts = attempts - 1, leased_until = null, progress = 0"
                " where tenant_id = $1 and id = $2 and state = 'running' and lease = $3",
                job.tenant_id,
                job.id,
                job.lease,
            )

    async def expire_exports(self) -> int:
        """Throw away what was made to be taken out of the house and lies there: how many exports."""
        async with self._database.transaction(ALL_TENANTS) as connection:
            rows = await connection.fetch(_EXPIRED, self._now(), _time(self._clock.wall_ms() - EXPORT_KEPT_MS))
        return len(rows)

    def _now(self) -> datetime.datetime:
        return _time(self._clock.wall_ms())


_CHANGE: Final = """
update recording_job set state = $4, failure = null, attempts = 0, progress = 0, wait_until = null, plan = null,
  token_sha256 = null, outputs = outputs || array(select p.n from recording_product p where p.tenant_id = $1
    and p.recording_id = recording_job.recording_id and p.job_id = recording_job.id),
  finished_at = case when $4 = 'queued' then null else $5::timestamptz end
where tenant_id = $1 and id = $2 and state = any($3) returning true
"""
_EXPIRED: Final = """
update recording_job j set state = 'cancelled', failure = 'An export is kept for a day. Ask for another.',
  plan = null, token_sha256 = null, finished_at = $1, outputs = outputs || array(select p.n from recording_product p
    where p.tenant_id = j.tenant_id and p.recording_id = j.recording_id and p.job_id = j.id)
where kind = 'export' and state = 'done' and finished_at <= $2 returning id
"""
_SAME: Final = """
select public_id from recording_job where tenant_id = $1 and recording_id = $2 and kind = $3
  and layout is not distinct from $4 and state in ('queued', 'running', 'done') order by id desc limit 1
"""
_UNPREPARED: Final = """
select r.tenant_id, r.public_id, coalesce(p.preview, true) as preview, p.compose from recording r
left join retention_policy p on p.tenant_id = r.tenant_id and p.kind = r.kind
where r.state = 'ready' and not r.prepared order by r.id limit $1
"""


async def _open_jobs(connection: Any, tenant: TenantId) -> int:
    """How many jobs that people asked for wait or run. Until the transaction is over nobody else adds one."""
    await connection.execute("select pg_advisory_xact_lock(hashtext('job'), $1::int)", tenant)
    count: int = await connection.fetchval(
        "select count(*) from recording_job where tenant_id = $1 and state = any($2) and user_id is not null",
        tenant,
        list(OPEN),
    )
    return count


async def _insert(
    connection: Any,
    recording: Details,
    kind: str,
    layout: str | None,
    user_id: UserId | None,
    reason: str | None,
    now: datetime.datetime,
) -> PublicId:
    public_id = new_public_id("job")
    await connection.execute(
        "insert into recording_job (tenant_id, public_id, recording_id, kind, layout, user_id, reason, created_at)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8)",
        recording.tenant_id,
        public_id,
        recording.id,
        kind,
        layout,
        user_id,
        reason,
        now,
    )
    return public_id


async def _find(connection: Any, tenant: TenantId, public_id: str) -> Job | None:
    row = await connection.fetchrow(
        f"select {_COLUMNS} {_FROM} where j.tenant_id = $1 and j.public_id = $2", tenant, public_id
    )
    return None if row is None else Job(**dict(row))


def _time(wall_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(wall_ms / 1000, datetime.UTC)
