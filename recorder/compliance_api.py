"""Legal holds, retention and erasure over HTTP: each needs a duty and a reason, and is audited."""

from __future__ import annotations

from typing import Final

from config.clock import Clock
from config.http import ANYONE, ApiError, Call, Endpoint, endpoint, not_found
from config.keys import SIGNATURE_ALGORITHM, SigningKey
from recorder import audit
from recorder.catalogue import Recordings
from recorder.compliance_views import (
    HoldsView,
    HoldView,
    Reasoned,
    SigningKeyView,
    hold_view,
)
from recorder.gate import Gate, entry_of
from recorder.holds import Holds
from recorder.jobs_api import JobsApi
from recorder.lifecycle import Lifecycle
from recorder.own_api import OwnApi
from recorder.permissions import Duty
from recorder.policies_api import PoliciesApi
from recorder.reports_api import ReportsApi

_BASE: Final = "/api/v1/recordings"


def endpoints(recordings: Recordings, key: SigningKey, clock: Clock) -> list[Endpoint]:
    """The routes, to be mounted by the control process before those of ``recorder.api``."""
    rules = _RulesApi(recordings, key, clock)
    of = _BASE + "/{id}"
    return [
        endpoint("GET", _BASE + "/signing-key", "The public key", rules.key, roles=None, result=SigningKeyView),
        *PoliciesApi(recordings).endpoints(),
        endpoint("GET", of + "/holds", "Its legal holds", rules.holds, roles=ANYONE, result=HoldsView),
        endpoint("POST", of + "/holds", "Place a legal hold", rules.place, body=Reasoned, result=HoldView, status=201),
        endpoint("POST", "/api/v1/holds/{id}/release", "Release it", rules.release, body=Reasoned, result=HoldView),
        endpoint("POST", of + "/erase", "Destroy its key", rules.erase, body=Reasoned),
        *JobsApi(recordings, clock).endpoints(),
        *ReportsApi(recordings, clock).endpoints(),
        *OwnApi(recordings, clock).endpoints(),
    ]


class _RulesApi:
    def __init__(self, recordings: Recordings, key: SigningKey, clock: Clock) -> None:
        self._recordings = recordings
        self._gate = Gate(recordings)
        self._holds = Holds(recordings, clock)
        self._lifecycle = Lifecycle(recordings, key, clock)
        self._key = key

    async def key(self, _: Call) -> SigningKeyView:
        return SigningKeyView(algorithm=SIGNATURE_ALGORITHM, key_id=self._key.key_id, public_key=self._key.public.hex())

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
        await self._gate.check(who, recording, Duty.HOLD_MANAGER)
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
