"""Transport-cc feedback: what a sender reads is when its packets came."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.feedback import ArrivalLog
from relay.rtcp import parse_compound
from relay.rtcp_transport_cc import (
    RECEIVED_MAX,
    TICK_NS,
    TransportFeedback,
    pack_transport_feedback,
    parse_transport_feedback,
)

MS = 1_000_000


def parse(data: bytes) -> TransportFeedback:
    items = parse_compound(data)
    assert items is not None
    (item,) = items
    assert isinstance(item, TransportFeedback)
    return item


def ticks_of(feedback: TransportFeedback) -> dict[int, int]:
    """Sequence number → arrival in ticks of 250 µs modulo 2³²."""
    ticks, found = feedback.reference_ticks, {}
    for i, delta in enumerate(feedback.deltas):
        if delta is not None:
            ticks += delta
            found[(feedback.base_sequence + i) & 0xFFFF] = ticks & 0xFFFF_FFFF
    return found


@given(
    st.sampled_from([0, 1, 32_767, 32_768, 65_534, 65_535]),
    st.integers(0, 2**62),
    st.lists(st.one_of(st.none(), st.integers(-50 * MS, 200 * MS), st.integers(-8_000 * MS, 8_000 * MS)), max_size=300),
)
def test_feedback_tells_every_arrival(start: int, began_ns: int, steps: list[int | None]) -> None:
    base = start + 0x10000
    at_ns = began_ns + 10**13
    arrivals = {base + len(steps): at_ns}
    for i, step in enumerate(steps):
        if step is not None:
            at_ns += step
            arrivals[base + i] = at_ns
    arrivals[base + len(steps)] = at_ns
    told: dict[int, int] = {}
    next_base, last, count = base, max(arrivals), 0
    while next_base <= last:
        data, after = pack_transport_feedback(1, 2, next_base, last, arrivals, count)
        assert len(data) < 1_200
        feedback = parse(data)
        assert (feedback.base_sequence, feedback.feedback_count) == (next_base & 0xFFFF, count & 0xFF)
        assert after == next_base + len(feedback.deltas)
        told |= ticks_of(feedback)
        next_base, count = after, count + 1
    expected = {number & 0xFFFF: ns // TICK_NS & 0xFFFF_FFFF for number, ns in arrivals.items()}
    assert told == expected


def test_one_feedback_is_bounded() -> None:
    arrivals = {i: i * MS for i in range(1_000)}
    feedback, after = pack_transport_feedback(1, 2, 0, 999, arrivals, 0)
    assert after == RECEIVED_MAX == len(parse(feedback).deltas)


@given(st.binary(max_size=100))
def test_any_body_is_read_without_raising(body: bytes) -> None:
    feedback = parse_transport_feedback(1, 2, body)
    assert feedback is None or feedback.deltas


@pytest.mark.parametrize("start", [0, 1, 32_767, 32_768, 65_534, 65_535])
def test_log_tells_each_packet_once_with_loss_between(start: int) -> None:
    log = ArrivalLog()
    told: list[tuple[int, bool]] = []
    for i in range(100):
        if i % 10 != 3:
            log.note((start + i) & 0xFFFF, i * 20 * MS)
        if log.due_ns is not None and log.due_ns <= i * 20 * MS:
            for data in log.take(1, 2):
                feedback = parse(data)
                told += [
                    ((feedback.base_sequence + j) & 0xFFFF, delta is not None)
                    for j, delta in enumerate(feedback.deltas)
                ]
    assert told == [((start + i) & 0xFFFF, i % 10 != 3) for i in range(len(told))]
    assert len(told) >= 90


def test_log_is_due_after_its_interval_and_then_quiet() -> None:
    log = ArrivalLog()
    assert log.due_ns is None
    log.note(5, 1_000 * MS)
    assert log.due_ns == 1_075 * MS
    assert len(log.take(1, 2)) == 1
    assert log.due_ns is None
    assert log.take(1, 2) == []


def test_a_reordered_packet_is_told_in_the_next_feedback() -> None:
    log = ArrivalLog()
    log.note(10, 1_000 * MS)
    log.note(12, 1_001 * MS)
    log.take(1, 2)
    log.note(11, 1_002 * MS)
    (data,) = log.take(1, 2)
    assert sorted(ticks_of(parse(data))) == [11, 12]


def test_the_reference_wraps_after_24_bits() -> None:
    at_ns = (1 << 24) * 64 * MS
    assert ticks_of(parse(pack_transport_feedback(1, 2, 0, 1, {0: at_ns - MS, 1: at_ns + MS}, 0)[0])) == {
        0: 0xFFFF_FFFF - 3,
        1: 4,
    }


def test_a_jump_of_the_numbers_does_not_flood() -> None:
    log = ArrivalLog()
    log.note(0, MS)
    log.note(30_000, 2 * MS)
    packets = log.take(1, 2)
    assert sum(map(len, packets)) < 200
    assert 30_000 in ticks_of(parse(packets[-1]))
