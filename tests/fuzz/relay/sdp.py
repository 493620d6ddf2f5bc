"""Offers of hostile pages: read, answered, answered again."""

from __future__ import annotations

from relay import sdp
from relay.dtls import Fingerprint
from relay.ice import IceCredentials
from relay.messages import Source
from relay.negotiation import LocalTransport, RoomView, answer, remote_ice
from tests.fuzz.kit import Run, Target, expect
from tests.relay.offers import CHROMIUM, SIMULCAST

LOCAL = LocalTransport(IceCredentials("ourufrag", "p" * 32), Fingerprint("sha-256", "AA:BB"), (("192.0.2.2", 4_000),))
VIEW = RoomView("video", ("VP8", "H264"), (frozenset({"VP8", "H264"}),), "usr_other")
SOURCES: dict[str, Source] = {"0": "microphone", "1": "camera", "2": "screen"}
ANSWER_TIMES_MAX = 4
"""An answer is longer than what it answers at most by so much, beyond 8 KiB."""


def make() -> Run:
    def run(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        try:
            offer = sdp.parse(text)
            remote_ice(offer)
            given = answer(VIEW, offer, SOURCES, LOCAL, None)
        except sdp.BadSdp as refusal:
            expect(len(str(refusal)) < 500, "a refusal that nobody reads")
            return
        expect(len(given.sdp) <= ANSWER_TIMES_MAX * len(text) + 8_192, "the answer is out of proportion")
        read = sdp.parse(given.sdp)
        expect(len(read.sections) == len(offer.sections), "an answer has the m-lines of its offer")
        try:
            again = answer(VIEW, offer, SOURCES, LOCAL, given.agreement)
        except sdp.BadSdp as refusal:
            expect(False, f"what was answered once is refused: {refusal}")
            return
        sent = [[media for media in each.agreement.media if media.sends] for each in (given, again)]
        expect(sent[0] == sent[1], "the same offer, another agreement")

    return run


def seeds() -> list[bytes]:
    audio = CHROMIUM[: CHROMIUM.index("m=video")].replace("BUNDLE 0 1 2", "BUNDLE 0")
    return [CHROMIUM.encode(), SIMULCAST.encode(), audio.encode()]


WORDS = (
    *(b"a=rtpmap:", b"a=fmtp:", b"a=rtcp-fb:", b"a=extmap:", b"a=ssrc:", b"a=ssrc-group:FID ", b"a=rid:", b"a=mid:"),
    *(b"a=simulcast:send ", b"a=setup:", b"a=fingerprint:", b"a=group:BUNDLE ", b"m=video 9 UDP/TLS/RTP/SAVPF 96\r\n"),
    *(b"\r\n", b"\n", b"4294967296", b"-1", b"127", b"\xef\xbf\xbd", b";", b"a=inactive\r\n", b"a=ice-ufrag:"),
)
TARGET = Target("relay/sdp", make, seeds, max_bytes=16_384, words=WORDS)
