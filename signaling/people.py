"""Users in PostgreSQL: who signs in, who may be called, and providers' availability switch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from config.database import Database
from config.identity import Principal, Role, hash_password, password_matches
from config.ids import PublicId, TenantId, UserId, new_public_id

PROVIDERS_MAX: Final = 500
"""Providers in one list; more than these are found by search, which is not built yet."""


@dataclass(frozen=True, slots=True)
class User:
    """One row of ``app_user`` and the availability switch (which only matters for providers)."""

    tenant_id: TenantId
    id: UserId
    public_id: PublicId
    email: str
    name: str
    role: Role
    currency: str
    headline: str | None
    avatar_hue: int
    available: bool

    @property
    def principal(self) -> Principal:
        return Principal(self.tenant_id, self.id, self.public_id, self.role, self.name)


@dataclass(frozen=True, slots=True)
class NewUser:
    """What ``create`` stores."""

    email: str
    name: str
    role: Role
    password: str
    currency: str
    headline: str | None
    avatar_hue: int


_SELECT: Final = (
    "select u.tenant_id, u.id, u.public_id, u.email, u.name, u.role, u.currency, u.headline, u.avatar_hue,"
    " u.password_hash, coalesce(s.available, true) as available"
    " from app_user u left join provider_state s on s.tenant_id = u.tenant_id and s.user_id = u.id"
    " where u.disabled_at is null and u.tenant_id = $1 "
)


def _user(row: Any) -> User:
    return User(
        tenant_id=TenantId(row["tenant_id"]),
        id=UserId(row["id"]),
        public_id=PublicId(row["public_id"]),
        email=row["email"],
        name=row["name"],
        role=Role(row["role"]),
        currency=row["currency"],
        headline=row["headline"],
        avatar_hue=row["avatar_hue"] or 0,
        available=row["available"],
    )


@cache
def _nobodys_password() -> str:
    """A hash that nothing matches by chance: checked for unknown users, so that they take as long as known ones."""
    return hash_password(new_public_id("non"))


class People:
    """All SQL about users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sign_in(self, tenant: TenantId, email: str, password: str) -> User | None:
        """The user whose e-mail and password these are. Takes as long for an unknown e-mail as for a wrong password."""
        async with self._database.transaction(tenant) as sql:
            row = await sql.fetchrow(_SELECT + "and lower(u.email) = lower($2)", tenant, email)
        stored = await asyncio.to_thread(_nobodys_password) if row is None else row["password_hash"]
        matches = await asyncio.to_thread(password_matches, stored, password)
        return _user(row) if row is not None and matches else None

    async def get(self, tenant: TenantId, user_id: UserId) -> User | None:
        """The user with that key, unless disabled."""
        async with self._database.transaction(tenant) as sql:
            row = await sql.fetchrow(_SELECT + "and u.id = $2", tenant, user_id)
            return None if row is None else _user(row)

    async def provider(self, tenant: TenantId, public_id: str) -> User | None:
        """The provider with that public id."""
        async with self._database.transaction(tenant) as sql:
            row = await sql.fetchrow(_SELECT + "and u.public_id = $2 and u.role = 'provider'", tenant, public_id)
            return None if row is None else _user(row)

    async def providers(self, tenant: TenantId, only: Iterable[int] | None = None) -> list[User]:
        """The tenant's providers in order of name; ``only`` those with these keys, if given."""
        async with self._database.transaction(tenant) as sql:
            rows = await sql.fetch(
                _SELECT + "and u.role = 'provider' and ($2::bigint[] is null or u.id = any($2))"
                " order by lower(u.name), u.id limit $3",
                *(tenant, None if only is None else list(only), PROVIDERS_MAX),
            )
            return [_user(row) for row in rows]

    async def roles(self, tenant: TenantId, user_ids: Iterable[int]) -> dict[UserId, Role]:
        """The roles of these users, of any number; those that are disabled or unknown are left out."""
        async with self._database.transaction(tenant) as sql:
            rows = await sql.fetch(
                "select id, role from app_user where tenant_id = $1 and id = any($2) and disabled_at is null",
                *(tenant, list(user_ids)),
            )
            return {UserId(row["id"]): Role(row["role"]) for row in rows}

    async def set_available(self, tenant: TenantId, user_id: UserId, available: bool, now_ms: int) -> None:
        """Turn a provider's availability switch."""
        async with self._database.transaction(tenant) as sql:
            await sql.execute(
                "insert into provider_state (tenant_id, user_id, available, changed_at_ms) values ($1, $2, $3, $4)"
                " on conflict (tenant_id, user_id) do update set available = $3, changed_at_ms = $4",
                *(tenant, user_id, available, now_ms),
            )

    async def by_email(self, tenant: TenantId, email: str) -> User | None:
        """The user with that e-mail address."""
        async with self._database.transaction(tenant) as sql:
            row = await sql.fetchrow(_SELECT + "and lower(u.email) = lower($2)", tenant, email)
            return None if row is None else _user(row)

    async def existing(self, tenant: TenantId, emails: list[str]) -> set[str]:
        """Which of these addresses, in lower case, are those of users."""
        async with self._database.transaction(tenant) as sql:
            rows = await sql.fetch(
                "select lower(email) as email from app_user where tenant_id = $1 and lower(email) = any($2)"
                " and disabled_at is null",
                *(tenant, [email.lower() for email in emails]),
            )
            return {row["email"] for row in rows}

    async def others(self, tenant: TenantId, emails: list[str]) -> bool:
        """Whether the tenant has users other than those with these addresses."""
        async with self._database.transaction(tenant) as sql:
            found: bool = await sql.fetchval(
                "select exists (select from app_user where tenant_id = $1 and not lower(email) = any($2))",
                *(tenant, [email.lower() for email in emails]),
            )
            return found

    async def create(self, tenant: TenantId, new: NewUser) -> User:
        """Store a user; one with the same e-mail stays as it is and is returned."""
        hashed = await asyncio.to_thread(hash_password, new.password)
        async with self._database.transaction(tenant) as sql:
            await sql.execute(
                "insert into app_user (tenant_id, public_id, email, name, role, password_hash, currency, headline,"
                " avatar_hue) values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing",
                *(tenant, new_public_id("usr"), new.email, new.name, new.role.value, hashed, new.currency),
                *(new.headline, new.avatar_hue),
            )
            row = await sql.fetchrow(_SELECT + "and lower(u.email) = lower($2)", tenant, new.email)
            return _user(row)
