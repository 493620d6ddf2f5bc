"""Consent beyond a person's own answer: taken back in mid-call, or attested by the host platform that asked for it."""

from __future__ import annotations

import datetime

from config.clock import Clock
from config.database import Database
from config.ids import SessionId, UserId
from recorder import audit


class Consents:
    """Adds rows to the consents of sessions; the newest one of a user counts."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def withdraw(self, session_id: SessionId, entry: audit.NewEntry) -> None:
        """The entry's user takes their consent back; audited in the same transaction."""
        async with self._database.transaction(entry.tenant_id) as connection:
            await audit.append(connection, entry)
            await connection.execute(
                "insert into consent (tenant_id, session_id, user_id, text_version, accepted, at)"
                " select tenant_id, session_id, user_id, text_version, false, $4 from consent"
                " where tenant_id = $1 and session_id = $2 and user_id = $3 order by id desc limit 1",
                entry.tenant_id,
                session_id,
                entry.user_id,
                self._now(),
            )

    async def attest(
        self, session_id: SessionId, user_id: UserId, version: str, accepted: bool, evidence: str, entry: audit.NewEntry
    ) -> bool:
        """A host platform says what somebody answered to its own text, and what it has in hand to show that.

        ``version``: the platform's name of the text; ``evidence``: what it would present (10–500 characters). False,
        and nothing stored, for less. Audited in the same transaction.
        """
        low, high = audit.REASON_CHARS
        if not (low <= len(evidence.strip()) <= high and 1 <= len(version) <= 40):
            return False
        async with self._database.transaction(entry.tenant_id) as connection:
            await audit.append(connection, entry)
            await connection.execute(
                "insert into consent (tenant_id, session_id, user_id, text_version, accepted, given_by, evidence, at)"
                " values ($1, $2, $3, $4, $5, 'platform', $6, $7)",
                entry.tenant_id,
                session_id,
                user_id,
                version,
                accepted,
                evidence.strip(),
                self._now(),
            )
        return True

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._clock.wall_ms() / 1000, datetime.UTC)
