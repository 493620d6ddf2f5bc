"""Silence of a page that is heard is told from an outage, from lost feedback and from nothing to tell."""

from __future__ import annotations

from relay.feedback_silence import HALT_MAX_NS, HALTS_MAX, HEARD_NS, PACKETS_MIN, SILENT_MIN_NS, FeedbackSilence

MS = 1_000_000


def told_every(interval_ms: int, until_ms: int = 2_000) -> FeedbackSilence:
    """After feedback in that interval, up to now: ``until_ms``, with 100 packets sent."""
    silence = FeedbackSilence()
    for at in range(0, until_ms + 1, interval_ms):
        silence.told(100, at * MS, at * MS)
    return silence


def test_a_page_that_is_heard_and_says_nothing_of_what_it_is_sent_is_silent() -> None:
    silence, now_ns = told_every(50), 2_000 * MS + SILENT_MIN_NS + 1
    assert silence.halts(100 + PACKETS_MIN, now_ns, now_ns)


def test_video_halts_until_something_sent_since_is_told_of() -> None:
    silence, now_ns = told_every(50), 2_300 * MS
    assert silence.halts(200, now_ns, now_ns)
    silence.told(200, now_ns - 1, now_ns + 100 * MS)
    assert silence.halts(200, now_ns + 100 * MS, now_ns + 100 * MS), "that is old"
    silence.told(200, now_ns + 1, now_ns + 200 * MS)
    assert not silence.halts(200, now_ns + 200 * MS, now_ns + 200 * MS)


def test_video_is_tried_again_when_nothing_else_is_sent_that_could_be_told_of() -> None:
    silence, now_ns = told_every(50), 2_300 * MS
    assert silence.halts(200, now_ns, now_ns)
    later_ns = now_ns + HALT_MAX_NS
    assert silence.halts(200, later_ns, later_ns)
    assert not silence.halts(200, later_ns + 1, later_ns + 1)
    assert not silence.halts(200, later_ns + 1_000 * MS, later_ns + 1_000 * MS), "nothing new was sent"


def test_an_outage_is_no_silence() -> None:
    now_ns = 3_000 * MS
    assert not told_every(50).halts(300, now_ns - HEARD_NS, now_ns)


def test_nothing_sent_leaves_nothing_to_say() -> None:
    now_ns = 3_000 * MS
    assert not told_every(50).halts(100 + PACKETS_MIN - 1, now_ns, now_ns)


def test_a_page_that_tells_seldom_is_given_more_time() -> None:
    now_ns = 2_000 * MS + 400 * MS
    assert not told_every(200).halts(300, now_ns, now_ns)
    assert told_every(50).halts(300, now_ns, now_ns)


def test_a_page_that_never_told_anything_is_not_silent() -> None:
    assert not FeedbackSilence().halts(300, 3_000 * MS, 3_000 * MS)


def halts_in(silence: FeedbackSilence, from_ms: int, until_ms: int) -> int:
    """How often video halts, while 100 packets a second are sent whenever it does not."""
    found, halted, sent = 0, False, 100.0
    for at in range(from_ms, until_ms, 20):
        now = silence.halts(int(sent), at * MS, at * MS)
        found += now and not halted
        halted = now
        sent += 0 if now else 2
    return found


def test_a_page_that_never_tells_again_is_not_halted_for_ever() -> None:
    silence = told_every(50)
    assert halts_in(silence, 2_000, 30_000) == HALTS_MAX
    silence.told(10_000, 30_000 * MS, 30_000 * MS)
    assert silence.halts(10_000 + PACKETS_MIN, 30_400 * MS, 30_400 * MS), "once it tells again, silence counts again"
