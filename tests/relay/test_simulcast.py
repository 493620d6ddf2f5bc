"""A camera of two encodings in a room: learnt by rid, followed, asked for, given up, recorded as one stream."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from relay.layers import HOLD_NS, Target
from relay.messages import ParticipantSpec, Source
from relay.negotiation import Agreement, LocalTransport, RoomView, answer
from relay.participant import Participant
from relay.plane import Plane, UpcallKind
from relay.published import Encoding, PublishedTrack
from relay.recording import RoomRecording
from relay.rtp import make_packet, read_header
from relay.sdp import parse
from relay.transport import Transport, TransportState
from relay.wiring import Wiring
from tests.relay.offers import SIMULCAST
from tests.relay.plane_peer import MS, Peer, Rtp, World
from tests.relay.test_negotiation import LOCAL
from tests.relay.test_plane_layers import check_unbroken, vp8

SOURCES: dict[str, Source] = {"0": "microphone", "1": "camera", "2": "screen"}
MID, RID, REPAIRED_RID = 4, 10, 11
LOW, HIGH = 0x10, 0x20


def agreement(local: LocalTransport = LOCAL) -> Agreement:
    return answer(RoomView("video", ("VP8",), (), "usr"), parse(SIMULCAST), SOURCES, local, None).agreement


class Spool:
    """What a recording would write."""

    def __init__(self) -> None:
        self.packets: list[Rtp] = []
        self.events: list[tuple[str, Any]] = []
        self.reports: list[tuple[int, int]] = []

    def add_stream(self, track: Any, now_ns: int) -> Spool:
        if track.source == "camera":
            self.track = track
        return self

    def event(self, now_ns: int, event: str, fields: dict[str, Any]) -> None:
        self.events.append((event, fields))

    def sink(self, stream: int, arrival_ns: int, packet: bytes) -> None:
        header = read_header(packet, len(packet))
        assert header is not None
        self.packets.append(Rtp(packet, header))

    def end(self, now_ns: int) -> None:
        self.events.append(("end", {}))


class Pair:
    """A client with a camera of encodings h and f, and a provider who sees it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: list[str] = []
        self.told: list[frozenset[int]] = []
        specs = [
            ParticipantSpec(user_id=1, public_id="usr_1", name="", role="client"),
            ParticipantSpec(user_id=2, public_id="usr_2", name="", role="provider"),
        ]
        self.client, self.provider = (Participant(spec) for spec in specs)
        people = {1: self.client, 2: self.provider}
        gate = world.plane.add_gate(open=True)
        self.wiring = Wiring(world.plane, gate, people, self._want, self._tell)
        self.peers = [self._join(participant) for participant in people.values()]
        self.sequence = {LOW: 65_500, HIGH: 100}
        self.frame = 0

    def _want(self, who: Participant, track: PublishedTrack, now_ns: int, encoding: Encoding | None) -> None:
        self.asked.append((encoding or track.best).rid)

    def _tell(self, who: Participant, track: PublishedTrack, kept: frozenset[int], now_ns: int) -> None:
        if who is self.client:
            self.told.append(kept)

    def _join(self, participant: Participant) -> Peer:
        peer = self.world.peer()
        transport = SimpleNamespace(handle=peer.transport, state=TransportState.CONNECTED)
        self.wiring.apply(participant, cast(Transport, transport), agreement(), self.world.now_ns)
        return peer

    @property
    def track(self) -> PublishedTrack:
        return self.client.published["camera"]

    def packet(self, ssrc: int, *, key: bool, named: bool = True) -> bytes:
        """One frame of one packet; ``named``: with mid and rid, as the first ones are."""
        self.sequence[ssrc] = (self.sequence[ssrc] + 1) & 0xFFFF
        rid = {LOW: b"h", HIGH: b"f"}[ssrc]
        body = bytes((ssrc,)) + self.frame.to_bytes(4, "big") + b"\0"
        return make_packet(
            payload_type=96,
            sequence=self.sequence[ssrc],
            timestamp=self.frame * 3_000 + ssrc,
            ssrc=ssrc,
            marker=True,
            payload=vp8(self.frame + ssrc, self.frame, 0, sync=False, key=key, first=True, body=body),
            extensions=[(MID, b"1"), (RID, rid)] if named else [],
        )

    def show(self, *ssrcs: int, key: bool = False, named: bool = True) -> list[Rtp]:
        """One frame of these encodings; what the provider gets."""
        self.frame += 1
        for ssrc in ssrcs:
            self.peers[0].send(self.packet(ssrc, key=key, named=named))
        self.run(33)
        return self.peers[1].take_rtp()

    def run(self, ms: int) -> None:
        """Let time pass, as a room does."""
        for upcall in self.world.run(ms):
            if upcall.kind is UpcallKind.UNKNOWN_RTP:
                self.wiring.learn(self.client, upcall.data, self.world.now_ns)
        self.world.run()
        self.wiring.follow_all(self.world.now_ns)

    def target(self, spatial: int) -> None:
        camera = self.provider.subscribed["camera"]
        self.wiring.set_target(self.provider, camera, Target(spatial), self.world.now_ns)


@pytest.fixture
def pair(world: World) -> Pair:
    return Pair(world)


def of(packets: list[Rtp]) -> list[int]:
    """Which encoding each packet is of."""
    return [packet.payload[-6] for packet in packets]


def test_encodings_are_learnt_by_rid_and_none_of_their_first_packets_is_lost(pair: Pair) -> None:
    got = pair.show(LOW, key=True)
    got += pair.show(LOW, HIGH, key=True)
    got += pair.show(LOW, HIGH, named=False)
    assert of(got) == [LOW, LOW, HIGH, HIGH]
    check_unbroken(got)
    assert [encoding.ssrc for encoding in pair.track.encodings] == [0, LOW, HIGH]
    assert pair.track.best.rid == "f"


def test_repairs_may_come_before_what_they_repair(pair: Pair) -> None:
    lost = pair.packet(HIGH, key=True)
    payload = (101).to_bytes(2, "big") + lost[lost.index(b"\x90\xe0") :]
    extensions = [(MID, b"1"), (REPAIRED_RID, b"f")]
    timestamp = int.from_bytes(lost[4:8], "big")
    pair.peers[0].send(
        make_packet(payload_type=97, sequence=9, timestamp=timestamp, ssrc=0x21, payload=payload, extensions=extensions)
    )
    pair.run(5)
    assert pair.track.encodings[2].rtx_ssrc == 0x21
    got = pair.show(HIGH)
    assert of(got) == [HIGH, HIGH] or of(got) == [HIGH]
    assert pair.track.encodings[2].rtx_ssrc == 0x21


def test_packets_that_do_not_say_their_rid_teach_nothing(pair: Pair) -> None:
    assert pair.show(LOW, key=True, named=False) == []
    assert pair.track.stream is None


def test_a_subscriber_follows_the_target(pair: Pair) -> None:
    got = pair.show(LOW, HIGH, key=True)
    pair.target(1)
    assert "h" in pair.asked
    got += pair.show(LOW, HIGH)
    got += pair.show(LOW, HIGH, key=True)
    pair.target(2)
    got += pair.show(LOW, HIGH)
    got += pair.show(LOW, HIGH, key=True)
    check_unbroken(got)
    assert of(got)[-5:] == [HIGH, LOW, LOW, LOW, HIGH]


def test_when_an_encoding_dies_the_next_living_one_is_taken_within_a_second(pair: Pair) -> None:
    pair.show(LOW, HIGH, key=True)
    pair.asked.clear()
    began_ns = pair.world.now_ns
    while not pair.asked:
        pair.show(LOW)
        assert pair.world.now_ns - began_ns < 1_000 * MS
    assert pair.asked[0] == "h"
    assert of(pair.show(LOW, key=True)) == [LOW]


def test_an_outage_of_all_switches_nothing(pair: Pair) -> None:
    pair.show(LOW, HIGH, key=True)
    pair.asked.clear()
    for _ in range(60):
        pair.show()
    assert pair.asked == []
    assert of(pair.show(HIGH)) == [HIGH]


def test_a_page_is_told_what_nobody_takes_and_what_somebody_takes_again(pair: Pair) -> None:
    for frame in range(2 + HOLD_NS // (33 * MS)):
        pair.show(LOW, HIGH, key=frame == 0)
    assert pair.told == [{2}]
    for _ in range(40):
        pair.show(HIGH)
    pair.target(1)
    assert pair.told[-1] == {1, 2}
    assert of(pair.show(LOW, HIGH, key=True))[-1] == LOW, "it comes with a key frame"


def test_a_recording_is_one_stream_of_the_best_encoding(pair: Pair) -> None:
    spool = Spool()
    pair.show(LOW, key=True)
    pair.wiring.record(RoomRecording(cast(Any, spool), pair.world.plane, pair.world.now_ns), pair.world.now_ns)
    pair.show(LOW, key=True)
    pair.show(LOW, HIGH, key=True)
    pair.target(1)
    for _ in range(5):
        pair.show(LOW, HIGH, key=True)
    assert of(spool.packets) == [LOW, LOW, *[HIGH] * 6]
    check_unbroken(spool.packets)
    assert {packet.header.ssrc for packet in spool.packets} == {spool.track.ssrc}
    assert spool.events == [("layer", {"rid": "h"}), ("layer", {"rid": "f"})]
    for _ in range(40):
        pair.show(LOW, key=True)
    assert of(spool.packets)[-1] == LOW, "the recorder, too, falls back"
    pair.wiring.record(None, pair.world.now_ns)
    assert spool.events[-1] == ("end", {})
    written = len(spool.packets)
    pair.show(LOW, HIGH, key=True)
    assert len(spool.packets) == written


def test_the_plane_forgets_the_encodings_of_who_leaves(pair: Pair, plane: Plane) -> None:
    pair.show(LOW, HIGH, key=True)
    streams = list(pair.track.streams)
    pair.wiring.disconnect(pair.client, pair.world.now_ns)
    assert pair.provider.subscribed["camera"].stream is None
    for stream in streams:
        with pytest.raises(KeyError):
            plane.stream_counters(stream)
