"""ICE-TCP: framing, and connections that look like datagrams to the plane; bounded towards strangers."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.plane import DropReason, SocketHandle, SrtpProfile, TransportHandle, Upcall, UpcallKind
from relay.plane_choice import PLANES, make_plane
from relay.plane_tcp import (
    FRAME_BYTES_MAX,
    PROVE_MAX_NS,
    STRANGERS_PER_ADDRESS_MAX,
    Deframer,
    TcpSocket,
)
from relay.rtp import make_packet
from relay.srtp import SrtpContext
from tests.relay.plane_peer import audio_route, audio_spec

STUN = bytes((0, 1)) + b"anything"


def framed(*frames: bytes) -> bytes:
    return b"".join(struct.pack("!H", len(frame)) + frame for frame in frames)


@given(st.lists(st.binary(max_size=FRAME_BYTES_MAX), max_size=8), st.lists(st.integers(1, 3_000), max_size=30))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(frames: list[bytes], cuts: list[int]) -> None:
    data, deframer, out = framed(*frames), Deframer(), []
    for cut in [*cuts, len(data)]:
        out += deframer.feed(data[:cut])
        data = data[cut:]
    assert out == frames
    assert not deframer.broken


@given(st.lists(st.binary(max_size=5_000), max_size=10))
def test_any_bytes_are_taken_without_raising_or_being_hoarded(chunks: list[bytes]) -> None:
    deframer = Deframer()
    for chunk in chunks:
        frames = deframer.feed(chunk)
        assert all(len(frame) <= FRAME_BYTES_MAX for frame in frames)
        assert len(deframer._held) <= FRAME_BYTES_MAX + 2


def test_a_length_beyond_every_datagram_ends_it() -> None:
    deframer = Deframer()
    assert deframer.feed(framed(b"good") + struct.pack("!H", FRAME_BYTES_MAX + 1) + b"x" * 10) == [b"good"]
    assert deframer.broken
    assert deframer.feed(framed(b"more")) == []


class Server:
    """A plane that listens for ICE-TCP, on a clock of its own."""

    def __init__(self, plane: str, host: str = "127.0.0.1") -> None:
        self.plane = make_plane(plane)
        self.handle, self.address = self.plane.bind_tcp((host, 0))
        self.now_ns = 1_000_000_000_000
        self.clients: list[socket.socket] = []

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.address, timeout=5)
        self.clients.append(client)
        return client

    def wait(self) -> None:
        """Until the descriptor says that there is something to do."""
        assert select.select([self.plane.fileno(self.handle)], [], [], 5)[0], "nothing came"

    def upcalls(self, count: int) -> list[Upcall]:
        found: list[Upcall] = []
        deadline = time.monotonic() + 5
        while len(found) < count and time.monotonic() < deadline:
            self.wait()
            found += self.plane.drain(self.now_ns)
        return found

    @property
    def socket(self) -> TcpSocket:
        found = self.plane._sockets[self.handle]  # type: ignore[attr-defined]
        assert isinstance(found, TcpSocket)
        return found


@pytest.fixture(params=sorted(PLANES))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server(request.param)
    yield made
    for client in made.clients:
        client.close()
    made.plane.close()


def receive(client: socket.socket) -> bytes:
    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = client.recv(count - len(data))
            assert more, "closed"
            data += more
        return data

    (length,) = struct.unpack("!H", exactly(2))
    return exactly(length)


def test_a_frame_comes_up_as_a_datagram_and_answers_go_back_framed(server: Server) -> None:
    client = server.connect()
    client.sendall(framed(STUN, STUN + b"2"))
    first, second = server.upcalls(2)
    assert (first.kind, first.socket, first.address) == (UpcallKind.STUN, server.handle, client.getsockname())
    assert (first.data, second.data) == (STUN, STUN + b"2")
    server.plane.send(SocketHandle(first.socket), first.address, [b"answer", b"another"])
    assert [receive(client), receive(client)] == [b"answer", b"another"]


@pytest.mark.parametrize("plane", sorted(PLANES))
def test_ipv6_addresses_are_plain(plane: str) -> None:
    try:
        server = Server(plane, "::1")
    except OSError:
        pytest.skip("no IPv6 here")
    client = server.connect()
    client.sendall(framed(STUN))
    (upcall,) = server.upcalls(1)
    assert upcall.address == client.getsockname()[:2]
    client.close()
    server.plane.close()


def test_what_one_drain_leaves_keeps_the_descriptor_readable(server: Server) -> None:
    client = server.connect()
    client.sendall(framed(*(STUN for _ in range(400))))
    assert len(server.upcalls(400)) == 400
    assert not select.select([server.plane.fileno(server.handle)], [], [], 0)[0]


def test_a_client_that_does_not_read_loses_frames_and_holds_up_nobody(server: Server) -> None:
    slow, quick = server.connect(), server.connect()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for client in (slow, quick):
        client.sendall(framed(STUN))
    paths = {upcall.address: upcall for upcall in server.upcalls(2)}
    for _ in range(3_000):
        server.plane.send(server.handle, slow.getsockname(), [bytes(1_200)])
    assert sum(server.plane.drops().values()) > 1_000
    server.plane.send(server.handle, next(a for a in paths if a == quick.getsockname()), [b"through"])
    assert receive(quick) == b"through"
    slow.settimeout(5)
    for _ in range(40):  # what it gets is whole frames
        assert receive(slow) == bytes(1_200)
        server.plane.drain(server.now_ns)


def test_a_frame_longer_than_any_datagram_closes_the_connection(server: Server) -> None:
    client = server.connect()
    client.sendall(framed(STUN))
    server.upcalls(1)
    client.sendall(struct.pack("!H", FRAME_BYTES_MAX + 1))
    server.wait()
    server.plane.drain(server.now_ns)
    assert server.socket.connections == 0
    assert client.recv(1) == b""


def test_strangers_are_few_per_address_and_let_go_in_time(server: Server) -> None:
    clients = [server.connect() for _ in range(STRANGERS_PER_ADDRESS_MAX + 3)]
    for client in clients[:STRANGERS_PER_ADDRESS_MAX]:
        client.sendall(framed(STUN))
    upcalls = server.upcalls(STRANGERS_PER_ADDRESS_MAX)
    assert server.socket.connections == STRANGERS_PER_ADDRESS_MAX
    transport = server.plane.add_transport()
    server.plane.map_address(transport, server.handle, upcalls[0].address)  # one has proved itself
    server.now_ns += PROVE_MAX_NS + 1
    server.plane.drain(server.now_ns)
    assert server.socket.connections == 1
    server.connect().sendall(framed(STUN))
    assert len(server.upcalls(1)) == 1


def test_an_address_used_again_is_a_stranger_again(server: Server) -> None:
    client = server.connect()
    client.sendall(framed(STUN))
    (upcall,) = server.upcalls(1)
    transport = server.plane.add_transport()
    server.plane.map_address(transport, server.handle, upcall.address)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    again = socket.socket()
    server.clients.append(again)
    again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    again.bind(upcall.address)
    again.connect(server.address)
    again.sendall(framed(STUN))
    (second,) = server.upcalls(1)
    assert (second.address, second.transport) == (upcall.address, 0)
    server.plane.remove_transport(transport)


def test_media_takes_a_connection_both_ways(server: Server) -> None:
    client = server.connect()
    client.sendall(framed(STUN))
    (upcall,) = server.upcalls(1)
    transport, key = server.plane.add_transport(), bytes(28)
    server.plane.map_address(transport, server.handle, upcall.address)
    server.plane.set_remote(transport, server.handle, upcall.address)
    server.plane.set_keys(transport, SrtpProfile.AEAD_AES_128_GCM, key, key)
    stream = server.plane.add_stream(transport, audio_spec())
    server.plane.add_route(stream, transport, server.plane.add_gate(open=True), audio_route())
    packet = make_packet(payload_type=111, sequence=1, timestamp=1, ssrc=0x3333, payload=b"voice")
    protected = SrtpContext(SrtpProfile.AEAD_AES_128_GCM, key, inbound=False).protect_bytes(packet)
    assert protected is not None
    client.sendall(framed(protected))
    server.wait()
    server.plane.drain(server.now_ns)
    back = SrtpContext(SrtpProfile.AEAD_AES_128_GCM, key, inbound=True).unprotect_bytes(receive(client))
    assert back is not None
    assert back.endswith(b"voice")


def keyed_up(server: Server, client: socket.socket) -> TransportHandle:
    """A transport over the client's connection, its SRTP keys all zero."""
    client.sendall(framed(STUN))
    (upcall,) = server.upcalls(1)
    transport = server.plane.add_transport()
    server.plane.map_address(transport, server.handle, upcall.address)
    server.plane.set_remote(transport, server.handle, upcall.address)
    server.plane.set_keys(transport, SrtpProfile.AEAD_AES_128_GCM, bytes(28), bytes(28))
    return transport


def frames_received(client: socket.socket, server: Server) -> int:
    """How many come until nothing more does."""
    client.settimeout(0.2)
    count = 0
    try:
        while True:
            receive(client)
            count += 1
            server.plane.drain(server.now_ns)  # sends the rest of a frame that was taken in part
    except TimeoutError:
        return count


@pytest.mark.parametrize("gone", [False, True])
def test_what_a_connection_does_not_take_is_not_forwarded(server: Server, gone: bool) -> None:
    talking, slow = server.connect(), socket.socket()
    server.clients.append(slow)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(server.address)
    publisher, subscriber = keyed_up(server, talking), keyed_up(server, slow)
    stream, gate = server.plane.add_stream(publisher, audio_spec()), server.plane.add_gate(open=True)
    route = server.plane.add_route(stream, subscriber, gate, audio_route())
    if gone:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        slow.close()
        server.wait()
        server.plane.drain(server.now_ns)
    sending = SrtpContext(SrtpProfile.AEAD_AES_128_GCM, bytes(28), inbound=False)
    for sequence in range(600):
        packet = make_packet(payload_type=111, sequence=sequence, timestamp=1, ssrc=0x3333, payload=bytes(1_000))
        protected = sending.protect_bytes(packet)
        assert protected is not None
        talking.sendall(framed(protected))
        server.wait()
        server.plane.drain(server.now_ns)
    got = 0 if gone else frames_received(slow, server)
    assert gone or 10 < got < 500
    counters = server.plane.route_counters(route)
    assert (counters.packets, counters.octets) == (got, got * 1_000)
    assert server.plane.gate_counters(gate).get(stream, 0) == got, "the meter goes by what went through"
    assert server.plane.drops()[DropReason.SEND_FAILED] == 600 - got
