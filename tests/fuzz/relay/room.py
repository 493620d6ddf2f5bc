"""A room in which one participant is hostile: their RTCP and packets of SSRCs that nobody knows, in any order.

The first byte of each frame says what it is. Two real participants are connected; only their handshake is left out.
"""

from __future__ import annotations

from config.clock import VirtualClock
from relay.dtls import DtlsCertificate
from relay.journal import JournalEntry
from relay.messages import Event, Negotiate, Negotiated, OpenRoom, ParticipantSpec
from relay.plane import SrtpProfile
from relay.plane_python import PythonPlane
from relay.port import MediaAddress, MediaPort
from relay.room import Room
from relay.rtcp import pack_nack, pack_picture_loss, pack_receiver_estimate, pack_receiver_report
from relay.rtcp_transport_cc import pack_transport_feedback
from relay.rtp import make_packet
from relay.transport import Transport, TransportState
from tests.fuzz.kit import Run, Target, broken, expect, framed, unframed
from tests.fuzz.relay.rtcp import BLOCK
from tests.relay.offers import CHROMIUM, SIMULCAST

HOSTILE, OTHER = 1, 2
MS = 1_000_000
OPEN = OpenRoom(
    tenant_id=1,
    session_id=7,
    epoch=1,
    session_public_id="ses_test",
    kind="video",
    participants=(
        ParticipantSpec(user_id=HOSTILE, public_id="usr_client", name="Clara", role="client"),
        ParticipantSpec(user_id=OTHER, public_id="usr_provider", name="Paul", role="provider"),
    ),
    granted_live_ms=10**9,
    video_codecs=("VP8", "H264"),
)
EVENTS_MAX = 64
"""Told of one input at most."""


class Ears:
    """The room's listener."""

    def __init__(self) -> None:
        self.told = 0

    def tell(self, event: Event) -> None:
        self.told += 1

    def journal(self, entry: JournalEntry) -> None:
        pass

    def connected_after(self, connect_ns: int) -> None:
        pass


def connected(room: Room, user_id: int, offer: str, now_ns: int) -> Transport:
    """Have a participant's page join, and take the handshake for done."""
    sources = {"0": "microphone", "1": "camera", "2": "screen"}
    ids = {"tenant_id": 1, "session_id": 7, "epoch": 1}
    answer = room.negotiate(Negotiate(user_id=user_id, sdp=offer, sources=sources, fresh=True, **ids), now_ns)  # type: ignore[arg-type]
    expect(isinstance(answer, Negotiated), "the offer was refused")
    transport = room.participants[user_id].transport or broken("no transport")
    profile = SrtpProfile.AEAD_AES_128_GCM
    key = bytes(profile.key_bytes + profile.salt_bytes)
    room._plane.set_keys(transport.handle, profile, key, key)
    transport.state = TransportState.CONNECTED
    room.transport_connected(transport, now_ns)
    return transport


def make() -> Run:
    clock, ears = VirtualClock(), Ears()
    port = MediaPort(PythonPlane(), DtlsCertificate())
    port.bind([MediaAddress("127.0.0.1", "127.0.0.1")], 0)
    room = Room(OPEN, port, "worker", clock, ears)
    hostile = connected(room, HOSTILE, SIMULCAST, clock.monotonic_ns())
    other = connected(room, OTHER, CHROMIUM, clock.monotonic_ns())

    def tick() -> None:
        for transport in (hostile, other):
            transport.ice.last_request_ns = clock.monotonic_ns()  # their checks go on
        room.tick(clock.monotonic_ns())

    def run(data: bytes) -> None:
        before = ears.told
        for frame in unframed(data):
            kind, rest = frame[:1] or b"\0", frame[1:]
            now_ns = clock.monotonic_ns()
            if kind < b"\x80":
                room.rtcp_received(hostile, rest, now_ns)
            elif kind < b"\xc0":
                room.unknown_rtp_received(hostile, rest, now_ns)
            else:
                clock.advance_ms(kind[0] & 0x3F)
                tick()
        clock.advance_ms(20)
        tick()
        for user_id, transport in ((HOSTILE, hostile), (OTHER, other)):
            expect(room.participants[user_id].transport is transport, "a connection was lost")
            expect(room.participants[user_id].connected, "somebody counts as gone")
        expect(ears.told - before <= EVENTS_MAX, "more was told than anybody wants to hear")

    return run


def seeds() -> list[bytes]:
    room_of = SIMULCAST
    expect("a=rid:" in room_of, "the hostile page offers layers")
    arrivals = {number: number * MS for number in range(1, 40)}
    feedback, _ = pack_transport_feedback(1, 2, 1, 39, arrivals, 0)
    rtcp = [pack_receiver_report(7, [BLOCK]), pack_nack(1, 2, [1, 2, 3]), pack_picture_loss(1, 2), feedback]
    rtcp.append(pack_receiver_estimate(1, 50_000, [2]))
    unknown = make_packet(
        payload_type=96,
        sequence=1,
        timestamp=1,
        ssrc=77,
        payload=b"\x10\x10\x00\x00\x9d\x01\x2a\x40\x01\xf0\x00",
        extensions=[(4, b"1"), (10, b"q")],
    )
    return [
        framed(b"\0" + one for one in rtcp),
        framed([b"\x80" + unknown, b"\xff", b"\0" + rtcp[0]]),
        framed([b"\x80" + unknown, b"\x80" + unknown[:2] + b"\0\2" + unknown[4:], b"\xc5", b"\xc5"]),
    ]


TARGET = Target("relay/room", make, seeds, max_bytes=4_096, renew=5_000, words=(b"REMB", b"\x8f\xcd", b"\x81\xce"))
