"""Who gets what: audio first, the lowest layer of everything before better ones, down at once and up with care."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.allocator import (
    RESUME_AFTER_NS,
    UP_AFTER_NS,
    VIDEO_MIN_BPS,
    Allocation,
    Allocator,
    LayerOption,
    VideoDemand,
)

LAYERS = (LayerOption(150_000, 0, 2), LayerOption(500_000, 1, 2), LayerOption(1_500_000, 2, 2))
CAMERA = VideoDemand("camera", LAYERS)
SINGLE = VideoDemand("camera", (LayerOption(1_500_000),))
AUDIO_BPS = 50_000
SECOND = 1_000_000_000


def spatial(allocation: Allocation) -> int | None:
    layer = allocation.choices["camera"].layer
    return None if layer is None else layer.spatial


def test_without_a_limit_everything_is_sent_at_its_best() -> None:
    allocation = Allocator().allocate(100_000, AUDIO_BPS, [CAMERA], 0, limited=False)
    assert spatial(allocation) == 2
    assert allocation.choices["camera"].bound_bps is None


def test_layers_fall_at_once_and_rise_only_with_room_to_spare() -> None:
    allocator = Allocator()
    assert spatial(allocator.allocate(600_000, AUDIO_BPS, [CAMERA], SECOND, limited=True)) == 1
    assert spatial(allocator.allocate(300_000, AUDIO_BPS, [CAMERA], SECOND, limited=True)) == 0
    assert spatial(allocator.allocate(3_000_000, AUDIO_BPS, [CAMERA], SECOND + 1, limited=True)) == 0, "too soon"
    later = SECOND + UP_AFTER_NS
    assert spatial(allocator.allocate(570_000, AUDIO_BPS, [CAMERA], later, limited=True)) == 0, "no room to spare"
    assert spatial(allocator.allocate(640_000, AUDIO_BPS, [CAMERA], later, limited=True)) == 1
    assert spatial(allocator.allocate(540_000, AUDIO_BPS, [CAMERA], later, limited=True)) == 1, "what is had stays"


def test_video_is_paused_before_audio_suffers() -> None:
    allocator = Allocator()
    assert spatial(allocator.allocate(150_000, AUDIO_BPS, [CAMERA], 0, limited=True)) is None
    single = Allocator().allocate(100_000, AUDIO_BPS, [SINGLE], 0, limited=True)
    assert single.choices["camera"].layer is None
    assert single.choices["camera"].bound_bps == VIDEO_MIN_BPS


def test_no_video_is_paused_for_a_queue_that_drains() -> None:
    allocator = Allocator()
    assert spatial(allocator.allocate(100_000, AUDIO_BPS, [CAMERA], 0, limited=True, draining_bps=150_000)) == 0
    assert spatial(allocator.allocate(100_000, AUDIO_BPS, [CAMERA], 1, limited=True, draining_bps=50_000)) is None


def test_a_video_of_one_layer_is_bounded_and_comes_back_when_it_fits_for_a_while() -> None:
    allocator = Allocator()
    bounded = allocator.allocate(400_000, AUDIO_BPS, [SINGLE], 0, limited=True)
    assert bounded.choices["camera"].layer is not None
    assert bounded.choices["camera"].bound_bps == 340_000
    assert spatial(allocator.allocate(90_000, AUDIO_BPS, [SINGLE], 1, limited=True)) is None
    assert spatial(allocator.allocate(400_000, AUDIO_BPS, [SINGLE], 2, limited=True)) is None
    assert spatial(allocator.allocate(400_000, AUDIO_BPS, [SINGLE], 2 + RESUME_AFTER_NS, limited=True)) == 0


def test_the_lowest_layer_is_bounded_where_its_publisher_can_adapt() -> None:
    adapting = VideoDemand("camera", LAYERS, adapts=True)
    allocator = Allocator()
    bounded = allocator.allocate(150_000, AUDIO_BPS, [adapting], SECOND, limited=True).choices["camera"]
    assert (bounded.layer, bounded.bound_bps) == (LAYERS[0], 90_000)
    assert spatial(allocator.allocate(100_000, AUDIO_BPS, [adapting], SECOND, limited=True)) is None
    better = allocator.allocate(700_000, AUDIO_BPS, [adapting], 5 * SECOND, limited=True).choices["camera"]
    assert (better.layer, better.bound_bps) == (LAYERS[1], None), "it is free again once a better one fits"


def test_a_screen_comes_before_a_camera_but_leaves_it_its_least() -> None:
    screen = VideoDemand("screen", (LayerOption(200_000, 0), LayerOption(900_000, 1)))
    allocation = Allocator().allocate(1_200_000, 0, [CAMERA, screen], 0, limited=True)
    chosen = {source: choice.layer for source, choice in allocation.choices.items()}
    assert chosen["screen"] == screen.layers[1]
    assert chosen["camera"] == LAYERS[0]


def test_what_is_wanted_is_everything_at_its_best() -> None:
    allocation = Allocator().allocate(300_000, AUDIO_BPS, [CAMERA], 0, limited=True)
    assert allocation.wanted_bps >= 1_500_000 + AUDIO_BPS


@given(st.lists(st.tuples(st.integers(0, 5_000_000), st.integers(0, 3 * SECOND)), max_size=30))
def test_what_is_chosen_fits_beside_audio(steps: list[tuple[int, int]]) -> None:
    allocator, now_ns = Allocator(), 0
    for target_bps, passed_ns in steps:
        now_ns += passed_ns
        allocation = allocator.allocate(target_bps, AUDIO_BPS, [CAMERA], now_ns, limited=True)
        layer = allocation.choices["camera"].layer
        if layer is not None:
            assert AUDIO_BPS + layer.bitrate_bps * 0.95 <= target_bps
