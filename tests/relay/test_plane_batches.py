"""Bursts: what the kernel coalesces or segments by itself arrives and leaves as the datagrams that it was."""

from __future__ import annotations

import socket
import struct

from relay.rtp import make_packet
from tests.relay.plane_peer import VP8_DELTA, VP8_KEY, Call, Peer, World, video_call, video_route

UDP_SEGMENT = 103


def send_as_one(peer: Peer, packets: list[bytes], size: int) -> None:
    """One system call with all of them, which the kernel cuts, or hands on whole to whoever takes batches."""
    protected = [peer.sending.protect_bytes(packet) or b"" for packet in packets]
    assert all(len(packet) == size for packet in protected[:-1])
    peer.socket.connect(peer.world.address)
    peer.socket.sendmsg(protected, [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("@H", size))])


def numbered(call: Call, sequence: int, size: int) -> bytes:
    payload = (VP8_KEY if sequence == 1 else VP8_DELTA) + bytes((sequence,)) * size
    return call.packet(sequence, payload[:size])


def test_a_burst_that_comes_as_one_is_taken_apart(world: World) -> None:
    call = video_call(world)
    packets = [numbered(call, sequence, 400) for sequence in range(1, 21)]
    packets.append(numbered(call, 21, 90))  # the last of a batch may be shorter
    send_as_one(call.publisher, packets, len(packets[0]) + 16)
    received = call.received()
    assert [packet.payload[-1] for packet in received[1:]] == list(range(2, 22))
    assert len(received) == 21
    assert not any(world.plane.drops().values())


def test_a_burst_with_foreign_bytes_in_it_loses_only_those(world: World) -> None:
    call = video_call(world)
    packets = [numbered(call, sequence, 300) for sequence in range(1, 6)]
    protected = [call.publisher.sending.protect_bytes(packet) or b"" for packet in packets]
    protected[2] = bytes((0x80, 0x60)) + bytes(len(protected[2]) - 2)
    call.publisher.socket.connect(world.address)
    size = struct.pack("@H", len(protected[0]))
    call.publisher.socket.sendmsg(protected, [(socket.IPPROTO_UDP, UDP_SEGMENT, size)])
    assert [packet.payload[-1] for packet in call.received()[1:]] == [2, 4, 5]


def test_bursts_of_all_sizes_leave_in_order_to_every_subscriber(world: World) -> None:
    call = video_call(world)
    others = [world.peer() for _ in range(3)]
    for number, other in enumerate(others):
        spec = video_route(0x5000 + number, set_extensions={1: b"m" * (number + 1)})
        world.plane.add_route(call.stream, other.transport, call.gate, spec)
    sizes = [500, 500, 500, 200, 500, 500, 700, 700, 100, 1_100, 1_100, 1_100, 1_100, 30]
    for sequence in range(1, 81):
        call.publisher.send(numbered(call, sequence, sizes[sequence % len(sizes)]))
    received = [call.received(), *(other.take_rtp() for other in others)]
    for packets in received:
        first = packets[0].header.sequence
        assert [(packet.header.sequence - first) & 0xFFFF for packet in packets] == list(range(80))
        assert [packet.payload[-1] for packet in packets[1:]] == list(range(2, 81))


def test_more_than_one_message_may_carry_goes_in_several(world: World) -> None:
    call = video_call(world)
    for sequence in range(1, 81):
        call.publisher.send(numbered(call, sequence, 1_100))
    assert [packet.payload[-1] for packet in call.received()[1:]] == list(range(2, 81))


def test_media_and_its_feedback_leave_in_the_order_they_were_made(world: World) -> None:
    call = video_call(world)
    for sequence in (1, 2, 3):
        call.publisher.send(numbered(call, sequence, 64))
    world.plane.add_route(
        call.stream, call.publisher.transport, call.gate, video_route(0x4444, wait_for_key_frame=False)
    )
    call.publisher.send(make_packet(payload_type=96, sequence=6, timestamp=9, ssrc=0x1111, payload=VP8_DELTA))
    world.run_for(200)
    assert len(call.publisher.take_rtp()) == 4
    assert call.publisher.take_rtcp()
    assert len(call.subscriber.take_rtp()) == 4
