"""Frames that a relay leaves out, told from those that it loses."""

from __future__ import annotations

import struct

import pytest

from bench.netfigures import Call
from bench.nettap import FRAMES_MAX, STREAMS_MAX, Frame, FrameTap, left_out
from tests.bench.test_netfigures import FPS, WINDOW, published, steady, subscribed


def rtp(timestamp: int, ssrc: int = 1, payload_type: int = 96) -> bytes:
    return struct.pack("!BBHII", 0x80, payload_type, 7, timestamp % (1 << 32), ssrc) + b"payload"


def sent(numbers: list[int], first: int = 0) -> list[Frame]:
    """The frames of those numbers, 30 a second."""
    return [(n * 1000 / FPS, (first + n * 3000) % (1 << 32)) for n in numbers]


def test_tap_counts_frames_and_not_packets() -> None:
    tap = FrameTap()
    for timestamp in (0, 0, 3000, 0, 3000, 6000):
        tap.note(rtp(timestamp), 1.0)
    assert [timestamp for _, timestamp in tap.frames[1]] == [0, 3000, 6000]


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 20, b"\x80\xc8" + b"\x00" * 20, b"\x16\xfe\xfd" + b"\x00" * 20, rtp(0)[:11]]
)
def test_what_is_no_rtp_is_not_counted(data: bytes) -> None:
    tap = FrameTap()
    tap.note(data, 1.0)
    assert tap.frames == {}


def test_tap_is_bounded() -> None:
    tap = FrameTap()
    for ssrc in range(STREAMS_MAX + 3):
        tap.note(rtp(0, ssrc), 1.0)
    for n in range(FRAMES_MAX + 3):
        tap.note(rtp(n), 1.0)
    assert len(tap.frames) == STREAMS_MAX
    assert len(tap.frames[1]) == FRAMES_MAX


@pytest.mark.parametrize("first", [0, (1 << 32) - 30 * 3000])
@pytest.mark.parametrize("step", [2, 4])
def test_even_pattern_is_a_temporal_layer_left_out(step: int, first: int) -> None:
    numbers = [*range(30), *range(30, 90, step), *range(90, 120)]
    found = left_out(sent(numbers, first), lambda _: FPS)
    assert sum(count for _, count in found) == 60 - 60 // step


def test_lost_frames_are_not_left_out() -> None:
    numbers = [n for n in range(120) if n not in (10, 25, 26, 60, 61, 62)]
    assert left_out(sent(numbers), lambda _: FPS) == []


def test_encoder_that_skips_frames_leaves_nothing_out() -> None:
    numbers = [n for n in range(120) if n % 3]
    assert left_out(sent(numbers), lambda _: FPS * 2 / 3) == []


def test_long_gap_is_no_pattern() -> None:
    assert left_out([(0, 0), (2_000, 180_000), (4_000, 360_000)], lambda _: FPS) == []


def test_decoded_ratio_is_of_the_temporal_layers_sent() -> None:
    half = subscribed(lambda t: steady(t) if t < 8_000 else steady(8_000) + (t - 8_000) * 15 / 1000)
    frames = {1: sent([*range(240), *range(240, 600, 2)])}
    assert Call(published(), half, WINDOW, True, frames).frames_decoded_ratio() == pytest.approx(1, abs=0.01)
    assert Call(published(), half, WINDOW, True).frames_decoded_ratio() == pytest.approx(9 / 14, abs=0.02)
