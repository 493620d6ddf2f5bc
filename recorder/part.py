"""One part of a recording (one room epoch) as a core without I/O: spool records in, what is to be muxed out.

Everything is decided from the records and their arrival times, so a recorder that was killed and starts over
makes exactly the same files.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import operator
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from recorder.lane import Action, Gap, Lane, RunCounter
from recorder.timeline import SenderClock
from recorder.track import Track
from relay.spool import PartHeader, Record, TrackEventRecord

MERGE_HOLD_NS: Final = 1_500_000_000
"""Records are held this long for earlier ones of other files, which the writer may not have flushed yet."""
AHEAD_MAX_NS: Final = 10_000_000_000
"""A file that was read this far ahead of the others is left alone for a while."""
STEP_NS: Final = 100_000_000
"""How often, in time of arrival, it is decided what is to be written: once for many packets, and never by the clock or
by how much was read at a time, so that a repetition decides alike."""
PROBLEMS_MAX: Final = 100
_ARRIVAL: Final = operator.itemgetter(0)


class Window(NamedTuple):
    """What arrived in one stretch of ``STEP_NS``: of each file, by number, its own records in order."""

    until_ns: int
    """All that arrived until then is in it, or was in one before."""
    files: list[tuple[int, list[Record]]]


class _Waiting:
    """What was read of one file and is not passed on yet."""

    __slots__ = ("at", "newest_ns", "records", "times")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.times: list[int] = []
        """When each arrived; never falling, as a file's order is its own."""
        self.at = 0
        """How many of them were passed on."""
        self.newest_ns = 0

    @property
    def first_ns(self) -> int | None:
        return self.times[self.at] if self.at < len(self.times) else None

    def push(self, records: list[Record]) -> list[int]:
        """Take in more; their times."""
        times = list(itertools.accumulate(map(_ARRIVAL, records), max, initial=self.newest_ns))
        del times[0]
        self.newest_ns = times[-1]
        self.records = self.records[self.at :] + records
        self.times = self.times[self.at :] + times
        self.at = 0
        return times

    def take(self, end_ns: int) -> list[Record]:
        """Those that arrived before."""
        start, self.at = self.at, bisect.bisect_left(self.times, end_ns, self.at)
        return self.records[start : self.at]


class Merge:
    """The records of all files of a part in order of arrival, in windows of ``STEP_NS``.

    Within a window the files stand one after the other: tracks have nothing to say to each other until it is decided
    what is written, which is done between windows.
    """

    def __init__(self) -> None:
        self.late = 0
        """Records that came after later ones had been passed on: the disk stalled for longer than is waited."""
        self.released_ns = 0
        """All before this was passed on."""
        self._files: dict[int, _Waiting] = {}
        self._newest_ns = 0

    def push(self, found: list[tuple[int, list[Record]]], skipped: frozenset[int] = frozenset()) -> Iterator[Window]:
        """Take in what one poll of the spool returned; what may be passed on, in order. ``skipped``: not read."""
        grown = set(skipped)
        for number, records in found:
            waiting = self._files.setdefault(number, _Waiting())
            self.late += bisect.bisect_left(waiting.push(records), self.released_ns)
            grown.add(number)
        newest = [self._files[number].newest_ns for number in grown]
        self._newest_ns = max(self._newest_ns, max(newest, default=0))
        # A file that gave nothing is read to its end; of the others there may be more that is not read yet.
        until_ns = min(self._newest_ns - MERGE_HOLD_NS, min(newest, default=self._newest_ns))
        return self._release(until_ns - until_ns % STEP_NS)  # whole windows, however much of them was read at a time

    def finish(self) -> Iterator[Window]:
        """All that is left: the files are complete."""
        return self._release(self._newest_ns + 1)

    def ahead(self) -> frozenset[int]:
        """Files that need not be read for now."""
        far = self.released_ns + AHEAD_MAX_NS
        return frozenset(
            number
            for number, waiting in self._files.items()
            if waiting.newest_ns > far and waiting.first_ns is not None
        )

    def _release(self, until_ns: int) -> Iterator[Window]:
        files = sorted(self._files.items())
        while True:
            first_ns = min((each for _, waiting in files if (each := waiting.first_ns) is not None), default=until_ns)
            if first_ns >= until_ns:
                break
            end_ns = min(first_ns - first_ns % STEP_NS + STEP_NS, until_ns)
            taken = [(number, records) for number, waiting in files if (records := waiting.take(end_ns))]
            yield Window(end_ns - 1, taken)
        self.released_ns = max(self.released_ns, until_ns)


class PartCore:
    """Turns a part's records, in order of arrival, into runs."""

    def __init__(self, header: PartHeader) -> None:
        self.header = header
        self.tracks: dict[int, Track] = {}
        self.problems: list[str] = []
        """What is wrong with the part itself, for the manifest."""
        self.now_ns = header.started_monotonic_ns
        self._senders: dict[int, SenderClock] = {}
        self._counter = RunCounter()
        self._lanes: dict[tuple[int, str], Lane] = {}
        self._active: list[Track] = []

    def push(self, windows: Iterable[Window]) -> Iterator[Action]:
        """Take in windows of records, in order; what is to be written after each."""
        for until_ns, files in windows:
            for number, records in files:
                track = self.tracks.get(number) or self._begin(number, records[0])
                if track is not None:
                    track.push(records)
            self.now_ns = max(self.now_ns, until_ns)
            for each in self._active:
                if each.reorder.waiting:
                    each.drain(self.now_ns)
            self._active = [each for each in self._active if not each.ended]
            for lane in self._lanes.values():
                yield from lane.advance(self.now_ns)

    def finish(self) -> Iterator[Action]:
        """No more records will come."""
        for track in self._active:
            track.drain(self.now_ns, final=True)
            track.ended = True
        for lane in self._lanes.values():
            yield from lane.advance(self.now_ns, final=True)

    def problem(self, text: str) -> None:
        """Note what is wrong, once."""
        if text not in self.problems and len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)

    def wall_ms(self, time_ns: int) -> int:
        """Wall time of a time in the spool."""
        return self.header.started_wall_ms + (time_ns - self.header.started_monotonic_ns) // 1_000_000

    def _begin(self, number: int, first: Record) -> Track | None:
        """The track that a file's first record declares."""
        try:
            if not isinstance(first, TrackEventRecord) or first.event != "track":
                raise ValueError(f"file {number} does not begin with its track")
            track = Track(number, first, self._senders)
        except ValueError as error:
            self.problem(str(error))
            return None
        self.tracks[number] = track
        self._active.append(track)
        key = (track.user_id, "screen" if track.source == "screen" else "main")
        lane = self._lanes.setdefault(key, Lane(track.user_id, self._counter))
        lane.add(track)
        return track

    def described(self) -> dict[str, Any]:
        """Tracks, clocks, gaps and mutes for the manifest."""
        users = {participant.user_id: participant.public_id for participant in self.header.participants}
        gaps: dict[int, list[Gap]] = {}
        for lane in self._lanes.values():
            for gap in lane.gaps:
                gaps.setdefault(gap.track, []).append(gap)
        tracks = [self._track(track, users.get(track.user_id, ""), gaps) for track in self.tracks.values()]
        return {
            "tracks": tracks,
            "frames_without_key": sum(lane.unplayable for lane in self._lanes.values()),
            "sound_overlapping_packets": sum(lane.overlapping for lane in self._lanes.values()),
            "sound_filled_ms": sum(lane.silence_ms for lane in self._lanes.values()),
            "frames_beyond_files": sum(lane.shut_out for lane in self._lanes.values()),
            "problems": list(self.problems),
        }

    def _track(self, track: Track, participant: str, gaps: dict[int, list[Gap]]) -> dict[str, Any]:
        holes = [
            {"from_ms": self.wall_ms(g.from_ns), "to_ms": self.wall_ms(g.to_ns)} for g in gaps.get(track.number, [])
        ]
        anchors = [{**dataclasses.asdict(each), "at_ms": self.wall_ms(each.arrival_ns)} for each in track.anchors]
        return {
            **track.described(),
            "participant": participant,
            "declared_at_ms": self.wall_ms(track.declared_ns),
            "mutes": [{"at_ms": self.wall_ms(at), "muted": muted} for at, muted in track.mutes],
            "gaps": holes,
            "anchors": anchors,
        }
