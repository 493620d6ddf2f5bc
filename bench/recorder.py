"""What recording costs (``make bench-recorder``): live, and offline beside aiortc's MediaRecorder. JSON comes last.

*Live*: one-to-one calls, each side sending VP8 640×480 at 30 frames a second (about 1.25 Mb/s, real, encoded once) and
opus, are spooled at the pace of a call by the relay's own writer, and recorded by the recorder role: read, muxed,
encrypted, hashed, stored, read back, verified, signed. Counted is the CPU time of the writer (less that of the same
loop without a spool), of the recorder and of PostgreSQL, over the time of the call. It is done with few calls and with
many: ``max_live_recordings_one_core`` follows from the slope between the two.

*Offline*: one participant's spool, by our job and by MediaRecorder, one after the other, as CPU time of all threads.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.machine import announce, say
from bench.recorder_media import Sent, call_packets
from bench.recorder_mediarecorder import media_recorder
from bench.recorder_world import Call, Speaker, World, as_line, cpu_s, family_cpu_s, tracks_of, world
from recorder.job import PartJob
from relay.spool import SpoolWriter

TICK_S = 0.005
BASELINE_S = 10.0
READY_TIMEOUT_S = 120.0


class Live(NamedTuple):
    """CPU seconds that some live calls took."""

    calls: int
    seconds: float
    spool_s: float
    recorder_s: float
    postgres_s: float
    lag_s: float
    """From the end of the calls until all were stored, verified and signed."""

    @property
    def total_s(self) -> float:
        return self.spool_s + self.recorder_s + self.postgres_s

    def percent(self, part_s: float) -> float:
        """Of one core, for one call."""
        return 100 * part_s / (self.calls * self.seconds)

    def told(self) -> str:
        parts = {"spool": self.spool_s, "recorder": self.recorder_s, "postgres": self.postgres_s}
        each = ", ".join(f"{name} {self.percent(value):.2f}" for name, value in parts.items())
        return f"{self.calls} calls: {self.percent(self.total_s):.2f} % of a core each ({each}); lag {self.lag_s:.1f} s"


def feed(speakers: Sequence[Speaker], seconds: float) -> float:
    """Send in the pace of a call; the CPU time of this process meanwhile."""
    before, until = time.process_time(), time.monotonic() + seconds
    while time.monotonic() < until:
        now_ns = time.monotonic_ns()
        for speaker in speakers:
            speaker.advance(now_ns)
        time.sleep(TICK_S)
    return time.process_time() - before


def _silent(_stream: int, _arrival_ns: int, _packet: bytes) -> None:
    """Where packets go in the loop that is subtracted."""


async def live(bench: World, calls: list[Call], packets: list[Sent], seconds: float) -> Live:
    """Record so many calls at once."""
    idle_per_s = 0.0
    with SpoolWriter() as writer:
        async with bench.recorder() as recorder:
            await asyncio.sleep(3)  # it has started, and what that took is not counted
            recorder_before, postgres_before = cpu_s(recorder.pid), family_cpu_s(bench.postgres_pid)
            parts = [
                await asyncio.wrap_future(writer.open_part(bench.settings.spool_dir, call.header, call.data_key))
                for call in calls
            ]
            now_ns = time.monotonic_ns()
            speakers = [
                Speaker(tracks_of(call.header, part, now_ns), packets, now_ns + number * 7_000_000)
                for number, (call, part) in enumerate(zip(calls, parts, strict=True))
            ]
            spool_s = await asyncio.to_thread(feed, speakers, seconds)
            ended = time.monotonic()
            say(f"recorder when the calls end: {cpu_s(recorder.pid) - recorder_before:.2f} s")
            before = time.process_time()
            for speaker in speakers:
                speaker.end(time.monotonic_ns())
            for part in parts:
                await asyncio.wrap_future(writer.close_part(part))
            spool_s += time.process_time() - before
            await bench.end(calls)
            await bench.ready(calls, READY_TIMEOUT_S)
            lag_s = time.monotonic() - ended
            recorder_s = cpu_s(recorder.pid) - recorder_before
            postgres_s = family_cpu_s(bench.postgres_pid) - postgres_before
        now_ns = time.monotonic_ns()
        for speaker in speakers:
            speaker.tap = [[_silent, _silent] for _ in speaker.tap]
            speaker.rewind(now_ns)
        idle_per_s = await asyncio.to_thread(feed, speakers, BASELINE_S) / BASELINE_S
    return Live(len(calls), seconds, spool_s - idle_per_s * seconds, recorder_s, postgres_s, lag_s)


async def spooled(bench: World, packets: list[Sent], seconds: float) -> tuple[Call, Path]:
    """One participant's part, complete, as fast as it can be written."""
    call = await bench.call(participants=1)
    with SpoolWriter() as writer:
        part = await asyncio.wrap_future(writer.open_part(bench.settings.spool_dir, call.header, call.data_key))
        start_ns = call.header.started_monotonic_ns
        speaker = Speaker(tracks_of(call.header, part, start_ns), packets, start_ns)
        for second in range(int(seconds)):
            for step in range(50):
                speaker.advance(start_ns + second * 1_000_000_000 + step * 20_000_000)
            await asyncio.sleep(0.25)  # the writer's thread makes its blocks as often as in a call of this pace
        speaker.end(start_ns + int(seconds * 1e9))
        await asyncio.wrap_future(writer.close_part(part))
    return call, part.directory


async def offline(bench: World, packets: list[Sent], seconds: float, theirs_s: float) -> tuple[float, float]:
    """CPU seconds per second of media: (ours, MediaRecorder's)."""
    call, directory = await spooled(bench, packets, theirs_s)
    theirs = await media_recorder(
        directory, lambda _id, _wrapped: call.data_key, {"audio": 1, "video": 2}, bench.settings.data / "theirs.webm"
    )
    say(f"MediaRecorder: {theirs.cpu_s:.1f} s of CPU for {theirs_s:g} s of media, {theirs.bytes} bytes")
    warm, warm_directory = call, directory
    await bench.end([warm])
    await PartJob(warm_directory, bench.services).run()
    call, directory = await spooled(bench, packets, seconds)
    await bench.end([call])
    before = time.process_time()
    state = await PartJob(directory, bench.services).run()
    ours_s = time.process_time() - before
    say(f"ours: {ours_s:.2f} s of CPU for {seconds:g} s of media; {state}")
    return ours_s / seconds, theirs.cpu_s / theirs_s


async def measure(options: argparse.Namespace) -> dict[str, float | int]:
    """The whole run."""
    say("encoding")
    packets = call_packets(max(options.seconds, options.offline, options.theirs) + 1)
    rate = sum(len(each.data) for each in packets) * 8 / packets[-1].at_ms
    say(f"each side: {rate:.0f} kb/s, {len(packets) / packets[-1].at_ms * 1000:.0f} packets a second")
    async with world() as bench:
        runs = []
        for count in (options.few, options.many):
            calls = [await bench.call() for _ in range(count)]
            runs.append(await live(bench, calls, packets, options.seconds))
            say(runs[-1].told())
        ours, theirs = await offline(bench, packets, options.offline, options.theirs)
    few, many = runs
    slope = (many.total_s - few.total_s) / ((many.calls - few.calls) * options.seconds)
    fixed = few.total_s / options.seconds - few.calls * slope
    say(f"slope {100 * slope:.3f} % of a core a call, fixed {100 * fixed:.2f} %; the most recordings follow from these")
    return {
        "ours_percent": round(many.percent(many.total_s), 2),
        "ours_cpu_per_media_s": round(ours, 5),
        "mediarecorder_cpu_per_media_s": round(theirs, 3),
        "ratio": round(theirs / ours, 1),
        "max_live_recordings_one_core": int((1 - max(0.0, fixed)) / slope),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40, help="length of the live calls")
    parser.add_argument("--few", type=int, default=4, help="live calls of the first run")
    parser.add_argument("--many", type=int, default=16, help="live calls of the second run")
    parser.add_argument("--offline", type=float, default=40, help="seconds of media for our offline run")
    parser.add_argument("--theirs", type=float, default=15, help="seconds of media for MediaRecorder")
    options = parser.parse_args()
    announce("av", "cryptography", "aiortc")
    print(as_line(asyncio.run(measure(options))), flush=True)


if __name__ == "__main__":
    main()
