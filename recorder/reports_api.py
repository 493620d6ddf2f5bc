"""Reports for auditors: who accessed what, and why; what expired or was erased, and the proof. JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from config.clock import Clock
from config.http import Call, Endpoint, View, endpoint
from recorder import audit
from recorder.catalogue import Recordings
from recorder.permissions import CATALOGUE
from recorder.sending import NO_STORE
from recorder.views import WhoView

PAGE_MAX: Final = 500
CSV_MAX: Final = 5_000
UPCOMING: Final = 20
_BASE: Final = "/api/v1/recordings"
_TIME_MAX_MS: Final = 10**14


class ReportedAccess(View):
    """An entry of the access report."""

    n: int
    at_ms: int
    user: WhoView
    action: str
    recording_id: str
    """What it is about; of policies and platform keys: their name."""
    reason: str | None
    details: dict[str, Any]


class AccessReport(View):
    """GET /recordings/reports/access: newest first."""

    entries: list[ReportedAccess]
    next_cursor: str | None


class ReportedEnd(View):
    """A recording that expired or was erased."""

    n: int
    at_ms: int
    recording_id: str
    what: str
    """``expired`` or ``erased``."""
    by: WhoView
    reason: str | None
    objects: int
    """How many were deleted; their hashes stand in the audit entry."""
    root_key: str | None
    root_sha256: str | None
    entry_sha256: str
    """The audit entry's hash."""
    anchor_key: str | None
    """The signed anchor of the audit log that covers the entry."""
    swept: bool
    """Whether every object is gone."""


class Upcoming(View):
    """A recording whose time will be over."""

    recording_id: str
    retain_until_ms: int
    held: bool


class LifecycleReport(View):
    """GET /recordings/reports/lifecycle: newest first, and what comes next."""

    entries: list[ReportedEnd]
    upcoming: list[Upcoming]
    next_cursor: str | None


class ConsentTextView(View):
    """A text that people agreed to."""

    version: str
    text: str
    of: str
    """``turnpike`` or ``platform``."""
    since_ms: int


class ConsentTexts(View):
    """GET /recordings/consent-texts"""

    texts: list[ConsentTextView]


class ReportsApi:
    """The handlers."""

    def __init__(self, recordings: Recordings, clock: Clock) -> None:
        self._database = recordings.database
        self._recordings = recordings
        self._clock = clock

    def endpoints(self) -> list[Endpoint]:
        """To be mounted by control, before those of single recordings."""
        reports, texts = _BASE + "/reports", _BASE + "/consent-texts"
        return [
            endpoint("GET", reports + "/access", "Accesses", self.access, roles=CATALOGUE, result=AccessReport),
            endpoint("GET", reports + "/lifecycle", "Ends", self.lifecycle, roles=CATALOGUE, result=LifecycleReport),
            endpoint("GET", texts, "What was agreed to", self.texts, roles=CATALOGUE, result=ConsentTexts),
        ]

    async def access(self, call: Call) -> AccessReport | web.Response:
        limit, as_csv = _limit(call)
        texts = [call.query_text(name) or None for name in ("user", "recording", "action")]
        rows = await self._rows(call, _ACCESS, limit + 1, *texts)
        entries = [
            ReportedAccess(
                n=row["n"],
                at_ms=row["at_ms"],
                user=WhoView(id=row["actor"], name=row["name"]),
                action=row["action"],
                recording_id=row["subject"],
                reason=row["reason"],
                details=_short(json.loads(row["details"])),
            )
            for row in rows[:limit]
        ]
        more = str(entries[-1].n) if len(rows) > limit else None
        if as_csv:
            return await self._csv(call, "access", entries, more)
        return AccessReport(entries=entries, next_cursor=more)

    async def lifecycle(self, call: Call) -> LifecycleReport | web.Response:
        limit, as_csv = _limit(call)
        rows = await self._rows(call, _ENDS, limit + 1, [audit.DELETED, audit.ERASED])
        entries = [_end(row) for row in rows[:limit]]
        more = str(entries[-1].n) if len(rows) > limit else None
        if as_csv:
            return await self._csv(call, "lifecycle", entries, more)
        async with self._database.transaction(call.principal.tenant_id) as connection:
            upcoming = await connection.fetch(_UPCOMING, call.principal.tenant_id, UPCOMING)
        views = [Upcoming(**dict(row)) for row in upcoming]
        return LifecycleReport(entries=entries, upcoming=views, next_cursor=more)

    async def texts(self, call: Call) -> ConsentTexts:
        found = await self._recordings.consents.texts(call.principal.tenant_id)
        return ConsentTexts(
            texts=[ConsentTextView(version=t.version, text=t.text, of=t.source, since_ms=t.since_ms) for t in found]
        )

    async def _rows(self, call: Call, statement: str, limit: int, *more: Any) -> list[Any]:
        tenant = call.principal.tenant_id
        spans = [call.query_int(name, -1, 0, _TIME_MAX_MS) for name in ("from_ms", "to_ms")]
        cursor = call.query_int("cursor", 0, 0, 10**17) or None
        values = [None if value < 0 else value for value in spans]
        async with self._database.transaction(tenant) as connection:
            rows: list[Any] = await connection.fetch(statement, tenant, *values, cursor, limit, *more)
        return rows

    async def _csv(self, call: Call, report: str, entries: Sequence[View], more: str | None) -> web.Response:
        """The report as a file. It leaves the house, so that is written down."""
        who = call.principal
        details = {"report": report, "rows": len(entries), "query": dict(call.request.query)}
        entry = audit.NewEntry(
            who.tenant_id, who.user_id, who.public_id, audit.REPORT_TAKEN, f"{report} report", None, details
        )
        await self._recordings.note(entry)
        headers = {**NO_STORE, "Content-Disposition": f'attachment; filename="{report}.csv"'}
        if more is not None:
            headers["Turnpike-Next-Cursor"] = more
        return web.Response(text=as_csv(entries), content_type="text/csv", headers=headers)


def as_csv(entries: Sequence[View]) -> str:
    """Rows with a header. What a spreadsheet would take for a formula is told as text."""
    out = io.StringIO()
    writer = csv.writer(out)
    for number, entry in enumerate(entries):
        flat: dict[str, Any] = {}
        for name, value in entry.model_dump().items():
            if name in ("user", "by"):
                flat |= {f"{name}_{key}": each for key, each in value.items()}
            else:
                flat[name] = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
        if number == 0:
            writer.writerow(flat)
        writer.writerow([_cell(value) for value in flat.values()])
    return out.getvalue()


def _cell(value: Any) -> Any:
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _limit(call: Call) -> tuple[int, bool]:
    as_csv_ = call.query_text("format") == "csv"
    return call.query_int("limit", CSV_MAX if as_csv_ else 100, 1, CSV_MAX if as_csv_ else PAGE_MAX), as_csv_


def _short(details: dict[str, Any]) -> dict[str, Any]:
    """Details without the long list of hashes: those are shown with the recording."""
    return {**details, "objects": len(details["objects"])} if isinstance(details.get("objects"), dict) else details


def _end(row: Any) -> ReportedEnd:
    details = json.loads(row["details"])
    return ReportedEnd(
        n=row["n"],
        at_ms=row["at_ms"],
        recording_id=row["subject"],
        what="erased" if row["action"] == audit.ERASED else "expired",
        by=WhoView(id=row["actor"], name=row["name"]),
        reason=row["reason"],
        objects=len(details.get("objects") or {}),
        root_key=details.get("root_key"),
        root_sha256=details.get("root_sha256"),
        entry_sha256=row["hash"].hex(),
        anchor_key=row["anchor_key"],
        swept=bool(row["swept"]),
    )


_ENTRY: Final = (
    "select l.n, (extract(epoch from l.at) * 1000)::bigint as at_ms, l.actor, coalesce(u.name, '') as name, l.action,"
    " l.subject, l.reason, l.details, l.hash"
)
_WITHIN: Final = (
    " where l.tenant_id = $1 and ($2::bigint is null or l.at >= to_timestamp($2::bigint / 1000.0))"
    " and ($3::bigint is null or l.at <= to_timestamp($3::bigint / 1000.0)) and ($4::bigint is null or l.n < $4)"
)
_USER: Final = " left join app_user u on u.tenant_id = l.tenant_id and u.id = l.user_id"
_ACCESS: Final = (
    f"{_ENTRY} from audit_log l{_USER}{_WITHIN}"
    " and ($6::text is null or l.actor = $6 or strpos(lower(u.name), lower($6)) > 0)"
    " and ($7::text is null or l.subject = $7) and ($8::text is null or l.action = $8) order by l.n desc limit $5"
)
_PROVEN: Final = (
    ", r.swept_at is not null as swept, (select a.object_key from audit_anchor a where a.tenant_id = l.tenant_id"
    " and a.n >= l.n order by a.n limit 1) as anchor_key from audit_log l"
    " left join recording r on r.tenant_id = l.tenant_id and r.public_id = l.subject"
)
_ENDS: Final = f"{_ENTRY}{_PROVEN}{_USER}{_WITHIN} and l.action = any($6) order by l.n desc limit $5"
_UPCOMING: Final = """
select public_id as recording_id, retain_until_ms, exists (select from legal_hold h where h.tenant_id = r.tenant_id
  and h.recording_id = r.id and h.released_at is null) as held
from recording r where tenant_id = $1 and state in ('ready', 'failed') order by retain_until_ms limit $2
"""
