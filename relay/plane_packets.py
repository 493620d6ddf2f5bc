"""The Python plane's way of one packet: classify, decrypt, accept, forward; and the feedback that follows from it."""

from __future__ import annotations

import random
import struct
from typing import Final

from relay.feedback import FEEDBACK_EARLY_NS
from relay.pacer import Paced
from relay.packet_cache import CachedPacket
from relay.plane import Address, DropReason, Upcall, UpcallKind
from relay.plane_routes import Route
from relay.plane_sending import SendingPath
from relay.plane_sockets import AnySocket, Received
from relay.plane_streams import HELD_MAX, STREAMS_MAX, Stream, Transport
from relay.rtcp import is_rtcp, pack_nack
from relay.rtp import Buffer, read_extensions, read_header, unwrap_rtx
from relay.srtp import SrtpContext, SrtpStatus

UPCALLS_MAX: Final = 4_096
"""Upcalls waiting for ``drain`` or ``run_timers`` to hand them over; the newest are dropped beyond it."""
STRANGERS_MAX: Final = 1_024
"""Of these, what addresses that belong to no transport may fill: they cannot crowd out the others'."""
KEY_FRAME_INTERVAL_NS: Final = 200_000_000
_NOWHERE: Final[Address] = ("", 0)
_HEADER_BYTES: Final = 12
_SSRC: Final = struct.Struct("!I")


class PacketPath(SendingPath):
    """All per-packet work. It changes streams and routes, and creates or removes none."""

    def __init__(self, sockets: dict[int, AnySocket]) -> None:
        """``sockets``: the plane's, by handle."""
        super().__init__(sockets)
        self._upcalls: list[Upcall] = []
        self._announced: dict[int, Transport] = {}  # transports with held packets whose stream may be known now
        self._nacking: dict[Stream, None] = {}  # in order, so that the same input makes the same output
        self._telling: dict[Transport, None] = {}
        self._ssrc = random.getrandbits(31) | 1  # names us in the feedback that the plane itself sends

    # --- in

    def receive(self, socket: AnySocket, received: Received) -> None:
        """Take one datagram; what it is shows in the first byte (RFC 7983)."""
        buffer, length, address, arrival_ns = received
        if length <= 0:
            self.drops[DropReason.EMPTY if length == 0 else DropReason.TOO_LARGE] += 1
            return
        transport = socket.by_address.get(address)
        first = buffer.data[0]
        if 128 <= first < 192:
            if transport is None:
                self.drops[DropReason.UNKNOWN_ADDRESS] += 1
            elif transport.receive is None:
                self.drops[DropReason.NO_KEYS] += 1
            elif length < _HEADER_BYTES:
                self.drops[DropReason.MALFORMED_RTP] += 1
            elif is_rtcp(buffer.data[1]):
                self._receive_rtcp(socket, transport, transport.receive, received)
            else:
                self._receive_rtp(socket, transport, transport.receive, received)
        elif first < 4 or 20 <= first < 64:
            kind = UpcallKind.STUN if first < 4 else UpcallKind.DTLS
            handle = 0 if transport is None else transport.handle
            self._call_up(Upcall(kind, handle, socket.handle, address, bytes(buffer.view[:length]), arrival_ns))
        else:
            self.drops[DropReason.UNKNOWN_KIND] += 1

    def _receive_rtcp(self, socket: AnySocket, transport: Transport, context: SrtpContext, received: Received) -> None:
        buffer, length, address, arrival_ns = received
        ssrc: int = _SSRC.unpack_from(buffer.data, 4)[0]
        if not transport.may_hear(ssrc):
            self.drops[DropReason.STREAMS_FULL] += 1
            return
        length = context.unprotect_rtcp(buffer, length)
        if length < 0:
            self.drops[_UNPROTECT_DROPS[length]] += 1
            return
        transport.authentic.add(ssrc)
        transport.last_heard_ns = arrival_ns
        data = bytes(buffer.view[:length])
        self._call_up(Upcall(UpcallKind.RTCP, transport.handle, socket.handle, address, data, arrival_ns))

    def _receive_rtp(self, socket: AnySocket, transport: Transport, context: SrtpContext, received: Received) -> None:
        buffer, length, address, arrival_ns = received
        ssrc: int = _SSRC.unpack_from(buffer.data, 8)[0]
        known = ssrc in transport.streams or ssrc in transport.repairs
        if not transport.may_hear(ssrc) or not (known or self._may_hold(transport, ssrc)):
            self.drops[DropReason.STREAMS_FULL] += 1
            return
        length = context.unprotect(buffer, length)
        if length < 0:
            self.drops[_UNPROTECT_DROPS[length]] += 1
            return
        transport.authentic.add(ssrc)
        transport.last_heard_ns = arrival_ns
        if known:
            self._take(transport, ssrc, buffer.view, length, arrival_ns)
            return
        data = bytes(buffer.view[:length])
        transport.ssrcs_heard.add(ssrc)
        if transport.transport_cc_id and (header := read_header(data, length)) is not None:
            # Told now: if nobody ever announces the stream, its packets must not look lost.
            self._note_arrival(transport, data, read_extensions(data, header), arrival_ns)
        transport.held.append((ssrc, data, arrival_ns))
        if len(transport.held) > HELD_MAX:
            transport.held.popleft()
            self.drops[DropReason.UNKNOWN_SSRC] += 1
        self._call_up(Upcall(UpcallKind.UNKNOWN_RTP, transport.handle, socket.handle, address, data, arrival_ns))

    def _may_hold(self, transport: Transport, ssrc: int) -> bool:
        """Whether there is room for one more SSRC that nobody has announced."""
        heard = transport.ssrcs_heard
        return ssrc in heard or len(heard) + len(transport.streams) < STREAMS_MAX

    def announce(self, transport: Transport) -> None:
        """A stream was added: packets held for it are handled at the next call, when its routes are there too."""
        if transport.held:
            self._announced[transport.handle] = transport

    def _take_held(self) -> None:
        while self._announced:
            _, transport = self._announced.popitem()
            held = list(transport.held)
            transport.held.clear()
            for ssrc, data, arrival_ns in held:
                if ssrc in transport.streams or ssrc in transport.repairs:
                    self._take(transport, ssrc, data, len(data), arrival_ns, held=True)
                else:
                    transport.held.append((ssrc, data, arrival_ns))

    def _take(
        self, transport: Transport, ssrc: int, packet: Buffer, length: int, arrival_ns: int, *, held: bool = False
    ) -> None:
        """Accept one decrypted packet of a known stream, or its RTX, and forward it."""
        header = read_header(packet, length)
        if header is None:
            self.drops[DropReason.MALFORMED_RTP] += 1
            return
        elements = read_extensions(packet, header) if header.extensions_start else []
        if transport.transport_cc_id and not held:
            self._note_arrival(transport, packet, elements, arrival_ns)
        stream = transport.streams.get(ssrc)
        repaired = stream is None
        if stream is None:
            stream = transport.repairs[ssrc]
            repaired_type = stream.spec.rtx_payload_types.get(header.payload_type)
            if repaired_type is None:
                self.drops[DropReason.RTX_WITHOUT_STREAM] += 1
                return
            data = unwrap_rtx(packet, header, repaired_type, stream.spec.ssrc)
            header = None if data is None else read_header(data, len(data))
            if data is None or header is None:
                self.drops[DropReason.PADDING_ONLY] += 1
                return
        else:
            data = bytes(packet[: header.payload_end])
            if data[0] & 0x20:
                data = bytes((data[0] & 0xDF,)) + data[1:]
        accepted = stream.accept(data, header, elements, arrival_ns, repaired=repaired)
        if stream.holes_given_up:
            stream.holes_given_up = False
            self.want_key_frame(stream)
        if stream.missing:
            self._nacking[stream] = None
        if isinstance(accepted, DropReason):
            self.drops[accepted] += 1
            return
        for route in stream.routes:
            self._forward(route, stream, accepted)

    def _note_arrival(
        self, transport: Transport, packet: Buffer, elements: list[tuple[int, int, int]], arrival_ns: int
    ) -> None:
        wanted = transport.transport_cc_id
        for key, at, size in elements:
            if key == wanted and size >= 2:
                transport.arrivals.note(packet[at] << 8 | packet[at + 1], arrival_ns)
                self._telling[transport] = None
                return

    # --- out

    def _forward(self, route: Route, stream: Stream, packet: CachedPacket) -> None:
        transport = route.transport
        if not route.gate.open:
            self.drops[DropReason.GATE_CLOSED] += 1
            return
        if route.paused:
            self.drops[DropReason.ROUTE_PAUSED] += 1
            return
        if route.sink is None and (transport.send is None or transport.remote is None):
            reason = DropReason.NO_KEYS if transport.send is None else DropReason.NO_REMOTE_ADDRESS
            self.drops[reason] += 1
            return
        if route.payload_types[packet.header.payload_type] < 0:
            self.drops[DropReason.PAYLOAD_TYPE_UNMAPPED] += 1
            return
        if route.running and stream is route.stream:
            if packet.number < route.first_number:  # reordered from before the run
                self.drops[DropReason.WAITING_FOR_KEY_FRAME] += 1
                return
            if route.filters and not route.keeps(packet):
                self._leave_out(route, packet)
                return
        elif packet.begins_key_frame or (stream is route.stream and not route.needs_key_frame):
            route.begin_run(stream, packet)
        else:
            self.drops[DropReason.WAITING_FOR_KEY_FRAME] += 1
            self.want_key_frame(stream)
            return
        length = route.render(packet, self._out)
        if length < 0:
            self.drops[DropReason.TOO_LARGE] += 1
        elif route.sink is not None:
            route.sink(stream.handle, packet.arrival_ns, bytes(self._out.view[:length]))
            route.count(packet, stream.handle)
        elif stream.is_video and not transport.pacer.may_pass(self.now_ns):
            if self._wait(route, stream, length, route.rendered):
                route.count(packet, stream.handle)
        else:
            route.highest_sent = route.highest_output
            if self._send_out(transport, length):
                if route.repeats:
                    route.note_number(route.rendered, self._number)
                route.count(packet, stream.handle)

    def _leave_out(self, route: Route, packet: CachedPacket) -> None:
        """A frame above the temporal layers that the subscriber takes: later ones move up, or its place is filled."""
        self.drops[DropReason.LAYER_LEFT_OUT] += 1
        place = route.leave_out(packet)
        if place is not None and route.sink is None and not route.transport.pacer:
            length = route.render_filler(place, packet.header.payload_type, self._out)
            self._send_out(route.transport, length)

    def _wait(self, route: Route, stream: Stream, length: int, output: int) -> bool:
        """Let the rendered packet wait in the pacer; False: too much waits, and all of the route's is dropped."""
        transport = route.transport
        if transport.pacer.push(Paced(route, bytes(self._out.view[:length]), output)):
            self._pacing[transport] = None
            return True
        self.drops[DropReason.PACER_FULL] += transport.pacer.drop(route) + 1
        route.rewind()
        route.stop(needs_key_frame=True)
        self.want_key_frame(stream)
        return False

    def resend(self, route: Route, sequence: int, now_ns: int) -> bool:
        """Answer a NACK for one number; False: the cache does not hold it."""
        if route.again_bytes <= 0:
            self.drops[DropReason.RESEND_OVER_BUDGET] += 1
            return True  # it is not lost, and may be asked for again
        length = route.render_again(sequence & 0xFFFF, self._out, now_ns)
        if length < 0:
            route.counters.not_in_cache += 1
            return False
        if length > 0:
            route.counters.retransmitted += 1
            route.again_bytes -= length
            if route.repeats:
                self._send_out(route.transport, length, number=route.number_of(route.rendered))
            elif route.transport.pacer.may_pass(now_ns):
                self._send_out(route.transport, length)
            else:
                route.transport.pacer.push_again(Paced(route, bytes(self._out.view[:length]), 0))
                self._pacing[route.transport] = None
        return True

    # --- what Python is told

    def want_key_frame(self, stream: Stream) -> None:
        """Ask Python for a key frame, at most once per ``KEY_FRAME_INTERVAL_NS`` and stream."""
        if not stream.is_video or self.now_ns - stream.key_asked_ns < KEY_FRAME_INTERVAL_NS:
            return
        stream.key_asked_ns = self.now_ns
        handle = stream.transport.handle
        self._call_up(Upcall(UpcallKind.KEY_FRAME_WANTED, handle, 0, _NOWHERE, b"", self.now_ns, stream.handle))

    def _call_up(self, upcall: Upcall) -> None:
        if len(self._upcalls) >= (UPCALLS_MAX if upcall.transport else STRANGERS_MAX):
            self.drops[DropReason.UPCALL_QUEUE_FULL] += 1
        else:
            self._upcalls.append(upcall)

    def begin(self, now_ns: int) -> None:
        """Before a batch or a timer: what waited comes first."""
        self.now_ns = now_ns
        if self._announced:
            self._take_held()

    def take_upcalls(self) -> list[Upcall]:
        """What came up since the last time."""
        upcalls, self._upcalls = self._upcalls, []
        return upcalls

    # --- timers

    def next_timer_ns(self) -> int | None:
        """When ``run_timers`` has something to do."""
        if self._upcalls or self._announced:
            return self.now_ns
        due = [stream.missing.due_ns for stream in self._nacking]
        due += [transport.arrivals.due_ns for transport in self._telling]
        due += [transport.pacer.due_ns for transport in self._pacing]
        if self._timed:
            due.append(self._timed[0][0])
        return min((at_ns for at_ns in due if at_ns is not None), default=None)

    def run_timers(self, now_ns: int) -> None:
        """Send the feedback and the timed packets that are due."""
        for stream in list(self._nacking):
            self._send_nacks(stream, now_ns)
        self._tell_arrivals(now_ns)
        while self._timed and self._timed[0][0] <= now_ns:
            self._send_timed()
        for transport in list(self._pacing):
            self._send_paced(transport, now_ns)

    def _tell_arrivals(self, now_ns: int) -> None:
        waiting = [(transport, transport.arrivals.due_ns) for transport in self._telling]
        is_due = any(due_ns is not None and due_ns <= now_ns for _, due_ns in waiting)
        for transport, due_ns in waiting:
            if due_ns is None:
                self._telling.pop(transport)
            elif due_ns <= (now_ns + FEEDBACK_EARLY_NS if is_due else now_ns):
                self._telling.pop(transport)
                for packet in transport.arrivals.take(self._ssrc, next(iter(transport.streams), 0)):
                    self.send_rtcp(transport, packet)

    def _send_nacks(self, stream: Stream, now_ns: int) -> None:
        due_ns = stream.missing.due_ns
        if due_ns is None:
            self._nacking.pop(stream, None)
        elif due_ns <= now_ns:
            asked, given_up = stream.missing.due(now_ns, stream.transport.round_trip_ns)
            if asked:
                stream.counters.nacks_sent += len(asked)
                sequences = [number & 0xFFFF for number in asked]
                self.send_rtcp(stream.transport, pack_nack(self._ssrc, stream.spec.ssrc, sequences))
            if given_up:
                self.want_key_frame(stream)

    def forget_stream(self, stream: Stream) -> None:
        """The stream is gone."""
        self._nacking.pop(stream, None)

    def forget_transport(self, transport: Transport) -> None:
        """The transport is gone."""
        self._telling.pop(transport, None)
        self._pacing.pop(transport, None)
        self._announced.pop(transport.handle, None)


_UNPROTECT_DROPS: Final[dict[int, DropReason]] = {
    SrtpStatus.REPLAYED: DropReason.REPLAYED,
    SrtpStatus.FAILED: DropReason.UNPROTECT_FAILED,
}
