"""Streams and routes among the participants of one room.

A published track has a stream once its SSRC is known (announced in the offer, or learnt from the first packet by mid or
payload type); a subscribed track has a route once its participant is connected and the other side's stream exists. Both
are made here, in whichever order people join, and taken over when a page comes back with a new RTCPeerConnection: a
subscriber's route then switches to the new stream, so that its sequence numbers run on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from relay.messages import Source
from relay.negotiation import MID, Agreement, MediaAgreement
from relay.participant import Participant, PublishedTrack, SubscribedTrack, route_spec
from relay.plane import GateHandle, Plane
from relay.recording import RoomRecording
from relay.reports import SenderClock
from relay.rtp import RtpHeader, get_extension, read_header
from relay.transport import Transport

REPLACE_MIN_NS: Final = 500_000_000
"""A source's stream is not replaced by another SSRC more often than this."""

WantKeyFrame = Callable[[Participant, PublishedTrack, int], None]


class Wiring:
    """See the module's docstring."""

    def __init__(
        self, plane: Plane, gate: GateHandle, participants: dict[int, Participant], want_key_frame: WantKeyFrame
    ) -> None:
        self.recording: RoomRecording | None = None
        self._plane = plane
        self._gate = gate
        self._participants = participants
        self._want_key_frame = want_key_frame
        self._replaced_ns: dict[tuple[int, Source], int] = {}

    def apply(self, participant: Participant, transport: Transport, agreement: Agreement, now_ns: int) -> None:
        """Bring streams and subscriptions of a participant in line with what was just agreed, on ``transport``.

        A transport other than before takes over the tracks; closing the old one is the caller's next step.
        """
        moved = participant.transport is not transport
        before = participant.published
        if moved:
            participant.published, participant.subscribed = {}, {}
            participant.sender_clock = SenderClock()  # another RTCPeerConnection, perhaps another machine
        participant.transport, participant.agreement = transport, agreement
        for media in agreement.media:
            if media.receives:
                self._publish(participant, media, now_ns)
            if media.sends:
                self._subscribe(participant, media)
        for source in set(participant.published) - {media.source for media in agreement.media if media.receives}:
            self._close_stream(participant.published.pop(source), now_ns)
        for source in set(participant.subscribed) - {media.source for media in agreement.media if media.sends}:
            self._remove_route(participant.subscribed.pop(source))
        if moved:
            for source, old in before.items():
                self._hand_over(participant, old, participant.published.get(source), now_ns)
        self.connect(now_ns)

    def connect(self, now_ns: int) -> None:
        """Make every route that can be made."""
        for subscriber in self._participants.values():
            if not subscriber.ready or subscriber.transport is None:
                continue
            for source, subscribed in subscriber.subscribed.items():
                found = self._publisher(subscriber, source)
                if subscribed.stream is not None or found is None or found[1].stream is None:
                    continue
                publisher, published = found
                self._feed(subscriber.transport, subscribed, published)
                self._want_key_frame(publisher, published, now_ns)

    def learn(self, participant: Participant, packet: bytes, now_ns: int) -> None:
        """RTP of an SSRC that nobody announced: find out whose it is; the packet itself is gone."""
        header = read_header(packet, len(packet))
        if header is None:
            return
        found = self._by_mid(participant, packet, header) or self._by_type(participant, header.payload_type)
        if found is None:
            return
        track, is_rtx = found
        if is_rtx:
            if track.stream is not None and track.rtx_ssrc != header.ssrc:
                track.rtx_ssrc = header.ssrc
                self._plane.update_stream(track.stream, track.stream_spec())
        elif track.ssrc != header.ssrc:
            key = (participant.spec.user_id, track.media.source)
            if track.stream is not None and now_ns - self._replaced_ns.get(key, -REPLACE_MIN_NS) < REPLACE_MIN_NS:
                return
            self._replaced_ns[key] = now_ns
            self._open_stream(participant, track, header.ssrc, None, now_ns)
            self.connect(now_ns)

    def subscribers(self, published: PublishedTrack) -> Iterator[tuple[Participant, SubscribedTrack]]:
        """Who is sent a published track at this moment."""
        for participant in self._participants.values():
            for subscribed in participant.subscribed.values():
                if published.stream is not None and subscribed.stream == published.stream:
                    yield participant, subscribed

    def disconnect(self, participant: Participant, now_ns: int) -> None:
        """The participant's transport is gone for good: forget their tracks and all that hung on them."""
        for published in participant.published.values():
            self._close_stream(published, now_ns)
        participant.published, participant.subscribed = {}, {}
        participant.agreement = None

    def feed_of(
        self, participant: Participant, subscribed: SubscribedTrack
    ) -> tuple[Participant, PublishedTrack] | None:
        """Whose track feeds a subscribed one."""
        for other in self._participants.values():
            track = other.published_by_stream(subscribed.stream) if subscribed.stream is not None else None
            if track is not None and other is not participant:
                return other, track
        return None

    def record(self, recording: RoomRecording | None, now_ns: int) -> None:
        """Record every track from now on, with a key frame first; None: no longer."""
        for participant in self._participants.values():
            for track in participant.published.values():
                if self.recording is not None:
                    self.recording.remove(track, now_ns)
                if recording is not None:
                    recording.add(participant, track, now_ns)
                    if track.is_video and track.stream is not None:
                        self._want_key_frame(participant, track, now_ns)
        self.recording = recording

    def _publisher(self, subscriber: Participant, source: Source) -> tuple[Participant, PublishedTrack] | None:
        for other in self._participants.values():
            if other is not subscriber and source in other.published:
                return other, other.published[source]
        return None

    def _publish(self, participant: Participant, media: MediaAgreement, now_ns: int) -> None:
        track = participant.published.get(media.source)
        if track is None:
            track = participant.published[media.source] = PublishedTrack(media)
        new_codecs = {codec.payload_type for codec in media.codecs} - set(track.stream_spec().codecs)
        track.media = media
        ssrc = media.receive_ssrcs[0] if media.receive_ssrcs else track.ssrc
        rtx_ssrc = media.receive_rtx_ssrcs.get(ssrc, track.rtx_ssrc if ssrc == track.ssrc else None)
        if track.stream is None or ssrc != track.ssrc:
            if ssrc:
                self._open_stream(participant, track, ssrc, rtx_ssrc, now_ns)
            return
        track.rtx_ssrc = rtx_ssrc
        self._plane.update_stream(track.stream, track.stream_spec())
        if new_codecs and self.recording is not None:  # a file says first what it holds: so begin another
            self.recording.remove(track, now_ns)
            self.recording.add(participant, track, now_ns)
        for _, subscribed in self.subscribers(track):
            if subscribed.route is not None:
                self._plane.update_route(subscribed.route, route_spec(media, subscribed.media))

    def _subscribe(self, participant: Participant, media: MediaAgreement) -> None:
        subscribed = participant.subscribed.get(media.source)
        if subscribed is None:
            participant.subscribed[media.source] = SubscribedTrack(media)
            return
        subscribed.media = media
        feed = self.feed_of(participant, subscribed)
        if subscribed.route is not None and feed is not None:
            self._plane.update_route(subscribed.route, route_spec(feed[1].media, media))

    def _open_stream(
        self, participant: Participant, track: PublishedTrack, ssrc: int, rtx_ssrc: int | None, now_ns: int
    ) -> None:
        if participant.transport is None or participant.streams_used_up:
            return
        taken = participant.published_by_ssrc(ssrc)
        if taken is not None and taken is not track:  # an SSRC names one stream of a transport: the newest claim holds
            self._close_stream(taken, now_ns)
            taken.ssrc = 0
        old = track.stream
        fed = list(self.subscribers(track))
        if old is not None and self.recording is not None:
            self.recording.remove(track, now_ns)
        track.ssrc, track.rtx_ssrc, track.started = ssrc, rtx_ssrc, False
        track.stream = self._plane.add_stream(participant.transport.handle, track.stream_spec())
        for subscriber, subscribed in fed:
            if subscriber.transport is not None:
                self._feed(subscriber.transport, subscribed, track)
        if old is not None:
            self._plane.remove_stream(old)
        if self.recording is not None:
            self.recording.add(participant, track, now_ns)
        if fed:
            self._want_key_frame(participant, track, now_ns)

    def _hand_over(
        self, participant: Participant, old: PublishedTrack, new: PublishedTrack | None, now_ns: int
    ) -> None:
        """Subscribers of a track of the old transport go on with the one of the new."""
        for subscriber, subscribed in list(self.subscribers(old)):
            if new is not None and subscriber.transport is not None:
                self._feed(subscriber.transport, subscribed, new)
        self._close_stream(old, now_ns)
        if new is not None:
            self._want_key_frame(participant, new, now_ns)

    def _feed(self, transport: Transport, subscribed: SubscribedTrack, published: PublishedTrack) -> None:
        """Let a published track feed a subscribed one.

        A route once made stays for as long as the subscription: its SSRC is one SRTP stream, whose numbers must run on
        (libsrtp takes a random jump backwards for a replay), so that what feeds it is switched instead.
        """
        if published.stream is None:
            return
        spec = route_spec(published.media, subscribed.media)
        if subscribed.route is None:
            subscribed.route = self._plane.add_route(published.stream, transport.handle, self._gate, spec)
        else:
            self._plane.update_route(subscribed.route, spec)
            self._plane.switch_route(subscribed.route, published.stream)
        subscribed.stream = published.stream

    def _close_stream(self, track: PublishedTrack, now_ns: int) -> None:
        if self.recording is not None:
            self.recording.remove(track, now_ns)
        if track.stream is None:
            return
        for _, subscribed in list(self.subscribers(track)):
            subscribed.stream = None
        stream, track.stream = track.stream, None
        self._plane.remove_stream(stream)

    def _remove_route(self, subscribed: SubscribedTrack) -> None:
        if subscribed.route is not None:
            self._plane.remove_route(subscribed.route)
        subscribed.route = subscribed.stream = None

    def _by_mid(self, participant: Participant, packet: bytes, header: RtpHeader) -> tuple[PublishedTrack, bool] | None:
        for track in participant.published.values():
            number = track.media.extensions.get(MID)
            if number is not None and get_extension(packet, header, number) == track.media.mid.encode():
                return track, header.payload_type in track.media.rtx.values()
        return None

    def _by_type(self, participant: Participant, payload_type: int) -> tuple[PublishedTrack, bool] | None:
        """The one track whose codecs have this payload type, where only one has (cameras and screens share theirs)."""
        tracks = [
            track
            for track in participant.published.values()
            if payload_type in track.media.rtx.values()
            or any(codec.payload_type == payload_type for codec in track.media.codecs)
        ]
        return (tracks[0], payload_type in tracks[0].media.rtx.values()) if len(tracks) == 1 else None
