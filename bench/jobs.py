"""What compositions and previews cost, and whether they stand back (``make bench-jobs``). JSON comes last.

*Cost*: CPU seconds per second of call, and the most memory, of a one-to-one call (VP8 640×480 with grain, opus), each
in a process of its own, for a short and a longer call: memory must not grow with the length.

*Standing back*: a loop of normal priority wakes every 20 ms and works 3 ms, as a worker does. How late it wakes is
measured with compositions going on and with the same ones stopped, in turns, so that whatever else the machine does is
in both.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from bench.machine import announce
from bench.recorder_media import picture, sound
from config.launch import die_with_parent
from config.process import stand_back
from recorder import preview
from recorder.compose import Person, compose
from recorder.compose_read import Clip
from recorder.job_work import NICENESS

PEOPLE = [Person(1, "Mira"), Person(2, "Ben")]
WHAT = ("side_by_side", "speaker", "audio", "waveform")
CLIP_MS = 10_000
WAKE_S, WORK_S = 0.02, 0.003


class Nowhere:
    """A sink that can be written to anywhere, and keeps nothing."""

    def __init__(self) -> None:
        self.at = self.end = 0

    def write(self, data: bytes) -> int:
        self.at += len(data)
        self.end = max(self.end, self.at)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.end}[whence]
        return self.at

    def tell(self) -> int:
        return self.at


def make_file(path: Path, seconds: int) -> None:
    """One participant's file: the same ten seconds again and again."""
    frames = [(True, each) for each in picture(CLIP_MS // 1000)] + [(False, each) for each in sound(CLIP_MS // 1000)]
    frames.sort(key=lambda each: each[1].at_ms)
    with av.open(str(path), "w", format="webm", options={"cluster_time_limit": "1000"}) as container:
        out: Any = container
        video = out.add_mux_stream("vp8", 30, width=640, height=480, time_base=Fraction(1, 1000))
        audio = out.add_stream("libopus", rate=48_000)
        for start_ms in range(0, seconds * 1000, CLIP_MS):
            for is_video, frame in frames:
                packet: Any = av.Packet(frame.data)
                packet.pts = packet.dts = round((start_ms + frame.at_ms) * 1000)
                packet.time_base, packet.is_keyframe = Fraction(1, 10**6), frame.key
                packet.stream = video if is_video else audio
                out.mux(packet)


def work(what: str, path: Path, seconds: int) -> None:
    """In a process of its own: do one, say what it took."""
    die_with_parent(signal.SIGKILL)
    stand_back(NICENESS)
    duration_ms, began = seconds * 1000, time.process_time()
    clips = [
        Clip(person.user_id, "camera", 0, duration_ms, video=True, audio=True, open=lambda: path.open("rb"))
        for person in PEOPLE
    ]
    if what == "waveform":
        preview.waveform([(person, str(person.user_id)) for person in PEOPLE], clips, duration_ms, lambda _: None)
    else:
        compose(Nowhere(), what, PEOPLE, clips, duration_ms, lambda _: None)
    took = (time.process_time() - began) / seconds
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps({"cpu_per_media_s": round(took, 4), "rss_mb": round(peak_mb, 1)}))


def begin(what: str, path: Path, seconds: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bench.jobs", "--work", what, "--file", str(path), "--seconds", str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)


def lateness(seconds: float) -> list[float]:
    """How late a loop wakes, in milliseconds: median, 95th and 99th of a hundred."""
    late, at, until = [], time.monotonic(), time.monotonic() + seconds
    while at < until:
        at += WAKE_S
        time.sleep(max(0.0, at - time.monotonic()))
        late.append((time.monotonic() - at) * 1000)
        done = time.perf_counter() + WORK_S
        while time.perf_counter() < done:
            pass
    late.sort()
    return [late[int(len(late) * share)] for share in (0.5, 0.95, 0.99)]


def standing_back(path: Path, seconds: int, count: int, rounds: int) -> dict[str, list[float]]:
    jobs = [begin("side_by_side", path, seconds) for _ in range(count)]
    found: dict[str, list[list[float]]] = {"stopped": [], "going": []}
    try:
        time.sleep(3)
        for _ in range(rounds):
            for name, sign in (("stopped", signal.SIGSTOP), ("going", signal.SIGCONT)):
                for job in jobs:
                    job.send_signal(sign)
                time.sleep(0.2)
                found[name].append(lateness(1.5))
    finally:
        for job in jobs:
            job.kill()
            job.wait()
    return {
        name: [round(statistics.median(each), 2) for each in zip(*rows, strict=True)] for name, rows in found.items()
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="length of the longer call; the short one is a fourth")
    parser.add_argument("--beside", type=int, default=4, help="compositions that go on while lateness is measured")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--work", choices=WHAT, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work, given.file, given.seconds)
        return 0
    announce("av")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="turnpike-bench-") as folder:
        path = Path(folder) / "one.webm"
        make_file(path, given.seconds)
        for what in WHAT:
            for seconds in (given.seconds // 4, given.seconds):
                answer = json.loads(begin(what, path, seconds).communicate()[0])
                print(f"{what}, {seconds} s of call: {answer}", file=sys.stderr)
            figures[what] = answer
        figures["late_ms"] = standing_back(path, given.seconds, given.beside, given.rounds)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
