"""The receiving half of the Python plane: transports, and per stream what came, what is missing, and the numbering.

**Continuous numbers.** Subscribers must not see holes where the relay dropped packets on purpose (probes of padding
only) or where a sender restarted its numbers: a receiver would ask for them for ever. So every accepted packet gets a
*continuous number*: its extended sequence number minus all that was left out before it. Routes add an offset to it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from relay.codecs import BarePictures, KeyFrameTest, key_frame_test, vp8_frame_size
from relay.feedback import ArrivalLog, MissingPackets
from relay.pacer import Pacer
from relay.packet_cache import AUDIO_PACKETS, VIDEO_PACKETS, CachedPacket, PacketCache
from relay.plane import Address, DropReason, SpoolSink, StreamCounters, StreamHandle, StreamSpec, TransportHandle
from relay.rtp import SEQUENCE_JUMP_MAX, RtpHeader
from relay.send_history import SendHistory
from relay.srtp import SrtpContext
from relay.vp8_rewrite import Vp8Descriptor, read_vp8

if TYPE_CHECKING:
    from relay.plane_routes import Route

SEEN: Final = 4_096
"""Numbers remembered to find duplicates; a packet later than that counts as one. A power of two."""
SHIFTS_MAX: Final = 512
"""Places remembered where numbers were left out; the oldest are forgotten first, later packets before them dropped."""
_KEY_TEST_BYTES: Final = 256
ADDRESSES_MAX: Final = 16
STREAMS_MAX: Final = 64
"""Streams of one transport; RTP of further SSRCs is dropped as ``STREAMS_FULL``."""
SSRCS_MAX: Final = 256
"""SSRCs of RTP and RTCP that a transport ever takes, those of streams long gone included; further ones are dropped as
``STREAMS_FULL``."""
HELD_MAX: Final = 48
"""Packets of streams not yet announced that a transport keeps for them; the oldest are dropped first."""
ROUND_TRIP_NS: Final = 100_000_000
"""Assumed until it is measured."""


class Stream:
    """One received SSRC with its RTX. ``accept`` is its whole per-packet work."""

    __slots__ = (
        "_bare_pictures",
        "_h264_types",
        "_highest",
        "_key_tests",
        "_last_key_timestamp",
        "_last_transit",
        "_oldest",
        "_seen",
        "_shift",
        "_shift_base",
        "_shift_from",
        "_shift_totals",
        "_vp8_types",
        "cache",
        "counters",
        "handle",
        "holes_given_up",
        "is_video",
        "key_asked_ns",
        "missing",
        "routes",
        "spec",
        "spool",
        "transport",
    )

    def __init__(self, handle: StreamHandle, transport: Transport, spec: StreamSpec) -> None:
        self.handle = handle
        self.transport = transport
        self.is_video = spec.kind == "video"
        self.cache = PacketCache(VIDEO_PACKETS if self.is_video else AUDIO_PACKETS)
        self.counters = StreamCounters()
        self.missing = MissingPackets()
        self.routes: list[Route] = []
        self.spool: SpoolSink | None = None
        self.key_asked_ns = -1_000_000_000
        self.holes_given_up = False
        """Set when packets are lost for good: the owner asks for a key frame and clears it."""
        self._highest: int | None = None
        self._seen: list[int | None] = [None] * SEEN
        self._oldest = -0x10000
        """Numbers below cannot be placed any more: they might take another packet's continuous number."""
        self._shift = 0
        self._shift_base = 0
        self._shift_from: list[int] = []
        self._shift_totals: list[int] = []
        self._last_transit = 0
        self._last_key_timestamp = -1
        self._bare_pictures = BarePictures()
        self.set_spec(spec)

    def set_spec(self, spec: StreamSpec) -> None:
        """Take another description; what was received so far stays."""
        self.spec = spec
        self._key_tests: list[KeyFrameTest | None] = [None] * 128
        for payload_type, codec in spec.codecs.items():
            self._key_tests[payload_type & 127] = key_frame_test(codec)
        self._vp8_types = frozenset(number & 127 for number, codec in spec.codecs.items() if codec.lower() == "vp8")
        self._h264_types = frozenset(number & 127 for number, codec in spec.codecs.items() if codec.lower() == "h264")

    def accept(
        self,
        data: bytes,
        header: RtpHeader,
        elements: list[tuple[int, int, int]],
        arrival_ns: int,
        *,
        repaired: bool,
    ) -> CachedPacket | DropReason:
        """Take one packet into the cache and the spool; the packet to forward, or why it goes no further."""
        counters = self.counters
        sequence = header.sequence
        highest = self._highest
        if highest is None:
            number = sequence
            delta = 1
            counters.first_sequence = counters.highest_sequence = number
        else:
            delta = ((sequence - highest + 0x8000) & 0xFFFF) - 0x8000
            number = highest + delta
        if not repaired:
            counters.packets += 1
            counters.bytes += len(data)
        counters.last_arrival_ns = arrival_ns
        seen = self._seen
        slot = number & SEEN - 1
        if seen[slot] == number or delta <= -SEEN or number < self._oldest:
            return DropReason.DUPLICATE
        seen[slot] = number
        counters.unique_packets += 1
        if repaired:
            counters.repaired += 1
        if delta > 0:
            if delta > 1 and highest is not None:
                self._note_hole(highest + 1, number - 1, arrival_ns)
            self._highest = counters.highest_sequence = number
            if not repaired:
                self._note_time(header.timestamp, arrival_ns)
        else:
            self.missing.arrived(number)

        if header.payload_end == header.payload_start and delta > 0:
            self._leave_out(number + 1, 1)
            if self.spool is not None:
                self.spool(self.handle, arrival_ns, data)
            return DropReason.PADDING_ONLY
        continuous = self._continuous(number)
        key, layer = self._look_at_frame(data, header) if self.is_video else (True, None)
        packet = CachedPacket(continuous, data, header, elements, arrival_ns, key, layer)
        self.cache.put(packet)
        counters.last_media_ns = arrival_ns
        if self.spool is not None:
            self.spool(self.handle, arrival_ns, data)
        return packet

    def _look_at_frame(self, data: bytes, header: RtpHeader) -> tuple[bool, Vp8Descriptor | None]:
        """Whether a receiver can begin with a video packet, and its place among the layers; counts both."""
        counters = self.counters
        start = header.payload_start
        layer = None
        if header.payload_type in self._vp8_types:
            layer = read_vp8(data, start, header.payload_end)
            key = layer is not None and layer.begins_key_frame
            temporal = 0 if layer is None else layer.temporal
            counters.temporal_bytes[temporal] += len(data)
            if layer is not None and layer.begins_frame:
                counters.temporal_frames[temporal] += 1
        else:
            test = self._key_tests[header.payload_type]
            payload = data[start : start + _KEY_TEST_BYTES]
            key = test is not None and header.payload_end > start and test(payload)
            if header.payload_type in self._h264_types:
                key = self._bare_pictures.begins(key, payload, header.timestamp)
            counters.temporal_bytes[0] += len(data)
            counters.temporal_frames[0] += header.marker
        if key and header.timestamp != self._last_key_timestamp:
            self._note_key_frame(header, data if layer is not None else b"")
        return key, layer

    def _note_key_frame(self, header: RtpHeader, vp8: bytes) -> None:
        """A key frame began; ``vp8``: its first packet, where that tells its size."""
        counters = self.counters
        self._last_key_timestamp = header.timestamp
        counters.key_frames += 1
        size = vp8_frame_size(vp8[header.payload_start :]) if vp8 else None
        if size is not None:
            counters.width, counters.height = size

    def _continuous(self, number: int) -> int:
        """The continuous number of an extended sequence number that is not below ``_oldest``."""
        if not self._shift_from or number >= self._shift_from[-1]:
            return number - self._shift
        at = bisect_right(self._shift_from, number)
        return number - (self._shift_totals[at - 1] if at else self._shift_base)

    def awaits(self, continuous: int) -> bool:
        """Whether this packet is missing and may yet come: its sender is being asked for it."""
        return any(self._continuous(number) == continuous for number in self.missing)

    def _note_hole(self, first: int, last: int, arrival_ns: int) -> None:
        if last - first >= SEQUENCE_JUMP_MAX:
            self._leave_out(last + 1, last - first + 1)
            self._oldest = last + 1
            self.missing.clear()
            self.holes_given_up = True
        elif self.spec.nack and not self.missing.add(first, last, arrival_ns):
            self.holes_given_up = True

    def _leave_out(self, first_after: int, count: int) -> None:
        """Numbers from ``first_after`` on move down by ``count`` more."""
        self._shift += count
        self._shift_from.append(first_after)
        self._shift_totals.append(self._shift)
        if len(self._shift_from) > SHIFTS_MAX:
            self._oldest = max(self._oldest, self._shift_from[0])
            self._shift_base = self._shift_totals[0]
            del self._shift_from[0], self._shift_totals[0]

    def _note_time(self, timestamp: int, arrival_ns: int) -> None:
        """Interarrival jitter over packets of different timestamps (RFC 3550 A.8)."""
        counters = self.counters
        if timestamp == counters.last_timestamp and counters.unique_packets > 1:
            return
        transit = arrival_ns * self.spec.clock_rate // 1_000_000_000 - timestamp
        if counters.unique_packets > 1:
            difference = abs(((transit - self._last_transit + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000)
            counters.jitter += (difference - counters.jitter) / 16
        self._last_transit = transit
        counters.last_timestamp = timestamp


class Transport:
    """One peer's addresses, keys and streams."""

    __slots__ = (
        "addresses",
        "arrivals",
        "authentic",
        "cc_id",
        "handle",
        "held",
        "last_heard_ns",
        "pacer",
        "receive",
        "remote",
        "repairs",
        "round_trip_ns",
        "routes",
        "send",
        "sent",
        "socket",
        "ssrcs_heard",
        "streams",
        "transport_cc_id",
    )

    def __init__(self, handle: TransportHandle) -> None:
        self.handle = handle
        self.addresses: OrderedDict[tuple[int, Address], None] = OrderedDict()
        self.receive: SrtpContext | None = None
        self.send: SrtpContext | None = None
        self.socket = 0
        self.remote: Address | None = None
        self.streams: dict[int, Stream] = {}
        """By SSRC."""
        self.repairs: dict[int, Stream] = {}
        """By the SSRC of their RTX."""
        self.authentic: set[int] = set()
        """Every SSRC that ever came authenticated: libsrtp keeps each for good, and looks through them all per packet.
        """
        self.ssrcs_heard: set[int] = set()
        """SSRCs that came authenticated, so far without a stream."""
        self.routes: dict[int, Route] = {}
        """Towards this transport, by handle."""
        self.held: deque[tuple[int, bytes, int]] = deque()
        """(ssrc, decrypted packet, arrival_ns)."""
        self.arrivals = ArrivalLog()
        self.transport_cc_id = 0
        self.last_heard_ns = 0
        self.round_trip_ns = ROUND_TRIP_NS
        self.cc_id = 0
        """Id of the transport-wide sequence number in what we send; 0: none."""
        self.sent = SendHistory()
        self.pacer = Pacer()

    def may_hear(self, ssrc: int) -> bool:
        """Whether a packet of this SSRC may be decrypted; to be asked before: after it, libsrtp knows the SSRC."""
        return ssrc in self.authentic or len(self.authentic) < SSRCS_MAX

    def index_streams(self) -> None:
        """Rebuild the tables by SSRC after a stream came, changed or went."""
        streams = list({stream.handle: stream for stream in self.streams.values()}.values())
        self.streams = {stream.spec.ssrc: stream for stream in streams}
        self.repairs = {stream.spec.rtx_ssrc: stream for stream in streams if stream.spec.rtx_ssrc is not None}
        self.ssrcs_heard -= self.streams.keys() | self.repairs.keys()
        for stream in streams:
            if stream.spec.transport_cc_id is not None:
                self.transport_cc_id = stream.spec.transport_cc_id
