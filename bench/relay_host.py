"""The measured process of ``bench.relay``: a plane, or the floor, between clients whose keys it is told.

Reads one JSON line from stdin (``RelayJob`` as a dict), prints its own address, and forwards until stdin ends; then
prints what was dropped. Nothing but forwarding runs in it: loop, timers and upcalls are as a worker has them.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import sys
import time
from typing import Any

import uvloop

from bench.native import load
from bench.relay_case import BUFFER_BYTES
from config.logs import setup_logs
from config.process import come_first
from relay.plane import Plane, RouteSpec, SocketHandle, SrtpProfile, StreamSpec
from relay.plane_choice import make_plane

SO_TIMESTAMPNS = 35
KIND, CODEC, PAYLOAD_TYPE, RTX_PAYLOAD_TYPE = "video", "VP8", 96, 97
MID_ID, TRANSPORT_CC_ID = 1, 3


def build_plane(job: dict[str, Any]) -> tuple[Plane, SocketHandle, int]:
    """The plane with a transport per client and a route per subscription, everything switched on that a call has."""
    plane: Plane = make_plane(job["plane"])
    handle, address = plane.bind(("127.0.0.1", 0))
    gate = plane.add_gate(open=True)
    transports = []
    for client in job["clients"]:
        transport = plane.add_transport()
        remote = ("127.0.0.1", client["port"])
        plane.map_address(transport, handle, remote)
        plane.set_remote(transport, handle, remote)
        plane.set_keys(
            transport,
            SrtpProfile[job["profile"]],
            bytes.fromhex(client["receive_key"]),
            bytes.fromhex(client["send_key"]),
        )
        transports.append(transport)
    for number, stream in enumerate(job["streams"]):
        spec = StreamSpec(
            stream["ssrc"],
            KIND,
            {PAYLOAD_TYPE: CODEC},
            90_000,
            stream["ssrc"] + 100_000,
            {RTX_PAYLOAD_TYPE: PAYLOAD_TYPE},
            nack=True,
            transport_cc_id=TRANSPORT_CC_ID,
        )
        source = plane.add_stream(transports[stream["client"]], spec)
        for subscriber in stream["subscribers"]:
            ssrc = 500_000 + number * 1_000 + subscriber
            route = RouteSpec(
                ssrc,
                ssrc + 500_000,
                {PAYLOAD_TYPE: 120},
                {120: 121},
                {},
                {MID_ID: b"0"},
                transport_cc_id=TRANSPORT_CC_ID,
            )
            plane.add_route(source, transports[subscriber], gate, route)
    return plane, handle, address[1]


async def run_plane(job: dict[str, Any]) -> dict[str, Any]:
    """Forward with a plane until stdin ends."""
    plane, handle, port = build_plane(job)
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def arm() -> None:
        nonlocal timer
        due_ns = plane.next_timer_ns()
        if due_ns is not None and timer is None:
            delay_ms = max(0, math.ceil((due_ns - time.monotonic_ns()) / 1e6))  # rounded up, as a worker does
            timer = loop.call_later(delay_ms / 1000, tick)

    def tick() -> None:
        nonlocal timer
        timer = None
        plane.run_timers(time.monotonic_ns())
        arm()

    def readable() -> None:
        plane.drain(time.monotonic_ns())
        arm()

    loop.add_reader(plane.fileno(handle), readable)
    await _until_told(port)
    return {reason.value: count for reason, count in plane.drops().items() if count}


async def run_floor(job: dict[str, Any]) -> dict[str, Any]:
    """Forward with nothing but the kernel's calls until stdin ends. It wakes up, takes and sends as a plane does."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.bind(("127.0.0.1", 0))
    streams = [[("127.0.0.1", job["clients"][s]["port"]) for s in stream["subscribers"]] for stream in job["streams"]]
    floor = load("floor").Floor(sock, job["streams"][0]["ssrc"], streams)
    asyncio.get_running_loop().add_reader(sock.fileno(), floor.drain)
    await _until_told(sock.getsockname()[1])
    return {"failed": floor.failed}


async def _until_told(port: int) -> None:
    print(json.dumps({"port": port}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    job = json.loads(sys.stdin.readline())
    setup_logs("relay_host", "warning", "text")
    come_first(job["cpus"])  # as a worker does; the floor too
    run = run_floor if job["plane"] == "floor" else run_plane
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(job))), flush=True)


if __name__ == "__main__":
    main()
