"""A bad network between pages and what they talk to: UDP sockets around ``bench.netlink``, without root's rights.

A ``Proxy`` has one access line per participant, up and down. A ``Gate`` is the address at which a participant sees
somebody else (a worker of the relay, or the other page): what arrives there passes the lines in between and goes on
from a socket of the proxy's own, one per source, as through a NAT. ``change_address`` gives those sockets up for new
ones in the middle of a call, as a NAT does that forgot.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.netlink import MS, Conditions, Link
from bench.nettap import FrameTap

Address = tuple[str, int]

LOOPBACK = "127.0.0.1"
DATAGRAM_MAX = 2048
"""Longer datagrams are cut, and so dropped by whoever gets them. WebRTC sends none over 1,300 bytes."""
BATCH_MAX = 64
"""Datagrams read from one socket before others get their turn."""
IN_FLIGHT_MAX = 8192
"""Packets under way in the whole proxy; what comes on top is dropped and counted in ``Proxy.overflowed``."""
FLOWS_MAX = 64
"""Sources per gate; packets of further ones are dropped."""
SOCKET_BUFFER = 1 << 20
LATE_MS = 5
EARLY_NS = MS // 2
"""A packet goes out this much too early rather than by one more turn of the timer."""


@dataclass(slots=True)
class Line:
    """The access line of one participant."""

    up: Link
    down: Link

    def set(self, up: Conditions, down: Conditions) -> None:
        """How it behaves from now on. What is under way arrives as it was going to."""
        self.up.conditions, self.down.conditions = up, down


class Endpoint:
    """A socket of the proxy's. ``receive`` is called with each datagram and where it came from."""

    def __init__(self, receive: Callable[[bytes, Address], None]) -> None:
        self._receive = receive
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        self._socket.bind((LOOPBACK, 0))
        self.address: Address = self._socket.getsockname()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._readable)

    def send(self, data: bytes, to: Address) -> None:
        """Send now; a full buffer or nobody there is the network's loss, as everywhere."""
        with contextlib.suppress(OSError):
            self._socket.sendto(data, to)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _readable(self) -> None:
        for _ in range(BATCH_MAX):
            try:
                data, source = self._socket.recvfrom(DATAGRAM_MAX)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier send
            self._receive(data, source)
            if self._socket.fileno() < 0:
                return


@dataclass(slots=True)
class Punctuality:
    """How well the proxy kept to the times of its lines: on a machine with too much to do it delays on its own."""

    delayed: int = 0
    """Packets that had a time to be delivered at."""
    late: int = 0
    """Of these, delivered more than ``LATE_MS`` after it."""
    late_ms_max: float = 0.0

    def note(self, late_ns: int) -> None:
        self.delayed += 1
        self.late += late_ns > LATE_MS * MS
        self.late_ms_max = max(self.late_ms_max, round(late_ns / MS, 1))


class Packet(NamedTuple):
    """A datagram, the links that are still before it, and the socket and address to send it to after the last one."""

    path: tuple[Link, ...]
    out: Endpoint
    data: bytes
    to: Address


@dataclass(slots=True)
class Flow:
    """One source's way through a gate: ``near`` is the socket that it sees, ``far`` the one that the target sees."""

    source: Address
    near: Endpoint
    far: Endpoint


@dataclass(slots=True)
class Gate:
    """The address at which ``owner`` sees ``target``. ``peer`` is the participant behind the target, None: a server."""

    owner: str
    peer: str | None
    target: Address
    listener: Endpoint
    flows: dict[Address, Flow] = field(default_factory=dict)
    moved: bool = False
    """The peer's address changed: the listener is one that nobody is behind any more."""


class Proxy:
    """All lines and gates of a measurement. ``async with`` closes every socket at the end."""

    def __init__(self, seed: str, participants: Iterable[str]) -> None:
        self.lines = {name: Line(Link(f"{seed}/{name}/up"), Link(f"{seed}/{name}/down")) for name in participants}
        self.taps = {name: FrameTap() for name in self.lines}
        """What was sent towards each participant, before the line down did anything to it."""
        self.overflowed = 0
        self.punctuality = Punctuality()
        self._gates: dict[tuple[str, Address], Gate] = {}
        self._under_way: list[tuple[int, int, Packet]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0

    async def __aenter__(self) -> Proxy:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def gate(self, owner: str, target: Address, peer: str | None = None) -> Address:
        """Where ``owner`` is to send what is meant for ``target``. The same question gets the same answer."""
        key = owner, target
        if key not in self._gates:
            listener = Endpoint(lambda data, source: self._from_owner(self._gates[key], data, source))
            self._gates[key] = Gate(owner, peer, target, listener)
        return self._gates[key].listener.address

    def change_address(self, participant: str) -> None:
        """From now on the others see this participant at new addresses; what they send to the old ones is lost."""
        for gate in self._gates.values():
            for flow in gate.flows.values():
                if gate.owner == participant:
                    flow.far.close()
                    flow.far = self._far(gate, flow)
                elif gate.peer == participant:
                    if flow.near is not gate.listener:
                        flow.near.close()
                    flow.near = self._near(gate, flow)
            gate.moved = gate.moved or gate.peer == participant

    def close(self) -> None:
        """Close every socket and forget every gate and what is under way: the next call starts from nothing."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._under_way.clear()
        for gate in self._gates.values():
            gate.listener.close()
            for flow in gate.flows.values():
                flow.near.close()
                flow.far.close()
        self._gates.clear()

    def _from_owner(self, gate: Gate, data: bytes, source: Address) -> None:
        """Something came to the gate's own address."""
        if gate.moved:
            return
        flow = gate.flows.get(source)
        if flow is None:
            if len(gate.flows) >= FLOWS_MAX:
                return
            flow = gate.flows[source] = Flow(source, gate.listener, gate.listener)
            flow.far = self._far(gate, flow)
        self._onwards(gate, flow, data)

    def _far(self, gate: Gate, flow: Flow) -> Endpoint:
        """A fresh socket towards the target, which answers to it."""
        return Endpoint(lambda data, source: self._back(gate, flow, data) if source == gate.target else None)

    def _near(self, gate: Gate, flow: Flow) -> Endpoint:
        """A fresh socket towards the flow's source."""
        return Endpoint(lambda data, source: self._onwards(gate, flow, data) if source == flow.source else None)

    def _onwards(self, gate: Gate, flow: Flow, data: bytes) -> None:
        behind = () if gate.peer is None else (self.lines[gate.peer].down,)
        self._carry((self.lines[gate.owner].up, *behind), flow.far, data, gate.target)

    def _back(self, gate: Gate, flow: Flow, data: bytes) -> None:
        self.taps[gate.owner].note(data, time.time() * 1000)
        behind = () if gate.peer is None else (self.lines[gate.peer].up,)
        self._carry((*behind, self.lines[gate.owner].down), flow.near, data, flow.source)

    def _carry(self, path: tuple[Link, ...], out: Endpoint, data: bytes, to: Address) -> None:
        """Through the links one after the other, then out of that socket."""
        self._next_link(Packet(path, out, data, to), time.monotonic_ns())
        self._arm()

    def _next_link(self, packet: Packet, now_ns: int) -> None:
        """The packet is at the start of its path's first link, or, when none is left, at its end."""
        if not packet.path:
            packet.out.send(packet.data, packet.to)
            return
        beyond = Packet(packet.path[1:], packet.out, packet.data, packet.to)
        for at_ns in packet.path[0].send(len(packet.data), now_ns):
            if at_ns <= now_ns:
                self._next_link(beyond, now_ns)
            elif len(self._under_way) < IN_FLIGHT_MAX:
                heapq.heappush(self._under_way, (at_ns, next(self._order), beyond))
            else:
                self.overflowed += 1

    def _arm(self) -> None:
        """See to it that the timer goes off when the first packet is due."""
        if not self._under_way:
            return
        first_ns = self._under_way[0][0]
        if self._timer is not None:
            if self._timer_ns <= first_ns:
                return
            self._timer.cancel()
        self._timer_ns = first_ns
        wait_ns = max(0, first_ns - time.monotonic_ns())
        self._timer = asyncio.get_running_loop().call_later(wait_ns / 1e9, self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        now_ns = time.monotonic_ns()
        while self._under_way and self._under_way[0][0] <= now_ns + EARLY_NS:
            at_ns, _, packet = heapq.heappop(self._under_way)
            self.punctuality.note(now_ns - at_ns)
            self._next_link(packet, max(at_ns, now_ns))
        self._arm()
