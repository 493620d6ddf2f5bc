"""Who is asking: roles, the signed-in ``Principal``, tokens (JWT, HS256) and passwords (argon2id)."""

from __future__ import annotations

import dataclasses
import enum
import time

import argon2
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from config.ids import PublicId, TenantId, UserId

ISSUER = "turnpike"
TOKEN_MAX_CHARS = 4096
CLOCK_SKEW_S = 60
"""How far the clocks of two machines may differ before a token of one is refused by the other."""


class Role(enum.StrEnum):
    """What a user is to a tenant. A user has one role; routes name the roles that they admit."""

    CLIENT = "client"
    PROVIDER = "provider"
    COMPLIANCE = "compliance"
    FINANCE = "finance"
    ADMIN = "admin"


@dataclasses.dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller of one request or socket."""

    tenant_id: TenantId
    user_id: UserId
    public_id: PublicId
    role: Role
    name: str


class InvalidToken(Exception):
    """The token is malformed, forged, expired or meant for someone else."""


class Tokens:
    """Signs and checks access tokens with the installation's secret."""

    def __init__(self, secret: bytes, ttl_s: int) -> None:
        self._key = OctKey.import_key(secret)
        self._ttl_s = ttl_s
        self._claims = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": ISSUER},
            exp={"essential": True},
            sub={"essential": True},
            leeway=CLOCK_SKEW_S,
        )

    def issue(self, principal: Principal, now_s: int) -> str:
        """A token that ``check`` turns back into ``principal`` until ``now_s + ttl``."""
        claims = {
            "iss": ISSUER,
            "sub": principal.public_id,
            "iat": now_s,
            "exp": now_s + self._ttl_s,
            "uid": principal.user_id,
            "tid": principal.tenant_id,
            "role": principal.role.value,
            "name": principal.name,
        }
        return jwt.encode({"alg": "HS256"}, claims, self._key)

    def check(self, token: str) -> Principal:
        """The principal that a valid token names. Raises ``InvalidToken`` on anything else."""
        return self.read(token)[0]

    def lapsed(self, until_s: int) -> bool:
        """Whether a token that is good until then, as ``read`` says, has expired."""
        return time.time() > until_s + CLOCK_SKEW_S

    def read(self, token: str) -> tuple[Principal, int]:
        """``check``, and until when the token is good, in Unix seconds."""
        if len(token) > TOKEN_MAX_CHARS:
            raise InvalidToken("token too long")
        try:
            claims = jwt.decode(token, self._key, algorithms=["HS256"]).claims
            self._claims.validate(claims)
            principal = Principal(
                tenant_id=TenantId(int(claims["tid"])),
                user_id=UserId(int(claims["uid"])),
                public_id=PublicId(str(claims["sub"])),
                role=Role(claims["role"]),
                name=str(claims["name"]),
            )
            return principal, int(claims["exp"])
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise InvalidToken(type(error).__name__) from None


_hasher = argon2.PasswordHasher()


def hash_password(password: str) -> str:
    """An argon2id hash with its own salt and parameters. About 40 ms: call it in a thread."""
    return _hasher.hash(password)


def password_matches(stored: str, password: str) -> bool:
    """Whether ``password`` is the one that ``stored`` was made from. About 40 ms: call it in a thread."""
    try:
        return _hasher.verify(stored, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False
