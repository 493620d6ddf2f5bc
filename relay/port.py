"""A worker's media port: the same UDP port on each advertised address, shared by all its transports.

The plane forwards media by itself and hands up the rest; here each upcall finds its transport: STUN by the ufrag in
it, everything else by the address that ICE authenticated. What names nobody is dropped after a look at a few bytes;
what names one of us, by 72 random bits that only their page was told, is read in full at a bounded rate. So who floods
the port, from however many addresses, keeps nobody out. A fault on the way costs the transport that it struck, and no
other.
"""

from __future__ import annotations

import enum
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from config.logs import get_log
from relay.dtls import DtlsCertificate, Fingerprint
from relay.ice import IceCredentials, IceOutcome, peek_ufrag, read_request
from relay.plane import Address, Plane, SocketHandle, Upcall, UpcallKind
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


def advertised_addresses(setting: str) -> tuple[str, ...]:
    """The addresses to bind and advertise: those listed, or for ``auto`` loopback and the host's own.

    The host's own is needed beside loopback because Firefox does not use loopback candidates; 0.0.0.0 is refused
    because answers would leave from whatever address the route picks.
    """
    if setting != "auto":
        listed = tuple(dict.fromkeys(part.strip() for part in setting.split(",") if part.strip()))
        if not listed or {"0.0.0.0", "::"} & set(listed):  # noqa: S104 - refused, not bound
            raise ValueError("media_addresses must list the addresses themselves, not a wildcard")
        return listed
    own = _own_address()
    return ("127.0.0.1",) if own is None else (own, "127.0.0.1")


def _own_address() -> str | None:
    """The host's own IPv4 address on the way out; None when it has no way out. No packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address: str = probe.getsockname()[0]
        except OSError:
            return None
    return None if address.startswith("127.") else address


class MediaPort:
    """See the module's docstring. For the worker's one thread; closing it closes no transport's owner."""

    def __init__(self, plane: Plane, certificate: DtlsCertificate) -> None:
        self.plane = plane
        self.certificate = certificate
        self.candidates: tuple[Address, ...] = ()
        """What answers advertise, once bound."""
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

    def bind(self, addresses: Sequence[str], port: int) -> None:
        """Bind every address to one port, any free one for 0. Raises OSError."""
        for attempt in range(BIND_TRIES_MAX):
            first, bound = self.plane.bind((addresses[0], port))
            try:
                rest = [self.plane.bind((address, bound[1]))[0] for address in addresses[1:]]
            except OSError:
                if port or attempt == BIND_TRIES_MAX - 1:
                    raise
                continue  # the free port of one address was taken on another; the plane closes what is left over
            self._sockets = [first, *rest]
            self.candidates = tuple((address, bound[1]) for address in addresses)
            return

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

    def drain(self, now_ns: int) -> None:
        """Let the plane forward what has come in, and deal with the rest."""
        self.dispatch(self.plane.drain(now_ns))

    def dispatch(self, upcalls: Sequence[Upcall]) -> None:
        """Hand each upcall to its transport; a fault closes that one, and the others get theirs."""
        for upcall in upcalls:
            try:
                self._HANDLERS[UpcallKind(upcall.kind)](self, upcall)
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
