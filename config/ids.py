"""Newtypes of the vocabulary, and opaque public ids.

Tables use bigint keys; what leaves the server is a public id such as ``ses_4k9x…``: a prefix that tells what
it names and 100 random bits, so that ids cannot be counted or guessed.
"""

from __future__ import annotations

import re
import secrets
from typing import NewType

TenantId = NewType("TenantId", int)
UserId = NewType("UserId", int)
SessionId = NewType("SessionId", int)
RecordingId = NewType("RecordingId", int)
AccountId = NewType("AccountId", int)
RoomEpoch = NewType("RoomEpoch", int)
WorkerId = NewType("WorkerId", str)
PublicId = NewType("PublicId", str)

SHARDS = 64
"""Number of evidence shards; a session belongs to ``session_id % SHARDS`` for good."""

DEFAULT_TENANT = TenantId(1)
"""The one tenant of an embedded installation, made by the first migration."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32: no i, l, o, u
_PUBLIC_ID = re.compile(r"[a-z]{3}_[0-9a-hjkmnp-tv-z]{20}")


def shard_of(session_id: SessionId) -> int:
    """The evidence shard that a session's events and meter belong to."""
    return session_id % SHARDS


def new_public_id(prefix: str) -> PublicId:
    """A fresh opaque id: three letters, an underscore, 20 random base-32 digits (100 bits)."""
    return PublicId(prefix + "_" + "".join(secrets.choice(_ALPHABET) for _ in range(20)))


def is_public_id(text: str, prefix: str) -> bool:
    """Whether ``text`` has the form of an id of that prefix (says nothing of whether it exists)."""
    return text.startswith(prefix + "_") and _PUBLIC_ID.fullmatch(text) is not None
