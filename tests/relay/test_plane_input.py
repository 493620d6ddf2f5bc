"""Everything that may come in on a media socket: classified, held, bounded, never raised about."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.plane import DropReason, Plane, UpcallKind
from relay.plane_choice import PLANES, make_plane
from relay.plane_packets import STRANGERS_MAX
from relay.plane_streams import ADDRESSES_MAX, HELD_MAX, SSRCS_MAX, STREAMS_MAX
from relay.rtcp import pack_picture_loss, pack_receiver_report
from relay.rtp import make_packet
from tests.relay.plane_peer import MS, VP8_KEY, Peer, World, video_call, video_route, video_spec


def drops(world: World) -> dict[DropReason, int]:
    return {reason: count for reason, count in world.plane.drops().items() if count}


@pytest.mark.parametrize(
    ("first", "kind"), [(0, UpcallKind.STUN), (3, UpcallKind.STUN), (20, UpcallKind.DTLS), (63, UpcallKind.DTLS)]
)
def test_stun_and_dtls_come_up_with_their_address(world: World, first: int, kind: UpcallKind) -> None:
    stranger = Peer(world)
    world.peers.append(stranger)
    stranger.send_raw(bytes((first,)) + b"hello")
    (upcall,) = world.run(1)
    assert (upcall.kind, upcall.transport, upcall.socket) == (kind, 0, world.socket)
    assert (upcall.address, upcall.data) == (stranger.address, bytes((first,)) + b"hello")
    assert world.now_ns - 1_000 * MS <= upcall.arrival_ns <= world.now_ns
    stranger.connect()
    stranger.send_raw(bytes((first,)))
    assert [u.transport for u in world.run(1)] == [stranger.transport]


def test_rtcp_comes_up_decrypted(world: World) -> None:
    peer = world.peer()
    peer.send_rtcp(pack_receiver_report(1) + pack_picture_loss(1, 2))
    (upcall,) = world.run(1)
    assert (upcall.kind, upcall.transport) == (UpcallKind.RTCP, peer.transport)
    assert upcall.data == pack_receiver_report(1) + pack_picture_loss(1, 2)
    assert world.plane.last_heard_ns(peer.transport) == upcall.arrival_ns


def test_arrival_is_when_the_kernel_got_it_not_when_we_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = world.peer()
    peer.send_raw(b"\x01")
    now_ns = time.time_ns()
    for passed_ms, least_ms, most_ms in (
        (40, 40, 900),
        (-40, 0, 0),
        (60_000, 0, 0),
    ):  # waited in the kernel; the wall clock was set back, on
        monkeypatch.setattr(time, "time_ns", lambda passed_ms=passed_ms: now_ns + passed_ms * MS)
        (upcall,) = world.run(0)
        assert least_ms * MS <= world.now_ns - upcall.arrival_ns <= most_ms * MS
        peer.send_raw(b"\x01")


def test_every_drop_has_its_reason(world: World) -> None:
    peer = world.peer()
    stranger = Peer(world)
    world.peers.append(stranger)
    packet = make_packet(payload_type=96, sequence=1, timestamp=1, ssrc=1, payload=b"x")
    peer.send_raw(b"")
    peer.send_raw(bytes(3_000))
    peer.send_raw(b"\xff" * 20)
    peer.send_raw(b"\x80\x60")
    peer.send_raw(b"\x80\x60" + bytes(40))
    peer.send_raw(b"\x80\xc9" + bytes(40))
    stranger.send(packet)
    world.run(1)
    assert drops(world) == {
        DropReason.EMPTY: 1,
        DropReason.TOO_LARGE: 1,
        DropReason.UNKNOWN_KIND: 1,
        DropReason.MALFORMED_RTP: 1,
        DropReason.UNPROTECT_FAILED: 2,
        DropReason.UNKNOWN_ADDRESS: 1,
    }


def test_media_before_the_keys_is_counted(world: World) -> None:
    peer = Peer(world)
    world.peers.append(peer)
    world.plane.map_address(peer.transport, world.socket, peer.address)
    peer.send(make_packet(payload_type=96, sequence=1, timestamp=1, ssrc=1, payload=b"x"))
    world.run(1)
    assert drops(world) == {DropReason.NO_KEYS: 1}


def test_a_replayed_packet_is_dropped(world: World) -> None:
    call = video_call(world)
    protected = call.publisher.sending.protect_bytes(call.packet(1, VP8_KEY))
    assert protected is not None
    for _ in range(3):
        call.publisher.send_raw(protected)
    assert len(call.received()) == 1
    assert drops(world) == {DropReason.REPLAYED: 2}


def test_a_subscriber_not_yet_connected_waits_without_harm(world: World) -> None:
    call = video_call(world)
    peer = Peer(world)
    world.peers.append(peer)
    world.plane.add_route(call.stream, peer.transport, call.gate, video_route(0x5555))
    call.send(1, VP8_KEY)
    assert len(call.received()) == 1
    peer.connect()
    call.send(2)
    call.send(3, VP8_KEY)
    call.received()
    assert [p.payload for p in peer.take_rtp()] == [VP8_KEY]


# --- streams that nobody announced


def test_packets_of_an_unannounced_stream_come_up_and_are_held_for_it(world: World) -> None:
    publisher, subscriber = world.peer(), world.peer()
    packets = [
        make_packet(payload_type=96, sequence=i, timestamp=1, ssrc=0x1111, payload=VP8_KEY if i == 1 else b"x")
        for i in (1, 2, 3)
    ]
    for packet in packets:
        publisher.send(packet)
    upcalls = world.run(1)
    assert [(u.kind, u.transport, u.data) for u in upcalls] == [
        (UpcallKind.UNKNOWN_RTP, publisher.transport, packet) for packet in packets
    ]
    stream = world.plane.add_stream(publisher.transport, video_spec())
    world.plane.add_route(stream, subscriber.transport, world.plane.add_gate(open=True), video_route())
    assert world.plane.next_timer_ns() is not None
    world.run(1)
    assert [p.payload for p in subscriber.take_rtp()] == [VP8_KEY, b"x", b"x"]
    assert drops(world) == {}


def test_held_packets_are_bounded(world: World) -> None:
    publisher = world.peer()
    for i in range(HELD_MAX + 5):
        publisher.send(make_packet(payload_type=96, sequence=i, timestamp=1, ssrc=0x1111, payload=b"x"))
    world.run(1)
    assert drops(world) == {DropReason.UNKNOWN_SSRC: 5}


def test_streams_of_a_transport_are_bounded(world: World) -> None:
    publisher = world.peer()
    for ssrc in range(1, STREAMS_MAX + 11):
        publisher.send(make_packet(payload_type=96, sequence=1, timestamp=1, ssrc=ssrc, payload=b"x"))
        world.run(1)
    assert drops(world)[DropReason.STREAMS_FULL] == 10


def test_ssrcs_that_a_transport_ever_took_are_bounded_whatever_became_of_them(world: World) -> None:
    call = video_call(world)
    call.send(0, VP8_KEY)
    world.run(1)
    for number in range(1, SSRCS_MAX + 11):  # a page that repairs by another SSRC each time, and is believed
        rtx_ssrc = 0x5_0000 + number
        world.plane.update_stream(call.stream, video_spec(rtx_ssrc=rtx_ssrc))
        repair = b"\0\0" + VP8_KEY
        call.publisher.send(make_packet(payload_type=97, sequence=number, timestamp=0, ssrc=rtx_ssrc, payload=repair))
        world.run(1)
    assert drops(world)[DropReason.STREAMS_FULL] == 11
    call.publisher.send_rtcp(pack_receiver_report(77))
    assert [upcall.kind for upcall in world.run(1)] == []
    assert drops(world)[DropReason.STREAMS_FULL] == 12
    call.subscriber.take_rtp()
    call.send(1)
    assert len(call.received()) == 1, "what was known goes on"


def test_ssrcs_of_reports_count_too(world: World) -> None:
    peer = world.peer()
    for ssrc in range(1, SSRCS_MAX + 11):
        peer.send_rtcp(pack_receiver_report(ssrc))
        world.run(1)
    assert drops(world)[DropReason.STREAMS_FULL] == 10


def test_addresses_of_a_transport_are_bounded_and_media_keeps_its_own(world: World) -> None:
    peer = world.peer()
    for port in range(1, 2 * ADDRESSES_MAX):
        world.plane.map_address(peer.transport, world.socket, ("127.0.0.9", port))
    peer.send_rtcp(pack_receiver_report(1))
    assert [u.kind for u in world.run(1)] == [UpcallKind.RTCP]


def test_an_address_belongs_to_its_newest_transport(world: World) -> None:
    first, second = world.peer(), Peer(world)
    world.peers.append(second)
    world.plane.map_address(second.transport, world.socket, first.address)
    world.plane.remove_transport(first.transport)
    first.send_raw(b"\x14dtls")
    assert [u.transport for u in world.run(1)] == [second.transport]


def test_a_batch_is_bounded(world: World) -> None:
    peer = world.peer()
    for _ in range(100):
        peer.send_raw(b"\x01")
    assert len(world.plane.drain(world.now_ns, batch_max=30)) == 30
    assert len(world.plane.drain(world.now_ns, batch_max=70)) == 70


def test_send_goes_out_as_it_is(world: World) -> None:
    peer = world.peer()
    world.plane.send(world.socket, peer.address, [b"\x01stun", b"\x16dtls"])
    assert [peer.socket.recv(100), peer.socket.recv(100)] == [b"\x01stun", b"\x16dtls"]
    world.plane.send(world.socket, ("127.0.0.1", 9), [bytes(70_000)])
    assert drops(world) == {DropReason.SEND_FAILED: 1}


def test_ipv6(plane: Plane) -> None:
    try:
        handle, address = plane.bind(("::1", 0))
    except OSError:
        return  # a machine without IPv6 has nothing to show here
    import socket

    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        sock.sendto(b"\x01", address)
        (upcall,) = plane.drain(1)
        assert (upcall.socket, upcall.address) == (handle, sock.getsockname()[:2])
        plane.send(handle, upcall.address, [b"\x02"])
        assert sock.recv(10) == b"\x02"


raw = st.one_of(
    st.binary(max_size=120),
    st.binary(max_size=120).map(lambda data: b"\x80\x60" + data),
    st.binary(max_size=120).map(lambda data: b"\x80\xc9" + data),
)
hostile = st.one_of(
    raw.map(lambda data: ("raw", data)),
    st.binary(min_size=12, max_size=150).map(lambda data: ("rtp", bytes((0x80 | data[0] & 0x3F,)) + data[1:])),
    st.tuples(st.sampled_from([0x1111, 0x1112, 0x3333]), st.integers(0, 127), st.binary(max_size=60)).map(
        lambda t: (
            "rtp",
            make_packet(payload_type=t[1] % 64 + 32, sequence=len(t[2]), timestamp=1, ssrc=t[0], payload=t[2]),
        )
    ),
    st.binary(max_size=100).map(lambda data: ("rtcp", b"\x81\xcd" + data)),
)


@pytest.mark.parametrize("name", sorted(PLANES))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(hostile, max_size=40))
def test_no_bytes_of_a_peer_raise_or_stop_the_others(name: str, datagrams: list[tuple[str, bytes]]) -> None:
    world = World(make_plane(name))
    try:
        call = video_call(world)
        hostile_peer = world.peer()
        stream = world.plane.add_stream(hostile_peer.transport, video_spec(codecs={i: "H264" for i in range(128)}))
        world.plane.add_route(stream, call.subscriber.transport, call.gate, video_route(0x5555))
        for kind, data in datagrams:
            protected = hostile_peer.sending.protect_bytes(data, rtcp=kind == "rtcp") if kind != "raw" else data
            if protected is not None:
                hostile_peer.send_raw(protected)
            world.run(10)
        call.send(1, VP8_KEY)
        world.run(1)
        assert VP8_KEY in [p.payload for p in call.subscriber.take_rtp()]
    finally:
        world.close()


def test_garbage_of_every_first_byte(world: World) -> None:
    peer, stranger = world.peer(), Peer(world)
    world.peers.append(stranger)
    for first in range(256):
        for sender in (peer, stranger):
            sender.send_raw(bytes((first,)) + os.urandom(first))
    world.run(1)


def test_strangers_cannot_crowd_out_what_comes_from_those_who_are_known(world: World) -> None:
    call = video_call(world)
    world.run(1)
    stranger = Peer(world)
    world.peers.append(stranger)
    for _ in range(STRANGERS_MAX + 76):
        stranger.send_raw(b"\x00\x01")
    call.publisher.send_rtcp(pack_receiver_report(1))
    upcalls = world.plane.drain(world.now_ns, batch_max=2 * STRANGERS_MAX)
    kinds = [upcall.kind for upcall in upcalls if upcall.kind is not UpcallKind.KEY_FRAME_WANTED]
    assert kinds == [UpcallKind.STUN] * STRANGERS_MAX + [UpcallKind.RTCP]
    assert world.plane.drops()[DropReason.UPCALL_QUEUE_FULL] == 76


def test_a_long_batch_tells_of_each_packet_when_it_left(world: World) -> None:
    call = video_call(world)
    world.plane.update_route(call.route, video_route(transport_cc_id=4))
    call.send(1, VP8_KEY)
    for sequence in range(2, 201):
        call.send(sequence, bytes(1_000))
    world.plane.drain(world.now_ns, batch_max=200)
    sent = [one.sent_ns for one in world.plane.sent_packets(call.subscriber.transport, 0, 200) if one is not None]
    assert len(sent) == 200
    assert sent == sorted(sent)
    assert len(set(sent)) > 1, "who is told that all left at once takes the rest for a queue"
