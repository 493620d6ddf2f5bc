"""The recorder's side of the catalogue: what is stored of each part, in PostgreSQL."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

from config.database import ALL_TENANTS, AWAY, Database
from config.ids import TenantId
from recorder.errors import RecorderError, Unavailable
from recorder.lane import Run
from recorder.manifest import Entry, chain_next, chain_start
from recorder.muxer import RunFormat
from relay.spool import PartHeader


class UnknownRecording(RecorderError):
    """The catalogue does not know the recording of a part: its data must not be touched by a machine."""


@dataclasses.dataclass(slots=True)
class StreamRow:
    """One file of a recording."""

    n: int
    epoch: int
    run: int
    user_id: int
    source: str
    content_type: str
    video_codec: str | None
    width: int
    height: int
    audio: bool
    start_ms: int
    end_ms: int
    ended: bool
    superseded: bool
    header_bytes: int
    video_frames: int
    audio_ms: int
    front_key: str | None
    front_bytes: int | None
    front_object_sha256: bytes | None
    file_bytes: int | None
    file_sha256: bytes | None

    @property
    def media_kind(self) -> str:
        """``video`` or ``audio``."""
        return "audio" if self.video_codec is None else "video"


STREAM_COLUMNS = ", ".join(field.name for field in dataclasses.fields(StreamRow))
_ENTRY_COLUMNS = ", ".join(field.name for field in dataclasses.fields(Entry))


@dataclasses.dataclass(slots=True)
class PartRow:
    """One part as the catalogue knows it, kept up to date by ``Store``."""

    header: PartHeader
    recording_id: int
    state: str
    chain: bytes
    manifests: int
    manifest_key: str | None
    """Of the manifest stored last."""
    manifest_sha256: bytes | None
    retain_until_ms: int
    streams: list[StreamRow]
    entries: list[Entry]
    """In the order of the chain."""

    def stream_of_run(self, run: int) -> StreamRow | None:
        """The stream that a run goes into now."""
        return next((each for each in self.streams if each.run == run and not each.superseded), None)


class Store:
    """Reads and writes the catalogue. Every method raises ``Unavailable`` while PostgreSQL is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextlib.asynccontextmanager
    async def transaction(self, tenant: int | str) -> AsyncIterator[Any]:
        """Like ``Database.transaction``; says ``Unavailable`` for all that means that PostgreSQL is away."""
        try:
            async with self._database.transaction(
                TenantId(tenant) if isinstance(tenant, int) else tenant
            ) as connection:
                yield connection
        except AWAY as error:
            raise Unavailable(f"PostgreSQL: {type(error).__name__}: {error}") from error

    async def begin_part(self, header: PartHeader) -> PartRow:
        """The part, noted if it is new. One that was given up stays so until there is more of it to store (``revive``).

        Raises ``UnknownRecording``.
        """
        async with self.transaction(header.tenant_id) as connection:
            recording_id = await connection.fetchval(
                "select id from recording where public_id = $1 and tenant_id = $2"
                " and state not in ('expired', 'erased') for update",
                header.recording_public_id,
                header.tenant_id,
            )
            if recording_id is None:
                raise UnknownRecording(f"no recording {header.recording_public_id} in the catalogue")
            key = (header.tenant_id, recording_id, header.epoch)
            await connection.execute(
                "insert into recording_part (tenant_id, recording_id, epoch, worker_id, chain)"
                " values ($1, $2, $3, $4, $5) on conflict do nothing",
                *key,
                header.worker_id,
                chain_start(header.recording_public_id, header.epoch),
            )
            part = await connection.fetchrow(
                "select p.state, p.chain, p.manifests, p.manifest_key, p.manifest_sha256, r.retain_until_ms"
                " from recording_part p join recording r on r.tenant_id = p.tenant_id and r.id = p.recording_id"
                " where p.tenant_id = $1 and p.recording_id = $2 and p.epoch = $3",
                *key,
            )
            if part["state"] == "recording":
                await _reopen(connection, *key[:2])
            streams = await streams_of(connection, header.tenant_id, recording_id, header.epoch)
            entries = await entries_of(connection, header.tenant_id, recording_id, header.epoch)
            return PartRow(header, recording_id, **dict(part), streams=streams, entries=entries)

    async def fail_unreadable(self, recording_public_id: str, epoch: int, why: str) -> None:
        """A part whose header cannot be read, named by its directory, is given up. Raises ``UnknownRecording``."""
        async with self.transaction(ALL_TENANTS) as connection:
            tenant_id = await connection.fetchval(
                "select tenant_id from recording where public_id = $1", recording_public_id
            )
        if tenant_id is None:
            raise UnknownRecording(f"no recording {recording_public_id} in the catalogue")
        header = PartHeader(
            tenant_id=tenant_id,
            session_id=0,
            session_public_id="",
            recording_public_id=recording_public_id,
            epoch=epoch,
            worker_id="",
            key_id="",
            wrapped_key=b"",
            started_wall_ms=0,
            started_monotonic_ns=0,
            participants=(),
        )
        part = await self.begin_part(header)
        if part.state == "recording":
            await self.finish_part(part, why)

    async def revive(self, part: PartRow) -> None:
        """A part that was given up gives more after all. Raises ``UnknownRecording`` where it is wanted no more."""
        if part.state != "failed":
            return
        key = (part.header.tenant_id, part.recording_id, part.header.epoch)
        async with self.transaction(part.header.tenant_id) as connection:
            state = await connection.fetchval(
                "select state from recording where tenant_id = $1 and id = $2 for update", *key[:2]
            )
            if state in ("expired", "erased"):
                raise UnknownRecording(f"{part.header.recording_public_id} is {state}")
            await connection.execute(
                "update recording_part set state = 'recording', failure = null"
                " where tenant_id = $1 and recording_id = $2 and epoch = $3 and state = 'failed'",
                *key,
            )
            await _reopen(connection, *key[:2])
        part.state = "recording"

    async def begin_stream(self, part: PartRow, run: Run, run_format: RunFormat, start_ms: int) -> StreamRow:
        """The stream that a run goes into; the same as before, if the run was begun before."""
        known = part.stream_of_run(run.index)
        if known is not None:
            return known
        tenant_id, epoch = part.header.tenant_id, part.header.epoch
        async with self.transaction(tenant_id) as connection:
            await connection.execute(
                "select from recording where tenant_id = $1 and id = $2 for update", tenant_id, part.recording_id
            )
            row = await connection.fetchrow(
                "insert into recording_stream (tenant_id, recording_id, n, epoch, run, user_id, source, content_type,"  # noqa: S608
                " video_codec, width, height, audio, start_ms, end_ms)"
                " select $1, $2, coalesce(max(n), 0) + 1, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12"
                " from recording_stream where tenant_id = $1 and recording_id = $2"
                " on conflict (tenant_id, recording_id, epoch, run) where not superseded"
                f" do update set run = excluded.run returning {STREAM_COLUMNS}",  # there already if an answer was lost
                tenant_id,
                part.recording_id,
                epoch,
                run.index,
                run.user_id,
                run.source,
                run_format.content_type,
                run_format.video_codec,
                run_format.width,
                run_format.height,
                run_format.audio,
                start_ms,
            )
        stream = StreamRow(**dict(row))
        part.streams.append(stream)
        return stream

    async def add_segment(self, part: PartRow, stream: StreamRow, entry: Entry, header_bytes: int) -> None:
        """Note a stored segment, the chain's next entry. Raises ``RecorderError`` if another recorder was quicker."""
        digest = entry.digest()
        chain = chain_next(part.chain, digest)
        header = part.header
        async with self.transaction(header.tenant_id) as connection:
            moved = await connection.fetchval(
                _ADD_SEGMENT,
                header.tenant_id,
                part.recording_id,
                header.epoch,
                chain,
                part.chain,
                digest,
                header_bytes,
                *dataclasses.asdict(entry).values(),
            )
            if moved is None and not await _is_noted(connection, part, entry, chain):
                raise RecorderError("another recorder is working on this part")
        stream.header_bytes += header_bytes
        stream.end_ms = max(stream.end_ms, stream.start_ms + entry.end_ms)
        part.chain = chain
        part.entries.append(entry)

    async def change_stream(self, part: PartRow, stream: StreamRow, **values: Any) -> None:
        """Set columns of a stream."""
        sets = ", ".join(f"{name} = ${place}" for place, name in enumerate(values, 4))
        async with self.transaction(part.header.tenant_id) as connection:
            await connection.execute(
                f"update recording_stream set {sets} where tenant_id = $1 and recording_id = $2 and n = $3",  # noqa: S608 - names are ours
                part.header.tenant_id,
                part.recording_id,
                stream.n,
                *values.values(),
            )
        for name, value in values.items():
            setattr(stream, name, value)

    async def note_manifest(self, part: PartRow, key: str, sha256: bytes) -> None:
        """A manifest was stored."""
        async with self.transaction(part.header.tenant_id) as connection:
            await connection.execute(
                "update recording_part set manifests = manifests + 1, manifest_key = $4, manifest_sha256 = $5"
                " where tenant_id = $1 and recording_id = $2 and epoch = $3",
                part.header.tenant_id,
                part.recording_id,
                part.header.epoch,
                key,
                sha256,
            )
        part.manifests += 1
        part.manifest_key, part.manifest_sha256 = key, sha256

    async def finishing(self, part: PartRow) -> None:
        """The part's media is all stored and is being verified."""
        async with self.transaction(part.header.tenant_id) as connection:
            await connection.execute(
                "update recording set state = 'finishing' where tenant_id = $1 and id = $2 and state = 'recording'",
                part.header.tenant_id,
                part.recording_id,
            )

    async def finish_part(self, part: PartRow, failure: str | None) -> str:
        """The part is complete (or given up, and why); the state of the whole recording, which is yet to be signed."""
        tenant_id, recording_id = part.header.tenant_id, part.recording_id
        async with self.transaction(tenant_id) as connection:
            await connection.execute(
                "select from recording where tenant_id = $1 and id = $2 for update", tenant_id, recording_id
            )
            part.state = "failed" if failure else "ready"
            await connection.execute(
                "update recording_part set state = $4, failure = $5"
                " where tenant_id = $1 and recording_id = $2 and epoch = $3",
                tenant_id,
                recording_id,
                part.header.epoch,
                part.state,
                failure,
            )
            return str(await connection.fetchval(_SETTLE, tenant_id, recording_id))

    async def give_up_unrecorded(self, older_than_ms: int) -> int:
        """Mark recordings whose session ended before ``older_than_ms`` and that no worker began: how many."""
        async with self.transaction(ALL_TENANTS) as connection:
            done = await connection.execute(
                "update recording r set state = 'failed', failure = 'no media reached the server'"
                " where state = 'recording' and ended_at_ms < $1 and not exists (select from recording_part p"
                " where p.tenant_id = r.tenant_id and p.recording_id = r.id)",
                older_than_ms,
            )
        return int(str(done).rsplit(" ", 1)[-1])

    async def ping(self) -> bool:
        """Whether PostgreSQL answers."""
        return await self._database.ping()


def _places(first: int, count: int) -> str:
    return ", ".join(f"${n}" for n in range(first, first + count))


# One statement, as there is one of them every few seconds for each stream of each call.
_ADD_SEGMENT = f"""
with moved as (
  update recording_part set chain = $4, entries = entries + 1
  where tenant_id = $1 and recording_id = $2 and epoch = $3 and chain = $5 returning entries
), noted as (
  insert into recording_segment (tenant_id, recording_id, entry, entry_sha256, chain, {_ENTRY_COLUMNS})
  select $1, $2, entries, $6, $4, {_places(8, len(dataclasses.fields(Entry)))} from moved
  returning entry, stream, object_bytes, end_ms
), counted as (
  update recording r set bytes = r.bytes + e.object_bytes from noted e
  where r.tenant_id = $1 and r.id = $2
)
update recording_stream s set end_ms = greatest(s.end_ms, s.start_ms + e.end_ms), header_bytes = s.header_bytes + $7
from noted e where s.tenant_id = $1 and s.recording_id = $2 and s.n = e.stream returning e.entry
"""  # noqa: S608 - names are ours


_SETTLE = """
with parts as (
  select bool_or(state = 'recording') as going_on, string_agg(failure, '; ' order by epoch) as failures
    from recording_part where tenant_id = $1 and recording_id = $2
), streams as (
  select min(start_ms) as first_ms, max(end_ms) as last_ms
    from recording_stream where tenant_id = $1 and recording_id = $2 and not superseded and ended
)
update recording r set
  state = case when parts.going_on then 'recording' when parts.failures is not null then 'failed'
               when streams.first_ms is null then 'failed' else 'finishing' end,
  failure = case when parts.going_on then null
                 when parts.failures is not null then parts.failures
                 when streams.first_ms is null then 'no media reached the server' end,
  started_at_ms = coalesce(streams.first_ms, r.started_at_ms),
  duration_ms = coalesce(streams.last_ms - streams.first_ms, 0)
from parts, streams where r.tenant_id = $1 and r.id = $2
returning r.state
"""


async def _reopen(connection: Any, tenant_id: int, recording_id: int) -> None:
    """A recording that was complete gets more: signed anew, and what was made of it is made anew."""
    if await connection.fetchval(
        "update recording set state = 'recording', failure = null, root_key = null, prepared = false"
        " where tenant_id = $1 and id = $2 and state in ('ready', 'failed') returning true",
        tenant_id,
        recording_id,
    ):
        await drop_products(connection, tenant_id, recording_id)


async def drop_products(connection: Any, tenant_id: int, recording_id: int) -> None:
    """What was made of a recording is not of all of it any more: asked for anew, it is made anew."""
    await connection.execute(
        "update recording_job set state = 'cancelled', failure = 'The recording got another part.', plan = null,"
        " token_sha256 = null, outputs = outputs || array(select p.n from recording_product p"
        " where p.tenant_id = $1 and p.recording_id = $2 and p.job_id = recording_job.id)"
        " where tenant_id = $1 and recording_id = $2 and state in ('queued', 'running', 'done')",
        tenant_id,
        recording_id,
    )


async def streams_of(connection: Any, tenant_id: int, recording_id: int, epoch: int | None = None) -> list[StreamRow]:
    """A recording's streams, or those of one part."""
    rows = await connection.fetch(
        f"select {STREAM_COLUMNS} from recording_stream"  # noqa: S608 - names are ours
        " where tenant_id = $1 and recording_id = $2 and ($3::bigint is null or epoch = $3) order by n",
        tenant_id,
        recording_id,
        epoch,
    )
    return [StreamRow(**dict(row)) for row in rows]


async def entries_of(
    connection: Any, tenant_id: int, recording_id: int, epoch: int | None = None, stream: int | None = None
) -> list[Entry]:
    """A recording's stored segments in the order of their chains, or those of one part or stream."""
    rows = await connection.fetch(
        f"select {_ENTRY_COLUMNS} from recording_segment where tenant_id = $1 and recording_id = $2"  # noqa: S608 - names are ours
        " and ($3::bigint is null or epoch = $3) and ($4::int is null or stream = $4) order by epoch, entry",
        tenant_id,
        recording_id,
        epoch,
        stream,
    )
    return [Entry(**dict(row)) for row in rows]


async def _is_noted(connection: Any, part: PartRow, entry: Entry, chain: bytes) -> bool:
    """Whether this very entry stands there: it was committed, but the answer was lost."""
    found = await connection.fetchval(
        "select chain from recording_segment"
        " where tenant_id = $1 and recording_id = $2 and stream = $3 and segment = $4",
        part.header.tenant_id,
        part.recording_id,
        entry.stream,
        entry.segment,
    )
    return bool(found == chain)
