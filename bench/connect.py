"""How many calls come about through bad networks, and how soon (``make bench-connect``).

Two Chromium pages of the app, signed in once, make one call after the other: request, ring, accept, both pictures,
hang up. Media goes through ``bench.netproxy`` and everything said to the server through ``bench.nettcp``, over the same
two lines, each call with conditions of its own, drawn from the seed; in one call of ten UDP is blocked for one side,
which has to find the way over ICE-TCP. The time is that of ``bench.call``: from the provider's acceptance to the first
decoded frame of the later page. A call without both pictures after ``GIVE_UP_S`` has failed.
Progress goes to stderr; the last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import random
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page, async_playwright

from bench.browser import chromium, chromium_version, open_app
from bench.installation import Installation, sign_in
from bench.machine import announce, say
from bench.netlink import CLEAN, Conditions
from bench.netmedia import Media, write_picture, write_voice
from bench.netproxy import LOOPBACK, Address, Proxy
from bench.nettcp import TcpGate

CLIENT, PROVIDER, NOWHERE = "client", "provider", "nowhere"
GIVE_UP_S: Final = 15.0
OVER_S: Final = 10.0
BLOCKED_SHARE: Final = 0.1
"""Of the calls, in which UDP leads nowhere for one side."""
SLOW_SHOWN: Final = 5


@dataclass(frozen=True)
class Kind:
    """Of which network the conditions of a call are drawn, for each of the two lines on its own; the same both ways."""

    loss: float
    delay_ms: float
    """One way, up to so much."""
    jitter_ms: float
    """Up to so much."""


KINDS: Final = {
    "clean": Kind(loss=0.0, delay_ms=50, jitter_ms=10),
    "loss10": Kind(loss=0.1, delay_ms=100, jitter_ms=30),
}
ENVIRONMENT: Final = {"TURNPIKE_WORKERS": "1", "TURNPIKE_RETURN_TIMEOUT_MS": "5000"}

PAGE_SCRIPT: Final = """
(() => {
  const Native = window.RTCPeerConnection;
  const now = () => performance.timeOrigin + performance.now();
  const call = window.__call = { marks: {}, pc: null, pcs: 0, first: null };
  const mark = (name) => { call.marks[name] ??= now(); };
  const detour = async (sdp) => {
    const out = [];
    const seen = new Set();
    for (const line of sdp.split(/\\r?\\n/)) {
      const f = line.split(' ');
      if (line.startsWith('a=candidate:')) {
        const protocol = f[2].toLowerCase();
        if (!/^\\d+\\.\\d+\\.\\d+\\.\\d+$/.test(f[4]) || seen.has(protocol)) continue;
        seen.add(protocol);
        const [address, port] = await window.__gate(protocol, f[4], Number(f[5]));
        f[4] = address; f[5] = String(port);
      }
      out.push(f.join(' '));
    }
    return out.join('\\r\\n');
  };
  window.RTCPeerConnection = class RTCPeerConnection extends Native {
    constructor(config = {}, ...more) {
      super({ ...config, iceServers: [] }, ...more);
      call.pc = this; call.pcs += 1;
      const note = (event, text) => this.addEventListener(event, () => call.pc === this && mark(text()));
      note('iceconnectionstatechange', () => 'ice_' + this.iceConnectionState);
      note('connectionstatechange', () => 'pc_' + this.connectionState);
    }
    async setRemoteDescription(description) {
      mark('answer');
      const sdp = await detour(description.sdp);
      return super.setRemoteDescription({ type: description.type, sdp });
    }
    async addIceCandidate() {}
  };
  const look = async () => {
    const { pc } = call;
    if (pc !== null && call.first === null && pc.connectionState === 'connected') {
      const report = await pc.getStats().catch(() => new Map());
      report.forEach((x) => {
        if (x.type !== 'inbound-rtp') return;
        if (x.packetsReceived > 0) mark('packets_' + x.kind);
        if (x.kind === 'video' && x.framesDecoded > 0) call.first ??= now();
      });
    }
    setTimeout(look, call.first === null ? 15 : 100);
  };
  look();
  window.__begin = () => { Object.assign(call, { marks: {}, pc: null, pcs: 0, first: null }); };
})();
"""

READY: Final = "() => !!window.turnpike?.client.online"
WISH: Final = """async (provider) => {
  const { client } = window.turnpike;
  window.__begin();
  const { version } = await client.consent();
  const session = await client.request(provider, 'video', { version, accepted: false });
  session.enter();
  return session.id;
}"""
RINGS: Final = """(id) => window.turnpike.client.current?.id === id
  && window.turnpike.client.current.view.state === 'ringing'"""
ACCEPT: Final = """async () => {
  const { client } = window.turnpike;
  const { version } = await client.consent();
  window.__begin();
  const begun = performance.timeOrigin + performance.now();
  const mark = () => { window.__call.marks.accepted = performance.timeOrigin + performance.now(); };
  client.current.accept({ version, accepted: false }).then(mark, (e) => { window.__call.marks.refused = String(e); });
  return begun;
}"""
SEEN: Final = "() => window.__call.first !== null"
TOLD: Final = "() => { const { marks, pcs, first } = window.__call; return { marks, pcs, first }; }"
END: Final = "() => { void window.turnpike.client.current?.end(); }"
FREE: Final = "() => window.turnpike.client.current === null"


@dataclass
class Call:
    """What one call did."""

    number: int
    lines: dict[str, Conditions]
    blocked: str | None
    """For whom UDP leads nowhere."""
    connect_ms: float | None = None
    phases: dict[str, dict[str, float]] = field(default_factory=dict)
    """End → what happened → ms after the acceptance."""
    why: str = ""


def draw(seed: str, number: int, kind: Kind) -> Call:
    """The conditions of a call."""
    luck = random.Random(f"{seed}/{number}")
    lines = {
        end: Conditions(
            loss=kind.loss,
            delay_ms=luck.uniform(0, kind.delay_ms),
            jitter_ms=luck.uniform(0, kind.jitter_ms),
        )
        for end in (CLIENT, PROVIDER)
    }
    blocked = luck.choice((CLIENT, PROVIDER)) if luck.random() < BLOCKED_SHARE else None
    return Call(number, lines, blocked)


class Bench:
    """The pages, their lines, and one call after the other."""

    def __init__(self, seed: str, turnpike: Installation) -> None:
        self._seed = seed
        self._turnpike = turnpike
        self._proxy = Proxy(seed, (CLIENT, PROVIDER, NOWHERE))
        self._proxy.lines[NOWHERE].set(Conditions(down=True), Conditions(down=True))
        self._stack = AsyncExitStack()
        self._tcp_gates = AsyncExitStack()
        self._tcp: dict[tuple[str, Address], TcpGate] = {}
        self._call: Call | None = None
        self._pages: dict[str, Page] = {}
        self._provider_id = ""

    async def __aenter__(self) -> Bench:
        await self._stack.enter_async_context(self._proxy)
        driver = await self._stack.enter_async_context(async_playwright())
        media = small_media(Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tp-media-"))))
        async with aiohttp.ClientSession() as http:
            accounts = {end: (await sign_in(http, self._turnpike.url, end))[1] for end in (CLIENT, PROVIDER)}
        self._provider_id = accounts[PROVIDER]["id"]
        url = urlsplit(self._turnpike.url)
        server = (url.hostname or LOOPBACK, url.port or 80)
        for end, account in accounts.items():
            gate = await self._stack.enter_async_context(
                TcpGate(f"{self._seed}/{end}/signaling", self._proxy.lines[end], server)
            )
            context = await self._stack.enter_async_context(
                chromium(width=480, height=360, playwright=driver, flags=media.flags(), scripts=(PAGE_SCRIPT,))
            )

            async def way(_: Any, protocol: str, address: str, port: int, end: str = end) -> Address:
                return await self._way(end, protocol, (address, port))

            await context.expose_binding("__gate", way)
            page = await open_app(context, f"http://{gate.address[0]}:{gate.address[1]}", account["email"])
            await page.wait_for_function(READY)
            self._pages[end] = page
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._tcp_gates.aclose()
        await self._stack.aclose()

    async def _way(self, end: str, protocol: str, target: Address) -> Address:
        """Where a page is to send what is meant for a candidate of the relay's."""
        if protocol == "udp":
            blocked = self._call is not None and self._call.blocked == end
            return self._proxy.gate(NOWHERE if blocked else end, target)
        if (end, target) not in self._tcp:
            number = self._call.number if self._call is not None else 0
            gate = TcpGate(f"{self._seed}/{end}/{number}", self._proxy.lines[end], target)
            self._tcp[end, target] = await self._tcp_gates.enter_async_context(gate)
        return self._tcp[end, target].address

    async def hold(self, call: Call) -> None:
        """One call from request to the end; what came of it is in ``call``."""
        self._call = call
        client, provider = self._pages[CLIENT], self._pages[PROVIDER]
        accepted_at = 0.0
        for end, conditions in call.lines.items():
            self._proxy.lines[end].set(conditions, conditions)
        try:
            async with asyncio.timeout(GIVE_UP_S):
                session_id = await client.evaluate(WISH, self._provider_id)
                await provider.wait_for_function(RINGS, arg=session_id)
            accepted_at = await provider.evaluate(ACCEPT)
            async with asyncio.timeout(GIVE_UP_S):
                await asyncio.gather(*(page.wait_for_function(SEEN) for page in self._pages.values()))
        except (PlaywrightError, TimeoutError) as error:
            call.why = ("no picture in time" if accepted_at else "did not ring") + f" {str(error)[:100]}"
        told = {end: await page.evaluate(TOLD) for end, page in self._pages.items()}
        if not call.why:
            call.connect_ms = max(each["first"] for each in told.values()) - accepted_at
        for end, each in told.items():
            times = {name: at for name, at in each["marks"].items() if isinstance(at, float | int)}
            call.phases[end] = {name: round(at - accepted_at) for name, at in times.items()}
            call.phases[end] |= {"first": round(each["first"] - accepted_at)} if each["first"] else {}
            call.phases[end]["connections"] = each["pcs"]
        await self._hang_up()

    async def _hang_up(self) -> None:
        """End the call on a good network, and forget its ways."""
        for line in (self._proxy.lines[CLIENT], self._proxy.lines[PROVIDER]):
            line.set(CLEAN, CLEAN)
        for page in self._pages.values():
            await page.evaluate(END)
        async with asyncio.timeout(OVER_S):
            await asyncio.gather(*(page.wait_for_function(FREE) for page in self._pages.values()))
        self._call = None
        self._proxy.close()
        await self._tcp_gates.aclose()
        self._tcp.clear()


def small_media(folder: Path) -> Media:
    """A small picture, so that two encoders and two decoders leave the machine to the network."""
    media = Media(folder / "small.y4m", folder / "voice.wav")
    write_picture(media.video, 320, 240, rate=15, grain=0)
    write_voice(media.audio)
    return media


def figures(calls: list[Call]) -> dict[str, Any]:
    """Share of the calls that came about, and how soon 95 % of *all* of them did; null where fewer than that did."""
    times = sorted(call.connect_ms for call in calls if call.connect_ms is not None)
    rank = -(-95 * len(calls) // 100)
    return {
        "ok_ratio": round(len(times) / len(calls), 4),
        "p95_ms": round(times[rank - 1]) if len(times) >= rank else None,
    }


def tell(name: str, calls: list[Call]) -> None:
    """The middle, the slowest calls and the failed ones, for whoever looks for the reason."""
    done = sorted((call for call in calls if call.connect_ms is not None), key=lambda call: call.connect_ms or 0)
    if done:
        say(f"{name}: {len(done)} of {len(calls)}, median {done[len(done) // 2].connect_ms:.0f} ms; the slowest:")
    for call in [*done[-SLOW_SHOWN:], *(call for call in calls if call.why)]:
        lines = {end: f"{c.delay_ms:.0f}+{c.jitter_ms:.0f} ms" for end, c in call.lines.items()}
        say(f"  #{call.number} {call.connect_ms or call.why} {lines} blocked={call.blocked} {json.dumps(call.phases)}")


def kept_calls(path: Path, name: str) -> list[Call]:
    """The calls through one kind of network that earlier runs kept; a line without a network begins a run."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        kept = json.loads(line)
        if kept.pop("network", None) == name:
            lines = {end: Conditions(**conditions) for end, conditions in kept.pop("lines").items()}
            found.append(Call(lines=lines, **kept))
    return found


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All calls of all kinds of network, one after the other."""
    result: dict[str, Any] = {"calls": options.calls}
    for name in options.only or KINDS:
        seed = f"{options.seed}/{name}"
        calls = kept_calls(options.keep, name) if options.resume else []
        begun = time.monotonic()
        async with Installation(env=ENVIRONMENT) as turnpike, Bench(seed, turnpike) as bench:
            for number in range(len(calls), options.calls):
                call = draw(seed, number, KINDS[name])
                await bench.hold(call)
                calls.append(call)
                if options.keep is not None:
                    with options.keep.open("a") as file:
                        file.write(json.dumps({"network": name, **dataclasses.asdict(call)}) + "\n")
                if (number + 1) % 20 == 0 or call.why:
                    say(f"{name} {number + 1}/{options.calls} after {time.monotonic() - begun:.0f} s {call.why}")
                if call.why and options.log:
                    say(turnpike.log_tail(options.log))
                if time.monotonic() - begun > options.minutes * 60:
                    break
        tell(name, calls)
        result["calls"] = min(result["calls"], len(calls))
        result[name] = figures(calls)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200, help="of each kind of network")
    parser.add_argument("--only", nargs="*", choices=list(KINDS), help="leave the others out")
    parser.add_argument("--minutes", type=float, default=10, help="no call is begun after so many, per kind")
    parser.add_argument("--seed", default="1")
    parser.add_argument(
        "--keep", type=Path, help="add to this file: a line of JSON about the run, then one about each call"
    )
    parser.add_argument(
        "--resume", action="store_true", help="count the calls kept before, and only make those missing"
    )
    parser.add_argument("--log", type=int, default=0, help="lines of the server's log to show when a call fails")
    options = parser.parse_args()
    if options.resume and options.keep is None:
        parser.error("--resume goes on with what --keep has kept")
    where = announce(Chromium=chromium_version())
    if options.keep is not None:
        with options.keep.open("a") as file:
            file.write(json.dumps({"date": time.strftime("%Y-%m-%d"), "where": where._asdict()}) + "\n")
    say(f"one way, each line, drawn per call: {KINDS}; UDP blocked for one side in {BLOCKED_SHARE:.0%} of the calls")
    print(json.dumps(asyncio.run(measure(options))))


if __name__ == "__main__":
    main()
