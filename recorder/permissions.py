"""Who may do what with recordings: four duties, kept apart, on top of a user's role. The one table of it."""

from __future__ import annotations

import enum
from typing import Any, Final

from config.identity import Principal, Role
from config.ids import TenantId, UserId


class Duty(enum.StrEnum):
    """What somebody may be entrusted with."""

    VIEWER = "viewer"
    """Plays recordings."""
    EXPORTER = "exporter"
    """Takes bundles out of the house."""
    HOLD_MANAGER = "hold_manager"
    """Places and releases legal holds."""
    KEY_ADMIN = "key_admin"
    """Sets for how long recordings are kept, and destroys keys; neither plays nor exports."""


BY_ROLE: Final[dict[Role, frozenset[Duty]]] = {
    Role.COMPLIANCE: frozenset({Duty.VIEWER, Duty.EXPORTER, Duty.HOLD_MANAGER}),
    Role.ADMIN: frozenset({Duty.KEY_ADMIN}),
}
"""What the roles may do unless a user's own row in ``recording_duty`` says otherwise. Other roles: nothing, ever."""
CATALOGUE: Final = frozenset(BY_ROLE)
"""Who sees the catalogue and the access log, without any media."""


async def duties_of(connection: Any, who: Principal) -> frozenset[Duty]:
    """What a user may do now."""
    return await duties_in(connection, who.tenant_id, who.user_id, who.role)


async def duties_in(connection: Any, tenant: TenantId, user_id: UserId, role: Role) -> frozenset[Duty]:
    """The same, of somebody who is not the caller."""
    of_role = BY_ROLE.get(role)
    if of_role is None:
        return frozenset()
    own = await connection.fetchval(
        "select duties from recording_duty where tenant_id = $1 and user_id = $2", tenant, user_id
    )
    return of_role if own is None else frozenset(map(Duty, own))
