"""The plane in plain Python: the readable reference, and what runs where no native one was built.

``drain`` receives a chunk of datagrams into fixed buffers, then handles each in place: libsrtp decrypts the buffer, one
``bytes`` object per packet goes into its stream's cache, and each route renders from there into one shared buffer
that libsrtp encrypts and the socket sends. Arrival times are the kernel's, so that a busy loop does not look like a
congested network.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Final

from relay.plane import (
    ALL_TEMPORAL,
    Address,
    DropReason,
    GateHandle,
    RouteCounters,
    RouteHandle,
    RouteSpec,
    SentPacket,
    SentRun,
    SocketHandle,
    SpoolSink,
    SrtpProfile,
    StreamCounters,
    StreamHandle,
    StreamSpec,
    TransportHandle,
    Upcall,
)
from relay.plane_packets import PacketPath
from relay.plane_routes import Gate, Route
from relay.plane_sockets import AnySocket, MediaSocket
from relay.plane_streams import ADDRESSES_MAX, Stream, Transport
from relay.plane_tcp import TcpSocket
from relay.srtp import PacketBuffer, SrtpContext

CHUNK: Final = 64
"""Datagrams received before the first of them is handled."""


class PythonPlane:
    """Implements ``relay.plane.Plane``; its docstrings hold here."""

    name = "python"

    def __init__(self) -> None:
        self._handles = itertools.count(1)
        self._sockets: dict[int, AnySocket] = {}
        self._transports: dict[int, Transport] = {}
        self._streams: dict[int, Stream] = {}
        self._routes: dict[int, Route] = {}
        self._gates: dict[int, Gate] = {}
        self._tapped = Transport(TransportHandle(0))  # what taps have for a transport
        self._ungated = Gate(GateHandle(0), open=True)
        self._path = PacketPath(self._sockets)
        self._buffers = [PacketBuffer() for _ in range(CHUNK)]

    # --- sockets

    def bind(self, address: Address) -> tuple[SocketHandle, Address]:
        handle = SocketHandle(next(self._handles))
        socket = MediaSocket(handle, address)
        self._sockets[handle] = socket
        return handle, socket.address

    def bind_tcp(self, address: Address) -> tuple[SocketHandle, Address]:
        handle = SocketHandle(next(self._handles))
        socket = TcpSocket(handle, address)
        self._sockets[handle] = socket
        return handle, socket.address

    def unbind(self, socket: SocketHandle) -> None:
        self._sockets.pop(socket).close()

    def fileno(self, socket: SocketHandle) -> int:
        return self._sockets[socket].fileno()

    def drain(self, now_ns: int, *, batch_max: int = 256) -> list[Upcall]:
        path = self._path
        path.begin(now_ns)
        ahead_ns = now_ns - time.monotonic_ns()
        for socket in self._sockets.values():
            left = batch_max
            while True:
                chunk = min(left, CHUNK)
                batch = socket.receive(self._buffers[:chunk], now_ns)
                for received in batch:
                    path.receive(socket, received)
                left -= chunk
                if len(batch) < chunk or left <= 0:
                    break
                # What leaves next leaves later: its receiver must not see a delay.
                path.now_ns = max(path.now_ns, time.monotonic_ns() + ahead_ns)
        return path.take_upcalls()

    def send(self, socket: SocketHandle, address: Address, datagrams: Sequence[bytes]) -> None:
        media_socket = self._sockets[socket]
        for datagram in datagrams:
            if not media_socket.send(datagram, address):
                self._path.drops[DropReason.SEND_FAILED] += 1

    def next_timer_ns(self) -> int | None:
        return self._path.next_timer_ns()

    def run_timers(self, now_ns: int) -> list[Upcall]:
        self._path.begin(now_ns)
        self._path.run_timers(now_ns)
        return self._path.take_upcalls()

    # --- transports

    def add_transport(self) -> TransportHandle:
        handle = TransportHandle(next(self._handles))
        self._transports[handle] = Transport(handle)
        return handle

    def map_address(self, transport: TransportHandle, socket: SocketHandle, address: Address) -> None:
        owner = self._transports[transport]
        by_address = self._sockets[socket].by_address
        earlier = by_address.get(address)
        key = (socket, address)
        if earlier is not None:
            earlier.addresses.pop(key, None)
        by_address[address] = owner
        owner.addresses[key] = None
        if len(owner.addresses) > ADDRESSES_MAX:
            remote = (owner.socket, owner.remote)
            oldest = next(key for key in owner.addresses if key != remote)
            del owner.addresses[oldest]
            self._sockets[oldest[0]].by_address.pop(oldest[1], None)

    def set_remote(self, transport: TransportHandle, socket: SocketHandle, address: Address) -> None:
        owner = self._transports[transport]
        owner.socket, owner.remote = socket, address

    def set_keys(self, transport: TransportHandle, profile: SrtpProfile, receive_key: bytes, send_key: bytes) -> None:
        owner = self._transports[transport]
        owner.receive = SrtpContext(profile, receive_key, inbound=True)
        owner.send = SrtpContext(profile, send_key, inbound=False)

    def remove_transport(self, transport: TransportHandle) -> None:
        gone = self._transports.pop(transport, None)
        if gone is None:
            return
        for stream in list(gone.streams.values()):
            self.remove_stream(stream.handle)
        for route in list(gone.routes.values()):
            self.remove_route(route.handle)
        for socket, address in gone.addresses:
            self._sockets[socket].by_address.pop(address, None)
        self._path.forget_transport(gone)

    def last_heard_ns(self, transport: TransportHandle) -> int:
        return self._transports[transport].last_heard_ns

    def set_round_trip(self, transport: TransportHandle, round_trip_ns: int) -> None:
        self._transports[transport].round_trip_ns = round_trip_ns

    def send_rtcp(self, transport: TransportHandle, compound: bytes) -> None:
        self._path.send_rtcp(self._transports[transport], compound)

    # --- streams and routes

    def add_stream(self, transport: TransportHandle, spec: StreamSpec) -> StreamHandle:
        owner = self._transports[transport]
        handle = StreamHandle(next(self._handles))
        replaced = owner.streams.get(spec.ssrc)
        if replaced is not None:
            self.remove_stream(replaced.handle)
        self._streams[handle] = owner.streams[spec.ssrc] = Stream(handle, owner, spec)
        owner.index_streams()
        self._path.announce(owner)
        return handle

    def update_stream(self, stream: StreamHandle, spec: StreamSpec) -> None:
        updated = self._streams[stream]
        updated.set_spec(spec)
        updated.transport.index_streams()
        self._path.announce(updated.transport)

    def remove_stream(self, stream: StreamHandle) -> None:
        gone = self._streams.pop(stream, None)
        if gone is None:
            return
        gone.transport.streams.pop(gone.spec.ssrc, None)
        gone.transport.index_streams()
        for route in gone.routes:
            if route.stream is gone:
                route.stream = None
                route.stop(needs_key_frame=route.needs_key_frame)
            if route.next_stream is gone:
                route.next_stream = None
        gone.routes.clear()
        gone.cache.clear()
        gone.missing.clear()
        gone.spool = None
        self._path.forget_stream(gone)

    def stream_counters(self, stream: StreamHandle) -> StreamCounters:
        return self._streams[stream].counters

    def last_arrival_ns(self, stream: StreamHandle) -> int:
        return self._streams[stream].counters.last_arrival_ns

    def add_route(
        self, stream: StreamHandle, transport: TransportHandle, gate: GateHandle, spec: RouteSpec
    ) -> RouteHandle:
        source, target, through = self._streams[stream], self._transports[transport], self._gates[gate]
        handle = RouteHandle(next(self._handles))
        route = Route(handle, source, target, through, spec)
        self._routes[handle] = target.routes[handle] = through.routes[handle] = route
        source.routes.append(route)
        through.trim()
        if route.needs_key_frame:
            self._path.want_key_frame(source)
        return handle

    def update_route(self, route: RouteHandle, spec: RouteSpec) -> None:
        updated = self._routes[route]
        if spec != updated.spec:  # the same again must not cost what could still be sent again
            updated.set_spec(spec)

    def switch_route(self, route: RouteHandle, stream: StreamHandle, timestamp_shift: int | None = None) -> None:
        switched, new = self._routes[route], self._streams[stream]
        switched.next_shift = timestamp_shift
        if switched.next_stream is new:
            return
        if switched.next_stream is not None:
            switched.next_stream.routes.remove(switched)
            switched.next_stream = None
        if new is switched.stream:
            return
        new.routes.append(switched)
        if switched.counters.packets or switched.running:  # begun, though nothing of it may have gone out
            switched.next_stream = new
        else:
            if switched.stream is not None:
                switched.stream.routes.remove(switched)
            switched.stream = new
        self._path.want_key_frame(new)

    def route_stream(self, route: RouteHandle) -> StreamHandle | None:
        stream = self._routes[route].stream
        return None if stream is None else stream.handle

    def set_route_layers(self, route: RouteHandle, temporal_max: int) -> None:
        self._routes[route].set_layers(max(0, min(temporal_max, ALL_TEMPORAL)))

    def add_tap(self, stream: StreamHandle, spec: RouteSpec, sink: SpoolSink) -> RouteHandle:
        source = self._streams[stream]
        handle = RouteHandle(next(self._handles))
        route = Route(handle, source, self._tapped, self._ungated, spec)
        route.sink = sink
        self._routes[handle] = route
        source.routes.append(route)
        self._ungated.trim()
        if route.needs_key_frame:
            self._path.want_key_frame(source)
        return handle

    def remove_route(self, route: RouteHandle) -> None:
        gone = self._routes.pop(route, None)
        if gone is None:
            return
        gone.removed = True
        gone.transport.routes.pop(route, None)
        gone.gate.routes.pop(route, None)
        for stream in (gone.stream, gone.next_stream):
            if stream is not None:
                stream.routes.remove(gone)

    def route_counters(self, route: RouteHandle) -> RouteCounters:
        return self._routes[route].counters

    def map_timestamp(self, route: RouteHandle, timestamp: int) -> int:
        return (timestamp + self._routes[route].timestamp_offset) & 0xFFFF_FFFF

    def resend(self, route: RouteHandle, sequences: Sequence[int], now_ns: int) -> list[int]:
        resent = self._routes[route]
        if not resent.gate.open:
            self._path.drops[DropReason.GATE_CLOSED] += len(sequences)
            return []
        return [sequence for sequence in sequences if not self._path.resend(resent, sequence, now_ns)]

    def pause_route(self, route: RouteHandle, *, paused: bool) -> None:
        changed = self._routes[route]
        if changed.paused == paused:
            return
        changed.paused = paused
        stream = changed.next_stream or changed.stream
        if paused:
            changed.transport.pacer.drop(changed)
            changed.rewind()
        video = stream is not None and stream.is_video
        changed.stop(needs_key_frame=video or changed.needs_key_frame)
        if not paused and stream is not None:
            self._path.want_key_frame(stream)

    # --- congestion control

    def sent_packets(self, transport: TransportHandle, base_sequence: int, count: int) -> list[SentPacket | None]:
        get = self._transports[transport].sent.get
        return [get((base_sequence + i) & 0xFFFF) for i in range(count)]

    def sent_run(
        self, transport: TransportHandle, base_sequence: int, origin_ns: int, deltas: Sequence[int | None], unit_ns: int
    ) -> SentRun | None:
        sent = self.sent_packets(transport, base_sequence, len(deltas))
        arrivals: list[tuple[SentPacket, int]] = []
        at_ns = origin_ns
        for packet, delta in zip(sent, deltas, strict=True):
            if packet is None or packet.cluster or delta is None:
                return None
            at_ns += delta * unit_ns
            arrivals.append((packet, at_ns))
        if not arrivals:
            return None
        delays = [arrival_ns - packet.sent_ns for packet, arrival_ns in arrivals]
        return SentRun(
            first=arrivals[0][0].number,
            packets=len(arrivals),
            size_bytes=sum(packet.size_bytes for packet, _ in arrivals),
            last_sent_ns=max(packet.sent_ns for packet, _ in arrivals),
            last_arrival_ns=max(arrival_ns for _, arrival_ns in arrivals),
            least_ns=min(delays),
            most_ns=max(delays),
            newest_ns=delays[-1],
        )

    def probe(self, route: RouteHandle, rate_bps: int, size_bytes: int, cluster: int, now_ns: int) -> int:
        probing = self._routes[route]
        if probing.spec.rtx_ssrc is None or not probing.spec.rtx_payload_types or probing.spec.transport_cc_id is None:
            return 0
        self._path.now_ns = max(self._path.now_ns, now_ns)
        self._path.probe(probing, rate_bps, size_bytes, cluster)
        return size_bytes

    def set_pace(self, transport: TransportHandle, rate_bps: int | None) -> None:
        self._transports[transport].pacer.rate_bps = rate_bps

    # --- gates

    def add_gate(self, *, open: bool) -> GateHandle:
        handle = GateHandle(next(self._handles))
        self._gates[handle] = Gate(handle, open=open)
        return handle

    def set_gate(self, gate: GateHandle, *, open: bool) -> None:
        changed = self._gates[gate]
        if changed.open == open:
            return
        changed.open = open
        for route in changed.routes.values():
            stream = route.stream
            video = stream is not None and stream.is_video
            if route.transport.pacer.drop(route):
                route.rewind()
            route.stop(needs_key_frame=video or route.needs_key_frame)
            if open and stream is not None:
                self._path.want_key_frame(stream)

    def gate_counters(self, gate: GateHandle) -> dict[StreamHandle, int]:
        return dict(self._gates[gate].counts)

    def remove_gate(self, gate: GateHandle) -> None:
        gone = self._gates.pop(gate, None)
        if gone is not None:
            gone.open = False

    # --- recording, timed sends, observation

    def set_spool(self, stream: StreamHandle, sink: SpoolSink | None) -> None:
        self._streams[stream].spool = sink

    def send_at(self, route: RouteHandle, packet: bytes, at_ns: int) -> None:
        self._path.send_at(self._routes[route], packet, at_ns)

    def drops(self) -> dict[DropReason, int]:
        return dict(self._path.drops)

    def close(self) -> None:
        for transport in list(self._transports):
            self.remove_transport(TransportHandle(transport))
        for socket in self._sockets.values():
            socket.close()
        self._sockets.clear()
