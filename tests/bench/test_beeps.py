"""The measurement of recordings, measured: events that were sent are found where they were sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.beeps import EventTrack, Found, Marks, look
from bench.chaos_recording import LeanTrack, stamp_in
from bench.media_tracks import SentTrack
from bench.recorded_calls import Side
from bench.recording_check import judge
from relay.spool import SpoolTrack
from tests.recorder.media import START_NS, START_WALL_MS, Scene
from tests.recorder.scenes import KEY, mux

SECOND = 1_000_000_000


def track(source: str, marks: Marks) -> EventTrack:
    is_video = source == "camera"
    plain = SentTrack(source, "0", 1 + is_video, 9, 96 if is_video else 111, None, 90_000 if is_video else 48_000)  # type: ignore[arg-type]
    return EventTrack.of(plain, START_NS, marks)


def recorded(folder: Path, seconds: float, picture_late_ms: float = 0.0) -> tuple[Marks, bytes]:
    """What two tracks send, spooled as it is sent, as a file; the picture says it is later than it is."""
    marks = Marks(spans=[[0, 0]])
    scene = Scene(folder, KEY)
    for source in ("microphone", "camera"):
        sender = track(source, marks)
        kind = "video" if source == "camera" else "audio"
        stream = scene.part.add_stream(
            SpoolTrack(
                user_id=7,
                source=source,
                ssrc=sender.ssrc,
                kind=kind,
                clock_rate=sender.clock_rate,
                codecs={sender.payload_type: "VP8" if kind == "video" else "opus"},
            ),
            START_NS,
        )
        sender.next_ns = START_NS
        while sender.next_ns < START_NS + seconds * SECOND:
            sender.next_ns += sender.interval_ns
            due_ns = sender.next_ns - sender.interval_ns
            for packet in sender.next_frame(due_ns, list):
                stream.rtp(due_ns + round((picture_late_ms if source == "camera" else 0) * 1e6), packet)
        scene.part.flush(sync=False)
    scene.close()
    return marks, mux(scene.directory).file()


def test_every_event_is_found_together_and_in_its_place(tmp_path: Path) -> None:
    marks, data = recorded(tmp_path, 4.0)
    found = look(data)
    assert sorted(marks.flashes) == sorted(marks.beeps) == [0, 1, 2, 3]
    assert [round(at, -2) for at in found.flashes] == [0, 1000, 2000, 3000]
    assert [round(at, -2) for at in found.beeps] == [0, 1000, 2000, 3000]
    assert max(abs(a - b) for a, b in zip(found.flashes, found.beeps, strict=True)) < 15
    assert (found.frames, found.sizes) == (100, {(320, 240)})


@pytest.mark.parametrize("late_ms", [0.0, 120.0])
def test_skew_is_judged_against_the_senders_time(tmp_path: Path, late_ms: float) -> None:
    """Without sender reports a picture that took longer on its way is out of step, and that shows."""
    marks, data = recorded(tmp_path, 4.0, late_ms)
    found = look(data)
    side = object.__new__(Side)
    side.marks, side.zero_wall_ms = marks, float(START_WALL_MS)
    marks.spans = [[0, 4 * SECOND]]
    judged = judge(side, float(START_WALL_MS), [{"offset_ms": 0}], [found], 0)
    assert (judged.expected, judged.found) == (4, 4)
    assert abs(judged.skew_ms - late_ms) < 15


def test_events_sent_to_a_dead_worker_are_not_expected() -> None:
    side = object.__new__(Side)
    side.zero_wall_ms = 0.0
    at = {number: number * SECOND for number in range(10)}
    side.marks = Marks(dict(at), dict(at), [[0, 6 * SECOND], [8 * SECOND, 10 * SECOND]])
    judged = judge(side, 0.0, [{"offset_ms": 0}], [Found()], 4 * SECOND)
    assert judged.expected == 3 + 2  # until a second before the death, and in the second connection


def test_stamps_are_found_in_packets() -> None:
    sender = LeanTrack("microphone", "0", 1, 2, 111, None, 48_000)
    packet = sender.next_frame(1234, list)[0]
    assert stamp_in(packet[12:]) == 1234
    assert stamp_in(b"\x78 nothing") is None
