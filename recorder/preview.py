"""What a player shows before it plays: a picture of the call, and how loud everybody is over its time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from av.error import FFmpegError

from recorder import captions
from recorder.compose import FPS, Canvas, Cast, ComposeFailed, Person, Progress, grid
from recorder.compose_read import Clip, Feed, Voice, peak

WIDTH_MAX: Final = 640
LOOK_MS: Final = 10_000
"""How far into the call a picture of everybody is looked for."""
LOOK_STEP_MS: Final = 500
STEP_MS: Final = 100
POINTS_MAX: Final = 36_000
"""Points of one participant: an hour of tenths of a second; of longer calls each stands for more time."""
RATE: Final = 8_000
"""Loudness needs no more samples a second."""
PEAK_MAX: Final = 255


def thumbnail(people: Sequence[Person], clips: Sequence[Clip], duration_ms: int) -> tuple[bytes, int, int] | None:
    """(JPEG, width, height) of the first moment at which most people are seen; None: nobody ever is.

    Raises ``ComposeFailed``.
    """
    if not any(clip.video for clip in clips):
        return None
    best: tuple[int, int] | None = None
    try:
        for at_ms, seen in _looks(people, clips, duration_ms):
            if best is None or seen > best[0]:
                best = (seen, at_ms)
            if seen == len(people):
                break
        return None if best is None or not best[0] else _picture(people, clips, best[1])
    except FFmpegError as error:
        raise ComposeFailed(f"{type(error).__name__}: {error}") from error


def _looks(people: Sequence[Person], clips: Sequence[Clip], duration_ms: int) -> list[tuple[int, int]]:
    """(time, how many feeds show something) at times worth looking at."""
    first_ms = min(clip.start_ms for clip in clips if clip.video)
    with Cast(people, clips, picture=True) as cast:
        return [
            (at_ms, sum(picture is not None for picture in cast.pictures(at_ms)))
            for at_ms in range(first_ms, min(first_ms + LOOK_MS, duration_ms), LOOK_STEP_MS)
        ]


def _picture(people: Sequence[Person], clips: Sequence[Clip], at_ms: int) -> tuple[bytes, int, int]:
    with Cast(people, clips, picture=True) as cast:
        canvas = Canvas(cast.names, grid(len(cast.feeds)))
        whole = canvas.draw(cast.pictures(at_ms), range(len(cast.feeds)), 0)
        width = min(WIDTH_MAX, whole.width)
        height = round(whole.height * width / whole.width / 2) * 2
        return captions.jpeg(whole.reformat(width=width, height=height)), width, height


def step_ms(duration_ms: int) -> int:
    """How much time each point stands for."""
    return max(1, -(-duration_ms // (STEP_MS * POINTS_MAX))) * STEP_MS


def waveform(
    people: Sequence[tuple[Person, str]], clips: Sequence[Clip], duration_ms: int, progress: Progress
) -> bytes:
    """JSON: the loudest sample of each participant in each step, 0–255. ``people``: with their public ids."""
    step = step_ms(duration_ms)
    count = -(-duration_ms // step)
    shown = []
    for place, (person, public_id) in enumerate(people):
        own = [clip for clip in clips if clip.user_id == person.user_id and clip.source != "screen" and clip.audio]
        feed = Feed(person.user_id, "camera", own, picture=False, sound=True)
        try:
            voice, peaks = Voice(feed, RATE), []
            for n in range(count):
                peaks.append(min(PEAK_MAX, peak(voice.take(step * RATE // 1000, (n + 1) * step)) // 128))
                if n % FPS == 0:
                    progress((place + n / count) / len(people))
        except FFmpegError as error:
            raise ComposeFailed(f"{type(error).__name__}: {error}") from error
        finally:
            feed.close()
        shown.append({"participant_id": public_id, "name": person.name, "peaks": peaks})
    whole = {"step_ms": step, "duration_ms": duration_ms, "participants": shown}
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()
