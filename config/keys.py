"""The master key, which wraps one data key per recording (envelope encryption).

A data key encrypts one recording's spool and segments. Only its wrapped form is stored or sent over the bus; a process
that may read or write that recording unwraps it here. The embedded ring is a file; a key management service takes
its place behind the same three methods. Destroying every wrapped form of a data key destroys the recording.
"""

from __future__ import annotations

import hashlib
import os
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

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
