"""Exports, compositions and previews over HTTP: each asked for with a reason, audited, done by a recorder as a job."""

from __future__ import annotations

from typing import Final

import pydantic
from aiohttp import web

from config.clock import Clock
from config.http import ApiError, Body, Call, Endpoint, View, endpoint, not_found
from recorder import audit
from recorder.bundles import BundleFile, Bundles
from recorder.catalogue import Details, Recordings
from recorder.gate import Gate, entry_of
from recorder.jobs import Job, Jobs
from recorder.permissions import CATALOGUE, Duty
from recorder.playback import PlainCache
from recorder.readiness import check_ready
from recorder.retention import LAYOUTS
from recorder.sending import TOKEN_CHARS_MAX, Span, send_file, while_ready
from recorder.views import WhoView

_BASE: Final = "/api/v1/recordings/{id}"
_JOB: Final = "/api/v1/jobs/{id}"
DUTIES: Final = {"export": Duty.EXPORTER, "composition": Duty.VIEWER, "preview": Duty.VIEWER}
"""What it takes to have something made of a recording."""
_ASKED: Final = {
    "export": audit.EXPORT_ASKED,
    "composition": audit.COMPOSITION_ASKED,
    "preview": audit.PREVIEW_ASKED,
}


class AskJob(Body):
    """POST /recordings/{id}/exports and …/preview, and /jobs/{id}/cancel and …/retry, where who asked for the job need
    not say why again."""

    reason: str = pydantic.Field(default="", max_length=2000)


class AskComposition(Body):
    """POST /recordings/{id}/compositions"""

    layout: str
    """``side_by_side``, ``speaker`` or ``audio``."""
    reason: str = pydantic.Field(default="", max_length=2000)


class JobView(View):
    """A job."""

    id: str
    recording_id: str
    kind: str
    """``export``, ``composition`` or ``preview``."""
    layout: str | None
    state: str
    """``queued``, ``running``, ``done``, ``failed`` or ``cancelled``."""
    progress: int
    """0–100."""
    failure: str | None
    attempts: int
    by: WhoView | None
    """Who asked; null: the policy."""
    created_at_ms: int
    finished_at_ms: int | None


class JobsView(View):
    """GET /recordings/{id}/jobs: newest first."""

    jobs: list[JobView]


class ExportGrant(View):
    """Leave to download a bundle; the URL carries it."""

    url: str
    bytes: int
    expires_at_ms: int


class JobsApi:
    """The handlers."""

    def __init__(self, recordings: Recordings, clock: Clock) -> None:
        self._recordings = recordings
        self._gate = Gate(recordings)
        self._jobs = Jobs(recordings, clock)
        self._bundles = Bundles(recordings, self._jobs)

    def endpoints(self) -> list[Endpoint]:
        """To be mounted by control."""
        asked = {"result": JobView, "status": 202}
        return [
            endpoint("POST", _BASE + "/exports", "Export it", self.export, body=AskJob, **asked),  # type: ignore[arg-type]
            endpoint("POST", _BASE + "/preview", "Make a preview", self.preview, body=AskJob, **asked),  # type: ignore[arg-type]
            endpoint(
                *("POST", _BASE + "/compositions", "Make one file of it", self.compose),
                body=AskComposition,
                result=JobView,
                status=202,
            ),
            endpoint("GET", _BASE + "/jobs", "Its jobs", self.of, roles=CATALOGUE, result=JobsView),
            endpoint("GET", _JOB, "A job's state", self.show, result=JobView),
            endpoint("POST", _JOB + "/cancel", "Cancel it", self.cancel, body=AskJob, result=JobView),
            endpoint("POST", _JOB + "/retry", "Try it again", self.retry, body=AskJob, result=JobView),
            endpoint("POST", _JOB + "/download", "Ask to download an export", self.grant, result=ExportGrant),
            endpoint("GET", _JOB + "/bundle", "An export's bytes (Range)", self.download, roles=None),
        ]

    async def export(self, call: Call) -> JobView:
        return await self._ask(call, "export")

    async def preview(self, call: Call) -> JobView:
        return await self._ask(call, "preview")

    async def _ask(self, call: Call, kind: str, layout: str | None = None) -> JobView:
        recording = await self._gate.entrusted(call, DUTIES[kind])
        reason = await self._gate.reason(call.principal, recording, str(call.body.reason))
        await check_ready(self._gate, call.principal, recording, kind)
        entry = entry_of(recording, call.principal, _ASKED[kind], reason)
        job = await self._jobs.ask(recording, call.principal.user_id, kind, layout, entry)
        if job is None:
            raise await self._too_many(call, recording)
        return job_view(job)

    async def compose(self, call: Call) -> JobView:
        if call.body.layout not in LAYOUTS:
            raise ApiError(400, "bad_layout", f"Layouts are {', '.join(LAYOUTS)}.")
        return await self._ask(call, "composition", str(call.body.layout))

    async def of(self, call: Call) -> JobsView:
        recording = await self._gate.seen(call)
        return JobsView(jobs=[job_view(job) for job in await self._jobs.of(recording)])

    async def show(self, call: Call) -> JobView:
        return job_view((await self._entrusted(call))[0])

    async def cancel(self, call: Call) -> JobView:
        return await self._change(call, ("queued", "running", "done"), "cancelled", audit.JOB_CANCELLED)

    async def retry(self, call: Call) -> JobView:
        return await self._change(call, ("failed", "cancelled"), "queued", audit.JOB_RETRIED)

    async def _change(self, call: Call, states: tuple[str, ...], state: str, action: str) -> JobView:
        job, recording = await self._entrusted(call)
        if state == "queued":
            await check_ready(self._gate, call.principal, recording, job.kind)
        reason = str(call.body.reason)
        if not reason.strip() and job.user_id == call.principal.user_id:
            reason = job.reason or ""
        reason = await self._gate.reason(call.principal, recording, reason)
        entry = entry_of(recording, call.principal, action, reason, job=job.public_id, kind=job.kind)
        match await self._jobs.change(job, states, state, entry):
            case "wrong_state":
                raise ApiError(409, "wrong_state", f"That is not possible while the job is {job.state}.")
            case "too_many":
                raise await self._too_many(call, recording)
        return await self.show(call)

    async def _too_many(self, call: Call, recording: Details) -> ApiError:
        await self._gate.refuse(call.principal, recording, "too_many_jobs")
        return ApiError(429, "too_many_jobs", "Too many jobs are waiting. Try again later.")

    async def grant(self, call: Call) -> ExportGrant:
        job, recording = await self._entrusted(call)
        entry = entry_of(recording, call.principal, audit.EXPORT_GRANTED, job.reason, job=job.public_id)
        granted = None
        if job.kind == "export" and recording.exportable:
            granted = await self._jobs.grant(job, entry)
        if granted is None:
            await self._gate.refuse(call.principal, recording, "job_not_done", job=job.public_id)
            raise ApiError(409, "job_not_done", f"The {job.kind} is {job.state}.", state=job.state)
        token, expires_at_ms = granted
        size = (await self._bundles.open(recording, job)).size
        url = f"/api/v1/jobs/{job.public_id}/bundle?grant={token}"
        return ExportGrant(url=url, bytes=size, expires_at_ms=expires_at_ms)

    async def download(self, call: Call) -> web.StreamResponse:
        token = call.request.query.get("grant", "")
        found = await self._jobs.granted(token) if 0 < len(token) <= TOKEN_CHARS_MAX else None
        if found is None or found[0].public_id != call.id("id"):
            if found is not None:
                await self._note(found[0], audit.REFUSED, why="other export")
            raise ApiError(403, "no_access", "Ask to download this export first.")
        job, expired = found
        if expired:
            await self._note(job, audit.REFUSED, why="expired")
            raise ApiError(403, "access_expired", "Your access has expired. Ask for it again.")
        recording = await self._recordings.find(job.tenant_id, job.recording_public_id)
        if recording is None or not recording.exportable:
            raise ApiError(409, "job_not_done", "The recording is gone.")

        async def note(span: Span) -> None:
            await self._note(job, audit.EXPORT_TAKEN, range=span and list(span))

        async def refused(wanted: str) -> None:
            await self._note(job, audit.REFUSED, why="range", range=wanted)

        with self._bundles.place(job):
            return await send_file(
                *(call, BundleFile(await self._bundles.open(recording, job), job), PlainCache(0)),
                audit=note,
                refused=refused,
                allowed=while_ready(self._recordings, recording.tenant_id, recording.id),
                name=f"{recording.public_id}.zip",
            )

    async def _entrusted(self, call: Call) -> tuple[Job, Details]:
        """A job for those who may ask for one like it; an export for who asked. Raises ``ApiError``."""
        who = call.principal
        job = await self._jobs.find(who.tenant_id, call.id("id"))
        recording = None
        if job is not None:
            recording = await self._recordings.find(who.tenant_id, job.recording_public_id)
        await self._gate.check(who, recording, DUTIES["export" if job is None else job.kind])
        if job is None or recording is None:
            raise not_found("job")
        if job.kind == "export" and job.user_id != who.user_id:
            await self._gate.refuse(who, recording, "export of another", job=job.public_id)
            raise ApiError(403, "forbidden", "Somebody else asked for this export. Ask for one of your own.")
        return job, recording

    async def _note(self, job: Job, action: str, **details: object) -> None:
        await self._recordings.note(
            audit.NewEntry(
                *(job.tenant_id, job.user_id, job.user_public_id or "", action, job.recording_public_id, job.reason),
                details={"job": job.public_id, **details},
            )
        )


def job_view(job: Job) -> JobView:
    by = None if job.user_public_id is None else WhoView(id=job.user_public_id, name=job.user_name or "")
    return JobView(
        id=job.public_id,
        recording_id=job.recording_public_id,
        kind=job.kind,
        layout=job.layout,
        state=job.state,
        progress=job.progress,
        failure=job.failure,
        attempts=job.attempts,
        by=by,
        created_at_ms=job.created_at_ms,
        finished_at_ms=job.finished_at_ms,
    )
