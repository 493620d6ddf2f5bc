"""RTCP: what is packed reads back, what is broken reads as nothing."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aiortc import rtp as independent
from hypothesis import given
from hypothesis import strategies as st

from relay.rtcp import (
    PACKETS_MAX,
    SEQUENCES_MAX,
    FullIntraRequest,
    Goodbye,
    Nack,
    PictureLoss,
    ReceiverEstimate,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    is_rtcp,
    ntp64_of,
    ntp_middle,
    pack_cname,
    pack_full_intra_request,
    pack_goodbye,
    pack_nack,
    pack_picture_loss,
    pack_receiver_estimate,
    pack_receiver_report,
    pack_sender_report,
    parse_compound,
    round_trip_ns,
)

u32 = st.integers(0, 2**32 - 1)
blocks = st.lists(
    st.builds(ReportBlock, u32, st.integers(0, 255), st.integers(-(2**23), 2**23 - 1), u32, u32, u32, u32), max_size=31
)


@given(u32, st.integers(0, 2**64 - 1), u32, u32, u32, blocks)
def test_sender_report_reads_back(
    ssrc: int, ntp64: int, timestamp: int, packets: int, octets: int, reports: list[ReportBlock]
) -> None:
    data = pack_sender_report(ssrc, ntp64, timestamp, packets, octets, reports)
    assert parse_compound(data) == [SenderReport(ssrc, ntp64, timestamp, packets, octets, tuple(reports))]


@given(u32, blocks)
def test_receiver_report_reads_back(ssrc: int, reports: list[ReportBlock]) -> None:
    assert parse_compound(pack_receiver_report(ssrc, reports)) == [ReceiverReport(ssrc, tuple(reports))]


def test_receiver_report_with_a_profile_extension_reads() -> None:
    block = ReportBlock(1, 2, 3, 4, 5, 6, 7)
    data = bytearray(pack_receiver_report(9, [block]) + b"profile!")
    data[2:4] = (len(data) // 4 - 1).to_bytes(2, "big")
    assert parse_compound(data) == [ReceiverReport(9, (block,))]


@given(st.integers(0, 0xFFFF), st.lists(st.integers(1, 40), max_size=60))
def test_nack_reads_back_over_the_wrap(first: int, gaps: list[int]) -> None:
    sequences = [first]
    for gap in gaps:
        sequences.append((sequences[-1] + gap) & 0xFFFF)
    assert parse_compound(pack_nack(1, 2, sequences)) == [Nack(1, 2, tuple(sequences))]


def test_nack_of_neighbours_is_one_item() -> None:
    assert len(pack_nack(1, 2, range(65_530, 65_547))) == 12 + 4


def test_nack_is_read_up_to_its_bound() -> None:
    body = struct.pack("!II", 1, 2) + struct.pack("!HH", 5, 0xFFFF) * 300
    data = struct.pack("!BBH", 0x81, 205, len(body) // 4) + body
    items = parse_compound(data)
    assert items is not None
    (nack,) = items
    assert isinstance(nack, Nack)
    assert len(nack.sequences) == SEQUENCES_MAX


def test_feedback_reads_back() -> None:
    compound = (
        pack_receiver_report(1)
        + pack_cname(1, "turnpike")
        + pack_picture_loss(1, 2)
        + pack_full_intra_request(1, 3, 300)
        + pack_receiver_estimate(1, 1_000_000, [4, 5])
        + pack_goodbye([1, 6])
    )
    assert parse_compound(compound) == [
        ReceiverReport(1, ()),
        PictureLoss(1, 2),
        FullIntraRequest(1, ((3, 44),)),
        ReceiverEstimate(1, 1_000_000, (4, 5)),
        Goodbye((1, 6)),
    ]


def test_an_independent_parser_agrees() -> None:
    block = ReportBlock(11, 128, -5, 70_000, 9, 10, 12)
    compound = (
        pack_sender_report(1, 2**40, 3, 4, 5, [block])
        + pack_cname(1, "ab")
        + pack_nack(1, 2, [10, 11, 40])
        + pack_picture_loss(1, 2)
    )
    parsed: list[Any] = list(independent.RtcpPacket.parse(compound))
    sender_report, sdes, nack, pli = parsed
    assert sender_report.sender_info.ntp_timestamp == 2**40
    assert sender_report.reports[0].packets_lost == -5
    assert sdes.chunks[0].items == [(1, b"ab")]
    assert nack.lost == [10, 11, 40]
    assert (pli.fmt, pli.media_ssrc) == (1, 2)


def test_unknown_packets_are_skipped() -> None:
    unknown = struct.pack("!BBHI", 0x80, 207, 1, 1)
    assert parse_compound(unknown + pack_picture_loss(1, 2)) == [PictureLoss(1, 2)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\xc9\x00",
        b"\x00\xc9\x00\x01" + bytes(4),  # version 0
        b"\x80\xc9\x00\x02" + bytes(4),  # longer than the datagram
        b"\xa0\xc9\x00\x01\x00\x00\x00\x00",  # padding of length 0
        b"\xa0\xc9\x00\x01\x00\x00\x00\x09",  # more padding than body
        pack_picture_loss(1, 2) + b"\x80",
    ],
)
def test_broken_framing_reads_as_none(data: bytes) -> None:
    assert parse_compound(data) is None


def test_cut_items_are_left_out() -> None:
    for data in (b"\x8f\xc8\x00\x01" + bytes(4), b"\x81\xcd\x00\x01" + bytes(4), b"\x81\xcb\x00\x00"):
        assert parse_compound(data) == []


def test_a_compound_is_read_up_to_its_bound() -> None:
    items = parse_compound(pack_picture_loss(1, 2) * 200)
    assert items is not None
    assert len(items) == PACKETS_MAX


@given(st.binary(max_size=200), st.sampled_from([200, 201, 202, 203, 204, 205, 206]), st.integers(0, 31))
def test_any_bytes_are_read_without_raising(body: bytes, kind: int, count: int) -> None:
    parse_compound(body)
    body = body[: len(body) // 4 * 4]
    assert parse_compound(struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body) is not None


def test_rtcp_is_told_by_its_second_byte() -> None:
    assert [is_rtcp(byte) for byte in (191, 192, 200, 223, 224, 96, 111)] == [
        False,
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_ntp_time_and_round_trip() -> None:
    assert ntp64_of(0) == 2_208_988_800 << 32
    sent = ntp64_of(1_700_000_000_000_000_000)
    now = ntp64_of(1_700_000_000_150_000_000)
    block = ReportBlock(1, 0, 0, 0, 0, ntp_middle(sent), 65_536 // 10)
    measured = round_trip_ns(block, now)
    assert measured == pytest.approx(50_000_000, abs=40_000)
    assert round_trip_ns(block._replace(last_sr=0), now) is None
    assert round_trip_ns(block._replace(delay_since_last_sr=65_536 * 60), now) is None
