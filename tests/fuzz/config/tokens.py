"""Bearer tokens of strangers, and public ids in paths."""

from __future__ import annotations

import time

from config.identity import InvalidToken, Principal, Role, Tokens
from config.ids import DEFAULT_TENANT, PublicId, UserId
from tests.fuzz.kit import Run, Target, expect

SECRET = b"s" * 32


def one() -> Principal:
    return Principal(
        tenant_id=DEFAULT_TENANT, user_id=UserId(7), public_id=PublicId("usr_7"), role=Role.CLIENT, name="M"
    )


def make() -> Run:
    tokens = Tokens(SECRET, 3_600)
    good = tokens.issue(one(), int(time.time()))

    def run(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        for token in (text, good[: len(good) // 2] + text, text + good[len(good) // 2 :]):
            try:
                who = tokens.check(token)
            except InvalidToken:
                continue
            expect(who == one(), "somebody else came in")

    return run


def seeds() -> list[bytes]:
    token = Tokens(SECRET, 3_600).issue(one(), int(time.time())).encode()
    header, body, signature = token.split(b".")
    return [token, b".".join((header, body, b"")), b".".join((b"eyJhbGciOiJub25lIn0", body, b"")), signature]


TARGET = Target("config/tokens", make, seeds, words=(b"eyJ", b".", b"..", b"eyJhbGciOiJub25lIn0."))
