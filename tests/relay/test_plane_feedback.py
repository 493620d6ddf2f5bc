"""What the plane says to senders by itself, and how it answers NACKs of subscribers."""

from __future__ import annotations

from relay.packet_cache import AGE_MAX_NS, VIDEO_PACKETS
from relay.plane import DropReason, UpcallKind
from relay.plane_routes import AGAIN_BYTES_MAX, RESEND_INTERVAL_MIN_NS
from relay.rtcp import Nack
from relay.rtcp_transport_cc import TransportFeedback
from relay.rtp import make_packet
from tests.relay.plane_peer import MS, VP8_KEY, VP8_MORE, Call, World, video_call, video_route, video_spec


def keyed(world: World, start: int = 100) -> Call:
    call = video_call(world)
    call.send(start, VP8_KEY)
    call.received()
    return call


def nacks(call: Call) -> list[tuple[int, ...]]:
    return [item.sequences for item in call.publisher.take_rtcp() if isinstance(item, Nack)]


# --- NACKs to the publisher


def test_a_hole_is_asked_for_until_it_is_repaired(world: World) -> None:
    call = keyed(world, 65_534)
    call.send(3)
    world.run_for(15)
    assert nacks(call) == [(65_535, 0, 1, 2)]
    call.publisher.send(call.rtx(1, 0, b"x"))
    world.run_for(110)
    assert nacks(call) == [(65_535, 1, 2)]
    for i, sequence in enumerate((65_535, 1, 2)):
        call.publisher.send(call.rtx(2 + i, sequence, b"x"))
    world.run(1)
    world.run_for(1_000, step_ms=20)
    assert nacks(call) == []
    assert world.plane.next_timer_ns() is None


def test_the_round_trip_time_spaces_repeats(world: World) -> None:
    call = keyed(world)
    world.plane.set_round_trip(call.publisher.transport, 30 * MS)
    call.send(102)
    world.run_for(75)
    assert len(nacks(call)) == 3  # at 8, 38 and 68 ms


def test_a_hole_never_repaired_ends_in_a_key_frame(world: World) -> None:
    call = keyed(world)
    world.run(300)
    call.send(102)
    upcalls = world.run_for(1_500, step_ms=10)
    assert len(nacks(call)) == 8
    assert [u.stream for u in upcalls if u.kind is UpcallKind.KEY_FRAME_WANTED] == [call.stream]


def test_a_large_hole_is_not_asked_for_but_a_key_frame_is(world: World) -> None:
    call = keyed(world)
    world.run(300)
    call.send(600)
    upcalls = world.run_for(50)
    assert nacks(call) == []
    assert UpcallKind.KEY_FRAME_WANTED in [u.kind for u in upcalls]


def test_without_nack_nothing_is_asked_for(world: World) -> None:
    call = video_call(world, stream=video_spec(nack=False))
    call.send(1, VP8_KEY)
    call.send(5)
    world.run_for(100)
    assert nacks(call) == []


def test_a_removed_stream_asks_no_more(world: World) -> None:
    call = keyed(world)
    call.send(105)
    world.run(1)
    world.plane.remove_stream(call.stream)
    world.run_for(100)
    assert nacks(call) == []


# --- transport-cc


def test_all_streams_and_rtx_share_one_feedback(world: World) -> None:
    call = keyed(world, 100)
    world.plane.add_stream(call.publisher.transport, video_spec(0x4444))
    call.send(101, transport_cc=65_534)
    call.send(102, transport_cc=65_535)
    call.send(103, b"", padding=30, transport_cc=0)
    call.send(104, transport_cc=2)
    world.run_for(100)
    (feedback,) = [item for item in call.publisher.take_rtcp() if isinstance(item, TransportFeedback)]
    assert feedback.base_sequence == 65_534
    assert [delta is not None for delta in feedback.deltas] == [True, True, True, False, True]


def test_feedbacks_follow_each_other_without_a_gap(world: World) -> None:
    call = keyed(world, 100)
    feedbacks: list[TransportFeedback] = []
    for i in range(60):
        call.send(101 + i, transport_cc=i)
        world.run(10)
        feedbacks += [item for item in call.publisher.take_rtcp() if isinstance(item, TransportFeedback)]
    assert 6 <= len(feedbacks) <= 8
    assert [f.feedback_count for f in feedbacks] == list(range(len(feedbacks)))
    expected = 0
    for feedback in feedbacks:
        assert feedback.base_sequence == expected
        expected += len(feedback.deltas)
    ticks = [delta for feedback in feedbacks for delta in feedback.deltas[1:] if delta is not None]
    assert 30 <= sum(ticks) / len(ticks) <= 45  # 10 ms are 40 ticks


def test_feedback_that_is_nearly_due_leaves_with_what_is_due(world: World) -> None:
    first, second, third = (video_call(world) for _ in range(3))
    for call, ms in ((first, 1), (second, 10), (third, 30)):
        world.run(ms)
        call.send(100, VP8_KEY, transport_cc=0)
        world.run(0)
    world.run_for(76 - 40, step_ms=1)
    told = [call.publisher.take_rtcp() for call in (first, second, third)]
    assert [len(items) for items in told] == [1, 1, 0]


def test_packets_of_an_unannounced_stream_do_not_look_lost(world: World) -> None:
    call = keyed(world, 100)
    call.send(101, transport_cc=0)
    stranger = make_packet(
        payload_type=96, sequence=1, timestamp=1, ssrc=0x4444, payload=b"x", extensions=[(3, b"\0\1")]
    )
    call.publisher.send(stranger)
    call.send(102, transport_cc=2)
    world.run(1)
    world.plane.add_stream(call.publisher.transport, video_spec(0x4444))
    world.run_for(200)
    (feedback,) = [item for item in call.publisher.take_rtcp() if isinstance(item, TransportFeedback)]
    assert [delta is not None for delta in feedback.deltas] == [True] * 3


def test_no_feedback_without_the_extension(world: World) -> None:
    call = keyed(world, 100)
    for i in range(20):
        call.send(101 + i)
    world.run_for(200)
    assert call.publisher.take_rtcp() == []


# --- NACKs of the subscriber


def test_a_lost_packet_is_sent_again_over_rtx(world: World) -> None:
    call = keyed(world, 100)
    for sequence in (101, 102, 103):
        call.send(sequence, bytes((sequence,)), marker=sequence == 102)
    packets = call.received()
    wanted = [p.header.sequence for p in packets[:2]]
    assert world.plane.resend(call.route, wanted, world.now_ns) == []
    again = call.subscriber.take_rtp()
    assert [p.header.ssrc for p in again] == [0x999A] * 2
    assert [p.header.payload_type for p in again] == [121] * 2
    assert [int.from_bytes(p.payload[:2], "big") for p in again] == wanted
    assert [p.payload[2:] for p in again] == [b"\x65", b"\x66"]
    assert [(p.header.timestamp, p.header.marker) for p in again] == [
        (p.header.timestamp, p.header.marker) for p in packets[:2]
    ]
    assert again[1].header.sequence == (again[0].header.sequence + 1) & 0xFFFF
    assert (again[0].extension(1), again[0].extension(7)) == (b"mid0", b"\x2a")
    assert world.plane.route_counters(call.route).retransmitted == 2


def test_a_packet_is_sent_again_once_per_round_trip(world: World) -> None:
    call = keyed(world, 100)
    call.send(101, b"x")
    (packet,) = call.received()
    world.plane.set_round_trip(call.subscriber.transport, 40 * MS)
    sent = 0
    for _ in range(10):
        assert world.plane.resend(call.route, [packet.header.sequence] * 3, world.now_ns) == []
        sent += len(call.subscriber.take_rtp())
        world.run(10)
    assert sent == 3


def test_who_asks_again_and_again_is_sent_no_more_than_the_stream_once_more(world: World) -> None:
    call = video_call(world)
    call.send(0, VP8_KEY + bytes(1000))
    for sequence in range(1, 900):
        call.send(sequence, VP8_MORE + bytes(1000))
        world.run()
    sent = call.subscriber.take_rtp()
    wanted = [packet.header.sequence for packet in sent]
    world.plane.set_round_trip(call.subscriber.transport, 0)  # as a forged report says
    again = 0
    for _ in range(100):
        world.run(10)
        assert world.plane.resend(call.route, wanted, world.now_ns) == []
        again += sum(len(packet.data) for packet in call.subscriber.take_rtp())
    assert 0 < again <= AGAIN_BYTES_MAX + 2 * 1100
    assert world.plane.drops()[DropReason.RESEND_OVER_BUDGET] > 0
    call.send(900, VP8_MORE + bytes(1000))
    (newest,) = call.received()
    world.plane.resend(call.route, [newest.header.sequence], world.now_ns)
    assert len(call.received()) <= 1, "what is sent pays for what is sent again"


def test_a_packet_is_not_sent_again_at_once_however_short_the_round_trip_is_said_to_be(world: World) -> None:
    call = video_call(world)
    call.send(0, VP8_KEY)
    (packet,) = call.received()
    world.plane.set_round_trip(call.subscriber.transport, 0)
    for _ in range(6):
        world.run(10)
        world.plane.resend(call.route, [packet.header.sequence], world.now_ns)
    assert len(call.received()) == 60 // (RESEND_INTERVAL_MIN_NS // MS)


def test_without_rtx_the_very_same_packet_goes_again(world: World) -> None:
    publisher, subscriber = world.peer(), world.peer()
    stream = world.plane.add_stream(publisher.transport, video_spec())
    gate = world.plane.add_gate(open=True)
    spec = video_route(rtx_ssrc=None, rtx_payload_types={})
    route = world.plane.add_route(stream, subscriber.transport, gate, spec)
    call = Call(world, publisher, subscriber, stream, gate, route, 0x1111, 96)
    call.send(1, VP8_KEY)
    world.run(1)
    first = subscriber.socket.recv(2_000)
    packet = subscriber.receiving.unprotect_bytes(first)
    assert packet is not None
    assert world.plane.resend(route, [int.from_bytes(packet[2:4], "big")], world.now_ns) == []
    assert subscriber.socket.recv(2_000) == first


def test_what_the_cache_lost_or_never_had_is_told(world: World) -> None:
    call = keyed(world, 100)
    packets = []
    for i in range(VIDEO_PACKETS):
        call.send(101 + i, bytes(4))
        if i % 64 == 63:
            packets += call.received()
    assert len(packets) == VIDEO_PACKETS
    newest = packets[-1].header.sequence
    outside = [(newest - VIDEO_PACKETS) & 0xFFFF, (newest + 1) & 0xFFFF, (newest + 20_000) & 0xFFFF]
    assert world.plane.resend(call.route, outside, world.now_ns) == outside
    inside = [(newest - VIDEO_PACKETS + 1) & 0xFFFF, newest]
    assert world.plane.resend(call.route, inside, world.now_ns) == []
    assert len(call.subscriber.take_rtp()) == 2
    assert world.plane.resend(call.route, [newest], world.now_ns + AGE_MAX_NS + MS) == [newest]
    assert world.plane.route_counters(call.route).not_in_cache == 4


def test_a_hole_of_the_publisher_is_lost_only_when_nobody_is_asked_any_more(world: World) -> None:
    call = keyed(world, 100)
    call.send(101, b"", padding=20)
    call.send(103)
    (packet,) = call.received()
    missing = (packet.header.sequence - 1) & 0xFFFF
    assert world.plane.resend(call.route, [missing], world.now_ns) == []
    world.run_for(1_500, step_ms=10)
    assert world.plane.resend(call.route, [missing], world.now_ns) == [missing]
    call.publisher.send(call.rtx(1, 102, b"repaired after all"))
    call.received()
    assert world.plane.resend(call.route, [missing], world.now_ns) == []


def test_without_nack_a_hole_is_lost_at_once(world: World) -> None:
    call = video_call(world, stream=video_spec(nack=False))
    call.send(100, VP8_KEY)
    call.send(102)
    packets = call.received()
    missing = (packets[-1].header.sequence - 1) & 0xFFFF
    assert world.plane.resend(call.route, [missing], world.now_ns) == [missing]


def test_packets_of_every_run_are_sent_again(world: World) -> None:
    call = keyed(world, 100)
    sent = []
    for start in (200, 300, 400):
        world.plane.set_gate(call.gate, open=False)
        world.plane.set_gate(call.gate, open=True)
        call.send(start, VP8_KEY + bytes((start // 100,)))
        sent += call.received()
    numbers = [p.header.sequence for p in sent]
    assert world.plane.resend(call.route, numbers, world.now_ns) == []
    assert [p.payload[-1] for p in call.subscriber.take_rtp()] == [2, 3, 4]


def test_what_went_under_another_description_is_not_sent_again(world: World) -> None:
    call = keyed(world, 100)
    call.send(101)
    (packet,) = call.received()
    world.plane.update_route(call.route, video_route(set_extensions={1: b"other"}))
    assert world.plane.resend(call.route, [packet.header.sequence], world.now_ns) == [packet.header.sequence]
