"""Figures from made-up readings whose answers are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.netfigures import Call, Counter, Sample, Window, percentile
from bench.nethints import hints, layers, limits, series
from bench.netproxy import Punctuality

FPS = 30
START, END = 0, 20_000
"""Ms of the made-up call; the impairment is from 6,000 to 10,000."""
WINDOW = Window(6_000.0, 10_000.0, 18_000.0)


def video(frames: float, size: tuple[int, int] = (640, 480), **more: Any) -> dict[str, Any]:
    return {"ssrc": 1, "kind": "video", "frameWidth": size[0], "frameHeight": size[1], **more, "frames": int(frames)}


def published(layers_at: Callable[[int], list[tuple[int, int, tuple[int, int]]]] | None = None) -> list[Sample]:
    """Readings of a publisher: one layer at 30 frames per second, or what ``layers_at`` says: (ssrc, frames, size)."""
    made: list[Sample] = []
    for t in range(START, END, 100):
        found = layers_at(t) if layers_at else [(1, t * FPS // 1000, (640, 480))]
        out = [{**video(0, size), "ssrc": ssrc, "framesEncoded": frames} for ssrc, frames, size in found]
        made.append({"t": float(t), "pcs": [{"pc": 0, "in": [], "out": out, "pair": {"currentRoundTripTime": 0.02}}]})
    return made


def subscribed(
    frames_at: Callable[[int], float],
    frozen_at: Callable[[int], float] = lambda t: 0.0,
    size_at: Callable[[int], tuple[int, int]] = lambda t: (640, 480),
    connection_at: Callable[[int], int] = lambda t: 0,
    audio_at: Callable[[int], tuple[int, int, int]] = lambda t: (t * 48, 0, 0),
) -> list[Sample]:
    """Readings of a subscriber; ``audio_at``: samples received, concealed, of these silent."""
    made: list[Sample] = []
    for t in range(START, END, 100):
        received, concealed, silent = audio_at(t)
        streams = [
            {
                **video(0, size_at(t)),
                "framesDecoded": int(frames_at(t)),
                "totalFreezesDuration": frozen_at(t) / 3,
                "totalPausesDuration": frozen_at(t) * 2 / 3,
                "bytesReceived": t * 100,
            },
            {
                "ssrc": 2,
                "kind": "audio",
                "totalSamplesReceived": received,
                "concealedSamples": concealed,
                "silentConcealedSamples": silent,
            },
        ]
        pair = {"currentRoundTripTime": 0.03}
        made.append(
            {
                "t": float(t),
                "pcs": [{"pc": connection_at(t), "in": streams, "out": [], "pair": pair, "codecs": ["video/VP8"]}],
            }
        )
    return made


def steady(t: int) -> float:
    return t * FPS / 1000


def test_perfect_call_has_perfect_figures() -> None:
    figures = Call(published(), subscribed(steady), WINDOW, relayed=True).figures()
    assert figures["frames_decoded_ratio"] >= 0.995
    assert figures["frozen_ratio"] == 0
    assert figures["audio_concealed_ratio"] == 0
    assert figures["recover_ms"] <= 100
    assert figures["layer_path"] == [(-2_000, "640x480")]
    assert figures["p95_rtt_ms"] == 50
    assert figures["longest_gap_ms"] == 100


def test_round_trip_of_the_control_is_not_added_up() -> None:
    assert Call(published(), subscribed(steady), WINDOW, relayed=False).figures()["p95_rtt_ms"] == 30


def stopped(t: int) -> float:
    """No frame from 6 s to 12 s, and none of those decoded later."""
    return steady(min(t, 6_000)) + (steady(t - 12_000) if t > 12_000 else 0)


def test_frames_that_never_came_are_missing_and_recovery_counts_from_the_end_of_the_impairment() -> None:
    frozen = Call(published(), subscribed(stopped, lambda t: 6.0 if t > 12_000 else 0.0), WINDOW, True).figures()
    assert frozen["frames_decoded_ratio"] == pytest.approx(8 / 14, abs=0.02)
    assert frozen["frozen_ratio"] == pytest.approx(6 / 14, abs=0.001)
    assert frozen["recover_ms"] == pytest.approx(2_100, abs=100)
    assert frozen["longest_gap_ms"] == pytest.approx(6_100, abs=100)


def test_freeze_that_goes_on_at_the_end_counts_though_no_statistic_has_it_yet() -> None:
    figures = Call(published(), subscribed(lambda t: steady(min(t, 11_000))), WINDOW, True).figures()
    assert figures["frozen_ratio"] == pytest.approx(7 / 14, abs=0.01)


def test_call_that_never_recovers_has_no_recovery_time() -> None:
    assert Call(published(), subscribed(lambda t: steady(min(t, 6_000))), WINDOW, True).recover_ms() is None
    slow = subscribed(lambda t: steady(min(t, 6_000)) + max(0, t - 6_000) * 15 / 1000)
    assert Call(published(), slow, WINDOW, True).recover_ms() is None


def test_gap_between_two_connections_is_frozen_time_and_counters_go_on() -> None:
    def frames(t: int) -> float:
        return steady(t) if t <= 6_000 else steady(max(0, t - 9_000))

    readings = subscribed(frames, connection_at=lambda t: int(t > 6_000))
    figures = Call(published(), readings, WINDOW, True).figures()
    assert figures["frozen_ratio"] == pytest.approx(3.1 / 14, abs=0.01)
    assert figures["frames_decoded_ratio"] == pytest.approx(11 / 14, abs=0.02)


def test_decoded_frames_are_held_against_the_layer_that_was_sent() -> None:
    def two(t: int) -> list[tuple[int, int, tuple[int, int]]]:
        return [(1, t * FPS // 1000, (640, 480)), (2, t * 15 // 1000, (320, 240))]

    def size(t: int) -> tuple[int, int]:
        return (320, 240) if 8_000 < t <= 12_000 else (640, 480)

    def frames(t: int) -> float:
        return steady(min(t, 8_000)) + min(max(0, t - 8_000), 4_000) * 15 / 1000 + steady(max(0, t - 12_000))

    figures = Call(published(two), subscribed(frames, size_at=size), WINDOW, True).figures()
    assert figures["frames_decoded_ratio"] == pytest.approx(1.0, abs=0.01)
    assert figures["layer_path"] == [(-2_000, "640x480"), (2_100, "320x240"), (6_100, "640x480")]


def test_concealed_sound_counts_silent_or_not() -> None:
    def audio(t: int) -> tuple[int, int, int]:
        return t * 48, t * 48 // 10, t * 48 // 20

    call = Call(published(), subscribed(steady, audio_at=audio), WINDOW, True)
    assert call.audio_concealed_ratio() == pytest.approx(0.1, abs=0.001)


def test_no_sound_at_all_is_all_concealed() -> None:
    call = Call(published(), subscribed(steady, audio_at=lambda t: (0, 0, 0)), WINDOW, True)
    assert call.audio_concealed_ratio() == 1


def test_no_readings_are_the_worst_call_and_no_error() -> None:
    figures = Call([], [], WINDOW, True).figures()
    assert figures["frames_decoded_ratio"] == 0
    assert figures["frozen_ratio"] == 1
    assert figures["recover_ms"] is None


def test_counter_grows_evenly_between_readings() -> None:
    grown = Counter([0, 100, 200], [0, 10, 30])
    assert [grown.at(t) for t in (-1, 0, 50, 150, 200, 900)] == [0, 0, 5, 20, 30, 30]
    assert grown.steps(0, 200) == [100, 200]


def test_percentile_of_nothing_is_nothing() -> None:
    assert percentile([], 0.95) is None
    assert percentile(range(100), 0.95) == 95


def test_hints_and_series_cover_the_window() -> None:
    call = Call(published(), subscribed(steady), WINDOW, True)
    told = hints(call, {}, Punctuality())
    assert told["decoded_fps"] == pytest.approx(30, abs=0.5)
    assert told["subscriber"]["connections"] == 1
    points = series(call)["points"]
    assert (points[0]["t_ms"], points[-1]["t_ms"], len(points)) == (-1_500, 12_000, 28)
    assert all(point["decoded_fps"] == pytest.approx(30, abs=3) and point["height"] == 480 for point in points)


def test_limits_and_layers_are_told_of_encodings_in_use() -> None:
    readings = published()
    for sample in readings[:100]:
        sample["pcs"][0]["out"][0]["qualityLimitationReason"] = "cpu"
    assert limits(readings, 0, END) == {"cpu": pytest.approx(0.5, abs=0.01)}
    assert layers(readings, 0, END) == ["640x480"]
