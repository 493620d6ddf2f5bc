"""A source that a participant sends: one encoding, or several of different size (simulcast, RFC 8853).

Each encoding is a stream of its own, known from the offer (one encoding) or learnt from its first packets by their
rid (several), and may come and go while the track stays.
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.layers import LayerDemand, LayerMeter, LayerView, living
from relay.negotiation import TRANSPORT_CC, MediaAgreement
from relay.plane import Plane, RouteHandle, StreamHandle, StreamSpec
from relay.reports import KeyFrameRequests, Reception
from relay.spool import SpoolStream


class Encoding:
    """One stream of a published track."""

    def __init__(self, rid: str, clock_rate: int) -> None:
        self.rid = rid
        """Empty where the track has one encoding."""
        self.stream: StreamHandle | None = None
        self.ssrc = 0
        self.rtx_ssrc: int | None = None
        self.reception = Reception(clock_rate)
        self.key_frames = KeyFrameRequests()
        self.meter = LayerMeter()


class PublishedTrack:
    """See the module's docstring. ``stream``, ``ssrc`` and so on are those of the ``best`` encoding."""

    def __init__(self, media: MediaAgreement) -> None:
        self.media = media
        clock_rate = media.codecs[0].clock_rate
        self.encodings = [Encoding(rid, clock_rate) for rid in media.rids or ("",)]
        """The smallest picture first."""
        self.best = self.encodings[-1]
        """The largest picture that is being sent."""
        self.started = False
        """Whether a packet has arrived."""
        self.demand = LayerDemand(len(self.encodings))
        self.spool: SpoolStream | None = None
        self.tap: RouteHandle | None = None
        """What feeds the spool, where there are several encodings."""
        self.tap_ssrc = 0
        self.tapped: StreamHandle | None = None
        """The stream that it takes, or will from its next key frame on."""
        self.key_frame_asked_ns: int | None = None

    @property
    def is_video(self) -> bool:
        return self.media.kind == "video"

    @property
    def is_simulcast(self) -> bool:
        return len(self.encodings) > 1

    @property
    def stream(self) -> StreamHandle | None:
        return self.best.stream

    @property
    def ssrc(self) -> int:
        return self.best.ssrc

    @property
    def rtx_ssrc(self) -> int | None:
        return self.best.rtx_ssrc

    @property
    def reception(self) -> Reception:
        return self.best.reception

    @property
    def streams(self) -> Iterator[StreamHandle]:
        """Of all encodings."""
        return (encoding.stream for encoding in self.encodings if encoding.stream is not None)

    @property
    def bitrate_bps(self) -> int:
        """Of all encodings, in the last second measured."""
        return sum(each.reception.bitrate_bps for each in self.encodings if each.stream is not None)

    def encoding_by_stream(self, stream: int | None) -> Encoding | None:
        return next((each for each in self.encodings if stream is not None and each.stream == stream), None)

    def encoding_by_ssrc(self, ssrc: int) -> Encoding | None:
        return next((each for each in self.encodings if each.stream is not None and each.ssrc == ssrc), None)

    def stream_spec(self, encoding: Encoding | None = None) -> StreamSpec:
        """The plane's view of an encoding's stream; None: of the best."""
        media, encoding = self.media, encoding or self.best
        return StreamSpec(
            ssrc=encoding.ssrc,
            kind=media.kind,
            codecs={codec.payload_type: codec.name for codec in media.codecs},
            clock_rate=media.codecs[0].clock_rate,
            rtx_ssrc=encoding.rtx_ssrc,
            rtx_payload_types={rtx: payload_type for payload_type, rtx in media.rtx.items()},
            # Without RTX a page sends the same packet again with a new transport-wide number: other authenticated data
            # under a nonce that was used, which tells AES-GCM's authentication key to whoever listens (RFC 7714 §8.2).
            nack=bool(media.rtx) and any("nack" in codec.feedback for codec in media.codecs),
            transport_cc_id=media.extensions.get(TRANSPORT_CC),
        )

    def alive(self, plane: Plane, now_ns: int) -> list[bool]:
        """Which encodings are being sent."""
        if not self.is_simulcast:
            return [self.best.stream is not None]
        return living([_heard_ns(plane, encoding) for encoding in self.encodings], now_ns)

    def measure(self, plane: Plane, now_ns: int) -> None:
        """Once a second, for receiver reports and quality."""
        for encoding in self.encodings:
            if encoding.stream is not None:
                encoding.reception.measure(plane.stream_counters(encoding.stream), now_ns)

    def sample(self, plane: Plane, now_ns: int) -> None:
        """About ten times a second, for ``layers``."""
        for encoding in self.encodings:
            if encoding.stream is not None:
                encoding.meter.sample(plane.stream_counters(encoding.stream), now_ns)

    def layers(self, plane: Plane, now_ns: int) -> tuple[LayerView, ...]:
        """What can be chosen of this track, the smallest picture first."""
        alive = self.alive(plane, now_ns)
        views = []
        for spatial, encoding in enumerate(self.encodings):
            width = height = 0
            if encoding.stream is not None:
                counters = plane.stream_counters(encoding.stream)
                width, height = counters.width, counters.height
            views.append(LayerView(spatial, encoding.rid, alive[spatial], width, height, encoding.meter.view()))
        return tuple(views)


def _heard_ns(plane: Plane, encoding: Encoding) -> int:
    return 0 if encoding.stream is None else plane.stream_counters(encoding.stream).last_media_ns


def timestamp_shift(present: Encoding, new: Encoding) -> int | None:
    """What takes ``new``'s RTP timestamps to those of ``present``; None before sender reports of both."""
    ours, theirs = present.reception.timestamp_at(0), new.reception.timestamp_at(0)
    return None if ours is None or theirs is None else (ours - theirs) & 0xFFFF_FFFF
