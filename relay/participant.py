"""One user in a room: their transport, the tracks they publish, the tracks they are sent.

State and the arithmetic on it; who is connected with whom is ``room``'s affair.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from relay.layers import Target
from relay.messages import ParticipantEvidence, ParticipantSpec, QualitySecond, SessionKind, Source
from relay.negotiation import FORWARDED_EXTENSIONS, MID, TRANSPORT_CC, Agreement, MediaAgreement
from relay.plane import Plane, RouteHandle, RouteSpec, StreamHandle
from relay.published import PublishedTrack
from relay.quality import Counted, SideQuality
from relay.reports import Delivery, SenderClock
from relay.transport import Transport, TransportState

LOSS_FORGOTTEN: Final = 0.7
"""Each second, this much of a loss is still remembered."""
STREAMS_GONE_MAX: Final = 256
"""Streams a participant may replace per room; a page that changes its SSRCs more often is heard no more."""
EXPECTED_SOURCES: Final[dict[SessionKind, tuple[Source, ...]]] = {
    "chat": (),
    "audio": ("microphone",),
    "video": ("microphone", "camera"),
}
"""What who earns has to send in a session of a kind, unless they declare all of it off."""


class SubscribedTrack:
    """A source of another participant, as it goes down to this one."""

    def __init__(self, media: MediaAgreement) -> None:
        self.media = media
        self.route: RouteHandle | None = None
        self.stream: StreamHandle | None = None
        """What feeds the route, or will from its next key frame on."""
        self.target: Target | None = None
        """The best layer to send; None: whatever is best."""
        self.delivery = Delivery(media.codecs[0].clock_rate)


def route_spec(published: MediaAgreement, subscribed: MediaAgreement) -> RouteSpec:
    """How packets of one m-line become packets of another: payload types by codec, extension ids by URI."""
    by_name = {codec.name.lower(): codec.payload_type for codec in subscribed.codecs}
    payload_types = {
        codec.payload_type: by_name[codec.name.lower()] for codec in published.codecs if codec.name.lower() in by_name
    }
    both = [uri for uri in FORWARDED_EXTENSIONS if uri in published.extensions and uri in subscribed.extensions]
    mid_id = subscribed.extensions.get(MID)
    return RouteSpec(
        ssrc=subscribed.send_ssrc,
        rtx_ssrc=subscribed.send_rtx_ssrc if subscribed.rtx else None,
        payload_types=payload_types,
        rtx_payload_types=dict(subscribed.rtx),
        extension_ids={published.extensions[uri]: subscribed.extensions[uri] for uri in both},
        set_extensions={mid_id: subscribed.mid.encode()} if mid_id is not None else {},
        wait_for_key_frame=subscribed.kind == "video",
        transport_cc_id=subscribed.extensions.get(TRANSPORT_CC),
    )


class Participant:
    """See the module's docstring."""

    def __init__(self, spec: ParticipantSpec) -> None:
        self.spec = spec
        self.transport: Transport | None = None
        self.agreement: Agreement | None = None
        self.published: dict[Source, PublishedTrack] = {}
        self.resting: dict[Source, PublishedTrack] = {}
        """What the session's kind does not pay for any more: taken in, and neither forwarded nor recorded."""
        self.subscribed: dict[Source, SubscribedTrack] = {}
        self.muted: dict[Source, bool] = {}
        self.connected = False
        """What control was last told: connected and heard from within the liveness window."""
        self.asked_to_negotiate = False
        self.local_ssrc = secrets.randbelow(2**32 - 1) + 1
        """Our own SSRC in feedback to this participant."""
        self.sender_clock = SenderClock()
        self.round_trip_ns: int | None = None
        """As their reports say; None: not yet."""
        self.loss_lately: dict[Source, float] = {}
        """Of what this one sends: the newest losses, remembered for as long as reports of others may speak of them."""
        self.quality = SideQuality(spec.user_id)
        self.second: QualitySecond | None = None
        """The newest; None: not connected yet."""
        self.videos_paused: set[Source] = set()
        """Sources of others whose picture this one's path does not take beside the sound."""
        self._forwarded: dict[StreamHandle, int] = {}

    @property
    def ready(self) -> bool:
        """Whether media can go both ways now."""
        return self.transport is not None and self.transport.state is TransportState.CONNECTED

    @property
    def forwarded(self) -> int:
        """Packets from this participant forwarded to others, in total."""
        return sum(self._forwarded.values())

    @property
    def unpaid(self) -> frozenset[str]:
        """Kinds of media (audio, video) that were agreed on and are not paid for."""
        return frozenset(media.kind for media in (self.agreement.media if self.agreement else ()) if not media.paid)

    def declared_off(self, kind: SessionKind) -> bool:
        """Whether every source that a session of this kind is about is declared off; a screen is an extra."""
        return all(self.muted.get(source, False) for source in EXPECTED_SOURCES[kind])

    def note_forwarded(self, counters: dict[StreamHandle, int]) -> None:
        """Take in a gate's counters; those of streams that are gone stay as they were."""
        for track in self.published.values():
            for encoding in track.encodings:
                stream = encoding.stream
                if stream is not None and (stream in self._forwarded or not self.streams_used_up):
                    self._forwarded[stream] = max(self._forwarded.get(stream, 0), counters.get(stream, 0))

    @property
    def streams_used_up(self) -> bool:
        return len(self._forwarded) >= STREAMS_GONE_MAX

    def published_by_stream(self, stream: int) -> PublishedTrack | None:
        return next((track for track in self.published.values() if track.encoding_by_stream(stream)), None)

    def published_by_ssrc(self, ssrc: int) -> PublishedTrack | None:
        return next((track for track in self.published.values() if track.encoding_by_ssrc(ssrc)), None)

    def holding_ssrc(self, ssrc: int) -> PublishedTrack | None:
        """The track, forwarded or resting, that has an SSRC of this one's transport."""
        tracks = (*self.published.values(), *self.resting.values())
        return next((track for track in tracks if track.encoding_by_ssrc(ssrc)), None)

    def subscribed_by_ssrc(self, ssrc: int) -> SubscribedTrack | None:
        return next((track for track in self.subscribed.values() if track.media.send_ssrc == ssrc), None)

    def last_alive_ns(self) -> int:
        """The newest sign of life; 0: none."""
        return self.transport.last_alive_ns() if self.ready and self.transport is not None else 0

    def last_media_ns(self, plane: Plane) -> int:
        """Arrival of the newest RTP packet; 0: none."""
        newest_ns = 0
        for track in self.published.values():
            for encoding in track.encodings:
                if encoding.stream is not None:
                    newest_ns = max(newest_ns, plane.last_arrival_ns(encoding.stream))
        return newest_ns

    def measure(self, plane: Plane, others: Sequence[Participant], now_ns: int) -> None:
        """Once a second: take the last interval's figures. ``others``: whose tracks this one is sent."""
        for published in self.published.values():
            published.measure(plane, now_ns)
        for subscribed in self.subscribed.values():
            if subscribed.route is not None:
                subscribed.delivery.measure(plane.route_counters(subscribed.route), now_ns)
        for source, published in self.published.items():
            worst = max((each.reception.loss for each in published.encodings), default=0.0)
            self.loss_lately[source] = max(worst, LOSS_FORGOTTEN * self.loss_lately.get(source, 0.0))
        if self.connected or self.second is not None:
            self.second = self.quality.second(self._counted(others), self._rtt_ms(), self.connected, now_ns)

    def _rtt_ms(self) -> float | None:
        round_trips = [track.delivery.rtt_ms for track in self.subscribed.values()]
        return min((rtt_ms for rtt_ms in round_trips if rtt_ms is not None), default=None)

    def _counted(self, others: Iterable[Participant]) -> Iterator[Counted]:
        """What was counted of each track, both ways, in the last second."""
        for source, published in self.published.items():
            muted, bitrate_bps = self.muted.get(source, False), published.bitrate_bps
            # A microphone that is on sends all the time: from one that has begun, silence on the wire is loss.
            silent = source == "microphone" and published.reception.measured and not muted and not bitrate_bps
            arriving = [each.reception for each in published.encodings if each.reception.bitrate_bps]
            yield Counted(
                source,
                "up",
                loss=1.0 if silent else max((reception.loss for reception in arriving), default=0.0),
                jitter_ms=max((reception.jitter_ms for reception in arriving), default=0.0),
                bitrate_bps=bitrate_bps,
                frames_per_second=_frames_per_second(published),
                idle=muted or not (silent or bitrate_bps),
            )
        for source, subscribed in self.subscribed.items():
            sender = next((other for other in others if source in other.published), None)
            if sender is None or subscribed.route is None:
                continue
            delivery, upstream_loss = subscribed.delivery, sender.loss_lately.get(source, 0.0)
            yield Counted(
                source,
                "down",
                loss=max(0.0, delivery.loss - upstream_loss),  # what was lost before us is missing in our numbers
                upstream_loss=upstream_loss,
                jitter_ms=delivery.jitter_ms,
                bitrate_bps=delivery.bitrate_bps,
                frames_per_second=_frames_per_second(sender.published[source]),
                paused=source in self.videos_paused,
                idle=sender.muted.get(source, False) or not delivery.bitrate_bps,
            )

    def evidence(self, plane: Plane, now_ns: int) -> ParticipantEvidence:
        """This side of a room's evidence."""
        media_ns = self.last_media_ns(plane)
        second = self.second
        rtt_ms = self._rtt_ms()
        return ParticipantEvidence(
            user_id=self.spec.user_id,
            connected=self.connected,
            last_rtp_ms=max(0, (now_ns - media_ns) // 1_000_000) if media_ns else None,
            muted=dict(self.muted),
            forwarded_packets=self.forwarded,
            rtt_ms=None if rtt_ms is None else round(rtt_ms, 1),
            loss_up=round(max((track.reception.loss for track in self.published.values()), default=0.0), 4),
            loss_down=round(max((track.delivery.loss for track in self.subscribed.values()), default=0.0), 4),
            jitter_ms=round(max((track.reception.jitter_ms for track in self.published.values()), default=0.0), 1),
            bitrate_up_bps=sum(track.bitrate_bps for track in self.published.values()),
            bitrate_down_bps=sum(track.delivery.bitrate_bps for track in self.subscribed.values()),
            score=5 if second is None else second.score,
            cause="none" if second is None else second.cause,
            videos_paused=tuple(sorted(self.videos_paused)),
        )


def _frames_per_second(track: PublishedTrack) -> float | None:
    """Of the encoding that moves best; None of sound, and where the codec does not tell."""
    rates = [each.reception.frames_per_second or 0.0 for each in track.encodings if each.reception.bitrate_bps]
    return (max(rates, default=0.0) or None) if track.is_video else None
