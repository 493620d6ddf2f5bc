"""The audit log: who looked at what, and why. Append-only; the database numbers and chains the entries."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, Final

from config.ids import TenantId, UserId

REASON_CHARS = (10, 500)
"""Shortest and longest reason taken for an access."""

EXTRACT_MAX: Final = 50_000
"""Entries in one extract; a longer one ends there, and says so."""

GRANTED: Final = "recording.access_granted"
REFUSED: Final = "recording.access_refused"
OPENED: Final = "recording.stream_opened"
MANIFEST_READ: Final = "recording.manifest_read"
EXPORT_ASKED: Final = "recording.export_asked"
COMPOSITION_ASKED: Final = "recording.composition_asked"
PREVIEW_ASKED: Final = "recording.preview_asked"
JOB_CANCELLED: Final = "recording.job_cancelled"
JOB_RETRIED: Final = "recording.job_retried"
EXPORT_GRANTED: Final = "recording.export_granted"
EXPORT_TAKEN: Final = "recording.export_downloaded"
COMPOSITION_TAKEN: Final = "recording.composition_downloaded"
HOLD_PLACED: Final = "recording.hold_placed"
HOLD_RELEASED: Final = "recording.hold_released"
POLICY_SET: Final = "recording.policy_set"
DELETED: Final = "recording.deleted"
ERASED: Final = "recording.erased"
PAUSED: Final = "recording.paused"
RESUMED: Final = "recording.resumed"
WITHDRAWN: Final = "recording.consent_withdrawn"
TAGGED: Final = "recording.tagged"
REPORT_TAKEN: Final = "recording.report_taken"
PLATFORM_KEY_MADE: Final = "platform.key_made"
PLATFORM_KEY_REVOKED: Final = "platform.key_revoked"
ATTESTED: Final = "recording.consent_attested"


@dataclasses.dataclass(frozen=True, slots=True)
class NewEntry:
    """What is to be written down."""

    tenant_id: TenantId
    user_id: UserId | None
    actor: str
    """The user's public id; empty where nobody is known."""
    action: str
    subject: str
    """Public id of the recording."""
    reason: str | None = None
    details: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """What is written down."""

    n: int
    at_ms: int
    actor: str
    name: str
    action: str
    reason: str | None
    details: dict[str, Any]


async def append(connection: Any, entry: NewEntry) -> None:
    """Add an entry in the caller's transaction. Entries of a tenant wait for each other until it commits."""
    await connection.execute(
        "insert into audit_log (tenant_id, n, at, user_id, actor, action, subject, reason, details, prev_hash, hash)"
        " values ($1, 0, now(), $2, $3, $4, $5, $6, $7::jsonb, '', '')",
        entry.tenant_id,
        entry.user_id,
        entry.actor,
        entry.action,
        entry.subject,
        entry.reason,
        json.dumps(entry.details),
    )


async def of_subject(
    connection: Any, tenant_id: TenantId, subject: str, limit: int, before: int | None = None
) -> list[Entry]:
    """The entries on a subject, newest first; those before number ``before``, where given."""
    rows = await connection.fetch(
        "select l.n, (extract(epoch from l.at) * 1000)::bigint, l.actor, coalesce(u.name, ''), l.action, l.reason,"
        " l.details from audit_log l left join app_user u on u.tenant_id = l.tenant_id and u.id = l.user_id"
        " where l.tenant_id = $1 and l.subject = $2 and ($4::bigint is null or l.n < $4) order by l.n desc limit $3",
        tenant_id,
        subject,
        limit,
        before,
    )
    return [
        Entry(n, at_ms, actor, name, action, reason, json.loads(details))
        for n, at_ms, actor, name, action, reason, details in rows
    ]


async def first_broken(connection: Any, tenant_id: TenantId) -> int | None:
    """The number of the first entry that does not fit its hash or the one before it; None when all fit."""
    broken: int | None = await connection.fetchval(
        "select min(n) from (select l.n, l.hash is distinct from audit_hash(l) as altered,"
        " l.prev_hash is distinct from coalesce(lag(l.hash) over by_n, sha256('turnpike audit log 1')) as unchained,"
        " l.n is distinct from coalesce(lag(l.n) over by_n, 0) + 1 as missing"
        " from audit_log l where tenant_id = $1 window by_n as (order by n)) checked"
        " where altered or unchained or missing",
        tenant_id,
    )
    return broken


async def extract(connection: Any, tenant_id: TenantId, subject: str) -> dict[str, Any]:
    """From the first entry on a subject to the newest of all: the subject's in full, of others' their hash only."""
    rows = await connection.fetch(
        "select l.n, l.hash, l.prev_hash, audit_text(l) as text, l.subject = $2 as own from audit_log l"
        " where l.tenant_id = $1 and l.n >= (select min(n) from audit_log where tenant_id = $1 and subject = $2)"
        " order by l.n limit $3",
        tenant_id,
        subject,
        EXTRACT_MAX,
    )
    shown = []
    for row in rows:
        text = {"text": row["text"]} if row["own"] else {"text_sha256": _sha256(row["text"])}
        shown.append({"n": row["n"], **text, "hash": row["hash"].hex()})
    first = rows[0] if rows else None
    return {
        "first": first["n"] if first else 1,
        "before": first["prev_hash"].hex() if first else "",
        "rows": shown,
        "complete": len(rows) < EXTRACT_MAX,
    }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
