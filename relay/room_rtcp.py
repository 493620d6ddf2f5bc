"""A room's RTCP: what publishers and subscribers report, ask for and are told.

Reports are translated, never passed through: each transport is an RTCP session of its own, with our SSRC in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from relay.participant import Participant, SubscribedTrack
from relay.plane import Plane
from relay.published import Encoding, PublishedTrack
from relay.reports import TimeBase, sender_report
from relay.room_bandwidth import RoomBandwidth
from relay.rtcp import (
    FullIntraRequest,
    Nack,
    PictureLoss,
    ReceiverEstimate,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    pack_picture_loss,
    pack_receiver_report,
    parse_compound,
)
from relay.rtcp_transport_cc import TransportFeedback
from relay.wiring import Wiring

SOURCE_INTERVAL_NS: Final = 200_000_000
"""At most one key-frame request per source in this time: a browser answers one with key frames of all encodings."""
NACKED_MAX: Final = 256
"""Packets that one compound packet can ask for again; what is beyond is not looked at, and may be asked for again."""


class RoomRtcp:
    """See the module's docstring."""

    def __init__(self, plane: Plane, time_base: TimeBase, participants: dict[int, Participant]) -> None:
        self.malformed = 0
        self._nacked = 0
        """By the compound packet being handled."""
        self.wiring: Wiring
        """Set by the room right after both exist."""
        self.bandwidth: RoomBandwidth
        """Likewise."""
        self._plane = plane
        self._time = time_base
        self._participants = participants

    def received(self, participant: Participant, compound: bytes, now_ns: int) -> None:
        """One decrypted compound packet from a participant's transport."""
        items = parse_compound(compound)
        if items is None:
            self.malformed += 1
            return
        self._nacked = 0
        for item in items:
            handler = self._HANDLERS.get(type(item))
            if handler is not None:
                handler(self, participant, item, now_ns)

    def want_key_frame(
        self, participant: Participant, track: PublishedTrack, now_ns: int, encoding: Encoding | None = None
    ) -> None:
        """Somebody needs a key frame of an encoding (None: the best) of a participant's track: ask now, or as soon as
        that is not too often, for it and for its track.

        An encoding that has sent nothing yet begins with one unasked.
        """
        encoding = encoding or track.best
        if track.is_video and encoding.stream is not None and self._plane.stream_counters(encoding.stream).packets:
            encoding.key_frames.want()
            self._send_due_of(participant, track, now_ns)

    def send_due(self, now_ns: int) -> None:
        """Key-frame requests that had to wait."""
        for participant in self._participants.values():
            for track in participant.published.values():
                if track.is_video:
                    self._send_due_of(participant, track, now_ns)

    def _send_due_of(self, participant: Participant, track: PublishedTrack, now_ns: int) -> None:
        if track.key_frame_asked_ns is not None and now_ns - track.key_frame_asked_ns < SOURCE_INTERVAL_NS:
            return
        for encoding in track.encodings:
            if encoding.key_frames.due(now_ns):
                track.key_frame_asked_ns = now_ns
                self._ask_for_key_frame(participant, encoding)

    def send_reports(self, now_ns: int) -> None:
        """Once a second: receiver reports to all who send, sender reports to all who are sent something."""
        our_ntp64 = self._time.ntp64(now_ns)
        for participant in self._participants.values():
            if not participant.ready or participant.transport is None:
                continue
            blocks = [
                self._with_loss_beyond(track, each.reception.block(each.ssrc, counters, now_ns))
                for track in participant.published.values()
                for each in track.encodings
                if each.stream is not None and (counters := self._plane.stream_counters(each.stream)).packets
            ]
            if blocks:
                report = pack_receiver_report(participant.local_ssrc, blocks)
                self._plane.send_rtcp(participant.transport.handle, report)
            for track in participant.published.values():
                self._report_to_subscribers(participant, track, our_ntp64)

    def _with_loss_beyond(self, track: PublishedTrack, block: ReportBlock) -> ReportBlock:
        """Audio's publisher hears of the loss that its worst subscriber has, as it would from page to page.

        It puts so much in-band FEC into its packets, and what protects them is for those who lose them. Its estimate
        of bandwidth goes by transport-cc, not by this.
        """
        if track.is_video:
            return block
        beyond = max((subscribed.delivery.loss for _, subscribed in self.wiring.subscribers(track)), default=0.0)
        lost = min(255, int(beyond * 256))
        return block if lost <= block.fraction_lost else block._replace(fraction_lost=lost)

    def _report_to_subscribers(self, publisher: Participant, track: PublishedTrack, our_ntp64: int) -> None:
        for subscriber, subscribed in self.wiring.subscribers(track):
            encoding = self.wiring.feeding(subscribed, track)
            if subscribed.route is None or encoding is None or not subscriber.ready or subscriber.transport is None:
                continue
            timestamp = encoding.reception.timestamp_at(our_ntp64)
            if timestamp is None:
                continue
            counters = self._plane.route_counters(subscribed.route)
            if counters.packets:
                theirs = self._plane.map_timestamp(subscribed.route, timestamp)
                ssrc = subscribed.media.send_ssrc
                report = sender_report(ssrc, publisher.spec.public_id, our_ntp64, theirs, counters)
                self._plane.send_rtcp(subscriber.transport.handle, report)

    def _ask_for_key_frame(self, participant: Participant, encoding: Encoding) -> None:
        if participant.ready and participant.transport is not None and encoding.stream is not None:
            request = pack_picture_loss(participant.local_ssrc, encoding.ssrc)
            self._plane.send_rtcp(participant.transport.handle, request)

    def _sender_report(self, participant: Participant, report: SenderReport, now_ns: int) -> None:
        self._blocks(participant, report.reports, now_ns)
        track = participant.published_by_ssrc(report.ssrc)
        encoding = None if track is None else track.encoding_by_ssrc(report.ssrc)
        if track is None or encoding is None:
            return
        our_ntp64 = self._time.ntp64(now_ns)
        theirs = participant.sender_clock.to_ours(report.ntp64, our_ntp64)
        first = encoding.reception.sender_report(report, theirs, now_ns)
        if self.wiring.recording is not None:
            self.wiring.recording.sender_report(track, encoding, report, now_ns)
        if first:  # do not let lips and voice drift apart for a whole second
            self._report_to_subscribers(participant, track, our_ntp64)

    def _receiver_report(self, participant: Participant, report: ReceiverReport, now_ns: int) -> None:
        self._blocks(participant, report.reports, now_ns)

    def _blocks(self, participant: Participant, blocks: tuple[ReportBlock, ...], now_ns: int) -> None:
        for block in blocks:
            subscribed = participant.subscribed_by_ssrc(block.ssrc)
            if subscribed is not None:
                subscribed.delivery.report_block(block, self._time.ntp64(now_ns))
                if subscribed.delivery.rtt_ms is not None and participant.transport is not None:
                    round_trip_ns = int(subscribed.delivery.rtt_ms * 1_000_000)
                    participant.round_trip_ns = round_trip_ns
                    self._plane.set_round_trip(participant.transport.handle, round_trip_ns)

    def _nack(self, participant: Participant, nack: Nack, now_ns: int) -> None:
        subscribed = participant.subscribed_by_ssrc(nack.media_ssrc)
        if subscribed is None or subscribed.route is None:
            return
        sequences = nack.sequences[: NACKED_MAX - self._nacked]
        self._nacked += len(sequences)
        gone = self._plane.resend(subscribed.route, sequences, now_ns)
        if gone:
            self._key_frame_for(participant, subscribed, now_ns)

    def _picture_loss(self, participant: Participant, request: PictureLoss, now_ns: int) -> None:
        subscribed = participant.subscribed_by_ssrc(request.media_ssrc)
        if subscribed is not None:
            self._key_frame_for(participant, subscribed, now_ns)

    def _full_intra(self, participant: Participant, request: FullIntraRequest, now_ns: int) -> None:
        for ssrc, _ in request.requests:
            subscribed = participant.subscribed_by_ssrc(ssrc)
            if subscribed is not None:
                self._key_frame_for(participant, subscribed, now_ns)

    def _transport_feedback(self, participant: Participant, feedback: TransportFeedback, now_ns: int) -> None:
        self.bandwidth.feedback(participant, feedback, now_ns)

    def _receiver_estimate(self, participant: Participant, estimate: ReceiverEstimate, now_ns: int) -> None:
        self.bandwidth.receiver_estimate(participant, estimate, now_ns)

    def _key_frame_for(self, participant: Participant, subscribed: SubscribedTrack, now_ns: int) -> None:
        feed = self.wiring.feed_of(participant, subscribed)
        if feed is not None:
            self.want_key_frame(*feed, now_ns, self.wiring.feeding(subscribed, feed[1]))

    _HANDLERS: Final[dict[type, Callable[[RoomRtcp, Participant, Any, int], None]]] = {
        SenderReport: _sender_report,
        ReceiverReport: _receiver_report,
        Nack: _nack,
        PictureLoss: _picture_loss,
        FullIntraRequest: _full_intra,
        TransportFeedback: _transport_feedback,
        ReceiverEstimate: _receiver_estimate,
    }
