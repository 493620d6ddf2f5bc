"""The sending half of the Python plane: a route is one stream on its way to one subscriber.

A route's output is a chain of *runs*: within a run, output number = continuous number + offset, and likewise for
timestamps and VP8's picture numbers. A run begins with the first packet after the gate opened, with a key frame where
one is needed, with another stream, or behind a packet that was left out; it takes the next free output number, so that
the subscriber sees one unbroken stream, and no number ever carries two different packets. What is sent again is
rewritten by the run that it went out in.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final, NamedTuple

from relay.packet_cache import CachedPacket
from relay.plane import ALL_TEMPORAL, GateHandle, RouteCounters, RouteHandle, RouteSpec, SpoolSink, StreamHandle
from relay.plane_streams import Stream, Transport
from relay.rtp import pack_extensions, pack_head_into, timestamp_delta
from relay.srtp import PACKET_BYTES_MAX, PacketBuffer
from relay.vp8_rewrite import PICTURE_MASK, Vp8Descriptor, rewrite_vp8

RUNS_MAX: Final = 128
"""Runs remembered to answer NACKs, over 4 s of frames left out; those of older runs find nothing."""
SHIFT_MAX_S: Final = 10
"""Sender reports that would move a stream's timestamps further than this from the last ones are not believed."""
RESENT: Final = 1_024
"""Slots that remember when a number was sent again. A power of two."""
NUMBERS: Final = 128
"""Packets of a route without RTX whose transport-wide numbers are remembered. A power of two."""
RESEND_INTERVAL_MIN_NS: Final = 30_000_000
"""A packet is sent again at most this often, however short the round trip is said to be."""
FILLED_NS: Final = -1
"""When a packet was sent again whose place was filled by another: never."""
AGAIN_BYTES_MAX: Final = 262_144
"""What a route may send again in one burst: a key frame and more. In the long run it is as much as it sent."""
AGAIN_BYTES_FIRST: Final = 16_384
"""With what it begins."""
PADDING_BYTES: Final = 224
"""Of a packet of padding only; at most 255."""
GATE_STREAMS_MAX: Final = 4_096
"""Streams that a gate counts; the oldest are forgotten first."""


class Gate:
    """Forwards for a room, or does not."""

    __slots__ = ("counts", "handle", "open", "routes")

    def __init__(self, handle: GateHandle, *, open: bool) -> None:
        self.handle = handle
        self.open = open
        self.counts: dict[StreamHandle, int] = {}
        self.routes: dict[int, Route] = {}

    def trim(self) -> None:
        """Keep the bound."""
        while len(self.counts) > GATE_STREAMS_MAX:
            del self.counts[next(iter(self.counts))]


class Run(NamedTuple):
    """A stretch of output numbers, and what is added to the numbers of its packets."""

    first_output: int
    first_number: int
    offset: int
    stream: Stream
    timestamp_offset: int
    picture_offset: int
    tl0_offset: int


class Route:
    """One stream towards one transport."""

    __slots__ = (
        "_began_output",
        "_extension_ids",
        "_fixed",
        "_fixed_block",
        "_left_picture",
        "_newest_layer",
        "_newest_run",
        "_numbers",
        "_picture_offset",
        "_resent",
        "_rtx_sequence",
        "_runs",
        "_skew",
        "_temporal",
        "_temporal_max",
        "_tl0_offset",
        "again_bytes",
        "counters",
        "filters",
        "first_number",
        "gate",
        "handle",
        "highest_output",
        "highest_sent",
        "needs_key_frame",
        "next_shift",
        "next_stream",
        "paused",
        "payload_types",
        "removed",
        "rendered",
        "repeats",
        "running",
        "sink",
        "spec",
        "stream",
        "timestamp_offset",
        "transport",
    )

    def __init__(self, handle: RouteHandle, stream: Stream, transport: Transport, gate: Gate, spec: RouteSpec) -> None:
        self.handle = handle
        self.stream: Stream | None = stream
        self.next_stream: Stream | None = None
        self.next_shift: int | None = None
        """What takes the next stream's timestamps to those of the present one; None: not known."""
        self.sink: SpoolSink | None = None
        """Where the packets go instead of to the transport."""
        self.transport = transport
        self.gate = gate
        self.counters = RouteCounters()
        self.running = False
        self.removed = False
        self.needs_key_frame = spec.wait_for_key_frame
        self.paused = False
        self.highest_output = random.getrandbits(15) + 0x10000  # RFC 3550 §5.1: starts at random
        self.highest_sent = self.highest_output
        self._began_output = 0
        """Below ``highest_output`` while packets wait in the pacer."""
        self.rendered = 0
        """The output number rendered last."""
        self.first_number = 0
        """Where the present chain of runs begins: packets before it were never meant for the subscriber."""
        self.timestamp_offset = random.getrandbits(32)
        self.filters = False
        """Whether ``keeps`` must be asked."""
        self._skew = 0
        self._picture_offset = self._tl0_offset = 0
        self._newest_layer: Vp8Descriptor | None = None
        self._newest_run: Run | None = None
        self._left_picture = -1
        self._temporal = self._temporal_max = ALL_TEMPORAL
        self._runs: deque[Run] = deque(maxlen=RUNS_MAX)
        self._rtx_sequence = random.getrandbits(15)
        self._resent: list[tuple[int, int]] = [(-1, 0)] * RESENT
        self.again_bytes = AGAIN_BYTES_FIRST
        """What may be sent again now: who asks cannot make us send more than twice the stream."""
        self.set_spec(spec)

    def set_spec(self, spec: RouteSpec) -> None:
        """Take another description. What was sent is not sent again: under the new one its bytes would differ."""
        self.spec = spec
        self.payload_types: list[int] = [-1] * 128
        for received, sent in spec.payload_types.items():
            self.payload_types[received & 127] = sent
        self._extension_ids = {k: v for k, v in spec.extension_ids.items() if v not in spec.set_extensions}
        self._fixed = sorted(spec.set_extensions.items())
        if spec.transport_cc_id is not None:
            self._fixed.insert(0, (spec.transport_cc_id, b"\0\0"))  # first, where the path finds and numbers it
            self.transport.cc_id = spec.transport_cc_id
        self._fixed_block = pack_extensions(self._fixed)
        self.repeats = spec.transport_cc_id is not None and (spec.rtx_ssrc is None or not spec.rtx_payload_types)
        """Whether what is sent again goes out with the same bytes, its transport-wide number included."""
        self._numbers = [-1] * NUMBERS if self.repeats else []
        self._runs.clear()
        self.running = False

    def stop(self, *, needs_key_frame: bool) -> None:
        """End the run; the next one begins with the next packet, or the next key frame."""
        self.running = False
        self.needs_key_frame = needs_key_frame

    def begin_run(self, stream: Stream, packet: CachedPacket) -> None:
        """Begin a run of ``stream`` with ``packet``."""
        if stream is not self.stream:
            self._take_stream(stream, packet)
        if packet.begins_key_frame:
            self._go_on_counting(packet.layer)
            self._temporal = self._temporal_max
            self.filters = self._temporal < ALL_TEMPORAL
        first_output = self.highest_output + 1
        self._began_output = first_output
        self.first_number = packet.number
        self._runs.append(self._run(first_output, packet.number, first_output - packet.number, stream))
        self.running = True
        self.needs_key_frame = False

    def _run(self, first_output: int, first_number: int, offset: int, stream: Stream) -> Run:
        return Run(
            first_output,
            first_number,
            offset,
            stream,
            self.timestamp_offset,
            self._picture_offset,
            self._tl0_offset,
        )

    def _take_stream(self, stream: Stream, packet: CachedPacket) -> None:
        """Go on with another stream, on the timeline of the one before."""
        if self.stream is not None and self in self.stream.routes:
            self.stream.routes.remove(self)
        if self.counters.packets:
            self._align(stream, packet)
        self.stream = stream
        self.next_stream = self.next_shift = None

    def _align(self, stream: Stream, packet: CachedPacket) -> None:
        """Timestamps follow those sent before, as sender reports say, else by the time that passed.

        The present stream went on until this key frame came, and may already have shown a later moment. Time never
        goes back for the subscriber: the new stream then runs late by a few frames, and its reports say so.
        """
        rate = stream.spec.clock_rate
        if self.next_shift is not None:
            offset = self.timestamp_offset - self._skew + self.next_shift
            ahead = timestamp_delta((packet.header.timestamp + offset) & 0xFFFF_FFFF, self.counters.last_timestamp)
            if abs(ahead) < SHIFT_MAX_S * rate:
                self._skew = max(0, 1 - ahead)
                self.timestamp_offset = (offset + self._skew) & 0xFFFF_FFFF
                return
        elapsed_ns = max(packet.arrival_ns - self.counters.last_sent_ns, 0)
        elapsed = max(elapsed_ns * rate // 1_000_000_000, 1)
        wanted = self.counters.last_timestamp + elapsed
        self._skew = 0
        self.timestamp_offset = (wanted - packet.header.timestamp) & 0xFFFF_FFFF

    def _go_on_counting(self, layer: Vp8Descriptor | None) -> None:
        """A key frame takes the next picture numbers after those sent."""
        last, run = self._newest_layer, self._newest_run
        if last is not None and run is not None and layer is not None:
            self._picture_offset = (last.picture + run.picture_offset + 1 - layer.picture) & PICTURE_MASK
            self._tl0_offset = (last.tl0 + run.tl0_offset + 1 - layer.tl0) & 0xFF

    # --- temporal layers

    def set_layers(self, temporal_max: int) -> None:
        """Leave out what is above ``temporal_max``, from the next frame on that allows it."""
        self._temporal_max = temporal_max
        self.filters = self.filters or temporal_max < ALL_TEMPORAL
        if not self.running:
            self._temporal = temporal_max

    def keeps(self, packet: CachedPacket) -> bool:
        """Whether the packet is of a temporal layer that the subscriber takes."""
        layer = packet.layer
        if layer is None:
            return True
        run = self._runs[-1]
        if (
            layer.begins_frame
            and packet.number >= run.first_number
            and packet.number + run.offset > self.highest_output
        ):
            if packet.begins_key_frame or self._temporal > self._temporal_max:
                self._temporal = self._temporal_max
            elif layer.sync and layer.temporal == self._temporal + 1 <= self._temporal_max:
                self._temporal += 1
            self.filters = self._temporal < ALL_TEMPORAL or self._temporal_max < ALL_TEMPORAL
        return layer.temporal <= self._temporal

    def leave_out(self, packet: CachedPacket) -> int | None:
        """Close the gap that the packet leaves; the output number to fill where that is too late, None: none."""
        number, layer = packet.number, packet.layer
        run = self._runs[-1]
        output = number + run.offset
        if number < run.first_number or output <= self.highest_output:
            late = self._run_with(number)
            if late is None:
                return None
            self.highest_output = max(self.highest_output, number + late.offset)
            return number + late.offset
        if layer is not None and layer.picture != self._left_picture:
            self._left_picture = layer.picture
            self._picture_offset = (self._picture_offset - 1) & PICTURE_MASK
        if number == run.first_number:
            self._runs.pop()  # nothing went out in it
        self._runs.append(self._run(output, number + 1, run.offset - 1, run.stream))
        return None

    def _run_with(self, number: int) -> Run | None:
        """The run of the present chain that a continuous number falls into."""
        return next((run for run in reversed(self._runs) if run.first_number <= number), None)

    def render(self, packet: CachedPacket, buffer: PacketBuffer) -> int:
        """Write ``packet`` as the subscriber sees it; the length, or −1: too large. Its payload type is mapped."""
        number = packet.number
        run: Run | None = self._runs[-1]
        if run is None or number < run.first_number:
            run = self._run_with(number)
            if run is None:
                return -1
        self.rendered = output = number + run.offset
        if output > self.highest_output:
            self.highest_output = output
            self._newest_layer, self._newest_run = packet.layer, run
        header = packet.header
        second = self.payload_types[header.payload_type] | (0x80 if header.marker else 0)
        return self._write(packet, run, buffer, second, output, self.spec.ssrc, b"")

    def render_again(self, sequence: int, buffer: PacketBuffer, now_ns: int) -> int:
        """Write the packet sent as ``sequence`` once more, as RTX where negotiated.

        The length; 0: sent again less than a round trip ago, or still asked for from its sender and forwarded when it
        comes; −1: the cache does not hold it.
        """
        output = self.highest_output + ((sequence - self.highest_output + 0x8000) & 0xFFFF) - 0x8000
        run = next((run for run in reversed(self._runs) if run.first_output <= output), None)
        if run is None or output > self.highest_output:
            return -1
        if self.paused or (self.transport.pacer.rate_bps is not None and output < self._began_output):
            return 0  # a key frame comes or came after it, and the path is thin
        if output > self.highest_sent:
            return 0  # it waits in the pacer
        packet = run.stream.cache.get(output - run.offset, now_ns)
        if packet is None:
            return 0 if run.stream.awaits(output - run.offset) else -1
        if packet.layer is not None and packet.layer.temporal > self._temporal:
            return 0  # left out: its place was filled, or nobody needs it any more
        payload_type = self.payload_types[packet.header.payload_type]
        if payload_type < 0:
            return -1
        slot = output & RESENT - 1
        last_output, last_ns = self._resent[slot]
        rtx_type = self.spec.rtx_payload_types.get(payload_type) if self.spec.rtx_ssrc is not None else None
        if last_output == output and last_ns == FILLED_NS:
            return -1  # its place has another packet's bytes: two under one SRTP index break AES-GCM
        if last_output == output and now_ns - last_ns < max(self.transport.round_trip_ns, RESEND_INTERVAL_MIN_NS):
            return 0
        if rtx_type is None and output <= self.highest_output - RESENT:
            return -1  # it is forgotten which places were filled
        self._resent[slot] = (output, now_ns)
        header, spec = packet.header, self.spec
        marker = 0x80 if header.marker else 0
        if rtx_type is None or spec.rtx_ssrc is None:
            if spec.transport_cc_id is not None and self.number_of(output) is None:
                return -1  # another number would make other bytes of the same SRTP index, which breaks AES-GCM
            self.rendered = output
            return self._write(packet, run, buffer, payload_type | marker, output, spec.ssrc, b"")
        self._rtx_sequence += 1
        original = (output & 0xFFFF).to_bytes(2, "big")
        return self._write(packet, run, buffer, rtx_type | marker, self._rtx_sequence, spec.rtx_ssrc, original)

    def note_number(self, output: int, number: int) -> None:
        """Without RTX, a packet is sent again with the transport-wide number that it had: with the same bytes."""
        self._numbers[output & NUMBERS - 1] = output << 16 | number

    def number_of(self, output: int) -> int | None:
        """What was noted of an output number; None: nothing, or too long ago."""
        noted = self._numbers[output & NUMBERS - 1] if self._numbers else -1
        return noted & 0xFFFF if noted >> 16 == output else None

    def render_probe(self, output: int, buffer: PacketBuffer, now_ns: int) -> int:
        """Write an earlier packet once more as RTX, or ``PADDING_BYTES`` of padding; the length, 0: no RTX here."""
        spec = self.spec
        rtx_type = next(iter(spec.rtx_payload_types.values()), None)
        if rtx_type is None or spec.rtx_ssrc is None:
            return 0
        run = next((run for run in reversed(self._runs) if run.first_output <= output), None)
        packet = None if run is None else run.stream.cache.get(output - run.offset, now_ns)
        payload_type = -1 if packet is None else self.payload_types[packet.header.payload_type]
        self._rtx_sequence += 1
        if run is None or packet is None or payload_type not in spec.rtx_payload_types:
            return self._write_padding(buffer, rtx_type, spec.rtx_ssrc, self._rtx_sequence, PADDING_BYTES)
        second = spec.rtx_payload_types[payload_type] | (0x80 if packet.header.marker else 0)
        original = (output & 0xFFFF).to_bytes(2, "big")
        return self._write(packet, run, buffer, second, self._rtx_sequence, spec.rtx_ssrc, original)

    def render_filler(self, output: int, payload_type: int, buffer: PacketBuffer) -> int:
        """Write an empty packet in the place of one that is left out after later ones went out; the length."""
        spec, sent_type = self.spec, self.payload_types[payload_type]
        if spec.rtx_ssrc is None or sent_type not in spec.rtx_payload_types:
            self._resent[output & RESENT - 1] = (output, FILLED_NS)
        return self._write_padding(buffer, sent_type, spec.ssrc, output, 1)

    def _write_padding(self, buffer: PacketBuffer, payload_type: int, ssrc: int, sequence: int, padding: int) -> int:
        """A packet of padding only (RFC 3550 §5.1), which receivers count and forget."""
        block = self._fixed_block
        at = 12 + len(block)
        end = at + padding
        first = 0xB0 if block else 0xA0
        timestamp = self.counters.last_timestamp
        pack_head_into(buffer.data, 0, first, payload_type, sequence & 0xFFFF, timestamp, ssrc)
        buffer.view[12:end] = block + bytes(padding - 1) + bytes((padding,))
        return end

    def rewind(self) -> None:
        """What waited in the pacer will not be sent: its numbers, which were never encrypted under, are free again."""
        self.highest_output = self.highest_sent

    def count(self, packet: CachedPacket, stream: StreamHandle) -> None:
        """``packet`` of ``stream`` was sent, just rendered."""
        counters, counts, header = self.counters, self.gate.counts, packet.header
        counts[stream] = counts.get(stream, 0) + 1
        counters.packets += 1
        counters.octets += header.payload_end - header.payload_start
        self.again_bytes = min(self.again_bytes + len(packet.data), AGAIN_BYTES_MAX)
        counters.last_sent_ns = packet.arrival_ns
        if self.rendered >= self.highest_output:
            counters.sequence = self.rendered
            counters.last_timestamp = (header.timestamp + self.timestamp_offset) & 0xFFFF_FFFF

    def _write(
        self,
        packet: CachedPacket,
        run: Run,
        buffer: PacketBuffer,
        second: int,
        sequence: int,
        ssrc: int,
        prefix: bytes,
    ) -> int:
        data, header, elements = packet.data, packet.header, packet.elements
        block = self._fixed_block
        ids = self._extension_ids
        if ids and elements:
            mapped = [(ids[key], data[at : at + size]) for key, at, size in elements if key in ids]
            if mapped:
                block = pack_extensions(self._fixed + mapped)
        if prefix:
            block += prefix
        at = 12 + len(block)
        start = header.payload_start
        end = at + header.payload_end - start
        if end > PACKET_BYTES_MAX:
            return -1
        first = 0x90 if len(block) > len(prefix) else 0x80
        timestamp = (header.timestamp + run.timestamp_offset) & 0xFFFF_FFFF
        pack_head_into(buffer.data, 0, first, second, sequence & 0xFFFF, timestamp, ssrc)
        view = buffer.view
        view[12:at] = block
        view[at:end] = data[start:]
        if (run.picture_offset or run.tl0_offset) and packet.layer is not None:
            rewrite_vp8(buffer.data, at, packet.layer, run.picture_offset, run.tl0_offset)
        return end
