"""Reading the spool while it is being written, or after its writer died."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Container
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag

from relay.spool.format import (
    BLOCK_HEAD_BYTES,
    CLOSED_NAME,
    FILE_HEAD_BYTES_MAX,
    FILES_MAX,
    FORMAT_VERSION,
    LOCK_NAME,
    PART_NAME,
    BlockSeal,
    PartHeader,
    Record,
    SpoolCorrupt,
    SpoolError,
    block_bytes,
    decode_file_head,
    decode_records,
    file_name,
)

POLL_BYTES_MAX: Final = 4 * 1024 * 1024
"""What one poll takes from one file at most; call again until it returns nothing."""
AHEAD_BYTES: Final = 256 * 1024
"""Read from a file at a time: a second of video and more, so that a look at a live call reads once."""
PART_JSON_BYTES_MAX: Final = 1024 * 1024

UnwrapKey = Callable[[str, bytes], bytes]
"""(key id, wrapped key) → the recording's data key."""


def find_parts(spool_dir: Path) -> list[Path]:
    """Directories of all parts below ``spool_dir`` that have a header, in order of name."""
    return sorted(path.parent for path in spool_dir.glob(f"*/*/{PART_NAME}"))


def open_part(directory: Path, unwrap_key: UnwrapKey) -> SpoolPartReader:
    """Open a part for reading. Raises ``SpoolError`` (also where the header is of another part than the directory),
    ``OSError``, and what ``unwrap_key`` raises."""
    with (directory / PART_NAME).open("rb") as file:
        part_json = file.read(PART_JSON_BYTES_MAX + 1)
    if len(part_json) > PART_JSON_BYTES_MAX:
        raise SpoolError(f"{directory}: the header is longer than any")
    try:
        header = msgspec.json.decode(part_json, type=PartHeader)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SpoolError(f"{directory}: the header cannot be read: {error}") from error
    if header.version != FORMAT_VERSION:
        raise SpoolError(f"{directory}: format version {header.version}; this program reads {FORMAT_VERSION}")
    if (header.recording_public_id, str(header.epoch)) != (directory.parent.name, directory.name):
        raise SpoolError(f"{directory}: the header is of another part")
    return SpoolPartReader(directory, header, part_json, unwrap_key(header.key_id, header.wrapped_key))


class _File:
    """Where the reader stands in one spool file."""

    __slots__ = ("ahead", "ahead_at", "fd", "next_index", "number", "offset", "seal")

    def __init__(self, number: int, fd: int) -> None:
        self.number = number
        self.fd = fd
        self.offset = 0
        self.next_index = 0
        self.seal: BlockSeal | None = None
        self.ahead = memoryview(b"")
        """What was read of the file from ``ahead_at`` on: several blocks at once."""
        self.ahead_at = 0

    def read(self, size: int) -> memoryview:
        """So many bytes at the reader's place; fewer at the end of the file."""
        start = self.offset - self.ahead_at
        data = self.ahead[start : start + size]
        if len(data) < size:
            self.ahead_at = self.offset
            self.ahead = memoryview(os.pread(self.fd, max(size, AHEAD_BYTES), self.offset))
            data = self.ahead[:size]
        return data


class SpoolPartReader:
    """Follows one part. Not thread-safe; blocks on the disk. Close it when done, or use as a context manager."""

    def __init__(self, directory: Path, header: PartHeader, part_json: bytes, data_key: bytes) -> None:
        self.directory = directory
        self.header = header
        self._part_json = part_json
        self._closed, self._lock = str(directory / CLOSED_NAME), str(directory / LOCK_NAME)
        self._data_key = data_key
        self._files: dict[int, _File] = {}
        self._base = f"{directory}{os.sep}"
        self._found = 0
        self.caught_up = False
        """Whether the last poll read all files that it was to read to their ends."""
        self._errors: list[SpoolError] = []

    def __enter__(self) -> SpoolPartReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether the writer ended in order. Look before the last ``poll``, not after it."""
        return os.path.exists(self._closed)

    @property
    def writer_alive(self) -> bool:
        """Whether the writing process still holds the part. Look before the last ``poll``, not after it.

        Raises ``OSError`` where that cannot be told: a part that is taken for abandoned is finished, and deleted.
        """
        try:
            fd = os.open(self._lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def poll(self, skip: Container[int] = ()) -> list[tuple[int, Record]]:
        """What was written since the last call, as (file number, record), each file in its own order.

        Files whose numbers are in ``skip`` are left for a later call.

        Returns nothing when it has caught up. A block that is not whole yet is left for later: if the writer is dead it
        stays the torn tail, at most what the last second wrote. A file with a damaged block (``SpoolCorrupt``), of
        another version or on a failing disk (``SpoolError``) raises that once, after everything before it was
        returned; it gives nothing more, the other files go on.
        """
        return [(number, record) for number, records in self.poll_files(skip) for record in records]

    def poll_files(self, skip: Container[int] = ()) -> list[tuple[int, list[Record]]]:
        """``poll``, with what each file gave in one list; files that gave nothing are left out."""
        self._find_files()
        self.caught_up = True
        closed = self.closed
        found: list[tuple[int, list[Record]]] = []
        for file in list(self._files.values()):
            if file.number in skip:
                continue
            records: list[Record] = []
            try:
                self._read(file, records, closed)
            except SpoolError as error:
                self._errors.append(error)
                self._drop(file)
            except OSError as error:
                self._errors.append(SpoolError(f"spool file {file.number}: {error.strerror or error}"))
                self._drop(file)
            if records:
                found.append((file.number, records))
        if not found and self._errors:
            raise self._errors.pop(0)
        return found

    def close(self) -> None:
        """Let go of the files."""
        for file in list(self._files.values()):
            self._drop(file)

    def _drop(self, file: _File) -> None:
        del self._files[file.number]
        with contextlib.suppress(OSError):  # read-only descriptor: nothing can be lost
            os.close(file.fd)

    def _find_files(self) -> None:
        while self._found < FILES_MAX:
            number = self._found + 1
            try:
                fd = os.open(self._base + file_name(number), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return
            self._found = number
            self._files[number] = _File(number, fd)

    def _read(self, file: _File, records: list[Record], closed: bool) -> None:
        if file.seal is None and not self._read_file_head(file, closed):
            return
        seal = file.seal
        file.ahead = memoryview(b"")  # what was read before may have been a moment too early
        taken = 0
        while seal is not None and taken < POLL_BYTES_MAX:
            block = self._read_block(file, closed)
            if block is None:
                return
            try:
                found = decode_records(seal.open(file.next_index, block))
            except (InvalidTag, ValueError) as error:
                why = str(error) or "the block does not authenticate"
                raise SpoolCorrupt(file.number, file.offset, why) from error
            file.offset += len(block)
            file.next_index += 1
            taken += len(block)
            records += found
        self.caught_up = False

    def _read_file_head(self, file: _File, closed: bool) -> bool:
        data = os.pread(file.fd, FILE_HEAD_BYTES_MAX, 0)
        head = None if not any(data) else decode_file_head(data, file.number)
        if head is None:
            if closed:
                raise SpoolCorrupt(file.number, 0, "the file was closed in order, but its header is cut")
            return False
        context = (self.header.recording_public_id, self.header.epoch, file.number)
        file.seal = BlockSeal(self._data_key, self._part_json, head, context)
        file.offset = len(head)
        return True

    def _read_block(self, file: _File, closed: bool) -> memoryview | None:
        """The whole block at the reader's place; None where there is none (yet)."""
        head = file.read(BLOCK_HEAD_BYTES)
        if not head and not closed:
            return None
        if len(head) == BLOCK_HEAD_BYTES and any(head):
            try:
                size = block_bytes(head, file.next_index)
            except ValueError as error:
                raise SpoolCorrupt(file.number, file.offset, str(error)) from error
            block = file.read(size)
            # After a power failure a file system may show a tail of zeros that was never written: torn, not damaged.
            if len(block) == size and any(block[BLOCK_HEAD_BYTES:]):
                return block
        elif not head:
            return None
        if closed:
            raise SpoolCorrupt(file.number, file.offset, "the part was closed in order, but the file is cut")
        return None
