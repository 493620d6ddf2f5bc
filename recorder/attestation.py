"""Consent that a host platform attests: it asked its people itself, and signs what they answered.

A platform has a key id and a secret. The secret is derived from the installation's and the id, so that none is stored;
revoking the key ends it. What is signed (HMAC-SHA256, hexadecimal)::

    "turnpike 1\\n" + timestamp + "\\n" + method + "\\n" + path + "\\n" + hex(sha256(body))

with the Unix seconds of the ``Turnpike-Timestamp`` header, which may be off by five minutes. A request that is sent
again within that time is answered by its request key and not stored twice; a key is of one session and one body.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from config.clock import Clock
from config.database import ALL_TENANTS, Database
from config.ids import PublicId, SessionId, TenantId, UserId, new_public_id
from config.settings import Settings
from recorder import audit
from recorder.consents import Answer, Consents, TextDiffers, TextUnknown

__all__ = ["Attestations", "KeyReused", "PlatformKey", "SignedRequest", "TextDiffers", "TextUnknown"]

SKEW_S: Final = 300
KEYS_MAX: Final = 100
SECRET_NAME: Final = "platform-key"  # noqa: S105 - the name of a secret, not one
_SIGNATURE_CHARS: Final = 64


class KeyReused(Exception):
    """The request key was used for another body, or for another session."""


@dataclasses.dataclass(frozen=True, slots=True)
class PlatformKey:
    """A host platform that may attest."""

    tenant_id: TenantId
    id: int
    public_id: PublicId
    name: str
    created_at_ms: int
    revoked_at_ms: int | None


class SignedRequest(NamedTuple):
    """A request as it came, with its three headers."""

    key_id: str
    timestamp: str
    signature: str
    method: str
    path: str
    body: bytes


class Attestations:
    """Keys of platforms, and what was attested with them."""

    def __init__(self, database: Database, consents: Consents, clock: Clock, settings: Settings) -> None:
        self._database = database
        self._consents = consents
        self._clock = clock
        self._secret = settings.secret(SECRET_NAME)

    def secret(self, key: PlatformKey) -> str:
        """What the platform signs with."""
        return hmac.digest(self._secret, f"platform {key.tenant_id} {key.public_id}".encode(), hashlib.sha256).hex()

    # --- keys ---------------------------------------------------------------------------------------------------

    async def make_key(self, tenant: TenantId, name: str, entry: audit.NewEntry) -> PlatformKey | None:
        """A key; None where there are too many. Audited in the same transaction."""
        public_id = new_public_id("plk")
        async with self._database.transaction(tenant) as connection:
            count = await connection.fetchval(
                "select count(*) from platform_key where tenant_id = $1 and revoked_at is null", tenant
            )
            if count >= KEYS_MAX:
                return None
            await audit.append(connection, dataclasses.replace(entry, subject=public_id, details={"name": name}))
            await connection.execute(
                "insert into platform_key (tenant_id, public_id, name, created_at) values ($1, $2, $3, $4)",
                tenant,
                public_id,
                name,
                self._now(),
            )
            return await _find(connection, public_id)

    async def keys(self, tenant: TenantId) -> list[PlatformKey]:
        """All keys, newest first, revoked ones too."""
        async with self._database.transaction(tenant) as connection:
            rows = await connection.fetch(
                f"select {_COLUMNS} from platform_key where tenant_id = $1 order by id desc limit 500",  # noqa: S608
                tenant,
            )
        return [PlatformKey(**dict(row)) for row in rows]

    async def revoke(self, tenant: TenantId, public_id: str, entry: audit.NewEntry) -> PlatformKey | None:
        """The key is good for nothing any more; None: there is none. Audited in the same transaction."""
        async with self._database.transaction(tenant) as connection:
            done = await connection.fetchval(
                "update platform_key set revoked_at = $3 where tenant_id = $1 and public_id = $2"
                " and revoked_at is null returning true",
                tenant,
                public_id,
                self._now(),
            )
            if done:
                await audit.append(connection, dataclasses.replace(entry, subject=public_id))
            key = await _find(connection, public_id)
            return key if key is not None and key.tenant_id == tenant else None

    # --- attesting ----------------------------------------------------------------------------------------------

    async def signer(self, request: SignedRequest) -> PlatformKey | None:
        """Who signed the request; None where nobody did whose key holds."""
        if not (request.timestamp.isascii() and request.timestamp.isdigit() and len(request.timestamp) <= 12):
            return None
        if abs(self._clock.wall_ms() / 1000 - int(request.timestamp)) > SKEW_S:
            return None
        async with self._database.transaction(ALL_TENANTS) as connection:
            key = await _find(connection, request.key_id[:40])
        if key is None or key.revoked_at_ms is not None:
            return None
        wanted = signature(self.secret(key), request)
        given = request.signature.lower()
        return key if len(given) == _SIGNATURE_CHARS and hmac.compare_digest(wanted, given.encode()) else None

    async def taken(
        self, key: PlatformKey, session_id: SessionId, request_key: str, body: bytes
    ) -> list[dict[str, Any]] | None:
        """What was stored of the same request before. Raises ``KeyReused``."""
        async with self._database.transaction(key.tenant_id) as connection:
            return await _taken(connection, key, session_id, request_key, body)

    async def agreed(self, tenant: TenantId, session_id: SessionId, users: Sequence[UserId]) -> bool:
        """Whether everybody agrees by now."""
        async with self._database.transaction(tenant) as connection:
            return await self._consents.agreed(connection, tenant, session_id, users)

    async def take(
        self,
        key: PlatformKey,
        request_key: str,
        body: bytes,
        session_id: SessionId,
        people: Mapping[UserId, PublicId],
        answers: Sequence[Answer],
        text: str | None,
        entry: audit.NewEntry,
    ) -> list[dict[str, Any]]:
        """Store what people answered, with the text: what the platform is told of it, which a repetition gets again.

        ``people``: everybody of the session. Raises ``KeyReused``, ``TextUnknown``, ``TextDiffers``.
        """
        async with self._database.transaction(key.tenant_id) as connection:
            await connection.execute("select pg_advisory_xact_lock(hashtext('attestation'), $1::int)", key.id)
            before = await _taken(connection, key, session_id, request_key, body)
            if before is not None:
                return before
            await self._consents.keep_text(connection, key.tenant_id, answers[0].version, text, "platform")
            await audit.append(connection, entry)
            for answer in answers:
                await self._consents.put(connection, key.tenant_id, session_id, answer)
            out = [
                {
                    "user_id": people[answer.user_id],
                    "accepted": answer.accepted,
                    "text_version": answer.version,
                    "at_ms": answer.at_ms,
                }
                for answer in answers
            ]
            await connection.execute(
                "insert into consent_attestation (tenant_id, key_id, request_key, session_id, body_sha256, answer, at)"
                " values ($1, $2, $3, $4, $5, $6::jsonb, $7)",
                key.tenant_id,
                key.id,
                request_key,
                session_id,
                hashlib.sha256(body).digest(),
                json.dumps({"consents": out}),
                self._now(),
            )
            return out

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._clock.wall_ms() / 1000, datetime.UTC)


def signature(secret: str, request: SignedRequest) -> bytes:
    """What the platform has to send, in hexadecimal."""
    digest = hashlib.sha256(request.body).hexdigest()
    message = f"turnpike 1\n{request.timestamp}\n{request.method}\n{request.path}\n{digest}"
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest().encode()


async def _taken(
    connection: Any, key: PlatformKey, session_id: SessionId, request_key: str, body: bytes
) -> list[dict[str, Any]] | None:
    row = await connection.fetchrow(
        "select session_id, body_sha256, answer from consent_attestation"
        " where tenant_id = $1 and key_id = $2 and request_key = $3",
        key.tenant_id,
        key.id,
        request_key,
    )
    if row is None:
        return None
    if row["session_id"] not in (None, session_id) or row["body_sha256"] != hashlib.sha256(body).digest():
        raise KeyReused
    consents: list[dict[str, Any]] = json.loads(row["answer"])["consents"]
    return consents


_COLUMNS: Final = (
    "tenant_id, id, public_id, name, (extract(epoch from created_at) * 1000)::bigint as created_at_ms,"
    " (extract(epoch from revoked_at) * 1000)::bigint as revoked_at_ms"
)


async def _find(connection: Any, public_id: str) -> PlatformKey | None:
    statement = f"select {_COLUMNS} from platform_key where public_id = $1"  # noqa: S608
    row = await connection.fetchrow(statement, public_id)
    return None if row is None else PlatformKey(**dict(row))
