"""Compositions and previews: everybody where and when they were, in one pass and in bounded memory."""

from __future__ import annotations

import functools
import gc
import io
import json
from fractions import Fraction
from typing import Any, ClassVar

import av
import pytest

from recorder import compose_read, preview
from recorder.compose import (
    BLOCK,
    FPS,
    SPEAKER_HOLD,
    Cast,
    ComposeFailed,
    Director,
    Person,
    compose,
    grid,
    stage,
)
from recorder.compose_read import Clip
from tests.recorder.media import audio, video

ANA, BEN = Person(1, "Ana"), Person(2, "Ben Żółć Иван")


@functools.cache
def file(seconds: float, picture: bool = True, sound: bool = True, skip_s: tuple[float, float] = (0, 0)) -> bytes:
    """A WebM as the recorder makes it; ``skip_s``: a span of it that has no packets."""
    out = io.BytesIO()
    with av.open(out, "w", format="webm") as container:
        written: Any = container
        packets = []
        for wanted, frames in ((picture, video), (sound, audio)):
            if not wanted:
                continue
            if frames is video:
                stream = written.add_mux_stream("vp8", 30, width=320, height=180, time_base=Fraction(1, 1000))
            else:
                stream = written.add_stream("libopus", rate=48_000)
            for frame in video("vp8", seconds) if frames is video else audio(seconds):
                if skip_s[0] * 1000 <= frame.at_ms < skip_s[1] * 1000:
                    continue
                packet: Any = av.Packet(frame.data)
                packet.pts = packet.dts = round(frame.at_ms * 1000)
                packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 10**6), stream, frame.key
                packets.append(packet)
        for packet in sorted(packets, key=lambda each: each.pts):
            written.mux(packet)
    return out.getvalue()


def clip(user: int, start_ms: int, data: bytes, length_ms: int, source: str = "camera", **has: bool) -> Clip:
    has = {"video": True, "audio": True, **has}
    return Clip(user, source, start_ms, start_ms + length_ms, open=lambda: io.BytesIO(data), **has)


class Made:
    """What came out, decoded."""

    def __init__(
        self, layout: str, clips: list[Clip], duration_ms: int, people: tuple[Person, ...] = (ANA, BEN)
    ) -> None:
        sink = io.BytesIO()
        self.told: list[float] = []
        self.size = compose(sink, layout, people, clips, duration_ms, self.told.append)
        container: Any
        self.frames: list[Any] = []
        self.samples: list[int] = []
        with av.open(io.BytesIO(sink.getvalue())) as container:
            self.codecs = [stream.codec_context.name for stream in container.streams]
            self.duration_ms = container.duration / 1000
            for frame in container.decode():
                if isinstance(frame, av.VideoFrame):
                    self.frames.append(frame)
                else:
                    plane = memoryview(bytes(frame.planes[0])[: frame.samples * 4]).cast("f")
                    self.samples += [int(abs(x) * 32_768) for x in plane]

    def loud(self, from_ms: int, to_ms: int) -> int:
        return max(self.samples[from_ms * 48 : to_ms * 48])

    def luma(self, at_ms: int, x: int, y: int) -> int:
        """Brightness of a place, by number of the picture."""
        frame = self.frames[at_ms * FPS // 1000]
        plane = frame.planes[0]
        return bytes(plane)[y * plane.line_size + x]

    def spread(self, at_ms: int, x: int, y: int, width: int = 300) -> int:
        """How much the brightness differs along a line: the moving bar's, or next to nothing of a sign."""
        frame = self.frames[at_ms * FPS // 1000]
        plane = frame.planes[0]
        line = bytes(plane)[y * plane.line_size + x : y * plane.line_size + x + width]
        return max(line) - min(line)


def test_side_by_side_shows_both_from_when_they_were_there() -> None:
    made = Made("side_by_side", [clip(1, 0, file(4), 4000), clip(2, 2000, file(2), 2000)], 4000)
    assert (made.size, made.codecs) == ((1280, 480), ["h264", "aac"])
    assert made.duration_ms == pytest.approx(4000, abs=50)
    assert len(made.frames) == 100
    assert made.spread(1000, 100, 200) > 100  # Ana from the beginning
    assert made.spread(1000, 740, 100) < 30  # of Ben a sign with the name, which is not at this height
    assert made.spread(3000, 740, 100) > 100  # who came late
    assert made.told[0] == 0
    assert made.told == sorted(made.told)


def test_sound_of_a_late_joiner_is_heard_when_it_was_said() -> None:
    made = Made("audio", [clip(1, 0, file(3, picture=False), 3000, video=False), clip(2, 1500, file(1), 1000)], 3000)
    assert (made.size, made.codecs) == ((0, 0), ["aac"])
    ticks = [ms for ms in range(0, 2950, 50) if made.loud(ms, ms + 50) > 6_000]
    expected = {0, 1000, 1500, 2000}  # a tick at each full second of either file; AAC blurs by a frame
    assert all(min(abs(tick - each) for each in expected) <= 50 for tick in ticks)
    assert all(min(abs(tick - each) for tick in ticks) <= 50 for each in expected)


def test_a_gap_inside_a_file_stays_where_it_was() -> None:
    made = Made("audio", [clip(1, 0, file(4, skip_s=(1.1, 2.9)), 4000)], 4000, people=(ANA,))
    assert made.loud(1_400, 2_600) < 100
    assert made.loud(2_950, 3_080) > 6_000


def test_parts_of_two_workers_follow_each_other_and_the_name_stands_in_between() -> None:
    clips = [clip(1, 0, file(2), 2000), clip(1, 3000, file(2), 2000)]
    made = Made("side_by_side", clips, 5000, people=(ANA, BEN))
    assert [made.spread(ms, 100, 200) > 100 for ms in (1000, 2500, 4000)] == [True, False, True]
    assert made.loud(2_200, 2_900) < 100
    assert made.loud(2_950, 3_080) > 6_000


def test_speaker_view_puts_who_speaks_or_a_shared_screen_first() -> None:
    silent = file(6, sound=False)
    clips = [clip(1, 0, silent, 6000, audio=False), clip(2, 0, file(6, picture=False), 6000, video=False)]
    quiet_talk = Made("speaker", clips, 6000)
    assert quiet_talk.size == (1280, 720)
    assert quiet_talk.spread(200, 100, 200) > 60  # Ana, who is first: three times as large, so a third of the bar
    shared = Made("speaker", [*clips, clip(2, 1000, silent, 3000, "screen", audio=False)], 6000)
    assert [shared.spread(ms, 970, 60) > 100 for ms in (500, 2500)] == [False, True]  # then Ana is in the column


def test_who_speaks_becomes_large_after_a_while_and_a_cough_changes_nothing() -> None:
    with Cast([ANA, BEN], [], picture=True) as cast:
        director = Director(cast)
        quiet, loud = bytes(2 * BLOCK), (9_000).to_bytes(2, "little") * BLOCK
        none = [None, None]
        assert director.order(none, [quiet, quiet]) == [0, 1]
        assert [director.order(none, [quiet, loud]) for _ in range(5)][-1] == [0, 1]
        assert [director.order(none, [loud, quiet]) for _ in range(10)][-1] == [0, 1]
        assert [director.order(none, [quiet, loud]) for _ in range(SPEAKER_HOLD)][-1] == [1, 0]
        assert director.order(none, [quiet, quiet]) == [1, 0]


def test_damaged_media_is_left_out_and_no_file_at_all_fails_clearly() -> None:
    broken = bytearray(file(3))
    for at in range(len(broken) // 2, len(broken) // 2 + 2_000):
        broken[at] ^= 0x5A
    made = Made("side_by_side", [clip(1, 0, bytes(broken), 3000), clip(2, 0, file(3), 3000)], 3000)
    assert len(made.frames) == 75
    with pytest.raises(ComposeFailed):
        Made("side_by_side", [clip(1, 0, b"no media" * 100, 3000)], 3000)
    with pytest.raises(ComposeFailed):
        Made("audio", [], 0)


def test_stopping_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):
        pass

    def stop(share: float) -> None:
        if share > 0:
            raise Stop

    class Watched(compose_read.ClipReader):
        closed = False
        opened: ClassVar[list[Watched]] = []

        def __init__(self, of: Clip, *, picture: bool, sound: bool) -> None:
            super().__init__(of, picture=picture, sound=sound)
            self.opened.append(self)

        def close(self) -> None:
            super().close()
            self.closed = True

    class Sink(io.BytesIO):
        after_end = 0
        ended = False

        def write(self, data: Any) -> int:
            self.after_end += self.ended
            return super().write(data)

    monkeypatch.setattr(compose_read, "ClipReader", Watched)
    sink = Sink()
    with pytest.raises(Stop):
        compose(sink, "side_by_side", [ANA, BEN], [clip(1, 0, file(4), 4000), clip(2, 0, file(4), 4000)], 4000, stop)
    sink.ended = True
    gc.collect()  # nothing that was forgotten writes when it is found
    assert [each.closed for each in Watched.opened] == [True] * len(Watched.opened)
    assert len(Watched.opened) >= 2
    assert not sink.after_end


def test_pictures_beyond_all_bounds_are_not_decoded_and_their_sound_is(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [clip(1, 0, file(3), 3000), clip(2, 0, file(3), 3000)]
    shown = Made("side_by_side", whole, 3000)
    monkeypatch.setattr(compose_read, "DECODING", {"max_pixels": "40000"})  # 320×180 are more
    bounded = Made("side_by_side", whole, 3000)
    assert [made.spread(1000, 100, 100) > 100 for made in (shown, bounded)] == [True, False]
    assert bounded.loud(0, 3000) == pytest.approx(shown.loud(0, 3000), rel=0.1)


@pytest.mark.parametrize("count", range(1, 10))
def test_tiles_do_not_overlap_and_are_even(count: int) -> None:
    for tiles in (grid(count), stage(count)):
        assert len(tiles) == count
        seen: set[tuple[int, int]] = set()
        for tile in tiles:
            assert tile.width % 2 == tile.height % 2 == tile.x % 2 == tile.y % 2 == 0
            cells = {
                (x, y) for x in range(tile.x, tile.x + tile.width, 10) for y in range(tile.y, tile.y + tile.height, 10)
            }
            assert not cells & seen
            seen |= cells


def test_thumbnail_is_of_a_moment_with_everybody() -> None:
    found = preview.thumbnail([ANA, BEN], [clip(1, 0, file(4), 4000), clip(2, 2000, file(2), 2000)], 4000)
    assert found is not None
    data, width, height = found
    assert data[:3] == b"\xff\xd8\xff"
    assert (width, height) == (640, 240)
    assert preview.thumbnail([ANA], [clip(1, 0, file(1, picture=False), 1000, video=False)], 1000) is None


def test_waveform_has_ten_points_a_second_and_is_bounded() -> None:
    people = [(ANA, "usr_a"), (BEN, "usr_b")]
    data = preview.waveform(people, [clip(2, 1000, file(2), 2000)], 3000, lambda _: None)
    shown = json.loads(data)
    assert (shown["step_ms"], shown["duration_ms"]) == (100, 3000)
    silent, ben = (each["peaks"] for each in shown["participants"])
    assert silent == [0] * 30
    assert [n for n, loud in enumerate(ben) if loud > 60] == [10, 20]
    assert max(ben[2:9]) == 0
    for hours in (1, 3, 24):
        step = preview.step_ms(hours * 3_600_000)
        assert hours * 3_600_000 / step <= preview.POINTS_MAX
        assert step % 100 == 0
