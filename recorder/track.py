"""One spool file: records in, frames out, and what has to be said of it in the manifest."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any, Final

from recorder.frames import Assembler, Frame, assembler
from recorder.sequence import Reorder, RtpPacket, Unwrapper, parse_rtp
from recorder.timeline import SenderClock, TrackClock
from relay.spool import Record, RtpRecord, SenderReportRecord, TrackEventRecord

ANCHORS_MAX: Final = 2000
ANCHOR_EVERY_NS: Final = 10_000_000_000
"""After the first ones, a clock anchor is kept this often; those that moved the track are always kept."""
ANCHORS_DENSE: Final = 10
MUTES_MAX: Final = 2000
CODECS_MAX: Final = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Anchor:
    """One pairing of the three clocks."""

    arrival_ns: int
    ntp64: int
    rtp_timestamp: int
    used: bool
    """Whether it was believed."""


class Track:
    """A recorded stream of a participant. ``frames`` waits for the lane to take from it."""

    def __init__(self, number: int, declared: TrackEventRecord, senders: dict[int, SenderClock]) -> None:
        """``declared`` is the file's first record. Raises ValueError where it lacks what a track needs."""
        fields = declared.fields
        try:
            self.user_id = int(fields["user_id"])
            self.source = str(fields["source"])
            self.kind = str(fields["kind"])
            self.ssrc = int(fields["ssrc"])
            clock_rate = int(fields["clock_rate"])
            codecs = {int(pt): str(name).lower() for pt, name in list(dict(fields["codecs"]).items())[:CODECS_MAX]}
        except (KeyError, TypeError) as error:
            raise ValueError(f"spool file {number} declares no track: {error!r}") from error
        if self.kind not in ("audio", "video") or not 1 <= clock_rate <= 1_000_000:
            raise ValueError(f"spool file {number} declares a track of kind {self.kind} at {clock_rate} Hz")
        self.number = number
        self.codecs = codecs
        self.clock_rate = clock_rate
        self.clock = TrackClock(clock_rate, senders.setdefault(self.user_id, SenderClock()))
        self.declared_ns = declared.arrival_ns
        self.first_frame_ns: int | None = None
        """Arrival of its first frame."""
        self.frames: deque[Frame] = deque()
        self.muted = False
        self.ended = False
        self.packets = 0
        self.frames_total = 0
        self.malformed = 0
        self.spool_dropped = 0
        self.mutes: list[tuple[int, bool]] = []
        self.anchors: list[Anchor] = []
        self.reorder = Reorder()
        self._unwrap = Unwrapper(32)
        self._moved = 0
        """Added to timestamps, because the sender's count jumped."""
        self._assemblers: dict[str, Assembler | None] = {}
        self._by_payload_type: dict[int, Assembler] = {}

    @property
    def is_video(self) -> bool:
        return self.kind == "video"

    @property
    def dropped_frames(self) -> int:
        """Frames that could not be passed on for losses or damage."""
        return sum(each.dropped for each in self._assemblers.values() if each is not None)

    def push(self, records: list[Record]) -> None:
        """What arrived, in order."""
        is_next, take = self.reorder.next, self._take
        for record in records:
            if isinstance(record, RtpRecord):
                arrival_ns, data = record
                self.packets += 1
                packet = parse_rtp(data, arrival_ns)
                if packet is None:
                    self.malformed += 1
                elif is_next(packet):
                    take(packet, 0)
                else:
                    self.reorder.push(packet)
                    self.drain(arrival_ns)
            elif isinstance(record, SenderReportRecord):
                self.sender_report(record)
            else:
                self.event(record)

    def sender_report(self, record: SenderReportRecord) -> None:
        """A sender report; those of other streams are ignored."""
        if record.ssrc != self.ssrc:
            return
        steps = self.clock.steps
        rtp_timestamp = (record.rtp_timestamp + self._moved) & 0xFFFFFFFF
        believed = self.clock.note_report(record.ntp64, rtp_timestamp, record.arrival_ns)
        dense = len(self.anchors) < ANCHORS_DENSE or self.clock.steps != steps
        due = dense or record.arrival_ns - self.anchors[-1].arrival_ns >= ANCHOR_EVERY_NS
        if due and len(self.anchors) < ANCHORS_MAX:
            self.anchors.append(Anchor(record.arrival_ns, record.ntp64, record.rtp_timestamp, believed))

    def event(self, record: TrackEventRecord) -> None:
        """A track event; unknown ones are skipped."""
        match record.event:
            case "muted":
                self.muted = bool(record.fields.get("muted"))
                if len(self.mutes) < MUTES_MAX:
                    self.mutes.append((record.arrival_ns, self.muted))
            case "lost":
                lost = record.fields.get("packets")
                self.spool_dropped += lost if isinstance(lost, int) else 0
            case "end":
                self.drain(record.arrival_ns, final=True)
                self.ended = True

    def drain(self, now_ns: int, *, final: bool = False) -> None:
        """Make frames of the packets whose turn it is."""
        for ordered in self.reorder.pop(now_ns, final=final):
            self._take(*ordered)

    def _take(self, packet: RtpPacket, lost: int) -> None:
        each = self._by_payload_type.get(packet.payload_type)
        if each is None and (each := self._assembler(packet)) is None:
            return
        frame = each.take(packet, lost)
        if frame is not None:
            self.frames_total += 1
            self.first_frame_ns = self.first_frame_ns or frame.arrival_ns
            timestamp = frame.timestamp + self._moved
            if moved := self.clock.note_frame(timestamp, frame.arrival_ns):
                self._moved += moved
            if self._moved:
                frame = frame._replace(timestamp=frame.timestamp + self._moved)
            self.frames.append(frame)

    def _assembler(self, packet: RtpPacket) -> Assembler | None:
        """The assembler for a packet's codec; None for one that is not recorded."""
        codec = self.codecs.get(packet.payload_type, "")
        if codec not in self._assemblers:
            self._assemblers[codec] = assembler(codec, self._unwrap)
        each = self._assemblers[codec]
        if each is not None:
            self._by_payload_type[packet.payload_type] = each
        return each

    def described(self) -> dict[str, Any]:
        """The track in the manifest, but for times, which the part knows."""
        return {
            "file": self.number,
            "source": self.source,
            "kind": self.kind,
            "ssrc": self.ssrc,
            "clock_rate": self.clock_rate,
            "codecs": sorted(name for name, each in self._assemblers.items() if each is not None),
            "packets": self.packets,
            "lost": self.reorder.lost,
            "late": self.reorder.late,
            "duplicates": self.reorder.duplicates,
            "malformed": self.malformed,
            "not_spooled": self.spool_dropped,
            "frames": self.frames_total,
            "dropped_frames": self.dropped_frames,
            "clock_steps": self.clock.steps,
            "clock_jumps": self.clock.jumps,
        }
