"""The worker's own journal of evidence: append-only files that outlive the worker, the bus and the database.

Each second every open room's evidence is appended and ``fdatasync`` called once. A file is closed when it is
``FILE_MAX_NS`` old, or ``FINAL_AFTER_NS`` after a room has ended in it; closed files, and those that dead workers
left, are shipped to PostgreSQL and then deleted. Whether a file's writer lives is told by ``flock``: the kernel lets go
of it when the process dies.

A line is ``crc32 JSON``; a torn or altered line is skipped and counted, all others are read. With PostgreSQL away files
pile up; beyond ``FILES_MAX`` per directory the oldest are given up, with an error in the log: the bus has carried the
same figures, the journal is what they are checked against.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from config.logs import get_log

FILE_MAX_NS: Final = 30_000_000_000
"""Age at which a file is closed and may be shipped."""
FINAL_AFTER_NS: Final = 2_000_000_000
"""Age at which a file is closed that holds the end of a room: what is final should soon be where it is checked."""
FILES_MAX: Final = 24 * 60 * 60 // 2
LINE_MAX_BYTES: Final = 1024
_SUFFIX: Final = ".journal"

log = get_log("relay.journal")


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One room's live time at one second."""

    tenant_id: int
    session_id: int
    epoch: int
    seq: int
    live_ms: int
    granted_live_ms: int
    worker_id: str
    final: bool
    at_ms: int
    """Wall clock: tells the minute, bills nothing."""


class JournalFile(NamedTuple):
    """The content of one file."""

    entries: list[JournalEntry]
    damaged: int
    """Lines that could not be read; a file whose writer was killed may end in one."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(JournalEntry)


def minute_of(at_ms: int) -> int:
    """The minute, since the Unix epoch, that an entry belongs to."""
    return at_ms // 60_000


def encode_line(entry: JournalEntry) -> bytes:
    """An entry as a line of a journal file."""
    body = _encoder.encode(entry)
    return b"%08x %b\n" % (zlib.crc32(body), body)


def decode_lines(data: bytes) -> JournalFile:
    """All entries of a file's bytes; never raises."""
    entries: list[JournalEntry] = []
    damaged = 0
    for line in data.split(b"\n"):
        if not line:
            continue
        crc, _, body = line[:LINE_MAX_BYTES].partition(b" ")
        try:
            if int(crc, 16) != zlib.crc32(body):
                raise ValueError("checksum")
            entries.append(_decoder.decode(body))
        except (ValueError, msgspec.DecodeError):
            damaged += 1
    return JournalFile(entries, damaged)


class Journal:
    """The file that one worker writes. All methods block on the disk: call them in the journal's thread."""

    def __init__(self, directory: Path, worker_id: str) -> None:
        self._directory = directory
        self._worker_id = worker_id
        self._number = 0
        self._fd = -1
        self._close_at_ns = 0

    def append(self, entries: Iterable[JournalEntry], now_ns: int) -> None:
        """Append and sync. Raises OSError; what was written before stays."""
        entries = list(entries)
        lines = b"".join(encode_line(entry) for entry in entries)
        if self._fd >= 0 and now_ns >= self._close_at_ns:
            self.close()
        if not lines:
            return
        if self._fd < 0:
            self._open(now_ns)
        written = 0
        while written < len(lines):
            written += os.write(self._fd, lines[written:])
        os.fdatasync(self._fd)
        if any(entry.final for entry in entries):
            self._close_at_ns = min(self._close_at_ns, now_ns + FINAL_AFTER_NS)

    def close(self) -> None:
        """Close the current file, which makes it ready to be shipped. Idempotent."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _open(self, now_ns: int) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._number += 1
        name = f"{self._worker_id}-{self._number:06d}"
        temporary = self._directory / f".{name}.new"
        fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # before it has its name, so that nobody takes it for left
            temporary.rename(self._directory / (name + _SUFFIX))
        except OSError:
            os.close(fd)
            raise
        self._fd, self._close_at_ns = fd, now_ns + FILE_MAX_NS


def closed_files(directory: Path) -> list[Path]:
    """Journal files that nobody writes any more, oldest first. Gives up the oldest beyond ``FILES_MAX``."""
    found: list[tuple[float, Path]] = []
    for path in directory.glob("*" + _SUFFIX):
        with contextlib.suppress(OSError):  # shipped and deleted by another worker just now
            if not _is_written(path):
                found.append((path.stat().st_mtime, path))
    paths = [path for _, path in sorted(found)]
    for path in paths[:-FILES_MAX]:
        log.error("journal given up, too many wait for the database", file=path.name)
        path.unlink(missing_ok=True)
    return paths[-FILES_MAX:]


def read_file(path: Path) -> JournalFile:
    """One file's entries. Raises OSError."""
    return decode_lines(path.read_bytes())


def _is_written(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
