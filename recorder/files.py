"""What ``turnpike verify`` reads: a bundle, a folder, or a prefix of an object store, all as names and bytes."""

from __future__ import annotations

import asyncio
import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from config.objects import ObjectMissing, ObjectStore

PIECE_BYTES: Final = 1024 * 1024
DOCUMENT_BYTES_MAX: Final = 64 * 1024 * 1024
"""Largest file that is read whole; media is only hashed."""
FILES_MAX: Final = 1_000_000


class FilesError(Exception):
    """The target cannot be read at all; the text says why."""


class Digest(NamedTuple):
    """What a file is, without keeping it."""

    size: int
    sha256: bytes


class Files(Protocol):
    """Named files. A name that is not there gives None; ``FilesError`` is raised where nothing can be read."""

    async def names(self) -> list[str]:
        """All names, in order."""
        ...

    async def read(self, name: str) -> bytes | None:
        """A document. None also when it is larger than one may be, or damaged so that it cannot be read."""
        ...

    async def digest(self, name: str) -> Digest | None:
        """Size and hash of a file of any length."""
        ...


class ZipFiles:
    """The members of an archive."""

    def __init__(self, path: Path) -> None:
        """Raises ``FilesError``."""
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            raise FilesError(f"{path} cannot be read as a bundle: {error}") from None
        self._infos = {info.filename: info for info in self._zip.infolist() if not info.is_dir()}

    async def names(self) -> list[str]:
        return sorted(info.filename for info in self._zip.infolist() if not info.is_dir())

    async def read(self, name: str) -> bytes | None:
        info = self._infos.get(name)
        if info is None or info.file_size > DOCUMENT_BYTES_MAX:
            return None
        return await asyncio.to_thread(self._read, name)

    async def digest(self, name: str) -> Digest | None:
        return await asyncio.to_thread(self._digest, name) if name in self._infos else None

    def _read(self, name: str) -> bytes | None:
        try:
            return self._zip.read(name)
        except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError):
            return None

    def _digest(self, name: str) -> Digest | None:
        digest, size = hashlib.sha256(), 0
        try:
            with self._zip.open(name) as file:
                while piece := file.read(PIECE_BYTES):
                    digest.update(piece)
                    size += len(piece)
        except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError):
            return Digest(-1, b"")  # there, but not what was written: its own checksum says so
        return Digest(size, digest.digest())


class FolderFiles:
    """The files below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def names(self) -> list[str]:
        return await asyncio.to_thread(self._names)

    async def read(self, name: str) -> bytes | None:
        return await asyncio.to_thread(self._read, name)

    async def digest(self, name: str) -> Digest | None:
        return await asyncio.to_thread(self._digest, name)

    def _names(self) -> list[str]:
        found = sorted(str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file())
        if len(found) > FILES_MAX:
            raise FilesError(f"{self._root} holds more than {FILES_MAX} files")
        return found

    def _path(self, name: str) -> Path | None:
        path = (self._root / name).resolve()
        return path if path.is_relative_to(self._root.resolve()) and path.is_file() else None

    def _read(self, name: str) -> bytes | None:
        path = self._path(name)
        try:
            return None if path is None or path.stat().st_size > DOCUMENT_BYTES_MAX else path.read_bytes()
        except OSError as error:
            raise FilesError(f"{name} cannot be read: {error}") from None

    def _digest(self, name: str) -> Digest | None:
        path = self._path(name)
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").digest()
                return Digest(file.tell(), sha256)
        except OSError as error:
            raise FilesError(f"{name} cannot be read: {error}") from None


class StoreFiles:
    """The objects below a prefix; names are relative to it. Raises ``ObjectStoreError`` while the store is away."""

    def __init__(self, store: ObjectStore, prefix: str = "") -> None:
        self._store = store
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""

    async def names(self) -> list[str]:
        found: list[str] = []
        async for key in self._store.keys(self._prefix):
            if len(found) == FILES_MAX:
                raise FilesError(f"{self._prefix} holds more than {FILES_MAX} objects")
            found.append(key[len(self._prefix) :])
        return found

    async def read(self, name: str) -> bytes | None:
        try:
            return await self._store.get(self._prefix + name)
        except (ObjectMissing, ValueError):
            return None

    async def digest(self, name: str) -> Digest | None:
        data = await self.read(name)
        return None if data is None else Digest(len(data), hashlib.sha256(data).digest())
