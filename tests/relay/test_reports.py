"""Reports: what publishers are told, and that lips and voice stay together on the subscriber's side."""

from __future__ import annotations

from config.clock import VirtualClock
from relay.plane import StreamCounters
from relay.reports import KEY_FRAME_INTERVAL_NS, Delivery, KeyFrameRequests, Reception, SenderClock, TimeBase
from relay.rtcp import ReportBlock, SenderReport, ntp_middle

SECOND = 1_000_000_000
NTP_SECOND = 1 << 32


def counters(highest: int, unique: int, repaired: int = 0, bytes_: int = 0) -> StreamCounters:
    return StreamCounters(
        packets=unique,
        bytes=bytes_,
        highest_sequence=highest,
        first_sequence=100,
        unique_packets=unique,
        repaired=repaired,
    )


def test_time_base_runs_at_the_monotonic_pace_whatever_the_wall_clock_does() -> None:
    clock = VirtualClock()
    base = TimeBase(clock)
    start_ns, start_ms = clock.monotonic_ns(), clock.wall_ms()
    clock.step_wall_ms(-3_600_000)
    assert base.wall_ms(start_ns + 5 * SECOND) == start_ms + 5000
    assert base.ntp64(start_ns + SECOND) - base.ntp64(start_ns) == NTP_SECOND


def test_audio_and_video_of_one_person_keep_their_distance() -> None:
    sender, voice, picture = SenderClock(), Reception(48_000), Reception(90_000)
    theirs, ours = 1000 * NTP_SECOND, 5_000_000 * NTP_SECOND
    late = NTP_SECOND // 4  # the video report took a quarter of a second longer to come
    voice.sender_report(SenderReport(1, theirs, 48_000, 0, 0, ()), sender.to_ours(theirs, ours), 0)
    picture.sender_report(SenderReport(2, theirs, 90_000, 0, 0, ()), sender.to_ours(theirs, ours + late), 0)
    at = ours + 2 * NTP_SECOND
    assert voice.timestamp_at(at) == 48_000 * 3
    assert picture.timestamp_at(at) == 90_000 * 3


def test_timestamp_is_unknown_before_a_report_and_wraps_after() -> None:
    reception = Reception(90_000)
    assert reception.timestamp_at(0) is None
    assert reception.sender_report(SenderReport(1, 0, 2**32 - 1, 0, 0, ()), NTP_SECOND, 0)
    assert not reception.sender_report(SenderReport(1, 0, 2**32 - 1, 0, 0, ()), NTP_SECOND, 0)
    assert reception.timestamp_at(2 * NTP_SECOND) == 89_999


def test_report_block_tells_loss_of_the_interval_and_in_total() -> None:
    reception = Reception(90_000)
    reception.measure(counters(199, 100), SECOND)
    assert reception.loss == 0
    reception.measure(counters(299, 180, bytes_=10_000), 2 * SECOND)
    block = reception.block(7, counters(299, 180), 2 * SECOND)
    assert reception.loss == 0.2
    assert (block.ssrc, block.fraction_lost, block.packets_lost, block.highest_sequence) == (7, 51, 20, 299)
    assert reception.bitrate_bps == 80_000


def test_repaired_packets_were_lost_on_the_way_all_the_same() -> None:
    reception = Reception(90_000)
    reception.measure(counters(199, 100, repaired=10), SECOND)
    assert reception.loss == 0.1


def test_silent_interval_is_no_loss() -> None:
    reception = Reception(90_000)
    reception.measure(counters(0, 0), SECOND)
    reception.measure(counters(199, 100), 2 * SECOND)
    reception.measure(counters(199, 100), 3 * SECOND)
    assert reception.loss == 0


def test_block_echoes_the_senders_own_clock_and_the_delay_since() -> None:
    reception = Reception(90_000)
    reception.sender_report(SenderReport(1, 77 * NTP_SECOND, 0, 0, 0, ()), 99 * NTP_SECOND, 10 * SECOND)
    block = reception.block(1, counters(199, 100), 10 * SECOND + SECOND // 2)
    assert block.last_sr == ntp_middle(77 * NTP_SECOND)
    assert block.delay_since_last_sr == 0x8000


def test_round_trip_is_read_from_answers_to_our_reports() -> None:
    delivery = Delivery(90_000)
    now = 500 * NTP_SECOND
    sent = ntp_middle(now - NTP_SECOND // 4)
    delivery.report_block(ReportBlock(1, 64, 5, 100, 900, sent, 0x10000 // 8), now)
    assert delivery.rtt_ms == 125
    assert delivery.loss == 0.25
    assert delivery.jitter_ms == 10
    delivery.report_block(ReportBlock(1, 0, 5, 100, 0, 0, 0), now)
    assert delivery.rtt_ms == 125, "no sender report echoed, nothing learnt"


def test_key_frame_request_that_comes_too_soon_waits_for_its_turn() -> None:
    requests = KeyFrameRequests()
    assert not requests.due(0)
    requests.want()
    assert requests.due(0)
    requests.want()
    assert not requests.due(1)
    assert not requests.due(KEY_FRAME_INTERVAL_NS - 1)
    assert requests.due(KEY_FRAME_INTERVAL_NS)
    assert not requests.due(10 * KEY_FRAME_INTERVAL_NS)
    assert requests.asked == 2
