"""Silence of a page that is heard is told from an outage, from lost feedback and from nothing to tell."""

from __future__ import annotations

from relay.feedback_silence import HEARD_NS, PACKETS_MIN, SILENT_MIN_NS, FeedbackSilence

MS = 1_000_000


def told_every(interval_ms: int, until_ms: int = 2_000) -> FeedbackSilence:
    """After feedback in that interval, up to now: ``until_ms``, with 100 packets sent."""
    silence = FeedbackSilence()
    for at in range(0, until_ms + 1, interval_ms):
        silence.told(100, at * MS)
    return silence


def test_a_page_that_is_heard_and_says_nothing_of_what_it_is_sent_is_silent() -> None:
    silence, now_ns = told_every(50), 2_000 * MS + SILENT_MIN_NS + 1
    assert silence.lasts(100 + PACKETS_MIN, now_ns, now_ns)
    silence.told(200, now_ns)
    assert not silence.lasts(300, now_ns, now_ns)


def test_an_outage_is_no_silence() -> None:
    now_ns = 3_000 * MS
    assert not told_every(50).lasts(300, now_ns - HEARD_NS, now_ns)


def test_nothing_sent_leaves_nothing_to_say() -> None:
    now_ns = 3_000 * MS
    assert not told_every(50).lasts(100 + PACKETS_MIN - 1, now_ns, now_ns)


def test_a_page_that_tells_seldom_is_given_more_time() -> None:
    now_ns = 2_000 * MS + 400 * MS
    assert not told_every(200).lasts(300, now_ns, now_ns)
    assert told_every(50).lasts(300, now_ns, now_ns)


def test_a_page_that_never_told_anything_is_not_silent() -> None:
    assert not FeedbackSilence().lasts(300, 3_000 * MS, 3_000 * MS)
