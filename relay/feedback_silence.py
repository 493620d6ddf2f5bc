"""Whether a page that is heard has ceased to say what arrives there.

A full line back to us holds up or drops the very feedback that would tell of it, and with it of the line there. Sending
on as before keeps a queue full in which sound stands behind pictures. So video halts until the page tells of something
that was sent since: what it tells before is old. A page that is not heard either met an outage, which says nothing of
what its line takes.

Sans-IO, one per subscriber transport. Times are nanoseconds.
"""

from __future__ import annotations

from typing import Final

SILENT_MIN_NS: Final = 250_000_000
"""Browsers tell every 50 to 250 ms, the more often the more arrives."""
INTERVALS: Final = 5
"""A silence of so many times the usual is none of lost feedback: of a fifth lost, five in a row are one in 3,000."""
PACKETS_MIN: Final = 15
"""So many must have been sent meanwhile for silence to be strange."""
HALT_MAX_NS: Final = 1_500_000_000
"""Then video is tried again: where nothing else is sent, nothing can be told of."""
HALTS_MAX: Final = 3
"""After so many without a word in between the page has nothing more to tell, for whatever reason: video goes on."""
HEARD_NS: Final = 200_000_000
"""Media from the page that is no older than this means that it is heard."""
_SMOOTHING: Final = 8


class FeedbackSilence:
    """See the module's docstring."""

    __slots__ = ("_halted_ns", "_halts", "_interval_ns", "_sent", "_told_ns")

    def __init__(self) -> None:
        self._told_ns: int | None = None
        self._halted_ns: int | None = None
        self._halts = 0
        """Since it told anything."""
        self._interval_ns = 0
        self._sent = 0

    def told(self, sent: int, newest_ns: int, now_ns: int) -> None:
        """Feedback came; ``sent``: video packets sent until now, in total; ``newest_ns``: when the newest packet that
        it tells of was sent."""
        if self._halted_ns is not None and newest_ns > self._halted_ns:
            self._halted_ns = None
        if self._told_ns is not None:
            interval_ns = min(now_ns - self._told_ns, SILENT_MIN_NS)
            self._interval_ns += (interval_ns - self._interval_ns) // _SMOOTHING
        self._told_ns, self._sent, self._halts = now_ns, sent, 0

    def may_halt(self, now_ns: int) -> bool:
        """Whether ``halts`` has to be asked: most of the time feedback has only just come."""
        if self._halted_ns is not None:
            return True
        return self._told_ns is not None and now_ns - self._told_ns > SILENT_MIN_NS

    def halts(self, sent: int, heard_ns: int, now_ns: int) -> bool:
        """Whether video has to halt now; ``heard_ns``: when media came from the page last. Never where no feedback
        ever came: without transport-cc all are silent."""
        if self._halted_ns is None and self._lasts(sent, heard_ns, now_ns):
            self._halted_ns = now_ns
            self._halts += 1
        if self._halted_ns is not None and now_ns - self._halted_ns > HALT_MAX_NS:
            self._halted_ns, self._told_ns, self._sent = None, now_ns, sent
        return self._halted_ns is not None

    def _lasts(self, sent: int, heard_ns: int, now_ns: int) -> bool:
        return (
            self._told_ns is not None
            and self._halts < HALTS_MAX
            and now_ns - self._told_ns > max(SILENT_MIN_NS, INTERVALS * self._interval_ns)
            and now_ns - heard_ns < HEARD_NS
            and sent - self._sent >= PACKETS_MIN
        )
