"""Whole calls for ``bench.load``: people with sockets, paid sessions, and media that ``bench.flows`` sends and checks.

Each side signs in, keeps a socket, offers, answers ICE checks and shakes hands as a page does (``MediaClient``); then
its socket and keys go to the flows: audio of 50 packets a second, video of 1.5 Mb/s in 30 frames a second, transport-cc
feedback and reports. What else arrives is read by the client as usual: consent, requests for key frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from bench.media_client import CHECK_INTERVAL_S, MediaClient
from bench.media_sdp import MID_ID, TRANSPORT_CC_ID
from bench.person import Person
from relay.messages import Source
from relay.rtcp import FullIntraRequest, PictureLoss, is_rtcp, parse_compound

AUDIO_PACKETS_PER_S, AUDIO_BYTES = 50.0, 100
VIDEO_PACKETS_PER_S, VIDEO_BYTES, VIDEO_BURST = 180.0, 1_042, 6
"""1.5 Mb/s in 30 frames a second."""
SOURCES: Final[tuple[Source, ...]] = ("microphone", "camera")
HEARTBEAT_S: Final = 10.0
FEEDBACK_MS: Final = 100.0
"""Between two transport-cc feedbacks of a client; pages send one every 50 to 250 ms."""
RECEIVE_BYTES: Final = 1 << 20
"""Room for what comes while the load waits for a core: it is the worker that is measured."""
LOOK_S: Final = 0.02
SLICE_S: Final = 0.5
CHECK_S: Final = 2.5
"""Between two consent checks, as pages have it on a connection that works."""
PROFILE_BYTES: Final = (0xBE, 0xDE, 0)


def extension(mid: str) -> tuple[bytes, int]:
    """A one-byte header extension with mid and transport-wide number, and where the number is in it."""
    body = bytes((MID_ID << 4,)) + mid.encode() + bytes((TRANSPORT_CC_ID << 4 | 1, 0, 0))
    padded = body + bytes(-len(body) % 4)
    return bytes((*PROFILE_BYTES, len(padded) // 4)) + padded, 4 + 2 + 1


class LoadClient(MediaClient):
    """A media client whose sending and receiving is done by the flows once it is connected."""

    def __init__(self, negotiate: Any, feedback_ms: float) -> None:
        super().__init__(negotiate, SOURCES, video_codecs=("VP8",))
        self._feedback_ms = feedback_ms
        self.index = -1
        self._senders: dict[int, int] = {}
        """SSRC → the flows' sender."""

    def hand_over(self, flows: Any) -> None:
        """Leave the socket to the flows. Once, when connected."""
        assert self._remote is not None
        assert self._send_context is not None
        assert self._receive_context is not None
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self.index = flows.add_client(
            self._socket, self._remote, self._send_context._session, self._receive_context._session
        )
        flows.tell(self.index, secrets.randbits(31) | 1, TRANSPORT_CC_ID, self._feedback_ms)
        for track in self.sent.values():
            video = track.source == "camera"
            head, at = extension(track.mid)
            self._senders[track.ssrc] = flows.add_sender(
                self.index,
                kind="video" if video else "audio",
                ssrc=track.ssrc,
                payload_type=track.payload_type,
                payload_bytes=VIDEO_BYTES if video else AUDIO_BYTES,
                packets_per_s=VIDEO_PACKETS_PER_S if video else AUDIO_PACKETS_PER_S,
                burst=VIDEO_BURST if video else 1,
                extension=head,
                transport_cc_at=at,
            )

    async def _keep_checking(self) -> None:
        while not self._checked.is_set():
            self._check()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._checked.wait(), CHECK_INTERVAL_S)
        while True:
            await asyncio.sleep(CHECK_S * (0.8 + 0.4 * secrets.randbelow(1000) / 1000))
            self._check()

    def take(self, flows: Any, datagram: bytes) -> None:
        """Something that is no RTP; RTCP has been decrypted."""
        if datagram[0] < 4:
            self._receive_stun(datagram)
        elif 20 <= datagram[0] <= 63:
            self._receive_dtls(datagram)
        elif len(datagram) > 8 and is_rtcp(datagram[1]):
            for item in parse_compound(datagram) or ():
                self._answer_report(flows, item)

    def _answer_report(self, flows: Any, item: Any) -> None:
        wanted: Sequence[int] = ()
        if isinstance(item, PictureLoss):
            wanted = (item.media_ssrc,)
        elif isinstance(item, FullIntraRequest):
            wanted = [ssrc for ssrc, _ in item.requests]
        for ssrc in wanted:
            if ssrc in self._senders:
                flows.want_key_frame(self._senders[ssrc])


class Call:
    """One paid session of two load clients."""

    def __init__(
        self, people: tuple[Person, Person], *, recorded: bool, consent: dict[str, Any], feedback_ms: float
    ) -> None:
        self.people = people
        self.feedback_ms = feedback_ms
        self.session_id = ""
        self.clients: list[LoadClient] = []
        self._consent = {**consent, "accepted": recorded}

    async def begin(self) -> None:
        """Request, accept, connect both sides. Raises what goes wrong."""
        client, provider = self.people
        await asyncio.gather(client.connect(), provider.connect())
        wish = {
            "provider_id": provider.id,
            "kind": "video",
            "consent": self._consent,
            "request_key": secrets.token_hex(12),
        }
        self.session_id = (await client.say("session.request", wish))["id"]
        await provider.say("session.accept", {"session_id": self.session_id, "consent": self._consent})
        for person in self.people:
            made = LoadClient(self._negotiator(person), self.feedback_ms)
            self.clients.append(await made.__aenter__())
            await made.connect(10)

    def _negotiator(self, person: Person) -> Any:
        async def negotiate(sdp: str, sources: dict[str, Source], fresh: bool) -> str:
            body = {"session_id": self.session_id, "sdp": sdp, "sources": sources, "fresh": fresh}
            return str((await person.say("room.join", body))["sdp"])

        return negotiate

    async def end(self) -> None:
        """Hang up and leave."""
        await self.people[0].say("session.end", {"session_id": self.session_id})
        for client in self.clients:
            await client.__aexit__()
        await asyncio.gather(*(person.sio.disconnect() for person in self.people))


class Load:
    """Calls and their media."""

    def __init__(self, flows: Any) -> None:
        self.flows = flows
        self.calls: list[Call] = []
        self._clients: dict[int, LoadClient] = {}
        self._beaten = time.monotonic()

    def add(self, call: Call) -> None:
        """Let a connected call's media flow from the next ``run`` on."""
        self.calls.append(call)
        for client in call.clients:
            client.hand_over(self.flows)
            self._clients[client.index] = client

    async def remove(self, count: int) -> None:
        """Hang up the newest calls; between two runs."""
        kept = len(self.calls) - count
        ended, self.calls = self.calls[kept:], self.calls[:kept]
        for call in ended:
            for client in call.clients:
                self.flows.rest(client.index)
                del self._clients[client.index]
        await asyncio.gather(*(call.end() for call in ended), return_exceptions=True)

    async def run(self, seconds: float, *, sending: bool = True) -> None:
        """Media for so long, without a pause; what else comes is answered meanwhile."""
        running = asyncio.ensure_future(asyncio.to_thread(self.flows.run, seconds, sending=sending))
        while not running.done():
            await asyncio.wait((running,), timeout=LOOK_S)
            self._take(self.flows.take_control())
            await self._beat()
        self._take(await running)

    def _take(self, datagrams: Iterable[tuple[int, bytes]]) -> None:
        for index, datagram in datagrams:
            if index in self._clients:
                self._clients[index].take(self.flows, datagram)

    async def _beat(self) -> None:
        """Presence, every now and then."""
        if time.monotonic() - self._beaten >= HEARTBEAT_S:
            self._beaten = time.monotonic()
            people = [person for call in self.calls for person in call.people]
            await asyncio.gather(*(person.say("presence.heartbeat", {}) for person in people), return_exceptions=True)
