"""When a frame was taken, on the server's clock: RTP timestamps tied together by sender reports.

Each track counts in ticks of its own clock. A sender report pairs a tick with the sender's NTP time, which all tracks
of a participant share: that keeps lips and voice together whatever the network did. The sender's NTP time is tied to
the server's by the quickest report seen. Before the first report, or without any, a track is tied to the server's time
by its quickest packet. All times are nanoseconds on the worker's monotonic clock, as in the spool.
"""

from __future__ import annotations

from typing import Final

from recorder.sequence import Unwrapper

STEP_NS: Final = 20_000_000
"""Once frames are written, a report moves a track only when it is off by more than this (clocks drift apart)."""
REPORT_OFF_MAX_NS: Final = 1_500_000_000
"""A report that disagrees with the arrivals by more than this is not believed."""
JUMP_NS: Final = 60_000_000_000
"""A timestamp that is off by more than this from when its frame arrived was not delayed by any network: the sender's
count jumped. What follows is placed where it would have come without that: a file is never filled up to such a time."""
DRIFT_SHARE: Final = 50
"""One in so many: how far the sender's count may drift from the time of arrival, which is followed."""
_SECOND_NS: Final = 1_000_000_000


class SenderClock:
    """What one participant's NTP time is on the server's clock."""

    def __init__(self) -> None:
        self.offset_ns: int | None = None
        """Server's time minus sender's; the least seen, which had the least delay. Fixed once frames are written."""
        self._settled = False

    def note(self, ntp_ns: int, arrival_ns: int) -> None:
        """A sender report arrived."""
        offset = arrival_ns - ntp_ns
        if self.offset_ns is None or (not self._settled and offset < self.offset_ns):
            self.offset_ns = offset

    def settle(self) -> None:
        """Keep the offset from now on, if there is one."""
        self._settled = self.offset_ns is not None


class TrackClock:
    """Turns one track's RTP timestamps into server time."""

    def __init__(self, clock_rate: int, sender: SenderClock) -> None:
        self.reported = False
        """Whether a believable sender report has come."""
        self.steps = 0
        """How often a report moved the track after it had settled."""
        self.jumps = 0
        """How often the timestamps jumped."""
        self._near: tuple[int, int] | None = None
        """About what the count's beginning was when the last frame arrived, and when that was."""
        self._rate = clock_rate
        self._sender = sender
        self._unwrap = Unwrapper(32)
        self._arrival_base_ns: int | None = None
        self._report: tuple[int, int] | None = None
        self._base_ns: int | None = None

    def note_frame(self, timestamp: int, arrival_ns: int) -> int:
        """A frame of that (unwrapped) timestamp arrived: by how many ticks it, and all that follow, are to be moved.
        That is 0, unless the sender's count jumped."""
        base = arrival_ns - timestamp * _SECOND_NS // self._rate
        near, last_ns = self._near or (base, arrival_ns)
        off, slack = base - near, abs(arrival_ns - last_ns) // DRIFT_SHARE
        if -JUMP_NS <= off <= JUMP_NS:
            self._near = (near + min(max(off, -slack), slack), arrival_ns)
            moved = 0
        else:
            self.jumps += 1
            moved = off * self._rate // _SECOND_NS
            base = near
        self._unwrap(timestamp + moved)
        if self._arrival_base_ns is None or (self._base_ns is None and base < self._arrival_base_ns):
            self._arrival_base_ns = base
        return moved

    def note_report(self, ntp64: int, rtp_timestamp: int, arrival_ns: int) -> bool:
        """A sender report arrived; whether it is believed. Reports before the first frame are not used."""
        if self._arrival_base_ns is None:
            return False
        ntp_ns = ntp64 * _SECOND_NS >> 32
        ticks_ns = self._ticks_ns(self._unwrap.peek(rtp_timestamp))
        if self._sender.offset_ns is not None:
            base = ntp_ns + self._sender.offset_ns - ticks_ns
            if abs(base - self._arrival_base_ns) > REPORT_OFF_MAX_NS:
                return False
        self._sender.note(ntp_ns, arrival_ns)
        self._report = (ntp_ns, ticks_ns)
        self.reported = True
        base = self._reported_base()
        if self._base_ns is not None and abs(base - self._base_ns) > STEP_NS:
            self._base_ns = base
            self.steps += 1
        return True

    def settle(self) -> None:
        """Frames are being written from now on: keep the time, but for steps."""
        if self._base_ns is None:
            self._base_ns = self._estimate()
            self._sender.settle()

    def time_ns(self, timestamp: int) -> int:
        """Server time of an unwrapped timestamp; may still change until ``settle``. Needs a frame noted."""
        base = self._base_ns if self._base_ns is not None else self._estimate()
        return base + timestamp * _SECOND_NS // self._rate

    def _estimate(self) -> int:
        return self._reported_base() if self.reported else self._arrival_base_ns or 0

    def _reported_base(self) -> int:
        ntp_ns, ticks_ns = self._report or (0, 0)
        return ntp_ns + (self._sender.offset_ns or 0) - ticks_ns

    def _ticks_ns(self, timestamp: int) -> int:
        return timestamp * _SECOND_NS // self._rate
