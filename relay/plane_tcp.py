"""ICE-TCP of the Python plane: a passive port (RFC 6544) whose connections carry framed datagrams (RFC 4571).

``TcpSocket`` looks to the plane like one more ``MediaSocket``: all its connections are behind one pollable descriptor
(an epoll of their own), a frame comes in as a datagram from its connection's remote address, and one goes out whole or
not at all. For clients whose network lets no UDP through.

Strangers: before a connection has proved itself (the plane maps its address once ICE has authenticated it) it may stay
``PROVE_MAX_NS``, and there are few of them from one address; a frame longer than any datagram ends its connection.
"""

from __future__ import annotations

import os
import select
import socket
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from relay.plane import Address, SocketHandle
from relay.plane_sockets import Received
from relay.plane_streams import Transport
from relay.srtp import PacketBuffer

CONNECTIONS_MAX: Final = 1_200
"""Open at once; beyond it new ones are closed as they come."""
STRANGERS_PER_ADDRESS_MAX: Final = 16
"""Connections of one remote address that have not proved themselves; more are closed as they come."""
PROVE_MAX_NS: Final = 10_000_000_000
ACCEPTS_AT_ONCE: Final = 64
READ_BYTES: Final = 64 * 1024
FRAME_BYTES_MAX: Final = 2_000
"""Longest frame taken: more than any datagram, less than a packet buffer."""
KERNEL_BUFFER_BYTES: Final = 128 * 1024
"""Of the kernel, each way and connection: half a second of video, so that what waits there is not too old."""
BACKLOG: Final = 128
_SWEEP_NS: Final = 1_000_000_000
_READ: Final = select.EPOLLIN | select.EPOLLRDHUP if hasattr(select, "EPOLLIN") else 0
_WRITE: Final = select.EPOLLOUT if hasattr(select, "EPOLLOUT") else 0

AVAILABLE: Final = hasattr(select, "epoll") and hasattr(os, "eventfd")
"""Whether this platform has what it takes (Linux)."""


class Deframer:
    """Bytes of a stream in, frames out (RFC 4571 §2). Holds less than one read and one frame."""

    __slots__ = ("_held", "broken")

    def __init__(self) -> None:
        self._held = bytearray()
        self.broken = False
        """A length beyond ``FRAME_BYTES_MAX`` came: nothing after it can be read."""

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that ``data`` completes."""
        held = self._held
        held += data
        frames: list[bytes] = []
        at = 0
        while not self.broken and len(held) - at >= 2:
            length = held[at] << 8 | held[at + 1]
            if length > FRAME_BYTES_MAX:
                self.broken = True
            elif len(held) - at - 2 < length:
                break
            else:
                frames.append(bytes(held[at + 2 : at + 2 + length]))
                at += 2 + length
        if self.broken:
            held.clear()
        else:
            del held[:at]
        return frames


class _Connection:
    """One accepted connection."""

    __slots__ = ("accepted_ns", "address", "deframer", "left_over", "proved", "socket")

    def __init__(self, accepted: socket.socket, address: Address, now_ns: int) -> None:
        self.socket = accepted
        self.address = address
        self.accepted_ns = now_ns
        self.deframer = Deframer()
        self.left_over = b""
        """The rest of a frame that the kernel took only the beginning of."""
        self.proved = False


class TcpSocket:
    """See the module's docstring."""

    def __init__(self, handle: SocketHandle, address: Address) -> None:
        """Raises OSError."""
        self.handle = handle
        self.by_address: dict[Address, Transport] = {}
        self._connections: dict[int, _Connection] = {}
        self._by_address: dict[Address, _Connection] = {}
        self._strangers: Counter[str] = Counter()
        self._waiting: deque[tuple[_Connection, bytes, int]] = deque()  # frames read but not taken, one read at most
        self._swept_ns = 0
        ipv6 = ":" in address[0]
        self._listener = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._listener.setblocking(False)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # inherited by what is accepted
                self._listener.setsockopt(socket.SOL_SOCKET, option, KERNEL_BUFFER_BYTES)
            if ipv6:
                self._listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._listener.bind(address)
            self._listener.listen(BACKLOG)
            self._epoll = select.epoll()
            self._epoll.register(self._listener.fileno(), select.EPOLLIN)
            self._more = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # readable while frames wait
            self._epoll.register(self._more, select.EPOLLIN)
        except OSError:
            self._listener.close()
            raise

    @property
    def address(self) -> Address:
        """The address it listens on."""
        name = self._listener.getsockname()
        return name[0], name[1]

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def fileno(self) -> int:
        """Readable whenever any of the connections wants attention."""
        return self._epoll.fileno()

    def receive(self, buffers: Sequence[PacketBuffer], now_ns: int) -> list[Received]:
        """At most one frame per buffer; fewer mean that nothing more is waiting."""
        if not self._waiting:
            self._read(now_ns)
        received: list[Received] = []
        while self._waiting and len(received) < len(buffers):
            connection, frame, arrival_ns = self._waiting.popleft()
            buffer = buffers[len(received)]
            buffer.view[: len(frame)] = frame
            received.append((buffer, len(frame), connection.address, arrival_ns))
        self._note_waiting()
        return received

    def send(self, data: bytes | memoryview, address: Address) -> bool:
        """Whether the frame was taken; it is not while the rest of an earlier one waits."""
        connection = self._by_address.get(address)
        if connection is None or connection.left_over:
            return False
        length = len(data)
        frame = length.to_bytes(2, "big") + bytes(data)
        try:
            sent = connection.socket.send(frame)
        except BlockingIOError:
            return False
        except OSError:
            self._close(connection)
            return False
        if sent < len(frame):
            connection.left_over = frame[sent:]
            self._epoll.modify(connection.socket.fileno(), _READ | _WRITE)
        return True

    def close(self) -> None:
        """Close all."""
        for connection in list(self._connections.values()):
            self._close(connection)
        self.by_address.clear()
        self._epoll.close()
        os.close(self._more)
        self._listener.close()

    def _note_waiting(self) -> None:
        """Keep the descriptor readable as long as frames wait."""
        try:
            if self._waiting:
                os.eventfd_write(self._more, 1)
            else:
                os.eventfd_read(self._more)
        except BlockingIOError:
            pass  # it already says so

    def _read(self, now_ns: int) -> None:
        for descriptor, events in self._epoll.poll(0):
            if descriptor == self._listener.fileno():
                self._accept(now_ns)
            elif descriptor != self._more and (connection := self._connections.get(descriptor)) is not None:
                self._serve(connection, events, now_ns)
        if now_ns - self._swept_ns >= _SWEEP_NS:
            self._swept_ns = now_ns
            self._sweep(now_ns)

    def _accept(self, now_ns: int) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                accepted, name = self._listener.accept()
            except OSError:  # none left, or gone again, or too many files open
                return
            address = (name[0].partition("%")[0], name[1])
            if len(self._connections) >= CONNECTIONS_MAX or self._strangers[address[0]] >= STRANGERS_PER_ADDRESS_MAX:
                accepted.close()
                continue
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(accepted, address, now_ns)
            self.by_address.pop(address, None)  # that was an earlier connection
            self._connections[accepted.fileno()] = self._by_address[address] = connection
            self._strangers[address[0]] += 1
            self._epoll.register(accepted.fileno(), _READ)

    def _serve(self, connection: _Connection, events: int, now_ns: int) -> None:
        if events & _WRITE and connection.left_over:
            try:
                sent = connection.socket.send(connection.left_over)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._close(connection)
                return
            connection.left_over = connection.left_over[sent:]
            if not connection.left_over:
                self._epoll.modify(connection.socket.fileno(), _READ)
        if events & ~_WRITE:
            self._receive(connection, now_ns)

    def _receive(self, connection: _Connection, now_ns: int) -> None:
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._waiting.extend((connection, frame, now_ns) for frame in connection.deframer.feed(data))
        if not data or connection.deframer.broken:
            self._close(connection)

    def _sweep(self, now_ns: int) -> None:
        """Let go of connections that have not proved themselves in time."""
        for connection in list(self._connections.values()):
            if connection.proved:
                continue
            if connection.address in self.by_address:
                connection.proved = True
                self._forget_stranger(connection)
            elif now_ns - connection.accepted_ns > PROVE_MAX_NS:
                self._close(connection)

    def _forget_stranger(self, connection: _Connection) -> None:
        host = connection.address[0]
        self._strangers[host] -= 1
        if self._strangers[host] <= 0:
            del self._strangers[host]

    def _close(self, connection: _Connection) -> None:
        if self._connections.pop(connection.socket.fileno(), None) is None:
            return
        if not connection.proved:
            self._forget_stranger(connection)
        if self._by_address.get(connection.address) is connection:
            del self._by_address[connection.address]
        connection.socket.close()  # which takes it out of the epoll as well
