"""``/api/v1/recordings``: search, play and account for recordings; audited before bytes flow."""

from __future__ import annotations

import json
from typing import Any, Final

from aiohttp import web

from config.http import ANYONE, REQUEST_ID, ApiError, Call, Endpoint, endpoint, not_found
from config.keys import UnknownKey
from config.logs import get_log
from config.objects import ObjectMissing, ObjectStoreError
from recorder import audit
from recorder.catalogue import Details, Grant, Recordings, Search
from recorder.errors import SegmentCorrupt
from recorder.gate import Gate, entry_of
from recorder.permissions import CATALOGUE, Duty
from recorder.playback import PlainCache, RangeBeyond, StreamFile, open_stream, read_range
from recorder.views import (
    AccessesView,
    AccessGrant,
    AccessView,
    AskAccess,
    PlayableView,
    RecordingsView,
    RecordingView,
    WhoView,
    participant_of,
    recording_view,
)

log = get_log("recorder.api")

PAGE_MAX: Final = 100
ACCESSES_MAX: Final = 500
TIME_MAX_MS: Final = 10**15
TOKEN_CHARS_MAX: Final = 100
NO_STORE: Final = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}


def endpoints(recordings: Recordings) -> list[Endpoint]:
    """The routes, to be mounted by the control process."""
    api = _Api(recordings)
    base = "/api/v1/recordings"
    stream, manifest = base + "/{id}/streams/{n}", base + "/{id}/manifest"
    return [
        endpoint("GET", base, "Search recordings", api.search, roles=CATALOGUE, result=RecordingsView),
        endpoint("GET", base + "/{id}", "One recording", api.detail, roles=ANYONE, result=RecordingView),
        endpoint(
            "POST",
            base + "/{id}/access",
            "Ask to play one",
            api.access,
            roles=ANYONE,
            body=AskAccess,
            result=AccessGrant,
        ),
        endpoint("GET", base + "/{id}/accesses", "Who accessed it", api.accesses, roles=ANYONE, result=AccessesView),
        endpoint("GET", stream, "A stream's bytes (Range)", api.stream, roles=None),
        endpoint("HEAD", stream, "A stream's length and type", api.stream, roles=None),
        endpoint("GET", manifest, "The manifests of its parts", api.manifest, roles=None),
    ]


class _Api:
    """The handlers."""

    def __init__(self, recordings: Recordings) -> None:
        self._recordings = recordings
        self._gate = Gate(recordings)
        self._cache = PlainCache()

    async def search(self, call: Call) -> RecordingsView:
        limit = call.query_int("limit", 20, 1, PAGE_MAX)
        before = call.query_int("cursor", 0, 0, TIME_MAX_MS * 1000) or None
        low, high = (call.query_int(name, -1, 0, TIME_MAX_MS) for name in ("from_ms", "to_ms"))
        search = Search(
            participant=call.query_text("participant") or None,
            session=call.query_text("session") or None,
            from_ms=low if low >= 0 else None,
            to_ms=high if high >= 0 else None,
            before=before,
            held=call.query_int("held", 0, 0, 1) == 1,
        )
        found = await self._recordings.search(call.principal.tenant_id, search, limit + 1)
        more = str(found[limit - 1].id) if len(found) > limit else None
        return RecordingsView(recordings=[recording_view(each) for each in found[:limit]], next_cursor=more)

    async def detail(self, call: Call) -> RecordingView:
        return recording_view(await self._gate.seen(call))

    async def accesses(self, call: Call) -> AccessesView:
        recording = await self._gate.seen(call)
        limit = call.query_int("limit", 100, 1, ACCESSES_MAX)
        entries = await self._recordings.accesses(recording, limit)
        return AccessesView(
            accesses=[
                AccessView(
                    at_ms=entry.at_ms,
                    user=WhoView(id=entry.actor, name=entry.name),
                    action=entry.action,
                    reason=entry.reason,
                    details=entry.details,
                )
                for entry in entries
            ]
        )

    async def access(self, call: Call) -> AccessGrant:
        recording = await self._gate.entrusted(call, Duty.VIEWER)
        reason = await self._gate.reason(call.principal, recording, str(call.body.reason))
        if recording.state != "ready":
            await self._gate.refuse(call.principal, recording, recording.state)
            raise not_ready(recording)
        entry = entry_of(recording, call.principal, audit.GRANTED, reason)
        token, expires_at_ms = await self._recordings.grant(recording, call.principal.user_id, entry)
        base = f"/api/v1/recordings/{recording.public_id}"
        return AccessGrant(
            expires_at_ms=expires_at_ms,
            streams=[
                PlayableView(
                    n=stream.n,
                    participant_id=participant_of(recording, stream),
                    url=f"{base}/streams/{stream.n}?grant={token}",
                    content_type=stream.content_type,
                    offset_ms=stream.start_ms - recording.started_at_ms,
                    duration_ms=stream.end_ms - stream.start_ms,
                )
                for stream in recording.streams
            ],
            manifest_url=f"{base}/manifest?grant={token}",
        )

    async def stream(self, call: Call) -> web.StreamResponse:
        grant, recording = await self._granted(call)
        number = call.request.match_info["n"]
        file = await self._file(
            recording, int(number) if number.isascii() and number.isdigit() and len(number) < 6 else 0
        )
        headers = {
            **NO_STORE,
            "Accept-Ranges": "bytes",
            "Content-Type": file.content_type,
            "ETag": file.etag,
        }
        condition = call.request.headers.get("If-Range")
        wanted = call.request.headers.get("Range") if condition in (None, file.etag) else None
        try:
            span = read_range(wanted, file.size)
        except RangeBeyond:
            await self._recordings.note(_granted_entry(grant, audit.REFUSED, why="range", range=(wanted or "")[:64]))
            refusal = ApiError(416, "range_beyond_end", "The stream ends before that.", size=file.size)
            body = refusal.body(str(call.request.get(REQUEST_ID, "")))
            return web.json_response(body, status=416, headers={**NO_STORE, "Content-Range": f"bytes */{file.size}"})
        start, end = span or (0, file.size)
        if span is not None:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        headers["Content-Length"] = str(end - start)
        response = web.StreamResponse(status=206 if span is not None else 200, headers=headers)
        if call.request.method == "HEAD":
            await response.prepare(call.request)
            return response
        await self._recordings.open_with(
            grant, f"stream {number}", _granted_entry(grant, audit.OPENED, stream=int(number))
        )
        return await self._send(call, response, file, start, end)

    async def _send(
        self, call: Call, response: web.StreamResponse, file: StreamFile, start: int, end: int
    ) -> web.StreamResponse:
        """The bytes. What turns out to be damaged cuts the response short; the first piece is read before it begins."""
        chunks = file.read(start, end, self._cache)
        try:
            first = await anext(chunks, b"")
            await response.prepare(call.request)
            await response.write(first)
            async for chunk in chunks:
                await response.write(chunk)
        except (SegmentCorrupt, ObjectStoreError):
            log.fault("cannot read a recording", path=call.request.path)
            if response.prepared:
                raise ConnectionResetError("the recording cannot be read on") from None
            raise ApiError(
                503, "recording_unreadable", "The recording cannot be read just now. It has been logged."
            ) from None
        await response.write_eof()
        return response

    async def manifest(self, call: Call) -> web.StreamResponse:
        grant, recording = await self._granted(call)
        await self._recordings.open_with(grant, "manifest", _granted_entry(grant, audit.MANIFEST_READ))
        parts = []
        for part in await self._recordings.parts(recording):
            if part["manifest_key"] is not None:
                try:
                    parts.append(json.loads(await self._recordings.objects.get(part["manifest_key"])))
                except (ObjectMissing, ObjectStoreError):
                    raise ApiError(503, "recording_unreadable", "The manifest cannot be read just now.") from None
        body = {"recording": recording.public_id, "parts": parts}
        return web.json_response(body, headers=NO_STORE)

    async def _granted(self, call: Call) -> tuple[Grant, Details]:
        """The grant that the URL carries, and its recording, ready to be played."""
        token = call.request.query.get("grant", "")
        grant = await self._recordings.find_grant(token) if 0 < len(token) <= TOKEN_CHARS_MAX else None
        if grant is None or grant.recording_public_id != call.id("id"):
            if grant is not None:
                await self._recordings.note(_granted_entry(grant, audit.REFUSED, why="other recording"))
            raise ApiError(403, "no_access", "Ask for access to this recording first, and say why.")
        if self._recordings.is_expired(grant):
            await self._recordings.note(_granted_entry(grant, audit.REFUSED, why="expired"))
            raise ApiError(403, "access_expired", "Your access has expired. Ask for it again.")
        recording = await self._recordings.find(grant.tenant_id, grant.recording_public_id)
        if recording is None:
            raise not_found("recording")
        if recording.state != "ready":
            raise not_ready(recording)
        return grant, recording

    async def _file(self, recording: Details, n: int) -> StreamFile:
        try:
            file = await open_stream(self._recordings, recording, n)
        except (SegmentCorrupt, UnknownKey):
            log.fault("cannot open a recording", recording=recording.public_id, stream=n)
            raise ApiError(503, "recording_unreadable", "The recording cannot be read. It has been logged.") from None
        if file is None:
            raise not_found("stream")
        return file


def _granted_entry(grant: Grant, action: str, **details: Any) -> audit.NewEntry:
    return audit.NewEntry(
        grant.tenant_id,
        grant.user_id,
        grant.actor,
        action,
        grant.recording_public_id,
        None,
        {"grant": grant.grant_id, **details},
    )


_NOT_READY: Final[dict[str, tuple[str, str]]] = {
    "recording": ("recording_in_progress", "The call is still being recorded."),
    "finishing": ("recording_finishing", "The recording is being completed. Try again in a moment."),
    "expired": ("recording_expired", "The recording was deleted when its time was over."),
    "erased": ("recording_erased", "The recording was erased: its key was destroyed."),
    "failed": ("recording_failed", "There is nothing to play: the recording failed."),
}


def not_ready(recording: Details) -> ApiError:
    """Why there is nothing to play or export."""
    code, message = _NOT_READY.get(recording.state, ("recording_not_ready", "The recording is not ready."))
    return ApiError(409, code, message, state=recording.state, failure=recording.failure)
