"""Signed statements: canonical JSON with an Ed25519 signature over its purpose and its bytes.

An envelope is ``{"statement": {…}, "signature": {"algorithm", "key_id", "public_key", "value"}}``; what is signed is
``format + "\\n" + canonical(statement)``, so that a signature made for one purpose never holds for another. The public
key stands in the envelope for convenience: whoever checks compares it with the one they trust.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from config.keys import SIGNATURE_ALGORITHM, SigningKey, signature_holds, signing_key_id
from recorder.manifest import canonical

ENVELOPE_BYTES_MAX: Final = 64 * 1024 * 1024
ROOT_FORMAT: Final = "turnpike-recording-root"
ANCHOR_FORMAT: Final = "turnpike-audit-anchor"
BUNDLE_FORMAT: Final = "turnpike-export-bundle"
PRODUCT_FORMAT: Final = "turnpike-recording-product"
VERSION: Final = 1


class Unsigned(Exception):
    """Not a statement, or its signature does not hold; the text says which."""


class Signed(NamedTuple):
    """A statement whose signature holds."""

    statement: dict[str, Any]
    key_id: str
    public_key: bytes


def envelope(key: SigningKey, purpose: str, statement: dict[str, Any]) -> bytes:
    """The signed statement's bytes."""
    whole = {"format": purpose, "version": VERSION, **statement}
    return canonical(
        {
            "statement": whole,
            "signature": {
                "algorithm": SIGNATURE_ALGORITHM,
                "key_id": key.key_id,
                "public_key": key.public.hex(),
                "value": key.sign(_message(purpose, whole)).hex(),
            },
        }
    )


def opened(data: bytes, purpose: str) -> Signed:
    """The statement in an envelope. Raises ``Unsigned`` for anything else, whatever the bytes are."""
    if len(data) > ENVELOPE_BYTES_MAX:
        raise Unsigned("is too large for a signed statement")
    try:
        read = json.loads(data)
        statement, signature = read["statement"], read["signature"]
        public, value = bytes.fromhex(signature["public_key"]), bytes.fromhex(signature["value"])
        head = (statement["format"], statement["version"], signature["algorithm"], signature["key_id"])
        written = (signature["public_key"], signature["value"])
        exact = canonical(read) == data and written == (public.hex(), value.hex())  # no second way to write the same
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unsigned("is not a signed statement") from None
    if head != (purpose, VERSION, SIGNATURE_ALGORITHM, signing_key_id(public)) or not exact:
        raise Unsigned(f"is not a {purpose} of version {VERSION}, or names another key than it carries")
    if not signature_holds(public, _message(purpose, statement), value):
        raise Unsigned("has a signature that does not hold")
    return Signed(statement, str(signature["key_id"]), public)


def _message(purpose: str, statement: dict[str, Any]) -> bytes:
    return purpose.encode() + b"\n" + canonical(statement)
