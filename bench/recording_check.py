"""Recordings of beeps and flashes through bad networks (``make test-recording``): one JSON row per case.

Two clients of this project talk through a whole installation, their datagrams through ``bench.netproxy``. Each side's
recording is fetched as a compliance officer does, decoded from its first packet to its last with PyAV, played and
sought in Chromium, and held against what the sender put into it: how far sound and picture moved apart
(``skew_ms``, the most of any event), how many events are there (``events``), how long it is (``duration_off_ms``, the
most of any connection). Status 1 where a case misses what is wanted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from bench.beeps import EVENT_NS, EventTrack, Found, Marks, look
from bench.browser import chromium_version
from bench.installation import Installation, open_recording, sign_in
from bench.machine import announce, say
from bench.netlink import CLEAN, Conditions
from bench.netproxy import Proxy
from bench.person import TROUBLE, Refused
from bench.recorded_calls import Side, begin, consent_version
from bench.recording_play import played

LOSS5: Final = Conditions(loss=0.05, delay_ms=25)
JITTER: Final = Conditions(jitter_ms=150, delay_ms=25)
READY_S: Final = 60.0
EDGE_NS: Final = 300_000_000
"""Events so near to the end of a connection may be cut by it."""
MATCH_MS: Final = 400.0
SKEW_MS: Final = {"loss5": 80.0}
SKEW_CLEAN_MS: Final = 40.0
EVENTS: Final = {"loss5": 0.97}
EVENTS_CLEAN: Final = 0.99
DURATION_MS: Final = 100.0
KILL_MS: Final = 1_000.0
"""What may be missing of a connection whose worker was killed."""


@dataclass
class Call:
    """One call under way."""

    turnpike: Installation
    proxy: Proxy
    client: Side
    provider: Side
    session_id: str
    seconds: float
    cut_ns: int = 0
    """When the worker was killed, on the monotonic clock."""

    def network(self, conditions: Conditions) -> None:
        for line in self.proxy.lines.values():
            line.set(conditions, conditions)

    def track(self, side: Side, source: Any) -> EventTrack:
        assert side.client is not None
        found = side.client.sent[source]
        assert isinstance(found, EventTrack)
        return found


_TOLD: Final = ("source", "packets", "lost", "late", "malformed", "frames", "dropped_frames", "clock_steps")
Case = Callable[[Call], Awaitable[None]]


async def _clean(call: Call) -> None:
    await asyncio.gather(*(side.join(call.session_id) for side in (call.client, call.provider)))
    await asyncio.sleep(call.seconds)


async def _loss5(call: Call) -> None:
    call.network(LOSS5)
    await _clean(call)


async def _jitter(call: Call) -> None:
    call.network(JITTER)
    await _clean(call)


async def _late(call: Call) -> None:
    await call.client.join(call.session_id)
    await asyncio.sleep(4)
    await call.provider.join(call.session_id)
    await asyncio.sleep(call.seconds)


async def _mute(call: Call) -> None:
    """The microphone is silent for three seconds: nothing at all is sent, as with DTX."""
    await asyncio.gather(*(side.join(call.session_id) for side in (call.client, call.provider)))
    await asyncio.sleep(call.seconds / 3)
    call.track(call.client, "microphone").paused = True
    await asyncio.sleep(3)
    call.track(call.client, "microphone").paused = False
    await asyncio.sleep(call.seconds * 2 / 3)


async def _rejoin(call: Call) -> None:
    await asyncio.gather(*(side.join(call.session_id) for side in (call.client, call.provider)))
    await asyncio.sleep(call.seconds / 2)
    await call.client.leave()
    await asyncio.sleep(2)
    await call.client.join(call.session_id)
    await asyncio.sleep(call.seconds / 2)


async def _layer(call: Call) -> None:
    """The client's camera comes in two encodings, the larger one only after a while: the recording goes over to it.
    The provider's encoder changes to a smaller picture and back, with a key frame each."""
    await call.provider.join(call.session_id)
    await call.client.join(call.session_id, layered=True, start=False)
    call.track(call.client, "camera").paused = True
    call.client.start()
    for size in ((160, 120), (320, 240), (640, 480)):
        await asyncio.sleep(call.seconds / 4)
        call.track(call.provider, "camera").size = size
        call.track(call.client, "camera").paused = False
    await asyncio.sleep(call.seconds / 4)


async def _moved(call: Call) -> None:
    """kill -9 of the worker: both connect to the other one."""
    sides = (call.client, call.provider)
    await asyncio.gather(*(side.join(call.session_id) for side in sides))
    await asyncio.sleep(call.seconds / 2)
    worker = await call.turnpike.worker_of_room()
    pid = await call.turnpike.pid_of(worker)
    call.cut_ns = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)
    epochs = {side: side.epoch for side in sides}
    async with asyncio.timeout(30):
        await asyncio.gather(*(_again(side, call.session_id, epochs[side]) for side in sides))
    await asyncio.sleep(call.seconds / 2)


async def _again(side: Side, session_id: str, epoch: int) -> None:
    while side.views[session_id]["room_epoch"] <= epoch:  # noqa: ASYNC110 - told over a socket
        await asyncio.sleep(0.05)
    await side.leave()
    while True:
        try:
            await side.join(session_id)
            return
        except (Refused, *TROUBLE):
            await asyncio.sleep(0.3)


CASES: Final[dict[str, Case]] = {
    "clean": _clean,
    "loss5": _loss5,
    "jitter": _jitter,
    "late_joiner": _late,
    "mute_gap": _mute,
    "rejoin": _rejoin,
    "layer_change": _layer,
    "room_moved": _moved,
}


async def ready(http: aiohttp.ClientSession, turnpike: Installation, session_id: str) -> tuple[str, list[Any]]:
    """The recording's id and its streams as a compliance officer may play them, with their bytes."""
    why = "Checking a recording against its senders"
    _, recording, grant = await open_recording(http, turnpike.url, session_id, why, READY_S)
    streams = grant["streams"]
    async with http.get(turnpike.url + grant["manifest_url"]) as answer:
        told = await answer.json()
    for part in told.get("parts", [told]):
        for track in part.get("tracks", ()):
            say("  " + ", ".join(f"{name} {track[name]}" for name in _TOLD if track.get(name)))
    for stream in streams:
        async with http.get(turnpike.url + stream["url"]) as answer:
            answer.raise_for_status()
            stream["data"] = await answer.read()
    return str(recording["started_at_ms"]), streams


@dataclass
class Judged:
    """One side's recording against its sender."""

    skew_ms: float = 0.0
    expected: int = 0
    found: int = 0
    duration_off_ms: float = 0.0
    files: int = 0


def judge(side: Side, started_at_ms: float, streams: list[Any], looks: list[Found], cut_ns: int) -> Judged:
    """``cut_ns``: when the worker died, in the sender's time; 0: it did not."""
    out, marks = Judged(files=len(streams)), side.marks
    flashes: list[tuple[float, float]] = []
    beeps: list[tuple[float, float]] = []
    for stream, found in zip(streams, looks, strict=True):
        offset_ms = started_at_ms + stream["offset_ms"] - side.zero_wall_ms
        flashes += [(offset_ms + each, each) for each in found.flashes]
        beeps += [(offset_ms + each, each) for each in found.beeps]
    for number in sorted(marks.flashes.keys() & marks.beeps.keys()):
        if not _within(marks, number * EVENT_NS, cut_ns):
            continue
        out.expected += 1
        flash = _nearest(flashes, marks.flashes[number] / 1e6)
        beep = _nearest(beeps, marks.beeps[number] / 1e6)
        if flash is None or beep is None:
            continue
        out.found += 1
        apart_ms = (flash - beep) - (marks.flashes[number] - marks.beeps[number]) / 1e6
        out.skew_ms = max(out.skew_ms, abs(apart_ms))
    out.duration_off_ms = _durations(marks, streams, looks, cut_ns)
    return out


def _within(marks: Marks, at_ns: int, cut_ns: int) -> bool:
    """Whether an event was sent well inside a connection, and not to a dead worker."""
    for first_ns, last_ns in marks.spans:
        if cut_ns and first_ns < cut_ns < last_ns:
            last_ns = cut_ns - round(KILL_MS * 1e6)
        if first_ns <= at_ns <= last_ns - EDGE_NS:
            return True
    return False


def _nearest(found: list[tuple[float, float]], at_ms: float) -> float | None:
    near = min((each for each, _ in found), key=lambda each: abs(each - at_ms), default=None)
    return near if near is not None and abs(near - at_ms) <= MATCH_MS else None


def _durations(marks: Marks, streams: list[Any], looks: list[Found], cut_ns: int) -> float:
    """The most that what was recorded of a connection is shorter or longer than what was sent in it."""
    sent = 0.0
    for first_ns, last_ns in marks.spans:
        sent += (cut_ns if cut_ns and first_ns < cut_ns < last_ns else last_ns) / 1e6 - first_ns / 1e6
    kept = sum(found.duration_ms for found in looks)
    return abs(kept - sent)


async def check(name: str, turnpike: Installation, seconds: float, play: bool) -> dict[str, Any]:
    """Run one case; its row."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        proxy = await stack.enter_async_context(Proxy(name, ("client", "provider")))
        sides = []
        for role in ("client", "provider"):
            headers, account = await sign_in(http, turnpike.url, role)
            token = headers["Authorization"].removeprefix("Bearer ")
            side = Side(turnpike.url, role, {"id": account["id"], "token": token}, http, proxy)
            await side.connect()
            stack.push_async_callback(side.close)
            sides.append(side)
        client, provider = sides
        version = await consent_version(http, turnpike.url, token)
        for line in proxy.lines.values():
            line.set(CLEAN, CLEAN)
        session_id = await begin(client, provider, version, f"check-{name}-{time.time_ns()}")
        call = Call(turnpike, proxy, client, provider, session_id, seconds)
        await CASES[name](call)
        for side in sides:
            await side.leave()
        await client.ask("POST", f"/sessions/{session_id}/end")
        started_at_ms, streams = await ready(http, turnpike, session_id)
    return await _row(name, call, float(started_at_ms), streams, play)


async def _row(name: str, call: Call, started_at_ms: float, streams: list[Any], play: bool) -> dict[str, Any]:
    looks = [look(stream["data"]) for stream in streams]
    total = Judged()
    for side in (call.client, call.provider):
        own = [n for n, stream in enumerate(streams) if stream["participant_id"] == side.id]
        cut_ns = call.cut_ns - side.zero_ns if call.cut_ns else 0
        judged = judge(side, started_at_ms, [streams[n] for n in own], [looks[n] for n in own], cut_ns)
        say(f"  {side.name}: {judged}, {[looks[n].frames for n in own]} frames; sent {side.sent}")
        total.skew_ms = max(total.skew_ms, judged.skew_ms)
        total.duration_off_ms = max(total.duration_off_ms, judged.duration_off_ms)
        total.expected += judged.expected
        total.found += judged.found
        total.files += judged.files
    allowed_ms = DURATION_MS + (KILL_MS if call.cut_ns else 0)
    shown = await played([(s["data"], s["content_type"]) for s in streams]) if play else []
    row: dict[str, Any] = {
        "case": name,
        "files": total.files,
        "skew_ms": round(total.skew_ms, 1),
        "events": round(total.found / max(1, total.expected), 4),
        "events_expected": total.expected,
        "duration_off_ms": round(total.duration_off_ms, 1),
        "sizes": sorted({f"{w}x{h}" for found in looks for w, h in found.sizes}),
        "played": not shown or all(each["ok"] for each in shown),
    }
    for each in shown:
        if not each["ok"]:
            say(f"  Chromium: {each}")
    row["ok"] = (
        row["skew_ms"] <= SKEW_MS.get(name, SKEW_CLEAN_MS)
        and row["events"] >= EVENTS.get(name, EVENTS_CLEAN)
        and row["duration_off_ms"] <= allowed_ms
        and row["played"]
        and total.expected > 0
    )
    return row


async def run(names: list[str], seconds: float, play: bool) -> bool:
    """All cases on one installation; whether all are as wanted."""
    good = True
    async with Installation(env={"TURNPIKE_WORKERS": "2", "TURNPIKE_SPOOL_FREE_MIN_BYTES": "0"}) as turnpike:
        try:
            for name in names:
                say(name)
                row = await check(name, turnpike, seconds, play)
                print(json.dumps(row), flush=True)
                good = good and row["ok"]
        except Exception:
            print(turnpike.log_tail(60), file=sys.stderr)
            raise
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of: {' '.join(CASES)}")
    parser.add_argument("--seconds", type=float, default=12, help="of talk in each case")
    parser.add_argument("--no-chromium", action="store_true", help="do not play the files in a browser")
    options = parser.parse_args()
    announce("av", Chromium=None if options.no_chromium else chromium_version())
    good = asyncio.run(run(options.cases or list(CASES), options.seconds, not options.no_chromium))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
