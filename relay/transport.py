"""One transport: the ICE, DTLS and SRTP association with one RTCPeerConnection, above a plane.

Sans-IO but for the plane, whose handle it owns: STUN and DTLS come in as upcalls, answers go out through
``Plane.send``, keys and the selected path are set on the plane. What a transport carries is its owner's affair.
"""

from __future__ import annotations

import enum
from typing import Final, Literal, Protocol

from aioice import stun

from relay.dtls import DtlsAssociation, DtlsCertificate, DtlsState, Fingerprint
from relay.ice import IceAgent, IceCredentials, IceOutcome, Path
from relay.plane import Plane, SocketHandle, TransportHandle, Upcall

CONNECT_MAX_NS: Final = 30_000_000_000
"""From the offer to a finished DTLS handshake; a transport that takes longer has failed."""

TransportEnd = Literal["closed", "timeout", "failed", "replaced"]


class TransportState(enum.Enum):
    """``CONNECTING`` → ``CONNECTED`` → ``CLOSED``; ``CONNECTING`` may end ``FAILED``."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    FAILED = "failed"
    CLOSED = "closed"


_NEXT: Final[dict[TransportState, frozenset[TransportState]]] = {
    TransportState.CONNECTING: frozenset({TransportState.CONNECTED, TransportState.FAILED, TransportState.CLOSED}),
    TransportState.CONNECTED: frozenset({TransportState.CLOSED}),
    TransportState.FAILED: frozenset({TransportState.CLOSED}),
    TransportState.CLOSED: frozenset(),
}


class TransportOwner(Protocol):
    """Who is told what a transport brings up. Called from the worker's one thread."""

    def transport_connected(self, transport: Transport, now_ns: int) -> None: ...
    def transport_ended(self, transport: Transport, why: TransportEnd, now_ns: int) -> None: ...
    def rtcp_received(self, transport: Transport, compound: bytes, now_ns: int) -> None: ...
    def unknown_rtp_received(self, transport: Transport, packet: bytes, now_ns: int) -> None: ...
    def key_frame_wanted(self, transport: Transport, stream: int, now_ns: int) -> None: ...


class Transport:
    """See the module's docstring. Made by ``MediaPort.open_transport``, which also routes upcalls to it."""

    def __init__(
        self,
        plane: Plane,
        certificate: DtlsCertificate,
        credentials: IceCredentials,
        remote_ufrag: str,
        fingerprints: tuple[Fingerprint, ...],
        owner: TransportOwner,
        now_ns: int,
    ) -> None:
        self.handle: TransportHandle = plane.add_transport()
        self.ice = IceAgent(credentials, remote_ufrag)
        self.owner = owner
        self.state = TransportState.CONNECTING
        self.started_ns = now_ns
        self.fingerprints = fingerprints
        self._plane = plane
        self._dtls = DtlsAssociation(certificate, "server")
        self._dtls.start(fingerprints, now_ns)
        self._handshaking = False

    @property
    def failure(self) -> str:
        """Why DTLS failed, for the log."""
        return self._dtls.failure

    def last_alive_ns(self) -> int:
        """The newest sign of life: STUN consent, RTP or RTCP; 0: none yet."""
        return max(self.ice.last_request_ns, self._plane.last_heard_ns(self.handle))

    def receive_stun(self, request: stun.Message, upcall: Upcall) -> IceOutcome:
        """Answer a Binding request whose ufrag is ours."""
        path = Path(SocketHandle(upcall.socket), upcall.address)
        reply = self.ice.receive(request, path, upcall.arrival_ns)
        if reply.outcome in (IceOutcome.ANSWERED, IceOutcome.SELECTED) and upcall.transport != self.handle:
            self._plane.map_address(self.handle, path.socket, path.address)
        if reply.outcome is IceOutcome.SELECTED:
            self._plane.set_remote(self.handle, path.socket, path.address)
        if reply.datagram is not None:
            self._plane.send(path.socket, path.address, [reply.datagram])
        return reply.outcome

    def receive_dtls(self, upcall: Upcall) -> None:
        """Take a DTLS datagram from an address that ICE has authenticated."""
        path = Path(SocketHandle(upcall.socket), upcall.address)
        if self._dtls.state is DtlsState.HANDSHAKE and self.ice.heard(path):
            self._plane.set_remote(self.handle, path.socket, path.address)
        self._handshaking = True
        self._dtls.receive(upcall.data)
        self._after_dtls(upcall.arrival_ns)

    def next_timer_ns(self, now_ns: int) -> int | None:
        """When ``handle_timer`` wants to be called next; only a transport that is connecting ever does."""
        if self.state is not TransportState.CONNECTING:
            return None
        deadline = self.started_ns + CONNECT_MAX_NS
        dtls = self._dtls.next_timer_ns(now_ns) if self._handshaking else None
        return min(deadline, dtls) if dtls is not None else deadline

    def handle_timer(self, now_ns: int) -> None:
        """Retransmit DTLS, or give up."""
        if self.state is not TransportState.CONNECTING:
            return
        if now_ns - self.started_ns >= CONNECT_MAX_NS:
            self._set_state(TransportState.FAILED)
            self.owner.transport_ended(self, "timeout", now_ns)
        elif self._handshaking:
            self._dtls.handle_timer(now_ns)
            self._after_dtls(now_ns)

    def close(self) -> None:
        """Say goodbye and give the plane's handle back. Idempotent; the owner is not told."""
        if self.state is TransportState.CLOSED:
            return
        self._set_state(TransportState.CLOSED)
        self._dtls.close()
        self._flush()
        self._plane.remove_transport(self.handle)

    def _after_dtls(self, now_ns: int) -> None:
        keys = self._dtls.keys
        if self.state is TransportState.CONNECTING and keys is not None:
            self._plane.set_keys(self.handle, keys.profile, keys.receive_key, keys.send_key)
        self._flush()  # the last flight tells the page that it may send: keys are set before it leaves
        if self.state is TransportState.CONNECTING and keys is not None:
            self._set_state(TransportState.CONNECTED)
            self.owner.transport_connected(self, now_ns)
        elif self.state is TransportState.CONNECTING and self._dtls.state is DtlsState.FAILED:
            self._set_state(TransportState.FAILED)
            self.owner.transport_ended(self, "failed", now_ns)
        elif self.state is TransportState.CONNECTED and self._dtls.state is DtlsState.CLOSED:
            self.owner.transport_ended(self, "closed", now_ns)

    def _flush(self) -> None:
        datagrams = self._dtls.poll()
        if datagrams and self.ice.path is not None:
            self._plane.send(self.ice.path.socket, self.ice.path.address, datagrams)

    def _set_state(self, state: TransportState) -> None:
        if state not in _NEXT[self.state]:
            raise AssertionError(f"transport may not go from {self.state} to {state}")
        self.state = state
