"""One part of a recording (one room epoch) as a core without I/O: spool records in, what is to be muxed out.

Everything is decided from the records and their arrival times, so a recorder that was killed and starts over
makes exactly the same files.
"""

from __future__ import annotations

import dataclasses
import operator
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

from recorder.lane import Action, Gap, Lane, RunCounter
from recorder.timeline import SenderClock
from recorder.track import Track
from relay.spool import PartHeader, Record, RtpRecord, SenderReportRecord, TrackEventRecord

MERGE_HOLD_NS: Final = 1_500_000_000
"""Records are held this long for earlier ones of other files, which the writer may not have flushed yet."""
AHEAD_MAX_NS: Final = 10_000_000_000
"""A file that was read this far ahead of the others is left alone for a while."""
STEP_NS: Final = 100_000_000
"""How often, in time of arrival, it is decided what is to be written: once for many packets, and never by the clock, so
that a repetition decides alike."""
PROBLEMS_MAX: Final = 100
_PLACE: Final = operator.itemgetter(0, 1)


class Merge:
    """The records of all files of a part in order of arrival."""

    def __init__(self) -> None:
        self.late = 0
        """Records that came after later ones had been passed on: the disk stalled for longer than is waited."""
        self.released_ns = 0
        self._files: dict[int, deque[tuple[int, int, Record]]] = {}
        self._last_ns: dict[int, int] = {}
        self._newest_ns = 0

    def push(self, found: list[tuple[int, Record]], skipped: frozenset[int] = frozenset()) -> list[tuple[int, Record]]:
        """Take in what one poll of the spool returned; what may be passed on, in order. ``skipped``: not read."""
        grown = set(skipped)
        last, released = self._last_ns, self.released_ns
        for number, record in found:
            time_ns = record.arrival_ns
            if number not in grown:
                grown.add(number)
                last.setdefault(number, 0)
                self._files.setdefault(number, deque())
            if time_ns < last[number]:
                time_ns = last[number]
            else:
                last[number] = time_ns
            if time_ns < released:
                self.late += 1
            self._files[number].append((time_ns, number, record))
        self._newest_ns = max([self._newest_ns, *(last[number] for number in grown)])
        # A file that gave nothing is read to its end; of the others there may be more that is not read yet.
        until = min([self._newest_ns - MERGE_HOLD_NS, *(self._last_ns[number] for number in grown)])
        return self._release(until)

    def finish(self) -> list[tuple[int, Record]]:
        """All that is left: the files are complete."""
        return self._release(self._newest_ns)

    def ahead(self) -> frozenset[int]:
        """Files that need not be read for now."""
        far = self.released_ns + AHEAD_MAX_NS
        return frozenset(number for number, waiting in self._files.items() if waiting and self._last_ns[number] > far)

    def _release(self, until_ns: int) -> list[tuple[int, Record]]:
        out: list[tuple[int, int, Record]] = []
        for waiting in self._files.values():
            while waiting and waiting[0][0] <= until_ns:
                out.append(waiting.popleft())
        out.sort(key=_PLACE)  # stable: a file's own order stays
        self.released_ns = max(self.released_ns, until_ns)
        return [(number, record) for _, number, record in out]


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
        self._next_step_ns = 0

    def push_all(self, records: Iterable[tuple[int, Record]]) -> Iterator[Action]:
        """Take in records one after the other, as ``push`` does."""
        tracks = self.tracks
        for number, record in records:
            track = tracks.get(number)
            if track is None or not isinstance(record, RtpRecord):
                yield from self.push(number, record)
                continue
            arrival_ns, packet = record
            if arrival_ns > self.now_ns:
                self.now_ns = arrival_ns
            track.rtp(arrival_ns, packet)
            if self.now_ns >= self._next_step_ns:
                yield from self._step()

    def push(self, number: int, record: Record) -> Iterable[Action]:
        """Take in one record; what is to be written now."""
        if record.arrival_ns > self.now_ns:
            self.now_ns = record.arrival_ns
        track = self.tracks.get(number)
        if isinstance(record, RtpRecord) and track is not None:
            track.rtp(record.arrival_ns, record.packet)
        else:
            self._push_other(number, track, record)
        if self.now_ns < self._next_step_ns:
            return ()
        return self._step()

    def _push_other(self, number: int, track: Track | None, record: Record) -> None:
        match record:
            case TrackEventRecord(event="track") if track is None:
                self._declare(number, record)
            case _ if track is None:
                self.problem(f"file {number} does not begin with its track")
            case SenderReportRecord():
                track.sender_report(record)
            case TrackEventRecord():
                track.event(record)

    def _step(self) -> Iterator[Action]:
        self._next_step_ns = self.now_ns - self.now_ns % STEP_NS + STEP_NS
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

    def _declare(self, number: int, record: TrackEventRecord) -> None:
        try:
            track = Track(number, record, self._senders)
        except ValueError as error:
            self.problem(str(error))
            return
        self.tracks[number] = track
        self._active.append(track)
        key = (track.user_id, "screen" if track.source == "screen" else "main")
        lane = self._lanes.setdefault(key, Lane(track.user_id, self._counter))
        lane.add(track)

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
