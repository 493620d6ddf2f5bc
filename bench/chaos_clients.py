"""One process of clients and providers for ``bench.chaos_billing``: pairs that call each other again and again.

Each pair does what the SDK does: keeps a socket that comes back by itself, connects anew when the room moves or media
stays away, and asks over REST when it has heard nothing for a while. Reads one JSON line (who they are), then waits for
a line on its standard input to hang up; prints what each session's two sides witnessed as one JSON line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
import sys
import time
from typing import Any, Final

import aiohttp
import uvloop

from bench.lean_media import Heard, LeanPeer, Wheel, both_ms
from bench.person import ACK_S, TROUBLE, Person, Refused
from relay.dtls import DtlsCertificate

SILENCE_MS: Final = 5_000
QUIET_S: Final = 3.0
"""A side that hears nothing for so long asks how things stand, and connects anew."""
HEARTBEAT_S: Final = 10.0
OVER: Final = frozenset({"ended", "declined", "missed", "cancelled", "expired", "failed"})
REQUEST_WAITS_S: Final = 1.0
WIND_UP_S: Final = 30.0
OVER_S: Final = 80.0
"""Pairs that have not let go so long after they were told to hang up are told of, not waited for."""


class Caller(Person):
    """A person of the town, who tells it that they are still there."""

    def __init__(self, town: Town, who: dict[str, str]) -> None:
        super().__init__(town.url, town.http, who)
        self.town = town

    async def beat(self) -> None:
        """Heartbeats, as long as it lives."""
        while True:
            await asyncio.sleep(HEARTBEAT_S * (0.8 + 0.2 * random.random()))
            with contextlib.suppress(*TROUBLE):
                await self.sio.call("presence.heartbeat", {}, timeout=ACK_S)


class Side:
    """One of the two in a session, and its connections."""

    def __init__(self, person: Caller, session_id: str) -> None:
        self.person = person
        self.session_id = session_id
        self.heard = Heard(SILENCE_MS)
        self.epoch = 0
        self._peer: LeanPeer | None = None
        self._since = 0.0
        self._joining: asyncio.Task[None] | None = None

    @property
    def quiet_s(self) -> float:
        """How long it has heard nothing, or been trying to connect."""
        return time.time() - max(self.heard.newest_ns / 1e9, self._since)

    def look(self, epoch: int) -> None:
        """Connect anew where the room is another, or the connection is dead."""
        busy = self._joining is not None and not self._joining.done()
        dead = self._peer is not None and (self._peer.over or self.quiet_s > QUIET_S)
        if epoch and not busy and (epoch > self.epoch or dead or self._peer is None):
            self._joining = asyncio.create_task(self._join())

    async def _join(self) -> None:
        epoch = 0
        peer = LeanPeer(self.person.town.certificate, lambda at_ns: self.heard.note(epoch, at_ns))
        try:
            body = {"session_id": self.session_id, "sdp": peer.offer(), "sources": {"0": "microphone"}, "fresh": True}
            answer = await self.person.say("room.join", body)
        except (Refused, *TROUBLE):
            peer.close()
            await asyncio.sleep(0.3 + 0.4 * random.random())
            return
        if self._peer is not None:
            self._peer.close()
        epoch = self.epoch = answer["room_epoch"]
        self._peer, self._since = peer, time.time()
        peer.begin(answer["sdp"])
        self.person.town.wheel.add(peer)

    async def close(self) -> None:
        if self._joining is not None:
            self._joining.cancel()
            await asyncio.gather(self._joining, return_exceptions=True)
        if self._peer is not None:
            self._peer.close()


class Pair:
    """A client and the provider they call."""

    def __init__(self, town: Town, client: dict[str, str], provider: dict[str, str]) -> None:
        self.town = town
        self.client, self.provider = Caller(town, client), Caller(town, provider)

    async def run(self, wait_s: float) -> None:
        """Call, talk, and call again, until the town closes."""
        await asyncio.sleep(wait_s)
        await asyncio.gather(self.client.connect(), self.provider.connect())
        beats = [asyncio.create_task(person.beat()) for person in (self.client, self.provider)]
        while not self.town.closing.is_set():
            session_id = await self._call()
            if session_id is not None:
                await self._talk(session_id)
        for beat in beats:
            beat.cancel()
        leaving = [asyncio.create_task(person.sio.disconnect()) for person in (self.client, self.provider)]
        # A socket that is just connecting anew may not let go: what was witnessed is noted already.
        await asyncio.wait([*beats, *leaving], timeout=ACK_S)

    async def _call(self) -> str | None:
        """Request and accept; None: the town closes."""
        body = {"provider_id": self.provider.id, "kind": "audio", "consent": self.town.consent}
        session_id = None
        body["request_key"] = secrets.token_hex(12)
        while not self.town.closing.is_set():
            try:
                if session_id is None:
                    session_id = self.client.learn(await self.client.say("session.request", body))["id"]
                wish = {"session_id": session_id, "consent": self.town.consent}
                self.provider.learn(await self.provider.say("session.accept", wish))
                return str(session_id)
            except Refused as refused:
                self.town.count(f"refused {refused.code}")
                if refused.code == "insufficient_funds":
                    await self._top_up()
                if refused.code in ("session_over", "wrong_state", "request_key_used"):
                    session_id, body["request_key"] = None, secrets.token_hex(12)
            except TROUBLE as error:
                self.town.count(type(error).__name__)
            await asyncio.sleep(REQUEST_WAITS_S * (0.5 + random.random()))
        return session_id

    async def _top_up(self) -> None:
        with contextlib.suppress(Refused, *TROUBLE):
            key = secrets.token_hex(12)
            await self.client.ask("POST", "/wallet/topups", {"amount_minor": 400, "request_key": key})

    def _view(self, session_id: str) -> dict[str, Any]:
        """The newest of what either has been told."""
        views = [p.views[session_id] for p in (self.client, self.provider) if session_id in p.views]
        return max(views, key=lambda view: int(view["revision"]))

    async def _talk(self, session_id: str) -> None:
        """Be in the session until it is over, whoever ends it; then note what was witnessed."""
        sides = [Side(person, session_id) for person in (self.client, self.provider)]
        asked = time.monotonic()
        hung_up = 0.0
        while (view := self._view(session_id))["state"] not in OVER:
            if self.town.closing.is_set():
                if time.monotonic() - (hung_up or time.monotonic()) > WIND_UP_S:
                    break
                hung_up = hung_up or time.monotonic()
                with contextlib.suppress(Refused, *TROUBLE):
                    self.client.learn(await self.client.ask("POST", f"/sessions/{session_id}/end"))
                await asyncio.sleep(0.2)
                continue
            for side in sides:
                side.look(view["room_epoch"])
            if max(side.quiet_s for side in sides) > QUIET_S and time.monotonic() - asked > 1:
                asked = time.monotonic()
                with contextlib.suppress(Refused, *TROUBLE):
                    self.client.learn(await self.client.ask("GET", f"/sessions/{session_id}"))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.town.closing.wait(), 0.25)
        await asyncio.gather(*(side.close() for side in sides))
        self.town.witnessed.append(
            {
                "session_id": session_id,
                "both_ms": both_ms(sides[0].heard, sides[1].heard),
                "epochs": sorted(sides[0].heard.by_epoch),
                "heard": [side.heard.by_epoch for side in sides],
            }
        )


class Town:
    """Everybody in this process."""

    def __init__(self, told: dict[str, Any], http: aiohttp.ClientSession) -> None:
        self.url = told["url"]
        self.http = http
        self.consent = told["consent"]
        self.certificate = DtlsCertificate()
        self.wheel = Wheel()
        self.closing = asyncio.Event()
        self.witnessed: list[dict[str, Any]] = []
        self.troubles: dict[str, int] = {}
        self._pairs = [Pair(self, *pair) for pair in told["pairs"]]
        self._ramp_s = told["ramp_s"]

    def count(self, trouble: str) -> None:
        self.troubles[trouble] = self.troubles.get(trouble, 0) + 1

    async def live(self) -> None:
        turning = asyncio.create_task(self.wheel.run())
        waits = [self._ramp_s * number / len(self._pairs) for number in range(len(self._pairs))]
        calls = [asyncio.create_task(pair.run(wait)) for pair, wait in zip(self._pairs, waits, strict=True)]
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        self.closing.set()
        over, stuck = await asyncio.wait(calls, timeout=OVER_S)
        failed = [repr(call.exception()) for call in over if call.exception() is not None]
        failed += [f"stuck in {call.get_stack()}" for call in stuck]
        turning.cancel()
        await asyncio.gather(turning, return_exceptions=True)
        told = {"witnessed": self.witnessed, "troubles": self.troubles, "failed": failed}
        print(json.dumps(told), flush=True)


async def main() -> None:
    told = json.loads(sys.stdin.readline())
    async with aiohttp.ClientSession() as http:
        await Town(told, http).live()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
        os._exit(0)  # all is told; a socket that does not let go must not keep the process
