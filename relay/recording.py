"""One recording of a room: which published track goes into which spool file.

A track of several encodings is tapped like a subscriber's route: its file holds one unbroken stream, always of the best
encoding that is being sent, and an event at each change.

The spool's own thread writes; nothing here waits for the disk, and no trouble of the disk reaches the call.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from relay.messages import ParticipantSpec, Source
from relay.participant import Participant
from relay.plane import Plane, RouteSpec
from relay.published import Encoding, PublishedTrack, timestamp_shift
from relay.rtcp import SenderReport
from relay.spool import PartHeader, PartParticipant, SpoolPart, SpoolTrack


def part_header(
    *,
    tenant_id: int,
    session_id: int,
    session_public_id: str,
    epoch: int,
    recording_public_id: str,
    worker_id: str,
    key_id: str,
    wrapped_key: bytes,
    participants: Iterable[ParticipantSpec],
    wall_ms: int,
    now_ns: int,
) -> PartHeader:
    """What a part says of itself before its first media."""
    return PartHeader(
        tenant_id=tenant_id,
        session_id=session_id,
        session_public_id=session_public_id,
        recording_public_id=recording_public_id,
        epoch=epoch,
        worker_id=worker_id,
        key_id=key_id,
        wrapped_key=wrapped_key,
        started_wall_ms=wall_ms,
        started_monotonic_ns=now_ns,
        participants=tuple(
            PartParticipant(user_id=spec.user_id, public_id=spec.public_id, name=spec.name, role=spec.role)
            for spec in participants
        ),
    )


KEY_FRAME_EVERY_NS: Final = 10_000_000_000
"""A key frame is asked of every recorded video this often, so that players have somewhere near to begin."""


def free_bytes(spool_dir: Path) -> int:
    """Free disk under the spool. Blocks; a spool that cannot be looked at has none."""
    try:
        spool_dir.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(spool_dir).free
    except OSError:
        return 0


class RoomRecording:
    """A part being written, and the plane's streams that feed it."""

    def __init__(self, part: SpoolPart, plane: Plane, now_ns: int) -> None:
        self.part = part
        self.paused_until_ns: int | None = None
        """While it is paused: when it goes on by itself."""
        self._plane = plane
        self._key_frames_ns = now_ns + KEY_FRAME_EVERY_NS

    def key_frames_due(self, now_ns: int) -> bool:
        """Whether key frames are to be asked for now; true once every ``KEY_FRAME_EVERY_NS``."""
        if now_ns < self._key_frames_ns or self.paused_until_ns is not None:
            return False
        self._key_frames_ns = now_ns + KEY_FRAME_EVERY_NS
        return True

    @property
    def recording_public_id(self) -> str:
        return self.part.header.recording_public_id

    def add(self, participant: Participant, track: PublishedTrack, now_ns: int) -> None:
        """Record a track from now on, if it has a stream and is not recorded yet. While paused: not yet."""
        if track.stream is None or track.spool is not None or self.paused_until_ns is not None:
            return
        spec = track.stream_spec()
        track.spool = self.part.add_stream(
            SpoolTrack(
                user_id=participant.spec.user_id,
                source=track.media.source,
                ssrc=spec.ssrc,
                kind=spec.kind,
                clock_rate=spec.clock_rate,
                codecs=spec.codecs,
            ),
            now_ns,
        )
        if participant.muted.get(track.media.source):
            track.spool.event(now_ns, "muted", {"muted": True})
        if not track.is_simulcast:
            self._plane.set_spool(track.stream, track.spool.sink)
            return
        track.tap_ssrc = spec.ssrc
        same = {payload_type: payload_type for payload_type in spec.codecs}
        tap = RouteSpec(ssrc=spec.ssrc, rtx_ssrc=None, payload_types=same, wait_for_key_frame=True)
        track.tap = self._plane.add_tap(track.stream, tap, track.spool.sink)
        self._note_layer(track, now_ns)

    def follow(self, track: PublishedTrack, now_ns: int) -> bool:
        """Record the best encoding of a track from its next key frame on; whether that is another than before."""
        best = track.best
        if track.tap is None or best.stream is None or best.stream == track.tapped:
            return False
        present = track.encoding_by_stream(self._plane.route_stream(track.tap))
        shift = timestamp_shift(present, best) if present is not None else None
        self._plane.switch_route(track.tap, best.stream, shift)
        self._note_layer(track, now_ns)
        return True

    @staticmethod
    def _note_layer(track: PublishedTrack, now_ns: int) -> None:
        track.tapped = track.stream
        if track.spool is not None:
            track.spool.event(now_ns, "layer", {"rid": track.best.rid})

    def remove(self, track: PublishedTrack, now_ns: int) -> None:
        """The track's stream ends, or changes its codecs: its file is complete."""
        if track.spool is None:
            return
        if track.tap is not None:
            self._plane.remove_route(track.tap)
            track.tap = track.tapped = None
        elif track.stream is not None:
            self._plane.set_spool(track.stream, None)
        track.spool.end(now_ns)
        track.spool = None

    def sender_report(self, track: PublishedTrack, encoding: Encoding, report: SenderReport, arrival_ns: int) -> None:
        """Keep the publisher's clocks: they, not arrival times, keep lips and voice together."""
        if track.spool is None:
            return
        if track.tap is None:
            track.spool.sender_report(arrival_ns, report.ssrc, report.ntp64, report.rtp_timestamp)
        elif encoding.stream == self._plane.route_stream(track.tap) and self._plane.route_counters(track.tap).packets:
            timestamp = self._plane.map_timestamp(track.tap, report.rtp_timestamp)
            track.spool.sender_report(arrival_ns, track.tap_ssrc, report.ntp64, timestamp)

    @staticmethod
    def muted(participant: Participant, source: Source, muted: bool, now_ns: int) -> None:
        """A side said that a source of theirs is off, or on again."""
        track = participant.published.get(source)
        if track is not None and track.spool is not None:
            track.spool.event(now_ns, "muted", {"muted": muted})
