"""The ``Plane``: everything that happens per packet, behind integer handles.

A plane owns the media sockets, SRTP, the tables of streams and routes, packet caches and counters. It knows nothing of
rooms, people or money: Python above it decides, and says so by opening handles, setting routes and gates. Two planes
share this interface and its tests: the pure-Python one (``relay.plane_python``) and a native one.

One packet: the socket is readable → ``drain`` takes a batch: classify (RFC 7983), unprotect, look up the stream by
(transport, SSRC), note arrival for transport-cc and reports, unwrap RTX, drop duplicates, put it in the stream's cache,
append it to the spool when recorded, and for each route of the stream whose gate is open rewrite header fields
and extensions, protect and queue; the batch is sent before ``drain`` returns. What is not forwarded media comes
up as ``Upcall`` tuples: STUN, DTLS, RTCP, RTP of streams that nobody announced yet.

Rules: nothing here awaits, raises on remote bytes, or logs per packet; every drop is counted under a ``DropReason``.
All methods are for the worker's one thread. Times are ``CLOCK_MONOTONIC`` nanoseconds.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, NewType, Protocol

TransportHandle = NewType("TransportHandle", int)
StreamHandle = NewType("StreamHandle", int)
RouteHandle = NewType("RouteHandle", int)
GateHandle = NewType("GateHandle", int)
SocketHandle = NewType("SocketHandle", int)
Address = tuple[str, int]
"""(host, port) as the socket module spells it; IPv6 in its plain form without scope."""


TEMPORAL_LAYERS: Final = 4
"""Temporal layers that can be told apart."""
ALL_TEMPORAL: Final = TEMPORAL_LAYERS - 1
"""As the highest temporal layer taken: whatever there is."""


class DropReason(enum.Enum):
    """Why a datagram or a packet went no further. One counter each, exported as a metric."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    UNKNOWN_KIND = "unknown_kind"
    UNKNOWN_ADDRESS = "unknown_address"
    MALFORMED_RTP = "malformed_rtp"
    MALFORMED_RTCP = "malformed_rtcp"
    NO_KEYS = "no_keys"
    UNPROTECT_FAILED = "unprotect_failed"
    REPLAYED = "replayed"
    UNKNOWN_SSRC = "unknown_ssrc"
    STREAMS_FULL = "streams_full"
    DUPLICATE = "duplicate"
    PADDING_ONLY = "padding_only"
    RTX_WITHOUT_STREAM = "rtx_without_stream"
    GATE_CLOSED = "gate_closed"
    WAITING_FOR_KEY_FRAME = "waiting_for_key_frame"
    ROUTE_PAUSED = "route_paused"
    LAYER_LEFT_OUT = "layer_left_out"
    PACER_FULL = "pacer_full"
    RESEND_OVER_BUDGET = "resend_over_budget"
    PAYLOAD_TYPE_UNMAPPED = "payload_type_unmapped"
    NO_REMOTE_ADDRESS = "no_remote_address"
    PROTECT_FAILED = "protect_failed"
    SEND_FAILED = "send_failed"
    SPOOL_FULL = "spool_full"
    UPCALL_QUEUE_FULL = "upcall_queue_full"


class UpcallKind(enum.IntEnum):
    """What a datagram that is not forwarded media turned out to be."""

    STUN = 1
    DTLS = 2
    RTCP = 3
    """Decrypted compound RTCP from a transport."""
    UNKNOWN_RTP = 4
    """Decrypted RTP of an SSRC with no stream: Python reads mid/rid/payload type and may add one."""
    KEY_FRAME_WANTED = 5
    """A route waits for a key frame of ``stream`` (rate limited by the plane to one per 200 ms and stream)."""


class Upcall(NamedTuple):
    """One thing for Python to handle."""

    kind: UpcallKind
    transport: int
    """``TransportHandle``; 0 where the datagram belongs to none yet (STUN, early DTLS)."""
    socket: int
    address: Address
    data: bytes
    arrival_ns: int
    stream: int = 0


class SrtpProfile(enum.Enum):
    """DTLS-SRTP protection profiles (RFC 5764, RFC 7714): OpenSSL name, key bytes, salt bytes."""

    AEAD_AES_128_GCM = ("SRTP_AEAD_AES_128_GCM", 16, 12)
    AEAD_AES_256_GCM = ("SRTP_AEAD_AES_256_GCM", 32, 12)
    AES128_CM_SHA1_80 = ("SRTP_AES128_CM_SHA1_80", 16, 14)

    @property
    def openssl_name(self) -> str:
        return self.value[0]

    @property
    def key_bytes(self) -> int:
        return self.value[1]

    @property
    def salt_bytes(self) -> int:
        return self.value[2]


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream that a transport receives: one SSRC, or one simulcast layer of a source."""

    ssrc: int
    kind: str
    """``audio`` or ``video``."""
    codecs: dict[int, str]
    """Payload type → codec name as in SDP (``opus``, ``VP8``, ``H264``); what the sender may switch among."""
    clock_rate: int
    rtx_ssrc: int | None = None
    rtx_payload_types: dict[int, int] = field(default_factory=dict)
    """RTX payload type → the payload type that it repairs (apt)."""
    nack: bool = False
    """Ask for packets that are missing (RFC 4585)."""
    transport_cc_id: int | None = None
    """Id of the transport-wide sequence number extension on this transport."""


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """Forwarding of one stream to one subscriber transport."""

    ssrc: int
    rtx_ssrc: int | None
    payload_types: dict[int, int]
    """Publisher's payload type → subscriber's; packets of unmapped types are dropped."""
    rtx_payload_types: dict[int, int] = field(default_factory=dict)
    """Subscriber's payload type → its RTX payload type; without one a lost packet is sent again as it was."""
    extension_ids: dict[int, int] = field(default_factory=dict)
    """Publisher's extension id → subscriber's; extensions not in it are left out."""
    set_extensions: dict[int, bytes] = field(default_factory=dict)
    """Subscriber's extension id → a constant value that every packet carries (mid)."""
    wait_for_key_frame: bool = False
    transport_cc_id: int | None = None
    """Id of the transport-wide sequence number extension towards the subscriber: packets get our own numbers."""


class SentPacket(NamedTuple):
    """One packet sent to a transport with a transport-wide sequence number."""

    number: int
    """Counted from 0 without wrapping."""
    size_bytes: int
    """On the wire, IP and UDP headers included."""
    sent_ns: int
    cluster: int
    """The probe that it belongs to; 0: none."""


class SentRun(NamedTuple):
    """Packets that all arrived, added up; their numbers in a row if the plane did. Delays are differences of two
    clocks."""

    first: int
    """The number of the first, as ``SentPacket`` counts."""
    packets: int
    size_bytes: int
    last_sent_ns: int
    last_arrival_ns: int
    least_ns: int
    most_ns: int
    newest_ns: int
    """The delay of the packet with the highest number."""


@dataclass(slots=True)
class StreamCounters:
    """What a stream has received, in totals; the base of receiver reports (RFC 3550 §6.4.1) and of quality."""

    packets: int = 0
    """Without those that came as RTX: expected − packets is what the network lost."""
    bytes: int = 0
    highest_sequence: int = 0
    """Extended: cycles in the upper 16 bits."""
    first_sequence: int = 0
    unique_packets: int = 0
    """Packets that arrived for the first time, repaired ones included."""
    repaired: int = 0
    nacks_sent: int = 0
    jitter: float = 0.0
    """Interarrival jitter in RTP time units (RFC 3550 A.8)."""
    key_frames: int = 0
    last_arrival_ns: int = 0
    last_media_ns: int = 0
    """Arrival of the newest packet that was new: probes are not."""
    last_timestamp: int = 0
    temporal_bytes: list[int] = field(default_factory=lambda: [0] * TEMPORAL_LAYERS)
    """Bytes per temporal layer; all in the lowest where the codec does not tell."""
    temporal_frames: list[int] = field(default_factory=lambda: [0] * TEMPORAL_LAYERS)
    width: int = 0
    """Of the newest key frame, with ``height``; 0: the codec does not tell."""
    height: int = 0


@dataclass(slots=True)
class RouteCounters:
    """What a route has sent, in totals; the base of sender reports."""

    packets: int = 0
    octets: int = 0
    """Payload octets, as sender reports count them."""
    retransmitted: int = 0
    not_in_cache: int = 0
    last_timestamp: int = 0
    """RTP timestamp of the newest packet sent, on the subscriber's timeline."""
    last_sent_ns: int = 0
    sequence: int = 0


SpoolSink = Callable[[StreamHandle, int, bytes], None]
"""(stream, arrival_ns, RTP packet): a packet accepted for forwarding, RTX unwrapped, in arrival order, unencrypted
and unpadded, with its sender's numbers; probes of padding only as headers without payload, so that no number seems
lost. Must not block."""


class Plane(Protocol):
    """See the module's docstring. Handles are positive and never used again within a plane's life.

    Removing what is gone already does nothing; any other use of a handle that is gone raises ``KeyError``. A transport
    takes its streams and the routes towards it along; a stream's routes stay, silent, until ``switch_route`` gives them
    another stream or they are removed.
    """

    name: str
    """``python`` or ``native``."""

    # sockets
    def bind(self, address: Address) -> tuple[SocketHandle, Address]:
        """Bind a non-blocking UDP socket; returns it and the address it got. Raises OSError."""
        ...

    def bind_tcp(self, address: Address) -> tuple[SocketHandle, Address]:
        """Listen for ICE-TCP (RFC 6544, passive) on an address. Raises OSError. To the plane's user a connection is a
        remote address like any other: a frame (RFC 4571) is a datagram, which is dropped where the connection is
        gone or too slow."""
        ...

    def unbind(self, socket: SocketHandle) -> None:
        """Close a socket that nothing has been sent or received by."""
        ...

    def fileno(self, socket: SocketHandle) -> int:
        """For ``loop.add_reader``."""
        ...

    def drain(self, now_ns: int, *, batch_max: int = 256) -> list[Upcall]:
        """Take up to ``batch_max`` datagrams per socket, forward media, send the batch; return the rest."""
        ...

    def send(self, socket: SocketHandle, address: Address, datagrams: Sequence[bytes]) -> None:
        """Send as they are (STUN, DTLS). What the socket will not take is dropped and counted."""
        ...

    def next_timer_ns(self) -> int | None:
        """When ``run_timers`` wants to be called next: NACKs, feedback, paced sends, upcalls that wait because a
        route or gate changed. None: no need. Ask after every call that changed something."""
        ...

    def run_timers(self, now_ns: int) -> list[Upcall]:
        """Send what is due: NACKs and their repeats, transport-cc feedback, timed sends."""
        ...

    # transports
    def add_transport(self) -> TransportHandle: ...

    def map_address(self, transport: TransportHandle, socket: SocketHandle, address: Address) -> None:
        """Datagrams from ``address`` on ``socket`` belong to ``transport`` from now on (bounded per transport;
        the address unused for longest is forgotten first)."""
        ...

    def set_remote(self, transport: TransportHandle, socket: SocketHandle, address: Address) -> None:
        """Where media for the transport goes."""
        ...

    def set_keys(self, transport: TransportHandle, profile: SrtpProfile, receive_key: bytes, send_key: bytes) -> None:
        """Master key followed by salt, each way (RFC 5764 §4.2)."""
        ...

    def remove_transport(self, transport: TransportHandle) -> None:
        """With its addresses, streams and routes."""
        ...

    def last_heard_ns(self, transport: TransportHandle) -> int:
        """Arrival of the newest authenticated RTP or RTCP packet; 0: none."""
        ...

    def set_round_trip(self, transport: TransportHandle, round_trip_ns: int) -> None:
        """The measured round-trip time: spaces repeated NACKs to the transport and packets sent again to it."""
        ...

    def send_rtcp(self, transport: TransportHandle, compound: bytes) -> None:
        """Protect and send one compound (or reduced-size, RFC 5506) RTCP packet."""
        ...

    # streams and routes
    def add_stream(self, transport: TransportHandle, spec: StreamSpec) -> StreamHandle: ...
    def update_stream(self, stream: StreamHandle, spec: StreamSpec) -> None: ...
    def remove_stream(self, stream: StreamHandle) -> None:
        """Its routes stay, with nothing to send, until they are switched to another stream or removed."""
        ...

    def stream_counters(self, stream: StreamHandle) -> StreamCounters: ...
    def last_arrival_ns(self, stream: StreamHandle) -> int:
        """The one of its counters that is asked for all the time."""
        ...

    def add_route(
        self, stream: StreamHandle, transport: TransportHandle, gate: GateHandle, spec: RouteSpec
    ) -> RouteHandle:
        """Forward ``stream`` to ``transport`` while ``gate`` is open."""
        ...

    def update_route(self, route: RouteHandle, spec: RouteSpec) -> None: ...
    def switch_route(self, route: RouteHandle, stream: StreamHandle, timestamp_shift: int | None = None) -> None:
        """Take another stream (layer, or a republished source) from its next key frame on.

        Sequence numbers, timestamps and VP8's picture numbers are continuous for the subscriber.
        ``timestamp_shift``: what takes the new stream's timestamps to those of ``route_stream`` now, as sender reports
        of both say; None: not known, the time that passes between their packets must do. Again with the same
        stream, or with the present one, changes or cancels a switch that still waits.
        """
        ...

    def route_stream(self, route: RouteHandle) -> StreamHandle | None:
        """The stream whose packets the route takes at this moment; None: it is gone."""
        ...

    def set_route_layers(self, route: RouteHandle, temporal_max: int) -> None:
        """Leave out the frames of temporal layers above ``temporal_max``: at once downwards, upwards from the next
        frame on that a receiver can go up with. The subscriber sees no gap."""
        ...

    def add_tap(self, stream: StreamHandle, spec: RouteSpec, sink: SpoolSink) -> RouteHandle:
        """A route into ``sink`` instead of to a transport, behind no gate: one stream for the recorder, whatever
        layers it is made of. Of ``spec`` the SSRC and the payload types count."""
        ...

    def remove_route(self, route: RouteHandle) -> None: ...
    def pause_route(self, route: RouteHandle, *, paused: bool) -> None:
        """Send nothing on this route for a while. It goes on with a key frame, its numbers running on."""
        ...

    def route_counters(self, route: RouteHandle) -> RouteCounters: ...
    def map_timestamp(self, route: RouteHandle, timestamp: int) -> int:
        """A publisher's RTP timestamp on the subscriber's timeline (to translate sender reports)."""
        ...

    def resend(self, route: RouteHandle, sequences: Sequence[int], now_ns: int) -> list[int]:
        """Answer a NACK from the cache, over RTX where negotiated; returns what is lost for good.

        That is what is neither held nor being asked for from the publisher (such packets go out when they come). A
        packet is sent again at most once per round-trip time, and all together not more than was sent.
        """
        ...

    # gates
    def add_gate(self, *, open: bool) -> GateHandle: ...
    def set_gate(self, gate: GateHandle, *, open: bool) -> None: ...
    def gate_counters(self, gate: GateHandle) -> dict[StreamHandle, int]:
        """Packets forwarded through the gate so far, per publisher's stream."""
        ...

    def remove_gate(self, gate: GateHandle) -> None: ...

    # recording
    def set_spool(self, stream: StreamHandle, sink: SpoolSink | None) -> None: ...

    # congestion control towards a transport
    def sent_packets(self, transport: TransportHandle, base_sequence: int, count: int) -> list[SentPacket | None]:
        """What was sent with ``count`` transport-wide numbers from ``base_sequence`` (16 bits) on; None: forgotten."""
        ...

    def sent_run(
        self, transport: TransportHandle, base_sequence: int, origin_ns: int, deltas: Sequence[int | None], unit_ns: int
    ) -> SentRun | None:
        """The sum of ``sent_packets`` and of when they arrived: each so many units after the one before, the first
        after ``origin_ns``. None: one was lost or is forgotten, or was part of a probe, or there are none."""
        ...

    def probe(self, route: RouteHandle, rate_bps: int, size_bytes: int, cluster: int, now_ns: int) -> int:
        """Send about ``size_bytes`` beside the media, evenly at ``rate_bps``, marked with ``cluster``.

        What is sent was sent before (over RTX), or is padding on the RTX stream. Returns the bytes that will be sent; 0
        where the route has no RTX.
        """
        ...

    def set_pace(self, transport: TransportHandle, rate_bps: int | None) -> None:
        """Let video leave at ``rate_bps`` at most, in slices of 5 ms; None: at once. Audio never waits."""
        ...

    # timed sends, for a pacer
    def send_at(self, route: RouteHandle, packet: bytes, at_ns: int) -> None:
        """Queue one already rewritten, unencrypted packet for its time (bounded; the oldest goes out at once)."""
        ...

    # observation
    def drops(self) -> dict[DropReason, int]: ...
    def close(self) -> None: ...
