"""Key frames, told from payloads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codecs import KEY_FRAME_TESTS, h264_begins_key_frame, key_frame_test, vp8_begins_key_frame, vp8_frame_size

VP8_HEAD = b"\x10\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01"


@pytest.mark.parametrize(
    "descriptor",
    [
        b"\x10",
        b"\x90\x00",
        b"\x90\x80\x7f",  # 7-bit picture id
        b"\x90\x80\x80\x01",  # 15-bit picture id
        b"\x90\xe0\x80\x01\x05\x20",  # picture id, TL0PICIDX, TID
        b"\x90\xf0\x80\x01\x05\x20",  # as libwebrtc sends it
    ],
)
def test_vp8_key_frame_behind_any_descriptor(descriptor: bytes) -> None:
    assert vp8_begins_key_frame(descriptor + VP8_HEAD)
    assert vp8_frame_size(descriptor + VP8_HEAD) == (640, 480)
    assert not vp8_begins_key_frame(descriptor + b"\x11" + VP8_HEAD[1:])
    assert vp8_frame_size(descriptor + b"\x11" + VP8_HEAD[1:]) is None


def test_vp8_continuation_is_no_key_frame() -> None:
    assert not vp8_begins_key_frame(b"\x00" + VP8_HEAD)  # no S bit
    assert not vp8_begins_key_frame(b"\x11" + VP8_HEAD)  # partition 1


def test_vp8_scaling_bits_do_not_count_as_size() -> None:
    assert vp8_frame_size(b"\x10\x00\x00\x00\x9d\x01\x2a\x80\x42\xe0\x81") == (640, 480)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"\x67\x42", True),  # SPS
        (b"\x65\x88", False),  # IDR without the SPS that came before it
        (b"\x68\xce", False),  # PPS
        (b"\x41\x9a", False),  # other slice
        (b"\x78\x00\x02\x67\x42\x00\x02\x68\xce", True),  # STAP-A: SPS, PPS
        (b"\x78\x00\x01\x09\x00\x02\x67\x42", True),  # STAP-A: AUD, SPS
        (b"\x78\x00\x02\x68\xce\x00\x02\x41\x9a", False),
        (b"\x7c\x85\x88", False),  # FU-A, start of IDR
        (b"\x7c\x87\x88", True),  # FU-A, start of SPS
        (b"\x7c\x05\x88", False),  # FU-A, middle of IDR
        (b"\x7c\x81\x9a", False),  # FU-A, start of another slice
        (b"\x7c", False),
        (b"", False),
    ],
)
def test_h264_key_frames(payload: bytes, expected: bool) -> None:
    assert h264_begins_key_frame(payload) is expected


def test_names_in_any_case_and_unknown_codecs() -> None:
    assert key_frame_test("VP8") is vp8_begins_key_frame
    assert key_frame_test("h264") is h264_begins_key_frame
    assert key_frame_test("of-tomorrow")(b"")


@given(st.binary(max_size=64))
def test_any_payload_has_an_answer(payload: bytes) -> None:
    for test in KEY_FRAME_TESTS.values():
        assert test(payload) in (True, False)
        assert test(memoryview(payload)) == test(payload)
    vp8_frame_size(payload)
