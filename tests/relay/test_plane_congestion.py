"""What the plane does for congestion control: numbers, pausing, pacing and probing towards a subscriber."""

from __future__ import annotations

import pytest

from relay.pacer import QUEUED_MAX_NS, SLICE_NS
from relay.plane import DropReason, RouteSpec, SentPacket, UpcallKind
from relay.rtp import make_packet
from relay.send_history import SENT_MAX, SendHistory
from tests.relay.plane_peer import MS, VP8_DELTA, VP8_KEY, Call, Rtp, World, audio_spec, video_call, video_route

CC_ID = 2
BIG = VP8_DELTA + bytes(1_000)


def numbered_call(world: World, **changes: object) -> Call:
    call = video_call(world)
    world.plane.update_route(call.route, video_route(transport_cc_id=CC_ID, **changes))
    return call


def number_of(packet: Rtp) -> int:
    value = packet.extension(CC_ID)
    assert value is not None
    return int.from_bytes(value, "big")


def media(packets: list[Rtp]) -> list[Rtp]:
    return [packet for packet in packets if packet.header.payload_type == 120]


def again(packets: list[Rtp]) -> list[Rtp]:
    return [packet for packet in packets if packet.header.payload_type == 121]


def test_everything_to_a_subscriber_is_numbered_in_one_row_and_remembered(world: World) -> None:
    call = numbered_call(world)
    audio = world.plane.add_stream(call.publisher.transport, audio_spec())
    spec = RouteSpec(0x7777, None, {111: 109}, {}, {}, {1: b"a"}, transport_cc_id=CC_ID)
    world.plane.add_route(audio, call.subscriber.transport, call.gate, spec)
    call.send(100, VP8_KEY)
    call.publisher.send(make_packet(payload_type=111, sequence=5, timestamp=960, ssrc=0x3333, payload=b"voice"))
    call.send(101, BIG)
    received = call.received()
    assert [number_of(packet) for packet in received] == [0, 1, 2]
    world.run(150)
    sequence = media(received)[0].header.sequence
    assert world.plane.resend(call.route, [sequence], world.now_ns) == []
    (repeat,) = again(call.received())
    assert number_of(repeat) == 3
    sent = world.plane.sent_packets(call.subscriber.transport, 0, 5)
    assert [packet.number for packet in sent if packet] == [0, 1, 2, 3]
    assert sent[4] is None
    assert sent[2] is not None
    assert sent[2].size_bytes > 1_000


def test_a_run_is_the_sum_of_what_was_sent_and_of_when_it_came(world: World) -> None:
    call = numbered_call(world)
    for i in range(12):
        call.send(100 + i, VP8_KEY + bytes(40 * i) if i == 0 else VP8_DELTA + bytes(40 * i))
        call.received(3)
    plane, to = world.plane, call.subscriber.transport
    deltas = (4, 0, -2, 30, 4, 4)
    came_ns = [world.now_ns + 250_000 * sum(deltas[: i + 1]) for i in range(len(deltas))]
    sent = [packet for packet in plane.sent_packets(to, 3, len(deltas)) if packet is not None]
    delays_ns = [at_ns - packet.sent_ns for packet, at_ns in zip(sent, came_ns, strict=True)]
    run = plane.sent_run(to, 3, world.now_ns, deltas, 250_000)
    assert run is not None
    assert (run.first, run.packets) == (3, 6)
    assert run.size_bytes == sum(packet.size_bytes for packet in sent)
    assert (run.last_sent_ns, run.last_arrival_ns) == (max(packet.sent_ns for packet in sent), max(came_ns))
    assert (run.least_ns, run.most_ns, run.newest_ns) == (min(delays_ns), max(delays_ns), delays_ns[-1])
    assert plane.sent_run(to, 3, world.now_ns, (4, None, 4), 250_000) is None
    assert plane.sent_run(to, 10, world.now_ns, (4, 4, 4), 250_000) is None, "the last of them was never sent"
    assert plane.sent_run(to, 3, world.now_ns, (), 250_000) is None
    plane.probe(call.route, 1_000_000, 3_000, 7, world.now_ns)
    call.received(20)
    assert plane.sent_run(to, 11, world.now_ns, (4, 4), 250_000) is None, "a probe's is looked at by itself"


def test_a_page_whose_clock_runs_off_costs_no_fault(world: World) -> None:
    call = numbered_call(world)
    call.send(100, VP8_KEY)
    run = world.plane.sent_run(call.subscriber.transport, 0, 1 << 70, (1,), 250_000)
    assert run is None or run.most_ns > 1 << 60


def test_without_rtx_a_packet_goes_out_again_byte_for_byte(world: World) -> None:
    """Other bytes under the same SRTP index would give AES-GCM's key away."""
    call = video_call(world)
    audio = world.plane.add_stream(call.publisher.transport, audio_spec())
    spec = RouteSpec(0x7777, None, {111: 109}, {}, {}, {1: b"a"}, transport_cc_id=CC_ID)
    route = world.plane.add_route(audio, call.subscriber.transport, call.gate, spec)
    for sequence in (5, 6):
        voice = make_packet(payload_type=111, sequence=sequence, timestamp=960, ssrc=0x3333, payload=b"voice")
        call.publisher.send(voice)
    world.run(1)
    first, second = call.subscriber.socket.recv(2_048), call.subscriber.socket.recv(2_048)
    assert world.plane.resend(route, [int.from_bytes(first[2:4], "big")], world.now_ns) == []
    assert call.subscriber.socket.recv(2_048) == first != second


def test_a_long_mid_does_not_hide_the_number(world: World) -> None:
    call = numbered_call(world, set_extensions={1: b"m" * 17})
    call.send(100, VP8_KEY)
    assert [number_of(packet) for packet in call.received()] == [0]


@pytest.mark.parametrize("start", [0, 1, 32_767, 32_768, 65_534, 65_535])
def test_the_history_knows_its_newest_packets_across_the_wrap(start: int) -> None:
    history = SendHistory()
    for number in range(start + 5):
        history.note(100, number, cluster=number % 7)
    newest = start + 4
    assert history.get(newest & 0xFFFF) == SentPacket(newest, 128, newest, newest % 7)
    assert history.get((newest + 1) & 0xFFFF) is None
    if newest >= SENT_MAX:
        assert history.get((newest - SENT_MAX) & 0xFFFF) is None


def test_a_paused_route_sends_nothing_and_goes_on_with_a_key_frame(world: World) -> None:
    call = numbered_call(world)
    call.send(100, VP8_KEY)
    (first,) = call.received()
    world.plane.pause_route(call.route, paused=True)
    call.send(101)
    call.send(102, VP8_KEY)
    assert call.received() == []
    assert world.plane.resend(call.route, [first.header.sequence], world.now_ns + 500 * MS) == []
    assert call.received() == []
    world.now_ns += 300 * MS
    world.run()
    world.plane.pause_route(call.route, paused=False)
    assert UpcallKind.KEY_FRAME_WANTED in [upcall.kind for upcall in world.run(1)]
    call.send(103)
    assert call.received() == []
    call.send(104, VP8_KEY)
    (next_one,) = call.received()
    assert next_one.header.sequence == (first.header.sequence + 1) & 0xFFFF
    assert world.plane.drops()[DropReason.ROUTE_PAUSED] == 2


def test_video_waits_for_its_pace_and_keeps_its_order(world: World) -> None:
    call = numbered_call(world)
    world.plane.set_pace(call.subscriber.transport, 1_000_000)
    for i in range(10):
        call.send(100 + i, VP8_KEY + bytes(1_200) if i == 0 else BIG)
    came = call.received()
    assert 0 < len(came) < 4
    for _ in range(14):
        world.run(5)
        came += call.subscriber.take_rtp()
    assert 4 < len(came) < 10
    for _ in range(30):
        world.run(5)
        came += call.subscriber.take_rtp()
    numbers = [packet.header.sequence for packet in came]
    assert numbers == [(numbers[0] + i) & 0xFFFF for i in range(10)]
    assert [number_of(packet) for packet in came] == list(range(10))
    assert world.plane.next_timer_ns() is None or world.plane.next_timer_ns() > world.now_ns + SLICE_NS


def test_audio_does_not_wait(world: World) -> None:
    call = numbered_call(world)
    audio = world.plane.add_stream(call.publisher.transport, audio_spec())
    world.plane.add_route(audio, call.subscriber.transport, call.gate, RouteSpec(0x7777, None, {111: 109}))
    world.plane.set_pace(call.subscriber.transport, 100_000)
    for i in range(5):
        call.send(100 + i, VP8_KEY + bytes(1_200) if i == 0 else BIG)
    call.publisher.send(make_packet(payload_type=111, sequence=5, timestamp=960, ssrc=0x3333, payload=b"voice"))
    assert 109 in [packet.header.payload_type for packet in call.received()]


def test_too_much_waiting_is_dropped_up_to_a_key_frame_without_a_gap(world: World) -> None:
    call = numbered_call(world)
    world.plane.set_pace(call.subscriber.transport, 100_000)
    upcalls = []
    for i in range(20):
        call.send(100 + i, VP8_KEY + bytes(1_200) if i == 0 else BIG)
        upcalls += world.run(0)
    sent = call.subscriber.take_rtp()
    assert world.plane.drops()[DropReason.PACER_FULL] > 0
    world.now_ns += QUEUED_MAX_NS
    world.plane.set_pace(call.subscriber.transport, None)
    world.run(1_000)
    sent += call.subscriber.take_rtp()
    call.send(200, VP8_KEY)
    sent += call.received()
    numbers = [packet.header.sequence for packet in sent]
    assert numbers == [(numbers[0] + i) & 0xFFFF for i in range(len(numbers))]
    assert len(numbers) < 20


def test_a_probe_sends_again_what_was_sent_at_its_rate_and_is_marked(world: World) -> None:
    call = numbered_call(world)
    for i in range(30):
        call.send(100 + i, VP8_KEY + bytes(900) if i == 0 else BIG)
    call.received()
    assert world.plane.probe(call.route, 1_000_000, 10_000, 7, world.now_ns) == 10_000
    came: list[Rtp] = []
    for _ in range(40):
        came += again(call.received(1))
    assert 3 <= len(came) <= 6, "40 ms of 1 Mb/s"
    for _ in range(100):
        came += again(call.received(1))
    assert 9 <= len(came) <= 11
    sent = world.plane.sent_packets(call.subscriber.transport, 30, len(came))
    assert {packet.cluster for packet in sent if packet} == {7}
    assert world.plane.next_timer_ns() is None


def test_a_probe_without_anything_to_send_again_is_padding(world: World) -> None:
    call = numbered_call(world)
    assert world.plane.probe(call.route, 1_000_000, 3_000, 1, world.now_ns)
    came: list[Rtp] = []
    for _ in range(60):
        came += again(call.received(1))
    assert len(came) > 8
    assert all(not packet.payload for packet in came)


def test_a_probe_of_no_bytes_ends_the_one_under_way(world: World) -> None:
    call = numbered_call(world)
    world.plane.probe(call.route, 1_000_000, 3_000, 1, world.now_ns)
    assert again(call.received(10))
    world.plane.probe(call.route, 1_000_000, 0, 0, world.now_ns)
    assert [packet for _ in range(60) for packet in again(call.received(1))] == []
    assert world.plane.next_timer_ns() is None


def test_a_route_without_rtx_or_numbers_does_not_probe(world: World) -> None:
    call = numbered_call(world, rtx_ssrc=None, rtx_payload_types={})
    assert world.plane.probe(call.route, 1_000_000, 3_000, 1, world.now_ns) == 0
    other = video_call(world)
    assert world.plane.probe(other.route, 1_000_000, 3_000, 1, world.now_ns) == 0


def test_a_closed_gate_lets_neither_probes_nor_what_waited_out(world: World) -> None:
    call = numbered_call(world)
    world.plane.set_pace(call.subscriber.transport, 100_000)
    for i in range(6):
        call.send(100 + i, VP8_KEY + bytes(1_200) if i == 0 else BIG)
    call.received()
    world.plane.probe(call.route, 1_000_000, 3_000, 1, world.now_ns)
    world.plane.set_gate(call.gate, open=False)
    for _ in range(50):
        assert call.received(10) == []
