"""Feedback of packets that came at once is summed up, and everything is as if each had been looked at."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import bandwidth
from relay.bandwidth import BandwidthEstimator
from relay.bandwidth_calm import CALM_NS, calm, is_calm
from relay.bandwidth_delay import Usage
from relay.feedback_reader import STATUSES, FeedbackReader, Told
from relay.plane import SentPacket, SentRun
from relay.rtcp_transport_cc import TransportFeedback

MS = 1_000_000
CLOCKS_APART_NS = 7_000_000_000


def told(first: int, at_ns: int, delays_ms: list[float], *, cluster: int = 0) -> list[Told]:
    """Packets sent 4 ms apart from ``at_ns`` on; a delay below 0: lost."""
    packets = [SentPacket(first + i, 1_100, at_ns + 4 * MS * i, cluster) for i in range(len(delays_ms))]
    return [
        Told(packet, None if delay < 0 else packet.sent_ns + CLOCKS_APART_NS + int(delay * MS))
        for packet, delay in zip(packets, delays_ms, strict=True)
    ]


def test_only_packets_that_all_came_at_once_are_calm() -> None:
    base_ns = CLOCKS_APART_NS + 5 * MS
    packets = told(0, 1_000 * MS, [5, 6, 5.5, 9])
    found = calm(packets, base_ns)
    assert found is not None
    assert (found.packets, found.size_bytes) == (4, 4_400)
    assert (found.least_ns - base_ns, found.most_ns - base_ns, found.newest_ns - base_ns) == (0, 4 * MS, 4 * MS)
    assert (found.last_sent_ns, found.last_arrival_ns) == (packets[3].sent.sent_ns, packets[3].arrival_ns)
    assert calm(packets, None) is None
    assert calm(packets[:1], base_ns) is None
    assert calm(told(0, 0, [5, -1, 5]), base_ns) is None
    assert calm(told(0, 0, [5, 5 + CALM_NS / MS + 0.1, 5]), base_ns) is None
    assert calm(told(0, 0, [5, 5], cluster=3), base_ns) is None
    assert calm([packets[0], packets[1]._replace(late=True), packets[2]], base_ns) is None


def run_of(packets: list[Told]) -> SentRun | None:
    """What the plane makes of packets that all arrived."""
    came = [(one.sent, one.arrival_ns) for one in packets if one.arrival_ns is not None and not one.sent.cluster]
    if len(came) < len(packets):
        return None
    delays = [arrival_ns - sent.sent_ns for sent, arrival_ns in came]
    size_bytes = sum(sent.size_bytes for sent, _ in came)
    last_sent_ns, last_arrival_ns = max(sent.sent_ns for sent, _ in came), max(at_ns for _, at_ns in came)
    ends = (last_sent_ns, last_arrival_ns, min(delays), max(delays), delays[-1])
    return SentRun(came[0][0].number, len(came), size_bytes, *ends)


def state(estimator: BandwidthEstimator) -> tuple[object, ...]:
    delay, loss = estimator.delay, estimator.loss
    ways = (delay.usage, delay.queue_ms, delay.standing_ms, delay.swing_ms, delay.base_ns)
    return (estimator.estimate_bps, estimator.limited, estimator.feedbacks, estimator.arriving_bps, *ways, loss.share)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(-3, 40), min_size=1, max_size=25), min_size=1, max_size=30))
def test_a_run_comes_to_what_its_packets_do(turns: list[list[int]]) -> None:
    added, read = BandwidthEstimator(), BandwidthEstimator()
    number = 0
    for turn, delays_ms in enumerate([[5, 6]] * 3 + turns):
        packets = told(number, turn * 100 * MS, [float(delay) for delay in delays_ms])
        number += len(packets)
        now_ns = (turn + 1) * 100 * MS + 20 * MS
        run = run_of(packets)
        if run is not None:
            assert calm(packets, added.delay.base_ns) == (run if is_calm(run, added.delay.base_ns) else None)
        if run is None or not added.take_run(run, now_ns):
            added.feedback(packets, now_ns)
        read.feedback(packets, now_ns)
        assert state(added) == state(read)


@pytest.mark.parametrize("start", [0, 100, STATUSES - 2, 5 * STATUSES - 1])
def test_the_reader_knows_after_a_run_what_it_knows_after_reading(start: int) -> None:
    adding, reading = FeedbackReader(), FeedbackReader()
    for reader in (adding, reading):
        for number in range(0, start, 1_000):
            earlier = told(number, 0, [5] * min(1_000, start - number))
            feedback = TransportFeedback(1, 2, number & 0xFFFF, 0, 512, (4,) * len(earlier))
            reader.read(feedback, [one.sent for one in earlier])
    first = TransportFeedback(1, 2, start & 0xFFFF, 0, 512, (4, 4, 4))
    packets = told(start, 0, [5, 5, 5, 5, 5, 5])
    run = run_of(packets[:3])
    assert run is not None
    assert adding.follows(run)
    assert adding.origin_ticks(first) == adding.origin_ticks(first)
    adding.take_run(run)
    reading.read(first, [one.sent for one in packets[:3]])
    assert not adding.follows(run), "told of already"
    skipped = run_of(packets[4:])
    assert skipped is not None
    assert not adding.follows(skipped)
    again = TransportFeedback(1, 2, (start + 1) & 0xFFFF, 1, 512, (None, 4, 4, None, 4))
    sent = [one.sent for one in packets[1:]]
    assert adding.read(again, sent) == reading.read(again, sent)
    assert adding._statuses == reading._statuses


def drive(delay_ms: list[float], estimator: BandwidthEstimator) -> list[tuple[int, bool, int, Usage]]:
    """One feedback of 25 packets for each delay; what was made of it."""
    seen = []
    for turn, delay in enumerate(delay_ms):
        packets = told(25 * turn, turn * 100 * MS, [delay + i % 6 * 0.1 for i in range(25)])
        estimator.feedback(packets, (turn + 1) * 100 * MS + 20 * MS)
        seen.append(
            (estimator.estimate_bps, estimator.limited, round(estimator.delay.standing_ms), estimator.delay.usage)
        )
    return seen


RISING = [20.0] * 50 + [20.0 + 12 * i for i in range(30)] + [20.0] * 30


def test_a_queue_after_calm_is_found_as_soon_as_without_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    short = drive(RISING, BandwidthEstimator())
    monkeypatch.setattr(bandwidth, "calm", lambda *_: None)
    whole = drive(RISING, BandwidthEstimator())
    fell = [next(turn for turn, one in enumerate(run) if one[1]) for run in (short, whole)]
    assert abs(fell[0] - fell[1]) <= 1
    assert fell[1] > 50
    for turn, (one, other) in enumerate(zip(short, whole, strict=True)):
        assert abs(one[2] - other[2]) <= 1
        assert turn in fell or one[0] == pytest.approx(other[0], rel=0.1)


def test_calm_feedback_lets_the_estimate_follow_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    short, whole = BandwidthEstimator(), BandwidthEstimator()
    drive([20.0] * 60, short)
    monkeypatch.setattr(bandwidth, "calm", lambda *_: None)
    drive([20.0] * 60, whole)
    assert short.arriving_bps == pytest.approx(whole.arriving_bps, rel=0.02)
    assert short.estimate_bps == pytest.approx(whole.estimate_bps, rel=0.02)
    assert not short.limited
    assert short.delay.swing_ms == pytest.approx(whole.delay.swing_ms, abs=0.01)


def test_a_path_that_becomes_shorter_does_not_look_like_one_that_swings(monkeypatch: pytest.MonkeyPatch) -> None:
    short, whole = BandwidthEstimator(), BandwidthEstimator()
    drive([20.0] * 30 + [12.0] * 3, short)
    monkeypatch.setattr(bandwidth, "calm", lambda *_: None)
    drive([20.0] * 30 + [12.0] * 3, whole)
    assert short.delay.swing_ms == pytest.approx(whole.delay.swing_ms, abs=0.01)
    assert whole.delay.swing_ms < 1


def test_loss_before_calm_is_remembered_for_its_second_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    def shares(estimator: BandwidthEstimator) -> list[float]:
        seen = []
        for turn in range(30):
            lost = -1.0 if turn == 9 else 20.0
            packets = told(25 * turn, turn * 100 * MS, [20.0, lost, lost, *[20.0] * 22])
            estimator.feedback(packets, (turn + 1) * 100 * MS + 20 * MS)
            seen.append(round(estimator.loss.share, 6))
        return seen

    short = shares(BandwidthEstimator())
    monkeypatch.setattr(bandwidth, "calm", lambda *_: None)
    assert short == shares(BandwidthEstimator())
    assert max(short) > 0
    assert short[-1] == 0
