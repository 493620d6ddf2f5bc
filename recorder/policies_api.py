"""The policies of a tenant over HTTP: how long, what is made, who sees their own. Each change has a reason, audited."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import pydantic

from config.http import ApiError, Body, Call, Endpoint, View, endpoint
from recorder import announcements, audit, retention
from recorder.catalogue import Recordings
from recorder.permissions import CATALOGUE, Duty, duties_of
from recorder.retention import AFTER_H, KEEP_DAYS, KINDS, LAYOUTS, OwnRule, Policy

_BASE: Final = "/api/v1/recordings/policies"


class OwnRuleBody(Body):
    """When people see recordings of their own calls."""

    after_h: int
    for_days: int
    download: bool = False
    """Whether they may save files made of them as well."""


class OwnRules(Body):
    """By role in the call; null: they do not see them."""

    client: OwnRuleBody | None = None
    provider: OwnRuleBody | None = None


class SetPolicy(Body):
    """PUT /api/v1/recordings/policies: what is left out stays as it is."""

    kind: str
    reason: str = pydantic.Field(default="", max_length=2000)
    keep_days: int | None = None
    preview: bool | None = None
    compose: list[str] | None = pydantic.Field(default=None, max_length=len(LAYOUTS))
    own: OwnRules | None = None
    announce: bool | None = None
    announce_url: str | None = pydantic.Field(default=None, max_length=500)
    """An https address; empty: none any more."""


class ResetPolicy(Body):
    """POST /api/v1/recordings/policies/{kind}/reset"""

    reason: str = pydantic.Field(default="", max_length=2000)


class OwnRuleView(View):
    """When people see recordings of their own calls."""

    after_h: int
    for_days: int
    download: bool


class PolicyView(View):
    """What holds for one kind of call."""

    kind: str
    keep_days: int
    is_default: bool
    preview: bool
    compose: list[str]
    own: dict[str, OwnRuleView | None]
    announce: bool
    """Whether those in the call hear that it is recorded."""
    announce_url: str | None
    """The tenant's own spoken notice; null: a sound, and the text."""


class PoliciesView(View):
    """GET /api/v1/recordings/policies"""

    keep_days: dict[str, int]
    policies: list[PolicyView]


class PoliciesApi:
    """The handlers."""

    def __init__(self, recordings: Recordings) -> None:
        self._recordings = recordings

    def endpoints(self) -> list[Endpoint]:
        """To be mounted by control."""
        reset = _BASE + "/{kind}/reset"
        return [
            endpoint("GET", _BASE, "How long, and what else", self.show, roles=CATALOGUE, result=PoliciesView),
            endpoint("PUT", _BASE, "Set it", self.set, body=SetPolicy, result=PoliciesView),
            endpoint("POST", reset, "As it is built in", self.reset, body=ResetPolicy, result=PoliciesView),
        ]

    async def show(self, call: Call) -> PoliciesView:
        async with self._recordings.database.transaction(call.principal.tenant_id) as connection:
            return _view(await retention.policies(connection, call.principal.tenant_id))

    async def set(self, call: Call) -> PoliciesView:
        wish: SetPolicy = call.body
        changes: dict[str, Any] = {}
        for name in ("keep_days", "preview", "compose", "announce"):
            value = getattr(wish, name)
            if value is not None:
                changes[name] = value
        if wish.announce_url is not None:
            changes["announce_url"] = wish.announce_url or None
        if wish.own is not None:
            for role in wish.own.model_fields_set:
                rule = getattr(wish.own, role)
                changes[role] = None if rule is None else OwnRule(rule.after_h, rule.for_days, rule.download)
        return await self._change(call, wish.kind, wish.reason, changes)

    async def reset(self, call: Call) -> PoliciesView:
        kind = call.request.match_info["kind"]
        changes = dataclasses.asdict(Policy(kind))
        return await self._change(call, kind, call.body.reason, changes)

    async def _change(self, call: Call, kind: str, reason: str, changes: dict[str, Any]) -> PoliciesView:
        who, about, wanted = call.principal, f"retention of {kind}"[:60], reason.strip()
        try:
            async with self._recordings.database.transaction(who.tenant_id) as connection:
                if Duty.KEY_ADMIN not in await duties_of(connection, who):
                    raise ApiError(403, "forbidden", "Your role does not allow this.")
                _check_wish(kind, wanted)
                await retention.locked(connection, who.tenant_id)
                before = await retention.policy(connection, who.tenant_id, kind)
                after = dataclasses.replace(before, **changes)
                _check_policy(after)
                details = {"kind": kind, "before": _json(before), "after": _json(after)}
                entry = audit.NewEntry(
                    who.tenant_id, who.user_id, who.public_id, audit.POLICY_SET, about, wanted, details
                )
                await audit.append(connection, entry)
                await retention.set_policy(connection, who.tenant_id, after)
                return _view(await retention.policies(connection, who.tenant_id))
        except ApiError as refusal:
            entry = audit.NewEntry(who.tenant_id, who.user_id, who.public_id, audit.REFUSED, about)
            await self._recordings.note(dataclasses.replace(entry, details={"why": refusal.code}))
            raise


def _check_wish(kind: str, reason: str) -> None:
    shortest, longest = audit.REASON_CHARS
    if kind not in KINDS:
        raise ApiError(400, "bad_request", f"Kinds are {' and '.join(KINDS)}.")
    if not shortest <= len(reason) <= longest:
        raise ApiError(400, "reason_required", f"Say why, in {shortest} to {longest} characters.")


def _check_policy(policy: Policy) -> None:
    if not policy.sound:
        raise ApiError(
            400,
            "bad_request",
            f"Days go from {KEEP_DAYS[0]} to {KEEP_DAYS[1]}, hours from {AFTER_H[0]} to {AFTER_H[1]}; "
            f"layouts are {', '.join(LAYOUTS)}.",
        )
    if policy.announce_url is not None and not announcements.is_clip_url(policy.announce_url):
        raise ApiError(400, "bad_announcement", "The notice has to be at an https address of at most 500 characters.")


def _json(policy: Policy) -> dict[str, Any]:
    return _policy_view(policy).model_dump(exclude={"kind", "is_default"})


def _policy_view(policy: Policy) -> PolicyView:
    rules = {"client": policy.client, "provider": policy.provider}
    return PolicyView(
        kind=policy.kind,
        keep_days=policy.keep_days,
        is_default=policy == Policy(policy.kind),
        preview=policy.preview,
        compose=list(policy.compose),
        own={role: None if rule is None else OwnRuleView(**rule._asdict()) for role, rule in rules.items()},
        announce=policy.announce,
        announce_url=policy.announce_url,
    )


def _view(policies: dict[str, Policy]) -> PoliciesView:
    return PoliciesView(
        keep_days={kind: policy.keep_days for kind, policy in policies.items()},
        policies=[_policy_view(policy) for policy in policies.values()],
    )
