"""A real call as a plane saw it: every call of its interface and every datagram, to be played to any plane again.

``captures/*.json.gz`` were made from two pages of a real Chromium, one of which sends simulcast. Payloads are blanked
behind their first bytes: nobody is in them.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from relay import plane_sockets
from relay.plane import GateHandle, RouteSpec, SrtpProfile, StreamSpec
from relay.plane_choice import PLANES, make_plane
from relay.plane_python import PythonPlane
from relay.rtcp import is_rtcp
from relay.rtp import read_header
from relay.srtp import SrtpContext

CAPTURES = Path(__file__).parent / "captures"
PAYLOAD_KEPT = 40
SEED = 7
DECIDED = (
    *("bind", "bind_tcp", "send", "run_timers", "add_transport", "map_address", "set_remote", "set_keys"),
    *("remove_transport", "set_round_trip", "send_rtcp", "add_stream", "update_stream", "remove_stream", "add_route"),
    *(
        "update_route",
        "switch_route",
        "set_route_layers",
        "remove_route",
        "pause_route",
        "resend",
        "add_gate",
        "set_gate",
    ),
    *("remove_gate", "probe", "set_pace", "send_at", "sent_packets"),
)
"""Calls that change something, or whose answer depends on what was sent."""


class _Dice(random.Random):
    """What planes draw their first numbers from, the same in every run."""


def same_numbers() -> Any:
    """Within it all planes begin their numbers alike, and packets come when the clock passed in says."""
    dice = _Dice(SEED)
    places = ["relay.plane_routes.random", "relay.plane_packets.random"]
    places += ["relay.plane_native._plane.random"] if "native" in PLANES else []
    patches = [mock.patch(place, dice) for place in places]
    patches.append(mock.patch.object(plane_sockets, "_AGE_MAX_NS", 0))
    return patches


def plain(value: Any) -> Any:
    """As JSON takes it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"@": type(value).__name__, **fields}
    if isinstance(value, SrtpProfile):
        return {"@": "SrtpProfile", "name": value.name}
    if isinstance(value, bytes):
        return {"@": "bytes", "hex": value.hex()}
    if isinstance(value, dict):
        return {"@": "dict", "items": [[plain(key), plain(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def rich(value: Any) -> Any:
    """What ``plain`` was given."""
    if isinstance(value, list):
        return [rich(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("@")
    if kind == "bytes":
        return bytes.fromhex(value["hex"])
    if kind == "dict":
        return {rich(key): rich(item) for key, item in value["items"]}
    if kind == "SrtpProfile":
        return SrtpProfile[value["name"]]
    kinds = {"StreamSpec": StreamSpec, "RouteSpec": RouteSpec}
    return kinds[str(kind)](**{key: rich(item) for key, item in value.items() if key != "@"})


class CapturingPlane(PythonPlane):
    """A plane that writes down what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.story: list[Any] = []
        self._contexts: dict[int, SrtpContext] = {}
        self._inside = False
        for name in DECIDED:
            setattr(self, name, self._written(name, getattr(self, name)))

    def _written(self, name: str, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return method(*args, **kwargs)
            self.story.append([name, plain(list(args)), plain(kwargs)])
            self._inside = True
            try:
                return method(*args, **kwargs)
            finally:
                self._inside = False
                if name == "set_keys":
                    self._contexts[args[0]] = SrtpContext(args[1], args[2], inbound=True)

        return call

    def drain(self, now_ns: int, *, batch_max: int = 256) -> Any:
        came: list[Any] = []
        receive = self._path.receive

        def keep(media_socket: Any, received: Any) -> None:
            buffer, length, address, _ = received
            owner = media_socket.by_address.get(address)
            data = bytes(buffer.view[: max(length, 0)])
            came.append([media_socket.handle, list(address), *self._opened(data, owner)])
            receive(media_socket, received)

        self._path.receive = keep  # type: ignore[method-assign]
        try:
            upcalls = super().drain(now_ns, batch_max=batch_max)
        finally:
            self._path.receive = receive  # type: ignore[method-assign]
        if came or upcalls:
            self.story.append(["drain", now_ns, came])
        return upcalls

    def _opened(self, data: bytes, owner: Any) -> tuple[str, int, str]:
        """What it is, whose, and its bytes decrypted and blanked."""
        context = None if owner is None else self._contexts.get(owner.handle)
        if context is None or len(data) < 12 or not 128 <= data[0] < 192:
            return "raw", 0, data.hex()
        rtcp = is_rtcp(data[1])
        opened = context.unprotect_bytes(data, rtcp=rtcp)
        if opened is None:
            return "raw", 0, data.hex()
        header = None if rtcp else read_header(opened, len(opened))
        if header is not None:
            kept = min(header.payload_end, header.payload_start + PAYLOAD_KEPT)
            opened = opened[:kept] + bytes(header.payload_end - kept) + opened[header.payload_end :]
        return "rtcp" if rtcp else "rtp", owner.handle, opened.hex()

    def save(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(json.dumps(self.story, separators=(",", ":")).encode(), mtime=0))


class Replay:
    """One plane under a story."""

    def __init__(self, name: str, story: list[Any]) -> None:
        self.plane = make_plane(name)
        self.story = story
        self.far: dict[tuple[str, int], socket.socket] = {}
        self.ours: dict[int, tuple[str, int]] = {}
        self.contexts: dict[int, SrtpContext] = {}
        self.trace: list[Any] = []

    def socket_of(self, address: Any) -> socket.socket:
        """The far end that stands for a remote address of the story."""
        key = (str(address[0]), int(address[1]))
        if key not in self.far:
            self.far[key] = made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.bind(("127.0.0.1", 0))
            made.setblocking(False)
        return self.far[key]

    def run(self) -> list[Any]:
        for what, *rest in self.story:
            if what == "drain":
                self.drain(*rest)
            else:
                self.call(what, *rest)
            for key, far in self.far.items():
                self.trace += [(key, datagram) for datagram in everything(far)]
            self.trace.append(self.plane.next_timer_ns())
        drops = {reason.value: count for reason, count in self.plane.drops().items() if count}
        self.trace.append(drops)
        return self.trace

    def drain(self, now_ns: int, came: list[Any]) -> None:
        for handle, address, kind, owner, data in came:
            packet = bytes.fromhex(data)
            if kind != "raw":
                packet = self.contexts[owner].protect_bytes(packet, rtcp=kind == "rtcp") or b""
            if handle in self.ours:
                self.socket_of(address).sendto(packet, self.ours[handle])
        known = {far.getsockname(): key for key, far in self.far.items()}
        self.trace += [upcall._replace(address=known.get(upcall.address, "")) for upcall in self.plane.drain(now_ns)]

    def call(self, name: str, args: Any, kwargs: Any) -> None:
        args, kwargs = rich(args), rich(kwargs)
        if name in ("bind", "bind_tcp"):
            handle, address = getattr(self.plane, name)(("127.0.0.1", 0))
            if name == "bind":
                self.ours[handle] = address
            return
        if name in ("map_address", "set_remote"):
            args[2] = self.socket_of(args[2]).getsockname()
        elif name == "send":
            args[1] = self.socket_of(args[1]).getsockname()
        elif name == "set_keys":
            self.contexts[args[0]] = SrtpContext(args[1], args[2], inbound=False)
        elif name == "run_timers":
            known = {far.getsockname(): key for key, far in self.far.items()}
            upcalls = self.plane.run_timers(*args)
            self.trace += [upcall._replace(address=known.get(upcall.address, "")) for upcall in upcalls]
            return
        answer = getattr(self.plane, name)(*args, **kwargs)
        self.trace.append((name, answer))
        if name == "set_gate":
            self.trace.append(self.plane.gate_counters(GateHandle(args[0])))

    def close(self) -> None:
        self.plane.close()
        for far in self.far.values():
            far.close()


def everything(far: socket.socket) -> Iterator[bytes]:
    """What waits at a socket."""
    while True:
        try:
            yield far.recv(4_096)
        except BlockingIOError:
            return


def replay(name: str, path: Path) -> list[Any]:
    """The trace that a plane leaves of a captured call."""
    patches = same_numbers()
    for patch in patches:
        patch.start()
    try:
        playing = Replay(name, json.loads(gzip.decompress(path.read_bytes())))
        try:
            return playing.run()
        finally:
            playing.close()
    finally:
        for patch in patches:
            patch.stop()
