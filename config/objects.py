"""The object store: immutable named blobs. The embedded one is a directory; S3 stands behind the same interface.

Keys look like ``recordings/1/rec_…/1/0001-0007.seg``: path segments of letters, digits, ``.``, ``_`` and ``-``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Literal, Protocol

_KEY: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
KEY_MAX_CHARS: Final = 512
HALF_WRITTEN_S: Final = 3600.0
"""Writing one object takes far less."""


class ObjectStoreError(Exception):
    """The store could not do it; trying again later may help."""


class ObjectExists(Exception):
    """An object of that key exists with other content; objects are never overwritten."""


class ObjectMissing(Exception):
    """No object of that key."""


class LockUnsupported(Exception):
    """The store cannot keep an object from being deleted, so it refuses to promise it."""


@dataclasses.dataclass(frozen=True, slots=True)
class ObjectLock:
    """Nobody may delete or overwrite an object until then (S3 Object Lock)."""

    mode: Literal["governance", "compliance"]
    """``governance``: but for those with a special right; ``compliance``: nobody at all."""
    until_ms: int
    """Unix milliseconds."""


class ObjectStore(Protocol):
    """What recordings are kept in. All methods raise ``ObjectStoreError`` when the store cannot be reached."""

    async def put(self, key: str, data: bytes, *, sha256: bytes, lock: ObjectLock | None = None) -> None:
        """Store an object for good. Durable on return; storing the same content again succeeds (idempotent);
        other content under the same key raises ``ObjectExists``. A store without locks raises ``LockUnsupported``."""
        ...

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """The object's bytes, or a range of them. Raises ``ObjectMissing``."""
        ...

    async def size(self, key: str) -> int:
        """The object's length in bytes. Raises ``ObjectMissing``."""
        ...

    def keys(self, prefix: str) -> AsyncIterator[str]:
        """All keys that begin with ``prefix``, in order."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object with all its versions, durably; one that is not there is no error, one that is locked is."""
        ...


def checked_key(key: str) -> str:
    """``key``, if it has the form of one. Raises ValueError (never lets ``..`` or an absolute path through)."""
    if len(key) > KEY_MAX_CHARS or _KEY.fullmatch(key) is None:
        raise ValueError("malformed object key")
    return key


def remove_half_written(*roots: Path) -> int:
    """Delete what a ``DirectoryStore`` that was killed had not finished writing: how many files.

    None of them is an object by that name. Those younger than ``HALF_WRITTEN_S`` may yet become one.
    """
    old = time.time() - HALF_WRITTEN_S
    removed = 0
    for path in (each for root in roots for each in root.rglob(".*.part")):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < old:
                path.unlink()
                removed += 1
    return removed


class DirectoryStore:
    """Objects as files below a directory: written aside, synced, then linked into place, so never seen half."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, key: str, data: bytes, *, sha256: bytes, lock: ObjectLock | None = None) -> None:
        if lock is not None:
            raise LockUnsupported("a directory cannot lock its files: locks need an S3 bucket with Object Lock")
        await asyncio.to_thread(self._put, self._path(key), data, sha256)

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        return await asyncio.to_thread(self._get, self._path(key), start, length)

    async def size(self, key: str) -> int:
        try:
            return (await asyncio.to_thread(self._path(key).stat)).st_size
        except FileNotFoundError:
            raise ObjectMissing(key) from None

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        for key in await asyncio.to_thread(self._keys, prefix):
            yield key

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self._delete, self._path(key))

    def _path(self, key: str) -> Path:
        return self._root / checked_key(key)

    @staticmethod
    def _put(path: Path, data: bytes, sha256: bytes) -> None:
        if hashlib.sha256(data).digest() != sha256:
            raise ValueError("object bytes do not match their hash")
        aside = path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with aside.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            try:
                path.hardlink_to(aside)
            except FileExistsError:
                if hashlib.sha256(path.read_bytes()).digest() != sha256:
                    raise ObjectExists(path.name) from None
            _sync_directory(path.parent)
        except OSError as error:
            raise ObjectStoreError(f"cannot store {path.name}: {error}") from error
        finally:
            aside.unlink(missing_ok=True)

    @staticmethod
    def _delete(path: Path) -> None:
        """Nothing of it is to come back: neither after a power cut, nor by the name under which it was written aside,
        if its writer was killed before that one was removed."""
        try:
            with contextlib.suppress(FileNotFoundError):
                if (found := path.stat()).st_nlink > 1:
                    for aside in path.parent.glob(".*.part"):
                        with contextlib.suppress(FileNotFoundError):
                            if aside.stat().st_ino == found.st_ino:
                                aside.unlink()
                path.unlink()
            with contextlib.suppress(FileNotFoundError):  # also where an earlier try died before this
                _sync_directory(path.parent)
        except OSError as error:
            raise ObjectStoreError(f"cannot delete {path.name}: {error}") from error

    @staticmethod
    def _get(path: Path, start: int, length: int | None) -> bytes:
        try:
            with path.open("rb") as file:
                file.seek(start)
                return file.read() if length is None else file.read(length)
        except FileNotFoundError:
            raise ObjectMissing(path.name) from None
        except OSError as error:
            raise ObjectStoreError(f"cannot read {path.name}: {error}") from error

    def _keys(self, prefix: str) -> list[str]:
        base = self._root / prefix.rsplit("/", 1)[0] if "/" in prefix else self._root
        found = (str(p.relative_to(self._root)) for p in base.rglob("*") if p.is_file() and p.name[0] != ".")
        return sorted(key for key in found if key.startswith(prefix))


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
