"""What can go wrong in the recorder, and who can do something about it."""

from __future__ import annotations


class RecorderError(Exception):
    """Base of the recorder's errors; the text is for operators."""


class Unavailable(RecorderError):
    """PostgreSQL or the object store cannot be reached now. Nothing is lost: the spool stays, the work is repeated."""


class Diverged(RecorderError):
    """Muxing again gave other bytes than those stored: the stored ones stay, the run gets a new stream number."""

    def __init__(self, stream: int) -> None:
        super().__init__(f"stream {stream} was muxed differently before")
        self.stream = stream


class SegmentCorrupt(RecorderError):
    """A stored object is missing, or is not what was stored under its name."""


class ConsentMissing(RecorderError):
    """Somebody has not agreed to be recorded, so nothing is."""
