"""``/api/v1/recordings``: search, ask to play, account for recordings; and what people see of their own."""

from __future__ import annotations

import dataclasses
from typing import Final

from config.http import ANYONE, ApiError, Call, Endpoint, endpoint
from recorder import audit, tags
from recorder.catalogue import Details, Recordings
from recorder.gate import Gate, entry_of
from recorder.media_api import MediaApi, granted_view
from recorder.permissions import CATALOGUE, Duty, duties_of
from recorder.products import newest, products_of
from recorder.readiness import check_ready
from recorder.search import Search
from recorder.views import (
    AccessesView,
    AccessGrant,
    AskAccess,
    RecordingsView,
    RecordingView,
    SetTags,
    TagsView,
    access_view,
    recording_view,
)

PAGE_MAX: Final = 100
ACCESSES_MAX: Final = 500
TIME_MAX_MS: Final = 10**15
MOS_MAX: Final = 5.0


def endpoints(recordings: Recordings) -> list[Endpoint]:
    """The routes, to be mounted by the control process."""
    api = _Api(recordings)
    base = "/api/v1/recordings"
    of = base + "/{id}"
    return [
        endpoint("GET", base, "Search recordings", api.search, roles=CATALOGUE, result=RecordingsView),
        endpoint("GET", base + "/tags", "Tags in use", api.tags, roles=CATALOGUE, result=TagsView),
        endpoint("GET", of, "One recording", api.detail, roles=ANYONE, result=RecordingView),
        endpoint("PUT", of + "/tags", "Set its tags", api.set_tags, body=SetTags, result=RecordingView),
        endpoint("POST", of + "/access", "Ask to play one", api.access, body=AskAccess, result=AccessGrant),
        endpoint("GET", of + "/accesses", "Who accessed it", api.accesses, roles=ANYONE, result=AccessesView),
        *MediaApi(recordings).endpoints(),
    ]


class _Api:
    """The handlers."""

    def __init__(self, recordings: Recordings) -> None:
        self._recordings = recordings
        self._gate = Gate(recordings)

    async def search(self, call: Call) -> RecordingsView:
        limit = call.query_int("limit", 20, 1, PAGE_MAX)
        duties = await self._duties(call)
        found = await self._recordings.search(call.principal.tenant_id, _search(call), limit + 1)
        more = str(found[limit - 1].id) if len(found) > limit else None
        return RecordingsView(recordings=[recording_view(each, duties) for each in found[:limit]], next_cursor=more)

    async def detail(self, call: Call) -> RecordingView:
        return await self._shown(call, await self._gate.seen(call))

    async def _shown(self, call: Call, recording: Details) -> RecordingView:
        made = newest(await products_of(self._recordings, recording))
        return recording_view(recording, await self._duties(call), made)

    async def _duties(self, call: Call) -> frozenset[Duty]:
        async with self._recordings.database.transaction(call.principal.tenant_id) as connection:
            return await duties_of(connection, call.principal)

    async def accesses(self, call: Call) -> AccessesView:
        recording = await self._gate.seen(call)
        limit = call.query_int("limit", 100, 1, ACCESSES_MAX)
        before = call.query_int("cursor", 0, 0, 10**18) or None
        entries = await self._recordings.accesses(recording, limit + 1, before)
        more = str(entries[limit - 1].n) if len(entries) > limit else None
        return AccessesView(accesses=[access_view(entry) for entry in entries[:limit]], next_cursor=more)

    async def tags(self, call: Call) -> TagsView:
        async with self._recordings.database.transaction(call.principal.tenant_id) as connection:
            return TagsView.model_validate({"tags": await tags.used(connection, call.principal.tenant_id)})

    async def set_tags(self, call: Call) -> RecordingView:
        recording = await self._gate.entrusted(call, Duty.VIEWER, Duty.HOLD_MANAGER)
        wanted = tags.tidy(call.body.tags)
        if wanted is None:
            raise ApiError(400, "bad_tags", f"At most {tags.TAGS_MAX} tags of 1 to {tags.CHARS_MAX} characters.")
        entry = entry_of(recording, call.principal, audit.TAGGED, None, tags=wanted, before=recording.tags)
        async with self._recordings.database.transaction(recording.tenant_id) as connection:
            await audit.append(connection, entry)
            await tags.put(connection, recording.tenant_id, recording.id, wanted)
        return await self._shown(call, dataclasses.replace(recording, tags=wanted))

    async def access(self, call: Call) -> AccessGrant:
        recording = await self._gate.entrusted(call, Duty.VIEWER)
        reason = await self._gate.reason(call.principal, recording, str(call.body.reason))
        await check_ready(self._gate, call.principal, recording)
        entry = entry_of(recording, call.principal, audit.GRANTED, reason)
        token, expires_at_ms = await self._recordings.grant(recording, call.principal.user_id, entry)
        return await granted_view(self._recordings, recording, call.principal.user_id, token, expires_at_ms)


def _search(call: Call) -> Search:
    return Search(
        participant=call.query_text("participant") or None,
        session=call.query_text("session") or None,
        from_ms=_number(call, "from_ms"),
        to_ms=_number(call, "to_ms"),
        before=call.query_int("cursor", 0, 0, TIME_MAX_MS * 1000) or None,
        held=call.query_int("held", 0, 0, 1) == 1,
        kind=call.query_text("kind") or None,
        state=call.query_text("state") or None,
        min_duration_ms=_number(call, "min_duration_ms"),
        max_duration_ms=_number(call, "max_duration_ms"),
        tag=call.query_text("tag") or None,
        min_mos=_mos(call, "min_mos"),
        max_mos=_mos(call, "max_mos"),
    )


def _number(call: Call, name: str) -> int | None:
    value = call.query_int(name, -1, 0, TIME_MAX_MS)
    return value if value >= 0 else None


def _mos(call: Call, name: str) -> float | None:
    text = call.query_text(name)
    if text is None or text == "":
        return None
    try:
        value = float(text) if len(text) <= 10 else -1.0
    except ValueError:
        value = -1.0
    if not 0 <= value <= MOS_MAX:
        raise ApiError(400, "bad_query", f"“{name}” must be a number from 0 to {MOS_MAX:g}.")
    return value
