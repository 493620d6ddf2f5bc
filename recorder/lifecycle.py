"""The end of recordings: deleted when their time is over, or erased by destroying their key; and proof of both.

Nothing goes while a legal hold stands. First the audit log has it, with the hash of every object, then the catalogue
says so, then the key is destroyed, then the objects go. Each step is noted once it is done, so whatever dies in
between, the next round does the rest: keys first, which nothing can hold up. The rows of the catalogue stay.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from typing import Any, Final, NamedTuple

from config.clock import Clock
from config.database import ALL_TENANTS
from config.ids import TenantId
from config.keys import SigningKey
from config.logs import get_log
from config.objects import ObjectExists, ObjectStoreError
from recorder import audit, holds, metrics
from recorder.catalogue import Details, Recordings
from recorder.retention import DAY_MS, KEEP_DAYS_DEFAULT
from recorder.root import lock_until
from recorder.segments import recording_prefix
from recorder.signed import ANCHOR_FORMAT, envelope

log = get_log("recorder.lifecycle")

BATCH_MAX: Final = 20
"""Recordings that one round looks at, for each thing that is to be done."""
LOCKED_WAIT_MS: Final = 3_600_000
"""Objects that could not be deleted are tried again after this: most are locked, for years."""
HASHES_MAX: Final = 5_000
"""Hashes that one audit entry lists; of more it has the root's, which covers them all."""
END_STATES: Final = ("ready", "failed")
ANCHOR_KEEP_MS: Final = KEEP_DAYS_DEFAULT * DAY_MS
"""An anchor is locked for at least so long, and for as long as any recording that its log tells of is kept."""
RETENTION_ACTOR: Final = "retention policy"


class Refusal(NamedTuple):
    """Why a recording is not deleted or erased."""

    code: str
    message: str


HELD: Final = Refusal("recording_held", "A legal hold stands on the recording: release it first.")
GOING_ON: Final = Refusal("recording_in_progress", "The recording is not complete yet.")
GONE: Final = Refusal("recording_gone", "The recording is gone already.")


class Lifecycle:
    """Deletes, erases, anchors. Methods raise ``ObjectStoreError``, and what asyncpg raises while it is away."""

    def __init__(self, recordings: Recordings, key: SigningKey, clock: Clock, lock_mode: str = "none") -> None:
        self._recordings = recordings
        self._database = recordings.database
        self._key = key
        self._clock = clock
        self._lock_mode = lock_mode

    async def erase(self, recording: Details, entry: audit.NewEntry) -> Refusal | None:
        """Destroy the key at once, so that no copy anywhere can be read any more; None when done. Audited first."""
        refusal = await self._mark(recording, "erased", entry)
        if refusal is None:
            await self._destroy_key(recording)
            await self._try_sweep(recording)
        return refusal

    async def expire(self) -> int:
        """Delete what has been kept for long enough: how many recordings."""
        async with self._database.transaction(ALL_TENANTS) as connection:
            rows = await connection.fetch(_EXPIRED, self._clock.wall_ms(), BATCH_MAX)
        done = 0
        for row in rows:
            recording = await self._recordings.find(row["tenant_id"], row["public_id"])
            if recording is None:
                continue
            entry = audit.NewEntry(
                recording.tenant_id, None, RETENTION_ACTOR, audit.DELETED, recording.public_id, "Its time was over."
            )
            if await self._mark(recording, "expired", entry) is None:
                await self._end(recording)
                done += 1
        return done

    async def sweep_gone(self) -> int:
        """Finish what an earlier round began: how many recordings had a key or objects that should be gone."""
        async with self._database.transaction(ALL_TENANTS) as connection:
            keyed = await connection.fetch(_KEY_STANDS, BATCH_MAX)
            unswept = await connection.fetch(_UNSWEPT, self._now(), LOCKED_WAIT_MS, BATCH_MAX)
        for rows, step in ((keyed, self._end), (unswept, self._try_sweep)):
            for row in rows:
                recording = await self._recordings.find(row["tenant_id"], row["public_id"])
                if recording is not None:
                    await step(recording)
        return len(keyed) + len(unswept)

    async def _end(self, recording: Details) -> None:
        """Key and objects, as far as the stores let us: what fails is tried again, and is in the way of no other."""
        try:
            await self._destroy_key(recording)
        except ObjectStoreError as error:
            log.error("a key that should be destroyed stands", recording=recording.public_id, why=str(error))
            await self._note(recording, "end_tried_at")
            return
        await self._try_sweep(recording)

    async def _mark(self, recording: Details, state: str, entry: audit.NewEntry) -> Refusal | None:
        """From here on there is no way back: audited, and said in the catalogue, in one transaction."""
        key = (recording.tenant_id, recording.id)
        async with self._database.transaction(recording.tenant_id) as connection:
            now = await connection.fetchval(
                "select state from recording where tenant_id = $1 and id = $2 for update", *key
            )
            if now not in END_STATES:
                return GONE if now in ("expired", "erased") else GOING_ON
            if await holds.stands(connection, *key):
                return HELD
            proof = await _proof(connection, recording)
            await audit.append(connection, dataclasses.replace(entry, details={**entry.details, **proof}))
            await connection.execute(
                "update recording set state = $3, story = null where tenant_id = $1 and id = $2", *key, state
            )
            await connection.execute(
                "update recording_job set state = 'cancelled', plan = null, token_sha256 = null"
                " where tenant_id = $1 and recording_id = $2",
                *key,
            )
        metrics.GONE.labels(state).inc()
        log.info("recording gone", recording=recording.public_id, state=state)
        return None

    async def _destroy_key(self, recording: Details) -> None:
        await self._recordings.destroy_key(recording)
        await self._note(recording, "key_destroyed_at")

    async def _try_sweep(self, recording: Details) -> None:
        """Delete the objects. Without the key they say nothing: those that are locked go when their lock is over."""
        left, why = 0, ""
        try:
            async for key in self._recordings.objects.keys(recording_prefix(recording.tenant_id, recording.public_id)):
                try:
                    await self._recordings.objects.delete(key)
                except ObjectStoreError as error:
                    left, why = left + 1, str(error)
        except ObjectStoreError as error:
            left, why = left + 1, str(error)
        if left:
            log.warning("objects not deleted", recording=recording.public_id, left=left, why=why)
        await self._note(recording, *(("end_tried_at",) if left else ("end_tried_at", "swept_at")))

    async def _note(self, recording: Details, *steps: str) -> None:
        """That steps were taken now. Who has nothing in the store any more has no bytes."""
        sets = ", ".join([f"{step} = $3" for step in steps] + (["bytes = 0"] if "swept_at" in steps else []))
        async with self._database.transaction(recording.tenant_id) as connection:
            await connection.execute(
                f"update recording set {sets} where tenant_id = $1 and id = $2",  # noqa: S608 - names are ours
                recording.tenant_id,
                recording.id,
                self._now(),
            )

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._clock.wall_ms() / 1000, datetime.UTC)

    # --- the audit log's heads ----------------------------------------------------------------------------------

    async def anchor(self) -> int:
        """Put the head of each tenant's audit log into the object store, signed, once a day: how many were put."""
        day = datetime.datetime.fromtimestamp(self._clock.wall_ms() / 1000, datetime.UTC).date()
        async with self._database.transaction(ALL_TENANTS) as connection:
            rows = await connection.fetch(_HEADS, day)
        for row in rows:
            await self._anchor(TenantId(row["tenant_id"]), day, row)
        return len(rows)

    async def _anchor(self, tenant: TenantId, day: datetime.date, row: Any) -> None:
        key = f"audit/{tenant}/{day.isoformat()}.json"
        statement = {"tenant": tenant, "day": day.isoformat(), "n": row["n"], "hash": row["hash"].hex()}
        data = envelope(self._key, ANCHOR_FORMAT, statement)
        try:
            lock = lock_until(self._lock_mode, max(row["keep_ms"], self._clock.wall_ms() + ANCHOR_KEEP_MS))
            await self._recordings.objects.put(key, data, sha256=hashlib.sha256(data).digest(), lock=lock)
        except ObjectExists:  # by one who died before noting it, or by another recorder: theirs counts
            log.info("the audit log was anchored before", key=key)
        async with self._database.transaction(tenant) as connection:
            await connection.execute(
                "insert into audit_anchor (tenant_id, day, n, hash, object_key) values ($1, $2, $3, $4, $5)"
                " on conflict do nothing",
                tenant,
                day,
                row["n"],
                row["hash"],
                key,
            )


async def _proof(connection: Any, recording: Details) -> dict[str, Any]:
    """What was there: the root's hash, and those of all objects."""
    rows = await connection.fetch(
        "select object_key, encode(object_sha256, 'hex') as sha256 from recording_segment"
        " where tenant_id = $1 and recording_id = $2 order by object_key limit $3",
        recording.tenant_id,
        recording.id,
        HASHES_MAX,
    )
    return {
        "root_key": recording.root_key,
        "root_sha256": None if recording.root_sha256 is None else recording.root_sha256.hex(),
        "retain_until_ms": recording.retain_until_ms,
        "objects": {row["object_key"]: row["sha256"] for row in rows},
    }


_EXPIRED: Final = """
select tenant_id, public_id from recording r where state in ('ready', 'failed') and retain_until_ms <= $1
  and not exists (select from legal_hold h
    where h.tenant_id = r.tenant_id and h.recording_id = r.id and h.released_at is null)
order by retain_until_ms limit $2
"""
_KEY_STANDS: Final = """
select tenant_id, public_id from recording
where state in ('expired', 'erased') and swept_at is null and key_destroyed_at is null
order by end_tried_at nulls first, id limit $1
"""
_UNSWEPT: Final = """
select tenant_id, public_id from recording
where state in ('expired', 'erased') and swept_at is null and key_destroyed_at is not null
  and (end_tried_at is null or end_tried_at <= $1::timestamptz - $2 * interval '1 millisecond')
order by end_tried_at nulls first, id limit $3
"""
_HEADS: Final = """
select distinct on (tenant_id) tenant_id, n, hash,
  (select coalesce(max(retain_until_ms), 0) from recording r where r.tenant_id = l.tenant_id) as keep_ms
from audit_log l
where not exists (select from audit_anchor a where a.tenant_id = l.tenant_id and a.day >= $1)
order by tenant_id, n desc
"""
