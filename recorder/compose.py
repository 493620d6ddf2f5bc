"""One file of a whole call: everybody side by side, or the speaker large, with names and the mixed sound.

H.264 and AAC in MP4, or AAC alone (M4A), 25 pictures a second, made in one pass from front to back. Everything is
placed by the recording's clock, so parts of several workers, late joiners, rejoins and gaps fall where they belong;
where somebody has no picture, their name is shown. No thread, no clock, no storage here: whoever calls gives the
clips and a sink, and may stop it by raising from ``progress``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Final

import av
from av.audio.frame import AudioFrame
from av.error import FFmpegError
from av.filter import Graph
from av.video.frame import VideoFrame

from recorder import captions
from recorder.compose_read import RATE, Clip, Feed, Voice, frame_of, peak
from recorder.errors import RecorderError

FPS: Final = 25
BLOCK: Final = RATE // FPS
"""Samples of sound for each picture."""
DURATION_MAX_MS: Final = 24 * 3_600_000
FEEDS_MAX: Final = 16
SPEAKER_HOLD: Final = FPS * 3 // 2
"""Somebody has to be the louder one for so many pictures before they are shown large."""
SPEECH_MIN: Final = 800
"""Softer than this nobody speaks."""
_TELL_EVERY: Final = FPS * 2
_OPTIONS: Final = {"fflags": "+bitexact"}
_X264: Final = {"preset": "veryfast", "crf": "26", "g": str(2 * FPS), "bf": "0", "threads": "1"}

Progress = Callable[[float], None]
"""Told the share done, 0–1; raises to stop."""


class ComposeFailed(RecorderError):
    """The media of the recording cannot be made into one file."""


@dataclasses.dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is shown and heard."""

    user_id: int
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Tile:
    """A place in the picture."""

    x: int
    y: int
    width: int
    height: int


def grid(count: int) -> list[Tile]:
    """Places side by side: two in a row, more in rows of as many as make a square."""
    columns = 2 if count <= 2 else math.ceil(math.sqrt(count))
    width, height = (640, 480) if count <= 2 else (1280 // columns & ~1, 720 // columns & ~1)
    return [Tile(n % columns * width, n // columns * height, width, height) for n in range(count)]


def stage(count: int) -> list[Tile]:
    """A large place, and small ones in a column beside it."""
    rows = max(3, count - 1)
    height = 720 // rows & ~1
    return [Tile(0, 0, 960, 720), *(Tile(960, n * height, 320, height) for n in range(count - 1))]


class Canvas:
    """Lays pictures into tiles, each with its name."""

    def __init__(self, names: Sequence[str], tiles: Sequence[Tile]) -> None:
        self.width = max(tile.x + tile.width for tile in tiles)
        self.height = max(tile.y + tile.height for tile in tiles)
        self._names = names
        self._tiles = tiles
        self._fitted: dict[tuple[int, int, str], _Fitter] = {}
        self._empty: dict[tuple[str, int, int], VideoFrame] = {}
        self._stack = _Stack(tiles) if len(tiles) > 1 else None
        self._last: list[tuple[Any, int, VideoFrame] | None] = [None] * len(tiles)

    def draw(self, pictures: Sequence[VideoFrame | None], order: Sequence[int], at: int) -> VideoFrame:
        """The whole picture. ``order``: who is in which tile."""
        shown = [self._tile(place, who, pictures[who]) for place, who in enumerate(order)]
        whole = shown[0] if self._stack is None else self._stack.push(shown, at)
        whole.pts, whole.time_base = at, Fraction(1, FPS)
        return whole

    def _tile(self, place: int, who: int, picture: VideoFrame | None) -> VideoFrame:
        tile, name = self._tiles[place], self._names[who]
        last = self._last[place]
        if last is not None and last[0] is picture and last[1] == who:
            return last[2]
        if picture is None:
            made = self._empty.get((name, tile.width, tile.height))
            if made is None:
                made = self._empty[name, tile.width, tile.height] = captions.sign(name, tile.width, tile.height)
        else:
            made = self._fitter(place, name).fit(picture)
        self._last[place] = (picture, who, made)
        return made

    def _fitter(self, place: int, name: str) -> _Fitter:
        tile = self._tiles[place]
        key = (tile.width, tile.height, name)
        if key not in self._fitted:
            self._fitted[key] = _Fitter(tile, captions.caption(name, tile.width))
        return self._fitted[key]


class _Fitter:
    """Fits pictures of any size into a tile, black around them, the name over the lower edge."""

    def __init__(self, tile: Tile, caption: VideoFrame) -> None:
        self._tile = tile
        self._caption = caption
        self._form: tuple[int, int, str] | None = None
        self._graph: Any = None
        self._at = 0

    def fit(self, picture: VideoFrame) -> VideoFrame:
        form = (picture.width, picture.height, picture.format.name)
        if form != self._form:
            self._form, self._graph = form, self._build(*form)
        self._at += 1
        picture.pts, picture.time_base = self._at, Fraction(1, FPS)
        self._graph.push(picture)
        fitted: VideoFrame = self._graph.pull()
        return fitted

    def _build(self, width: int, height: int, pixels: str) -> Any:
        tile = self._tile
        graph: Any = Graph()
        source = graph.add_buffer(width=width, height=height, format=pixels, time_base=Fraction(1, FPS))
        steps = [
            graph.add("scale", f"{tile.width}:{tile.height}:force_original_aspect_ratio=decrease:force_divisible_by=2"),
            graph.add("pad", f"{tile.width}:{tile.height}:(ow-iw)/2:(oh-ih)/2"),
            graph.add("setsar", "1"),
            graph.add("format", "yuv420p"),
        ]
        name = graph.add_buffer(
            width=self._caption.width, height=self._caption.height, format="yuv420p", time_base=Fraction(1, FPS)
        )
        overlay = graph.add("overlay", "0:main_h-overlay_h:eof_action=repeat:format=yuv420")
        sink = graph.add("buffersink")
        for first, second in zip([source, *steps], [*steps, overlay], strict=True):
            first.link_to(second, 0, 0)
        name.link_to(overlay, 0, 1)
        overlay.link_to(sink)
        graph.configure()
        self._caption.pts, self._caption.time_base = 0, Fraction(1, FPS)
        name.push(self._caption)
        name.push(None)
        return _Ends(graph, source, sink)


class _Stack:
    """Puts tiles beside each other."""

    def __init__(self, tiles: Sequence[Tile]) -> None:
        graph: Any = Graph()
        self._sources = [
            graph.add_buffer(width=tile.width, height=tile.height, format="yuv420p", time_base=Fraction(1, FPS))
            for tile in tiles
        ]
        layout = "|".join(f"{tile.x}_{tile.y}" for tile in tiles)
        stack = graph.add("xstack", f"inputs={len(tiles)}:layout={layout}:fill=black")
        self._sink = graph.add("buffersink")
        for place, source in enumerate(self._sources):
            source.link_to(stack, 0, place)
        stack.link_to(self._sink)
        graph.configure()
        self._graph = graph

    def push(self, tiles: Sequence[VideoFrame], at: int) -> VideoFrame:
        for source, tile in zip(self._sources, tiles, strict=True):
            tile.pts, tile.time_base = at, Fraction(1, FPS)
            source.push(tile)
        whole: VideoFrame = self._sink.pull()
        return whole


@dataclasses.dataclass(frozen=True, slots=True)
class _Ends:
    """The ends of a graph that is used one picture at a time."""

    graph: Any
    """Kept: the ends die with it."""
    source: Any
    sink: Any

    def push(self, picture: VideoFrame) -> None:
        self.source.push(picture)

    def pull(self) -> VideoFrame:
        picture: VideoFrame = self.sink.pull()
        return picture


class Mixer:
    """Adds up voices; loud ones together are held below the limit."""

    def __init__(self, count: int) -> None:
        self._graph: Any = Graph() if count > 1 else None
        self._sources: list[Any] = []
        if self._graph is None:
            return
        add = self._graph.add
        form: dict[str, Any] = {"format": "s16", "sample_rate": RATE, "layout": "mono", "time_base": Fraction(1, RATE)}
        self._sources = [self._graph.add_abuffer(**form) for _ in range(count)]
        mix = add("amix", f"inputs={count}:normalize=0")
        limit = add("alimiter", "limit=0.97:level=0")
        self._sink: Any
        out, self._sink = add("aformat", "sample_fmts=s16:channel_layouts=mono"), add("abuffersink")
        for place, source in enumerate(self._sources):
            source.link_to(mix, 0, place)
        for first, second in ((mix, limit), (limit, out), (out, self._sink)):
            first.link_to(second)
        self._graph.configure()

    def mix(self, voices: Sequence[bytes], at: int) -> list[AudioFrame]:
        """The sum of blocks of samples that begin at the same place."""
        if self._graph is None:
            return [frame_of(voices[0], RATE, at)]
        for source, pcm in zip(self._sources, voices, strict=True):
            source.push(frame_of(pcm, RATE, at))
        mixed: list[AudioFrame] = []
        with contextlib.suppress(BlockingIOError, EOFError):
            while True:
                mixed.append(self._sink.pull())
        return mixed


class Cast:
    """Who is shown and heard, and by which feeds. Use as a context manager."""

    def __init__(self, people: Sequence[Person], clips: Sequence[Clip], *, picture: bool) -> None:
        """Raises ``ComposeFailed``."""
        self.feeds: list[Feed] = []
        self.names: list[str] = []
        self.voices: list[Voice] = []
        for person in people:
            own = [clip for clip in clips if clip.user_id == person.user_id]
            face = [clip for clip in own if clip.source != "screen"]
            screen = [clip for clip in own if clip.source == "screen" and clip.video] if picture else []
            camera = Feed(person.user_id, "camera", face, picture=picture, sound=True)
            self.feeds.append(camera)
            self.names.append(person.name)
            self.voices.append(Voice(camera))
            if screen:
                self.feeds.append(Feed(person.user_id, "screen", screen, picture=True, sound=False))
                self.names.append(f"{person.name} · screen")
        if not 0 < len(self.feeds) <= FEEDS_MAX:
            raise ComposeFailed(f"a recording with {len(self.feeds)} sources cannot be shown in one picture")

    def __enter__(self) -> Cast:
        return self

    def __exit__(self, *_: object) -> None:
        for feed in self.feeds:
            feed.close()

    def pictures(self, at_ms: float) -> list[VideoFrame | None]:
        """What is to be seen of each feed."""
        return [feed.picture(at_ms) for feed in self.feeds]


class Director:
    """Who is large: a shared screen, else who speaks."""

    def __init__(self, cast: Cast) -> None:
        self._feeds = cast.feeds
        self._cameras = [n for n, feed in enumerate(cast.feeds) if feed.source == "camera"]
        self._speaker = self._cameras[0]
        self._louder = 0

    def order(self, pictures: Sequence[VideoFrame | None], voices: Sequence[bytes]) -> list[int]:
        """The feeds, the large one first."""
        levels = [peak(pcm) for pcm in voices]
        loudest = max(range(len(levels)), key=levels.__getitem__)
        other = self._cameras[loudest] != self._speaker and levels[loudest] >= SPEECH_MIN
        self._louder = self._louder + 1 if other else max(0, self._louder - 1)
        if self._louder >= SPEAKER_HOLD:
            self._speaker, self._louder = self._cameras[loudest], 0
        screens = [n for n, feed in enumerate(self._feeds) if feed.source == "screen" and pictures[n] is not None]
        first = screens[0] if screens else self._speaker
        return [first, *(n for n in range(len(self._feeds)) if n != first)]


def compose(
    sink: Any, layout: str, people: Sequence[Person], clips: Sequence[Clip], duration_ms: int, progress: Progress
) -> tuple[int, int]:
    """Write the composition into ``sink`` (``write``, ``seek``, ``tell``): its width and height, 0 without pictures.

    Raises ``ComposeFailed``, and whatever ``progress`` and reading the clips raise.
    """
    if not 0 < duration_ms <= DURATION_MAX_MS:
        raise ComposeFailed("there is nothing to show, or more than a day of it")
    try:
        with Cast(people, clips, picture=layout != "audio") as cast:
            return _compose(sink, layout, cast, duration_ms, progress)
    except FFmpegError as error:
        raise ComposeFailed(f"{type(error).__name__}: {error}") from error


def _compose(sink: Any, layout: str, cast: Cast, duration_ms: int, progress: Progress) -> tuple[int, int]:
    container: Any = av.open(sink, "w", format="ipod" if layout == "audio" else "mp4", options=_OPTIONS)
    try:
        canvas: Canvas | None = None
        video: Any = None
        if layout != "audio":
            tiles = grid(len(cast.feeds)) if layout == "side_by_side" else stage(len(cast.feeds))
            canvas = Canvas(cast.names, tiles)
            video = container.add_stream("libx264", rate=FPS, options=_X264)
            video.width, video.height, video.pix_fmt = canvas.width, canvas.height, "yuv420p"
            video.codec_context.time_base = Fraction(1, FPS)
        audio = container.add_stream("aac", rate=RATE, layout="mono", bit_rate=96_000)
        mixer, director = Mixer(len(cast.voices)), Director(cast)
        count = math.ceil(duration_ms * FPS / 1000)
        for at in range(count):
            if at % _TELL_EVERY == 0:
                progress(at / count)
            voices = [voice.take(BLOCK, (at + 1) * 1000 / FPS) for voice in cast.voices]
            for frame in mixer.mix(voices, at * BLOCK):
                container.mux(audio.encode(frame))
            if canvas is not None:
                pictures = cast.pictures(at * 1000 / FPS)
                order = director.order(pictures, voices) if layout == "speaker" else range(len(cast.feeds))
                container.mux(video.encode(canvas.draw(pictures, order, at)))
        if video is not None:
            container.mux(video.encode(None))
        container.mux(audio.encode(None))
    except BaseException:
        with contextlib.suppress(Exception):  # what went wrong is told, not what the rest of the file ran into
            container.close()
        raise
    container.close()
    return (0, 0) if canvas is None else (canvas.width, canvas.height)
