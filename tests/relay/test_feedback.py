"""NACKs: asked for in time, again with patience, and not for ever."""

from __future__ import annotations

from relay.feedback import MISSING_MAX, NACK_DELAY_NS, NACK_TRIES_MAX, MissingPackets

MS = 1_000_000


def test_a_hole_is_asked_for_after_a_moment_of_patience() -> None:
    missing = MissingPackets()
    assert missing.add(5, 7, 0)
    assert missing.due_ns == NACK_DELAY_NS
    assert missing.due(NACK_DELAY_NS - 1, 50 * MS) == ([], 0)
    assert missing.due(NACK_DELAY_NS, 50 * MS) == ([5, 6, 7], 0)
    assert missing.due_ns == NACK_DELAY_NS + 50 * MS


def test_a_reordered_packet_is_not_asked_for() -> None:
    missing = MissingPackets()
    missing.add(5, 5, 0)
    assert not missing.arrived(5)
    assert missing.due_ns is None
    assert missing.due(NACK_DELAY_NS, 0) == ([], 0)


def test_a_repaired_packet_is_told_from_a_reordered_one() -> None:
    missing = MissingPackets()
    missing.add(5, 5, 0)
    missing.due(NACK_DELAY_NS, 0)
    assert missing.arrived(5)
    assert not missing.arrived(5)


def test_asking_stops_after_its_tries() -> None:
    missing = MissingPackets()
    missing.add(5, 5, 0)
    now_ns, asked, given_up = 0, 0, 0
    while (due_ns := missing.due_ns) is not None:
        assert due_ns > now_ns
        now_ns = due_ns
        numbers, lost = missing.due(now_ns, 1_000 * MS)
        asked += len(numbers)
        given_up += lost
    assert (asked, given_up) == (NACK_TRIES_MAX, 1)
    assert now_ns == NACK_DELAY_NS + NACK_TRIES_MAX * 100 * MS
    assert len(missing) == 0


def test_a_hole_too_large_is_given_up_at_once() -> None:
    missing = MissingPackets()
    assert missing.add(0, MISSING_MAX - 1, 0)
    assert not missing.add(MISSING_MAX, MISSING_MAX, 0)
    assert len(missing) == 0
