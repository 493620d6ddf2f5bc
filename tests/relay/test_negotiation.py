"""Answers: what they must say, what they keep, what they refuse."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from bench.media_sdp import OfferedMedia, offer
from relay.dtls import Fingerprint
from relay.ice import IceCredentials
from relay.messages import SessionKind, Source
from relay.negotiation import Agreement, Answer, LocalTransport, RoomView, answer
from relay.participant import route_spec
from relay.published import PublishedTrack
from relay.sdp import BadSdp, MediaSection, SessionDescription, parse
from tests.relay.offers import CHROMIUM, SIMULCAST

LOCAL = LocalTransport(
    IceCredentials("ourufrag", "p" * 32), Fingerprint("sha-256", "AA:BB"), (("192.0.2.2", 4000), ("127.0.0.1", 4000))
)
SOURCES: dict[str, Source] = {"0": "microphone", "1": "camera", "2": "screen"}
VIEW = RoomView("video", ("VP8", "H264"), (), "usr_other")


def ask(text: str = CHROMIUM, view: RoomView = VIEW, previous: Agreement | None = None) -> Answer:
    return answer(view, parse(text), SOURCES, LOCAL, previous)


def sections(given: Answer) -> tuple[MediaSection, ...]:
    return parse(given.sdp).sections


def test_answer_is_readable_and_mirrors_the_offer() -> None:
    given = ask()
    read: SessionDescription = parse(given.sdp)
    assert read.bundle == ("0", "1", "2")
    for section in read.sections:
        assert section.setup == "passive"
        assert section.rtcp_mux
        assert section.direction == "sendrecv"
        assert section.ice_ufrag == "ourufrag"
        assert section.fingerprints == (LOCAL.fingerprint,)
        assert len(section.ssrcs) == (1 if section.kind == "audio" else 2)
    assert "a=ice-lite" in given.sdp
    assert "a=msid:usr_other camera" in given.sdp
    for address, port in LOCAL.candidates:
        assert f" {address} {port} typ host" in given.sdp
    audio, camera, _ = read.sections
    assert [codec.name for codec in audio.codecs] == ["opus"]
    assert [codec.name for codec in camera.codecs] == ["VP8", "rtx", "H264", "rtx"]
    h264 = next(codec for codec in camera.codecs if codec.name == "H264")
    assert h264.parameters["packetization-mode"] == "1"
    assert "goog-remb" not in given.sdp
    assert "abs-send-time" not in given.sdp
    assert "rtp-stream-id" not in given.sdp


def test_nack_is_answered_for_audio_unasked_because_browsers_do_as_they_are_told() -> None:
    assert "a=rtcp-fb:111 nack" not in CHROMIUM
    audio, camera, _ = sections(ask())
    assert "nack" in audio.codecs[0].feedback
    assert "nack pli" not in audio.codecs[0].feedback
    assert "nack" in camera.codecs[0].feedback


def test_lost_audio_is_not_asked_for_since_pages_would_use_a_nonce_twice() -> None:
    microphone, camera, _ = (PublishedTrack(media) for media in ask().agreement.media)
    assert not microphone.stream_spec().nack
    assert camera.stream_spec().nack


def test_pictures_begin_with_more_than_browsers_dare_by_themselves() -> None:
    audio, camera, _ = sections(ask())
    for codec in camera.codecs:
        assert ("x-google-start-bitrate" in codec.parameters) == (codec.name != "rtx")
    assert "x-google-start-bitrate" not in audio.codecs[0].parameters


def test_what_may_only_be_answered_when_offered_is_answered_where_it_was_offered() -> None:
    mixed, reduced = "a=extmap-allow-mixed\r\n", "a=rtcp-rsize\r\n"
    text = CHROMIUM.replace("\r\n", "\n").replace("\n", "\r\n")
    assert (ask(text).sdp.count(mixed), ask(text).sdp.count(reduced)) == (1, 3)
    without = text.replace(mixed, "").replace(reduced, "")
    assert "allow-mixed" not in ask(without).sdp
    assert "rsize" not in ask(without).sdp
    in_one = without.replace("a=mid:1\r\n", f"a=mid:1\r\n{mixed}{reduced}")
    before, camera, screen = ask(in_one).sdp.replace("m=audio", "").split("m=video")
    for line in (mixed, reduced):
        assert (line in before, line in camera, line in screen) == (False, True, False)


def test_tenants_order_and_the_others_codecs_decide() -> None:
    view = dataclasses.replace(VIEW, video_codecs=("H264", "VP8"))
    assert sections(ask(view=view))[1].codecs[0].name == "H264"
    view = dataclasses.replace(VIEW, other_video_codecs=(frozenset({"H264"}),))
    given = ask(view=view)
    assert [codec.name for codec in sections(given)[1].codecs] == ["H264", "rtx"]
    assert given.agreement.video_codecs == {"VP8", "H264"}


def test_no_codec_in_common_rejects_video_but_not_the_call() -> None:
    view = dataclasses.replace(VIEW, other_video_codecs=(frozenset(),))
    audio, camera, screen = sections(ask(view=view))
    assert not audio.rejected
    assert camera.rejected
    assert screen.rejected


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("sendrecv", "sendrecv"), ("sendonly", "recvonly"), ("recvonly", "sendonly"), ("inactive", "inactive")],
)
def test_direction_is_answered_in_kind(theirs: str, ours: str) -> None:
    camera = sections(ask(CHROMIUM.replace("a=sendrecv", f"a={theirs}")))[1]
    assert camera.direction == ours
    assert bool(camera.ssrcs) == (ours in ("sendrecv", "sendonly"))


def test_audio_room_pays_for_no_video_and_nobody_for_data() -> None:
    kind: SessionKind = "audio"
    data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:3\r\na=sctp-port:5000\r\n"
    text = CHROMIUM.replace("BUNDLE 0 1 2", "BUNDLE 0 1 2 3") + data
    read = sections(ask(text, dataclasses.replace(VIEW, kind=kind)))
    assert [section.rejected for section in read] == [False, False, False, True]
    assert [section.direction for section in read[:3]] == ["sendrecv", "inactive", "inactive"]
    assert not any(section.ssrcs for section in read[1:])
    assert read[3].formats == ("webrtc-datachannel",)


def test_renegotiation_keeps_session_payload_types_and_ssrcs_and_raises_the_version() -> None:
    first = ask()
    second = ask(previous=first.agreement)
    assert second.agreement.session_id == first.agreement.session_id
    assert second.agreement.session_version == first.agreement.session_version + 1
    for before, after in zip(first.agreement.media, second.agreement.media, strict=True):
        assert (before.send_ssrc, before.send_rtx_ssrc) == (after.send_ssrc, after.send_rtx_ssrc)
        assert before.codecs == after.codecs
        assert before.extensions == after.extensions


def test_m_line_that_stopped_and_starts_again_gets_a_new_ssrc() -> None:
    first = ask()
    stopped = ask(CHROMIUM.replace("a=sendrecv", "a=inactive"), previous=first.agreement)
    again = ask(previous=stopped.agreement)
    assert first.agreement.media[1].send_ssrc != again.agreement.media[1].send_ssrc


def test_routes_map_payload_types_and_extensions_between_two_browsers() -> None:
    page = ask().agreement.media[1]
    media = [OfferedMedia("0", "microphone"), OfferedMedia("1", "camera")]
    text = offer(media, IceCredentials.fresh(), Fingerprint("sha-256", "AA"), (1, 1))
    other = ask(text).agreement.media[1]
    spec = route_spec(page, other)
    assert spec.payload_types == {96: 96, 108: 102}
    assert spec.rtx_payload_types == {96: 97, 102: 103}
    assert spec.set_extensions == {1: b"1"}
    assert spec.extension_ids == {}
    assert route_spec(page, page).extension_ids == {13: 13}
    assert spec.ssrc == other.send_ssrc
    assert spec.wait_for_key_frame


REFUSED = {
    "no ICE": CHROMIUM.replace("a=ice-pwd", "a=x-pwd"),
    "no fingerprint": CHROMIUM.replace("a=fingerprint", "a=x-fingerprint"),
    "passive": CHROMIUM.replace("actpass", "passive"),
    "no m-line": "v=0\n",
    "no rtcp-mux": CHROMIUM.replace("a=rtcp-mux", "a=x"),
    "plain RTP": CHROMIUM.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"),
    "source of another kind": CHROMIUM.replace("m=audio 9", "m=video 9"),
    "no codec": CHROMIUM.replace("opus", "speex").replace("VP8", "X").replace("H264", "Y"),
    "one payload type for two codecs": CHROMIUM.replace("a=rtpmap:96 VP8/90000", "a=rtpmap:96 H264/90000", 1)
    .replace("a=rtcp-fb:96 nack pli", "a=fmtp:96 packetization-mode=1", 1)
    .replace("a=rtpmap:108 H264/90000", "a=rtpmap:108 X/90000", 1),
}


@pytest.mark.parametrize("what", REFUSED)
def test_offer_that_cannot_be_answered_is_refused_in_words(what: str) -> None:
    with pytest.raises(BadSdp, match=r"\w+ \w+ \w+"):
        ask(REFUSED[what])


def test_two_m_lines_with_one_ssrc_are_refused() -> None:
    offered = parse(CHROMIUM)
    camera, screen = offered.sections[1].ssrcs[0], offered.sections[2].ssrcs[0]
    with pytest.raises(BadSdp, match="SSRC"):
        ask(CHROMIUM.replace(str(screen), str(camera)))


def test_every_subset_of_directions_and_kinds_answers_what_can_be_parsed() -> None:
    for directions in itertools.product(("sendrecv", "recvonly", "inactive"), repeat=3):
        parts = CHROMIUM.split("a=sendrecv")
        text = parts[0] + "".join(f"a={d}{rest}" for d, rest in zip(directions, parts[1:], strict=True))
        assert len(sections(ask(text))) == 3


def test_a_camera_of_several_encodings_is_taken_and_told_apart_by_rid() -> None:
    given = ask(SIMULCAST)
    camera = given.agreement.media[1]
    assert camera.rids == ("q", "h", "f")
    assert camera.receive_ssrcs == ()
    assert given.sdp.count("a=simulcast:recv ~q;h;f\r\n") == 1, "what is paused stays paused"
    assert "a=rid:h recv\r\n" in given.sdp
    section = sections(given)[1]
    assert section.extensions["urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"] == 10
    assert section.extensions["urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"] == 11
    assert len(section.ssrcs) == 2, "one stream comes down, whatever goes up"


def test_more_encodings_than_are_carried_are_answered_in_part() -> None:
    more = SIMULCAST.replace("a=rid:q send", "a=rid:q send\r\na=rid:x send").replace("h;f", "h;f;x")
    given = ask(more)
    assert given.agreement.media[1].rids == ("q", "h", "f")
    assert "a=rid:x" not in given.sdp


@pytest.mark.parametrize(
    ("found", "instead"),
    [
        ("a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n", ""),
        ("~q;h;f", "f"),
        ("a=simulcast:send", "a=simulcast:recv"),
        ("a=rid:q send\r\na=rid:h send", "a=rid:q recv"),
    ],
)
def test_encodings_that_cannot_be_told_apart_or_are_one_are_no_simulcast(found: str, instead: str) -> None:
    given = ask(SIMULCAST.replace(found, instead))
    assert given.agreement.media[1].rids == ()
    assert "a=simulcast" not in given.sdp


def test_a_screen_is_one_encoding() -> None:
    swapped: dict[str, Source] = {"0": "microphone", "1": "screen", "2": "camera"}
    given = answer(VIEW, parse(SIMULCAST), swapped, LOCAL, None)
    assert given.agreement.media[1].rids == ()
