"""``Recordings``: what the rest of Turnpike asks of the recorder's tables. Consent, the catalogue, grants, the audit.

Nothing is recorded before ``consented`` says so, and nothing is played before the audit log has it.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import secrets
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from config.clock import Clock
from config.database import ALL_TENANTS, Database
from config.ids import PublicId, RecordingId, SessionId, TenantId, UserId, is_public_id, new_public_id
from config.keys import KeyRing, UnknownKey, WrappedKeys
from config.objects import ObjectStore
from recorder import announcements, audit, segments
from recorder.announcements import Announcements
from recorder.consents import Consents
from recorder.errors import ConsentMissing
from recorder.manifest import Entry
from recorder.missing import MissingPart, missing_parts
from recorder.retention import KEEP_DAYS_DEFAULT
from recorder.search import HELD, Search, find_rows
from recorder.segments import Sealer
from recorder.store import StreamRow, entries_of, streams_of

GRANT_TTL_MS: Final = 15 * 60_000
_GRANT_BYTES: Final = 32


class ConsentText(NamedTuple):
    """What a participant agrees to."""

    version: str
    text: str


CONSENT_TEXT: Final = ConsentText(
    "2026-11-1",
    "This call is recorded: sound, video and shared screens of both sides, from the first moment to the last. The "
    "recording is stored encrypted, kept for as long as the law and our retention policy require, and played only by "
    "compliance staff, who must give a reason each time. It is made only if both of you agree. You may ask for a copy.",
)
CONSENT_VERSIONS: Final = frozenset({CONSENT_TEXT.version})
ATTESTED: Final = "platform"
"""In place of a version: the host platform asks, and attests what was answered; the page itself says nothing."""


class ParticipantOf(NamedTuple):
    """A participant of a recorded session."""

    user_id: UserId
    public_id: PublicId
    name: str
    role: str


class NewRecording(NamedTuple):
    """A recording that a worker may be told to begin."""

    recording_id: RecordingId
    public_id: PublicId
    key_id: str
    wrapped_key: bytes


class Story(NamedTuple):
    """What goes into the recording beside its media: plain JSON, told by control at the session's end."""

    events: Sequence[dict[str, Any]] = ()
    """What happened to the session, in order."""
    chat: Sequence[dict[str, Any]] = ()
    """What was written, in order."""


class RecordingSummary(NamedTuple):
    """A recording in short."""

    recording_id: RecordingId
    public_id: PublicId
    state: str
    started_at_ms: int
    duration_ms: int | None
    bytes: int


RETRIEVABLE: Final = "(state = 'ready' or (state = 'failed' and root_key is not null))"
"""What is stored and signed can be had, also where a part of the recording is missing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Details:
    """A recording with its participants and the streams that are played: those of parts that are complete."""

    tenant_id: TenantId
    id: RecordingId
    public_id: PublicId
    session_public_id: PublicId
    kind: str
    key_id: str
    state: str
    failure: str | None
    retain_until_ms: int
    root_key: str | None
    root_sha256: bytes | None
    story_key: str | None
    held: bool
    """Whether a legal hold stands."""
    started_at_ms: int
    duration_ms: int | None
    bytes: int
    ended_at_ms: int | None
    """When its session ended."""
    tags: list[str]
    worst_mos: float | None
    """How good the call was, 1 to 4.5, for the side that had it worse; None: not measured."""
    median_mos: float | None
    good_ratio: float | None
    participants: list[ParticipantOf]
    streams: list[StreamRow]
    missing: list[MissingPart]
    """Parts that are not in it; empty unless it failed."""

    @property
    def exportable(self) -> bool:
        """Whether it may be exported: complete, or signed without the parts that are missing; its chat, if all are."""
        return self.state == "ready" or (self.state == "failed" and self.root_key is not None)

    @property
    def retrievable(self) -> bool:
        """Whether it may be played as well."""
        return self.exportable and (self.state == "ready" or bool(self.streams))

    def allows(self, kind: str) -> bool:
        """Whether a job of that kind may be done on it."""
        return self.exportable if kind == "export" else self.retrievable


class Grant(NamedTuple):
    """Leave to play one recording."""

    tenant_id: TenantId
    grant_id: int
    recording_id: RecordingId
    recording_public_id: PublicId
    user_id: UserId
    actor: str
    expires_at_ms: int


class Recordings:
    """The recordings of all tenants. Methods raise what asyncpg raises while PostgreSQL is away."""

    def __init__(
        self, database: Database, keys: KeyRing, wrapped: WrappedKeys, objects: ObjectStore, clock: Clock
    ) -> None:
        self.objects = objects
        self.database = database
        self.consents = Consents(database, clock)
        self.announcements = Announcements(database, clock)
        self._keys = keys
        self._wrapped = wrapped
        self._clock = clock

    # --- for sessions -----------------------------------------------------------------------------------------------

    async def give_consent(
        self, tenant: TenantId, session_id: SessionId, user_id: UserId, version: str, accepted: bool
    ) -> bool:
        """Store somebody's answer to the consent text, for good; False (and nothing stored) for an unknown text."""
        if version not in CONSENT_VERSIONS:
            return False
        async with self.database.transaction(tenant) as connection:
            await self.consents.keep_text(connection, tenant, version, CONSENT_TEXT.text, "turnpike")
            await connection.execute(
                "insert into consent (tenant_id, session_id, user_id, text_version, accepted, at)"
                " values ($1, $2, $3, $4, $5, $6)",
                tenant,
                session_id,
                user_id,
                version,
                accepted,
                _time(self._clock.wall_ms()),
            )
        return True

    async def consented(self, tenant: TenantId, session_id: SessionId, user_ids: Sequence[UserId]) -> bool:
        """Whether the newest answer of every one of the users is yes. Nobody's consent is no consent."""
        async with self.database.transaction(tenant) as connection:
            return await self.consents.agreed(connection, tenant, session_id, user_ids)

    async def create(
        self,
        tenant: TenantId,
        session_id: SessionId,
        session_public_id: PublicId,
        kind: str,
        participants: Sequence[tuple[UserId, PublicId, str, str]],
        started_at_ms: int,
    ) -> NewRecording:
        """A recording for the session; the same one if asked again.

        ``participants``: (user id, public id, name, role) of each. Raises ``ConsentMissing``, whoever asks.
        """
        public_id = new_public_id("rec")
        async with self.database.transaction(tenant) as connection:
            users = [each[0] for each in participants]
            if not await self.consents.agreed(connection, tenant, session_id, users):
                raise ConsentMissing(f"not everybody in {session_public_id} agreed to be recorded")
            # Of several who ask at once one makes the recording; the others wait here, and find it.
            await connection.execute("select pg_advisory_xact_lock(hashtext('recording'), $1::int)", session_id % 2**31)
            known = await _of_session(connection, tenant, session_id)
            if known is not None:
                return await self._known(tenant, known)
            key_id, wrapped_key, _ = self._keys.new_data_key(public_id)
            await self._wrapped.keep(tenant, public_id, key_id, wrapped_key)
            row = await connection.fetchrow(
                "insert into recording (tenant_id, public_id, session_id, session_public_id, kind, format_version,"
                " key_id, started_at_ms, retain_until_ms) select $1, $2, $3, $4, $5, $6, $7, $8, $8 + 86400000 *"
                " coalesce((select keep_days from retention_policy where tenant_id = $1 and kind = $5), $9)::bigint"
                " returning id",
                tenant,
                public_id,
                session_id,
                session_public_id,
                kind,
                segments.FORMAT_VERSION,
                key_id,
                started_at_ms,
                KEEP_DAYS_DEFAULT,
            )
            await connection.executemany(
                "insert into recording_participant (tenant_id, recording_id, user_id, public_id, name, role)"
                " values ($1, $2, $3, $4, $5, $6)",
                [(tenant, row["id"], *participant) for participant in participants],
            )
        return NewRecording(RecordingId(row["id"]), public_id, key_id, wrapped_key)

    async def _known(self, tenant: TenantId, row: Any) -> NewRecording:
        """A recording made before. Raises ``UnknownKey`` when its key was destroyed."""
        key = await self._wrapped.find(tenant, row["public_id"])
        if key is None:
            raise UnknownKey(row["public_id"])
        return NewRecording(row["id"], row["public_id"], *key)

    async def end(self, tenant: TenantId, session_id: SessionId, ended_at_ms: int, story: Story | None = None) -> None:
        """The session is over: its recording is signed once all its parts are stored.

        One that no worker ever began is marked as failed, after a minute.
        """
        async with self.database.transaction(tenant) as connection:
            told = story or Story()
            announced = await announcements.events(connection, tenant, session_id)
            ordered = sorted([*told.events, *announced], key=lambda event: int(event.get("at_ms", 0)))
            await connection.execute(
                "update recording set ended_at_ms = $3, story = $4::jsonb"
                " where tenant_id = $1 and session_id = $2 and ended_at_ms is null",
                tenant,
                session_id,
                ended_at_ms,
                json.dumps(told._replace(events=ordered)._asdict()),
            )

    async def note_quality(
        self, tenant: TenantId, session_id: SessionId, worst_mos: float, median_mos: float, good_ratio: float
    ) -> None:
        """How good the call was, for the side that had it worse: recordings are searched by it."""
        async with self.database.transaction(tenant) as connection:
            await connection.execute(
                "update recording set worst_mos = $3, median_mos = $4, good_ratio = $5"
                " where tenant_id = $1 and session_id = $2",
                tenant,
                session_id,
                worst_mos,
                median_mos,
                good_ratio,
            )

    async def of_session(self, tenant: TenantId, session_id: SessionId) -> RecordingSummary | None:
        """The session's recording, if there is one."""
        async with self.database.transaction(tenant) as connection:
            row = await connection.fetchrow(
                "select id, public_id, state, started_at_ms, duration_ms, bytes from recording"
                " where tenant_id = $1 and session_id = $2",
                tenant,
                session_id,
            )
        return RecordingSummary(*row) if row else None

    # --- for those who search and play ------------------------------------------------------------------------------

    async def search(self, tenant: TenantId, search: Search, limit: int) -> list[Details]:
        """Recordings, newest first."""
        async with self.database.transaction(tenant) as connection:
            rows = await find_rows(connection, tenant, search, limit)
            return [await self._details(connection, row) for row in rows]

    async def find(self, tenant: TenantId, public_id: str) -> Details | None:
        """One recording."""
        if not is_public_id(public_id, "rec"):
            return None
        async with self.database.transaction(tenant) as connection:
            row = await connection.fetchrow(
                f"select *, {HELD} from recording r where tenant_id = $1 and public_id = $2",  # noqa: S608 - ours
                tenant,
                public_id,
            )
            return await self._details(connection, row) if row else None

    async def _details(self, connection: Any, row: Any) -> Details:
        participants = await connection.fetch(
            "select user_id, public_id, name, role from recording_participant"
            " where tenant_id = $1 and recording_id = $2 order by role, user_id",
            row["tenant_id"],
            row["id"],
        )
        streams = await streams_of(connection, row["tenant_id"], row["id"])
        missing = await missing_parts(connection, row["tenant_id"], row["id"]) if row["state"] == "failed" else []
        epochs = {part.epoch for part in missing}
        fields = (field.name for field in dataclasses.fields(Details))
        taken = {name: row[name] for name in fields if name not in ("participants", "streams", "missing")}
        return Details(
            **taken,
            participants=[ParticipantOf(*participant) for participant in participants],
            streams=[
                stream
                for stream in streams
                if not stream.superseded and stream.file_sha256 is not None and stream.epoch not in epochs
            ],
            missing=missing,
        )

    async def entries(self, recording: Details, stream: int | None = None) -> list[Entry]:
        """The stored segments of a recording, or of one stream, in order."""
        async with self.database.transaction(recording.tenant_id) as connection:
            return await entries_of(connection, recording.tenant_id, recording.id, stream=stream)

    async def parts(self, recording: Details) -> list[dict[str, Any]]:
        """(epoch, chain, entries, manifest_key, manifest_sha256, state) of each part, as dictionaries."""
        async with self.database.transaction(recording.tenant_id) as connection:
            rows = await connection.fetch(
                "select epoch, chain, entries, manifest_key, manifest_sha256, state from recording_part"
                " where tenant_id = $1 and recording_id = $2 order by epoch",
                recording.tenant_id,
                recording.id,
            )
        return [dict(row) for row in rows]

    async def all_streams(self, recording: Details) -> list[StreamRow]:
        """Also the superseded ones."""
        async with self.database.transaction(recording.tenant_id) as connection:
            return await streams_of(connection, recording.tenant_id, recording.id)

    async def sealer(self, recording: Details) -> Sealer:
        """Opens the recording's objects. Raises ``UnknownKey``, also when the key was destroyed."""
        found = await self._wrapped.find(recording.tenant_id, recording.public_id)
        if found is None:
            raise UnknownKey(recording.public_id)
        return Sealer(self._keys.unwrap(*found, recording.public_id), recording.key_id)

    async def gone(self, public_ids: Sequence[str]) -> list[str]:
        """Those of the recordings, of any tenant, that are expired or erased."""
        async with self.database.transaction(ALL_TENANTS) as connection:
            rows = await connection.fetch(
                "select public_id from recording where public_id = any($1) and state in ('expired', 'erased')",
                list(public_ids),
            )
        return [row["public_id"] for row in rows]

    async def destroy_key(self, recording: Details) -> None:
        """Nobody can read the recording any more. Whoever calls has audited it, and looked for holds."""
        await self._wrapped.destroy(recording.tenant_id, recording.public_id)

    # --- access -----------------------------------------------------------------------------------------------------

    async def note(self, entry: audit.NewEntry) -> None:
        """Write one entry of the audit log; committed on return."""
        async with self.database.transaction(entry.tenant_id) as connection:
            await audit.append(connection, entry)

    async def accesses(self, recording: Details, limit: int, before: int | None = None) -> list[audit.Entry]:
        """What the audit log has on a recording, newest first; before an entry's number, where given."""
        async with self.database.transaction(recording.tenant_id) as connection:
            return await audit.of_subject(connection, recording.tenant_id, recording.public_id, limit, before)

    async def grant(self, recording: Details, user_id: UserId, entry: audit.NewEntry) -> tuple[str, int]:
        """Leave to play, bound to recording and user: (token, when it expires). Audited in the same transaction."""
        token = secrets.token_urlsafe(_GRANT_BYTES)
        expires_at_ms = self._clock.wall_ms() + GRANT_TTL_MS
        async with self.database.transaction(recording.tenant_id) as connection:
            await audit.append(connection, entry)
            await connection.execute(
                "insert into recording_grant (tenant_id, token_sha256, recording_id, user_id, expires_at)"
                " values ($1, $2, $3, $4, $5)",
                recording.tenant_id,
                _token_hash(token),
                recording.id,
                user_id,
                _time(expires_at_ms),
            )
        return token, expires_at_ms

    async def find_grant(self, token: str) -> Grant | None:
        """The grant that a token stands for, expired or not."""
        async with self.database.transaction(ALL_TENANTS) as connection:
            row = await connection.fetchrow(
                "select g.tenant_id, g.id, g.recording_id, r.public_id, g.user_id, u.public_id,"
                " (extract(epoch from g.expires_at) * 1000)::bigint from recording_grant g"
                " join recording r on r.tenant_id = g.tenant_id and r.id = g.recording_id"
                " join app_user u on u.tenant_id = g.tenant_id and u.id = g.user_id"
                " where g.token_sha256 = $1 and u.disabled_at is null",
                _token_hash(token),
            )
        return Grant(*row) if row else None

    def is_expired(self, grant: Grant) -> bool:
        """Whether the grant's time is over."""
        return self._clock.wall_ms() >= grant.expires_at_ms

    async def open_with(self, grant: Grant, what: str, entry: audit.NewEntry) -> None:
        """Audit the first time that a grant is used for ``what``; committed on return, before any byte flows."""
        async with self.database.transaction(grant.tenant_id) as connection:
            first = await connection.fetchval(
                "update recording_grant set opened = opened || $3::text"
                " where tenant_id = $1 and id = $2 and not $3 = any(opened) returning true",
                grant.tenant_id,
                grant.grant_id,
                what,
            )
            if first:
                await audit.append(connection, entry)


async def _of_session(connection: Any, tenant: TenantId, session_id: SessionId) -> Any:
    return await connection.fetchrow(
        "select id, public_id from recording where tenant_id = $1 and session_id = $2", tenant, session_id
    )


def _token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _time(wall_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(wall_ms / 1000, datetime.UTC)
