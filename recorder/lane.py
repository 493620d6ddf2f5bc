"""What goes into which file: a participant's tracks laid side by side in runs.

A lane is one participant's microphone and camera, or one participant's screen. A run is one file: streams that were
there from its beginning, with one video codec. At each key frame the lane asks whether one run could hold all that is
there; if not, it ends its runs and begins one that does. Sound alone never waits for a picture longer than
``SETTLE_NS``: it gets a run of its own, next to or before the picture's.

Frames leave in order of time. "Now" is the arrival time of the newest record, so a repetition decides alike.
"""

from __future__ import annotations

import dataclasses
from typing import Final, Literal, NamedTuple

from recorder.frames import OPUS_RATE, OPUS_SILENCE, Frame
from recorder.track import Track

SETTLE_NS: Final = 4_000_000_000
"""How long a new track may keep others waiting: for its first frame, then for its first sender report."""
HOLD_NS: Final = 1_500_000_000
"""Frames are held this long for others of an earlier time: more than reordering takes."""
FRAMES_HELD_MAX: Final = 4000
"""More frames than these do not wait."""
FILL_MAX_MS: Final = 600_000
"""A longer silence in a file of sound alone ends the file: the next one begins where sound begins again."""
GAP_MIN_MS: Final = {"audio": 100, "video": 1000}
"""Shorter holes are not worth a line in the manifest."""
GAPS_MAX: Final = 5000
FILES_MAX: Final = 2000
"""A lane that would begin more files gets no more pictures, and after as many again no more sound: a sender that
changes its picture's size all the time, or comes back all the time, must not fill the part with files."""
_MS: Final = 1_000_000
_SILENCE_MS: Final = 20
_RESIZES: Final = frozenset({"vp8", "vp9"})
"""Codecs whose picture size may change inside a file."""


@dataclasses.dataclass(slots=True, eq=False)
class Run:
    """One file of a lane."""

    index: int
    """Its place among all runs of the part, in order of beginning."""
    user_id: int
    source: str
    """``camera`` (with or without microphone), ``microphone`` alone, or ``screen``."""
    audio: Track | None
    video: Track | None
    video_codec: str | None
    width: int
    height: int
    start_ns: int
    end_ns: int
    video_frames: int = 0
    audio_ms: int = 0
    sizes: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
    """(time in ms from the start, width, height) at each change of the picture's size."""
    last_ms: dict[str, int] = dataclasses.field(default_factory=dict)
    audio_until_ms: int = 0
    """Where sound, or the silence put in its place, ends."""
    heard_until_ms: int | None = None
    """Where real sound ends."""


@dataclasses.dataclass(frozen=True, slots=True)
class OpenRun:
    """A file begins."""

    run: Run


class WriteFrame(NamedTuple):
    """A frame goes into a file."""

    run: Run
    kind: Literal["audio", "video"]
    data: bytes
    time_ms: int
    key: bool
    duration_ms: int


@dataclasses.dataclass(frozen=True, slots=True)
class CloseRun:
    """A file ends."""

    run: Run


Action = OpenRun | WriteFrame | CloseRun


@dataclasses.dataclass(frozen=True, slots=True)
class Gap:
    """A hole in a track, filled with silence (sound) or with the last picture (video)."""

    track: int
    from_ns: int
    to_ns: int


class RunCounter:
    """Numbers a part's runs."""

    def __init__(self) -> None:
        self.next = 0

    def take(self) -> int:
        index = self.next
        self.next += 1
        return index


class Lane:
    """One participant's tracks that belong together."""

    def __init__(self, user_id: int, counter: RunCounter) -> None:
        self.user_id = user_id
        self.gaps: list[Gap] = []
        self.unplayable = 0
        """Frames left out because the key frame before them is missing."""
        self.overlapping = 0
        """Packets of sound left out because what came before them lasts longer: clocks that moved apart."""
        self.silence_ms = 0
        """Silence put where sound was missing."""
        self.shut_out = 0
        """Frames left out because the lane has too many files."""
        self._begun = 0
        self._blind = False
        self._out: list[Action] = []
        self._counter = counter
        self._tracks: list[Track] = []
        self._runs: list[Run] = []

    def add(self, track: Track) -> None:
        """One more track; it takes the place of an earlier one of its source."""
        self._tracks.append(track)

    def advance(self, now_ns: int, *, final: bool = False) -> list[Action]:
        """What is to be written at ``now_ns``; with ``final`` all that is left, and the ends of the files."""
        while (found := self._earliest()) is not None:
            track, time_ns = found
            frame = track.frames[0]
            run = self._run_of(track)
            hurry = final or len(track.frames) > FRAMES_HELD_MAX
            if not hurry and time_ns > now_ns - HOLD_NS:
                break
            begins = run is None or (frame.key and track.is_video and self._outgrown(run, frame))
            if self._is_shut_out(track, begins):
                track.frames.popleft()
                self.shut_out += 1
                self._close([each for each in self._runs if self._blind and each.video is not None])
                continue
            if run is None or begins:
                if run is None and track.is_video and not frame.key:
                    track.frames.popleft()
                    self.unplayable += 1
                    continue
                if not hurry and not all(self._settled(each, now_ns) for each in self._tracks):
                    break
                self._rearrange(track, frame)
                continue
            track.frames.popleft()
            self._write(run, track, frame, time_ns)
        self._close([run for run in self._runs if final or self._is_over(run)])
        self._tracks = [track for track in self._tracks if not self._is_done(track)]
        out, self._out = self._out, []
        return out

    def _earliest(self) -> tuple[Track, int] | None:
        best: tuple[Track, int] | None = None
        for track in self._tracks:
            if track.frames:
                time_ns = track.clock.time_ns(track.frames[0].timestamp)
                if best is None or time_ns < best[1]:
                    best = (track, time_ns)
        return best

    def _run_of(self, track: Track) -> Run | None:
        for run in self._runs:
            if run.audio is track or run.video is track:
                return run
        return None

    def _outgrown(self, run: Run, frame: Frame) -> bool:
        if frame.codec != run.video_codec:
            return True
        if frame.size != (run.width, run.height) and frame.codec not in _RESIZES:
            return True
        return any(other is not run and other.audio is not None and not other.audio.ended for other in self._runs)

    def _is_shut_out(self, track: Track, begins: bool) -> bool:
        """Whether a frame is left out; ``begins``: it needs a new file."""
        if track.is_video:
            self._blind = self._blind or (begins and self._begun >= FILES_MAX)
            return self._blind
        return begins and self._begun >= 2 * FILES_MAX

    @staticmethod
    def _settled(track: Track, now_ns: int) -> bool:
        if track.ended:
            return True
        if track.first_frame_ns is None:
            return track.muted or now_ns - track.declared_ns >= SETTLE_NS
        return track.clock.reported or now_ns - track.first_frame_ns >= SETTLE_NS

    def _current(self, kind: str) -> Track | None:
        """The newest track of the kind that has frames waiting."""
        if kind == "video" and self._blind:
            return None
        return next((track for track in reversed(self._tracks) if track.kind == kind and track.frames), None)

    def _rearrange(self, track: Track, frame: Frame) -> None:
        """Begin the run that this frame needs, and end those that it replaces."""
        for each in self._tracks:
            if each.frames:
                each.clock.settle()
        if track.is_video:
            self._close(list(self._runs))
            self._open(self._current("audio"), track, frame, track.clock.time_ns(frame.timestamp))
            return
        video = self._current("video")
        while video is not None and self._run_of(video) is None and video.frames and not video.frames[0].key:
            video.frames.popleft()
            self.unplayable += 1
        if video is not None and (self._run_of(video) is not None or not video.frames):
            video = None
        self._close([run for run in self._runs if self._replaced(run, track)])
        first = video.frames[0] if video is not None else None
        self._open(track, video, first, track.clock.time_ns(frame.timestamp))

    def _replaced(self, run: Run, by: Track) -> bool:
        """Whether nothing more is to come into the run, now that ``by`` is there."""
        newest = {track.source: track for track in self._tracks}
        return all(
            track is None or track.ended or newest[track.source] is not track or (track is by)
            for track in (run.audio, run.video)
        )

    def _open(self, audio: Track | None, video: Track | None, key: Frame | None, start_ns: int) -> None:
        if key is not None and video is not None:
            start_ns = min(start_ns, video.clock.time_ns(key.timestamp))
        if audio is not None and audio.frames:
            start_ns = min(start_ns, audio.clock.time_ns(audio.frames[0].timestamp))
        width, height = (key.size or (0, 0)) if key is not None else (0, 0)
        run = Run(
            index=self._counter.take(),
            user_id=self.user_id,
            source=(video or audio or self._tracks[0]).source,
            audio=audio,
            video=video,
            video_codec=key.codec if key is not None else None,
            width=width,
            height=height,
            start_ns=start_ns,
            end_ns=start_ns,
        )
        if key is not None:
            run.sizes.append((0, width, height))
        self._runs.append(run)
        self._begun += 1
        self._out.append(OpenRun(run))

    def _close(self, runs: list[Run]) -> None:
        for run in runs:
            self._runs.remove(run)
            self._out.append(CloseRun(run))

    @staticmethod
    def _is_over(run: Run) -> bool:
        return all(track is None or (track.ended and not track.frames) for track in (run.audio, run.video))

    def _is_done(self, track: Track) -> bool:
        """Whether the track is over and written, so that a long call with many reconnections stays small."""
        return track.ended and not track.frames and self._run_of(track) is None

    def _write(self, run: Run, track: Track, frame: Frame, time_ns: int) -> None:
        time_ms = max(0, (time_ns - run.start_ns) // _MS)
        if not track.is_video:
            self._write_audio(run, track, frame, time_ms)
            return
        if run.audio is not None and run.audio_until_ms < time_ms - _SILENCE_MS + 1:
            self._fill(run, time_ms - _SILENCE_MS + 1)
        last_ms = run.last_ms.get("video", -1)
        if last_ms >= 0 and time_ms - last_ms >= GAP_MIN_MS["video"]:
            self._gap(run, track, last_ms, time_ms)
        time_ms = max(time_ms, last_ms + 1)
        if frame.size is not None and frame.size != run.sizes[-1][1:]:
            run.sizes.append((time_ms, *frame.size))
        run.last_ms["video"] = time_ms
        run.video_frames += 1
        self._reach(run, time_ms)
        self._out.append(WriteFrame(run, "video", frame.data, time_ms, frame.key, 0))

    def _write_audio(self, run: Run, track: Track, frame: Frame, time_ms: int) -> None:
        duration_ms = max(1, frame.samples * 1000 // OPUS_RATE)
        if time_ms + duration_ms <= run.audio_until_ms and "audio" in run.last_ms:
            self.overlapping += 1  # a whole packet behind
            return
        if run.video is None and time_ms - run.audio_until_ms > FILL_MAX_MS:
            if self._is_shut_out(track, True):
                self.shut_out += 1
                return
            self._close([run])
            self._open(track, None, None, run.start_ns + time_ms * _MS)
            run, time_ms = self._runs[-1], 0
        if run.heard_until_ms is not None and time_ms - run.heard_until_ms >= GAP_MIN_MS["audio"]:
            self._gap(run, track, run.heard_until_ms, time_ms)
        if run.audio_until_ms < time_ms - _SILENCE_MS // 2:
            self._fill(run, time_ms - _SILENCE_MS // 2)
        run.heard_until_ms = time_ms + duration_ms
        time_ms = max(time_ms, run.last_ms.get("audio", -1) + 1)
        self._audio(run, frame.data, time_ms, duration_ms)

    def _fill(self, run: Run, until_ms: int) -> None:
        """Silence where sound is missing before ``until_ms``; what is less than a packet stays a hole."""
        while run.audio_until_ms < until_ms:
            self.silence_ms += _SILENCE_MS
            self._audio(run, OPUS_SILENCE, run.audio_until_ms, _SILENCE_MS)

    def _audio(self, run: Run, data: bytes, time_ms: int, duration_ms: int) -> None:
        run.last_ms["audio"] = time_ms
        run.audio_until_ms = time_ms + duration_ms
        run.audio_ms += duration_ms
        self._reach(run, run.audio_until_ms)
        self._out.append(WriteFrame(run, "audio", data, time_ms, True, duration_ms))

    @staticmethod
    def _reach(run: Run, time_ms: int) -> None:
        end_ns = run.start_ns + time_ms * _MS
        if end_ns > run.end_ns:
            run.end_ns = end_ns

    def _gap(self, run: Run, track: Track, from_ms: int, to_ms: int) -> None:
        if len(self.gaps) < GAPS_MAX:
            self.gaps.append(Gap(track.number, run.start_ns + from_ms * _MS, run.start_ns + to_ms * _MS))
