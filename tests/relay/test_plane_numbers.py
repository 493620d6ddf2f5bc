"""Continuous numbers: what the plane leaves out never looks like loss, and no number carries two packets."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.plane import DropReason, UpcallKind
from relay.plane_choice import PLANES, make_plane
from tests.relay.plane_peer import VP8_KEY, Call, Rtp, World, audio_call, video_call

STARTS = [0, 1, 32_767, 32_768, 65_534, 65_535]


def offsets(packets: list[Rtp]) -> list[int]:
    """Sequence numbers relative to the first."""
    first = packets[0].header.sequence
    return [((p.header.sequence - first + 0x8000) & 0xFFFF) - 0x8000 for p in packets]


def begun(world: World, start: int) -> Call:
    call = video_call(world)
    call.send(start & 0xFFFF, VP8_KEY)
    return call


@pytest.mark.parametrize("start", STARTS)
def test_numbers_go_on_over_the_wrap(world: World, start: int) -> None:
    call = begun(world, start)
    for i in range(1, 50):
        call.send((start + i) & 0xFFFF)
    assert offsets(call.received()) == list(range(50))


@pytest.mark.parametrize("start", STARTS)
def test_probes_of_padding_leave_no_hole(world: World, start: int) -> None:
    call = begun(world, start)
    for i in range(1, 31):
        if i % 3 == 0:
            call.send((start + i) & 0xFFFF, b"", padding=200)
        else:
            call.send((start + i) & 0xFFFF, bytes((i,)))
    packets = call.received()
    assert offsets(packets) == list(range(21))
    assert [p.payload[0] for p in packets[1:]] == [i for i in range(1, 31) if i % 3]
    assert world.plane.drops()[DropReason.PADDING_ONLY] == 10
    world.run_for(100)
    assert world.plane.stream_counters(call.stream).nacks_sent == 0


def test_a_probe_after_a_later_packet_fills_its_place_empty(world: World) -> None:
    call = begun(world, 10)
    call.send(12, b"b")
    call.send(11, b"", padding=50)
    packets = call.received()
    assert offsets(packets) == [0, 2, 1]
    assert [p.payload for p in packets] == [VP8_KEY, b"b", b""]


def test_a_packet_reordered_across_a_probe_keeps_its_place(world: World) -> None:
    call = begun(world, 10)
    call.send(12, b"", padding=50)
    call.send(13, b"c")
    call.send(11, b"a")
    assert offsets(call.received()) == [0, 2, 1]


def test_rtx_fills_the_hole_and_its_copies_are_dropped(world: World) -> None:
    call = begun(world, 10)
    call.send(12, b"c")
    call.publisher.send(call.rtx(900, 11, b"b"))
    call.publisher.send(call.rtx(901, 11, b"b"))
    call.publisher.send(call.rtx(902, 10, VP8_KEY))
    packets = call.received()
    assert offsets(packets) == [0, 2, 1]
    assert packets[2].payload == b"b"
    assert packets[2].header.payload_type == 120
    assert world.plane.drops()[DropReason.DUPLICATE] == 2
    counters = world.plane.stream_counters(call.stream)
    assert (counters.packets, counters.unique_packets, counters.repaired) == (2, 3, 1)


def test_rtx_of_an_unknown_payload_type_and_empty_rtx_are_dropped(world: World) -> None:
    call = begun(world, 10)
    call.publisher.send(call.rtx(1, 11, b"b", rtx_payload_type=98))
    call.publisher.send(call.rtx(2, 12, b"")[:-2] + b"")
    assert len(call.received()) == 1
    drops = world.plane.drops()
    assert (drops[DropReason.RTX_WITHOUT_STREAM], drops[DropReason.PADDING_ONLY]) == (1, 1)


def test_a_restart_of_the_numbers_leaves_no_hole(world: World) -> None:
    call = audio_call(world)
    call.send(100, b"a")
    call.send(9_000, b"b")
    call.send(9_001, b"c")
    assert offsets(call.received()) == [0, 1, 2]


def test_a_video_restart_asks_for_a_key_frame(world: World) -> None:
    call = begun(world, 100)
    world.run(300)
    call.send(9_000, b"b")
    assert UpcallKind.KEY_FRAME_WANTED in [u.kind for u in world.run(1)]


def test_packets_from_before_a_restart_do_not_come_again_as_others(world: World) -> None:
    call = audio_call(world)
    call.send(100, b"a")
    call.send(9_000, b"b")
    call.send(8_999, b"late")
    packets = call.received()
    assert [p.payload for p in packets] == [b"a", b"b"]


@pytest.mark.parametrize("name", sorted(PLANES))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(STARTS),
    st.lists(
        st.tuples(st.integers(-40, 60), st.sampled_from(["media", "media", "media", "probe", "rtx", "key", "gate"])),
        max_size=60,
    ),
)
def test_no_number_ever_carries_two_packets(name: str, start: int, steps: list[tuple[int, str]]) -> None:
    plane = make_plane(name)
    world = World(plane)
    try:
        call = begun(world, start)
        number, rtx_number, open_ = start + 0x10000, 0, True
        for step, kind in steps:
            number = max(number + step, start + 0x10000 - 500)
            sequence, payload = number & 0xFFFF, number.to_bytes(4, "big")
            if kind == "media":
                call.send(sequence, payload)
            elif kind == "key":
                call.send(sequence, VP8_KEY + payload)
            elif kind == "probe":
                call.send(sequence, b"", padding=20)
            elif kind == "rtx":
                rtx_number += 1
                call.publisher.send(call.rtx(rtx_number, sequence, payload))
            else:
                open_ = not open_
                plane.set_gate(call.gate, open=open_)
            world.run(1)
        sent = [(p.header.sequence, p.payload) for p in call.subscriber.take_rtp()]
        assert len({sequence for sequence, _ in sent}) == len(sent)
        payloads = [payload for _, payload in sent if payload and payload != VP8_KEY]
        assert len(set(payloads)) == len(payloads)
    finally:
        world.close()
