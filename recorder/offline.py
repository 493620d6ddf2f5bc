"""``turnpike verify TARGET``: is it what was recorded and signed? Needs no database, no key but the public one.

TARGET is an export bundle (zip), a folder (an unpacked bundle, or any part of a directory store), ``s3://bucket/prefix``,
or a prefix of this installation's own store, such as ``recordings/1/rec_…``. Exit status 0: everything is what was
signed; 1: something is not, and is named; 2: the target cannot be read.
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from config.keys import SigningKey, signing_key_id
from config.objects import ObjectStoreError
from config.objects_open import open_objects, store_at
from config.settings import Settings
from recorder.check import Findings, check_store
from recorder.check_bundle import BUNDLE, check_bundle
from recorder.files import Files, FilesError, FolderFiles, StoreFiles, ZipFiles

EXIT_GOOD: Final = 0
EXIT_BAD: Final = 1
EXIT_UNREADABLE: Final = 2
_HEX_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")


async def verify_target(settings: Settings, target: str, key: str | None) -> int:
    """Verify and say what was found; the exit status."""
    try:
        trusted = _trusted(settings, key)
        files = await _open(settings, target)
        found = Findings()
        if BUNDLE in await files.names():
            await check_bundle(files, trusted, found)
        else:
            await check_store(files, trusted, found)
    except (FilesError, ObjectStoreError, ValueError, OSError) as error:
        sys.stderr.write(f"turnpike: cannot verify {target}: {error}\n")
        return EXIT_UNREADABLE
    sys.stdout.write(report(found, trusted))
    return EXIT_BAD if found.problems else EXIT_GOOD


def report(found: Findings, trusted: bytes | None) -> str:
    """What is printed."""
    lines = [f"problem: {text}" for text in found.problems] + [f"note: {text}" for text in found.notes]
    lines.append(f"signed by: {', '.join(sorted(found.signers)) or 'nobody'}")
    if trusted is None:
        lines.append("note: the key was not given; compare it with the one the installation publishes, or use --key")
    else:
        lines.append(f"key trusted: {signing_key_id(trusted)}")
    verdict = "NOT what was signed" if found.problems else "exactly what was signed"
    lines.append(f"recordings: {found.recordings}, objects and rows that agree: {found.objects}; {verdict}")
    return "\n".join(lines) + "\n"


def _trusted(settings: Settings, key: str | None) -> bytes | None:
    """The public key to trust: the given one (hexadecimal, or a file of it), else this installation's own, if any.

    Raises ValueError.
    """
    if key is not None:
        text = key if _HEX_KEY.fullmatch(key) else Path(key).read_text().strip()
        if not _HEX_KEY.fullmatch(text):
            raise ValueError("a public key is 64 hexadecimal digits, or a file of them")
        return bytes.fromhex(text)
    if (settings.secrets_dir / "signing.key").exists():
        return SigningKey.from_settings(settings).public
    return None


async def _open(settings: Settings, target: str) -> Files:
    """Raises ``FilesError``, ValueError."""
    if target.startswith("s3://"):
        parts = urlsplit(target)
        return StoreFiles(store_at(f"s3://{parts.netloc}", settings), parts.path)
    local = await asyncio.to_thread(_local, Path(target))
    if local is not None:
        return local
    files = StoreFiles(open_objects(settings), target)
    if not await files.names():
        raise FilesError("there is no such file or folder, and nothing below that prefix in the store")
    return files


def _local(path: Path) -> Files | None:
    """A folder or an archive of this machine. Raises ``FilesError``."""
    if path.is_dir():
        return FolderFiles(path)
    return ZipFiles(path) if path.is_file() else None
