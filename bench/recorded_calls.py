"""Calls of two clients of this project through a whole installation: signed in, connected, and back when a room moves.

What a side sends is up to its ``track``: events to be found again (``bench.beeps``), or stamped packets
(``bench.media_tracks``). Datagrams go through a proxy where one is given.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import Any, Final

import aiohttp

from bench.beeps import REPAIRED_ID, RID_ID, EventTrack, Marks
from bench.media_client import MediaClient, Negotiator
from bench.media_tracks import SentTrack
from bench.netproxy import Proxy
from bench.person import Person
from relay.negotiation import REPAIRED_RID, RID
from relay.rtcp import ntp64_of, pack_cname, pack_receiver_report, pack_sender_report

HALF: Final[Any] = "camera, half"
REPORT_S: Final = 0.5


class EventClient(MediaClient):
    """A media client whose tracks are ``EventTrack``, with sender reports that name the moment they are sent.

    ``layered``: the camera is sent in two encodings of different size; the smaller one is the track ``HALF``.
    """

    def __init__(
        self,
        negotiate: Negotiator,
        zero_ns: int,
        marks: Marks,
        gate: Callable[[Any], Any],
        *,
        layered: bool = False,
    ) -> None:
        super().__init__(negotiate)
        self.layered = layered
        self._zero_ns, self._marks, self._gate = zero_ns, marks, gate
        if self.layered:
            self._negotiate = self._layered(negotiate)

    def _layered(self, negotiate: Negotiator) -> Negotiator:
        """Offer the camera in two encodings, told apart by their rid."""

        async def ask(text: str, sources: dict[str, Any], fresh: bool) -> str:
            before, _, camera = text.partition("m=video")
            lines = [line for line in camera.split("\r\n") if line and not line.startswith("a=ssrc")]
            lines += [f"a=extmap:{RID_ID} {RID}", f"a=extmap:{REPAIRED_ID} {REPAIRED_RID}"]
            lines += ["a=rid:h send", "a=rid:f send", "a=simulcast:send h;f", ""]
            return await negotiate(before + "m=video" + "\r\n".join(lines), sources, fresh)

        return ask

    def _extensions(self, track: SentTrack) -> list[tuple[int, bytes]]:
        rid = track.rid if isinstance(track, EventTrack) else ""
        return super()._extensions(track) + ([(RID_ID, rid.encode())] if rid else [])

    async def _offer(self, *, fresh: bool) -> None:
        await super()._offer(fresh=fresh)
        self._remote = self._gate(self._remote)
        for source, track in self.sent.items():
            if not isinstance(track, EventTrack):
                self.sent[source] = EventTrack.of(track, self._zero_ns, self._marks)
        camera = self.sent.get("camera")
        if self.layered and isinstance(camera, EventTrack) and not camera.rid:
            half = dataclasses.replace(camera, ssrc=camera.ssrc ^ 1, rtx_ssrc=camera.rtx_ssrc ^ 1)
            self.sent[HALF] = EventTrack.of(half, self._zero_ns, self._marks)
            self.sent[HALF].rid, camera.rid, camera.size = "h", "f", (640, 480)  # type: ignore[attr-defined]

    def start(self) -> None:
        now_ns = time.monotonic_ns() - self._zero_ns
        self._marks.spans.append([now_ns, now_ns])
        super().start()

    async def _send_reports(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            now_ns = time.monotonic_ns()
            ntp64 = ntp64_of(time.time_ns())
            for track in self.sent.values():
                if isinstance(track, EventTrack) and track.packets:
                    at = track.rtp_time(now_ns)
                    report = pack_sender_report(track.ssrc, ntp64, at, track.packets, track.octets)
                    self._send_rtcp(report + pack_cname(track.ssrc, "client"))
            self._send_rtcp(pack_receiver_report(1))


class Side(Person):
    """One person in calls, and their media connection."""

    def __init__(
        self, url: str, name: str, who: dict[str, str], http: aiohttp.ClientSession, proxy: Proxy | None
    ) -> None:
        super().__init__(url, http, who, back_max_s=2)
        self.name = name
        self.client: MediaClient | None = None
        self.marks = Marks()
        self.zero_ns = time.monotonic_ns()
        self.zero_wall_ms = time.time() * 1000
        self.sent: list[dict[str, Any]] = []
        """What each track of each connection sent."""
        self.epoch = 0
        self._proxy = proxy

    async def close(self) -> None:
        await self.leave()
        await self.sio.disconnect()

    async def join(self, session_id: str, *, start: bool = True, **more: Any) -> None:
        """Connect and send, or wait for ``start``. Raises ``Refused``, TimeoutError, or what the network does."""
        await self.leave()

        async def negotiate(sdp: str, sources: dict[str, Any], fresh: bool) -> str:
            answer = await self.say(
                "room.join", {"session_id": session_id, "sdp": sdp, "sources": sources, "fresh": fresh}
            )
            self.epoch = answer["room_epoch"]
            return str(answer["sdp"])

        client = await self.make(negotiate, **more).__aenter__()
        try:
            await client.connect()
        except BaseException:
            await client.__aexit__(None, None, None)
            raise
        self.client = client
        if start:
            client.start()

    def start(self) -> None:
        """Send."""
        assert self.client is not None
        self.client.start()

    def make(self, negotiate: Negotiator, **more: Any) -> MediaClient:
        """The client of a new connection."""
        return EventClient(negotiate, self.zero_ns, self.marks, self._through, **more)

    def _through(self, target: Any) -> Any:
        return target if self._proxy is None else self._proxy.gate(self.name, target)

    async def leave(self) -> None:
        """Close the media connection."""
        client, self.client = self.client, None
        if client is not None:
            for source, track in client.sent.items():
                about = {"packets": track.packets, "resent": track.resent, "key_frames": track.key_frames}
                self.sent.append({"source": source, **about, "key_frame_requests": track.key_frame_requests})
            await client.__aexit__(None, None, None)


async def begin(client: Side, provider: Side, consent: str, key: str) -> str:
    """Request and accept; the session's id."""
    yes = {"version": consent, "accepted": True}
    wish = {"provider_id": provider.id, "kind": "video", "consent": yes, "request_key": key}
    view = client.learn(await client.say("session.request", wish))
    provider.learn(await provider.say("session.accept", {"session_id": view["id"], "consent": yes}))
    return str(view["id"])


async def consent_version(http: aiohttp.ClientSession, url: str, token: str) -> str:
    """The text in force."""
    async with http.get(f"{url}/api/v1/consent", headers={"Authorization": f"Bearer {token}"}) as answer:
        answer.raise_for_status()
        return str((await answer.json())["version"])
