"""Reports both ways (RFC 3550 §6.4): what we say to publishers, what subscribers say to us, and one time for both.

A subscriber's sender reports carry the worker's own NTP time, so that the round trip can be read from its answers. A
publisher's clock is turned into it by one offset per participant, taken once from the first report: audio and video
of one person keep exactly the distance that their own clock gave them, which is all that lip sync needs.
"""

from __future__ import annotations

from typing import Final

from config.clock import Clock
from relay.plane import RouteCounters, StreamCounters
from relay.rtcp import (
    ReportBlock,
    SenderReport,
    ntp64_of,
    ntp_middle,
    pack_cname,
    pack_sender_report,
    round_trip_ns,
)

KEY_FRAME_INTERVAL_NS: Final = 300_000_000
"""At most one key-frame request per source in this time; one that comes too soon waits for its turn."""
_RTT_SMOOTHING: Final = 0.25
_MS: Final = 1_000_000


class TimeBase:
    """Wall time that runs at the monotonic clock's pace from one instant on, so that it never jumps."""

    def __init__(self, clock: Clock) -> None:
        self._mono_ns = clock.monotonic_ns()
        self._wall_ns = clock.wall_ms() * _MS

    def wall_ms(self, now_ns: int) -> int:
        """Milliseconds since the Unix epoch."""
        return (self._wall_ns + now_ns - self._mono_ns) // _MS

    def ntp64(self, now_ns: int) -> int:
        """NTP time, 32.32 fixed point."""
        return ntp64_of(self._wall_ns + now_ns - self._mono_ns)


class SenderClock:
    """A participant's NTP clock against ours: one offset for all their tracks."""

    def __init__(self) -> None:
        self._offset: int | None = None

    def to_ours(self, ntp64: int, our_ntp64: int) -> int:
        """A time of theirs, heard of at ``our_ntp64``, on our clock."""
        if self._offset is None:
            self._offset = our_ntp64 - ntp64
        return ntp64 + self._offset


class KeyFrameRequests:
    """When to ask a source for a key frame."""

    def __init__(self) -> None:
        self.asked = 0
        self._last_ns: int | None = None
        self._wanted = False

    def want(self) -> None:
        """Somebody wants one: ask when it is ``due``."""
        self._wanted = True

    def due(self, now_ns: int) -> bool:
        """Whether a request that had to wait may go out now."""
        if not self._wanted or (self._last_ns is not None and now_ns - self._last_ns < KEY_FRAME_INTERVAL_NS):
            return False
        self._wanted = False
        self._last_ns = now_ns
        self.asked += 1
        return True


class Reception:
    """What arrives of one published stream: the base of our receiver reports, and of its sender's quality."""

    def __init__(self, clock_rate: int) -> None:
        self.clock_rate = clock_rate
        self.loss = 0.0
        """Share of packets that did not arrive at first, in the last interval."""
        self.jitter_ms = 0.0
        self.bitrate_bps = 0
        self.frames_per_second: float | None = None
        """Of video; None: not measured yet."""
        self.measured = False
        """Whether bit rate and frame rate are those of an interval."""
        self._frames = 0
        self._expected = 0
        self._received = 0
        self._bytes = 0
        self._measured_ns = 0
        self._report: tuple[int, int, int, int] | None = None

    def sender_report(self, report: SenderReport, our_ntp64: int, arrival_ns: int) -> bool:
        """Take in the publisher's clocks, their NTP time on our clock. True: the first of this stream."""
        first = self._report is None
        self._report = (our_ntp64, report.rtp_timestamp, report.ntp64, arrival_ns)
        return first

    def timestamp_at(self, our_ntp64: int) -> int | None:
        """The publisher's RTP timestamp at a moment of ours; None before the first sender report."""
        if self._report is None:
            return None
        ntp64, timestamp, _, _ = self._report
        return (timestamp + ((our_ntp64 - ntp64) * self.clock_rate >> 32)) & 0xFFFF_FFFF

    def measure(self, counters: StreamCounters, now_ns: int) -> None:
        """Take the interval since the last call into ``loss``, ``jitter_ms`` and ``bitrate_bps``."""
        expected = counters.highest_sequence - counters.first_sequence + 1 if counters.packets else 0
        received = counters.unique_packets - counters.repaired
        new_expected = expected - self._expected
        lost = new_expected - (received - self._received)
        self.loss = min(1.0, max(0.0, lost / new_expected)) if new_expected > 0 else 0.0
        if self._measured_ns and now_ns > self._measured_ns:
            new_bytes = counters.bytes - self._bytes
            self.measured = True
            new_frames = sum(counters.temporal_frames) - self._frames
            self.frames_per_second = max(0, new_frames) * 1_000_000_000 / (now_ns - self._measured_ns)
            self.bitrate_bps = max(0, new_bytes) * 8 * 1_000_000_000 // (now_ns - self._measured_ns)
        self.jitter_ms = counters.jitter * 1000 / self.clock_rate
        self._expected, self._received, self._bytes = expected, received, counters.bytes
        self._frames = sum(counters.temporal_frames)
        self._measured_ns = now_ns

    def block(self, ssrc: int, counters: StreamCounters, now_ns: int) -> ReportBlock:
        """A report block for the publisher, on the interval last measured."""
        last_sr = delay = 0
        if self._report is not None:
            _, _, their_ntp64, arrival_ns = self._report
            last_sr = ntp_middle(their_ntp64)
            delay = ((now_ns - arrival_ns) << 16) // 1_000_000_000
        return ReportBlock(
            ssrc=ssrc,
            fraction_lost=min(255, int(self.loss * 256)),
            packets_lost=self._expected - self._received,
            highest_sequence=counters.highest_sequence,
            jitter=int(counters.jitter),
            last_sr=last_sr,
            delay_since_last_sr=delay,
        )


class Delivery:
    """What a subscriber says of one track that we send: the base of its quality."""

    def __init__(self, clock_rate: int) -> None:
        self.clock_rate = clock_rate
        self.loss = 0.0
        self.jitter_ms = 0.0
        self.rtt_ms: float | None = None
        self.bitrate_bps = 0
        self._octets = 0
        self._measured_ns = 0

    def report_block(self, block: ReportBlock, our_ntp64: int) -> None:
        """Take in one report block about this track."""
        self.loss = block.fraction_lost / 256
        self.jitter_ms = block.jitter * 1000 / self.clock_rate
        round_trip = round_trip_ns(block, our_ntp64)
        if round_trip is not None:
            newest = round_trip / _MS
            self.rtt_ms = newest if self.rtt_ms is None else self.rtt_ms + _RTT_SMOOTHING * (newest - self.rtt_ms)

    def measure(self, counters: RouteCounters, now_ns: int) -> None:
        """Take the interval since the last call into ``bitrate_bps``."""
        if self._measured_ns and now_ns > self._measured_ns:
            new_octets = max(0, counters.octets - self._octets)
            self.bitrate_bps = new_octets * 8 * 1_000_000_000 // (now_ns - self._measured_ns)
        self._octets, self._measured_ns = counters.octets, now_ns


def sender_report(ssrc: int, cname: str, our_ntp64: int, timestamp: int, counters: RouteCounters) -> bytes:
    """A compound for a subscriber: sender report and CNAME."""
    report = pack_sender_report(ssrc, our_ntp64, timestamp, counters.packets, counters.octets)
    return report + pack_cname(ssrc, cname)
