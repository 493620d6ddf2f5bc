"""Streams and routes among the participants of one room.

An encoding of a published track has a stream once its SSRC is known (announced in the offer, or learnt from the first
packet by mid, rid or payload type); a subscribed track has a route once its participant is connected and the other
side's stream exists. Both are made here, in whichever order people join, and taken over when a page comes back with a
new RTCPeerConnection: a subscriber's route then switches to the new stream, so that its sequence numbers run on. Among
the encodings of a track a route follows the best that is being sent, up to the subscriber's target (``layers``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Final

from relay.identify import identify
from relay.layers import Target, choose
from relay.messages import Source
from relay.negotiation import ENCODINGS_MAX, Agreement, MediaAgreement
from relay.participant import Participant, SubscribedTrack, route_spec
from relay.plane import GateHandle, Plane
from relay.published import Encoding, PublishedTrack, timestamp_shift
from relay.recording import RoomRecording
from relay.reports import SenderClock
from relay.rtp import read_header
from relay.transport import Transport

ANY: Final = Target(ENCODINGS_MAX)
"""The best there is."""
REPLACE_MIN_NS: Final = 500_000_000
"""A source's stream, or what repairs it, is not replaced by another SSRC more often than this."""

WantKeyFrame = Callable[[Participant, PublishedTrack, int, Encoding | None], None]
"""(whose, which track, now_ns, which encoding of it; None: the best)"""
TellLayers = Callable[[Participant, PublishedTrack, frozenset[int], int], None]
"""(whose, which track, the encodings to send, now_ns)"""


class Wiring:
    """See the module's docstring."""

    def __init__(
        self,
        plane: Plane,
        gate: GateHandle,
        participants: dict[int, Participant],
        want_key_frame: WantKeyFrame,
        tell_layers: TellLayers,
    ) -> None:
        self.recording: RoomRecording | None = None
        self._plane = plane
        self._gate = gate
        self._participants = participants
        self._want_key_frame = want_key_frame
        self._tell_layers = tell_layers
        self._replaced_ns: dict[tuple[int, Source, str, bool], int] = {}

    def apply(self, participant: Participant, transport: Transport, agreement: Agreement, now_ns: int) -> None:
        """Bring streams and subscriptions of a participant in line with what was just agreed, on ``transport``.

        A transport other than before takes over the tracks; closing the old one is the caller's next step.
        """
        moved = participant.transport is not transport
        before = participant.published
        if moved:
            self._forget_resting(participant, now_ns)
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

    def restrict(self, kinds: frozenset[str], now_ns: int) -> None:
        """Forward and record nothing that is of none of these kinds (audio, video), until a later offer brings it back.

        Streams stay open meanwhile: a browser says which SSRC is which encoding with its first packets only.
        """
        for participant in self._participants.values():
            if participant.agreement is not None:
                media = tuple(
                    one if one.kind in kinds else dataclasses.replace(one, paid=False)
                    for one in participant.agreement.media
                )
                participant.agreement = dataclasses.replace(participant.agreement, media=media)
            for source in [s for s, track in participant.published.items() if track.media.kind not in kinds]:
                track = participant.resting[source] = participant.published.pop(source)
                if self.recording is not None:
                    self.recording.remove(track, now_ns)
            for source in [s for s, subscribed in participant.subscribed.items() if subscribed.media.kind not in kinds]:
                self._remove_route(participant.subscribed.pop(source))
                participant.videos_paused.discard(source)

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
                encoding = self._chosen(subscribed, published, now_ns)
                self._feed(subscriber.transport, subscribed, published, encoding)
                self._want_key_frame(publisher, published, now_ns, encoding)

    def learn(self, participant: Participant, packet: bytes, now_ns: int) -> None:
        """RTP of an SSRC that nobody announced: find out whose it is; the packet itself is gone."""
        header = read_header(packet, len(packet))
        if header is None:
            return
        found = identify(participant, packet, header)
        if found is None:
            return
        track, encoding, is_rtx = found
        if is_rtx:
            if encoding.rtx_ssrc != header.ssrc and (encoding.stream is not None or track.is_simulcast):
                if encoding.rtx_ssrc is not None and not self._may_replace(participant, track, encoding, now_ns):
                    return
                encoding.rtx_ssrc = header.ssrc
                if encoding.stream is not None:
                    self._plane.update_stream(encoding.stream, track.stream_spec(encoding))
        elif encoding.ssrc != header.ssrc:
            allowed = self._may_replace(participant, track, encoding, now_ns, primary=True)
            if encoding.stream is not None and not allowed:
                return
            known = track.media.receive_rtx_ssrcs.get(header.ssrc)
            if known is None and encoding.stream is None and track.is_simulcast:
                known = encoding.rtx_ssrc  # it came first
            self._open_stream(participant, track, encoding, header.ssrc, known, now_ns)
            if participant.published.get(track.media.source) is track:  # else it rests
                self.connect(now_ns)
                self.follow(participant, track, now_ns, fresh=encoding)

    def _may_replace(
        self,
        participant: Participant,
        track: PublishedTrack,
        encoding: Encoding,
        now_ns: int,
        *,
        primary: bool = False,
    ) -> bool:
        """Whether an encoding, or what repairs it, may have another SSRC again already."""
        key = (participant.spec.user_id, track.media.source, encoding.rid, primary)
        if now_ns - self._replaced_ns.get(key, -REPLACE_MIN_NS) < REPLACE_MIN_NS:
            return False
        self._replaced_ns[key] = now_ns
        return True

    def follow_all(self, now_ns: int) -> None:
        """Several times a second: let every route take the layer that it should."""
        for participant in self._participants.values():
            for track in participant.published.values():
                if track.is_simulcast:
                    track.sample(self._plane, now_ns)
                    self.follow(participant, track, now_ns)
                    self._ask_for_layers(participant, track, now_ns)

    def follow(
        self, participant: Participant, track: PublishedTrack, now_ns: int, *, fresh: Encoding | None = None
    ) -> None:
        """Let every route of one track, and the recorder, take the layer that it should; ``fresh`` just came up."""
        if not track.is_simulcast:
            return
        alive = track.alive(self._plane, now_ns)
        if fresh is not None:
            alive[track.encodings.index(fresh)] = True
        best = choose(alive, len(alive))
        if best is None:
            return
        track.best = track.encodings[best]
        for subscriber, subscribed in list(self.subscribers(track)):
            chosen = self._chosen(subscribed, track, now_ns, alive)
            if subscriber.transport is not None and chosen.stream not in (None, subscribed.stream):
                self._feed(subscriber.transport, subscribed, track, chosen)
                if alive[track.encodings.index(chosen)]:
                    self._want_key_frame(participant, track, now_ns, chosen)
        if self.recording is not None and self.recording.follow(track, now_ns):
            self._want_key_frame(participant, track, now_ns, track.best)

    def _chosen(
        self, subscribed: SubscribedTrack, track: PublishedTrack, now_ns: int, alive: list[bool] | None = None
    ) -> Encoding:
        """The encoding that a subscriber should get from its next key frame on."""
        if not track.is_simulcast:
            return track.best
        alive = alive or track.alive(self._plane, now_ns)
        target = min((subscribed.target or ANY).spatial, len(alive) - 1)
        chosen = choose(alive, target)
        best = track.best if chosen is None else track.encodings[chosen]
        wanted = track.encodings[target]
        if wanted.stream is not None and self.feeding(subscribed, track) is best:
            return wanted  # it rests, and begins with a key frame when it comes: until then all goes on as it is
        return best

    def set_target(
        self, subscriber: Participant, subscribed: SubscribedTrack, target: Target | None, now_ns: int
    ) -> None:
        """The best layer that a subscriber should get of a track from now on; None: whatever is best."""
        if target == subscribed.target:
            return
        subscribed.target = target
        if subscribed.route is not None:
            self._plane.set_route_layers(subscribed.route, (target or ANY).temporal)
        feed = self.feed_of(subscriber, subscribed)
        if feed is not None and feed[1].is_simulcast:
            self.follow(*feed, now_ns)
            self._ask_for_layers(*feed, now_ns)

    def _ask_for_layers(self, participant: Participant, track: PublishedTrack, now_ns: int) -> None:
        """Tell a page which encodings somebody takes, when that is news."""
        if not participant.ready or participant.muted.get(track.media.source):
            return
        top = len(track.encodings) - 1
        targets = [(subscribed.target or ANY).spatial for subscribed in self._wanting(participant, track)]
        if track.spool is not None or not targets:  # the recorder takes the best; so would the next subscriber
            targets.append(top)
        kept = track.demand.update(targets, track.alive(self._plane, now_ns), now_ns)
        if kept is not None:
            self._tell_layers(participant, track, kept, now_ns)

    def _wanting(self, publisher: Participant, track: PublishedTrack) -> Iterator[SubscribedTrack]:
        for other in self._participants.values():
            if other is not publisher and other.ready and track.media.source in other.subscribed:
                yield other.subscribed[track.media.source]

    def subscribers(self, published: PublishedTrack) -> Iterator[tuple[Participant, SubscribedTrack]]:
        """Who is sent a published track at this moment."""
        for participant in self._participants.values():
            for subscribed in participant.subscribed.values():
                if published.encoding_by_stream(subscribed.stream) is not None:
                    yield participant, subscribed

    def disconnect(self, participant: Participant, now_ns: int) -> None:
        """The participant's transport is gone for good: forget their tracks and all that hung on them."""
        self._forget_resting(participant, now_ns)
        for published in participant.published.values():
            self._close_stream(published, now_ns)
        participant.published, participant.subscribed = {}, {}
        participant.agreement = None

    def _forget_resting(self, participant: Participant, now_ns: int) -> None:
        for track in participant.resting.values():
            self._close_stream(track, now_ns)
        participant.resting = {}

    def feed_of(
        self, participant: Participant, subscribed: SubscribedTrack
    ) -> tuple[Participant, PublishedTrack] | None:
        """Whose track feeds a subscribed one."""
        for other in self._participants.values():
            track = other.published_by_stream(subscribed.stream) if subscribed.stream is not None else None
            if track is not None and other is not participant:
                return other, track
        return None

    def feeding(self, subscribed: SubscribedTrack, track: PublishedTrack) -> Encoding | None:
        """The encoding whose packets a subscriber gets at this moment; a switch may be on its way."""
        return track.encoding_by_stream(self._plane.route_stream(subscribed.route)) if subscribed.route else None

    def record(self, recording: RoomRecording | None, now_ns: int) -> None:
        """Record every track from now on, with a key frame first; None: no longer."""
        for participant in self._participants.values():
            for track in participant.published.values():
                if self.recording is not None:
                    self.recording.remove(track, now_ns)
                if recording is not None:
                    recording.add(participant, track, now_ns)
                    if track.is_video and track.stream is not None:
                        self._want_key_frame(participant, track, now_ns, None)
        self.recording = recording

    def pause_recording(self, until_ns: int | None, now_ns: int) -> None:
        """Record nothing until then; None: every track again, with a key frame first."""
        if self.recording is None:
            return
        self.recording.paused_until_ns = until_ns
        for participant in self._participants.values():
            for track in participant.published.values():
                if until_ns is not None:
                    self.recording.remove(track, now_ns)
                else:
                    self.recording.add(participant, track, now_ns)
        if until_ns is None:
            self.ask_recorded(now_ns)

    def ask_recorded(self, now_ns: int) -> None:
        """Ask for a key frame of every video that is recorded."""
        for participant in self._participants.values():
            for track in participant.published.values():
                if track.is_video and track.spool is not None:
                    feeding = None if track.tap is None else self._plane.route_stream(track.tap)
                    encoding = None if feeding is None else track.encoding_by_stream(feeding)
                    self._want_key_frame(participant, track, now_ns, encoding)

    def _publisher(self, subscriber: Participant, source: Source) -> tuple[Participant, PublishedTrack] | None:
        for other in self._participants.values():
            if other is not subscriber and source in other.published:
                return other, other.published[source]
        return None

    def _publish(self, participant: Participant, media: MediaAgreement, now_ns: int) -> None:
        track = participant.published.get(media.source)
        if track is not None and track.media.rids != media.rids:
            self._close_stream(track, now_ns)
            track = None
        rested = participant.resting.pop(media.source, None) if track is None else None
        if rested is not None and rested.media.rids == media.rids:
            track = participant.published[media.source] = rested
            if self.recording is not None:
                self.recording.add(participant, track, now_ns)
        elif rested is not None:
            self._close_stream(rested, now_ns)
        if track is None:
            track = participant.published[media.source] = PublishedTrack(media)
        new_codecs = {codec.payload_type for codec in media.codecs} - set(track.stream_spec().codecs)
        track.media = media
        if not track.is_simulcast:
            encoding = track.best
            ssrc = media.receive_ssrcs[0] if media.receive_ssrcs else encoding.ssrc
            rtx_ssrc = media.receive_rtx_ssrcs.get(ssrc, encoding.rtx_ssrc if ssrc == encoding.ssrc else None)
            if encoding.stream is None or ssrc != encoding.ssrc:
                if ssrc:
                    self._open_stream(participant, track, encoding, ssrc, rtx_ssrc, now_ns)
                return
            encoding.rtx_ssrc = rtx_ssrc
        for encoding in track.encodings:
            if encoding.stream is not None:
                self._plane.update_stream(encoding.stream, track.stream_spec(encoding))
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
        self,
        participant: Participant,
        track: PublishedTrack,
        encoding: Encoding,
        ssrc: int,
        rtx_ssrc: int | None,
        now_ns: int,
    ) -> None:
        if participant.transport is None or participant.streams_used_up:
            return
        taken = participant.holding_ssrc(ssrc)
        if taken is not None and taken.encoding_by_ssrc(ssrc) is not encoding:
            # An SSRC names one stream of a transport: the newest claim holds.
            self._close_stream(taken, now_ns)
        old = encoding.stream
        fed = [pair for pair in self.subscribers(track) if pair[1].stream == old]
        recording = None if participant.resting.get(track.media.source) is track else self.recording
        if old is not None and recording is not None and not track.is_simulcast:
            recording.remove(track, now_ns)
        encoding.ssrc, encoding.rtx_ssrc = ssrc, rtx_ssrc
        track.started = track.started and track.is_simulcast
        encoding.stream = self._plane.add_stream(participant.transport.handle, track.stream_spec(encoding))
        if track.best.stream is None:
            track.best = encoding
        for subscriber, subscribed in fed:
            if subscriber.transport is not None:
                self._feed(subscriber.transport, subscribed, track, encoding)
        if recording is not None:
            recording.add(participant, track, now_ns)
            recording.follow(track, now_ns)
        if old is not None:
            self._plane.remove_stream(old)
        if fed:
            self._want_key_frame(participant, track, now_ns, encoding)

    def _hand_over(
        self, participant: Participant, old: PublishedTrack, new: PublishedTrack | None, now_ns: int
    ) -> None:
        """Subscribers of a track of the old transport go on with the one of the new."""
        for subscriber, subscribed in list(self.subscribers(old)):
            if new is not None and subscriber.transport is not None:
                self._feed(subscriber.transport, subscribed, new, new.best)
        self._close_stream(old, now_ns)
        if new is not None:
            self._want_key_frame(participant, new, now_ns, None)

    def _feed(
        self, transport: Transport, subscribed: SubscribedTrack, published: PublishedTrack, encoding: Encoding
    ) -> None:
        """Let an encoding of a published track feed a subscribed one.

        A route once made stays for as long as the subscription: its SSRC is one SRTP stream, whose numbers must run on
        (libsrtp takes a random jump backwards for a replay), so that what feeds it is switched instead.
        """
        if encoding.stream is None:
            return
        spec = route_spec(published.media, subscribed.media)
        if subscribed.route is None:
            subscribed.route = self._plane.add_route(encoding.stream, transport.handle, self._gate, spec)
            if subscribed.target is not None:
                self._plane.set_route_layers(subscribed.route, subscribed.target.temporal)
        else:
            present = self.feeding(subscribed, published)
            shift = timestamp_shift(present, encoding) if present is not None else None
            self._plane.update_route(subscribed.route, spec)
            self._plane.switch_route(subscribed.route, encoding.stream, shift)
        subscribed.stream = encoding.stream

    def _close_stream(self, track: PublishedTrack, now_ns: int) -> None:
        if self.recording is not None:
            self.recording.remove(track, now_ns)
        for _, subscribed in list(self.subscribers(track)):
            subscribed.stream = None
        for encoding in track.encodings:
            if encoding.stream is not None:
                self._plane.remove_stream(encoding.stream)
            encoding.stream, encoding.ssrc, encoding.rtx_ssrc = None, 0, None

    def _remove_route(self, subscribed: SubscribedTrack) -> None:
        if subscribed.route is not None:
            self._plane.remove_route(subscribed.route)
        subscribed.route = subscribed.stream = None
