"""Exports that are being downloaded: opened once for all ranges of them, and so many at a time."""

from __future__ import annotations

import contextlib
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from config.http import ApiError
from config.keys import UnknownKey
from recorder.bundle import Bundle, Packed, unpack
from recorder.catalogue import Details, Recordings
from recorder.jobs import Job, Jobs
from recorder.playback import PlainCache
from recorder.products import Product, documents_of, open_product

OPENED_MAX: Final = 16
"""Plans kept in memory, names and numbers only; the least recently used goes first."""
DOWNLOADS_MAX: Final = 16
DOWNLOADS_OF_ONE_MAX: Final = 6
"""Responses at a time, of all exports and of one: each holds a few megabytes, in a process that has calls to serve."""


class Bundles:
    """The exports of one process of control."""

    def __init__(self, recordings: Recordings, jobs: Jobs) -> None:
        self._recordings = recordings
        self._jobs = jobs
        self._opened: OrderedDict[str, tuple[Sequence[Packed], Product]] = OrderedDict()
        self._running: Counter[str] = Counter()

    async def open(self, recording: Details, job: Job) -> Bundle:
        """An export's bytes. Raises ``ApiError`` where it is there no more."""
        version = _version(job)
        if (found := self._opened.get(version)) is None:
            found = await self._find(recording, job)
            self._opened[version] = found
            if len(self._opened) > OPENED_MAX:
                self._opened.popitem(last=False)
        self._opened.move_to_end(version)
        plan, documents = found
        try:
            opened = await open_product(self._recordings, recording, documents)
        except UnknownKey:
            raise _gone() from None
        return Bundle(self._recordings, recording, plan, opened)

    async def _find(self, recording: Details, job: Job) -> tuple[Sequence[Packed], Product]:
        documents = await documents_of(self._recordings, recording, job.public_id)
        plan = await self._jobs.plan(job)
        if documents is None or plan is None:
            raise _gone()
        return unpack(plan), documents

    @contextlib.contextmanager
    def place(self, job: Job) -> Iterator[None]:
        """Room for one more response. Raises ``ApiError``."""
        if self._running.total() >= DOWNLOADS_MAX or self._running[job.public_id] >= DOWNLOADS_OF_ONE_MAX:
            raise ApiError(429, "too_many_downloads", "Too many downloads are running. Wait until one has ended.")
        self._running[job.public_id] += 1
        try:
            yield
        finally:
            self._running[job.public_id] -= 1
            self._running += Counter()  # forgets those that are at zero


class BundleFile:
    """A bundle, as it is sent."""

    content_type = "application/zip"

    def __init__(self, whole: Bundle, job: Job) -> None:
        self.size = whole.size
        self.etag = f'"{_version(job)}"'
        self._whole = whole

    def read(self, start: int, end: int, _cache: PlainCache) -> AsyncIterator[bytes]:
        """The bytes from ``start`` to before ``end``. Raises what ``Bundle.read`` raises."""
        return self._whole.read(start, end)


def _gone() -> ApiError:
    return ApiError(409, "job_not_done", "The export is gone. Ask for another.")


def _version(job: Job) -> str:
    """Names what one try at a job made."""
    return f"{job.public_id}-{job.created_at_ms}-{job.finished_at_ms}"
