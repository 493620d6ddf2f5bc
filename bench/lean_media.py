"""A WebRTC peer that costs little, for hundreds of calls on a small machine: one microphone, and nothing else.

Real ICE checks with consent, DTLS and SRTP, as ``bench.media_client`` has them, but one timer for all peers of a
process (``Wheel``), ten packets a second, and of what arrives only *when* it did: the kernel's time of arrival, so that
a busy process witnesses no less than an idle one.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import struct
import time
from collections.abc import Callable
from typing import Final

from aioice import stun

from bench.media_sdp import MID_ID, OPUS, ReadAnswer, read_answer
from relay.dtls import DtlsAssociation, DtlsCertificate, DtlsState
from relay.ice import IceCredentials
from relay.negotiation import MID
from relay.plane import Address
from relay.rtp import make_packet
from relay.srtp import PacketBuffer, SrtpContext

INTERVAL_MS: Final = 100
"""Between two packets; each stands for so much sound."""
SLOTS: Final = 10
"""Peers send in turn, so that a process is never busy with all of them at once."""
CHECK_MS: Final = 100
CONSENT_MS: Final = 1_000
_SO_TIMESTAMPNS: Final = 35
_TIMESPEC: Final = struct.Struct("qq")
_PRIORITY: Final = 1_853_824_767
_PAYLOAD: Final = b"\x78" + bytes(40)  # an opus packet, as far as anybody can tell without decoding


class LeanPeer:
    """One connection of one side. ``arrived`` is told the wall time (ns) of each packet from the other side."""

    def __init__(self, certificate: DtlsCertificate, arrived: Callable[[int], None]) -> None:
        self._certificate = certificate
        self._arrived = arrived
        self._credentials = IceCredentials.fresh()
        self._dtls = DtlsAssociation(certificate, "client")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._answer: ReadAnswer | None = None
        self._remote: Address | None = None
        self._checked = False
        self._next_check_ns = 0
        self._sender: SrtpContext | None = None
        self._receiver: SrtpContext | None = None
        self._buffer = PacketBuffer()
        self._ssrc = secrets.randbelow(2**32 - 1) + 1
        self._sequence = secrets.randbits(15)
        self._timestamp = secrets.randbits(31)
        self.closed = False
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    @property
    def over(self) -> bool:
        """Whether this connection can come to nothing any more: refused, or closed by the worker."""
        return self.closed or self._dtls.state in (DtlsState.FAILED, DtlsState.CLOSED)

    def offer(self) -> str:
        """One bundled audio section that names its SSRC."""
        print_ = self._certificate.fingerprint
        return "\r\n".join(
            [
                *("v=0", f"o=- {secrets.randbits(31)} 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0"),
                *(f"m=audio 9 UDP/TLS/RTP/SAVPF {OPUS}", "c=IN IP4 0.0.0.0"),
                *(f"a=ice-ufrag:{self._credentials.ufrag}", f"a=ice-pwd:{self._credentials.pwd}"),
                *(f"a=fingerprint:{print_.algorithm} {print_.value}", "a=setup:actpass", "a=mid:0"),
                *(f"a=extmap:{MID_ID} {MID}", "a=sendrecv", "a=rtcp-mux", "a=rtcp-rsize"),
                *(f"a=rtpmap:{OPUS} opus/48000/2", f"a=fmtp:{OPUS} minptime=10;useinbandfec=1"),
                *(f"a=ssrc:{self._ssrc} cname:lean", ""),
            ]
        )

    def begin(self, answer: str) -> None:
        """Take the server's answer: checks begin with the next turn of the wheel."""
        self._answer = read_answer(answer)
        local = [place for place in self._answer.candidates if place[0] == "127.0.0.1"]
        self._remote = (local or list(self._answer.candidates))[0]

    def turn(self, now_ns: int) -> None:
        """Its turn on the wheel: check, shake hands, or send a packet, whatever is due."""
        if self._answer is None or self.over:
            return
        if now_ns >= self._next_check_ns:
            self._next_check_ns = now_ns + (CONSENT_MS if self._checked else CHECK_MS) * 1_000_000
            self._check(self._answer)
        if self._sender is not None:
            self._send_packet(self._sender)
        elif self._checked:
            if self._dtls.state is DtlsState.NEW:
                self._dtls.start(self._answer.fingerprints, now_ns)
            due_ns = self._dtls.next_timer_ns(now_ns)
            if due_ns is not None and due_ns <= now_ns:
                self._dtls.handle_timer(now_ns)
            self._flush()

    def close(self) -> None:
        """Say goodbye and let go of the socket. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._dtls.close()
        self._flush()
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def _send(self, datagram: bytes) -> None:
        if self._remote is not None:
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                self._socket.sendto(datagram, self._remote)

    def _check(self, answer: ReadAnswer) -> None:
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{answer.credentials.ufrag}:{self._credentials.ufrag}"
        request.attributes["PRIORITY"] = _PRIORITY
        request.attributes["ICE-CONTROLLING"] = 1
        request.attributes["USE-CANDIDATE"] = None
        request.add_message_integrity(answer.credentials.pwd.encode())
        self._send(bytes(request))

    def _send_packet(self, sender: SrtpContext) -> None:
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._timestamp = (self._timestamp + INTERVAL_MS * 48) & 0xFFFF_FFFF
        packet = make_packet(
            payload_type=OPUS,
            sequence=self._sequence,
            timestamp=self._timestamp,
            ssrc=self._ssrc,
            payload=_PAYLOAD,
        )
        self._buffer.view[: len(packet)] = packet
        length = sender.protect(self._buffer, len(packet))
        if length > 0:
            self._send(bytes(self._buffer.view[:length]))

    def _flush(self) -> None:
        for datagram in self._dtls.poll():
            self._send(datagram)

    def _readable(self) -> None:
        for _ in range(16):
            try:
                data, ancillary, _, _ = self._socket.recvmsg(1500, 64)
            except (BlockingIOError, ConnectionRefusedError):
                return
            if not data:
                continue
            if data[0] < 4:
                self._checked = True
            elif data[0] < 64:
                self._receive_dtls(data)
            elif self._receiver is not None and not 64 <= data[1] & 0x7F < 96:  # RTCP says nothing of interest here
                self._buffer.view[: len(data)] = data
                if self._receiver.unprotect(self._buffer, len(data)) > 0:
                    self._arrived(_time_of(ancillary))

    def _receive_dtls(self, data: bytes) -> None:
        self._dtls.receive(data)
        self._flush()
        keys = self._dtls.keys
        if keys is not None and self._sender is None:
            self._sender = SrtpContext(keys.profile, keys.send_key, inbound=False)
            self._receiver = SrtpContext(keys.profile, keys.receive_key, inbound=True)


def _time_of(ancillary: list[tuple[int, int, bytes]]) -> int:
    for _, kind, value in ancillary:
        if kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(value)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return time.time_ns()


class Wheel:
    """Gives every peer of a process its turn each ``INTERVAL_MS``."""

    def __init__(self) -> None:
        self._slots: list[set[LeanPeer]] = [set() for _ in range(SLOTS)]
        self._number = 0

    def add(self, peer: LeanPeer) -> None:
        self._slots[self._number % SLOTS].add(peer)
        self._number += 1

    async def run(self) -> None:
        """Turn until cancelled. Turns that could not be taken in time are left out, not made up for."""
        due = time.monotonic()
        while True:
            for slot in self._slots:
                now_ns = time.monotonic_ns()
                slot -= {peer for peer in slot if peer.closed}
                for peer in slot:
                    peer.turn(now_ns)
                due = max(due + INTERVAL_MS / SLOTS / 1000, time.monotonic() - INTERVAL_MS / 1000)
                await asyncio.sleep(max(0.0, due - time.monotonic()))


class Heard:
    """When one side heard the other, as intervals, by room epoch."""

    def __init__(self, silence_ms: int) -> None:
        self._silence_ns = silence_ms * 1_000_000
        """A pause longer than this ends an interval: so long the server, too, takes silence for presence."""
        self.by_epoch: dict[int, list[list[int]]] = {}
        self.newest_ns = 0

    def note(self, epoch: int, at_ns: int) -> None:
        self.newest_ns = max(self.newest_ns, at_ns)
        spans = self.by_epoch.setdefault(epoch, [])
        if spans and spans[-1][0] <= at_ns <= spans[-1][1] + self._silence_ns:
            spans[-1][1] = max(spans[-1][1], at_ns)
        else:
            spans.append([at_ns, at_ns])


def both_ms(one: Heard, other: Heard) -> int:
    """How long media flowed both ways: the time in which both heard each other through the same room."""
    total_ns = 0
    for epoch, spans in one.by_epoch.items():
        for start, end in spans:
            for from_ns, until_ns in other.by_epoch.get(epoch, ()):
                total_ns += max(0, min(end, until_ns) - max(start, from_ns))
    return total_ns // 1_000_000
