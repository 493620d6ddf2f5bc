"""Streams and routes of a room, where pages do what no offer said."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

from relay.messages import ParticipantSpec
from relay.negotiation import MID, RID, Agreement, MediaAgreement
from relay.participant import Participant
from relay.rtp import make_packet
from relay.sdp import Codec
from relay.transport import TransportState
from relay.wiring import REPLACE_MIN_NS, Wiring
from tests.relay.plane_peer import World

CAMERA = MediaAgreement(
    mid="1",
    kind="video",
    source="camera",
    direction="sendrecv",
    codecs=(Codec(96, "VP8", 90_000),),
    rtx={96: 97},
    extensions={MID: 4},
    receive_ssrcs=(0x1111,),
    receive_rtx_ssrcs={},
    send_ssrc=0x2222,
    send_rtx_ssrc=0x2223,
)


def test_what_repairs_a_stream_is_not_replaced_more_often_than_the_stream_itself(world: World) -> None:
    participant = Participant(ParticipantSpec(user_id=1, public_id="usr_1", name="Clara", role="client"))
    transport: Any = SimpleNamespace(handle=world.peer().transport, state=TransportState.CONNECTED)
    gate = world.plane.add_gate(open=True)
    wiring = Wiring(world.plane, gate, {1: participant}, lambda *_: None, lambda *_: None)
    wiring.apply(participant, transport, Agreement(1, 1, (CAMERA,), "ufrag", ()), world.now_ns)
    camera = participant.published["camera"].best

    def learn(ssrc: int, after_ns: int) -> int | None:
        packet = make_packet(
            payload_type=97, sequence=1, timestamp=1, ssrc=ssrc, payload=b"\0\0x", extensions=[(4, b"1")]
        )
        wiring.learn(participant, packet, world.now_ns + after_ns)
        return camera.rtx_ssrc

    assert learn(0x5001, 0) == 0x5001, "the first is taken at once"
    assert learn(0x5002, 1) == 0x5002
    for number in range(3, 100):
        assert learn(0x5000 + number, number) == 0x5002
    assert learn(0x6000, 1 + REPLACE_MIN_NS) == 0x6000


def two_sources(world: World) -> tuple[Participant, Wiring, Any]:
    participant = Participant(ParticipantSpec(user_id=1, public_id="usr_1", name="Clara", role="client"))
    transport: Any = SimpleNamespace(handle=world.peer().transport, state=TransportState.CONNECTED)
    gate = world.plane.add_gate(open=True)
    wiring = Wiring(world.plane, gate, {1: participant}, lambda *_: None, lambda *_: None)
    return participant, wiring, transport


def agreed(*media: MediaAgreement) -> Agreement:
    return Agreement(1, 1, media, "ufrag", ())


MICROPHONE = dataclasses.replace(
    CAMERA,
    mid="0",
    kind="audio",
    source="microphone",
    codecs=(Codec(111, "opus", 48_000, 2),),
    rtx={},
    receive_ssrcs=(0x3333,),
)


def test_an_ssrc_taken_from_a_track_that_rests_costs_nobody_the_room(world: World) -> None:
    participant, wiring, transport = two_sources(world)
    wiring.apply(participant, transport, agreed(CAMERA, MICROPHONE), world.now_ns)
    wiring.restrict(frozenset({"audio"}), world.now_ns)
    claimed = dataclasses.replace(MICROPHONE, receive_ssrcs=CAMERA.receive_ssrcs)
    wiring.apply(
        participant, transport, agreed(dataclasses.replace(CAMERA, direction="inactive"), claimed), world.now_ns
    )
    wiring.apply(participant, transport, agreed(CAMERA, MICROPHONE), world.now_ns)
    for track in participant.published.values():
        assert track.stream is not None
        world.plane.stream_counters(track.stream)
    assert {track.ssrc for track in participant.published.values()} == {0x1111, 0x3333}


def test_an_encoding_that_comes_up_while_its_track_rests_is_known_when_it_is_wanted(world: World) -> None:
    participant, wiring, transport = two_sources(world)
    layered = dataclasses.replace(CAMERA, rids=("q", "f"), receive_ssrcs=(), extensions={MID: 4, RID: 5})
    wiring.apply(participant, transport, agreed(layered), world.now_ns)
    wiring.restrict(frozenset({"audio"}), world.now_ns)
    packet = make_packet(
        payload_type=96, sequence=1, timestamp=1, ssrc=0x7001, payload=b"x", extensions=[(4, b"1"), (5, b"f")]
    )
    wiring.learn(participant, packet, world.now_ns)
    assert participant.published == {}
    wiring.apply(participant, transport, agreed(layered), world.now_ns)
    assert participant.published["camera"].encoding_by_ssrc(0x7001) is not None, "it says its rid only once"
