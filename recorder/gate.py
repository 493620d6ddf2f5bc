"""What every request about one recording goes through: is it there, may this person, why; refusals are audited."""

from __future__ import annotations

import dataclasses
from typing import Any

from config.http import ApiError, Call, not_found
from config.identity import Principal
from recorder import audit
from recorder.catalogue import Details, Recordings
from recorder.permissions import CATALOGUE, Duty, duties_of


class Gate:
    """Lets callers through, or raises ``ApiError`` after the audit log has it."""

    def __init__(self, recordings: Recordings) -> None:
        self._recordings = recordings

    async def seen(self, call: Call) -> Details:
        """The recording of the path, for somebody who may see the catalogue."""
        recording = await self._recordings.find(call.principal.tenant_id, call.id("id"))
        if call.principal.role not in CATALOGUE:
            raise await self._stopped(call.principal, recording)
        if recording is None:
            raise not_found("recording")
        return recording

    async def entrusted(self, call: Call, *duties: Duty) -> Details:
        """The recording of the path, for somebody with one of the duties."""
        recording = await self._recordings.find(call.principal.tenant_id, call.id("id"))
        await self.check(call.principal, recording, *duties)
        if recording is None:
            raise not_found("recording")
        return recording

    async def check(self, who: Principal, recording: Details | None, *duties: Duty) -> None:
        """Raises 403 for somebody who has none of the duties."""
        async with self._recordings.database.transaction(who.tenant_id) as connection:
            own = await duties_of(connection, who)
        if own.isdisjoint(duties):
            raise await self._stopped(who, recording, duties[0])

    async def reason(self, who: Principal, recording: Details, text: str) -> str:
        """The reason, trimmed. Raises 400 without a proper one."""
        reason = text.strip()
        low, high = audit.REASON_CHARS
        if not low <= len(reason) <= high:
            await self.refuse(who, recording, "no_reason")
            raise ApiError(400, "reason_required", f"Say why you need to do this, in {low} to {high} characters.")
        return reason

    async def refuse(self, who: Principal, recording: Details, why: str, **details: Any) -> None:
        """Write down that somebody was refused."""
        entry = entry_of(recording, who, audit.REFUSED, None)
        await self._recordings.note(dataclasses.replace(entry, details={"why": why, **details}))

    async def _stopped(self, who: Principal, recording: Details | None, duty: Duty | None = None) -> ApiError:
        if recording is not None:
            await self.refuse(who, recording, "role", **({} if duty is None else {"duty": duty.value}))
        return ApiError(403, "forbidden", "Your role does not allow this.")


def entry_of(recording: Details, who: Principal, action: str, reason: str | None, **details: Any) -> audit.NewEntry:
    """An entry of the audit log about a recording."""
    return audit.NewEntry(
        recording.tenant_id, who.user_id, who.public_id, action, recording.public_id, reason, dict(details)
    )
