"""Random traffic for a plane, from a seed, with everything that can be seen of it written down.

Two planes that are given the same seed must leave the same trace: every byte that leaves, every upcall, every counter,
every timer. ``python -m tests.relay.plane_traffic --seeds 1000`` looks further than the tests do.
"""

from __future__ import annotations

import argparse
import random
import socket
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace

from relay import plane_sockets
from relay.plane import GateHandle, RouteHandle, RouteSpec, SrtpProfile, StreamHandle, StreamSpec, TransportHandle
from relay.plane_choice import make_plane
from relay.rtcp import pack_nack, pack_picture_loss, pack_receiver_report
from relay.rtp import make_packet
from relay.srtp import SrtpContext

MS = 1_000_000
STARTS = (0, 1, 32_767, 32_768, 65_534, 65_535, 12_345)
TRANSPORTS = 5
CODECS = {96: "VP8", 98: "H264", 100: "AV1", 111: "opus"}

Trace = list[object]


@dataclass
class Far:
    """The far end of one transport, with keys that depend on its number alone."""

    index: int
    profile: SrtpProfile
    socket: socket.socket
    sending: SrtpContext
    transport: TransportHandle
    number: int
    """The next transport-wide number."""
    sequences: list[int] = field(default_factory=list)
    """Of packets that came, the newest last."""

    def protect(self, packet: bytes, *, rtcp: bool = False) -> bytes:
        return self.sending.protect_bytes(packet, rtcp=rtcp) or b""


@dataclass
class Source:
    """One stream of a publisher, and where it is in it."""

    owner: Far
    spec: StreamSpec
    stream: StreamHandle
    payload_type: int
    sequence: int
    timestamp: int
    picture: int
    tl0: int
    rtx_sequence: int
    recent: list[bytes] = field(default_factory=list)


@dataclass
class Sink:
    """One route."""

    owner: Far
    route: RouteHandle
    spec: RouteSpec
    is_tap: bool = False


class Traffic:
    """One plane under random traffic. ``dice`` is the traffic's own; the plane draws from ``random``."""

    def __init__(self, name: str, seed: int) -> None:
        random.seed(seed)
        self.plane = make_plane(name)
        self.dice = random.Random(seed)
        self.now_ns = 1_000_000 * MS + seed
        self.trace: Trace = []
        self.socket, self.address = self.plane.bind(("127.0.0.1", 0))
        self.far = [self._connect(i) for i in range(TRANSPORTS)]
        self.gates = [self.plane.add_gate(open=self.dice.random() < 0.9) for _ in range(2)]
        self.sources: list[Source] = []
        self.sinks: list[Sink] = []
        for _ in range(4):
            self.add_source()
        for _ in range(6):
            self.add_route()

    def _connect(self, index: int) -> Far:
        far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        far.bind(("127.0.0.1", 0))
        far.setblocking(False)
        profile = list(SrtpProfile)[index % 3]
        transport = self.plane.add_transport()
        self.plane.map_address(transport, self.socket, far.getsockname())
        self.plane.set_remote(transport, self.socket, far.getsockname())
        return Far(index, profile, far, self._key(transport, profile), transport, self.dice.choice(STARTS))

    def _key(self, transport: TransportHandle, profile: SrtpProfile) -> SrtpContext:
        size = profile.key_bytes + profile.salt_bytes
        receive_key, send_key = self.dice.randbytes(size), self.dice.randbytes(size)
        self.plane.set_keys(transport, profile, receive_key, send_key)
        return SrtpContext(profile, receive_key, inbound=False)

    def reconnect(self) -> None:
        """A page comes back: on another transport, or with other keys, or also from another address."""
        far, address = self.dice.choice(self.far), ("127.0.0.7", self.dice.randrange(1, 60))
        choice = self.dice.random()
        if choice < 0.3:
            self.plane.remove_transport(far.transport)
            far.transport = self.plane.add_transport()
            self.plane.map_address(far.transport, self.socket, far.socket.getsockname())
            self.plane.set_remote(far.transport, self.socket, far.socket.getsockname())
            self.sources = [source for source in self.sources if source.owner is not far]
            self.sinks = [sink for sink in self.sinks if sink.owner is not far or sink.is_tap]
        elif choice < 0.7:
            self.plane.map_address(far.transport, self.socket, address)
            return
        far.sending = self._key(far.transport, far.profile)

    # --- what is set up

    def add_source(self) -> None:
        dice = self.dice
        owner = dice.choice(self.far)
        ssrc = dice.randrange(0x1000, 0x1010)
        payload_type = dice.choice((96, 96, 96, 98, 100, 111))
        video = payload_type != 111
        spec = StreamSpec(
            ssrc=ssrc,
            kind="video" if video else "audio",
            codecs=CODECS,
            clock_rate=90_000 if video else 48_000,
            rtx_ssrc=ssrc + 0x1000 if video and dice.random() < 0.8 else None,
            rtx_payload_types={97: 96, 99: 98} if video else {},
            nack=video and dice.random() < 0.8,
            transport_cc_id=3 if dice.random() < 0.8 else None,
        )
        stream = self.plane.add_stream(owner.transport, spec)
        if dice.random() < 0.5:
            self.plane.set_spool(stream, self.spooled("spool"))
        self.sources = [s for s in self.sources if s.owner is not owner or s.spec.ssrc != ssrc]
        numbers = dice.choice(STARTS), dice.getrandbits(32), dice.getrandbits(15), dice.getrandbits(8)
        self.sources.append(Source(owner, spec, stream, payload_type, *numbers, dice.choice(STARTS)))

    def spooled(self, what: str) -> Callable[[StreamHandle, int, bytes], None]:
        def sink(stream: StreamHandle, arrival_ns: int, packet: bytes) -> None:
            self.trace.append((what, stream, arrival_ns, packet))

        return sink

    def route_spec(self) -> RouteSpec:
        dice = self.dice
        ssrc = dice.randrange(0x9000, 0x9008)
        rtx = dice.random() < 0.7
        return RouteSpec(
            ssrc=ssrc,
            rtx_ssrc=ssrc + 0x100 if rtx else None,
            payload_types={96: 120, 98: 122, 111: 109} if dice.random() < 0.8 else {96: 120, 100: 100},
            rtx_payload_types={120: 121, 122: 123} if rtx else {},
            extension_ids=dice.choice(({}, {5: 7}, {5: 7, 6: 6, 9: 20}, {5: 2, 7: 7})),
            set_extensions=dice.choice(({}, {1: b"m"}, {1: b"mid0"}, {1: b"long mid" * 3}, {17: b"x"})),
            wait_for_key_frame=dice.random() < 0.5,
            transport_cc_id=dice.choice((None, 2, 2, 15)),
        )

    def add_route(self) -> None:
        dice = self.dice
        if not self.sources:
            return
        source, spec = dice.choice(self.sources), self.route_spec()
        if dice.random() < 0.15:
            route = self.plane.add_tap(source.stream, spec, self.spooled("tap"))
            self.sinks.append(Sink(self.far[0], route, spec, is_tap=True))
            return
        owner = dice.choice(self.far)
        # Two routes under one SSRC of one transport would encrypt twice under one index.
        if all(spec.ssrc != sink.spec.ssrc or sink.owner is not owner for sink in self.sinks):
            gate = dice.choice(self.gates)
            self.sinks.append(Sink(owner, self.plane.add_route(source.stream, owner.transport, gate, spec), spec))

    # --- what comes in

    def payload(self, source: Source, *, key: bool, begins: bool) -> bytes:
        dice = self.dice
        body = dice.randbytes(dice.choice((3, 40, 1_000, 1_100, 1_100)))
        if dice.random() < 0.03:
            return body[: dice.randrange(6)]  # cut short, or not what it says
        if source.payload_type == 96:
            if dice.random() < 0.1:
                return (
                    bytes((0x10 if begins else 0, 0x10 if key else 0x11))
                    + b"\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01"
                    + body
                )
            bits = dice.choice((0xE0, 0xE0, 0xE0, 0x80, 0x60, 0xF0))
            long = dice.random() < 0.9
            temporal = 0 if key else dice.randrange(3)
            fields = b""
            if bits & 0x80:
                fields += (
                    (0x8000 | source.picture & 0x7FFF).to_bytes(2, "big") if long else bytes((source.picture & 0x7F,))
                )
            if bits & 0x40:
                fields += bytes((source.tl0 & 0xFF,))
            if bits & 0x30:
                fields += bytes((temporal << 6 | dice.getrandbits(1) << 5,))
            first = 0x90 if begins else 0x80
            return (
                bytes((first, bits))
                + fields
                + (b"\x10" if key else b"\x11")
                + b"\x00\x00\x9d\x01\x2a\x40\x01\xf0\x00"
                + body
            )
        if source.payload_type == 98:
            kind = dice.choice((b"\x65", b"\x67", b"\x78\x00\x02\x67\x01", b"\x7c\x85")) if key else b"\x41"
            return kind + body
        return body

    def extensions(self, far: Far, source: Source) -> list[tuple[int, bytes]]:
        dice = self.dice
        made: list[tuple[int, bytes]] = []
        if source.spec.transport_cc_id is not None and dice.random() < 0.95:
            far.number += dice.choice((1, 1, 1, 1, 1, 1, 2, 3, -1, 30, 9_000) if dice.random() < 0.3 else (1,))
            made.append((3, (far.number & 0xFFFF).to_bytes(2, "big")))
        made += [
            (key, dice.randbytes(dice.choice((1, 1, 2, 3, 16, 17, 40)))) for key in (5, 6, 7, 9) if dice.random() < 0.3
        ]
        if dice.random() < 0.05:
            made.append((20, b""))
        return made

    def packet(self, source: Source) -> bytes:
        """The next packet of a source; sometimes the numbers jump."""
        dice = self.dice
        begins = dice.random() < 0.5
        key = begins and dice.random() < 0.15
        if begins:
            source.timestamp += 3_000
            source.picture += 1
            source.tl0 += dice.getrandbits(1)
        source.sequence += dice.choice((1, 1, 1, 1, 1, 1, 1, 2, 3, 7, 20, 300, 4_000) if dice.random() < 0.1 else (1,))
        padding = dice.choice((0, 0, 0, 0, 0, 0, 0, 9, 255))
        empty = dice.random() < 0.03
        packet = make_packet(
            payload_type=source.payload_type if dice.random() < 0.98 else 77,
            sequence=source.sequence,
            timestamp=source.timestamp,
            ssrc=source.spec.ssrc,
            payload=b"" if empty else self.payload(source, key=key, begins=begins),
            marker=dice.random() < 0.3,
            extensions=self.extensions(source.owner, source),
            padding=255 if empty else padding,
        )
        source.recent = [*source.recent[-40:], packet]
        return packet

    def media(self) -> None:
        """A burst of one source: in order, reordered, with losses and copies."""
        dice = self.dice
        if not self.sources:
            return
        source = dice.choice(self.sources)
        packets = [self.packet(source) for _ in range(dice.randrange(1, 12))]
        if dice.random() < 0.3:
            dice.shuffle(packets)
        if dice.random() < 0.3:
            packets = [packet for packet in packets if dice.random() < 0.8]
        for packet in packets:
            self.into(source.owner, source.owner.protect(packet))

    def repair(self) -> None:
        """RTX of something recent, lost or not; or a probe of it."""
        dice = self.dice
        source = dice.choice(self.sources) if self.sources else None
        if source is None or source.spec.rtx_ssrc is None or not source.recent:
            return
        packet = dice.choice(source.recent)
        source.rtx_sequence += 1
        empty = dice.random() < 0.1
        rtx = make_packet(
            payload_type=dice.choice((97, 97, 97, 99, 98)),
            sequence=source.rtx_sequence,
            timestamp=int.from_bytes(packet[4:8], "big"),
            ssrc=source.spec.rtx_ssrc,
            payload=b"" if empty else packet[2:4] + self.payload(source, key=dice.random() < 0.1, begins=True),
            extensions=self.extensions(source.owner, source),
            padding=dice.choice((0, 0, 30)),
        )
        self.into(source.owner, source.owner.protect(rtx))

    def garbage(self) -> None:
        dice = self.dice
        far = dice.choice(self.far)
        data = bytes((dice.choice((0, 1, 20, 23, 64, 127, 128, 128, 144, 191, 192)),)) + dice.randbytes(
            dice.randrange(60)
        )
        choice = dice.random()
        if choice < 0.3 and len(data) > 12:
            data = far.protect(bytes((0x80 | data[0] & 0x3F, data[1] & 0x7F)) + data[2:])
        elif choice < 0.5:
            report = (
                pack_receiver_report(dice.randrange(1, 400)) + pack_picture_loss(1, 2) + pack_nack(1, 2, [3, 4, 30])
            )
            data = far.protect(report, rtcp=True)
        elif choice < 0.6 and self.sources:
            recent = dice.choice(self.sources).recent
            data = far.protect(dice.choice(recent)) if recent else data  # somebody else's stream: unknown here
        self.into(far, data)

    def into(self, far: Far, data: bytes) -> None:
        if data:
            far.socket.sendto(data, self.address)

    # --- what is decided

    def decide(self) -> object:
        """One of the calls that rooms make."""
        dice, plane = self.dice, self.plane
        sink = dice.choice(self.sinks) if self.sinks else None
        source = dice.choice(self.sources) if self.sources else None
        far = dice.choice(self.far)
        what = dice.randrange(16)
        if sink is not None and what == 0 and source is not None:
            plane.switch_route(sink.route, source.stream, dice.choice((None, 0, 90_000, -5, 10_000_000)))
            return plane.route_stream(sink.route)
        if sink is not None and what in (1, 2):
            plane.set_route_layers(sink.route, dice.randrange(4))
        elif sink is not None and what == 3:
            plane.pause_route(sink.route, paused=dice.random() < 0.5)
        elif what == 4:
            plane.set_gate(dice.choice(self.gates), open=dice.random() < 0.7)
        elif sink is not None and what == 5:
            spec = replace(self.route_spec(), ssrc=sink.spec.ssrc)
            plane.update_route(sink.route, spec)
            sink.spec = spec
        elif what == 6:
            plane.set_pace(far.transport, dice.choice((None, 100_000, 1_000_000, 20_000_000)))
        elif sink is not None and what in (7, 8):
            return plane.probe(
                sink.route, dice.choice((300_000, 5_000_000)), dice.choice((2_000, 9_000)), what, self.now_ns
            )
        elif what == 9:
            plane.set_round_trip(far.transport, dice.choice((5, 50, 300)) * MS)
        elif what == 10:
            plane.send_rtcp(far.transport, pack_receiver_report(7))
        elif sink is not None and what == 11:
            packet = make_packet(
                payload_type=120, sequence=dice.getrandbits(16), timestamp=1, ssrc=0xAAAA, payload=b"timed"
            )
            plane.send_at(sink.route, packet, self.now_ns + dice.randrange(60) * MS)
        elif what == 12:
            base = dice.getrandbits(16) if dice.random() < 0.3 else 0
            deltas = [dice.randrange(-3, 30) for _ in range(dice.choice((0, 1, 3, 40)))]
            run = plane.sent_run(far.transport, base, dice.getrandbits(40), deltas, 250_000)
            return plane.sent_packets(far.transport, base, 40), run
        elif source is not None and what == 13 and dice.random() < 0.3:
            plane.update_stream(source.stream, replace(source.spec, nack=dice.random() < 0.5))
        elif what in (14, 15):
            return self.rebuild(what == 14)
        return None

    def rebuild(self, routes: bool) -> object:
        dice, plane = self.dice, self.plane
        if routes:
            if self.sinks and dice.random() < 0.4:
                plane.remove_route(self.sinks.pop(dice.randrange(len(self.sinks))).route)
            self.add_route()
        elif dice.random() < 0.4:
            if self.sources:
                plane.remove_stream(self.sources.pop(dice.randrange(len(self.sources))).stream)
            self.add_source()
        elif dice.random() < 0.2:
            self.reconnect()
        return None

    def ask_again(self) -> object:
        """A NACK from a subscriber."""
        dice = self.dice
        if not self.sinks:
            return None
        sink = dice.choice(self.sinks)
        near = self.plane.route_counters(sink.route).sequence
        asked = [(near - dice.randrange(60)) & 0xFFFF for _ in range(dice.randrange(1, 10))]
        return self.plane.resend(sink.route, asked, self.now_ns)

    # --- the run

    def look(self) -> None:
        """Write down everything that can be seen."""
        for far in self.far:
            while True:
                try:
                    self.trace.append((far.index, far.socket.recv(4_096)))
                except BlockingIOError:
                    break
        self.trace.append(self.plane.next_timer_ns())

    def drain(self) -> None:
        indexes = {far.socket.getsockname(): far.index for far in self.far}
        for upcall in self.plane.drain(self.now_ns):
            self.trace.append(upcall._replace(address=(str(indexes.get(upcall.address, "")), 0)))
        self.look()

    def count(self) -> None:
        plane = self.plane
        self.trace += [deepcopy(plane.stream_counters(source.stream)) for source in self.sources]
        self.trace += [deepcopy(plane.route_counters(sink.route)) for sink in self.sinks]
        self.trace += [plane.map_timestamp(sink.route, 77) for sink in self.sinks]
        self.trace += [plane.gate_counters(GateHandle(gate)) for gate in self.gates]
        self.trace += [plane.last_heard_ns(far.transport) for far in self.far]
        self.trace.append({reason.value: count for reason, count in plane.drops().items() if count})

    def step(self) -> None:
        """A few things that happen at one moment."""
        dice = self.dice
        self.now_ns += dice.choice((0, 1, 5, 10, 20, 20, 40, 500)) * MS
        for _ in range(dice.randrange(1, 5)):
            happening = dice.random()
            if happening < 0.55:
                self.media()
            elif happening < 0.7:
                self.repair()
            elif happening < 0.8:
                self.garbage()
            elif happening < 0.9:
                self.trace.append(self.decide())
            else:
                self.trace.append(self.ask_again())
            self.look()
        self.drain()
        due_ns = self.plane.next_timer_ns()
        if due_ns is not None and due_ns <= self.now_ns:
            self.trace += self.plane.run_timers(self.now_ns)
            self.look()

    def run(self, steps: int) -> Iterator[Trace]:
        """The trace of each step."""
        for number in range(steps):
            self.trace = []
            self.step()
            if number % 8 == 7:
                self.count()
            yield self.trace

    def close(self) -> None:
        self.plane.close()
        for far in self.far:
            far.socket.close()


def difference(seed: int, steps: int) -> str | None:
    """Where the two planes part under this seed; None: nowhere."""
    kernel_times, plane_sockets._AGE_MAX_NS = plane_sockets._AGE_MAX_NS, 0  # packets come when the virtual clock says
    traces = []
    try:
        for name in ("python", "native"):
            traffic = Traffic(name, seed)
            try:
                traces.append(list(traffic.run(steps)))
            finally:
                traffic.close()
    finally:
        plane_sockets._AGE_MAX_NS = kernel_times
    for number, (expected, found) in enumerate(zip(*traces, strict=True)):
        for place in range(max(len(expected), len(found))):
            ours = expected[place] if place < len(expected) else "nothing"
            theirs = found[place] if place < len(found) else "nothing"
            if ours != theirs:
                return f"seed {seed}, step {number}, place {place}:\n  python: {ours!r}\n  native: {theirs!r}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    for seed in range(args.first, args.first + args.seeds):
        found = difference(seed, args.steps)
        if found is not None:
            sys.stdout.write(found + "\n")
            return 1
    sys.stdout.write(f"{args.seeds} seeds of {args.steps} steps: no difference\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
