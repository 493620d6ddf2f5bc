"""A peer of a plane: a UDP socket on loopback with real SRTP keys of its own, and a room of them."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field

from relay.plane import (
    GateHandle,
    Plane,
    RouteHandle,
    RouteSpec,
    SocketHandle,
    SrtpProfile,
    StreamHandle,
    StreamSpec,
    TransportHandle,
    Upcall,
)
from relay.rtcp import RtcpItem, is_rtcp, parse_compound
from relay.rtp import RtpHeader, get_extension, make_packet, read_header
from relay.srtp import SrtpContext

MS = 1_000_000
VP8_KEY = b"\x10" + b"\x10\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01"
VP8_DELTA = b"\x10" + b"\x11\x00\x00"
VP8_MORE = b"\x00" + b"\x55\x55"


@dataclass
class Rtp:
    """One packet that a peer received."""

    data: bytes
    header: RtpHeader

    @property
    def payload(self) -> bytes:
        return self.data[self.header.payload_start : self.header.payload_end]

    def extension(self, key: int) -> bytes | None:
        return get_extension(self.data, self.header, key)


class Peer:
    """The far end of one transport."""

    def __init__(self, world: World, profile: SrtpProfile = SrtpProfile.AEAD_AES_128_GCM) -> None:
        self.world = world
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.address = self.socket.getsockname()
        size = profile.key_bytes + profile.salt_bytes
        self.keys = os.urandom(size), os.urandom(size)
        self.profile = profile
        self.sending = SrtpContext(profile, self.keys[0], inbound=False)
        self.receiving = SrtpContext(profile, self.keys[1], inbound=True)
        self.transport: TransportHandle = world.plane.add_transport()
        self.rtp: list[Rtp] = []
        self.rtcp: list[RtcpItem] = []

    def connect(self) -> Peer:
        """Address, remote and keys, as after ICE and DTLS."""
        plane = self.world.plane
        plane.map_address(self.transport, self.world.socket, self.address)
        plane.set_remote(self.transport, self.world.socket, self.address)
        plane.set_keys(self.transport, self.profile, *self.keys)
        return self

    def send_raw(self, datagram: bytes) -> None:
        self.socket.sendto(datagram, self.world.address)

    def send(self, packet: bytes) -> None:
        protected = self.sending.protect_bytes(packet)
        assert protected is not None
        self.send_raw(protected)

    def send_rtcp(self, packet: bytes) -> None:
        protected = self.sending.protect_bytes(packet, rtcp=True)
        assert protected is not None
        self.send_raw(protected)

    def collect(self) -> None:
        """Receive what has come."""
        while True:
            try:
                data = self.socket.recv(4096)
            except BlockingIOError:
                return
            if is_rtcp(data[1]):
                items = parse_compound(self.receiving.unprotect_bytes(data, rtcp=True) or b"")
                assert items is not None
                self.rtcp += items
            else:
                packet = self.receiving.unprotect_bytes(data)
                assert packet is not None, "the plane sent what does not authenticate, or twice"
                header = read_header(packet, len(packet))
                assert header is not None
                self.rtp.append(Rtp(packet, header))

    def take_rtp(self) -> list[Rtp]:
        """What came since the last time."""
        self.collect()
        taken, self.rtp = self.rtp, []
        return taken

    def take_rtcp(self) -> list[RtcpItem]:
        self.collect()
        taken, self.rtcp = self.rtcp, []
        return taken


@dataclass
class World:
    """A plane with one socket and a virtual clock."""

    plane: Plane
    now_ns: int = 1_000_000 * MS
    peers: list[Peer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.socket: SocketHandle
        self.socket, self.address = self.plane.bind(("127.0.0.1", 0))
        self.run()  # tells the plane the time

    def peer(self, profile: SrtpProfile = SrtpProfile.AEAD_AES_128_GCM) -> Peer:
        peer = Peer(self, profile)
        self.peers.append(peer)
        return peer.connect()

    def run(self, ms: int = 0) -> list[Upcall]:
        """Let ``ms`` pass, then handle what came in and what is due. Loopback delivers before ``sendto`` returns."""
        self.now_ns += ms * MS
        upcalls = self.plane.drain(self.now_ns)
        due = self.plane.next_timer_ns()
        if due is not None and due <= self.now_ns:
            upcalls += self.plane.run_timers(self.now_ns)
        return upcalls

    def run_for(self, ms: int, step_ms: int = 5) -> list[Upcall]:
        """``run`` in steps."""
        upcalls: list[Upcall] = []
        for _ in range(0, ms, step_ms):
            upcalls += self.run(step_ms)
        return upcalls

    def close(self) -> None:
        self.plane.close()
        for peer in self.peers:
            peer.socket.close()


def video_spec(ssrc: int = 0x1111, **changes: object) -> StreamSpec:
    fields: dict[str, object] = {
        "ssrc": ssrc,
        "kind": "video",
        "codecs": {96: "VP8"},
        "clock_rate": 90_000,
        "rtx_ssrc": ssrc + 1,
        "rtx_payload_types": {97: 96},
        "nack": True,
        "transport_cc_id": 3,
    }
    return StreamSpec(**{**fields, **changes})  # type: ignore[arg-type]


def audio_spec(ssrc: int = 0x3333) -> StreamSpec:
    return StreamSpec(ssrc=ssrc, kind="audio", codecs={111: "opus"}, clock_rate=48_000, transport_cc_id=3)


def video_route(ssrc: int = 0x9999, **changes: object) -> RouteSpec:
    fields: dict[str, object] = {
        "ssrc": ssrc,
        "rtx_ssrc": ssrc + 1,
        "payload_types": {96: 120},
        "rtx_payload_types": {120: 121},
        "extension_ids": {5: 7},
        "set_extensions": {1: b"mid0"},
        "wait_for_key_frame": True,
    }
    return RouteSpec(**{**fields, **changes})  # type: ignore[arg-type]


def audio_route(ssrc: int = 0x7777) -> RouteSpec:
    return RouteSpec(ssrc=ssrc, rtx_ssrc=None, payload_types={111: 109}, set_extensions={1: b"a"})


@dataclass
class Call:
    """One publisher's stream routed to one subscriber."""

    world: World
    publisher: Peer
    subscriber: Peer
    stream: StreamHandle
    gate: GateHandle
    route: RouteHandle
    ssrc: int
    payload_type: int

    def packet(
        self,
        sequence: int,
        payload: bytes = VP8_MORE,
        *,
        timestamp: int | None = None,
        transport_cc: int | None = None,
        padding: int = 0,
        marker: bool = False,
    ) -> bytes:
        extensions = [(5, b"\x2a")]
        if transport_cc is not None:
            extensions.append((3, (transport_cc & 0xFFFF).to_bytes(2, "big")))
        return make_packet(
            payload_type=self.payload_type,
            sequence=sequence,
            timestamp=sequence * 3000 if timestamp is None else timestamp,
            ssrc=self.ssrc,
            payload=payload,
            marker=marker,
            extensions=extensions,
            padding=padding,
        )

    def send(self, sequence: int, payload: bytes = VP8_MORE, **kwargs: object) -> None:
        self.publisher.send(self.packet(sequence, payload, **kwargs))  # type: ignore[arg-type]

    def rtx(self, sequence: int, original: int, payload: bytes, rtx_payload_type: int = 97) -> bytes:
        """An RTX packet (RFC 4588) that repairs ``original``."""
        return make_packet(
            payload_type=rtx_payload_type,
            sequence=sequence,
            timestamp=original * 3000,
            ssrc=self.ssrc + 1,
            payload=(original & 0xFFFF).to_bytes(2, "big") + payload,
        )

    def received(self, ms: int = 1) -> list[Rtp]:
        self.world.run(ms)
        return self.subscriber.take_rtp()


def video_call(world: World, *, open: bool = True, stream: StreamSpec | None = None) -> Call:
    publisher, subscriber = world.peer(), world.peer()
    spec = stream or video_spec()
    handle = world.plane.add_stream(publisher.transport, spec)
    gate = world.plane.add_gate(open=open)
    route = world.plane.add_route(handle, subscriber.transport, gate, video_route())
    return Call(world, publisher, subscriber, handle, gate, route, spec.ssrc, 96)


def audio_call(world: World, *, open: bool = True) -> Call:
    publisher, subscriber = world.peer(), world.peer()
    handle = world.plane.add_stream(publisher.transport, audio_spec())
    gate = world.plane.add_gate(open=open)
    route = world.plane.add_route(handle, subscriber.transport, gate, audio_route())
    return Call(world, publisher, subscriber, handle, gate, route, 0x3333, 111)
