"""What one participant's RTCP can make a room do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from relay.messages import ParticipantSpec
from relay.participant import Participant, SubscribedTrack
from relay.plane import RouteHandle
from relay.room_rtcp import NACKED_MAX, RoomRtcp
from relay.rtcp import pack_nack
from tests.relay.test_wiring import CAMERA


def test_one_compound_packet_asks_for_a_bounded_number_of_packets() -> None:
    asked: list[int] = []
    plane: Any = SimpleNamespace(resend=lambda _, sequences, __: asked.extend(sequences))
    participant = Participant(ParticipantSpec(user_id=1, public_id="usr_1", name="Clara", role="client"))
    subscribed = participant.subscribed["camera"] = SubscribedTrack(CAMERA)
    subscribed.route = RouteHandle(1)
    time_base: Any = None
    rtcp = RoomRtcp(plane, time_base, {1: participant})
    some = pack_nack(7, CAMERA.send_ssrc, list(range(200)))
    rtcp.received(participant, some, 1)
    assert len(asked) == 200
    rtcp.received(participant, some * 5, 1)
    assert len(asked) == 200 + NACKED_MAX
    rtcp.received(participant, some, 1)
    assert len(asked) == 400 + NACKED_MAX
