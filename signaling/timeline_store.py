"""What happened in a session, in PostgreSQL: its changes of state, and notes of what changed nothing but was told."""

from __future__ import annotations

from typing import Final, NamedTuple

from config.database import Database
from config.ids import SessionId, TenantId, UserId
from signaling.store import Session

ROWS_MAX: Final = 5_000
"""Changes, and notes, of one session that are read."""


class ChangeRow(NamedTuple):
    """One change of a session."""

    at_ms: int
    what: str
    from_state: str | None
    to_state: str
    by: str | None
    """The public id of who did it; None: the server."""
    why: str


class NoteRow(NamedTuple):
    """One note."""

    at_ms: int
    what: str
    by: str | None
    figure: int | None


class EvidenceRow(NamedTuple):
    """What a worker wrote down of one minute of a room."""

    at_ms: int
    epoch: int
    live_ms: int
    granted_live_ms: int
    worker_id: str
    final: bool


class TimelineStore:
    """All SQL of the time line that is not billing's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, session: Session, what: str, at_ms: int, user_id: UserId | None = None, figure: int | None = None
    ) -> None:
        """Note something that changes nothing."""
        async with self._database.transaction(session.tenant_id) as sql:
            await sql.execute(
                "insert into session_note (tenant_id, session_id, at_ms, what, user_id, figure)"
                " values ($1, $2, $3, $4, $5, $6)",
                *(session.tenant_id, session.id, at_ms, what, user_id, figure),
            )

    async def read(
        self, tenant: TenantId, session_id: SessionId
    ) -> tuple[list[ChangeRow], list[NoteRow], list[EvidenceRow]]:
        """A session's changes, notes and evidence, oldest first."""
        async with self._database.transaction(tenant) as sql:
            changes = await sql.fetch(
                "select c.at_ms, c.what, c.from_state, c.to_state, u.public_id as by, c.why from session_change c"
                " left join app_user u on u.tenant_id = c.tenant_id and u.id = c.actor_id"
                " where c.tenant_id = $1 and c.session_id = $2 order by c.revision limit $3",
                *(tenant, session_id, ROWS_MAX),
            )
            notes = await sql.fetch(
                "select n.at_ms, n.what, u.public_id as by, n.figure from session_note n"
                " left join app_user u on u.tenant_id = n.tenant_id and u.id = n.user_id"
                " where n.tenant_id = $1 and n.session_id = $2 order by n.at_ms, n.id limit $3",
                *(tenant, session_id, ROWS_MAX),
            )
            evidence = await sql.fetch(
                "select (extract(epoch from at) * 1000)::bigint as at_ms, epoch, live_ms, granted_live_ms, worker_id,"
                " final from media_evidence where tenant_id = $1 and session_id = $2 order by epoch, minute limit $3",
                *(tenant, session_id, ROWS_MAX),
            )
        return (
            [ChangeRow(*row.values()) for row in changes],
            [NoteRow(*row.values()) for row in notes],
            [EvidenceRow(*row.values()) for row in evidence],
        )
