"""UDP sockets of the Python plane: batches in, with the kernel's arrival times, and single datagrams out."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import Final, Protocol

from relay.plane import Address, SocketHandle
from relay.plane_streams import Transport
from relay.srtp import PacketBuffer

SOCKET_BUFFER_BYTES: Final = 8 * 1024 * 1024
"""Asked of the kernel each way, which may grant less, and counts 2 KiB for a packet: 40,000 of them a second fill what
it makes of this (twice as much) in 0.18 s."""
_SO_TIMESTAMPNS: Final = 35  # asm-generic/socket.h; Python has no name for it
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_TIMESPEC: Final = struct.Struct("@qq")
_unpack_timespec = _TIMESPEC.unpack_from
_TRUNCATED: Final = int(socket.MSG_TRUNC)
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_TIMESPEC.size)
_AGE_MAX_NS: Final = 1_000_000_000
"""A kernel timestamp older than this means that the wall clock was set, not that the packet waited."""


Received = tuple[PacketBuffer, int, Address, int]
"""One datagram: its buffer, its length (−1: larger than the buffer), where it came from, arrival_ns."""


class AnySocket(Protocol):
    """What the plane asks of a socket, whatever carries its datagrams."""

    handle: SocketHandle
    by_address: dict[Address, Transport]
    """Whose datagrams come from which address."""

    def fileno(self) -> int:
        """Readable when there is something to receive."""

    def receive(self, buffers: Sequence[PacketBuffer], now_ns: int) -> list[Received]:
        """At most one datagram per buffer; fewer mean that nothing more is waiting."""

    def send(self, data: bytes | memoryview, address: Address) -> bool:
        """Whether the datagram was taken."""

    def close(self) -> None:
        """Give everything back."""


class MediaSocket:
    """One bound, non-blocking UDP socket, and whose datagrams come from which address."""

    __slots__ = ("_ipv6", "_kernel_times", "_socket", "by_address", "handle")

    def __init__(self, handle: SocketHandle, address: Address) -> None:
        """Raises OSError."""
        self.handle = handle
        self.by_address: dict[Address, Transport] = {}
        self._ipv6 = ":" in address[0]
        self._kernel_times = sys.platform == "linux"
        self._socket = socket.socket(socket.AF_INET6 if self._ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            for option, forced in ((socket.SO_RCVBUF, _SO_RCVBUFFORCE), (socket.SO_SNDBUF, _SO_SNDBUFFORCE)):
                self._socket.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
                with contextlib.suppress(OSError):  # beyond net.core.rmem_max, where we may (CAP_NET_ADMIN)
                    self._socket.setsockopt(socket.SOL_SOCKET, forced, SOCKET_BUFFER_BYTES)
            if self._kernel_times:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            if self._ipv6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._socket.bind(address)
        except OSError:
            self._socket.close()
            raise

    @property
    def address(self) -> Address:
        """The address it got."""
        name = self._socket.getsockname()
        return name[0], name[1]

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self, buffers: Sequence[PacketBuffer], now_ns: int) -> list[Received]:
        """At most one datagram per buffer; fewer mean that nothing more is waiting."""
        received: list[Received] = []
        receive = self._socket.recvmsg_into
        to_monotonic = now_ns - time.time_ns()
        for buffer in buffers:
            try:
                length, ancillary, flags, address = receive((buffer.data,), _ANCILLARY_BYTES)
            except OSError:  # nothing there, or a network error that the next datagram may not have
                break
            arrival_ns = now_ns
            if ancillary:
                seconds, rest = _unpack_timespec(ancillary[0][2])
                kernel_ns = to_monotonic + seconds * 1_000_000_000 + rest
                if now_ns - _AGE_MAX_NS < kernel_ns < now_ns:
                    arrival_ns = kernel_ns
            if self._ipv6:
                address = (address[0].partition("%")[0], address[1])
            received.append((buffer, -1 if flags & _TRUNCATED else length, address, arrival_ns))
        return received

    def send(self, data: bytes | memoryview, address: Address) -> bool:
        """Whether the kernel took it."""
        try:
            self._socket.sendto(data, address)
        except OSError:  # full, unreachable, too large: media that cannot go now is of no use later
            return False
        return True

    def close(self) -> None:
        self.by_address.clear()
        self._socket.close()
