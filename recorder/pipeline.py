"""One part from spool to segments, in a worker thread: reads, merges, muxes. Blocks on the disk, keeps no files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from recorder.errors import RecorderError
from recorder.lane import Action, CloseRun, OpenRun, Run, WriteFrame
from recorder.muxer import RunFormat, RunMuxer
from recorder.part import Merge, PartCore
from recorder.segments import Segment, Segmenter
from relay.spool import SpoolCorrupt, SpoolPartReader, open_part
from relay.spool.reader import UnwrapKey

ROUND_SEGMENTS_MAX: Final = 16
"""A round ends when it has made this many segments, so that they are stored before more is read."""
RUNS_MAX: Final = 2000
"""More files than these in one part mean that something is wrong with it."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunBegan:
    """A file begins; its segments follow."""

    run: Run
    format: RunFormat


@dataclasses.dataclass(frozen=True, slots=True)
class RunEnded:
    """A file is complete."""

    run: Run


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
    __slots__ = ("muxer", "segmenter")

    def __init__(self, run: Run, run_format: RunFormat, segment_ms: int) -> None:
        self.muxer = RunMuxer(run_format)
        self.segmenter = Segmenter(run.index, segment_ms)


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
        self._done = False

    def close(self) -> None:
        """Let go of the spool's files."""
        self._reader.close()

    def round(self) -> Round:
        """Read and mux what is there, up to a bound. Raises ``MuxFailed``, ``OSError``."""
        outputs: list[Output] = []
        while not self._done and sum(isinstance(each, Segment) for each in outputs) < ROUND_SEGMENTS_MAX:
            over = self._reader.closed or not self._reader.writer_alive
            ahead = self.merge.ahead()
            try:
                found = self._reader.poll(ahead)
            except SpoolCorrupt as error:
                self.corrupt = True
                self.core.problem(str(error))
                continue
            for number, record in self.merge.push(found, ahead):
                self._carry_out(self.core.push(number, record), outputs)
            if found or ahead:
                continue
            if not over:
                return Round(outputs, busy=False, done=False)
            for number, record in self.merge.finish():
                self._carry_out(self.core.push(number, record), outputs)
            self._carry_out(self.core.finish(), outputs)
            self._done = True
        return Round(outputs, busy=not self._done, done=self._done)

    def _carry_out(self, actions: Iterable[Action], outputs: list[Output]) -> None:
        for action in actions:
            run = action.run
            match action:
                case WriteFrame(_, kind, data, time_ms, key, duration_ms):
                    file = self._files[run.index]
                    clusters = file.muxer.write(kind, data, time_ms, key, duration_ms)
                    if clusters:
                        outputs += file.segmenter.push(file.muxer.header, clusters)
                case OpenRun():
                    if run.index >= RUNS_MAX:
                        raise RecorderError(f"the part falls into more than {RUNS_MAX} files")
                    run_format = RunFormat(run.video_codec, run.width, run.height, run.audio is not None)
                    self._files[run.index] = _File(run, run_format, self._segment_ms)
                    outputs.append(RunBegan(run, run_format))
                case CloseRun():
                    file = self._files.pop(run.index)
                    outputs += file.segmenter.push(file.muxer.header, file.muxer.close())
                    outputs += file.segmenter.finish((run.end_ns - run.start_ns) // 1_000_000)
                    outputs.append(RunEnded(run))
