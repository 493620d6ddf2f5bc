"""The sending half of the Python plane: a route is one stream on its way to one subscriber.

A route's output is a chain of *runs*: within a run, output number = continuous number + offset. A run begins with the
first packet after the gate opened, with a key frame where one is needed, or with another stream; it takes the next free
output number, so that the subscriber sees one unbroken stream, and no number ever carries two different packets.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final, NamedTuple

from relay.packet_cache import CachedPacket
from relay.plane import GateHandle, RouteCounters, RouteHandle, RouteSpec, StreamHandle
from relay.plane_streams import Stream, Transport
from relay.rtp import pack_extensions, pack_head_into
from relay.srtp import PACKET_BYTES_MAX, PacketBuffer

RUNS_MAX: Final = 8
"""Runs remembered to answer NACKs; those of older runs find nothing."""
RESENT: Final = 1_024
"""Slots that remember when a number was sent again. A power of two."""
RESEND_INTERVAL_MIN_NS: Final = 10_000_000
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
    """A stretch of output numbers."""

    first_output: int
    offset: int
    stream: Stream


class Route:
    """One stream towards one transport."""

    __slots__ = (
        "_extension_ids",
        "_fixed",
        "_fixed_block",
        "_resent",
        "_rtx_sequence",
        "_runs",
        "counters",
        "first_number",
        "gate",
        "handle",
        "highest_output",
        "highest_sent",
        "needs_key_frame",
        "next_stream",
        "offset",
        "paused",
        "payload_types",
        "removed",
        "running",
        "spec",
        "stream",
        "timestamp_offset",
        "transport",
    )

    def __init__(self, handle: RouteHandle, stream: Stream, transport: Transport, gate: Gate, spec: RouteSpec) -> None:
        self.handle = handle
        self.stream: Stream | None = stream
        self.next_stream: Stream | None = None
        self.transport = transport
        self.gate = gate
        self.counters = RouteCounters()
        self.running = False
        self.removed = False
        self.needs_key_frame = spec.wait_for_key_frame
        self.paused = False
        self.highest_output = random.getrandbits(15) + 0x10000  # RFC 3550 §5.1: starts at random
        self.highest_sent = self.highest_output
        """Below ``highest_output`` while packets wait in the pacer."""
        self.offset = 0
        self.first_number = 0
        self.timestamp_offset = random.getrandbits(32)
        self._runs: deque[Run] = deque(maxlen=RUNS_MAX)
        self._rtx_sequence = random.getrandbits(15)
        self._resent: list[tuple[int, int]] = [(-1, 0)] * RESENT
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
        first_output = self.highest_output + 1
        self.first_number = packet.number
        self.offset = first_output - packet.number
        self._runs.append(Run(first_output, self.offset, stream))
        self.running = True
        self.needs_key_frame = False

    def _take_stream(self, stream: Stream, packet: CachedPacket) -> None:
        """Go on with another stream: its timestamps follow ours by the time that passed."""
        if self.stream is not None and self.stream is not stream and self in self.stream.routes:
            self.stream.routes.remove(self)
        if self.stream is not stream and self.counters.packets:
            elapsed_ns = max(packet.arrival_ns - self.counters.last_sent_ns, 0)
            elapsed = max(elapsed_ns * stream.spec.clock_rate // 1_000_000_000, 1)
            wanted = self.counters.last_timestamp + elapsed
            self.timestamp_offset = (wanted - packet.header.timestamp) & 0xFFFF_FFFF
        self.stream = stream
        self.next_stream = None

    def render(self, packet: CachedPacket, buffer: PacketBuffer) -> int:
        """Write ``packet`` as the subscriber sees it; the length, or −1: too large. Its payload type is mapped."""
        output = packet.number + self.offset
        if output > self.highest_output:
            self.highest_output = output
        header = packet.header
        second = self.payload_types[header.payload_type] | (0x80 if header.marker else 0)
        return self._write(packet, buffer, second, output, self.spec.ssrc, b"")

    def render_again(self, sequence: int, buffer: PacketBuffer, now_ns: int) -> int:
        """Write the packet sent as ``sequence`` once more, as RTX where negotiated.

        The length; 0: sent again less than a round trip ago, or still asked for from its sender and forwarded when it
        comes; −1: the cache does not hold it.
        """
        output = self.highest_output + ((sequence - self.highest_output + 0x8000) & 0xFFFF) - 0x8000
        run = next((run for run in reversed(self._runs) if run.first_output <= output), None)
        if run is None or output > self.highest_output:
            return -1
        if output > self.highest_sent:
            return 0  # it waits in the pacer
        packet = run.stream.cache.get(output - run.offset, now_ns)
        if packet is None:
            return 0 if run.stream.awaits(output - run.offset) else -1
        payload_type = self.payload_types[packet.header.payload_type]
        if payload_type < 0:
            return -1
        slot = output & RESENT - 1
        last_output, last_ns = self._resent[slot]
        if last_output == output and now_ns - last_ns < max(self.transport.round_trip_ns, RESEND_INTERVAL_MIN_NS):
            return 0
        self._resent[slot] = (output, now_ns)
        header, spec = packet.header, self.spec
        marker = 0x80 if header.marker else 0
        rtx_type = spec.rtx_payload_types.get(payload_type)
        if rtx_type is None or spec.rtx_ssrc is None:
            if spec.transport_cc_id is not None:
                return -1  # its new number would make other bytes of the same SRTP index, which breaks AES-GCM
            return self._write(packet, buffer, payload_type | marker, output, spec.ssrc, b"")
        self._rtx_sequence += 1
        original = (output & 0xFFFF).to_bytes(2, "big")
        return self._write(packet, buffer, rtx_type | marker, self._rtx_sequence, spec.rtx_ssrc, original)

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
        if packet is None or payload_type not in spec.rtx_payload_types:
            return self._write_padding(buffer, rtx_type, spec.rtx_ssrc)
        second = spec.rtx_payload_types[payload_type] | (0x80 if packet.header.marker else 0)
        original = (output & 0xFFFF).to_bytes(2, "big")
        return self._write(packet, buffer, second, self._rtx_sequence, spec.rtx_ssrc, original)

    def _write_padding(self, buffer: PacketBuffer, payload_type: int, ssrc: int) -> int:
        """A packet of padding only (RFC 3550 §5.1), which receivers of RTX count and forget."""
        block = self._fixed_block
        at = 12 + len(block)
        end = at + PADDING_BYTES
        first = 0xB0 if block else 0xA0
        timestamp = self.counters.last_timestamp
        pack_head_into(buffer.data, 0, first, payload_type, self._rtx_sequence & 0xFFFF, timestamp, ssrc)
        buffer.view[12:end] = block + bytes(PADDING_BYTES - 1) + bytes((PADDING_BYTES,))
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
        counters.last_sent_ns = packet.arrival_ns
        output = packet.number + self.offset
        if output >= self.highest_output:
            counters.sequence = output
            counters.last_timestamp = (header.timestamp + self.timestamp_offset) & 0xFFFF_FFFF

    def _write(
        self,
        packet: CachedPacket,
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
        timestamp = (header.timestamp + self.timestamp_offset) & 0xFFFF_FFFF
        pack_head_into(buffer.data, 0, first, second, sequence & 0xFFFF, timestamp, ssrc)
        view = buffer.view
        view[12:at] = block
        view[at:end] = data[start:]
        return end
