"""Feeds the native plane mutated datagrams by the hundred million: ``python -m tests.fuzz.plane_native --count 1e8``.

The plane is compiled anew with address and undefined-behaviour checks, into ``.make/fuzz``, and run under their
runtime; between batches its owner does what rooms do: routes, layers, pauses, gates, probes, paces. A finding ends the
process with a report; the same ``--seed`` finds it again.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from relay.plane import RouteSpec, SrtpProfile, StreamSpec
from relay.rtcp import pack_nack, pack_picture_loss, pack_receiver_report
from relay.rtp import make_packet

ROOT = Path(__file__).parents[2]
BUILT = ROOT / ".make" / "fuzz"
SANITIZERS = "address,undefined"
BATCH = 200_000
TAG = bytes(16)


def build(*, sanitize: bool, together: bool) -> Path:
    """The compiled driver, built where its sources are newer. Raises what the compiler does."""
    target = BUILT / (("checked" if sanitize else "plain") + ("_together" if together else ""))
    target.mkdir(parents=True, exist_ok=True)
    with (target / "lock").open("w") as lock:  # several may begin at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _build(target, sanitize=sanitize, together=together)


def _build(target: Path, *, sanitize: bool, together: bool) -> Path:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    sources = [Path(__file__).parent / "plane_driver.pyx", *(ROOT / "relay" / "plane_native").glob("*.p*x*")]
    built = next(target.glob("plane_driver.*.so"), None)
    if built is not None and built.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return built
    checks = (
        [f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"] if sanitize else []
    )
    extension = Extension(
        "plane_driver",
        [str(sources[0])],
        extra_compile_args=["-O1", "-g1", "-Wno-unused-function", *checks],
        extra_link_args=checks[:1],
        define_macros=[("TURNPIKE_KEPT_TOGETHER", "1")] if together else [],
    )
    modules = cythonize(
        [extension],
        include_path=[str(ROOT / "relay" / "plane_native"), str(ROOT)],
        build_dir=str(target),
        quiet=True,
        force=True,
    )
    command = Distribution({"name": "plane_driver", "ext_modules": modules}).get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(target)  # type: ignore[union-attr]
    command.force = True  # type: ignore[union-attr]
    command.ensure_finalized()
    command.run()
    return next(target.glob("plane_driver.*.so"))


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("plane_driver", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seeds() -> list[bytes]:
    """One datagram of each kind, as it is meant to be; a tag stands behind what would be encrypted."""
    vp8 = b"\x90\xe0\x80\x11\x22\x40\x10\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01" + bytes(600)
    layers = [b"\x80\xe0\x80\x11\x22" + bytes((i << 6 | 0x20,)) + b"\x11" + bytes(300) for i in range(3)]
    h264 = [
        b"\x65" + bytes(900),
        b"\x78\x00\x02\x67\x01\x00\x02\x65\x01",
        b"\x7c\x85" + bytes(700),
        b"\x41" + bytes(50),
    ]
    extensions = [(3, b"\0\1"), (5, b"\x2a"), (6, bytes(3))]
    packets = [
        make_packet(payload_type=96, sequence=1, timestamp=1, ssrc=0x1111, payload=body, extensions=extensions)
        for body in (vp8, *layers, b"\x10\x10\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01", b"\x00\x55")
    ]
    packets += [
        make_packet(
            payload_type=98, sequence=1, timestamp=1, ssrc=0x2222, payload=body, extensions=extensions, marker=True
        )
        for body in h264
    ]
    packets += [
        make_packet(
            payload_type=97, sequence=1, timestamp=1, ssrc=0x1112, payload=b"\0\1" + vp8, extensions=extensions
        ),
        make_packet(payload_type=97, sequence=1, timestamp=1, ssrc=0x1112, payload=b"", padding=255),
        make_packet(payload_type=96, sequence=1, timestamp=1, ssrc=0x1111, payload=b"", padding=200),
        make_packet(payload_type=111, sequence=1, timestamp=1, ssrc=0x3333, payload=bytes(80), extensions=extensions),
        make_packet(payload_type=111, sequence=1, timestamp=1, ssrc=0x4444, payload=bytes(80)),
        make_packet(
            payload_type=96, sequence=1, timestamp=1, ssrc=0x1111, payload=vp8, extensions=[(20, bytes(200)), (5, b"")]
        ),
        make_packet(payload_type=96, sequence=1, timestamp=1, ssrc=0x1111, payload=vp8 + bytes(1_200), padding=9),
        pack_receiver_report(5) + pack_picture_loss(1, 2) + pack_nack(1, 2, [3, 4, 40]),
    ]
    return [packet + TAG for packet in packets] + [b"\x00\x01" + bytes(60), b"\x16\xfe\xfd" + bytes(100), b"\xff", b""]


class Owner:
    """Does to the plane what rooms do."""

    def __init__(self, plane: Any, dice: random.Random) -> None:
        self.plane, self.dice = plane, dice
        self.socket, _ = plane.bind(("127.0.0.1", 0))
        self.gate = plane.add_gate(open=True)
        self.addresses = [("127.0.0.1", 10_000 + i) for i in range(6)]
        self.transports = [self.connect(address) for address in self.addresses[:5]]  # the last is a stranger's
        self.streams: list[Any] = []
        self.routes: list[Any] = []
        for _ in range(8):
            self.rebuild()

    def connect(self, address: tuple[str, int]) -> Any:
        transport = self.plane.add_transport()
        self.plane.map_address(transport, self.socket, address)
        self.plane.set_remote(transport, self.socket, address)
        self.plane.set_keys(transport, SrtpProfile.AEAD_AES_128_GCM, bytes(28), bytes(28))
        return transport

    def rebuild(self) -> None:
        dice, plane = self.dice, self.plane
        owner = dice.choice(self.transports)
        ssrc, codecs = dice.choice(
            ((0x1111, {96: "VP8", 98: "H264"}), (0x2222, {98: "H264", 96: "VP8"}), (0x3333, {111: "opus"}))
        )
        spec = StreamSpec(
            ssrc,
            "audio" if ssrc == 0x3333 else "video",
            codecs,
            90_000,
            ssrc + 1,
            {97: 96},
            nack=True,
            transport_cc_id=dice.choice((3, 3, None)),
        )
        if len(self.streams) > 8:
            plane.remove_stream(self.streams.pop(dice.randrange(len(self.streams))))
        self.streams.append(plane.add_stream(owner, spec))
        live = [stream for stream in self.streams if self.alive(stream)]
        self.streams = live
        while len(self.routes) > 9:
            plane.remove_route(self.routes.pop(dice.randrange(len(self.routes))))
        number = dice.randrange(1 << 20)
        route = RouteSpec(
            number,
            dice.choice((None, number + (1 << 20))),
            {96: 120, 98: 122, 111: 109},
            {120: 121},
            dice.choice(({}, {5: 7, 6: 6}, {5: 7, 20: 20})),
            dice.choice(({}, {1: b"mid"}, {1: bytes(100)})),
            wait_for_key_frame=dice.random() < 0.3,
            transport_cc_id=dice.choice((None, 2, 15)),
        )
        for stream in dice.sample(live, min(3, len(live))):
            if dice.random() < 0.1:
                self.routes.append(plane.add_tap(stream, route, lambda *_: None))
            else:
                self.routes.append(plane.add_route(stream, dice.choice(self.transports), self.gate, route))

    def alive(self, stream: Any) -> bool:
        try:
            self.plane.stream_counters(stream)
        except KeyError:
            return False
        return True

    def decide(self) -> None:
        dice, plane = self.dice, self.plane
        route, stream = dice.choice(self.routes), dice.choice(self.streams)
        transport = dice.choice(self.transports)
        plane.switch_route(route, stream, dice.choice((None, 0, 90_000)))
        plane.set_route_layers(dice.choice(self.routes), dice.randrange(4))
        plane.pause_route(dice.choice(self.routes), paused=dice.random() < 0.1)
        plane.set_gate(self.gate, open=dice.random() < 0.95)
        plane.set_pace(transport, dice.choice((None, None, 200_000, 3_000_000)))
        plane.probe(dice.choice(self.routes), 2_000_000, 9_000, 1, plane.now_ns())
        plane.set_spool(stream, dice.choice((None, lambda *_: None)))
        plane.send_at(route, seeds()[0][: dice.randrange(12, 600)], plane.now_ns() + dice.randrange(50_000_000))
        plane.set_round_trip(transport, dice.randrange(1, 500) * 1_000_000)
        if dice.random() < 0.5:
            self.rebuild()
        if dice.random() < 0.02:
            self.reconnect()

    def reconnect(self) -> None:
        at = self.dice.randrange(len(self.transports))
        self.plane.remove_transport(self.transports[at])
        self.transports[at] = self.connect(self.addresses[at])
        self.routes = [route for route in self.routes if self.has(route)]
        self.streams = [stream for stream in self.streams if self.alive(stream)]
        for _ in range(3):
            self.rebuild()

    def has(self, route: Any) -> bool:
        try:
            self.plane.route_counters(route)
        except KeyError:
            return False
        return True


def fuzz(count: int, seed: int, path: Path) -> None:
    """Feed ``count`` datagrams, saying on stderr how far it is."""
    driver = load(path)
    random.seed(seed)
    plane = driver.FuzzedPlane()
    owner = Owner(plane, random.Random(seed))
    plane.prepare(owner.socket, seeds(), owner.addresses, seed * 2_654_435_761 + 1)
    fed, began, told = 0, time.monotonic(), 0.0
    while fed < count:
        batch = min(BATCH // 10 if fed % 3 else BATCH, count - fed)
        plane.run_some(owner.socket, batch)
        fed += batch
        for _ in range(4):
            owner.decide()
        if (now := time.monotonic()) - told > 10:
            told = now
            sys.stderr.write(f"{fed:,} datagrams, {fed / (now - began):,.0f} a second\n")
    drops = {reason.value: number for reason, number in plane.drops().items() if number}
    plane.close()
    sys.stdout.write(f"{fed:,} datagrams in {time.monotonic() - began:.0f} s, nothing found; drops {drops}\n")


def runtime() -> str | None:
    """The sanitizers' libraries for LD_PRELOAD; None: this compiler has none."""
    found = [
        subprocess.run(["cc", f"-print-file-name=lib{name}.so"], capture_output=True, text=True).stdout.strip()
        for name in ("asan", "ubsan")
    ]
    return " ".join(found) if all(Path(path).is_absolute() for path in found) else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=float, default=1e6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="without sanitizers: faster, and finds crashes only")
    parser.add_argument(
        "--together", action="store_true",
        help="keep packets in large pages, as a worker does, and not each in memory of its own",
    )  # fmt: skip
    args = parser.parse_args()
    if shutil.which("cc") is None:
        sys.stderr.write("No C compiler: the native plane is not fuzzed.\n")
        return 0
    libraries = None if args.plain else runtime()
    path = build(sanitize=libraries is not None, together=args.together)
    if libraries is None or "ASAN_OPTIONS" in os.environ:
        fuzz(int(args.count), args.seed, path)
        return 0
    environment = {
        **os.environ,
        "LD_PRELOAD": libraries,
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    command = [sys.executable, "-m", "tests.fuzz.plane_native", *sys.argv[1:]]
    return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
