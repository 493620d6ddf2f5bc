"""Datagrams on a media socket: classified, looked up, decrypted, forwarded; by each plane that can be made here.

The first byte of a datagram's frame says whose it is: a stranger's, or the publisher's, as it is or under its keys.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from relay.plane import Plane, UpcallKind
from relay.plane_choice import make_plane
from relay.rtcp import pack_picture_loss, pack_receiver_report
from relay.rtp import make_packet
from tests.fuzz.kit import Run, Target, expect, framed, unframed
from tests.relay.plane_peer import VP8_DELTA, VP8_KEY, Peer, World, video_call

DATAGRAMS_MAX = 16
UPCALLS_EACH_MAX = 8
PROTECTED_MAX = 1_356
"""libsrtp protects no longer packets."""


def make(plane: Callable[[], Plane]) -> Run:
    world = World(plane())
    call = video_call(world)
    stranger = Peer(world)
    world.peers.append(stranger)

    def send(data: bytes) -> None:
        who, datagram = data[:1], data[1:]
        if who < b"\x40":
            stranger.send_raw(datagram)
        elif who < b"\x80":
            call.publisher.send_raw(datagram)
        elif len(datagram) <= PROTECTED_MAX:
            rtcp = who >= b"\xe0"
            protected = call.publisher.sending.protect_bytes(datagram, rtcp=rtcp) if len(datagram) >= 12 else None
            call.publisher.send_raw(protected if protected is not None else datagram)

    def run(data: bytes) -> None:
        sent = 0
        for frame in unframed(data, DATAGRAMS_MAX):
            send(frame)
            sent += 1
        upcalls = world.run(1 + (data[-1] & 7 if data else 0))
        expect(len(upcalls) <= UPCALLS_EACH_MAX * (sent + 1), "more was told than came")
        for upcall in upcalls:
            if upcall.kind is UpcallKind.RTCP:
                expect(upcall.transport == call.publisher.transport, "RTCP of somebody who has no keys")
        call.subscriber.take_rtp()
        call.publisher.take_rtcp()

    return run


def seeds() -> list[bytes]:
    def packet(sequence: int, payload: bytes, ssrc: int = 0x1111, payload_type: int = 96) -> bytes:
        return make_packet(
            *(),
            payload_type=payload_type,
            sequence=sequence,
            timestamp=3_000 * sequence,
            ssrc=ssrc,
            payload=payload,
            marker=True,
            extensions=[(3, (sequence & 0xFFFF).to_bytes(2, "big")), (5, b"\x2a")],
        )

    media = [b"\x80" + packet(1, VP8_KEY), b"\x80" + packet(2, VP8_DELTA), b"\x80" + packet(4, VP8_DELTA)]
    rtx = b"\x80" + packet(1, b"\0\3" + VP8_DELTA, ssrc=0x1112, payload_type=97)
    reports = b"\xe0" + pack_receiver_report(7) + pack_picture_loss(1, 2)
    raw = [b"\0" + packet(9, VP8_KEY), b"\x40" + packet(9, VP8_KEY), b"\0\x16\xfe\xfd", b"\0\0\1\0\0\x21\x12\xa4\x42"]
    return [
        framed(media),
        framed([*media, rtx]),
        framed([reports]),
        framed(raw),
        framed([b"\x80" + packet(7, b"x", ssrc=99)]),
    ]


def target_of(plane: str) -> Target:
    """The target of one plane; the native one is ``relay/plane_native``."""
    made = partial(make_plane, plane)
    return Target(f"relay/plane_{plane}", partial(make, made), seeds, max_bytes=4_096, renew=20_000)
