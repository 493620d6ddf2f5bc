"""Who may take a file that was made of a recording out of the house: playing is one thing, keeping a copy another."""

from __future__ import annotations

from typing import Final

from config.identity import Role
from config.ids import UserId
from recorder import retention
from recorder.catalogue import Details, Recordings
from recorder.permissions import BY_ROLE, Duty, duties_in

WORDS: Final = "You may play this recording, not save it."


async def may_take(recordings: Recordings, recording: Details, user_id: UserId) -> bool:
    """Staff: exporters, as of now. People of the call: where the policy of their side says so, as it is now."""
    async with recordings.database.transaction(recording.tenant_id) as connection:
        role = await connection.fetchval(
            "select role from app_user where tenant_id = $1 and id = $2 and disabled_at is null",
            recording.tenant_id,
            user_id,
        )
        if role is None:
            return False
        if Role(role) in BY_ROLE:
            return Duty.EXPORTER in await duties_in(connection, recording.tenant_id, user_id, Role(role))
        policy = await retention.policy(connection, recording.tenant_id, recording.kind)
    rules = [policy.own(each.role) for each in recording.participants if each.user_id == user_id]
    return any(rule is not None and rule.download for rule in rules)
