"""The master key, which wraps one data key per recording (envelope encryption).

A data key encrypts one recording's spool and segments. Only its wrapped form is stored or sent over the bus; a process
that may read or write that recording unwraps it here. The embedded ring is a file; a key management service takes
its place behind the same three methods. Wrapped keys lie in a store of their own (``WrappedKeys``), never in the
database or beside the recordings: destroying one there destroys the recording, in every backup of those too.

``SigningKey`` signs what is later shown to strangers: roots of recordings and heads of the audit log.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from config.ids import TenantId
from config.objects import ObjectMissing, ObjectStore
from config.settings import Settings

DATA_KEY_BYTES = 32
_NONCE_BYTES = 12
_CONTEXT = b"turnpike data key v1:"


class UnknownKey(Exception):
    """The key that wrapped a data key is not in this ring, or the wrapped form was altered."""


class KeyRing:
    """Master keys by id; the newest wraps, all unwrap."""

    def __init__(self, keys: dict[str, bytes], newest: str) -> None:
        self._keys = keys
        self.newest = newest

    @classmethod
    def from_settings(cls, settings: Settings) -> KeyRing:
        """The ring of this installation: one key in a file of mode 0600, made at first use."""
        key = settings.secret("master.key", 32)[:32]
        key_id = "local-" + hashlib.sha256(_CONTEXT + key).hexdigest()[:12]
        return cls({key_id: key}, key_id)

    def new_data_key(self, about: str) -> tuple[str, bytes, bytes]:
        """A fresh data key for what ``about`` names (a recording's public id): (key id, wrapped, plain)."""
        plain = secrets.token_bytes(DATA_KEY_BYTES)
        nonce = os.urandom(_NONCE_BYTES)
        wrapped = nonce + AESGCM(self._keys[self.newest]).encrypt(nonce, plain, _CONTEXT + about.encode())
        return self.newest, wrapped, plain

    def unwrap(self, key_id: str, wrapped: bytes, about: str) -> bytes:
        """The plain data key. Raises ``UnknownKey`` for another ring's key, another recording's, or altered bytes."""
        key = self._keys.get(key_id)
        if key is None or len(wrapped) != _NONCE_BYTES + DATA_KEY_BYTES + 16:
            raise UnknownKey(key_id)
        try:
            return AESGCM(key).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _CONTEXT + about.encode())
        except InvalidTag:
            raise UnknownKey(key_id) from None


class WrappedKeys:
    """The wrapped data keys of all recordings, in an object store of their own that keeps no old versions.

    Methods raise ``ObjectStoreError`` while that store is away.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def keep(self, tenant: TenantId, about: str, key_id: str, wrapped: bytes) -> None:
        """Store a wrapped key for good; durable on return. Raises ``ObjectExists`` if there is another one."""
        data = json.dumps({"key_id": key_id, "wrapped": wrapped.hex()}).encode()
        await self._store.put(_place(tenant, about), data, sha256=hashlib.sha256(data).digest())

    async def find(self, tenant: TenantId, about: str) -> tuple[str, bytes] | None:
        """(key id, wrapped key); None when it was destroyed, or never was."""
        try:
            data = json.loads(await self._store.get(_place(tenant, about)))
        except ObjectMissing:
            return None
        return str(data["key_id"]), bytes.fromhex(data["wrapped"])

    async def destroy(self, tenant: TenantId, about: str) -> None:
        """What the key encrypted can never be read again. Destroying it twice is no error."""
        await self._store.delete(_place(tenant, about))


def _place(tenant: TenantId, about: str) -> str:
    return f"keys/{tenant}/{about}.key"


SIGNATURE_ALGORITHM: Final = "Ed25519"


class SigningKey:
    """The installation's Ed25519 key (RFC 8032): one seed in a file of mode 0600, made at first use."""

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key_id = signing_key_id(self.public)

    @classmethod
    def from_settings(cls, settings: Settings) -> SigningKey:
        """The key of this installation."""
        return cls(settings.secret("signing.key", 32)[:32])

    def sign(self, message: bytes) -> bytes:
        """64 bytes; always the same for the same message."""
        return self._private.sign(message)


def signing_key_id(public: bytes) -> str:
    """The name of a public key: nobody can make another key of the same name."""
    return "ed25519-" + hashlib.sha256(public).hexdigest()[:32]


def signature_holds(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is that of ``message`` by the key whose raw public half is given."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
