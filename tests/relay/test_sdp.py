"""Reading descriptions: what browsers write is understood, what nobody should write is refused in words."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.messages import SDP_MAX_CHARS
from relay.sdp import RIDS_MAX, SECTIONS_MAX, BadSdp, parse
from tests.relay.offers import CHROMIUM, SIMULCAST


def test_chromium_offer_is_read() -> None:
    offer = parse(CHROMIUM)
    assert offer.bundle == ("0", "1", "2")
    audio, camera, screen = offer.sections
    assert [section.kind for section in offer.sections] == ["audio", "video", "video"]
    assert audio.codecs[0].name == "opus"
    assert audio.codecs[0].parameters["useinbandfec"] == "1"
    assert audio.codecs[0].channels == 2
    assert camera.direction == "sendrecv"
    assert camera.rtcp_mux
    assert camera.fingerprints[0].algorithm == "sha-256"
    assert len(camera.ssrcs) == 2
    assert camera.rtx_ssrcs == {camera.ssrcs[0]: camera.ssrcs[1]}
    assert camera.setup == "actpass"
    vp8 = next(codec for codec in camera.codecs if codec.name == "VP8")
    assert set(vp8.feedback) >= {"nack", "nack pli", "ccm fir", "transport-cc"}
    assert "urn:ietf:params:rtp-hdrext:sdes:mid" in screen.extensions


def test_simulcast_is_read_with_what_is_paused_and_of_alternatives_the_first() -> None:
    camera = parse(SIMULCAST.replace("~q;h;f", "~q;h,f;f;h;nowhere")).sections[1]
    assert camera.rids == ("q", "h", "f")
    assert camera.simulcast == ("q", "h", "f")
    assert camera.paused == {"q"}
    many = ";".join(f"r{i}" for i in range(500))
    rids = "\r\n".join(f"a=rid:r{i} send" for i in range(500))
    bounded = parse(SIMULCAST.replace("~q;h;f", many).replace("a=rid:q send", rids)).sections[1]
    assert len(bounded.rids) == len(bounded.simulcast) == RIDS_MAX


def test_session_level_attributes_are_inherited() -> None:
    text = "v=0\r\na=ice-ufrag:abcd\r\na=setup:actpass\r\na=sendonly\r\nm=audio 9 X 111\r\na=mid:a\r\n"
    (section,) = parse(text).sections
    assert (section.ice_ufrag, section.setup, section.direction) == ("abcd", "actpass", "sendonly")


def test_bundle_only_with_port_zero_is_no_rejection() -> None:
    lines = "v=0\nm=audio 0 X 111\na=mid:a\na=bundle-only\nm=audio 0 X 111\na=mid:b\n"
    riding, rejected = parse(lines).sections
    assert not riding.rejected
    assert rejected.rejected


BAD = {
    "empty": "",
    "no version": "o=- 1 1 IN IP4 0.0.0.0\n",
    "not a line": "v=0\nhello\n",
    "control characters": "v=0\ns=\x07\n",
    "short m-line": "v=0\nm=audio 9\n",
    "port": "v=0\nm=audio 99999 X 0\na=mid:a\n",
    "no mid": "v=0\nm=audio 9 X 0\n",
    "same mid twice": "v=0\nm=audio 9 X 0\na=mid:a\nm=audio 9 X 0\na=mid:a\n",
    "mid with spaces": "v=0\nm=audio 9 X 0\na=mid:a b\n",
    "bundle of nothing": "v=0\na=group:BUNDLE x\nm=audio 9 X 0\na=mid:a\n",
    "payload type": "v=0\nm=audio 9 X 0\na=mid:a\na=rtpmap:300 opus/48000\n",
    "clock rate": "v=0\nm=audio 9 X 0\na=mid:a\na=rtpmap:1 opus/zero\n",
    "rtpmap": "v=0\nm=audio 9 X 0\na=mid:a\na=rtpmap:1\n",
    "digits that are not ASCII": "v=0\nm=audio 9 X 0\na=mid:a\na=rtpmap:１ opus/48000\n",
    "extmap": "v=0\nm=audio 9 X 0\na=mid:a\na=extmap:x\n",
    "ssrc": "v=0\nm=audio 9 X 0\na=mid:a\na=ssrc:99999999999 cname:x\n",
    "ufrag": "v=0\na=ice-ufrag:a\nm=audio 9 X 0\na=mid:a\n",
    "pwd": "v=0\na=ice-pwd:short\nm=audio 9 X 0\na=mid:a\n",
    "fingerprint": "v=0\na=fingerprint:sha-256\n",
    "setup": "v=0\na=setup:whatever\n",
    "origin": "v=0\no=- 1\n",
    "too many m-lines": "v=0\n" + "".join(f"m=audio 9 X 0\na=mid:{n}\n" for n in range(SECTIONS_MAX + 1)),
    "too long": "v=0\n" + "a=x\n" * (SDP_MAX_CHARS // 4),
    "too many lines": "v=0\n" + "a=\n" * 5000,
}


@pytest.mark.parametrize("what", BAD)
def test_bad_description_is_refused_in_words(what: str) -> None:
    with pytest.raises(BadSdp, match=r"\w+ \w+"):
        parse(BAD[what])


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, "v=0\n" + text):
        with contextlib.suppress(BadSdp):
            parse(candidate)


LINES = CHROMIUM.split("\r\n")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(LINES) - 1), st.integers(0, 200), st.text(max_size=6)), max_size=4))
def test_altered_offers_are_read_or_refused(edits: list[tuple[int, int, str]]) -> None:
    lines = list(LINES)
    for line, at, text in edits:
        lines[line] = lines[line][:at] + text + lines[line][at + 1 :]
    with contextlib.suppress(BadSdp):
        parse("\r\n".join(lines))
