"""A small WebRTC client for tests and load: real ICE checks, DTLS and SRTP over UDP, no browser, no codecs.

It offers like a page, sends opus- and VP8-shaped packets, answers PLI and NACK, asks for what it misses, and keeps
account on its own clock of what it sent and got. How an offer reaches the worker is the caller's: ``negotiate``.

    async with MediaClient(negotiate) as client:
        await client.connect()
        client.start()
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Self

from aioice import stun

from bench.media_sdp import MID_ID, TRANSPORT_CC_ID, OfferedMedia, ReadAnswer, offer, read_answer
from bench.media_tracks import ReceivedTrack, SentTrack
from relay.dtls import DtlsAssociation, DtlsCertificate, DtlsState
from relay.ice import IceCredentials
from relay.messages import Source
from relay.plane import Address
from relay.rtcp import (
    FullIntraRequest,
    Nack,
    PictureLoss,
    is_rtcp,
    ntp64_of,
    pack_cname,
    pack_nack,
    pack_picture_loss,
    pack_receiver_report,
    pack_sender_report,
    parse_compound,
)
from relay.rtcp_transport_cc import TransportFeedback
from relay.srtp import SrtpContext

Negotiator = Callable[[str, dict[str, Source], bool], Awaitable[str]]
"""(offer, mid → source, fresh) → answer."""

CHECK_INTERVAL_S: Final = 0.05
CONSENT_INTERVAL_S: Final = 1.0
REPORT_INTERVAL_S: Final = 1.0
TRANSACTIONS_MAX: Final = 32
BEHIND_MAX_NS: Final = 2_000_000_000
"""What a source is late by more than this is not sent any more."""
_PRIORITY: Final = 1_853_824_767  # a peer-reflexive host candidate


class MediaClient:
    """See the module's docstring. Everything runs in the caller's event loop."""

    def __init__(
        self,
        negotiate: Negotiator,
        sources: Sequence[Source] = ("microphone", "camera"),
        *,
        video_codecs: Sequence[str] = ("VP8", "H264"),
        certificate: DtlsCertificate | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.media = [OfferedMedia(str(index), source) for index, source in enumerate(sources)]
        self.sent: dict[Source, SentTrack] = {}
        self.received: dict[Source, ReceivedTrack] = {}
        self.off: set[Source] = set()
        """Sources that the user has switched off; counts from the next offer on."""
        self._resting: dict[Source, SentTrack] = {}
        """What the worker takes no more for now."""
        self.connect_ms = 0.0
        self.feedback = 0
        """Transport-cc packet statuses received."""
        self.unreadable = 0
        """Datagrams that could not be decrypted or belong to nothing."""
        self.drop_incoming: Callable[[bytes], bool] = lambda _: False
        """Loss on the way to this client: whatever it says True to never arrived."""
        self.silent = False
        """While True nothing at all is sent: the cable is cut."""
        self.answer: ReadAnswer
        self._negotiate = negotiate
        self._video_codecs = video_codecs
        self._certificate = certificate or DtlsCertificate()
        self._credentials = IceCredentials.fresh()
        self._session = [secrets.randbits(31), 0]
        self._dtls = DtlsAssociation(self._certificate, "client")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.setblocking(False)
        self._host = host
        self._remote: Address | None = None
        self._transactions: dict[bytes, Address] = {}
        self._checked = asyncio.Event()
        self._connected = asyncio.Event()
        self._send_context: SrtpContext | None = None
        self._receive_context: SrtpContext | None = None
        self._feedback_sequence = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._dtls.close()
        self._flush_dtls()
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    async def connect(self, timeout_s: float = 5.0) -> None:
        """Offer, check, shake hands. Raises TimeoutError, or what ``negotiate`` raises."""
        started = time.monotonic()
        async with asyncio.timeout(timeout_s):
            await self._offer(fresh=True)
            self._tasks.append(asyncio.create_task(self._keep_checking()))
            await self._checked.wait()
            self._dtls.start(self.answer.fingerprints, time.monotonic_ns())
            self._flush_dtls()
            self._tasks.append(asyncio.create_task(self._drive_dtls()))
            await self._connected.wait()
        self.connect_ms = (time.monotonic() - started) * 1000

    async def renegotiate(self, *, ice_restart: bool = False) -> None:
        """Offer again on the same transport; with ``ice_restart`` also check it again with new credentials."""
        if ice_restart:
            self._credentials = IceCredentials.fresh()
        await self._offer(fresh=False)
        if ice_restart:
            self._checked.clear()
            self._check()
            async with asyncio.timeout(2):
                await self._checked.wait()

    def start(self) -> None:
        """Send all sources until ``pause`` or the end."""
        self._tasks.append(asyncio.create_task(self._send_media()))
        self._tasks.append(asyncio.create_task(self._send_reports()))

    def pause(self, source: Source, paused: bool = True) -> None:
        """Stop sending a source, or go on."""
        self.sent[source].paused = paused

    def want_key_frame(self, source: Source) -> None:
        """Send a PLI for a received source."""
        self._send_rtcp(pack_picture_loss(1, self.received[source].ssrc))

    def send_raw(self, datagram: bytes) -> None:
        """Send whatever bytes to the worker's port."""
        if self._remote is not None and not self.silent:
            self._socket.sendto(datagram, self._remote)

    async def _offer(self, *, fresh: bool) -> None:
        self._session[1] += 1
        session = (self._session[0], self._session[1])
        text = offer(self.media, self._credentials, self._certificate.fingerprint, session, self._video_codecs)
        sources = {item.mid: item.source for item in self.media}
        self.answer = read_answer(await self._negotiate(text, sources, fresh))
        self._remote = next(
            (candidate for candidate in self.answer.candidates if candidate[0] == self._host), self.answer.candidates[0]
        )
        for item, section in zip(self.media, self.answer.description.sections, strict=True):
            if section.rejected or section.direction == "inactive" or item.source in self.off:
                if item.source in self.sent:
                    self._resting[item.source] = self.sent.pop(item.source)
                continue
            if item.source in self._resting:  # its SSRC and numbers go on, as a browser's do
                self.sent[item.source] = self._resting.pop(item.source)
            codec = section.codecs[0]
            rtx = next(
                (c.payload_type for c in section.codecs if c.parameters.get("apt") == str(codec.payload_type)), None
            )
            if item.source not in self.sent:
                self.sent[item.source] = SentTrack(
                    item.source, item.mid, item.ssrc, item.rtx_ssrc, codec.payload_type, rtx, codec.clock_rate
                )
            track = self.sent[item.source]
            track.payload_type, track.rtx_payload_type = codec.payload_type, rtx
            ssrc = next((s for s in section.ssrcs if s not in section.rtx_ssrcs.values()), 0)
            if ssrc and (item.source not in self.received or self.received[item.source].ssrc != ssrc):
                self.received[item.source] = ReceivedTrack(item.source, ssrc, section.rtx_ssrcs.get(ssrc, 0))

    # ICE

    async def _keep_checking(self) -> None:
        while True:
            self._check()
            await asyncio.sleep(CONSENT_INTERVAL_S if self._checked.is_set() else CHECK_INTERVAL_S)

    def _check(self) -> None:
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{self.answer.credentials.ufrag}:{self._credentials.ufrag}"
        request.attributes["PRIORITY"] = _PRIORITY
        request.attributes["ICE-CONTROLLING"] = 1
        request.attributes["USE-CANDIDATE"] = None
        request.add_message_integrity(self.answer.credentials.pwd.encode())
        self._transactions[request.transaction_id] = self.answer.candidates[0]
        while len(self._transactions) > TRANSACTIONS_MAX:
            del self._transactions[next(iter(self._transactions))]
        self.send_raw(bytes(request))

    def _receive_stun(self, data: bytes) -> None:
        try:
            message = stun.parse_message(data)
        except ValueError:
            self.unreadable += 1
            return
        known = self._transactions.pop(message.transaction_id, None) is not None
        valid = message.check_message_integrity(self.answer.credentials.pwd.encode())
        if known and valid and message.message_class is stun.Class.RESPONSE:
            self._checked.set()

    # DTLS

    async def _drive_dtls(self) -> None:
        while self._dtls.state is DtlsState.HANDSHAKE:
            now_ns = time.monotonic_ns()
            due_ns = self._dtls.next_timer_ns(now_ns)
            await asyncio.sleep(max(0.0, ((due_ns or now_ns) - now_ns) / 1e9))
            self._dtls.handle_timer(time.monotonic_ns())
            self._flush_dtls()

    def _flush_dtls(self) -> None:
        for datagram in self._dtls.poll():
            self.send_raw(datagram)

    def _receive_dtls(self, data: bytes) -> None:
        self._dtls.receive(data)
        self._flush_dtls()
        keys = self._dtls.keys
        if keys is not None and self._send_context is None:
            self._send_context = SrtpContext(keys.profile, keys.send_key, inbound=False)
            self._receive_context = SrtpContext(keys.profile, keys.receive_key, inbound=True)
            self._connected.set()

    @property
    def closed_by_peer(self) -> bool:
        """Whether the worker has said goodbye."""
        return self._dtls.state is DtlsState.CLOSED

    # media

    def _readable(self) -> None:
        for _ in range(64):
            try:
                data = self._socket.recv(2048)
            except (BlockingIOError, ConnectionRefusedError):
                return
            if not data or self.drop_incoming(data) or self.silent:
                continue
            if data[0] < 4:
                self._receive_stun(data)
            elif 20 <= data[0] <= 63:
                self._receive_dtls(data)
            elif self._receive_context is not None and len(data) > 8:
                self._receive_srtp(data, self._receive_context)

    def _receive_srtp(self, data: bytes, context: SrtpContext) -> None:
        rtcp = is_rtcp(data[1])
        packet = context.unprotect_bytes(data, rtcp=rtcp)
        if packet is None:
            self.unreadable += 1
            return
        if rtcp:
            for item in parse_compound(packet) or ():
                self._receive_rtcp(item)
            return
        now_ns = time.monotonic_ns()
        ssrc = int.from_bytes(packet[8:12], "big")
        for track in self.received.values():
            if ssrc == track.ssrc:
                missing = track.receive(packet, now_ns)
                if missing and track.rtx_ssrc:
                    self._send_rtcp(pack_nack(1, ssrc, missing))
                return
            if ssrc == track.rtx_ssrc:
                track.receive_rtx(packet, now_ns)
                return
        self.unreadable += 1

    def _receive_rtcp(self, item: Any) -> None:
        by_ssrc = {track.ssrc: track for track in self.sent.values()}
        match item:
            case PictureLoss(media_ssrc=ssrc) if ssrc in by_ssrc:
                by_ssrc[ssrc].want_key_frame()
            case FullIntraRequest(requests=requests):
                for ssrc, _ in requests:
                    if ssrc in by_ssrc:
                        by_ssrc[ssrc].want_key_frame()
            case Nack(media_ssrc=ssrc, sequences=sequences) if ssrc in by_ssrc:
                for sequence in sequences:
                    packet = by_ssrc[ssrc].resend(sequence, lambda: self._extensions(by_ssrc[ssrc]))
                    if packet is not None:
                        self._send_rtp(packet)
            case TransportFeedback():
                self.feedback += 1

    def _extensions(self, track: SentTrack) -> list[tuple[int, bytes]]:
        self._feedback_sequence = (self._feedback_sequence + 1) & 0xFFFF
        return [(MID_ID, track.mid.encode()), (TRANSPORT_CC_ID, self._feedback_sequence.to_bytes(2, "big"))]

    async def _send_media(self) -> None:
        started = time.monotonic_ns()
        for track in self.sent.values():
            track.next_ns = started
        while self.sent:
            now_ns = time.monotonic_ns()
            for track in list(self.sent.values()):
                if now_ns - track.next_ns > BEHIND_MAX_NS:  # it is new, or has rested
                    track.next_ns = now_ns
                while track.next_ns <= now_ns:
                    track.next_ns += track.interval_ns
                    if not track.paused:
                        for packet in track.next_frame(now_ns, lambda track=track: self._extensions(track)):  # type: ignore[misc]
                            self._send_rtp(packet)
            due_ns = min(track.next_ns for track in self.sent.values())
            await asyncio.sleep(max(0.001, (due_ns - time.monotonic_ns()) / 1e9))

    async def _send_reports(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            ntp64 = ntp64_of(time.time_ns())
            for track in self.sent.values():
                if track.packets:
                    report = pack_sender_report(track.ssrc, ntp64, track.timestamp, track.packets, track.octets)
                    self._send_rtcp(report + pack_cname(track.ssrc, "client"))
            self._send_rtcp(pack_receiver_report(1))

    def _send_rtp(self, packet: bytes) -> None:
        if self._send_context is not None:
            protected = self._send_context.protect_bytes(packet)
            if protected is not None:
                self.send_raw(protected)

    def _send_rtcp(self, compound: bytes) -> None:
        if self._send_context is not None:
            protected = self._send_context.protect_bytes(compound, rtcp=True)
            if protected is not None:
                self.send_raw(protected)
