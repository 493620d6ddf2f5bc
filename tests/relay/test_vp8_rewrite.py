"""VP8's descriptor: read within bounds, rewritten in place and in its own width."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.codecs import vp8_begins_key_frame
from relay.vp8_rewrite import read_vp8, rewrite_vp8

LONG = bytes.fromhex("90e0 ffff ff 60 10 00 00".replace(" ", ""))
SHORT = bytes.fromhex("90e0 7f 05 80 11 00 00".replace(" ", ""))


def test_every_field_is_read() -> None:
    read = read_vp8(LONG, 0, len(LONG))
    assert read == (True, True, 2, True, 0x7FFF, 4, 255, 1, True)
    read = read_vp8(b"junk" + SHORT, 4, 4 + len(SHORT))
    assert read == (True, False, 2, False, 0x7F, 3, 5, 2, False)


def test_a_packet_without_numbers_is_of_the_lowest_layer() -> None:
    read = read_vp8(b"\x10\x10\x00", 0, 3)
    assert read is not None
    assert (read.begins_key_frame, read.picture_at, read.tl0_at, read.temporal) == (True, 0, 0, 0)
    more = read_vp8(b"\x00\x10\x00", 0, 3)
    assert more is not None
    assert not more.begins_frame


def test_numbers_wrap_in_their_own_width() -> None:
    for payload, expected in ((LONG, b"\x80\x04\x01"), (SHORT, b"\x04\x07")):
        buffer = bytearray(b"head" + payload)
        read = read_vp8(payload, 0, len(payload))
        assert read is not None
        rewrite_vp8(buffer, 4, read, 5, 2)
        assert buffer[6 : 6 + len(expected)] == expected
        assert buffer[:6] + buffer[6 + len(expected) :] == b"head" + payload[:2] + payload[2 + len(expected) :]


@given(st.binary(max_size=12), st.integers(-40_000, 40_000), st.integers(-300, 300))
def test_any_payload_is_read_within_its_bounds_and_keeps_its_shape(payload: bytes, picture: int, tl0: int) -> None:
    read = read_vp8(payload, 0, len(payload))
    if read is None:
        assert len(payload) < 7
        return
    assert read.begins_key_frame == vp8_begins_key_frame(payload)
    buffer = bytearray(payload)
    rewrite_vp8(buffer, 0, read, picture, tl0)
    again = read_vp8(bytes(buffer), 0, len(buffer))
    assert again is not None
    width = 0x7FFF if read.picture_is_long else 0x7F
    assert again.picture == ((read.picture + picture) & width if read.picture_at else 0)
    assert again.tl0 == ((read.tl0 + tl0) & 0xFF if read.tl0_at else 0)
    assert again._replace(picture=0, tl0=0) == read._replace(picture=0, tl0=0)
