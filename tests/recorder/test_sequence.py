"""Packets come back into order, each once, wherever the numbers start."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.sequence import (
    REORDER_PACKETS_MAX,
    REORDER_WAIT_NS,
    START_WAIT_NS,
    Reorder,
    RtpPacket,
    Unwrapper,
    parse_rtp,
)
from relay.rtp import make_packet, read_header

STARTS = [0, 1, 32_767, 32_768, 65_534, 65_535]
MS = 1_000_000


def packet(number: int, at_ms: int) -> RtpPacket:
    return RtpPacket(number & 0xFFFF, number * 10, True, 96, number.to_bytes(4, "big"), at_ms * MS)


def numbers(reorder: Reorder, at_ms: int, *, final: bool = False) -> list[tuple[int, int]]:
    return [(int.from_bytes(o.packet.payload, "big"), o.lost) for o in reorder.pop(at_ms * MS, final=final)]


@pytest.mark.parametrize("start", STARTS)
def test_shuffled_packets_come_out_in_order(start: int) -> None:
    reorder, out = Reorder(), []
    for at_ms, step in enumerate((1, 0, 2, 5, 4, 3, 6, 6, 7)):
        reorder.push(packet(start + step, 200 * at_ms))
        out += numbers(reorder, 200 * at_ms)
    assert [number - start for number, _ in out] == list(range(8))
    assert (reorder.duplicates + reorder.late, reorder.lost) == (1, 0)


@pytest.mark.parametrize("start", STARTS)
def test_missing_packet_is_given_up_after_the_wait_and_counted(start: int) -> None:
    reorder = Reorder()
    reorder.push(packet(start, 0))
    assert numbers(reorder, 100) == [(start, 0)]
    reorder.push(packet(start + 3, 110))
    assert numbers(reorder, 110) == []
    assert numbers(reorder, 109 + REORDER_WAIT_NS // MS) == []
    assert numbers(reorder, 110 + REORDER_WAIT_NS // MS) == [(start + 3, 2)]
    reorder.push(packet(start + 1, 2000))
    assert numbers(reorder, 5000) == []
    assert (reorder.late, reorder.lost) == (1, 2)


def test_first_packet_waits_for_those_it_overtook() -> None:
    reorder = Reorder()
    reorder.push(packet(8, 0))
    assert numbers(reorder, START_WAIT_NS // MS - 1) == []
    reorder.push(packet(7, 50))
    assert numbers(reorder, START_WAIT_NS // MS) == [(7, 0), (8, 0)]


def test_stray_packet_is_left_out_but_a_sender_that_began_anew_is_followed() -> None:
    reorder = Reorder()
    for number in (100, 101):
        reorder.push(packet(number, 0))
    reorder.push(packet(30_000, 1))
    reorder.push(packet(102, 2))
    reorder.push(packet(20_000, 3))
    reorder.push(packet(20_001, 4))
    reorder.push(packet(20_002, 5))
    assert [number for number, _ in numbers(reorder, 0, final=True)] == [100, 101, 102, 20_001, 20_002]


def test_held_packets_are_bounded() -> None:
    reorder = Reorder()
    reorder.push(packet(0, 0))
    assert numbers(reorder, 100) == [(0, 0)]
    for number in range(2, REORDER_PACKETS_MAX + 3):
        reorder.push(packet(number, 101))
    assert numbers(reorder, 101)[0] == (2, 1)


@given(st.lists(st.integers(0, 60), max_size=80), st.sampled_from(STARTS))
def test_each_packet_comes_out_at_most_once_and_in_order(steps: list[int], start: int) -> None:
    reorder, out = Reorder(), []
    for at, step in enumerate(steps):
        reorder.push(packet(start + step, at * 40))
        out += [number for number, _ in numbers(reorder, at * 40)]
    out += [number for number, _ in numbers(reorder, 10**9, final=True)]
    assert out == sorted(set(out))
    assert len(out) + reorder.late + reorder.duplicates == len(steps)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(-(2**30), 2**30), max_size=20))
def test_unwrapper_follows_the_nearest(start: int, steps: list[int]) -> None:
    unwrap, newest = Unwrapper(32), start
    assert unwrap(start) == start
    for step in steps:
        assert unwrap((newest + step) % 2**32) == newest + step
        newest = max(newest, newest + step)


@given(st.binary(max_size=64))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    parsed = parse_rtp(data, 0)
    assert parsed is None or len(parsed.payload) <= len(data)


def test_padding_and_extensions_are_taken_off() -> None:
    data = make_packet(
        payload_type=96, sequence=7, timestamp=9, ssrc=1, payload=b"abc", extensions=[(1, b"x")], padding=5
    )
    parsed = parse_rtp(data, 3)
    assert parsed == RtpPacket(7, 9, False, 96, b"abc", 3)


@given(st.binary(max_size=12), st.binary(max_size=40), st.integers(0, 12))
def test_the_usual_header_is_read_as_any_other(middle: bytes, rest: bytes, words: int) -> None:
    data = (b"\x90" + middle + rest)[:14] + words.to_bytes(2, "big") + rest
    header, parsed = read_header(data, len(data)), parse_rtp(data, 3)
    if header is None:
        assert parsed is None
    else:
        assert parsed == RtpPacket(
            header.sequence,
            header.timestamp,
            header.marker,
            header.payload_type,
            data[header.payload_start : header.payload_end],
            3,
        )


@given(st.lists(st.integers(-3, 6), max_size=60), st.sampled_from([0, 1, 32767, 32768, 65534, 65535]))
def test_packets_in_their_turn_are_taken_at_once_and_the_order_stays_the_same(steps: list[int], start: int) -> None:
    quick, plain = Reorder(), Reorder()
    by_quick, by_plain, number = [], [], start
    for at, step in enumerate([0, *([1] * 8), *steps]):
        number += step
        each = RtpPacket(number & 0xFFFF, 0, False, 96, b"x", at * 30_000_000)
        if quick.next(each):
            by_quick.append(each)
        else:
            quick.push(each)
            by_quick += [ordered.packet for ordered in quick.pop(each.arrival_ns)]
        plain.push(each)
        by_plain += [ordered.packet for ordered in plain.pop(each.arrival_ns)]
    by_quick += [ordered.packet for ordered in quick.pop(0, final=True)]
    by_plain += [ordered.packet for ordered in plain.pop(0, final=True)]
    assert by_quick == by_plain
    assert (quick.lost, quick.late, quick.duplicates) == (plain.lost, plain.late, plain.duplicates)
