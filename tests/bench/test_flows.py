"""The load's clients report as pages do: what they send is what our own readers of RTCP understand."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bench.native import load
from relay.plane import SrtpProfile
from relay.rtcp import SenderReport, pack_picture_loss, pack_sender_report, parse_compound
from relay.rtcp_transport_cc import TICK_NS, TransportFeedback
from relay.srtp import SrtpContext

PROFILE = SrtpProfile.AEAD_AES_128_GCM
TRANSPORT_CC_ID, OWN_SSRC, SENT_SSRC = 2, 7, 1_000
CROWD, FEEDBACK_MS = 20, 100
STAMP = bytes(32) + b"turn" + (0).to_bytes(4, "big")


def bound() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.setblocking(False)
    return made


class Relay:
    """The other end of one client."""

    def __init__(self, tick_ms: float) -> None:
        self.socket, self.client = bound(), bound()
        keys = [os.urandom(PROFILE.key_bytes + PROFILE.salt_bytes) for _ in range(2)]
        self.opening = SrtpContext(PROFILE, keys[0], inbound=True)
        self.sealing = SrtpContext(PROFILE, keys[1], inbound=False)
        theirs = [SrtpContext(PROFILE, keys[0], inbound=False), SrtpContext(PROFILE, keys[1], inbound=True)]
        self.flows: Any = load("flows").Flows(1, 1, tick_ms=tick_ms)
        self.flows.add_client(self.client, self.socket.getsockname(), theirs[0]._session, theirs[1]._session)
        self.flows.tell(0, OWN_SSRC, TRANSPORT_CC_ID, 20)

    def send(self, sequence: int, number: int) -> None:
        """A packet as the client's only sender might have sent it to itself."""
        header = bytes((0x90, 96)) + sequence.to_bytes(2, "big") + bytes(4) + SENT_SSRC.to_bytes(4, "big")
        extension = bytes((0xBE, 0xDE, 0, 1, TRANSPORT_CC_ID << 4 | 1)) + number.to_bytes(2, "big") + b"\0"
        stamp = STAMP + sequence.to_bytes(8, "little") + time.monotonic_ns().to_bytes(8, "little")
        packet = self.sealing.protect_bytes(header + extension + stamp)
        assert packet is not None
        self.socket.sendto(packet, self.client.getsockname())

    def tell(self, compound: bytes) -> None:
        protected = self.sealing.protect_bytes(compound, rtcp=True)
        assert protected is not None
        self.socket.sendto(protected, self.client.getsockname())

    def told(self) -> list[Any]:
        """What RTCP has come."""
        items: list[Any] = []
        while True:
            try:
                data = self.socket.recv(2048)
            except BlockingIOError:
                return items
            if 192 <= data[1] <= 223:
                compound = self.opening.unprotect_bytes(data, rtcp=True)
                assert compound is not None
                items += parse_compound(compound) or ()


@pytest.fixture(params=[0, 1], ids=["at once", "by ticks"])
def relay(request: pytest.FixtureRequest) -> Iterator[Relay]:
    made = Relay(request.param)
    yield made
    made.socket.close()
    made.client.close()


def statuses(items: list[Any]) -> dict[int, bool]:
    """Number → whether it came, of all feedback."""
    told = {}
    for item in items:
        if isinstance(item, TransportFeedback):
            for place, delta in enumerate(item.deltas):
                told[(item.base_sequence + place) & 0xFFFF] = delta is not None
    return told


def test_feedback_tells_each_packet_once_with_what_is_missing(relay: Relay) -> None:
    numbers = [65_530 + i for i in range(40) if i not in (3, 4, 17)]
    for sequence, number in enumerate(numbers):
        relay.send(sequence, number & 0xFFFF)
    relay.flows.run(0.08)
    items = relay.told()
    feedback = [item for item in items if isinstance(item, TransportFeedback)]
    assert sum(len(item.deltas) for item in feedback) == 40
    assert statuses(items) == {(65_530 + i) & 0xFFFF: i not in (3, 4, 17) for i in range(40)}
    assert {item.sender_ssrc for item in feedback} == {OWN_SSRC}
    assert relay.flows.received == len(numbers)


def test_what_is_lost_between_two_feedbacks_is_told_in_the_second(relay: Relay) -> None:
    for number in (0, 1, 2, 6, 7):
        if number == 6:
            relay.flows.run(0.05)
        relay.send(number, number)
    relay.flows.run(0.05)
    assert statuses(relay.told()) == {0: True, 1: True, 2: True, 3: False, 4: False, 5: False, 6: True, 7: True}


def test_feedback_arrivals_follow_the_clock(relay: Relay) -> None:
    began_ns = time.monotonic_ns()
    for number in range(3):
        relay.send(number, number)
        relay.flows.run(0.03)
    took_ticks = (time.monotonic_ns() - began_ns) / TICK_NS
    arrivals = []
    for item in relay.told():
        if isinstance(item, TransportFeedback):
            ticks = item.reference_ticks
            for delta in item.deltas:
                assert delta is not None
                ticks += delta
                arrivals.append(ticks)
    assert len(arrivals) == 3
    assert arrivals == sorted(arrivals)
    assert 0 < arrivals[2] - arrivals[0] < took_ticks


def test_reports_name_what_was_sent_and_heard(relay: Relay) -> None:
    sender = relay.flows.add_sender(
        0, kind="video", ssrc=SENT_SSRC + 1, payload_type=96, payload_bytes=200, packets_per_s=100.0
    )
    relay.send(65_535, 1)
    relay.send(1, 3)  # one is missing
    ntp64 = 0x1122334455667788
    relay.flows.run(0.01)
    relay.tell(pack_sender_report(SENT_SSRC, ntp64, 0, 1, 1))
    relay.flows.run(1.1)
    report = [item for item in relay.told() if isinstance(item, SenderReport)][-1]
    assert report.ssrc == SENT_SSRC + 1
    assert 0 < report.packets <= relay.flows.sent()[sender]
    (block,) = report.reports
    assert (block.ssrc, block.highest_sequence, block.packets_lost) == (SENT_SSRC, 65_537, 1)
    assert block.last_sr == ntp64 >> 16 & 0xFFFFFFFF
    assert 0 < block.delay_since_last_sr < 2 * 65_536


def test_only_what_asks_for_something_is_handed_on(relay: Relay) -> None:
    relay.tell(pack_sender_report(SENT_SSRC, 1, 0, 1, 1))
    relay.tell(pack_picture_loss(1, SENT_SSRC))
    relay.socket.sendto(bytes(20), relay.client.getsockname())
    handed = relay.flows.run(0.05)
    assert [datagram for _, datagram in handed] == [pack_picture_loss(1, SENT_SSRC), bytes(20)]
    assert relay.flows.bad == 0


@pytest.fixture
def crowd() -> Iterator[Any]:
    """Twenty clients that send to nobody, and report every 100 ms."""
    silent, sockets = bound(), [bound() for _ in range(CROWD)]
    flows: Any = load("flows").Flows(CROWD, CROWD)
    for index, each in enumerate(sockets):
        keys = os.urandom(PROFILE.key_bytes + PROFILE.salt_bytes)
        flows.add_client(each, silent.getsockname(), SrtpContext(PROFILE, keys, inbound=False)._session, None)
        flows.tell(index, OWN_SSRC, TRANSPORT_CC_ID, FEEDBACK_MS)
    yield flows
    for each in (silent, *sockets):
        each.close()


def widest_gap(turns: list[int], interval_ns: int) -> float:
    """The longest time in which nobody has a turn, as a multiple of what it would be were they spread evenly."""
    turns = sorted(turn % interval_ns for turn in turns)
    gaps = [b - a for a, b in itertools.pairwise([*turns, turns[0] + interval_ns])]
    return max(gaps) * len(turns) / interval_ns


def test_clients_take_turns_with_reports_also_after_a_pause(crowd: Any) -> None:
    intervals_ns = (FEEDBACK_MS * 1_000_000, 1_000_000_000)
    before = crowd.due_ns()[1]
    time.sleep(1.05)  # all are overdue
    crowd.run(0.01)
    after = crowd.due_ns()[1]
    for kind, interval_ns in enumerate(intervals_ns):
        assert widest_gap([due[kind] for due in after], interval_ns) < 2
        assert [due[kind] % interval_ns for due in after] == [due[kind] % interval_ns for due in before]
        assert all(late[kind] > early[kind] for late, early in zip(after, before, strict=True))


def test_nothing_falls_due_while_nobody_sends(crowd: Any) -> None:
    """What did would be sent at once when sending begins: more than was asked for."""
    crowd.add_sender(0, kind="audio", ssrc=1, payload_type=111, payload_bytes=100, packets_per_s=50.0)
    before = crowd.due_ns()[0]
    crowd.run(0.001, sending=False)
    assert crowd.due_ns()[0] == before
    crowd.run(0.001)
    assert crowd.due_ns()[0] > before


def test_senders_that_are_held_up_stay_out_of_step_and_miss_what_is_too_late(crowd: Any) -> None:
    too_often = 1_000_000.0
    for client in range(4):
        crowd.add_sender(
            client, kind="audio", ssrc=client, payload_type=111, payload_bytes=100, packets_per_s=too_often
        )
    crowd.run(0)
    before = crowd.due_ns()[0]
    crowd.run(0.3)
    after = crowd.due_ns()[0]
    assert widest_gap(after, 1_000) < 1.1
    assert crowd.missed > 0
    assert sum(crowd.sent()) + crowd.missed == sum(after) // 1_000 - sum(before) // 1_000
