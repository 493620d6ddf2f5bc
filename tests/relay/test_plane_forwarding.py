"""The plane's interface: media from a publisher to a subscriber."""

from __future__ import annotations

import dataclasses

import pytest

from relay.plane import DropReason, Plane, SrtpProfile, UpcallKind
from relay.rtp import make_packet
from tests.relay.plane_peer import (
    MS,
    VP8_DELTA,
    VP8_KEY,
    VP8_MORE,
    Call,
    World,
    audio_call,
    video_call,
    video_route,
    video_spec,
)


def drops(world: World) -> dict[DropReason, int]:
    return {reason: count for reason, count in world.plane.drops().items() if count}


def keyed(world: World, start: int = 100) -> Call:
    """A call on which the key frame ``start`` went through."""
    call = video_call(world)
    call.send(start, VP8_KEY)
    assert len(call.received()) == 1
    return call


@pytest.mark.parametrize("profile", list(SrtpProfile))
def test_a_packet_is_rewritten_for_its_subscriber(world: World, profile: SrtpProfile) -> None:
    publisher, subscriber = world.peer(profile), world.peer(profile)
    stream = world.plane.add_stream(publisher.transport, video_spec())
    gate = world.plane.add_gate(open=True)
    route = world.plane.add_route(stream, subscriber.transport, gate, video_route())
    call = Call(world, publisher, subscriber, stream, gate, route, 0x1111, 96)
    call.send(1, VP8_KEY, marker=True, transport_cc=9)
    call.send(2, VP8_MORE)
    first, second = call.received()
    assert (first.header.ssrc, first.header.payload_type, first.header.marker) == (0x9999, 120, True)
    assert (first.payload, second.payload) == (VP8_KEY, VP8_MORE)
    assert (first.extension(1), first.extension(7)) == (b"mid0", b"\x2a")
    assert (first.extension(3), first.extension(5)) == (None, None)
    assert (second.header.sequence - first.header.sequence) & 0xFFFF == 1
    assert (second.header.timestamp - first.header.timestamp) & 0xFFFF_FFFF == 3_000
    assert world.plane.map_timestamp(route, 3_000) == first.header.timestamp
    assert world.plane.gate_counters(gate) == {stream: 2}


def test_one_stream_goes_to_every_subscriber_under_its_own_numbers(world: World) -> None:
    call = video_call(world)
    other = world.peer()
    spec = dataclasses.replace(video_route(0x5555), payload_types={96: 99}, extension_ids={}, set_extensions={})
    world.plane.add_route(call.stream, other.transport, call.gate, spec)
    call.send(1, VP8_KEY)
    (mine,) = call.received()
    (theirs,) = other.take_rtp()
    assert (mine.header.ssrc, theirs.header.ssrc) == (0x9999, 0x5555)
    assert (mine.header.payload_type, theirs.header.payload_type) == (120, 99)
    assert theirs.header.extensions_start == 0
    assert mine.payload == theirs.payload == VP8_KEY


def test_padding_is_taken_off(world: World) -> None:
    call = video_call(world)
    call.send(1, VP8_KEY, padding=50)
    (packet,) = call.received()
    assert packet.payload == VP8_KEY
    assert not packet.data[0] & 0x20


def test_long_extensions_go_in_two_byte_form(world: World) -> None:
    call = video_call(world)
    descriptor = bytes(range(30))
    call.publisher.send(
        make_packet(
            payload_type=96,
            sequence=1,
            timestamp=1,
            ssrc=0x1111,
            payload=VP8_KEY,
            extensions=[(5, descriptor), (9, b"")],
        )
    )
    (packet,) = call.received()
    assert (packet.extension(1), packet.extension(7)) == (b"mid0", descriptor)


def test_video_waits_for_a_key_frame_and_asks_for_one(world: World) -> None:
    call = video_call(world)
    asked = [u for u in world.run(1) if u.kind is UpcallKind.KEY_FRAME_WANTED]
    assert [(u.stream, u.transport) for u in asked] == [(call.stream, call.publisher.transport)]
    wanted = 0
    for i in range(50):
        call.send(i, VP8_DELTA)
        wanted += sum(u.kind is UpcallKind.KEY_FRAME_WANTED for u in world.run(10))
    assert wanted == 2  # at most one in 200 ms
    assert call.subscriber.take_rtp() == []
    assert drops(world) == {DropReason.WAITING_FOR_KEY_FRAME: 50}
    call.send(50, VP8_KEY)
    assert [p.payload for p in call.received()] == [VP8_KEY]


def test_audio_goes_at_once(world: World) -> None:
    call = audio_call(world)
    call.send(1, b"opus")
    assert [p.payload for p in call.received()] == [b"opus"]


def test_an_unmapped_payload_type_goes_nowhere(world: World) -> None:
    call = keyed(world)
    call.publisher.send(make_packet(payload_type=98, sequence=101, timestamp=1, ssrc=0x1111, payload=b"x"))
    assert call.received() == []
    assert drops(world) == {DropReason.PAYLOAD_TYPE_UNMAPPED: 1}


def test_a_late_packet_takes_its_place(world: World) -> None:
    call = keyed(world, 100)
    for sequence in (103, 101, 102):
        call.send(sequence, bytes((sequence,)))
    packets = call.received()
    first = min(p.header.sequence for p in packets)
    assert [(p.header.sequence - first, p.payload[0]) for p in packets] == [(2, 103), (0, 101), (1, 102)]


def test_packets_from_before_the_key_frame_stay_behind(world: World) -> None:
    call = video_call(world)
    call.send(10, VP8_KEY)
    call.send(9, b"late")
    assert [p.payload for p in call.received()] == [VP8_KEY]


def test_counters_tell_what_came_and_what_went(world: World) -> None:
    call = keyed(world, 65_535)
    call.send(1, bytes(10))
    call.send(1, bytes(10))  # under a fresh SRTP index this is a duplicate of the sender's making
    call.received()
    received, sent = world.plane.stream_counters(call.stream), world.plane.route_counters(call.route)
    assert (received.first_sequence, received.highest_sequence) == (65_535, 65_537)
    assert (received.unique_packets, received.key_frames) == (2, 1)
    assert received.last_timestamp == 3_000
    assert (sent.packets, sent.octets) == (2, len(VP8_KEY) + 10)
    assert sent.last_timestamp == world.plane.map_timestamp(call.route, 3_000)


def test_jitter_is_that_of_rfc_3550(world: World) -> None:
    call = audio_call(world)
    for i in range(400):
        call.send(i, b"o", timestamp=i * 960)
        world.run(20 if i % 2 else 30)
        world.run(0 if i % 2 else -10)
    jitter = world.plane.stream_counters(call.stream).jitter
    assert jitter < 48_000  # steady in the mean; the exact figure depends on the kernel's stamps
    assert jitter > 0


def test_liveness_is_what_was_authentic(world: World) -> None:
    call = video_call(world)
    assert world.plane.last_heard_ns(call.publisher.transport) == 0
    call.publisher.send_raw(b"\x80\x60" + bytes(40))
    world.run(5)
    assert world.plane.last_heard_ns(call.publisher.transport) == 0
    call.send(1)
    world.run(5)
    assert world.now_ns - 1_000 * MS < world.plane.last_heard_ns(call.publisher.transport) <= world.now_ns


# --- gates


def test_a_closed_gate_forwards_nothing_and_counts_it(world: World) -> None:
    call = video_call(world, open=False)
    call.send(1, VP8_KEY)
    call.send(2)
    assert call.received() == []
    assert drops(world) == {DropReason.GATE_CLOSED: 2}
    assert world.plane.gate_counters(call.gate) == {}


def test_after_the_gate_opens_video_waits_for_a_key_frame_and_numbers_go_on(world: World) -> None:
    call = keyed(world, 100)
    world.plane.set_gate(call.gate, open=False)
    for sequence in range(101, 150):
        call.send(sequence)
    assert call.received(300) == []
    world.plane.set_gate(call.gate, open=True)
    assert world.plane.next_timer_ns() is not None
    assert [u.kind for u in world.run(0)] == [UpcallKind.KEY_FRAME_WANTED]
    call.send(150, VP8_DELTA)
    call.send(151, VP8_KEY)
    call.send(152)
    packets = call.received()
    assert [p.payload for p in packets] == [VP8_KEY, VP8_MORE]
    sent = world.plane.route_counters(call.route)
    assert (sent.packets, packets[-1].header.sequence) == (3, sent.sequence & 0xFFFF)
    assert packets[0].header.timestamp == world.plane.map_timestamp(call.route, 151 * 3_000)


def test_after_the_gate_opens_audio_goes_on_without_a_hole(world: World) -> None:
    call = audio_call(world)
    call.send(1, b"a")
    (before,) = call.received()
    world.plane.set_gate(call.gate, open=False)
    for sequence in range(2, 30):
        call.send(sequence, b"unpaid")
    world.run(1)
    world.plane.set_gate(call.gate, open=True)
    call.send(30, b"b")
    (after,) = call.received()
    assert (after.header.sequence - before.header.sequence) & 0xFFFF == 1
    assert (after.header.timestamp - before.header.timestamp) & 0xFFFF_FFFF == 29 * 3_000


def test_nothing_is_sent_again_through_a_closed_gate(world: World) -> None:
    call = video_call(world)
    call.send(1, VP8_KEY)
    (packet,) = call.received()
    world.plane.set_gate(call.gate, open=False)
    assert world.plane.resend(call.route, [packet.header.sequence], world.now_ns) == []
    assert call.subscriber.take_rtp() == []


# --- switching


def second_stream(call: Call) -> Call:
    """Another publisher's stream for the same route."""
    publisher = call.world.peer()
    stream = call.world.plane.add_stream(publisher.transport, video_spec(0x2222))
    return dataclasses.replace(call, publisher=publisher, stream=stream, ssrc=0x2222)


def test_a_switch_waits_for_a_key_frame_and_joins_without_a_seam(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.plane_sockets._AGE_MAX_NS", 0)  # packets come when the virtual clock says
    call = keyed(world, 100)
    other = second_stream(call)
    world.plane.switch_route(call.route, other.stream)
    assert [u.stream for u in world.run(1) if u.kind is UpcallKind.KEY_FRAME_WANTED] == [other.stream]
    call.send(101, b"old")
    other.send(7_000, VP8_DELTA)
    (old,) = call.received()
    world.now_ns += 40 * MS
    other.send(7_001, VP8_KEY)
    (first,) = call.received()
    call.send(102, b"old again")
    other.send(7_002, b"new")
    (second,) = call.received()
    assert [old.payload, first.payload, second.payload] == [b"old", VP8_KEY, b"new"]
    assert [(p.header.sequence - old.header.sequence) & 0xFFFF for p in (first, second)] == [1, 2]
    elapsed = (first.header.timestamp - old.header.timestamp) & 0xFFFF_FFFF
    assert elapsed == 90 * (40 + 1), "the time that passed"
    assert world.plane.gate_counters(call.gate) == {call.stream: 2, other.stream: 2}


def test_a_switch_back_before_the_key_frame_changes_nothing(world: World) -> None:
    call = keyed(world, 100)
    other = second_stream(call)
    world.plane.switch_route(call.route, other.stream)
    world.plane.switch_route(call.route, call.stream)
    other.send(1, VP8_KEY)
    call.send(101, b"still here")
    assert [p.payload for p in call.received()] == [b"still here"]


@pytest.mark.parametrize("begin", [5, 20_000], ids=["below", "above"])
def test_a_switch_after_all_was_refused_waits_for_a_key_frame_as_well(world: World, begin: int) -> None:
    call = video_call(world)
    world.plane.set_remote(call.subscriber.transport, world.socket, ("203.0.113.1", 9))  # not from loopback
    call.send(10_000, VP8_KEY)
    world.run(1)
    assert world.plane.route_counters(call.route).packets == 0
    world.plane.set_remote(call.subscriber.transport, world.socket, call.subscriber.address)
    other = second_stream(call)
    world.plane.switch_route(call.route, other.stream)
    other.send(begin, VP8_DELTA)
    other.send(begin + 1, VP8_KEY)
    other.send(begin + 2, b"new")
    first, second = call.received()
    assert (first.payload, second.payload) == (VP8_KEY, b"new")
    assert (second.header.sequence - first.header.sequence) & 0xFFFF == 1


def test_a_republished_source_goes_on_where_the_old_one_ended(world: World) -> None:
    call = keyed(world, 100)
    world.plane.remove_transport(call.publisher.transport)
    other = second_stream(call)
    world.plane.switch_route(call.route, other.stream)
    other.send(5, VP8_KEY)
    (packet,) = call.received()
    assert packet.header.sequence == world.plane.route_counters(call.route).sequence & 0xFFFF
    assert world.plane.route_counters(call.route).packets == 2


def test_a_packet_lost_before_the_switch_is_still_sent_again(world: World) -> None:
    call = keyed(world, 100)
    call.send(101, b"old")
    (old,) = call.received()
    other = second_stream(call)
    world.plane.switch_route(call.route, other.stream)
    other.send(1, VP8_KEY)
    call.received()
    assert world.plane.resend(call.route, [old.header.sequence], world.now_ns) == []
    (again,) = call.subscriber.take_rtp()
    assert again.payload[2:] == b"old"


# --- spool


def test_the_spool_gets_what_was_accepted_once_and_unencrypted(world: World) -> None:
    call = video_call(world, open=False)
    taken: list[tuple[int, int, bytes]] = []
    world.plane.set_spool(call.stream, lambda *args: taken.append(args))
    call.send(1, VP8_KEY, padding=9)
    call.publisher.send(call.rtx(50, 3, b"repaired"))
    call.publisher.send(call.rtx(51, 3, b"repaired"))
    call.send(4, b"", padding=100)
    world.run(1)
    assert [stream for stream, _, _ in taken] == [call.stream] * 3
    assert all(world.now_ns - 1_000 * MS <= at_ns <= world.now_ns for _, at_ns, _ in taken)
    assert taken[0][2] == call.packet(1, VP8_KEY)
    assert taken[1][2][:12] == call.packet(3)[:1].replace(b"\x90", b"\x80") + call.packet(3)[1:12]
    assert taken[1][2][12:] == b"repaired"
    assert taken[2][2] == call.packet(4, b"")  # a probe: its number is not lost
    world.plane.set_spool(call.stream, None)
    call.send(5)
    world.run(1)
    assert len(taken) == 3


# --- lifecycle


def test_removing_is_idempotent_and_handles_are_not_used_again(plane: Plane) -> None:
    plane.bind(("127.0.0.1", 0))
    transport = plane.add_transport()
    stream = plane.add_stream(transport, video_spec())
    gate = plane.add_gate(open=True)
    route = plane.add_route(stream, transport, gate, video_route())
    for _ in range(2):
        plane.remove_route(route)
        plane.remove_stream(stream)
        plane.remove_gate(gate)
        plane.remove_transport(transport)
    assert plane.add_transport() not in {transport, stream, gate, route}
    with pytest.raises(KeyError):
        plane.stream_counters(stream)


def test_a_removed_subscriber_gets_nothing_and_the_others_go_on(world: World) -> None:
    call = keyed(world, 1)
    other = world.peer()
    world.plane.add_route(call.stream, other.transport, call.gate, video_route(0x5555, wait_for_key_frame=False))
    world.plane.remove_transport(call.subscriber.transport)
    call.send(2)
    assert call.received() == []
    assert len(other.take_rtp()) == 1


def test_the_same_spec_again_does_not_disturb_a_route(world: World) -> None:
    call = keyed(world, 1)
    call.send(2, b"lost")
    (packet,) = call.received()
    world.plane.update_route(call.route, video_route())
    assert world.plane.resend(call.route, [packet.header.sequence], world.now_ns) == []


def test_another_spec_holds_from_the_next_packet_on(world: World) -> None:
    call = keyed(world, 1)
    world.plane.update_route(call.route, video_route(payload_types={96: 100}, rtx_payload_types={100: 101}))
    call.send(2)
    (packet,) = call.received()
    assert packet.header.payload_type == 100
    assert packet.header.sequence == world.plane.route_counters(call.route).sequence & 0xFFFF


def test_timed_sends_go_out_at_their_time(world: World) -> None:
    call = keyed(world, 1)
    packet = make_packet(payload_type=120, sequence=5, timestamp=1, ssrc=0xAAAA, payload=b"paced")
    world.plane.send_at(call.route, packet, world.now_ns + 10 * MS)
    assert world.plane.next_timer_ns() == world.now_ns + 10 * MS
    assert call.received(9) == []
    assert [p.payload for p in call.received(1)] == [b"paced"]
    assert world.plane.next_timer_ns() is None


def test_timed_sends_are_bounded(world: World) -> None:
    call = keyed(world, 1)
    for i in range(4_100):
        packet = make_packet(payload_type=120, sequence=i, timestamp=1, ssrc=0xAAAA, payload=i.to_bytes(2, "big"))
        world.plane.send_at(call.route, packet, world.now_ns + (i + 1) * MS)
    assert [p.payload for p in call.subscriber.take_rtp()] == [bytes((0, i)) for i in range(4)]


def test_what_the_kernel_refuses_is_not_forwarded(world: World) -> None:
    call = video_call(world)
    reachable = world.peer()
    route = world.plane.add_route(call.stream, reachable.transport, call.gate, video_route(0x5000))
    world.plane.set_remote(call.subscriber.transport, world.socket, ("203.0.113.1", 9))  # not from loopback
    call.send(1, VP8_KEY)
    for sequence in range(2, 12):
        call.send(sequence, bytes(500))
    world.run(1)
    assert world.plane.drops()[DropReason.SEND_FAILED] == 11
    assert world.plane.route_counters(call.route).packets == world.plane.route_counters(call.route).octets == 0
    assert len(reachable.take_rtp()) == 11
    assert world.plane.route_counters(route).packets == 11
    assert world.plane.gate_counters(call.gate) == {call.stream: 11}, "the meter must not start on what nobody got"


def h264(world: World) -> Call:
    call = video_call(world, stream=video_spec(codecs={96: "H264"}))
    world.run(1)
    return call


def test_an_encoder_that_never_shows_its_parameters_is_forwarded_after_its_second_picture(world: World) -> None:
    call = h264(world)
    call.send(1, b"\x65first", timestamp=1)
    call.send(2, b"\x65slice", timestamp=1)
    call.send(3, b"\x41delta", timestamp=2)
    assert call.received() == []
    call.send(4, b"\x7c\x85second", timestamp=3)
    call.send(5, b"\x7c\x45rest", timestamp=3)
    assert [packet.payload for packet in call.received()] == [b"\x7c\x85second", b"\x7c\x45rest"]


def test_a_picture_whose_parameters_were_lost_once_is_waited_past(world: World) -> None:
    call = h264(world)
    for number in range(0, 40, 4):
        call.send(number + 1, b"\x65bare", timestamp=number)
        assert call.received() == []
        world.plane.pause_route(call.route, paused=True)
        call.send(number + 2, b"\x67parameters", timestamp=number + 1)
        call.send(number + 3, b"\x65picture", timestamp=number + 1)
        world.run(1)
        world.plane.pause_route(call.route, paused=False)
