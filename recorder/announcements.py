"""Announcements: those in a call hear that it is recorded, and their pages say what they played, to which text.

By policy of the tenant and kind of call. A page plays the tenant's own spoken notice where there is one, else a sound,
and shows the text; where the browser lets no sound out before the first click, the text alone. What was played when, to
whom, stands in the recording's story and in its signed root.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from typing import Any, Final, NamedTuple

from config.clock import Clock
from config.database import Database
from config.ids import SessionId, TenantId, UserId
from recorder import retention

TEXT: Final = "This call is being recorded."
VERSION: Final = "2026-11-1"
"""A new one for each change of the text."""
VERSIONS: Final = frozenset({VERSION})
HOW: Final = ("clip", "tone", "shown")
PER_PERSON_MAX: Final = 64
"""Announcements kept of one person in one session; a page that is told more often says nothing new."""
_URL: Final = re.compile(r"https://[!-~]{1,492}")
_DIGEST: Final = re.compile(r"\+[0-9a-f]{16}")


class Announcement(NamedTuple):
    """What pages are to play and show when the recording begins."""

    version: str
    text: str
    url: str | None


def is_clip_url(url: str) -> bool:
    """Whether a tenant's own notice may be at that address."""
    return _URL.fullmatch(url) is not None


def is_version(version: str) -> bool:
    """Whether a page may say that it announced this."""
    return version in VERSIONS or (version[:-17] in VERSIONS and _DIGEST.fullmatch(version[-17:]) is not None)


class Announcements:
    """What is to be announced, and what was."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def due(self, tenant: TenantId, kind: str) -> Announcement | None:
        """What pages of a call of that kind play when its recording begins; None: nothing, by policy."""
        if kind not in retention.KINDS:
            return None
        async with self._database.transaction(tenant) as connection:
            policy = await retention.policy(connection, tenant, kind)
        if not policy.announce:
            return None
        url = policy.announce_url
        digest = "" if url is None else "+" + hashlib.sha256(url.encode()).hexdigest()[:16]
        return Announcement(VERSION + digest, TEXT, url)

    async def made(
        self, tenant: TenantId, session_id: SessionId, user_id: UserId, key: str, version: str, how: str
    ) -> None:
        """Somebody's page played or showed it. The same key is stored once."""
        async with self._database.transaction(tenant) as connection:
            await connection.execute(
                "insert into recording_announcement (tenant_id, session_id, user_id, key, version, how, at)"
                " select $1, $2, $3, $4, $5, $6, $7 where (select count(*) from recording_announcement"
                " where tenant_id = $1 and session_id = $2 and user_id = $3) < $8 on conflict do nothing",
                tenant,
                session_id,
                user_id,
                key,
                version,
                how,
                datetime.datetime.fromtimestamp(self._clock.wall_ms() / 1000, datetime.UTC),
                PER_PERSON_MAX,
            )


async def events(connection: Any, tenant: TenantId, session_id: SessionId) -> list[dict[str, Any]]:
    """What was announced in a session, as events of its story."""
    return [
        {"at_ms": row["at_ms"], "what": "recording_announced", "by": row["id"], "why": f"{row['how']} {row['version']}"}
        for row in await _rows(connection, tenant, session_id)
    ]


async def signed(connection: Any, tenant: TenantId, session_id: SessionId) -> list[dict[str, Any]]:
    """The same, as the root names it."""
    return [
        {"participant": row["id"], "version": row["version"], "how": row["how"], "at_ms": row["at_ms"]}
        for row in await _rows(connection, tenant, session_id)
    ]


async def _rows(connection: Any, tenant: TenantId, session_id: SessionId) -> list[Any]:
    rows: list[Any] = await connection.fetch(
        "select u.public_id as id, a.version, a.how, (extract(epoch from a.at) * 1000)::bigint as at_ms"
        " from recording_announcement a join app_user u on u.tenant_id = a.tenant_id and u.id = a.user_id"
        " where a.tenant_id = $1 and a.session_id = $2 order by a.at, u.id, a.key",
        tenant,
        session_id,
    )
    return rows
