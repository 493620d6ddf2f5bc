"""The root of a recording: one signed statement over the manifests of all its parts, made when the session is over.

Also over who agreed to what, over the head of the audit log at that moment, and over the story (chat and events of the
session), which is sealed with the recording's key and stored beside it. A part that turns up later gets another root,
which names the one before. Whatever is killed meanwhile, the next try comes to the same end: a root that was stored but
not noted is read back, checked and noted.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from typing import Any, Final

from config.clock import Clock
from config.database import ALL_TENANTS
from config.ids import TenantId
from config.keys import KeyRing, SigningKey, UnknownKey, WrappedKeys
from config.logs import get_log
from config.objects import ObjectExists, ObjectLock, ObjectMissing, ObjectStore, ObjectStoreError
from recorder import announcements
from recorder.errors import RecorderError, SegmentCorrupt, Unavailable
from recorder.manifest import canonical
from recorder.segments import STORY, Name, Sealer, recording_prefix
from recorder.signed import ROOT_FORMAT, Unsigned, envelope, opened
from recorder.store import Store

log = get_log("recorder.root")

UNSIGNED_MAX: Final = 50
"""Recordings looked at in one go; the rest waits for the next."""
AGAIN_MS: Final = 60_000
"""What could not be signed for a fault of its own is tried again after this."""
FAILURE_CHARS_MAX: Final = 500


def lock_until(mode: str, until_ms: int) -> ObjectLock | None:
    """The lock of a settings' mode; None for ``none``."""
    match mode:
        case "governance":
            return ObjectLock("governance", until_ms)
        case "compliance":
            return ObjectLock("compliance", until_ms)
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class Signer:
    """Signs what is complete. Methods raise ``Unavailable`` and ``ObjectStoreError``; nothing is lost then."""

    store: Store
    objects: ObjectStore
    keys: KeyRing
    wrapped: WrappedKeys
    key: SigningKey
    clock: Clock
    lock_mode: str = "none"

    def lock(self, until_ms: int) -> ObjectLock | None:
        """How objects of a recording that is kept until then are locked."""
        return lock_until(self.lock_mode, until_ms)

    async def sign_complete(self) -> int:
        """Sign recordings whose session is over and whose parts are all done, or given up: how many were signed. What
        cannot be signed waits, and is told of once; those longest untried come first."""
        async with self.store.transaction(ALL_TENANTS) as connection:
            rows = await connection.fetch(_COMPLETE, None, None, UNSIGNED_MAX, self._time(-AGAIN_MS))
        done = 0
        for row in rows:
            try:
                done += await self.sign(row["tenant_id"], row["id"]) is not None
            except Unavailable:
                raise
            except (RecorderError, UnknownKey) as error:
                await self._failed(row, f"{type(error).__name__}: {error}"[:FAILURE_CHARS_MAX])
            except ObjectStoreError:  # away, or it refuses this one only: another is the first one next time
                await self._failed(row, None)
                raise
        return done

    async def _failed(self, row: Any, why: str | None) -> None:
        """Note that it was tried; and why it failed, if that is its own fault."""
        async with self.store.transaction(row["tenant_id"]) as connection:
            await connection.execute(
                "update recording set sign_tried_at = $3, sign_failure = $4 where tenant_id = $1 and id = $2",
                *_key(row),
                self._time(0),
                why,
            )
        if why is not None and why != row["sign_failure"]:
            log.error("cannot sign a recording", recording=row["public_id"], why=why)

    def _time(self, offset_ms: int) -> datetime.datetime:
        return datetime.datetime.fromtimestamp((self.clock.wall_ms() + offset_ms) / 1000, datetime.UTC)

    async def sign(self, tenant: int, recording_id: int) -> str | None:
        """Sign one recording, if it is complete: its state then. None: it is not complete, or signed already."""
        async with self.store.transaction(tenant) as connection:
            row = await connection.fetchrow(_COMPLETE, tenant, recording_id, 1, None)
            if row is None:
                return None
            statement = await _statement(connection, row)
        story_key = await self._keep_story(row)
        statement["story"] = None if story_key is None else dict(zip(("key", "sha256"), story_key, strict=True))
        statement["signed_at_ms"] = self.clock.wall_ms()
        key, sha256 = await self._keep_root(row, statement)
        async with self.store.transaction(tenant) as connection:
            # Whoever begins a part holds this row as well: its part is seen here, or sees what is noted here.
            await connection.execute("select from recording where tenant_id = $1 and id = $2 for update", *_key(row))
            if await _parts(connection, row) != statement["parts"]:
                return None  # a part turned up meanwhile: the next root is over that one, too
            state: str | None = await connection.fetchval(
                "update recording set root_key = $3, root_sha256 = $4, roots = $7, story_key = $5, story = null,"
                " sign_tried_at = null, sign_failure = null,"
                " state = case when state = 'failed' then 'failed' else 'ready' end"
                " where tenant_id = $1 and id = $2 and root_key is null and roots = $6 returning state",
                *_key(row),
                key,
                sha256,
                None if story_key is None else story_key[0],
                row["roots"],
                statement["number"] + 1,
            )
        log.info("recording signed", recording=row["public_id"], key_id=self.key.key_id, state=state)
        return state

    async def _keep_story(self, row: Any) -> tuple[str, str] | None:
        """Seal and store what was said and what happened: (object key, hash). The same for the same recording.

        Once it is signed the catalogue has it no more: a later root names what was stored, if it is what was sealed.
        """
        if row["story"] is None and row["story_key"] is None:
            return None
        tenant, recording = TenantId(row["tenant_id"]), row["public_id"]
        found = await self.wrapped.find(tenant, recording)
        if found is None:
            raise UnknownKey(recording)
        name = Name(tenant, recording, 0, 0, STORY)
        sealer = Sealer(self.keys.unwrap(*found, recording), row["key_id"])
        if row["story"] is None:
            return name.key, await self._sealed_story(name, sealer)
        data = sealer.seal(name, canonical(json.loads(row["story"])))
        sha256 = hashlib.sha256(data).digest()
        try:
            await self.objects.put(name.key, data, sha256=sha256, lock=self.lock(row["retain_until_ms"]))
        except ObjectExists:
            raise SegmentCorrupt(f"{name.key} is not what was stored") from None
        return name.key, sha256.hex()

    async def _sealed_story(self, name: Name, sealer: Sealer) -> str:
        try:
            data = await self.objects.get(name.key)
        except ObjectMissing:
            raise SegmentCorrupt(f"{name.key} is missing") from None
        sealer.open(name, data)
        return hashlib.sha256(data).hexdigest()

    async def _keep_root(self, row: Any, statement: dict[str, Any]) -> tuple[str, bytes]:
        """Store the root: (object key, hash). One over other parts, which was stored and never noted, stays: this is
        the one after it then."""
        while True:
            data = envelope(self.key, ROOT_FORMAT, statement)
            sha256 = hashlib.sha256(data).digest()
            key = f"{recording_prefix(row['tenant_id'], row['public_id'])}root-{statement['number']:03d}.json"
            try:
                await self.objects.put(key, data, sha256=sha256, lock=self.lock(row["retain_until_ms"]))
            except ObjectExists:  # stored by one who died before noting it
                data = await self.objects.get(key)
                sha256 = hashlib.sha256(data).digest()
                try:
                    before = opened(data, ROOT_FORMAT)
                except Unsigned as error:
                    raise SegmentCorrupt(f"{key} {error}") from None
                if before.public_key != self.key.public:
                    raise SegmentCorrupt(f"{key} is signed by another key") from None
                if before.statement["parts"] != statement["parts"]:
                    statement |= {"number": statement["number"] + 1, "previous_sha256": sha256.hex()}
                    continue
            return key, sha256


def _key(row: Any) -> tuple[int, int]:
    return row["tenant_id"], row["id"]


async def _parts(connection: Any, row: Any) -> list[dict[str, Any]]:
    """What is signed of the parts."""
    parts = await connection.fetch(
        "select epoch, worker_id as worker, state, failure, manifest_key, encode(manifest_sha256, 'hex') as"
        " manifest_sha256, encode(chain, 'hex') as chain, entries from recording_part"
        " where tenant_id = $1 and recording_id = $2 order by epoch",
        *_key(row),
    )
    return [dict(part) for part in parts]


async def _statement(connection: Any, row: Any) -> dict[str, Any]:
    """What is signed, but for the story and the time."""
    key = _key(row)
    people = await connection.fetch(
        "select user_id, public_id as id, name, role from recording_participant"
        " where tenant_id = $1 and recording_id = $2 order by role, user_id",
        *key,
    )
    consents = await connection.fetch(
        "select user_id, text_version, text_of, accepted, given_by, evidence,"
        " (extract(epoch from at) * 1000)::bigint as at_ms"
        " from consent where tenant_id = $1 and session_id = $2 order by id",
        row["tenant_id"],
        row["session_id"],
    )
    texts = await connection.fetch(
        "select version, source, encode(sha256(convert_to(text, 'UTF8')), 'hex') as sha256 from consent_text"
        " where tenant_id = $1 and (source, version) in (select * from unnest($2::text[], $3::text[]))"
        " order by source desc, version",
        key[0],
        [each["text_of"] for each in consents],
        [each["text_version"] for each in consents],
    )
    head = await connection.fetchrow(
        "select n, encode(hash, 'hex') as hash from audit_log where tenant_id = $1 order by n desc limit 1", key[0]
    )
    ids = {person["user_id"]: person["id"] for person in people}
    return {
        "tenant": row["tenant_id"],
        "recording": row["public_id"],
        "session": row["session_public_id"],
        "kind": row["kind"],
        "started_at_ms": row["started_at_ms"],
        "duration_ms": row["duration_ms"],
        "ended_at_ms": row["ended_at_ms"],
        "retain_until_ms": row["retain_until_ms"],
        "number": row["roots"],
        "previous_sha256": row["previous_sha256"],
        "participants": [{"id": each["id"], "name": each["name"], "role": each["role"]} for each in people],
        "consents": [
            {
                "participant": ids.get(each["user_id"], ""),
                **{
                    name: each[name]
                    for name in ("text_version", "text_of", "accepted", "given_by", "evidence", "at_ms")
                },
            }
            for each in consents
        ],
        "consent_texts": [dict(each) for each in texts],
        "announcements": await announcements.signed(connection, row["tenant_id"], row["session_id"]),
        "parts": await _parts(connection, row),
        "audit": None if head is None else dict(head),
    }


_COMPLETE: Final = """
select tenant_id, id, public_id, session_id, session_public_id, kind, key_id, started_at_ms, duration_ms, ended_at_ms,
       retain_until_ms, story, story_key, roots, sign_failure, encode(root_sha256, 'hex') as previous_sha256
from recording r
where ($1::bigint is null or tenant_id = $1) and ($2::bigint is null or id = $2)
  and root_key is null and ended_at_ms is not null and state in ('recording', 'finishing', 'failed')
  and (state = 'failed' or exists (select from recording_part p
    where p.tenant_id = r.tenant_id and p.recording_id = r.id and p.state = 'ready'))
  and not exists (select from recording_part p
    where p.tenant_id = r.tenant_id and p.recording_id = r.id and p.state = 'recording')
  and ($4::timestamptz is null or sign_failure is null or sign_tried_at <= $4)
order by sign_tried_at nulls first, id limit $3
"""
