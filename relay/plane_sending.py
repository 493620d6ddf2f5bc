"""The last stretch of the Python plane's way of one packet: waiting for its time, numbering, encrypting, sending."""

from __future__ import annotations

import heapq
from typing import Final

from relay.pacer import Probe
from relay.plane import Address, DropReason
from relay.plane_routes import Route
from relay.plane_sockets import AnySocket
from relay.plane_streams import Transport
from relay.srtp import PACKET_BYTES_MAX, PacketBuffer, SrtpContext

TIMED_MAX: Final = 4_096
"""Timed sends waiting; beyond it the one due first goes out at once."""
PROBE_PACKETS_MAX: Final = 64
"""Packets of a probe that leave at once, where timers were late."""


class SendingPath:
    """What leaves, in one shared buffer: whoever fills ``_out`` calls ``_send_out`` before anything else does."""

    def __init__(self, sockets: dict[int, AnySocket]) -> None:
        """``sockets``: the plane's, by handle."""
        self.now_ns = 0
        """The newest time that the plane was told."""
        self.drops = dict.fromkeys(DropReason, 0)
        self._sockets = sockets
        self._out = PacketBuffer()
        self._timed: list[tuple[int, int, Route, bytes]] = []  # (at_ns, order, route, packet), a heap
        self._timed_order = 0
        self._number = 0  # the transport-wide one of the packet sent last
        self._pacing: dict[Transport, None] = {}  # with packets or a probe waiting

    def _send_out(self, transport: Transport, length: int, number: int | None = None) -> bool:
        """Encrypt and send what is in ``_out``, if the transport is ready; whether it went. ``number``: the
        transport-wide one that it had when it was sent before; None: it gets the next one."""
        if transport.send is None or transport.remote is None:
            self.drops[DropReason.NO_KEYS if transport.send is None else DropReason.NO_REMOTE_ADDRESS] += 1
            return False
        return self._protect_and_send(transport, transport.send, transport.remote, length, number)

    def _protect_and_send(
        self, transport: Transport, context: SrtpContext, remote: Address, length: int, number: int | None
    ) -> bool:
        out = self._out
        data = out.data
        cc_id = transport.cc_id
        numbered = False
        if cc_id and data[0] & 0x10:  # routes put our transport-wide number first, so that it is found here
            at = 17 if data[12] == 0xBE else 18
            if data[16] == (cc_id << 4 | 1 if at == 17 else cc_id):
                if number is None:
                    probe = transport.pacer.probe
                    number = transport.sent.note(length, self.now_ns, 0 if probe is None else probe.cluster)
                    numbered = True
                self._number = number
                data[at] = number >> 8
                data[at + 1] = number & 0xFF
        length = context.protect(out, length)
        if length < 0:
            self.drops[DropReason.PROTECT_FAILED] += 1
            return False
        if not self._sockets[transport.socket].send(out.view[:length], remote):
            self.drops[DropReason.SEND_FAILED] += 1
            return False
        if numbered:
            transport.sent.resize(length)
        transport.pacer.spend(length, self.now_ns)
        return True

    def probe(self, route: Route, rate_bps: int, size_bytes: int, cluster: int) -> None:
        """Begin a probe over a route that has RTX; one that is under way is forgotten."""
        pacer = route.transport.pacer
        pacer.probe = Probe(route, rate_bps, size_bytes, cluster, self.now_ns)
        self._pacing[route.transport] = None

    def _send_paced(self, transport: Transport, now_ns: int) -> None:
        """Let leave what may: what waits, then the probe's share."""
        pacer = transport.pacer
        for paced in pacer.release(now_ns):
            self._out.view[: len(paced.packet)] = paced.packet
            if not paced.route.gate.open or paced.route.removed:
                self.drops[DropReason.GATE_CLOSED] += 1
            else:
                paced.route.highest_sent = max(paced.route.highest_sent, paced.output)
                self._send_out(transport, len(paced.packet))
        for _ in range(PROBE_PACKETS_MAX):
            probe = pacer.probe
            if probe is None or probe.due_ns > now_ns:
                break
            route = probe.route
            length = (
                0 if route.removed or not route.gate.open else route.render_probe(probe.next_output, self._out, now_ns)
            )
            probe.next_output -= 1
            if probe.done or length <= 0 or not self._send_out(transport, length):
                pacer.probe = None
        if pacer.due_ns is None:
            self._pacing.pop(transport, None)

    def send_rtcp(self, transport: Transport, compound: bytes) -> None:
        """Protect and send one RTCP packet."""
        if transport.send is None or transport.remote is None:
            self.drops[DropReason.NO_KEYS if transport.send is None else DropReason.NO_REMOTE_ADDRESS] += 1
            return
        if len(compound) > PACKET_BYTES_MAX:
            self.drops[DropReason.TOO_LARGE] += 1
            return
        self._out.view[: len(compound)] = compound
        length = transport.send.protect_rtcp(self._out, len(compound))
        if length < 0:
            self.drops[DropReason.PROTECT_FAILED] += 1
        elif not self._sockets[transport.socket].send(self._out.view[:length], transport.remote):
            self.drops[DropReason.SEND_FAILED] += 1

    def send_at(self, route: Route, packet: bytes, at_ns: int) -> None:
        """Queue one rewritten packet for its time."""
        self._timed_order += 1
        heapq.heappush(self._timed, (at_ns, self._timed_order, route, packet))
        if len(self._timed) > TIMED_MAX:
            self._send_timed()

    def _send_timed(self) -> None:
        _, _, route, packet = heapq.heappop(self._timed)
        if not route.gate.open or route.removed:
            self.drops[DropReason.GATE_CLOSED] += 1
        elif len(packet) > PACKET_BYTES_MAX:
            self.drops[DropReason.TOO_LARGE] += 1
        else:
            self._out.view[: len(packet)] = packet
            self._send_out(route.transport, len(packet))
