"""A worker's media port: the same port number on each advertised address, UDP and TCP, shared by all its transports.

The plane forwards media by itself and hands up the rest; here each upcall finds its transport: STUN by the ufrag in
it, everything else by the address that ICE authenticated. What names nobody is dropped after a look at a few bytes;
what names one of us, by 72 random bits that only their page was told, is read in full at a bounded rate. So who floods
the port, from however many addresses, keeps nobody out. A fault on the way costs the transport that it struck, and no
other.
"""

from __future__ import annotations

import enum
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from config.logs import get_log
from relay.dtls import DtlsCertificate, Fingerprint
from relay.ice import IceCredentials, IceOutcome, peek_ufrag, read_request
from relay.plane import Address, Plane, SocketHandle, Upcall, UpcallKind
from relay.plane_tcp import AVAILABLE as TCP_AVAILABLE
from relay.transport import Transport, TransportOwner, TransportState

CHECKS_PER_SECOND_MAX: Final = 100
"""Connectivity checks per second read for one transport; a page that gathers many addresses sends 20 (RFC 8445 §14)."""
UNKNOWN_PER_SECOND_MAX: Final = 2_000
"""Connectivity checks per second read from addresses that have not authenticated yet, for all transports together."""
BIND_TRIES_MAX: Final = 20
log = get_log("relay.port")
_SECOND_NS: Final = 1_000_000_000


class PortDrop(enum.Enum):
    """Why a datagram that is not media was dropped. One counter each, beside the plane's."""

    STUN_MALFORMED = "stun_malformed"
    STUN_UNKNOWN_UFRAG = "stun_unknown_ufrag"
    STUN_UNAUTHENTICATED = "stun_unauthenticated"
    STUN_ROLE_CONFLICT = "stun_role_conflict"
    DTLS_UNKNOWN_ADDRESS = "dtls_unknown_address"
    STUN_TOO_FAST = "stun_too_fast"
    TRANSPORT_GONE = "transport_gone"
    FAULT = "fault"


_STUN_DROPS: Final[dict[IceOutcome, PortDrop]] = {
    IceOutcome.UNAUTHENTICATED: PortDrop.STUN_UNAUTHENTICATED,
    IceOutcome.ROLE_CONFLICT: PortDrop.STUN_ROLE_CONFLICT,
}


class MediaAddress(NamedTuple):
    """An address that clients are told, and the one of this machine that is behind it."""

    advertised: str
    bound: str


def media_addresses(setting: str) -> tuple[MediaAddress, ...]:
    """The addresses to bind and advertise: those listed, or for ``auto`` the host's own and loopback, IPv4 and IPv6.

    ``203.0.113.5=10.0.0.5`` binds the second and tells clients the first: a one-to-one NAT, as clouds have it. The
    host's own is needed beside loopback because Firefox does not use loopback candidates. Wildcards are refused because
    answers would leave from whatever address the route picks. Raises ValueError.
    """
    if setting == "auto":
        return tuple(MediaAddress(host, host) for host in _own_addresses())
    listed: dict[str, MediaAddress] = {}
    for part in filter(None, (part.strip() for part in setting.split(","))):
        advertised, _, bound = (host.strip() for host in part.partition("="))
        listed.setdefault(advertised, MediaAddress(_plain(advertised), _plain(bound or advertised)))
    if not listed:
        raise ValueError("media_addresses must list the addresses themselves, not a wildcard")
    return tuple(listed.values())


def _plain(host: str) -> str:
    """An address as the socket module spells it. Raises ValueError."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        raise ValueError(f"media_addresses: {host!r} is no IP address") from None
    if address.is_unspecified:
        raise ValueError("media_addresses must list the addresses themselves, not a wildcard")
    return str(address)


def _own_addresses() -> list[str]:
    """The host's own addresses on the way out, then loopback; of each family those that can be used."""
    own = [_route_out(socket.AF_INET, "192.0.2.1"), _route_out(socket.AF_INET6, "2001:db8::1")]
    loopback = ["127.0.0.1", "::1" if _can_bind("::1") else None]
    return [host for host in (*own, *loopback) if host is not None]


def _route_out(family: socket.AddressFamily, towards: str) -> str | None:
    """The address that datagrams to ``towards`` would leave from; None when there is no way out. None is sent."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((towards, 9))
            address = ipaddress.ip_address(probe.getsockname()[0])
    except OSError:
        return None
    return None if address.is_loopback or address.is_link_local else str(address)


def _can_bind(host: str) -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


class MediaPort:
    """See the module's docstring. For the worker's one thread; closing it closes no transport's owner."""

    def __init__(self, plane: Plane, certificate: DtlsCertificate) -> None:
        self.plane = plane
        self.certificate = certificate
        self.candidates: tuple[Address, ...] = ()
        """What answers advertise, once bound."""
        self.tcp_candidates: tuple[Address, ...] = ()
        self.drops: Counter[PortDrop] = Counter()
        self._sockets: list[SocketHandle] = []
        self._by_ufrag: dict[str, Transport] = {}
        self._transports: dict[int, Transport] = {}
        self._connecting: dict[int, Transport] = {}
        """Those that still need timers."""
        self._checks: Counter[int] = Counter()
        """Read in the present second, per transport; under 0: from addresses that had not authenticated."""
        self._second = 0
        self._fault_second = -1

    @property
    def transports(self) -> int:
        """How many transports are open."""
        return len(self._transports)

    @property
    def sockets(self) -> Sequence[SocketHandle]:
        """The plane's sockets, for ``loop.add_reader``."""
        return self._sockets

    def bind(self, addresses: Sequence[MediaAddress], port: int) -> None:
        """Bind every address to one port, any free one for 0, for UDP and ICE-TCP alike. Raises OSError."""
        for attempt in range(BIND_TRIES_MAX):
            bound: list[SocketHandle] = []
            try:
                self._bind(addresses, port, bound)
            except OSError:
                for handle in bound:
                    self.plane.unbind(handle)
                if port or attempt == BIND_TRIES_MAX - 1:
                    raise
                continue  # the free port of one address was taken on another, or for TCP
            self._sockets = bound
            return

    def _bind(self, addresses: Sequence[MediaAddress], port: int, bound: list[SocketHandle]) -> None:
        for address in addresses:
            handle, (_, port) = self.plane.bind((address.bound, port))
            bound.append(handle)
        if TCP_AVAILABLE:
            bound += [self.plane.bind_tcp((address.bound, port))[0] for address in addresses]
        self.candidates = tuple((address.advertised, port) for address in addresses)
        self.tcp_candidates = self.candidates if TCP_AVAILABLE else ()

    def open_transport(
        self,
        local: IceCredentials,
        remote_ufrag: str,
        fingerprints: tuple[Fingerprint, ...],
        owner: TransportOwner,
        now_ns: int,
    ) -> Transport:
        """A new transport that waits for its page's connectivity checks."""
        transport = Transport(self.plane, self.certificate, local, remote_ufrag, fingerprints, owner, now_ns)
        self._transports[transport.handle] = self._connecting[transport.handle] = transport
        self._by_ufrag[transport.ice.local.ufrag] = transport
        return transport

    def restart_ice(self, transport: Transport, local: IceCredentials, remote_ufrag: str) -> None:
        """New credentials for the same transport (RFC 8445 §9); the old ones work until the first check with them."""
        before = transport.ice.ufrags
        transport.ice.restart(local, remote_ufrag)
        for ufrag in set(before) - set(transport.ice.ufrags):
            self._by_ufrag.pop(ufrag, None)
        self._by_ufrag[transport.ice.local.ufrag] = transport

    def close_transport(self, transport: Transport) -> None:
        """Close and forget a transport. Idempotent."""
        transport.close()
        self._transports.pop(transport.handle, None)
        self._connecting.pop(transport.handle, None)
        for ufrag in [ufrag for ufrag, owner in self._by_ufrag.items() if owner is transport]:
            del self._by_ufrag[ufrag]

    def dispatch(self, upcalls: Sequence[Upcall]) -> None:
        """Hand each upcall to its transport; a fault closes that one, and the others get theirs."""
        for upcall in upcalls:
            try:
                self._HANDLERS[upcall.kind](self, upcall)
            except Exception:  # noqa: BLE001 - whatever one peer's bytes set off must not cost the others theirs
                self._struck(self._transports.get(upcall.transport), upcall.kind, upcall.arrival_ns)

    def _struck(self, transport: Transport | None, what: int, now_ns: int) -> None:
        """Close a transport that a fault struck; called while the exception is handled."""
        self.drops[PortDrop.FAULT] += 1
        second = now_ns // _SECOND_NS
        if transport is not None or second != self._fault_second:  # strangers may not fill the log
            self._fault_second = second
            log.fault("transport struck", transport=transport and transport.handle, upcall=what)
        if transport is None:
            return
        try:
            transport.owner.transport_ended(transport, "failed", now_ns)
        except Exception:  # noqa: BLE001 - its room is in disorder, and will be closed for that; here it is given back
            log.fault("owner of a struck transport", transport=transport.handle)
        finally:
            self.close_transport(transport)

    def next_timer_ns(self, now_ns: int) -> int | None:
        """When ``run_timers`` wants to be called next."""
        if not self._connecting:  # asked after every batch of packets
            return self.plane.next_timer_ns()
        for handle in [h for h, t in self._connecting.items() if t.state is not TransportState.CONNECTING]:
            del self._connecting[handle]
        timers = [self.plane.next_timer_ns()]
        timers += [transport.next_timer_ns(now_ns) for transport in self._connecting.values()]
        return min((timer for timer in timers if timer is not None), default=None)

    def run_timers(self, now_ns: int) -> None:
        """Run what is due in the plane and in transports that are connecting."""
        self.dispatch(self.plane.run_timers(now_ns))
        for transport in list(self._connecting.values()):
            try:
                transport.handle_timer(now_ns)
            except Exception:  # noqa: BLE001 - as in ``dispatch``
                self._struck(transport, 0, now_ns)

    def _stun(self, upcall: Upcall) -> None:
        ufrag = peek_ufrag(upcall.data)
        if ufrag is None:
            self.drops[PortDrop.STUN_MALFORMED] += 1
            return
        transport = self._by_ufrag.get(ufrag)
        if transport is None:
            self.drops[PortDrop.STUN_UNKNOWN_UFRAG] += 1
            return
        if not self._admit(transport, upcall):
            self.drops[PortDrop.STUN_TOO_FAST] += 1
            return
        request = read_request(upcall.data)
        if request is None:
            self.drops[PortDrop.STUN_MALFORMED] += 1
            return
        before = transport.ice.ufrags
        drop = _STUN_DROPS.get(transport.receive_stun(request, upcall))
        if drop is not None:
            self.drops[drop] += 1
        for old in set(before) - set(transport.ice.ufrags):  # a check with new credentials retired the old
            self._by_ufrag.pop(old, None)

    def _dtls(self, upcall: Upcall) -> None:
        transport = self._transports.get(upcall.transport)
        if transport is None:
            self.drops[PortDrop.DTLS_UNKNOWN_ADDRESS] += 1
        else:
            transport.receive_dtls(upcall)

    def _rtcp(self, upcall: Upcall) -> None:
        transport = self._owned(upcall)
        if transport is not None:
            transport.owner.rtcp_received(transport, upcall.data, upcall.arrival_ns)

    def _unknown_rtp(self, upcall: Upcall) -> None:
        transport = self._owned(upcall)
        if transport is not None:
            transport.owner.unknown_rtp_received(transport, upcall.data, upcall.arrival_ns)

    def _key_frame_wanted(self, upcall: Upcall) -> None:
        transport = self._owned(upcall)
        if transport is not None:
            transport.owner.key_frame_wanted(transport, upcall.stream, upcall.arrival_ns)

    def _owned(self, upcall: Upcall) -> Transport | None:
        transport = self._transports.get(upcall.transport)
        if transport is None:
            self.drops[PortDrop.TRANSPORT_GONE] += 1
        return transport

    def _admit(self, transport: Transport, upcall: Upcall) -> bool:
        """Whether there is time to read one more check. Those from addresses that are known cannot be crowded out by
        strangers' checks for other transports."""
        second = upcall.arrival_ns // _SECOND_NS
        if second != self._second:
            self._second = second
            self._checks.clear()
        unknown = upcall.transport != transport.handle
        if self._checks[transport.handle] >= CHECKS_PER_SECOND_MAX or (
            unknown and self._checks[0] >= UNKNOWN_PER_SECOND_MAX
        ):
            return False
        self._checks[transport.handle] += 1
        self._checks[0] += unknown
        return True

    _HANDLERS: Final[dict[UpcallKind, Callable[[MediaPort, Upcall], None]]] = {
        UpcallKind.STUN: _stun,
        UpcallKind.DTLS: _dtls,
        UpcallKind.RTCP: _rtcp,
        UpcallKind.UNKNOWN_RTP: _unknown_rtp,
        UpcallKind.KEY_FRAME_WANTED: _key_frame_wanted,
    }
