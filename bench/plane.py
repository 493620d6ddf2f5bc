"""What forwarding one packet costs a plane: ``python -m bench.plane``. The last line is JSON.

Publishers' packets are encrypted beforehand and sent in bursts over loopback; only the plane's own ``drain`` is on
the clock (CPU time of its thread, system calls included). Receivers do not read: their sockets overflow in the kernel,
which costs the sender the same.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import socket
import time
from dataclasses import dataclass

from bench.machine import announce
from relay.plane import Plane, RouteSpec, SrtpProfile, StreamSpec
from relay.plane_choice import PLANES, make_plane
from relay.rtp import make_packet
from relay.srtp import SrtpContext

CASES = (("1_to_1_16_flows", 16, 1, False), ("1_to_20", 1, 20, False), ("1_to_20_layered", 1, 20, True))
"""(name, publishers, subscribers of each, whether half of them get fewer temporal layers)"""
BURST = 64
"""Datagrams waiting at each ``drain``."""


@dataclass
class Flow:
    """One publisher: its socket, its encryption and its place in the stream."""

    sock: socket.socket
    context: SrtpContext
    ssrc: int
    sequence: int
    receivers: list[socket.socket]
    """Kept open: a closed port would cost an ICMP message each."""
    layered: bool = False
    """Whether packets say their frame and temporal layer, as those of a camera do."""

    def payload(self, body: bytes) -> bytes:
        """``body`` as the next packet's payload: frames of four packets, every second one of the upper layer."""
        if not self.layered:
            return body
        frame, part = divmod(self.sequence, 4)
        temporal = frame & 1
        head = bytes((0x80 if part else 0x90, 0xE0, 0x80 | frame >> 8 & 0x7F, frame & 0xFF, frame >> 1 & 0xFF))
        return head + bytes((temporal << 6 | 0x20,)) + (b"\x10" if frame == 0 else b"\x11") + body[7:]

    def burst(self, count: int, payload: bytes) -> list[bytes]:
        """The next ``count`` packets, encrypted."""
        packets = []
        for _ in range(count):
            self.sequence += 1
            extensions = [(3, (self.sequence & 0xFFFF).to_bytes(2, "big")), (4, b"\0\0\0")]
            packet = make_packet(
                payload_type=96,
                sequence=self.sequence,
                timestamp=self.sequence // 4 * 3000,
                ssrc=self.ssrc,
                payload=self.payload(payload),
                extensions=extensions,
            )
            packets.append(self.context.protect_bytes(packet) or b"")
        return packets


def build(plane: Plane, flows: int, fan: int, profile: SrtpProfile, *, layered: bool = False) -> list[Flow]:
    """``flows`` publishers, each forwarded to ``fan`` subscribers; ``layered``: every second one of these gets the
    lowest temporal layer only, with all numbers rewritten."""
    handle, address = plane.bind(("127.0.0.1", 0))
    gate = plane.add_gate(open=True)
    size = profile.key_bytes + profile.salt_bytes

    def peer() -> tuple[socket.socket, int, bytes]:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.connect(address)
        transport = plane.add_transport()
        key = os.urandom(size)
        plane.map_address(transport, handle, sock.getsockname())
        plane.set_remote(transport, handle, sock.getsockname())
        plane.set_keys(transport, profile, key, os.urandom(size))
        return sock, transport, key

    made: list[Flow] = []
    for i in range(flows):
        sock, transport, key = peer()
        receivers: list[socket.socket] = []
        spec = StreamSpec(1000 + i, "video", {96: "VP8"}, 90_000, 5000 + i, {97: 96}, nack=True, transport_cc_id=3)
        stream = plane.add_stream(transport, spec)  # type: ignore[arg-type]
        for j in range(fan):
            idle, subscriber, _ = peer()
            receivers.append(idle)
            route = RouteSpec(9000 + j, 19_000 + j, {96: 120}, {120: 121}, {}, {1: b"0"}, wait_for_key_frame=False)
            handle_of_route = plane.add_route(stream, subscriber, gate, route)  # type: ignore[arg-type]
            if layered and j % 2:
                plane.set_route_layers(handle_of_route, 0)
        context = SrtpContext(profile, key, inbound=False)
        made.append(Flow(sock, context, 1000 + i, 0 if layered else random.getrandbits(15), receivers, layered))
    return made


def measure(
    name: str, flows: int, fan: int, packets: int, payload_bytes: int, profile: SrtpProfile, *, layered: bool = False
) -> dict[str, float]:
    """CPU microseconds per forwarded packet."""
    plane = make_plane(name)
    senders = build(plane, flows, fan, profile, layered=layered)
    payload = b"\x00" + bytes(payload_bytes - 1)
    each = max(1, BURST // flows)
    batches = [
        [(sender.sock, sender.burst(each, payload)) for sender in senders] for _ in range(-(-packets // (each * flows)))
    ]
    spent_ns = received = 0
    gc.collect()
    gc.freeze()
    for batch in batches:
        for sock, datagrams in batch:
            for datagram in datagrams:
                sock.send(datagram)
                received += 1
        began = time.thread_time_ns()
        plane.drain(time.monotonic_ns())
        plane.run_timers(time.monotonic_ns())
        spent_ns += time.thread_time_ns() - began
    drops = {reason.value: count for reason, count in plane.drops().items() if count}
    plane.close()
    forwarded = received * fan - drops.get("layer_left_out", 0)
    return {"us_per_forwarded_packet": round(spent_ns / forwarded / 1000, 2), "forwarded": forwarded, **drops}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plane", choices=sorted(PLANES), default="python")
    parser.add_argument("--packets", type=int, default=20_000)
    parser.add_argument("--payload", type=int, default=1_100, help="bytes")
    parser.add_argument("--profile", choices=[p.name for p in SrtpProfile], default="AEAD_AES_128_GCM")
    args = parser.parse_args()
    where = announce("pylibsrtp", "Cython")
    result: dict[str, object] = {
        "bench": "plane",
        "plane": args.plane,
        "profile": args.profile,
        "payload_bytes": args.payload,
        "where": where._asdict(),
    }
    for label, flows, fan, layered in CASES:
        share = max(1, args.packets // fan)
        profile = SrtpProfile[args.profile]
        result[label] = measure(args.plane, flows, fan, share, args.payload, profile, layered=layered)
        print(label, result[label])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
