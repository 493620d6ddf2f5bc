"""RTP in place: headers, extensions, numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.rtp import (
    RtpHeader,
    Unwrapper,
    get_extension,
    make_packet,
    pack_extensions,
    read_extensions,
    read_header,
    sequence_delta,
    timestamp_delta,
    unwrap_rtx,
)

STARTS = [0, 1, 32_767, 32_768, 65_534, 65_535]
one_byte = st.dictionaries(st.integers(1, 14), st.binary(min_size=1, max_size=16), max_size=6)
two_byte = st.dictionaries(st.integers(1, 255), st.binary(max_size=40), max_size=6)


def packet(**changes: object) -> bytes:
    fields: dict[str, object] = {"payload_type": 96, "sequence": 7, "timestamp": 8, "ssrc": 9, "payload": b"payload"}
    return make_packet(**{**fields, **changes})  # type: ignore[arg-type]


def header_of(data: bytes) -> RtpHeader:
    header = read_header(data, len(data))
    assert header is not None
    return header


@given(st.booleans(), st.integers(0, 127), st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1), st.binary(max_size=50))
def test_header_fields_come_back(marker: bool, payload_type: int, sequence: int, word: int, payload: bytes) -> None:
    data = make_packet(
        payload_type=payload_type, sequence=sequence, timestamp=word, ssrc=word ^ 1, payload=payload, marker=marker
    )
    assert header_of(data) == (marker, payload_type, sequence, word, word ^ 1, 0, 12, len(data))


@given(st.one_of(one_byte, two_byte), st.binary(max_size=20), st.integers(0, 20))
def test_extensions_and_padding_leave_the_payload_whole(
    extensions: dict[int, bytes], payload: bytes, padding: int
) -> None:
    data = packet(extensions=extensions.items(), payload=payload, padding=padding)
    header = header_of(data)
    assert data[header.payload_start : header.payload_end] == payload
    assert {key: data[at : at + size] for key, at, size in read_extensions(data, header)} == extensions
    for key, value in extensions.items():
        assert get_extension(data, header, key) == value


def test_csrcs_are_stepped_over() -> None:
    plain = packet(extensions=[(1, b"a")])
    data = bytes((plain[0] | 2,)) + plain[1:12] + b"csrccsrc" + plain[12:]
    header = header_of(data)
    assert data[header.payload_start : header.payload_end] == b"payload"
    assert get_extension(data, header, 1) == b"a"


@given(st.binary(max_size=80))
def test_any_bytes_are_a_packet_within_bounds_or_none(data: bytes) -> None:
    for candidate in (
        data,
        b"\x90" + data,
        b"\xb0" + data,
        b"\x80\x60" + bytes(10) + data,
        b"\x90\x60" + bytes(10) + data,
    ):
        header = read_header(candidate, len(candidate))
        if header is None:
            continue
        assert 12 <= header.payload_start <= header.payload_end <= len(candidate)
        for _, at, size in read_extensions(candidate, header):
            assert 12 < at <= at + size <= header.payload_start
        unwrap_rtx(candidate, header, 96, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(11),
        bytes(12),  # version 0
        b"\x85" + bytes(11),  # CSRCs cut
        b"\x90" + bytes(11),  # extension header cut
        b"\x90" + bytes(11) + b"\xbe\xde\x00\x02" + bytes(4),  # extension cut
        b"\xa0" + bytes(11),  # padding without a byte to hold its length
        b"\xa0" + bytes(12),  # padding of length 0
        b"\xa0" + bytes(11) + b"\x00\x03",  # more padding than payload
    ],
)
def test_malformed_packets_read_as_none(data: bytes) -> None:
    assert read_header(data, len(data)) is None


def test_the_length_counts_not_the_buffer() -> None:
    data = packet()
    assert read_header(data + b"rest of the buffer", len(data)) == header_of(data)


def test_one_byte_form_wherever_it_can_be() -> None:
    assert pack_extensions([(1, b"ab")])[:2] == b"\xbe\xde"
    assert pack_extensions([(15, b"ab")])[:2] == b"\x10\x00"
    assert pack_extensions([(1, b"")])[:2] == b"\x10\x00"
    assert pack_extensions([(1, bytes(17))])[:2] == b"\x10\x00"
    assert pack_extensions([]) == b""


def test_rtx_unwraps_to_the_packet_that_was_lost() -> None:
    lost = packet(sequence=65_535, extensions=[(1, b"m"), (3, b"\0\1")], marker=True)
    rtx = packet(
        payload_type=97,
        sequence=3,
        ssrc=10,
        payload=b"\xff\xffpayload",
        extensions=[(1, b"m"), (3, b"\0\1")],
        marker=True,
        padding=7,
    )
    assert unwrap_rtx(rtx, header_of(rtx), 96, 9) == lost


def test_rtx_of_padding_only_unwraps_to_none() -> None:
    probe = packet(payload=b"", padding=200)
    assert unwrap_rtx(probe, header_of(probe), 96, 9) is None


@pytest.mark.parametrize("start", STARTS)
def test_sequence_delta_over_the_wrap(start: int) -> None:
    for delta in (0, 1, -1, 100, -100, 32_767, -32_768):
        assert sequence_delta((start + delta) & 0xFFFF, start) == delta


@given(st.integers(0, 2**32 - 1), st.integers(-(2**31), 2**31 - 1))
def test_timestamp_delta_over_the_wrap(start: int, delta: int) -> None:
    assert timestamp_delta((start + delta) & 0xFFFF_FFFF, start) == delta


@given(st.sampled_from(STARTS), st.lists(st.integers(-3_000, 3_000), max_size=200))
def test_unwrapped_numbers_differ_as_the_true_ones(start: int, steps: list[int]) -> None:
    unwrapper, true = Unwrapper(), start
    assert unwrapper.unwrap(start) == start
    for step in steps:
        true += step
        highest = unwrapper.highest
        assert highest is not None
        if abs(true - highest) < 32_768:
            assert unwrapper.unwrap(true & 0xFFFF) == true
        else:
            true = highest
