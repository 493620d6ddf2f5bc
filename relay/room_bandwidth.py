"""A room's bandwidth: what each subscriber's path takes, what they are sent of it, and what publishers are told.

Feedback comes in from ``room_rtcp``, decisions go down to the plane (layer, pause, pace, probe) and to publishers of
one layer as REMB: the encoder then adapts, as it would between two pages. Nothing is bounded, paced or probed for a
subscriber whose path has never shown a limit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.allocator import Allocation, Allocator, Choice, LayerOption, VideoDemand
from relay.bandwidth import BandwidthEstimator
from relay.feedback_reader import FeedbackReader
from relay.feedback_silence import FeedbackSilence
from relay.layers import Target
from relay.messages import Source
from relay.negotiation import TRANSPORT_CC
from relay.participant import Participant, SubscribedTrack
from relay.plane import ALL_TEMPORAL, Plane, TransportHandle
from relay.published import PublishedTrack
from relay.rtcp import ReceiverEstimate, pack_receiver_estimate
from relay.rtcp_transport_cc import TICK_NS, TransportFeedback
from relay.wiring import Wiring

PACKET_OVERHEAD_BYTES: Final = 44
"""IP, UDP and SRTP's tag: what a link carries beside the bytes that streams count."""
VIDEO_PACKET_BYTES: Final = 1_000
UNSEEN_BPS: Final = (200_000, 500_000, 1_500_000)
"""What encodings that are not being sent are taken to need, the smallest first, until they have been seen."""
TEMPORAL_MIN: Final = 1
"""Of pictures larger than the smallest, no fewer temporal layers are sent than up to this: better small than jerky."""
PACKETS_PER_S_AUDIO: Final = 50
PACE_FACTOR: Final = 2.5
PACE_DRAINING: Final = 1.2
"""While the path's queue stands."""
PACE_SWITCHING: Final = 1.5
"""While it stands and a smaller picture is on its way: so many times that one's bitrate. A key frame comes of both
sizes, the larger one first; at this pace it overflows the pacer instead of standing before the smaller one."""
SETTLE_NS: Final = 300_000_000
"""When far too much comes of a video, it halts for so long: its publisher hears, the path's queue drains, and it goes
on with a key frame. Sent on, it would be lost in part and asked for again, which takes far longer."""
SETTLE_EXCESS: Final = 1.5
"""More than this many times what was allocated to it, and what the path takes: a delay that wanders makes an estimate
fall, too, but lets through what is sent."""
SETTLE_AGAIN_NS: Final = 3_000_000_000
PACE_MIN_BPS: Final = 100_000
FALL: Final = 0.9
"""A target below this share of the one allocated last does not wait for the next tick."""
BOUND_INTERVAL_NS: Final = 1_000_000_000
BOUND_CHANGE: Final = 0.05
UNBOUND_TIMES: Final = 3
"""REMBs that say that there is no bound any more; then none is sent."""
UNBOUND_BPS: Final = 50_000_000
FREE_NS: Final = 500_000_000
"""A path that gets all there is is looked at so often only."""
UNLIMITED_SPARE: Final = 1.2
"""A path that takes this many times what is wanted has no limit that matters."""

Log = Callable[..., None]
VideoPaused = Callable[[Participant, Source, bool, int], None]
"""(subscriber, source, paused, now_ns)"""


@dataclass(slots=True)
class _Subscriber:
    """One subscriber transport."""

    transport: TransportHandle
    estimator: BandwidthEstimator
    reader: FeedbackReader = field(default_factory=FeedbackReader)
    allocator: Allocator = field(default_factory=Allocator)
    allocated_bps: int = 0
    paced: bool = False
    free_ns: int = -FREE_NS
    """When it was last seen that the path gets all there is."""
    settled_ns: int = 0
    bounds: dict[Source, int] = field(default_factory=dict)
    takes_bps: dict[Source, int] = field(default_factory=dict)
    """What was allocated to each video that is sent."""
    silence: FeedbackSilence = field(default_factory=FeedbackSilence)
    seen_bps: dict[tuple[Source, int], int] = field(default_factory=dict)
    """What encodings took when they were last sent in full."""


@dataclass(slots=True)
class _Bound:
    """What a publisher was told last."""

    bitrate_bps: int | None = None
    told_ns: int = 0
    unbound_left: int = 0

    @property
    def tells(self) -> bool:
        """Whether it was told of a bound, or is still being told that there is none any more."""
        return self.bitrate_bps is not None or self.unbound_left > 0


class RoomBandwidth:
    """See the module's docstring."""

    def __init__(
        self, plane: Plane, participants: dict[int, Participant], wiring: Wiring, log: Log, video_paused: VideoPaused
    ) -> None:
        self._plane = plane
        self._participants = participants
        self._wiring = wiring
        self._log = log
        self._video_paused = video_paused
        self._subscribers: dict[int, _Subscriber] = {}
        self._told: dict[int, _Bound] = {}

    def feedback(self, participant: Participant, item: TransportFeedback, now_ns: int) -> None:
        """Transport-cc from a subscriber."""
        subscriber = self._subscriber(participant)
        if subscriber is None:
            return
        round_trip_ns = participant.round_trip_ns
        if round_trip_ns is not None:
            subscriber.estimator.set_round_trip(round_trip_ns)
        newest_ns = self._take_run(subscriber, item, now_ns)
        if newest_ns is None:
            sent = self._plane.sent_packets(subscriber.transport, item.base_sequence, len(item.deltas))
            subscriber.estimator.feedback(subscriber.reader.read(item, sent), now_ns)
            newest_ns = next((packet.sent_ns for packet in reversed(sent) if packet is not None), 0)
        subscriber.silence.told(self._video_packets(participant), newest_ns, now_ns)
        if subscriber.estimator.limited and subscriber.estimator.target_bps < FALL * subscriber.allocated_bps:
            self._allocate(participant, subscriber, now_ns)
            self._tell_publishers(now_ns)
            self._settle(participant, subscriber, now_ns)

    def _take_run(self, subscriber: _Subscriber, item: TransportFeedback, now_ns: int) -> int | None:
        """The short way of most feedback: everything arrived, at once, and it needs no look at each packet. When its
        newest packet was sent; None: it has to be read."""
        reader = subscriber.reader
        origin_ns = reader.origin_ticks(item) * TICK_NS
        run = self._plane.sent_run(subscriber.transport, item.base_sequence, origin_ns, item.deltas, TICK_NS)
        if run is None or not reader.follows(run) or not subscriber.estimator.take_run(run, now_ns):
            return None
        reader.take_run(run)
        return run.last_sent_ns

    def receiver_estimate(self, participant: Participant, item: ReceiverEstimate, now_ns: int) -> None:
        """REMB from a subscriber without transport-cc."""
        subscriber = self._subscriber(participant)
        if subscriber is not None:
            subscriber.estimator.receiver_estimate(item.bitrate_bps, now_ns)

    def _settle(self, participant: Participant, subscriber: _Subscriber, now_ns: int) -> None:
        """Halt videos of which far more comes than fits."""
        delay, estimate_bps = subscriber.estimator.delay, subscriber.estimator.estimate_bps
        if now_ns - subscriber.settled_ns < SETTLE_AGAIN_NS or delay.standing_ms <= delay.allowed_ms:
            return
        for source, takes_bps in subscriber.takes_bps.items():
            subscribed = participant.subscribed[source]
            feed = self._wiring.feed_of(participant, subscribed)
            if feed is None or subscribed.route is None:
                continue
            fed = self._wiring.feeding(subscribed, feed[1])
            if fed is not None and fed.reception.bitrate_bps > SETTLE_EXCESS * max(takes_bps, estimate_bps):
                self._log("video halted", why="excess", user_id=participant.spec.user_id)
                self._stop(subscriber, [subscribed], now_ns)

    def _video_packets(self, participant: Participant) -> int:
        """Sent to a participant, of videos whose arrival they have agreed to tell."""
        packets = 0
        for source, subscribed in participant.subscribed.items():
            if source != "microphone" and subscribed.route is not None and TRANSPORT_CC in subscribed.media.extensions:
                packets += self._plane.route_counters(subscribed.route).packets
        return packets

    def _halt(self, participant: Participant, subscriber: _Subscriber, now_ns: int) -> None:
        """Send no video until feedback comes again: it would only stand before the sound."""
        if now_ns - subscriber.settled_ns >= SETTLE_NS:
            self._log("video halted", why="silence", user_id=participant.spec.user_id)
        videos = [subscribed for source, subscribed in participant.subscribed.items() if source != "microphone"]
        self._stop(subscriber, videos, now_ns)

    def _stop(self, subscriber: _Subscriber, videos: Sequence[SubscribedTrack], now_ns: int) -> None:
        """Pause videos while the path's queue drains, and what is sent beside them to try what it takes."""
        subscriber.settled_ns = now_ns
        for subscribed in videos:
            if subscribed.route is not None:
                self._plane.pause_route(subscribed.route, paused=True)
                if subscriber.estimator.prober.open_cluster:  # a probe of no bytes takes the place of one under way
                    self._plane.probe(subscribed.route, PACE_MIN_BPS, 0, 0, now_ns)
        subscriber.estimator.cancel_probe(now_ns)

    def tick(self, now_ns: int) -> None:
        """Several times a second: choose, pause, pace, probe, and tell publishers."""
        for participant in self._participants.values():
            subscriber = self._subscriber(participant)
            if subscriber is not None:
                subscriber.estimator.handle_timer(now_ns)
                if subscriber.silence.may_halt(now_ns):
                    heard_ns = participant.last_media_ns(self._plane)
                    if subscriber.silence.halts(self._video_packets(participant), heard_ns, now_ns):
                        self._halt(participant, subscriber, now_ns)
                if now_ns - subscriber.free_ns >= FREE_NS or not self._free(participant, subscriber, now_ns):
                    self._allocate(participant, subscriber, now_ns)
                    subscriber.free_ns = now_ns if self._free(participant, subscriber, now_ns) else -FREE_NS
        self._tell_publishers(now_ns)

    @staticmethod
    def _free(participant: Participant, subscriber: _Subscriber, now_ns: int) -> bool:
        """Whether the path gets all there is, and nothing is under way that would have to end."""
        estimator = subscriber.estimator
        bounded = estimator.limited or estimator.loss.asks or subscriber.paced or participant.videos_paused
        return not bounded and now_ns - subscriber.settled_ns >= 2 * SETTLE_NS

    def estimate_bps(self, participant: Participant) -> int | None:
        """What the path to a participant takes; None: it has shown no limit yet."""
        subscriber = self._subscribers.get(participant.spec.user_id)
        return subscriber.estimator.estimate_bps if subscriber is not None and subscriber.estimator.limited else None

    def _subscriber(self, participant: Participant) -> _Subscriber | None:
        """The state for a participant's transport of now; None while there is none."""
        user_id = participant.spec.user_id
        if not participant.ready or participant.transport is None:
            self._subscribers.pop(user_id, None)
            return None
        subscriber = self._subscribers.get(user_id)
        if subscriber is None or subscriber.transport != participant.transport.handle:

            def log(event: str, **fields: object) -> None:
                self._log(event, user_id=user_id, **fields)

            subscriber = _Subscriber(participant.transport.handle, BandwidthEstimator(log))
            self._subscribers[user_id] = subscriber
        return subscriber

    def _allocate(self, participant: Participant, subscriber: _Subscriber, now_ns: int) -> None:
        estimator = subscriber.estimator
        audio_bps = 0
        demands: list[VideoDemand] = []
        feeds: dict[Source, tuple[SubscribedTrack, PublishedTrack]] = {}
        for source, subscribed in participant.subscribed.items():
            feed = self._wiring.feed_of(participant, subscribed)
            if feed is None or subscribed.route is None or not feed[1].started:
                continue
            published = feed[1]
            if published.is_video:
                feeds[source] = (subscribed, published)
                options = self._options(subscriber, source, published, now_ns)
                demands.append(VideoDemand(source, options, self._adapts(published)))
            else:
                audio_bps += published.reception.bitrate_bps + PACKETS_PER_S_AUDIO * PACKET_OVERHEAD_BYTES * 8
        target_bps = estimator.target_bps
        allocation = subscriber.allocator.allocate(
            target_bps,
            audio_bps,
            demands,
            now_ns,
            limited=estimator.limited,
            draining_bps=estimator.estimate_bps - target_bps,
        )
        subscriber.allocated_bps = target_bps
        if estimator.limited and estimator.estimate_bps > UNLIMITED_SPARE * allocation.wanted_bps:
            estimator.limited = False
        self._apply(participant, subscriber, allocation, feeds, now_ns)

    def _apply(
        self,
        participant: Participant,
        subscriber: _Subscriber,
        allocation: Allocation,
        feeds: dict[Source, tuple[SubscribedTrack, PublishedTrack]],
        now_ns: int,
    ) -> None:
        estimator = subscriber.estimator
        subscriber.bounds, subscriber.takes_bps = {}, {}
        paused: set[Source] = set()
        switching_bps: int | None = None
        for source, choice in allocation.choices.items():
            route = feeds[source][0].route
            if route is None:
                continue
            if choice.layer is None:
                paused.add(source)
            else:
                subscriber.takes_bps[source] = choice.bound_bps or choice.layer.bitrate_bps
            if choice.bound_bps is not None:
                subscriber.bounds[source] = choice.bound_bps
            if now_ns - subscriber.settled_ns >= SETTLE_NS:
                self._plane.pause_route(route, paused=choice.layer is None)
            if feeds[source][1].is_simulcast:
                goes_down = self._follow(participant, *feeds[source], choice, estimator.limited, now_ns)
                if goes_down and choice.layer is not None and len(allocation.choices) == 1:
                    switching_bps = choice.layer.bitrate_bps
        for source in paused ^ participant.videos_paused:
            self._log("video paused" if source in paused else "video resumed", user_id=participant.spec.user_id)
            self._video_paused(participant, source, source in paused, now_ns)
        draining = estimator.delay.standing_ms > estimator.delay.allowed_ms
        pace = pace_bps(estimator.estimate_bps, switching_bps, draining=draining) if estimator.limited else None
        if pace is not None or subscriber.paced:
            self._plane.set_pace(subscriber.transport, pace)
        subscriber.paced = pace is not None
        if feeds and now_ns - subscriber.settled_ns >= SETTLE_NS and (estimator.limited or estimator.loss.asks):
            self._probe(subscriber, allocation.wanted_bps, feeds, now_ns)

    def _follow(
        self,
        participant: Participant,
        subscribed: SubscribedTrack,
        published: PublishedTrack,
        choice: Choice,
        limited: bool,
        now_ns: int,
    ) -> bool:
        """Let a subscriber have the layer that was chosen. On the way down, which waits for a key frame, only the
        lowest temporal layer of the larger picture is sent; returns whether that is so."""
        goes_down = False
        if not limited or choice.layer is None:
            target = None if not limited else Target(0, 0)
        else:
            target = Target(choice.layer.spatial, choice.layer.temporal)
            now = None if subscribed.route is None else self._plane.route_stream(subscribed.route)
            streams = [encoding.stream for encoding in published.encodings]
            if now is not None and now in streams and streams.index(now) > target.spatial:
                target, goes_down = Target(target.spatial, 0), True
        self._wiring.set_target(participant, subscribed, target, now_ns)
        return goes_down

    def _adapts(self, published: PublishedTrack) -> bool:
        """Whether the publisher of several layers may be bounded: for its one subscriber, with no recording."""
        others = itertools.islice(self._wiring.subscribers(published), 1, None)
        return published.is_simulcast and self._wiring.recording is None and not any(others)

    def _options(
        self, subscriber: _Subscriber, source: Source, published: PublishedTrack, now_ns: int
    ) -> tuple[LayerOption, ...]:
        """What a subscriber can be sent of a track, ascending."""
        if not published.is_simulcast:
            return (LayerOption(_on_the_wire(published.reception.bitrate_bps)),)
        options: list[LayerOption] = []
        for view in published.layers(self._plane, now_ns):
            key = source, view.spatial
            if view.alive and view.bitrate_bps:
                subscriber.seen_bps[key] = view.bitrate_bps
                for temporal, layer in enumerate(view.temporal):
                    last = temporal == len(view.temporal) - 1
                    if last or view.spatial == 0 or temporal >= TEMPORAL_MIN:
                        number = ALL_TEMPORAL if last else temporal
                        options.append(LayerOption(_on_the_wire(layer.bitrate_bps), view.spatial, number))
            else:
                unseen = UNSEEN_BPS[min(view.spatial, len(UNSEEN_BPS) - 1)]
                bitrate = _on_the_wire(subscriber.seen_bps.get(key, unseen))
                options.append(LayerOption(bitrate, view.spatial, ALL_TEMPORAL))
        return tuple(sorted(options, key=lambda option: (option.spatial, option.temporal)))

    def _probe(
        self,
        subscriber: _Subscriber,
        wanted_bps: int,
        feeds: dict[Source, tuple[SubscribedTrack, PublishedTrack]],
        now_ns: int,
    ) -> None:
        plan = subscriber.estimator.plan_probe(wanted_bps * UNLIMITED_SPARE * 1.1, now_ns)
        if plan is None:
            return
        for subscribed, _ in feeds.values():
            if subscribed.route is not None and self._plane.probe(
                subscribed.route, plan.rate_bps, plan.size_bytes, plan.cluster, now_ns
            ):
                return

    def _tell_publishers(self, now_ns: int) -> None:
        """REMB: the most that any subscriber can take of a publisher's videos, where each of them has a limit."""
        bounded = any(subscriber.bounds for subscriber in self._subscribers.values())
        if not bounded and not any(told.tells for told in self._told.values()):
            return  # nobody has a limit, and all know it
        for publisher in self._participants.values():
            if not publisher.ready or publisher.transport is None:
                continue
            bound = self._bound_of(publisher)
            told = self._told.setdefault(publisher.spec.user_id, _Bound())
            if bound is None:
                if told.bitrate_bps is not None:
                    told.bitrate_bps, told.unbound_left, told.told_ns = None, UNBOUND_TIMES, 0
                if told.unbound_left and now_ns - told.told_ns >= BOUND_INTERVAL_NS // 10:
                    told.unbound_left -= 1
                    told.told_ns = now_ns
                    self._send_bound(publisher, UNBOUND_BPS)
                continue
            last = told.bitrate_bps
            changed = last is None or abs(bound - last) > BOUND_CHANGE * last
            if changed or now_ns - told.told_ns >= BOUND_INTERVAL_NS:
                told.bitrate_bps, told.told_ns = bound, now_ns
                self._send_bound(publisher, bound)

    def _bound_of(self, publisher: Participant) -> int | None:
        total = 0
        bounded = False
        for source, track in publisher.published.items():
            if not track.started:
                continue
            if not track.is_video:
                total += track.reception.bitrate_bps + PACKETS_PER_S_AUDIO * PACKET_OVERHEAD_BYTES * 8
                continue
            bounds = [
                self._subscribers[subscriber.spec.user_id].bounds.get(source)
                for subscriber, _ in self._wiring.subscribers(track)
                if subscriber.spec.user_id in self._subscribers
            ]
            if not bounds or None in bounds:
                return None
            total += max(bound for bound in bounds if bound is not None)
            bounded = True
        return total if bounded else None

    def _send_bound(self, publisher: Participant, bitrate_bps: int) -> None:
        if publisher.transport is not None:
            ssrcs = [track.ssrc for track in publisher.published.values() if track.is_video and track.ssrc]
            packet = pack_receiver_estimate(publisher.local_ssrc, bitrate_bps, ssrcs)
            self._plane.send_rtcp(publisher.transport.handle, packet)


def pace_bps(estimate_bps: int, switching_bps: int | None, *, draining: bool) -> int:
    """How fast video may leave. ``draining``: the path's queue stands; ``switching_bps``: what the smaller picture
    takes that is on its way, None: none is."""
    rate = (PACE_DRAINING if draining else PACE_FACTOR) * estimate_bps
    if draining and switching_bps is not None:
        rate = min(rate, PACE_SWITCHING * switching_bps)
    return max(PACE_MIN_BPS, int(rate))


def _on_the_wire(bitrate_bps: int) -> int:
    """With IP, UDP and SRTP."""
    return bitrate_bps + bitrate_bps * PACKET_OVERHEAD_BYTES // VIDEO_PACKET_BYTES
