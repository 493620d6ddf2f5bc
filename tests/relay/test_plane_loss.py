"""A lossy path on both sides, from a seed: NACK and RTX bring everything across, under unbroken numbers."""

from __future__ import annotations

import random

import pytest

from relay.rtcp import Nack
from relay.rtp import sequence_delta
from tests.relay.plane_peer import VP8_KEY, Call, Rtp, World, video_call

PACKETS = 600


class LossyPublisher:
    """Sends a packet every 2 ms with probes between, and answers NACKs over RTX; each datagram may get lost."""

    def __init__(self, call: Call, dice: random.Random, loss: float, start: int) -> None:
        self.call, self.dice, self.loss = call, dice, loss
        self.sent: dict[int, bytes] = {}
        self.next = start
        self.rtx_sequence = 0
        self.held_back: list[bytes] = []

    def _send(self, packet: bytes) -> None:
        if self.dice.random() < self.loss:
            return
        if self.dice.random() < 0.05:
            self.held_back.append(packet)  # overtaken by the next ones
            return
        self.call.publisher.send(packet)
        if self.held_back and self.dice.random() < 0.5:
            self.call.publisher.send(self.held_back.pop(0))

    def step(self, payload: bytes) -> None:
        if self.dice.random() < 0.05:
            self._send(self.call.packet(self.next & 0xFFFF, b"", padding=99))
            self.sent[self.next & 0xFFFF] = b""
            self.next += 1
        self.sent[self.next & 0xFFFF] = payload
        self._send(self.call.packet(self.next & 0xFFFF, payload))
        self.next += 1

    def answer(self) -> None:
        for item in self.call.publisher.take_rtcp():
            if isinstance(item, Nack):
                for sequence in item.sequences:
                    self.rtx_sequence += 1
                    self._send(self.call.rtx(self.rtx_sequence & 0xFFFF, sequence, self.sent[sequence]))


class LossySubscriber:
    """Puts packets in order and asks for what is missing; each datagram may get lost."""

    def __init__(self, call: Call, dice: random.Random, loss: float) -> None:
        self.call, self.dice, self.loss = call, dice, loss
        self.received: dict[int, bytes] = {}
        self.highest: int | None = None
        self.first = 0

    def take(self, packet: Rtp) -> None:
        if self.dice.random() < self.loss and self.highest is not None:
            return
        sequence, payload = packet.header.sequence, packet.payload
        if packet.header.payload_type == 121:
            sequence, payload = int.from_bytes(payload[:2], "big"), payload[2:]
        if self.highest is None:
            self.highest = self.first = sequence
        number = self.highest + sequence_delta(sequence, self.highest & 0xFFFF)
        assert self.received.setdefault(number, payload) == payload
        self.highest = max(self.highest, number)

    def ask(self) -> None:
        assert self.highest is not None
        missing = [number & 0xFFFF for number in range(self.first, self.highest) if number not in self.received]
        self.call.world.plane.resend(self.call.route, missing, self.call.world.now_ns)


@pytest.mark.parametrize(("seed", "start"), [(1, 65_400), (2, 0), (3, 32_600)])
def test_all_media_gets_across_a_lossy_path(world: World, seed: int, start: int) -> None:
    call = video_call(world)
    world.plane.set_round_trip(call.publisher.transport, 20_000_000)
    world.plane.set_round_trip(call.subscriber.transport, 20_000_000)
    call.send((start - 1) & 0xFFFF, VP8_KEY)
    publisher = LossyPublisher(call, random.Random(seed), 0.10, start)
    subscriber = LossySubscriber(call, random.Random(seed + 100), 0.10)
    for i in range(PACKETS + 120):
        if i < PACKETS:
            publisher.step(b"\x00media" + i.to_bytes(4, "big"))
        world.run(2)
        publisher.answer()
        for packet in call.subscriber.take_rtp():
            subscriber.take(packet)
        if i % 5 == 0:
            subscriber.ask()
    numbers = sorted(subscriber.received)
    assert numbers == list(range(numbers[0], numbers[-1] + 1)), "the subscriber's numbers have no hole"
    media = [subscriber.received[number] for number in numbers if subscriber.received[number]]
    expected = [VP8_KEY] + [b"\x00media" + i.to_bytes(4, "big") for i in range(PACKETS)]
    tail_lost = len(expected) - len(media)
    assert tail_lost < 10, "only what was lost at the very end, behind which nothing came, may be missing"
    assert media == expected[: len(media)]


def test_what_is_young_is_sent_again_as_it_was_and_what_is_old_is_lost(world: World) -> None:
    """Packets of all sizes for longer than they are kept: their memory serves others meanwhile."""
    call = video_call(world)
    sent: dict[int, bytes] = {}
    for number in range(1, 601):
        payload = VP8_KEY if number == 1 else bytes((number & 0xFF,)) * (1 + number * 7_919 % 1_150)
        call.send(number, payload)
        for packet in call.received(10):
            sent[packet.header.sequence] = packet.payload
    numbers = list(sent)
    assert len(numbers) == 600
    world.plane.set_round_trip(call.subscriber.transport, 1_000_000)
    for first in range(0, 600, 40):
        asked = numbers[first : first + 40 : 3]
        lost = world.plane.resend(call.route, asked, world.now_ns)
        again = {int.from_bytes(p.payload[:2], "big"): p.payload[2:] for p in call.subscriber.take_rtp()}
        assert again == {number: sent[number] for number in asked if number not in lost}
        if first < 280:
            assert lost == asked, "it is older than anybody asks for"
        elif first >= 320:
            assert not lost


def test_what_is_kept_is_whole_however_much_was_kept_before(world: World) -> None:
    """Memory of what is too old is written over by what comes: several times what is kept at once goes through."""
    call = video_call(world)
    world.plane.set_round_trip(call.subscriber.transport, 1_000_000)
    sent: dict[int, bytes] = {}
    for number in range(1, 5_001):
        call.send(number, VP8_KEY if number == 1 else b"\x00" + number.to_bytes(2, "big") * 570)
        if number % 20 == 0:
            sent |= {packet.header.sequence: packet.payload for packet in call.received(60)}
        if number % 1_000 == 0:
            young = list(sent)[-900::10]
            assert world.plane.resend(call.route, young, world.now_ns) == []
            again = {int.from_bytes(p.payload[:2], "big"): p.payload[2:] for p in call.subscriber.take_rtp()}
            assert again == {sequence: sent[sequence] for sequence in young}
    assert len(sent) == 5_000
