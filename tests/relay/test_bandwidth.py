"""The estimate of a subscriber's path, on seeded paths and a virtual clock."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.netlink import CLEAN, Conditions, Link
from relay.bandwidth import BPS_MIN, START_BPS, BandwidthEstimator
from relay.bandwidth_probe import NEXT_NS, Prober
from relay.feedback_reader import STATUSES, FeedbackReader, Told
from relay.plane import SentPacket
from relay.rtcp_transport_cc import TICK_NS, TransportFeedback
from tests.relay.bandwidth_path import MS, Path, Policer

CAP500 = Conditions(rate_bps=500_000, buffer_ms=500)
CAP100 = Conditions(rate_bps=100_000, buffer_ms=500)


def estimates(path: Path, after_ms: int) -> list[int]:
    return [estimate for at, estimate, _, _ in path.trace if at > after_ms]


@pytest.mark.parametrize(
    "conditions",
    [CLEAN, Conditions(delay_ms=50, loss=0.05), Conditions(reorder=0.05, reorder_ms=40, delay_ms=10)],
    ids=["clean", "loss5", "reorder5"],
)
def test_a_path_without_a_limit_is_never_held_back(conditions: Conditions) -> None:
    path = Path(conditions=conditions).run(12_000)
    assert min(estimates(path, 0)) >= START_BPS
    assert not path.estimator.limited


def test_a_cap_is_found_within_a_second_and_its_lifting_soon_after() -> None:
    path = Path().run(4_000).set(CAP500).run(1_000)
    assert path.estimator.estimate_bps < 500_000
    path.run(8_000)
    assert all(250_000 < estimate < 620_000 for estimate in estimates(path, 6_000))
    path.set(CLEAN).run(5_000)
    assert path.estimator.estimate_bps > path.source_bps


def test_a_standing_queue_drains() -> None:
    path = Path().run(4_000).set(CAP500).run(10_000)
    standing = [standing for at, _, standing, _ in path.trace if at > 7_000]
    assert sum(standing) / len(standing) < 150


def test_under_a_cap_that_leaves_room_for_audio_alone_audio_gets_through() -> None:
    path = Path().run(4_000).set(CAP100).run(3_000)
    sent, lost = path.audio_sent, path.audio_lost
    path.run(10_000)
    assert path.audio_lost - lost <= 0.02 * (path.audio_sent - sent)


def test_random_loss_of_a_fifth_is_taken_for_the_paths_own() -> None:
    path = Path(conditions=Conditions(loss=0.2)).run(20_000)
    assert path.estimator.loss.own > 0.1
    assert min(estimates(path, 6_000)) > path.source_bps


def test_random_loss_on_a_path_without_a_queue_never_makes_less_of_a_picture() -> None:
    path = Path(conditions=Conditions(loss=0.2)).run(30_000)
    assert min(estimates(path, 0)) > path.source_bps


@pytest.mark.parametrize("seed", ["1", "2", "3", "4"])
def test_random_loss_of_a_fourth_is_tested_without_taking_the_picture_down(seed: str) -> None:
    path = Path(seed=seed, conditions=Conditions(loss=0.25)).run(30_000)
    assert min(estimates(path, 0)) > path.source_bps


@pytest.mark.parametrize(
    "link",
    [
        Policer(1_000_000, 5_000),
        Policer(1_000_000, 40_000),
        Policer(1_000_000, 150_000),
        Link("1", Conditions(rate_bps=1_000_000, buffer_ms=20)),
    ],
    ids=["bucket5k", "bucket40k", "bucket150k", "buffer20ms"],
)
def test_a_path_that_drops_what_is_too_much_and_never_queues_is_sent_what_it_lets_through(link: Link) -> None:
    path = Path(source_bps=1_300_000).run(2_000)
    path.link = link
    path.run(40_000)
    assert path.loss(12_000) < 0.05
    assert path.loss(36_000) < 0.05
    assert path.estimator.loss.own == 0
    assert path.estimator.estimate_bps > 650_000


def test_a_radio_link_after_a_policer_is_not_held_to_the_policers_rate() -> None:
    path = Path(source_bps=1_300_000).run(4_000)
    path.link = Policer(1_000_000, 10_000)
    path.run(6_000)
    path.link = Link("7", Conditions(loss=0.15))
    path.run(60_000)
    assert min(estimates(path, 50_000)) > path.source_bps


def test_loss_that_sending_less_cures_is_heeded() -> None:
    path = Path().run(3_000).set(Conditions(rate_bps=400_000, buffer_ms=60)).run(10_000)
    assert max(estimates(path, 6_000)) < 600_000
    assert path.estimator.loss.own == 0


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_wandering_delay_does_not_starve_a_call(seed: str) -> None:
    path = Path(seed=seed, conditions=Conditions(jitter_ms=200)).run(25_000)
    found = sorted(estimates(path, 5_000))
    assert found[len(found) // 2] > 800_000
    assert found[0] > 300_000


def test_an_outage_says_nothing_of_the_capacity() -> None:
    path = Path().run(4_000).set(Conditions(down=True)).run(2_000).set(CLEAN).run(2_000)
    assert path.estimator.estimate_bps >= START_BPS


def test_sound_sent_again_after_an_outage_is_no_proof_that_pictures_were_lost_to_a_queue() -> None:
    estimator = BandwidthEstimator()
    packets = [SentPacket(n, 1_100, n * 7 * MS, 0) for n in range(600)]
    for begin in range(0, 200, 10):
        told = [Told(packet, packet.sent_ns + 5 * MS) for packet in packets[begin : begin + 10]]
        estimator.feedback(told, told[-1].sent.sent_ns + 20 * MS)
    back_ns = packets[500].sent_ns
    outage = [Told(packet, back_ns + 40 * MS if packet.number % 3 == 0 else None) for packet in packets[200:500]]
    after = [Told(packet, packet.sent_ns + 5 * MS) for packet in packets[500:510]]
    estimator.feedback([*outage, *after], back_ns + 90 * MS)
    assert estimator.estimate_bps == START_BPS
    assert estimator.delay.swing_ms == 0


@pytest.mark.parametrize("start", [0, 1, 32_767, 32_768, 65_534, 65_535])
def test_numbers_may_wrap(start: int) -> None:
    path = Path(start_number=start).run(2_000).set(CAP500).run(3_000)
    assert path.estimator.estimate_bps < 560_000


def test_a_remb_is_heeded_until_it_is_old() -> None:
    estimator = BandwidthEstimator()
    estimator.receiver_estimate(300_000, 1 * MS)
    assert estimator.estimate_bps == 300_000
    assert estimator.limited
    estimator.handle_timer(20_000 * MS)
    assert estimator.estimate_bps == START_BPS


def sent(number: int) -> SentPacket:
    return SentPacket(number, 1_000, number * MS, 0)


def feedback(base: int, reference: int, *deltas: int | None) -> TransportFeedback:
    return TransportFeedback(1, 2, base & 0xFFFF, 0, reference, deltas)


def test_what_is_told_twice_counts_once_and_late_arrivals_are_known_as_such() -> None:
    reader = FeedbackReader()
    first = reader.read(feedback(10, 0, 4, None, 4), [sent(10), sent(11), sent(12)])
    assert [told.arrival_ns is None for told in first] == [False, True, False]
    again = reader.read(feedback(10, 0, 4, 8, 4), [sent(10), sent(11), sent(12)])
    assert [(told.sent.number, told.late) for told in again] == [(11, True)]


def test_the_reference_time_may_wrap() -> None:
    reader = FeedbackReader()
    (before,) = reader.read(feedback(1, 0xFFFF_FF00, 0), [sent(1)])
    (after,) = reader.read(feedback(2, 0x100, 0), [sent(2)])
    assert before.arrival_ns is not None
    assert after.arrival_ns == before.arrival_ns + 0x200 * TICK_NS


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 65_535),
            st.integers(0, 2**32 - 1),
            st.lists(st.none() | st.integers(-0x8000, 0x7FFF), min_size=1, max_size=60),
        ),
        max_size=20,
    )
)
def test_hostile_feedback_leaves_the_estimate_in_bounds(items: list[tuple[int, int, list[int | None]]]) -> None:
    reader, estimator, now_ns = FeedbackReader(), BandwidthEstimator(), 0
    for base, reference, deltas in items:
        now_ns += 50 * MS
        packets = [sent(base + i) for i in range(len(deltas))]
        estimator.feedback(reader.read(feedback(base, reference, *deltas), packets), now_ns)
        assert BPS_MIN <= estimator.target_bps <= 30_000_000
    assert len(reader._statuses) == STATUSES


def test_sound_that_was_lost_and_sent_again_within_one_feedback_was_lost_all_the_same() -> None:
    estimator, now_ms = BandwidthEstimator(), 0
    for begin in range(0, 200, 5):
        packets = [SentPacket(n, 150, n * 20 * MS, 0) for n in range(begin, begin + 5)]
        told = [Told(one, one.sent_ns + (65 if one.number % 5 == 1 else 5) * MS) for one in packets]
        now_ms = (begin + 5) * 20
        estimator.feedback(told, now_ms * MS)
    assert estimator.loss.share == pytest.approx(0.2, abs=0.05)


def test_a_probe_that_is_cancelled_has_not_failed() -> None:
    prober = Prober()
    assert prober.plan(2_000_000, 500_000, 0) is not None
    prober.cancel(10 * MS)
    assert prober.open_cluster == 0
    assert prober.plan(2_000_000, 500_000, 10 * MS + NEXT_NS) is not None


def test_a_longer_route_is_no_queue() -> None:
    path = Path().run(4_000).set(Conditions(delay_ms=50, loss=0.05)).run(10_000)
    assert min(estimates(path, 0)) >= START_BPS
