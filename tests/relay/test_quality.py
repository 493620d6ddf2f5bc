"""One side's quality: falls at once, rises slowly, believes pages about what they saw, and says what is to blame."""

from __future__ import annotations

from relay.messages import PageTrack, QualitySecond
from relay.quality import PAGE_FRESH_NS, Counted, QualityScore, SideQuality

SECOND = 1_000_000_000


def side(*tracks: Counted, rtt_ms: float | None = 40.0, seconds: int = 1) -> QualitySecond:
    quality = SideQuality(7)
    return [quality.second(tracks, rtt_ms, True, n * SECOND) for n in range(1, seconds + 1)][-1]


def sound(direction: str = "up", loss: float = 0.0, jitter_ms: float = 3.0) -> Counted:
    return Counted("microphone", direction, loss=loss, jitter_ms=jitter_ms, bitrate_bps=40_000)  # type: ignore[arg-type]


def test_score_falls_within_two_seconds_and_rises_over_ten() -> None:
    score = QualityScore()
    assert score.update(4.4) == 5
    score.update(1.2)
    assert score.update(1.2) == 1
    rising = [score.update(4.4) for _ in range(15)]
    assert rising[1] < 3
    assert rising == sorted(rising)
    assert rising[-1] == 5


def test_one_bad_second_is_no_verdict_for_long() -> None:
    score = QualityScore()
    steps = [score.update(mos) for mos in (4.4, 4.4, 3.9, 4.4, 4.4, 4.4)]
    assert min(steps) >= 4
    assert steps[-1] == 5


def test_side_that_is_gone_is_told_so() -> None:
    second = SideQuality(7).second([sound()], 40.0, False, SECOND)
    assert (second.connected, second.mos, second.cause, second.tracks) == (False, 1.0, "gone", ())


def test_clean_second_is_very_good_and_needs_no_explanation() -> None:
    second = side(sound("up"), sound("down"), Counted("camera", "down", bitrate_bps=900_000, frames_per_second=30))
    assert (second.score, second.cause) == (5, "none")
    assert second.mos > 4.3
    assert [track.source for track in second.tracks] == ["microphone", "microphone", "camera"]


def test_direction_that_loses_is_named() -> None:
    assert side(sound("up", loss=0.1), sound("down"), seconds=2).cause == "loss_up"
    assert side(sound("up"), sound("down", loss=0.1), seconds=2).cause == "loss_down"


def test_delay_and_jitter_are_told_apart() -> None:
    assert side(sound(), rtt_ms=1200, seconds=2).cause == "delay"
    assert side(sound(jitter_ms=200), rtt_ms=40, seconds=2).cause == "jitter"


def test_loss_that_the_page_concealed_nothing_of_does_not_count() -> None:
    quality = SideQuality(7)
    quality.page_told(45.0, [PageTrack(source="microphone", direction="down", concealed=0.0, playout_ms=60)], SECOND)
    assert quality.second([sound("down", loss=0.2)], 40.0, True, 2 * SECOND).mos > 4.2
    # … until what it said is old:
    assert quality.second([sound("down", loss=0.2)], 40.0, True, SECOND + PAGE_FRESH_NS + 1).mos < 2


def test_sound_that_came_too_late_is_blamed_on_jitter() -> None:
    quality = SideQuality(7)
    quality.page_told(20.0, [PageTrack(source="microphone", direction="down", concealed=0.1)], SECOND)
    seconds = [quality.second([sound("down")], 20.0, True, n * SECOND) for n in (2, 3)]
    assert seconds[-1].cause == "jitter"


def test_loss_on_the_senders_way_is_not_held_against_who_receives() -> None:
    quality = SideQuality(7)
    quality.page_told(20.0, [PageTrack(source="microphone", direction="down", concealed=0.2)], SECOND)
    gaps = Counted("microphone", "down", upstream_loss=0.25, bitrate_bps=30_000)
    seconds = [quality.second([gaps], 20.0, True, n * SECOND) for n in (2, 3)]
    assert (seconds[-1].score, seconds[-1].cause) == (5, "none")


def test_what_is_over_needs_no_explanation_while_the_score_recovers() -> None:
    quality = SideQuality(7)
    seconds = [quality.second([sound("down", loss=0.3)], 20.0, True, n * SECOND) for n in (1, 2)]
    assert seconds[-1].cause == "loss_down"
    after = quality.second([sound("down", loss=0.01)], 20.0, True, 3 * SECOND)
    assert (after.score, after.cause) == (1, "none")


def test_page_tells_the_round_trip_where_no_report_does() -> None:
    quality = SideQuality(7)
    quality.page_told(90.0, [], SECOND)
    assert quality.second([sound()], None, True, 2 * SECOND).rtt_ms == 90.0


def test_freezes_of_a_digest_go_into_the_seconds_that_follow() -> None:
    quality = SideQuality(7)
    quality.page_told(None, [PageTrack(source="camera", direction="down", frozen_ms=1400.0)], SECOND)
    picture = Counted("camera", "down", bitrate_bps=500_000, frames_per_second=30)
    frozen = [quality.second([picture], 40.0, True, n * SECOND).tracks[0].frozen_ms for n in (2, 3, 4)]
    assert frozen == [1000, 400, 0]


def test_sources_that_are_off_are_not_judged() -> None:
    second = side(sound(), Counted("camera", "up", idle=True))
    assert second.tracks[1].mos is None
    assert second.score == 5


def test_paused_video_is_told_even_when_sound_is_fine() -> None:
    second = side(sound("down"), Counted("camera", "down", paused=True, idle=True), seconds=3)
    assert second.cause == "video_paused"
    assert second.score <= 3


def test_lying_page_can_only_be_wrong_about_itself_within_bounds() -> None:
    quality = SideQuality(7)
    wild = PageTrack(
        source="camera", direction="down", frozen_ms=1e12, frames_per_second=-1e9, concealed=-5, playout_ms=-1e9
    )
    quality.page_told(-1e9, [wild], SECOND)
    for n in range(2, 6):
        second = quality.second([sound("down"), Counted("camera", "down", bitrate_bps=1)], None, True, n * SECOND)
        assert 1 <= second.mos <= 4.5
        assert all(0 <= track.frozen_ms <= 1000 for track in second.tracks)
