"""Exports, legal holds, retention and erasure over HTTP: each needs a duty and a reason, and is audited."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from config.clock import Clock
from config.http import ANYONE, ApiError, Call, Endpoint, endpoint, not_found
from config.keys import SIGNATURE_ALGORITHM, SigningKey, UnknownKey
from config.logs import get_log
from config.objects import ObjectStoreError
from recorder import audit, retention
from recorder.api import NO_STORE, TOKEN_CHARS_MAX, not_ready
from recorder.bundle import Bundle
from recorder.catalogue import Details, Recordings
from recorder.compliance_views import (
    ExportGrant,
    ExportView,
    HoldsView,
    HoldView,
    PoliciesView,
    Reasoned,
    SetPolicy,
    SigningKeyView,
    export_view,
    hold_view,
)
from recorder.errors import SegmentCorrupt
from recorder.exports import Export, Exports
from recorder.gate import Gate, entry_of
from recorder.holds import Holds
from recorder.lifecycle import Lifecycle
from recorder.permissions import CATALOGUE, Duty, duties_of
from recorder.playback import RangeBeyond, read_range

log = get_log("recorder.compliance")

_BASE: Final = "/api/v1/recordings"
_EXPORT: Final = "/api/v1/exports/{id}"


def endpoints(recordings: Recordings, key: SigningKey, clock: Clock) -> list[Endpoint]:
    """The routes, to be mounted by the control process before those of ``recorder.api``."""
    exports, rules = _ExportsApi(recordings, clock), _RulesApi(recordings, key, clock)
    of = _BASE + "/{id}"
    return [
        endpoint("GET", _BASE + "/signing-key", "The public key", rules.key, roles=None, result=SigningKeyView),
        endpoint("GET", _BASE + "/policies", "How long", rules.policies, roles=CATALOGUE, result=PoliciesView),
        endpoint("PUT", _BASE + "/policies", "Set it", rules.set_policy, body=SetPolicy, result=PoliciesView),
        endpoint("GET", of + "/holds", "Its legal holds", rules.holds, roles=ANYONE, result=HoldsView),
        endpoint("POST", of + "/holds", "Place a legal hold", rules.place, body=Reasoned, result=HoldView, status=201),
        endpoint("POST", "/api/v1/holds/{id}/release", "Release it", rules.release, body=Reasoned, result=HoldView),
        endpoint("POST", of + "/erase", "Destroy its key", rules.erase, body=Reasoned),
        endpoint("POST", of + "/exports", "Export it", exports.ask, body=Reasoned, result=ExportView, status=202),
        endpoint("GET", _EXPORT, "An export's state", exports.show, result=ExportView),
        endpoint("POST", _EXPORT + "/cancel", "Cancel it", exports.cancel, result=ExportView),
        endpoint("POST", _EXPORT + "/retry", "Try it again", exports.retry, result=ExportView),
        endpoint("POST", _EXPORT + "/download", "Ask to download it", exports.grant, result=ExportGrant),
        endpoint("GET", _EXPORT + "/bundle", "The bundle's bytes (Range)", exports.download, roles=None),
    ]


class _ExportsApi:
    def __init__(self, recordings: Recordings, clock: Clock) -> None:
        self._recordings = recordings
        self._gate = Gate(recordings)
        self._exports = Exports(recordings, clock)

    async def ask(self, call: Call) -> ExportView:
        recording = await self._gate.entrusted(call, Duty.EXPORTER)
        reason = await self._gate.reason(call.principal, recording, str(call.body.reason))
        if recording.state != "ready":
            await self._gate.refuse(call.principal, recording, recording.state)
            raise not_ready(recording)
        entry = entry_of(recording, call.principal, audit.EXPORT_ASKED, reason)
        export = await self._exports.ask(recording, call.principal.user_id, entry)
        if export is None:
            await self._gate.refuse(call.principal, recording, "too_many_exports")
            raise ApiError(429, "too_many_exports", "Too many exports are waiting. Try again later.")
        return export_view(export)

    async def show(self, call: Call) -> ExportView:
        return export_view((await self._own(call))[0])

    async def cancel(self, call: Call) -> ExportView:
        return await self._change(call, ("queued", "running", "ready"), "cancelled", audit.EXPORT_CANCELLED)

    async def retry(self, call: Call) -> ExportView:
        return await self._change(call, ("failed", "cancelled"), "queued", audit.EXPORT_RETRIED)

    async def _change(self, call: Call, states: tuple[str, ...], state: str, action: str) -> ExportView:
        export, recording = await self._own(call)
        entry = entry_of(recording, call.principal, action, export.reason, export=export.public_id)
        if not await self._exports.change(export, states, state, entry):
            raise ApiError(409, "wrong_state", f"That is not possible while the export is {export.state}.")
        return await self.show(call)

    async def grant(self, call: Call) -> ExportGrant:
        export, recording = await self._own(call)
        entry = entry_of(recording, call.principal, audit.EXPORT_GRANTED, export.reason, export=export.public_id)
        granted = await self._exports.grant(export, entry) if recording.state == "ready" else None
        if granted is None:
            await self._gate.refuse(call.principal, recording, "export_not_ready", export=export.public_id)
            raise ApiError(409, "export_not_ready", f"The export is {export.state}.", state=export.state)
        token, expires_at_ms = granted
        size = Bundle(self._recordings, recording, await self._exports.plan(export)).size
        url = f"/api/v1/exports/{export.public_id}/bundle?grant={token}"
        return ExportGrant(url=url, bytes=size, expires_at_ms=expires_at_ms)

    async def download(self, call: Call) -> web.StreamResponse:
        token = call.request.query.get("grant", "")
        found = await self._exports.granted(token) if 0 < len(token) <= TOKEN_CHARS_MAX else None
        if found is None or found[0].public_id != call.id("id"):
            raise ApiError(403, "no_access", "Ask to download this export first.")
        export, expired, actor = found
        if expired:
            await self._note(export, actor, audit.REFUSED, why="expired")
            raise ApiError(403, "access_expired", "Your access has expired. Ask for it again.")
        recording = await self._recordings.find(export.tenant_id, export.recording_public_id)
        if recording is None or recording.state != "ready":
            raise ApiError(409, "export_not_ready", "The recording is gone.")
        bundle = Bundle(self._recordings, recording, await self._exports.plan(export))
        wanted = call.request.headers.get("Range")
        try:
            span = read_range(wanted, bundle.size)
        except RangeBeyond:
            await self._note(export, actor, audit.REFUSED, why="range", range=(wanted or "")[:64])
            raise ApiError(416, "range_beyond_end", "The bundle ends before that.", size=bundle.size) from None
        await self._note(export, actor, audit.EXPORT_TAKEN, range=span and list(span))
        return await self._send(call, bundle, export, span)

    async def _send(
        self, call: Call, bundle: Bundle, export: Export, span: tuple[int, int] | None
    ) -> web.StreamResponse:
        start, end = span or (0, bundle.size)
        headers = {
            **NO_STORE,
            "Content-Type": "application/zip",
            "Content-Disposition": f'attachment; filename="{export.recording_public_id}.zip"',
            "Accept-Ranges": "bytes",
            "Content-Length": str(end - start),
        }
        if span is not None:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{bundle.size}"
        response = web.StreamResponse(status=206 if span else 200, headers=headers)
        await response.prepare(call.request)
        try:
            async for piece in bundle.read(start, end):
                await response.write(piece)
        except (SegmentCorrupt, UnknownKey, ObjectStoreError):
            log.fault("cannot read an export", export=export.public_id)
            raise ConnectionResetError("the bundle cannot be read on") from None
        await response.write_eof()
        return response

    async def _own(self, call: Call) -> tuple[Export, Details]:
        """An export for those who may export. Raises ``ApiError``."""
        who = call.principal
        export = await self._exports.find(who.tenant_id, call.id("id"))
        recording = None
        if export is not None:
            recording = await self._recordings.find(who.tenant_id, export.recording_public_id)
        await self._gate.check(who, Duty.EXPORTER, recording)
        if export is None or recording is None:
            raise not_found("export")
        if export.user_id != who.user_id:
            await self._gate.refuse(who, recording, "export of another", export=export.public_id)
            raise ApiError(403, "forbidden", "Somebody else asked for this export. Ask for one of your own.")
        return export, recording

    async def _note(self, export: Export, actor: str, action: str, **details: object) -> None:
        await self._recordings.note(
            audit.NewEntry(
                *(export.tenant_id, export.user_id, actor, action, export.recording_public_id, export.reason),
                details={"export": export.public_id, **details},
            )
        )


class _RulesApi:
    def __init__(self, recordings: Recordings, key: SigningKey, clock: Clock) -> None:
        self._recordings = recordings
        self._gate = Gate(recordings)
        self._holds = Holds(recordings, clock)
        self._lifecycle = Lifecycle(recordings, key, clock)
        self._key = key

    async def key(self, _: Call) -> SigningKeyView:
        return SigningKeyView(algorithm=SIGNATURE_ALGORITHM, key_id=self._key.key_id, public_key=self._key.public.hex())

    async def policies(self, call: Call) -> PoliciesView:
        async with self._recordings.database.transaction(call.principal.tenant_id) as connection:
            return PoliciesView(keep_days=await retention.policies(connection, call.principal.tenant_id))

    async def set_policy(self, call: Call) -> PoliciesView:
        who, wish = call.principal, call.body
        low, high = retention.KEEP_DAYS
        if wish.kind not in retention.KINDS or not low <= wish.keep_days <= high:
            raise ApiError(400, "bad_request", f"Kinds are audio and video; days go from {low} to {high}.")
        shortest, longest = audit.REASON_CHARS
        async with self._recordings.database.transaction(who.tenant_id) as connection:
            if Duty.KEY_ADMIN not in await duties_of(connection, who):
                raise ApiError(403, "forbidden", "Your role does not allow this.")
            if not shortest <= len(wish.reason.strip()) <= longest:
                raise ApiError(400, "reason_required", f"Say why, in {shortest} to {longest} characters.")
            before = await retention.policies(connection, who.tenant_id)
            details = {"kind": wish.kind, "keep_days": wish.keep_days, "before": before[wish.kind]}
            subject = f"retention of {wish.kind}"
            entry = audit.NewEntry(
                *(who.tenant_id, who.user_id, who.public_id, audit.POLICY_SET, subject, wish.reason.strip()),
                details=details,
            )
            await audit.append(connection, entry)
            await retention.set_policy(connection, who.tenant_id, wish.kind, wish.keep_days)
            return PoliciesView(keep_days=await retention.policies(connection, who.tenant_id))

    async def holds(self, call: Call) -> HoldsView:
        recording = await self._gate.seen(call)
        return HoldsView(holds=[hold_view(hold) for hold in await self._holds.of(recording)])

    async def place(self, call: Call) -> HoldView:
        recording = await self._gate.entrusted(call, Duty.HOLD_MANAGER)
        reason = await self._gate.reason(call.principal, recording, str(call.body.reason))
        entry = entry_of(recording, call.principal, audit.HOLD_PLACED, reason)
        hold = await self._holds.place(recording, call.principal.user_id, entry)
        if hold is None:
            await self._gate.refuse(call.principal, recording, "hold")
            raise ApiError(409, "cannot_hold", "The recording is gone, or held too many times already.")
        return hold_view(hold)

    async def release(self, call: Call) -> HoldView:
        who = call.principal
        hold = await self._holds.find(who.tenant_id, call.id("id"))
        recording = None if hold is None else await self._recordings.find(who.tenant_id, hold.recording_id)
        await self._gate.check(who, Duty.HOLD_MANAGER, recording)
        if hold is None or recording is None:
            raise not_found("legal hold")
        reason = await self._gate.reason(who, recording, str(call.body.reason))
        released = await self._holds.release(hold, who.user_id, entry_of(recording, who, audit.HOLD_RELEASED, reason))
        if released is None:
            raise ApiError(409, "released_before", "The hold was released before.")
        return hold_view(released)

    async def erase(self, call: Call) -> None:
        recording = await self._gate.entrusted(call, Duty.KEY_ADMIN)
        reason = await self._gate.reason(call.principal, recording, str(call.body.reason))
        refusal = await self._lifecycle.erase(recording, entry_of(recording, call.principal, audit.ERASED, reason))
        if refusal is not None:
            await self._gate.refuse(call.principal, recording, refusal.code)
            raise ApiError(409, refusal.code, refusal.message)
