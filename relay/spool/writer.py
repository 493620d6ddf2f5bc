"""Writing the spool: the event loop only appends to bounded queues, one thread per worker does the rest.

A stream's queue is written by the loop and emptied by the thread; both ends keep a byte count of their own, so neither
waits for the other. A disk that is full or broken ends the part, is reported once, and leaves the call alone.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from config.logs import get_log
from relay.spool.format import (
    BLOCK_BYTES_MAX,
    CLOSED_NAME,
    DATA_KEY_BYTES,
    FILES_MAX,
    KEY_ID_BYTES_MAX,
    LOCK_NAME,
    PART_NAME,
    RECORD_BYTES_MAX,
    RECORD_HEAD_BYTES,
    BlockSeal,
    PartHeader,
    Record,
    SenderReportRecord,
    SpoolError,
    SpoolTrack,
    TrackEventRecord,
    encode_file_head,
    encode_record,
    encode_rtp,
    file_name,
)

log = get_log("relay.spool")

T = TypeVar("T")

PENDING_BYTES_MAX: Final = 8 * 1024 * 1024
"""What one stream may have waiting for the disk; the newest packets are dropped beyond it, and counted."""
FLUSH_INTERVAL_S: Final = 0.4
"""What a worker that is killed takes with it of the media, at most; each block costs sealing, writing and reading."""
SYNC_INTERVAL_S: Final = 1.0
_EVENT_BYTES: Final = 512  # what an event is reckoned to take, for the bound


class SpoolTrouble(enum.Enum):
    """What the owner of a part is told of, once each."""

    FULL = "full"
    """Packets were dropped because the disk does not keep up; the file says how many. The part goes on."""
    FAILED = "failed"
    """The part cannot be written any more; what was written stays."""


OnTrouble = Callable[[SpoolTrouble, str], None]
"""(what, why) — called in the writer's thread or the caller's; hand it over with ``call_soon_threadsafe``."""


class SpoolStream:
    """One stream's file. ``rtp``, ``sender_report``, ``event`` and ``end`` never block and never raise."""

    def __init__(self, part: SpoolPart, file_number: int) -> None:
        self.file_number = file_number
        self.dropped = 0
        """Packets that found no room (``DropReason.SPOOL_FULL``)."""
        self._part = part
        self._queue: deque[bytes | Record] = deque()
        self._bytes_in = 0  # written by the loop's thread only
        self._bytes_out = 0  # written by the spool's thread only
        self._dropped_told = 0
        self._ended = False
        self._fd = -1
        self._seal: BlockSeal | None = None
        self._next_index = 0

    def rtp(self, arrival_ns: int, packet: bytes) -> None:
        """Append one RTP packet."""
        if self._ended or self._part.failed is not None:
            return
        size = len(packet) + RECORD_HEAD_BYTES
        if self._bytes_in - self._bytes_out + size > PENDING_BYTES_MAX or size > RECORD_BYTES_MAX:
            self.dropped += 1
            if self.dropped == 1:
                self._part._report(SpoolTrouble.FULL, f"file {self.file_number}: the disk does not keep up")
            return
        if self.dropped != self._dropped_told:
            self._tell_lost(arrival_ns)
        self._bytes_in += size
        self._queue.append(encode_rtp(arrival_ns, packet))

    def sink(self, _stream: int, arrival_ns: int, packet: bytes) -> None:
        """``rtp`` in the shape of ``relay.plane.SpoolSink``."""
        self.rtp(arrival_ns, packet)

    def sender_report(self, arrival_ns: int, ssrc: int, ntp64: int, rtp_timestamp: int) -> None:
        """Append the clocks of a sender report."""
        self._small(SenderReportRecord(arrival_ns, ssrc, ntp64, rtp_timestamp))

    def event(self, arrival_ns: int, event: str, fields: dict[str, Any] | None = None) -> None:
        """Append an event, e.g. ``muted`` with ``{"muted": True}``. ``fields`` must be plain JSON."""
        self._small(TrackEventRecord(arrival_ns, event, fields or {}))

    def end(self, arrival_ns: int) -> None:
        """The stream is over: append ``end``; later calls do nothing."""
        self._tell_lost(arrival_ns)
        self.event(arrival_ns, "end")
        self._ended = True

    def _tell_lost(self, arrival_ns: int) -> None:
        if self.dropped != self._dropped_told:
            lost = {"packets": self.dropped - self._dropped_told}
            self._dropped_told = self.dropped
            self.event(arrival_ns, "lost", lost)

    def _small(self, record: Record) -> None:
        # Small records keep room beyond what media may take, so that the file can say that media was dropped.
        full = self._bytes_in - self._bytes_out + _EVENT_BYTES > PENDING_BYTES_MAX + 256 * _EVENT_BYTES
        if self._ended or full or self._part.failed is not None:
            return
        self._bytes_in += _EVENT_BYTES
        self._queue.append(record)

    # The spool's thread.

    def _write_pending(self) -> bool:
        """Write what is queued, as whole blocks. Whether anything was. Raises OSError."""
        wrote = False
        while self._queue:
            records, size, taken = [], 0, 0
            while self._queue and size + RECORD_BYTES_MAX + RECORD_HEAD_BYTES <= BLOCK_BYTES_MAX:
                item = self._queue.popleft()
                if isinstance(item, bytes):
                    data = item
                    taken += len(data)
                else:
                    data = encode_record(item)
                    taken += _EVENT_BYTES
                if len(data) <= RECORD_BYTES_MAX:
                    records.append(data)
                    size += len(data)
            self._write_block(b"".join(records))
            self._bytes_out += taken
            wrote = True
        return wrote

    def _write_block(self, plaintext: bytes) -> None:
        if self._seal is None:
            self._fd, self._seal = self._part._create_file(self.file_number)
        block = self._seal.seal(self._next_index, plaintext)
        self._next_index += 1
        _write_all(self._fd, block)

    def _sync(self) -> None:
        if self._fd >= 0:
            os.fdatasync(self._fd)

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
        self._ended = True
        self._queue.clear()


class SpoolPart:
    """One recording's media of one room epoch, being written. Made by ``SpoolWriter.open_part``."""

    def __init__(self, directory: Path, header: PartHeader, data_key: bytes, on_trouble: OnTrouble | None) -> None:
        self.directory = directory
        self.header = header
        self.failed: str | None = None
        """Why nothing more is written; None while all is well."""
        self.closed = False
        self._data_key = data_key
        self._on_trouble = on_trouble
        self._reported: set[SpoolTrouble] = set()
        self._part_json = msgspec.json.encode(header)
        self._streams: list[SpoolStream] = []
        self._unsynced: set[SpoolStream] = set()
        self._lock_fd = -1

    @classmethod
    def open(
        cls, spool_dir: Path, header: PartHeader, data_key: bytes, on_trouble: OnTrouble | None = None
    ) -> SpoolPart:
        """Make the part's directory, lock and header. Blocks on the disk.

        Raises ``SpoolError`` where the disk refuses or the part exists already: a part is never written twice.
        """
        if len(header.key_id.encode()) > KEY_ID_BYTES_MAX or len(data_key) != DATA_KEY_BYTES:
            raise SpoolError("the key id or the data key has the wrong length")
        directory = spool_dir / header.recording_public_id / str(header.epoch)
        part = cls(directory, header, data_key, on_trouble)
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            directory.mkdir(mode=0o700)
            part._lock_fd = os.open(directory / LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(part._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary = directory / (PART_NAME + ".new")
            fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                _write_all(fd, part._part_json)
                os.fsync(fd)
            finally:
                os.close(fd)
            temporary.rename(directory / PART_NAME)
            for path in (directory, directory.parent, spool_dir):
                _sync_directory(path)
        except OSError as error:
            part._unlock()
            raise SpoolError(f"cannot write {directory}: {error.strerror or error}") from error
        return part

    def add_stream(self, track: SpoolTrack, arrival_ns: int) -> SpoolStream:
        """A file for one more stream; its first record says what it is. Never blocks, never raises."""
        stream = SpoolStream(self, len(self._streams) + 1)
        if self.closed or len(self._streams) >= FILES_MAX:
            stream._ended = True
            self._report(SpoolTrouble.FULL, f"no room for more than {FILES_MAX} streams, or closed")
            return stream
        stream.event(arrival_ns, "track", msgspec.to_builtins(track, str_keys=True))
        self._streams.append(stream)
        return stream

    @property
    def dropped(self) -> int:
        """Packets that found no room, over all streams."""
        return sum(stream.dropped for stream in self._streams)

    def flush(self, *, sync: bool) -> None:
        """Write what is queued; with ``sync`` also wait until the disk has it. For the spool's thread."""
        if self.failed is not None or self.closed:
            return
        try:
            for stream in list(self._streams):
                if stream._write_pending():
                    self._unsynced.add(stream)
            if sync:
                for stream in list(self._unsynced):
                    stream._sync()
                self._unsynced.clear()
        except OSError as error:
            self._fail(f"{error.strerror or error}")

    def close(self) -> None:
        """End in order: all that is queued goes to disk, then ``closed`` is made. For the spool's thread."""
        self.flush(sync=True)
        if self.failed is None and not self.closed:
            self.closed = True
            try:
                os.close(os.open(self.directory / CLOSED_NAME, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
                _sync_directory(self.directory)
            except OSError as error:
                self._fail(f"{error.strerror or error}")
        self._release()

    def _fail(self, why: str) -> None:
        self.failed = why
        self._release()
        self._report(SpoolTrouble.FAILED, why)

    def _release(self) -> None:
        self.closed = True
        for stream in self._streams:
            with contextlib.suppress(OSError):  # the kernel closes the descriptor all the same
                stream._close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _report(self, trouble: SpoolTrouble, why: str) -> None:
        if trouble in self._reported:
            return
        self._reported.add(trouble)
        log.error(
            "spool in trouble",
            trouble=trouble.value,
            why=why,
            session_id=self.header.session_id,
            recording=self.header.recording_public_id,
        )
        if self._on_trouble is not None:
            self._on_trouble(trouble, why)

    def _create_file(self, file_number: int) -> tuple[int, BlockSeal]:
        head = encode_file_head(file_number, self.header.key_id, secrets.token_bytes(32))
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(self.directory / file_name(file_number), flags, 0o600)
        try:
            _write_all(fd, head)
            _sync_directory(self.directory)
        except OSError:
            os.close(fd)
            raise
        context = (self.header.recording_public_id, self.header.epoch, file_number)
        return fd, BlockSeal(self._data_key, self._part_json, head, context)


class SpoolWriter:
    """A worker's one thread for all its parts: writes every 200 ms, syncs every second. Use as a context manager."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._parts: list[SpoolPart] = []  # the thread's own
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    def __enter__(self) -> SpoolWriter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open_part(
        self, spool_dir: Path, header: PartHeader, data_key: bytes, on_trouble: OnTrouble | None = None
    ) -> Future[SpoolPart]:
        """``SpoolPart.open`` in the thread; await it with ``asyncio.wrap_future``. Fails with ``SpoolError``."""

        def work() -> SpoolPart:
            part = SpoolPart.open(spool_dir, header, data_key, on_trouble)
            self._parts.append(part)
            return part

        return self._submit(work)

    def close_part(self, part: SpoolPart) -> Future[None]:
        """``SpoolPart.close`` in the thread. Never fails: look at ``part.failed``."""

        def work() -> None:
            part.close()
            if part in self._parts:
                self._parts.remove(part)

        return self._submit(work)

    def close(self) -> None:
        """Close all parts in order and end the thread; waits for both. Idempotent."""
        self._closing = True
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        if self._closing:
            future.set_exception(SpoolError("the spool is closed"))
            return future

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - it is raised where the future is awaited
                future.set_exception(error)
            else:
                future.set_result(result)

        self._jobs.put(job)
        return future

    def _run(self) -> None:
        next_flush = time.monotonic() + FLUSH_INTERVAL_S
        next_sync = time.monotonic() + SYNC_INTERVAL_S
        while True:
            with contextlib.suppress(queue.Empty):
                job = self._jobs.get(timeout=max(0.0, next_flush - time.monotonic()))
                if job is None:
                    break
                job()
            now = time.monotonic()
            if now < next_flush:
                continue
            next_flush = now + FLUSH_INTERVAL_S
            if sync := now >= next_sync:
                next_sync = now + SYNC_INTERVAL_S
            for part in self._parts:
                self._guarded(part, partial(part.flush, sync=sync))
        for part in self._parts:
            self._guarded(part, part.close)

    @staticmethod
    def _guarded(part: SpoolPart, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - one part's fault must not end the spool of all others
            log.fault("spool failed", recording=part.header.recording_public_id, session_id=part.header.session_id)
            part._fail(f"{type(error).__name__}: {error}")


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
