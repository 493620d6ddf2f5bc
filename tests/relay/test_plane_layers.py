"""Layers: whatever stream or temporal layers feed a route, the subscriber sees one unbroken stream."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.plane import DropReason, StreamHandle
from relay.plane_choice import PLANES, make_plane
from relay.rtp import make_packet, read_header
from relay.vp8_rewrite import read_vp8
from tests.relay.plane_peer import Peer, Rtp, World, video_route, video_spec

STARTS = [0, 1, 32_767, 32_768, 65_534, 65_535]
PATTERN = [(0, False), (2, True), (1, True), (2, False)]
"""Temporal layer and sync bit of the frames of L1T3, repeated."""


def vp8(picture: int, tl0: int, temporal: int, *, sync: bool, key: bool, first: bool, body: bytes = b"x") -> bytes:
    """A payload with all of VP8's numbers."""
    head = bytes((0x90 if first else 0x80, 0xE0))
    head += (0x8000 | picture & 0x7FFF).to_bytes(2, "big") + bytes((tl0 & 0xFF, temporal << 6 | sync << 5))
    return head + (b"\x10\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01" if key else b"\x11\x00\x00") + body


class Layer:
    """One simulcast layer of a publisher, as a browser sends it."""

    def __init__(self, world: World, publisher: Peer, ssrc: int, start: int, clock: int, packets: int = 2) -> None:
        self.publisher = publisher
        self.ssrc, self.sequence, self.clock, self.packets = ssrc, start, clock, packets
        self.picture, self.tl0, self.frames = start & 0x7FFF, start & 0xFF, 0
        self.handle: StreamHandle = world.plane.add_stream(publisher.transport, video_spec(ssrc))

    def frame(self, capture: int, *, key: bool = False) -> list[bytes]:
        """The packets of the frame captured at ``capture`` (in ticks)."""
        if key:
            self.frames = 0
        temporal, sync = PATTERN[self.frames % 4]
        if temporal == 0:
            self.tl0 += 1
        made = []
        for i in range(self.packets):
            body = bytes((self.ssrc >> 8,)) + capture.to_bytes(4, "big") + bytes((i,))
            made.append(
                make_packet(
                    payload_type=96,
                    sequence=self.sequence,
                    timestamp=(self.clock + capture) & 0xFFFF_FFFF,
                    ssrc=self.ssrc,
                    marker=i == self.packets - 1,
                    payload=vp8(self.picture, self.tl0, temporal, sync=sync, key=key, first=i == 0, body=body),
                )
            )
            self.sequence += 1
        self.picture += 1
        self.frames += 1
        return made


class Show:
    """A publisher of two layers, and one subscriber."""

    def __init__(self, world: World, start: int = 10) -> None:
        self.world = world
        self.publisher, self.subscriber = world.peer(), world.peer()
        self.low = Layer(world, self.publisher, 0x1000, start, 1_000)
        self.high = Layer(world, self.publisher, 0x2000, (start + 7_777) & 0xFFFF, 0xFFFF_0000, packets=3)
        gate = world.plane.add_gate(open=True)
        self.route = world.plane.add_route(self.low.handle, self.subscriber.transport, gate, video_route())
        self.capture = 0

    def send(self, packets: list[bytes]) -> None:
        for packet in packets:
            self.publisher.send(packet)

    def step(self, *, key: bool = False) -> list[Rtp]:
        """One frame of each layer, 33 ms later; what the subscriber gets."""
        self.capture += 3_000
        self.send(self.low.frame(self.capture, key=key) + self.high.frame(self.capture, key=key))
        self.world.run(33)
        return self.subscriber.take_rtp()

    def switch(self, layer: Layer, *, aligned: bool = True) -> None:
        other = self.low if layer is self.high else self.high
        now = self.world.plane.route_stream(self.route)
        shift = (other.clock - layer.clock) & 0xFFFF_FFFF if now != layer.handle else 0
        self.world.plane.switch_route(self.route, layer.handle, shift if aligned else None)


def ssrc_of(packet: Rtp) -> int:
    """Which layer's frame it is."""
    return packet.payload[-6]


def captured(packet: Rtp) -> int:
    return int.from_bytes(packet.payload[-5:-1], "big")


def numbers(packet: Rtp) -> tuple[int, int, int]:
    """Picture id, TL0PICIDX and temporal layer."""
    read = read_vp8(packet.payload, 0, len(packet.payload))
    assert read is not None
    return read.picture, read.tl0, read.temporal


def check_unbroken(packets: list[Rtp]) -> None:
    """Sequence numbers, picture ids and TL0PICIDX go up by one, timestamps never back."""
    for before, after in itertools.pairwise(packets):
        assert (after.header.sequence - before.header.sequence) & 0xFFFF == 1
        ahead = (after.header.timestamp - before.header.timestamp) & 0xFFFF_FFFF
        (picture, tl0, _), (next_picture, next_tl0, temporal) = numbers(before), numbers(after)
        if captured(before) == captured(after) and ssrc_of(before) == ssrc_of(after):
            assert (next_picture, next_tl0, ahead) == (picture, tl0, 0)
        else:
            assert before.header.marker
            assert 0 < ahead < 90_000
            assert (next_picture - picture) & 0x7FFF == 1
            assert (next_tl0 - tl0) & 0xFF == (1 if temporal == 0 else 0)


@pytest.mark.parametrize("start", STARTS)
def test_a_switch_waits_for_a_key_frame_and_leaves_no_mark(world: World, start: int) -> None:
    show = Show(world, start)
    got = show.step(key=True)
    for _ in range(5):
        got += show.step()
    show.switch(show.high)
    got += show.step() + show.step()
    assert {ssrc_of(packet) for packet in got} == {0x10}
    assert world.plane.route_stream(show.route) == show.low.handle
    got += show.step(key=True)
    for _ in range(5):
        got += show.step()
    check_unbroken(got)
    assert world.plane.route_stream(show.route) == show.high.handle
    assert captured(got[-1]) == show.capture


def test_timestamps_follow_the_sender_reports_across_a_switch(world: World) -> None:
    show = Show(world)
    (first, *_) = show.step(key=True)
    base = (first.header.timestamp - captured(first)) & 0xFFFF_FFFF
    show.step()
    show.switch(show.high)
    show.capture += 3_000
    show.send(show.high.frame(show.capture, key=True))
    world.run(20)
    (packet, *_) = show.subscriber.take_rtp()
    assert (packet.header.timestamp - captured(packet)) & 0xFFFF_FFFF == base


def test_time_never_goes_back_when_the_new_layer_is_late_and_recovers_at_the_next_switch(world: World) -> None:
    show = Show(world)
    got = show.step(key=True)
    base = (got[0].header.timestamp - captured(got[0])) & 0xFFFF_FFFF
    show.switch(show.high)
    got += show.step(key=True)  # the low layer's packets of this moment went out first
    check_unbroken(got)
    assert (got[-1].header.timestamp - captured(got[-1])) & 0xFFFF_FFFF == base + 1
    show.switch(show.low)
    got += show.step()
    got += show.step(key=True)
    check_unbroken(got)
    show.capture += 90_000
    assert (got[-1].header.timestamp - captured(got[-1])) & 0xFFFF_FFFF in (base, base + 1)


def test_without_sender_reports_timestamps_follow_the_time_that_passed(world: World) -> None:
    show = Show(world)
    got = show.step(key=True)
    show.switch(show.high, aligned=False)
    got += show.step(key=True)
    check_unbroken(got)


def test_an_old_key_frame_sent_again_as_a_probe_switches_nothing(world: World) -> None:
    show = Show(world)
    show.step(key=True)
    (again, *_) = old = show.high.frame(show.capture + 3_000, key=True)
    show.send(old)
    world.run(33)
    show.switch(show.high)
    header = read_header(again, len(again))
    assert header is not None
    payload = header.sequence.to_bytes(2, "big") + again[header.payload_start :]
    rtx = make_packet(payload_type=97, sequence=1, timestamp=header.timestamp, ssrc=0x2001, payload=payload)
    show.publisher.send(rtx)
    world.run(1)
    assert world.plane.route_stream(show.route) == show.low.handle


def test_a_switch_taken_back_before_its_key_frame_changes_nothing(world: World) -> None:
    show = Show(world)
    got = show.step(key=True)
    show.switch(show.high)
    show.switch(show.low)
    got += show.step(key=True)
    assert {ssrc_of(packet) for packet in got} == {0x10}
    check_unbroken(got)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(("temporal_max", "kept"), [(0, 1), (1, 2), (2, 4)])
def test_temporal_layers_are_left_out_without_a_gap(world: World, start: int, temporal_max: int, kept: int) -> None:
    show = Show(world, start)
    world.plane.set_route_layers(show.route, temporal_max)
    got = show.step(key=True)
    for _ in range(39):
        got += show.step()
    check_unbroken(got)
    assert len(got) == 10 * kept * show.low.packets
    assert all(numbers(packet)[2] <= temporal_max for packet in got)


def test_fewer_layers_apply_from_the_next_frame_and_more_from_one_that_needs_none_before(world: World) -> None:
    show = Show(world)
    got = show.step(key=True)
    got += show.step()
    world.plane.set_route_layers(show.route, 0)
    for _ in range(6):
        got += show.step()  # layers 1 2 0 2 1 2
    world.plane.set_route_layers(show.route, 2)
    for _ in range(8):
        got += show.step()  # layers 0 2 1* 2 0 2* 1 2
    check_unbroken(got)
    assert [numbers(packet)[2] for packet in got[:: show.low.packets]] == [0, 2, 0, 0, 1, 0, 2, 1, 2]


def test_what_was_sent_around_frames_left_out_is_sent_again_as_it_was(world: World) -> None:
    show = Show(world)
    world.plane.set_route_layers(show.route, 0)
    got = show.step(key=True)
    for _ in range(39):
        got += show.step()
    assert world.plane.resend(show.route, [packet.header.sequence for packet in got], world.now_ns) == []
    again = show.subscriber.take_rtp()
    assert [packet.payload[2:] for packet in again] == [packet.payload for packet in got]
    assert [packet.header.timestamp for packet in again] == [packet.header.timestamp for packet in got]


def test_what_was_sent_before_a_switch_is_sent_again_with_its_own_numbers(world: World) -> None:
    show = Show(world)
    got = show.step(key=True) + show.step()
    show.switch(show.high)
    got += show.step(key=True) + show.step()
    world.plane.resend(show.route, [packet.header.sequence for packet in got], world.now_ns)
    again = show.subscriber.take_rtp()
    assert [(p.payload[2:], p.header.timestamp) for p in again] == [(p.payload, p.header.timestamp) for p in got]


def test_the_place_of_a_late_packet_that_is_left_out_is_filled_empty(world: World) -> None:
    show = Show(world)
    world.plane.set_route_layers(show.route, 0)
    got = show.step(key=True)
    show.capture += 3_000
    left_out = show.low.frame(show.capture)
    show.send(left_out[:1])
    show.low.frame(show.capture + 3_000)
    show.low.frame(show.capture + 6_000)
    show.capture += 9_000
    show.send(show.low.frame(show.capture))
    world.run(1)
    got += show.subscriber.take_rtp()
    show.send(left_out[1:])
    world.run(1)
    (filler,) = show.subscriber.take_rtp()
    assert filler.payload == b""
    assert filler.header.sequence == (got[1].header.sequence + 1) & 0xFFFF
    assert world.plane.drops()[DropReason.LAYER_LEFT_OUT] == 2


def test_a_tap_gets_one_stream_whatever_layers_it_is_made_of(world: World) -> None:
    show = Show(world)
    taken: list[Rtp] = []

    def sink(_: int, at_ns: int, packet: bytes) -> None:
        header = read_header(packet, len(packet))
        assert header is not None
        assert at_ns
        taken.append(Rtp(packet, header))

    tap = world.plane.add_tap(show.low.handle, video_route(0x5555), sink)
    show.step(key=True)
    world.plane.switch_route(tap, show.high.handle)
    show.step(key=True)
    show.step()
    check_unbroken(taken)
    assert {packet.header.ssrc for packet in taken} == {0x5555}
    assert ssrc_of(taken[-1]) == 0x20
    assert len(taken) == 2 + 2 + 3 + 3
    world.plane.remove_route(tap)
    show.step()
    assert len(taken) == 10


@pytest.mark.parametrize("name", sorted(PLANES))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.sampled_from(STARTS), seed=st.integers(0, 2**32))
def test_random_switching_loss_and_reordering_never_break_the_stream(name: str, start: int, seed: int) -> None:
    chance = random.Random(seed)
    plane = make_plane(name)
    world = World(plane)
    try:
        show = Show(world, start)
        got = show.step(key=True)
        sent_high: set[int] = set()
        for _ in range(60):
            action = chance.random()
            if action < 0.15:
                show.switch(chance.choice([show.low, show.high]), aligned=chance.random() < 0.7)
            elif action < 0.3:
                plane.set_route_layers(show.route, chance.randrange(4))
            show.capture += 3_000
            key = chance.random() < 0.15
            packets = show.low.frame(show.capture, key=key) + show.high.frame(show.capture, key=key)
            packets = [packet for packet in packets if chance.random() > 0.1]
            if chance.random() < 0.3:
                chance.shuffle(packets)
            show.send(packets)
            world.run(33)
            got += show.subscriber.take_rtp()  # which asserts that no number is encrypted under twice
        by_number: dict[int, bytes] = {}
        pictures: dict[int, set[tuple[int, int]]] = {}
        moments: dict[int, int] = {}
        first = got[0].header.sequence
        for packet in got:
            number = (packet.header.sequence - first + 0x8000 & 0xFFFF) - 0x8000
            assert by_number.setdefault(number, packet.data) == packet.data
            sent_high.add(number)
            if packet.payload:
                picture = numbers(packet)[0]
                pictures.setdefault(picture, set()).add((ssrc_of(packet), captured(packet)))
                assert moments.setdefault(picture, packet.header.timestamp) == packet.header.timestamp
        assert all(len(frames) == 1 for frames in pictures.values()), "one picture id, one frame"
        assert max(sent_high) < 60 * 5 + 5
    finally:
        world.close()


def test_a_place_that_was_filled_is_never_sent_with_other_bytes(world: World) -> None:
    show = Show(world)
    world.plane.update_route(show.route, video_route(rtx_ssrc=None, rtx_payload_types={}))
    world.plane.set_route_layers(show.route, 0)
    show.step(key=True)
    late = show.low.frame(3_100)
    for capture in (3_200, 3_300, 3_400):
        show.send(show.low.frame(capture))
    show.send(late)
    world.run(1)
    filled = [packet.header.sequence for packet in show.subscriber.take_rtp() if not packet.payload.strip(b"\0\1")]
    assert len(filled) == len(late)
    world.plane.set_route_layers(show.route, 3)
    for _ in range(8):
        show.step()
    assert world.plane.resend(show.route, filled, world.now_ns) == filled, "lost for good: a key frame must come"
    assert show.subscriber.take_rtp() == []
