"""One part from spool to segments, in a worker thread: reads, merges, muxes. Blocks on the disk, keeps no files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from recorder.lane import Action, CloseRun, OpenRun, Run, WriteFrame
from recorder.muxer import MuxFailed, RunFormat, RunMuxer
from recorder.part import Merge, PartCore
from recorder.segments import Index, Segment, Segmenter
from relay.spool import SpoolCorrupt, SpoolPartReader, open_part
from relay.spool.reader import UnwrapKey

ROUND_SEGMENTS_MAX: Final = 16
"""A round ends when it has made this many segments, so that they are stored before more is read."""
SOUND_ONLY: Final = 1_000_000
"""Added to the index of a run whose picture could not be muxed: the file that its sound goes into from then on."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunBegan:
    """A file begins; its segments follow."""

    run: Run
    format: RunFormat


@dataclasses.dataclass(frozen=True, slots=True)
class RunEnded:
    """A file is complete."""

    run: Run
    index: Index


Output = RunBegan | Segment | RunEnded


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """What one round gave."""

    outputs: list[Output]
    busy: bool
    """Whether there may be more right away."""
    done: bool
    """Whether the part is complete: its writer is gone and all is read and muxed."""


class _File:
    """A run being muxed."""

    __slots__ = ("muxer", "run", "segmenter")

    def __init__(self, run: Run, run_format: RunFormat, segment_ms: int) -> None:
        self.run = run
        self.muxer = RunMuxer(run_format)
        self.segmenter = Segmenter(run.index, segment_ms)

    def write(self, frame: WriteFrame) -> list[Segment]:
        """Add a frame; the segments that are complete now."""
        clusters = self.muxer.write(frame.kind, frame.data, frame.time_ms, frame.key, frame.duration_ms)
        return self.segmenter.push(self.muxer.header, clusters) if clusters else []

    def close(self) -> list[Segment]:
        """End the file; its last segments."""
        clusters = self.muxer.close()  # a short file's header is there only then
        last = self.segmenter.push(self.muxer.header, clusters)
        return last + self.segmenter.finish((self.run.end_ns - self.run.start_ns) // 1_000_000)


class Pipeline:
    """One part's way from the spool. Not thread-safe: one round at a time."""

    def __init__(self, directory: Path, unwrap_key: UnwrapKey, segment_ms: int) -> None:
        """Raises ``SpoolError``, ``OSError``, and what ``unwrap_key`` raises."""
        self._reader: SpoolPartReader = open_part(directory, unwrap_key)
        self.core = PartCore(self._reader.header)
        self.merge = Merge()
        self.corrupt = False
        """Whether a spool file was damaged or altered: its directory must be kept."""
        self._segment_ms = segment_ms
        self._files: dict[int, _File] = {}
        self._given_up: set[int] = set()
        """Runs of which not even the sound can be muxed."""
        self._done = False

    def close(self) -> None:
        """Let go of the spool's files."""
        self._reader.close()

    def round(self) -> Round:
        """Read and mux what is there, up to a bound. Raises ``SpoolError``, ``OSError``."""
        outputs: list[Output] = []
        while not self._done and sum(isinstance(each, Segment) for each in outputs) < ROUND_SEGMENTS_MAX:
            over = self._reader.closed or not self._reader.writer_alive
            ahead = self.merge.ahead()
            try:
                found = self._reader.poll_files(ahead)
            except SpoolCorrupt as error:
                self.corrupt = True
                self.core.problem(str(error))
                continue
            self._carry_out(self.core.push(self.merge.push(found, ahead)), outputs)
            if ahead or (found and (over or not self._reader.caught_up)):
                continue
            if found:  # all files were read to their ends: none has to be waited for
                self._carry_out(self.core.push(self.merge.push([])), outputs)
            if not over:
                return Round(outputs, busy=False, done=False)
            self._carry_out(self.core.push(self.merge.finish()), outputs)
            self._carry_out(self.core.finish(), outputs)
            self._done = True
        return Round(outputs, busy=not self._done, done=self._done)

    def _carry_out(self, actions: Iterable[Action], outputs: list[Output]) -> None:
        for action in actions:
            match action:
                case WriteFrame():
                    self._write(action, outputs)
                case OpenRun(run):
                    self._open(run, RunFormat(run.video_codec, run.width, run.height, run.audio is not None), outputs)
                case CloseRun(run):
                    self._close(run.index, outputs)

    def _open(self, run: Run, run_format: RunFormat, outputs: list[Output]) -> _File | None:
        try:
            file = self._files[run.index] = _File(run, run_format, self._segment_ms)
        except MuxFailed as error:
            self.core.problem(f"run {run.index}: {error}")
            self._given_up.add(run.index)
            return None
        outputs.append(RunBegan(run, run_format))
        return file

    def _file_of(self, frame: WriteFrame, outputs: list[Output]) -> _File | None:
        """The file that a frame goes into: its run's, or where that one failed, the one for its sound."""
        if (file := self._files.get(frame.run.index)) is not None or frame.kind == "video":
            return file
        index = frame.run.index + SOUND_ONLY
        if (file := self._files.get(index)) is not None or index in self._given_up:
            return file
        run = dataclasses.replace(frame.run, index=index, video=None, video_codec=None, width=0, height=0)
        run.video_frames = run.audio_ms = 0
        return self._open(run, RunFormat(None, 0, 0, True), outputs)

    def _write(self, frame: WriteFrame, outputs: list[Output]) -> None:
        """Mux a frame. One that FFmpeg refuses ends the picture of its run: whoever sent it must not be able to end the
        recording of the others, or of their own voice."""
        if (file := self._file_of(frame, outputs)) is None:
            return
        index = file.run.index
        if index >= SOUND_ONLY:
            file.run.end_ns = max(file.run.end_ns, frame.run.end_ns)
            file.run.audio_ms += frame.duration_ms
        try:
            outputs += file.write(frame)
        except MuxFailed as error:
            self.core.problem(f"run {index}: {error}")
            self._close(index, outputs)
            if index >= SOUND_ONLY:
                self._given_up.add(index)

    def _close(self, index: int, outputs: list[Output]) -> None:
        for each in (index, index + SOUND_ONLY):
            file = self._files.pop(each, None)
            if file is None:
                continue
            try:
                segments = file.close()
            except MuxFailed as error:
                self.core.problem(f"run {each}: {error}")
                segments = file.segmenter.finish((file.run.end_ns - file.run.start_ns) // 1_000_000)
            outputs += segments
            outputs.append(RunEnded(file.run, file.segmenter.index))
