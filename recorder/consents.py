"""Consent beyond a person's own answer: taken back in mid-call, or attested by the host platform that asked for it.

And the texts, word for word, by version: a version never stands for another text than the one it first stood for.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, NamedTuple

from config.clock import Clock
from config.database import Database
from config.ids import SessionId, TenantId, UserId
from recorder import audit


class TextUnknown(Exception):
    """The version is not known, and its text was not given."""


class TextDiffers(Exception):
    """The version stands for another text."""


class Answer(NamedTuple):
    """What somebody answered to a platform's text."""

    user_id: UserId
    version: str
    accepted: bool
    evidence: str
    """What the platform has in hand to show it."""
    at_ms: int
    """When they answered, as the platform says."""


class Text(NamedTuple):
    """A text by its version."""

    version: str
    text: str
    source: str
    """``turnpike`` or ``platform``."""
    since_ms: int


class Consents:
    """Adds rows to the consents of sessions. The answer that a user gave last counts, whichever came in last.

    Of two that were given at the same moment, a no counts.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def withdraw(self, session_id: SessionId, entry: audit.NewEntry) -> None:
        """The entry's user takes their consent back; audited in the same transaction."""
        async with self._database.transaction(entry.tenant_id) as connection:
            await audit.append(connection, entry)
            await connection.execute(
                "insert into consent (tenant_id, session_id, user_id, text_version, text_of, accepted, at)"
                " select tenant_id, session_id, user_id, text_version, text_of, false, greatest($4, at) from consent"
                " where tenant_id = $1 and session_id = $2 and user_id = $3 order by at desc, id desc limit 1",
                entry.tenant_id,
                session_id,
                entry.user_id,
                self._now(),
            )

    async def put(self, connection: Any, tenant: TenantId, session_id: SessionId, answer: Answer) -> None:
        """Store what a platform attests, in the caller's transaction."""
        await connection.execute(
            "insert into consent (tenant_id, session_id, user_id, text_version, text_of, accepted, given_by, evidence,"
            " at) values ($1, $2, $3, $4, 'platform', $5, 'platform', $6, $7)",
            tenant,
            session_id,
            answer.user_id,
            answer.version,
            answer.accepted,
            answer.evidence,
            _time(answer.at_ms),
        )

    async def agreed(self, connection: Any, tenant: TenantId, session_id: SessionId, users: Sequence[UserId]) -> bool:
        """Whether the last answer of every one of the users is yes. Nobody's consent is no consent."""
        agreed = await connection.fetchval(
            "select count(*) from (select distinct on (user_id) user_id, accepted from consent"
            " where tenant_id = $1 and session_id = $2 and user_id = any($3::bigint[])"
            " order by user_id, at desc, accepted, id desc) last where accepted",
            tenant,
            session_id,
            list(users),
        )
        return bool(users) and agreed == len(set(users))

    async def keep_text(self, connection: Any, tenant: TenantId, version: str, text: str | None, source: str) -> None:
        """Make sure that a version's text is stored, among those of its source. Raises ``TextUnknown``,
        ``TextDiffers``: what a version stands for is never changed."""
        if text is not None:
            await connection.execute(
                "insert into consent_text (tenant_id, version, text, source, since) values ($1, $2, $3, $4, $5)"
                " on conflict do nothing",
                tenant,
                version,
                text,
                source,
                self._now(),
            )
        known = await connection.fetchval(
            "select text from consent_text where tenant_id = $1 and version = $2 and source = $3",
            tenant,
            version,
            source,
        )
        if known is None:
            raise TextUnknown(version)
        if text is not None and known != text:
            raise TextDiffers(version)

    async def texts(self, tenant: TenantId) -> list[Text]:
        """All texts that anybody answered to, newest first."""
        async with self._database.transaction(tenant) as connection:
            rows = await connection.fetch(
                "select version, text, source, (extract(epoch from since) * 1000)::bigint as since_ms"
                " from consent_text where tenant_id = $1 order by since desc, version limit 500",
                tenant,
            )
        return [Text(**dict(row)) for row in rows]

    def _now(self) -> datetime.datetime:
        return _time(self._clock.wall_ms())


def _time(wall_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(wall_ms / 1000, datetime.UTC)
