"""Calls through bad networks, and the same calls from page to page as a control (``make bench-network``).

Two Chromium profiles talk through the app, each behind its own line of ``bench.netproxy``; then two plain pages talk
directly through the same lines, with the same devices, codec, limits and timeline. What is measured is told by
``bench.netfigures``, what is wanted by ``bench.netscenarios``. Progress goes to stderr; the last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import BrowserContext, Page, Playwright, Route, async_playwright
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import TimeoutError as PlaywrightTimeout

from bench.browser import chromium, chromium_version, open_app
from bench.installation import Installation, InstallationFailed, sign_in
from bench.machine import announce, say
from bench.netfigures import LEAD_MS, Call, Window
from bench.nethints import hints, series
from bench.netlink import CLEAN
from bench.netmedia import Media, camera_size, make_media
from bench.netpages import CONTROL_PAGE, CONTROL_URL, DETOUR, HAS_VIDEO, HAS_WIDTH, SAMPLER
from bench.netproxy import Proxy
from bench.netrows import Run, as_wanted, keep, kept_runs, printed, row
from bench.netscenarios import ENDS, SCENARIOS, Ends, Scenario

PUBLISHER, SUBSCRIBER = "publisher", "subscriber"
WARM_UP_S = 5.0
"""From the first pictures to the window at least, so that bitrate estimates have grown."""
FULL_SIZE_TIMEOUT_MS = 15_000
"""Encoders begin with a small picture. For the full one is waited so long; a call that never has it is measured too."""
SETTLED_FRAMES = 15
CONNECT_TIMEOUT_MS = 20_000
ENVIRONMENT = {"TURNPIKE_WORKERS": "2", "TURNPIKE_RETURN_TIMEOUT_MS": "30000"}


@contextlib.asynccontextmanager
async def alone() -> AsyncIterator[None]:
    """One call at a time on this machine, whoever else measures here: two would measure each other."""
    with (Path(tempfile.gettempdir()) / "turnpike-bench-network.lock").open("w") as lock:
        told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    say("another measurement is going on; waiting")
                told = True
                await asyncio.sleep(0.5)
        yield  # closing the file unlocks it


@contextlib.asynccontextmanager
async def browsers(driver: Playwright, media: tuple[Media, Media], proxy: Proxy) -> AsyncIterator[list[BrowserContext]]:
    """The publisher's and the subscriber's browser, of which no connection goes past the proxy."""
    names = (PUBLISHER, SUBSCRIBER)
    async with contextlib.AsyncExitStack() as stack:
        contexts = []
        for name, files in zip(names, media, strict=True):
            context = await stack.enter_async_context(
                chromium(width=800, height=600, playwright=driver, flags=files.flags(), scripts=(DETOUR, SAMPLER))
            )
            other = next(one for one in names if one != name)

            def gate(source: dict[str, Any], address: str, port: int, name: str = name, other: str = other) -> Any:
                direct = source["page"].url == CONTROL_URL
                return proxy.gate(name, (address, port), peer=other if direct else None)

            await context.expose_binding("__gate", gate)
            contexts.append(context)
        yield contexts


async def call_through_relay(turnpike: Installation, contexts: list[BrowserContext]) -> list[Page]:
    """A video call through the app, up to the first pictures: the client publishes, the provider subscribes."""
    async with aiohttp.ClientSession() as http:
        accounts = [(await sign_in(http, turnpike.url, role))[1] for role in ("client", "provider")]
    pages = [
        await open_app(context, turnpike.url, account["email"])
        for context, account in zip(contexts, accounts, strict=True)
    ]
    client, provider = pages
    await client.locator(f"[data-testid='provider-{accounts[1]['id']}-video']:enabled").click(timeout=15_000)
    await client.get_by_test_id("call-start").click()
    await provider.get_by_test_id("accept").click(timeout=15_000)
    return pages


async def call_directly(contexts: list[BrowserContext]) -> list[Page]:
    """The control: the two pages negotiate with each other."""

    async def serve(route: Route) -> None:
        await route.fulfill(body=CONTROL_PAGE, content_type="text/html")

    pages = []
    for context in contexts:
        page = context.pages[0] if context.pages else await context.new_page()
        await page.route(CONTROL_URL, serve)
        await page.goto(CONTROL_URL)
        pages.append(page)
    publisher, subscriber = pages
    offer = await publisher.evaluate("() => offer()")
    answer = await subscriber.evaluate("(sdp) => answer(sdp)", offer)
    await publisher.evaluate("(sdp) => accept(sdp)", answer)
    return pages


async def worker_of_the_call(turnpike: Installation) -> int:
    """The process id of the worker that carries the one call there is."""
    workers = (await turnpike.info())["workers"]
    return int(max(workers, key=lambda worker: len(worker["rooms"]))["pid"])


def lines_of(ends: Ends) -> tuple[str, ...]:
    """The participants whose lines are bad."""
    return (PUBLISHER, SUBSCRIBER) if ends == "both" else (ends,)


async def play(scenario: Scenario, seconds: float, proxy: Proxy, turnpike: Installation | None) -> Window:
    """Lead, impairment and tail, by the clock."""
    ends = lines_of(scenario.ends)
    worker = await worker_of_the_call(turnpike) if turnpike and scenario.event == "worker_killed" else None
    await asyncio.sleep(LEAD_MS / 1000)
    impaired_s = scenario.impaired(seconds)
    begun = time.time() * 1000
    if scenario.event == "address_change":
        for end in ends:
            proxy.change_address(end)
    elif worker is not None:
        os.kill(worker, signal.SIGKILL)
    for end in ends:
        proxy.lines[end].set(scenario.conditions, scenario.conditions)
    await asyncio.sleep(impaired_s)
    for end in ends:
        proxy.lines[end].set(CLEAN, CLEAN)
    until = time.time() * 1000 if impaired_s else begun
    await asyncio.sleep(scenario.tail_s)
    return Window(begun, until, time.time() * 1000)


async def run_once(
    scenario: Scenario,
    seconds: float,
    seed: str,
    driver: Playwright,
    media: tuple[Media, Media],
    turnpike: Installation | None,
) -> Run:
    """One call, through the relay or, without an installation, from page to page."""
    async with Proxy(seed, (PUBLISHER, SUBSCRIBER)) as proxy, browsers(driver, media, proxy) as contexts:
        pages = await (call_directly(contexts) if turnpike is None else call_through_relay(turnpike, contexts))
        for page in pages:
            await page.wait_for_function(HAS_VIDEO, arg=SETTLED_FRAMES, timeout=CONNECT_TIMEOUT_MS)
        await asyncio.sleep(WARM_UP_S)
        with contextlib.suppress(PlaywrightTimeout):
            await pages[1].wait_for_function(HAS_WIDTH, arg=camera_size()[0], timeout=FULL_SIZE_TIMEOUT_MS)
        window = await play(scenario, seconds, proxy, turnpike)
        await asyncio.sleep(0.2)  # one more reading, so that the window ends inside the readings
        published, subscribed = [await page.evaluate("() => window.__samples") for page in pages]
        frames = proxy.taps[SUBSCRIBER].frames if turnpike is not None else {}
        call = Call(published, subscribed, window, turnpike is not None, frames)
        if turnpike is not None:
            await hang_up(pages)
        told = hints(call, proxy.lines, proxy.punctuality)
        return Run(call.figures(), told, series(call), window.impaired_until - window.impaired_from)


async def hang_up(pages: list[Page]) -> None:
    """End the call, so that the next one finds both people free. A call that is over already is left."""
    with contextlib.suppress(PlaywrightError):
        await pages[0].get_by_test_id("hangup").click(timeout=3_000)
        await pages[0].get_by_test_id("receipt-total").wait_for(timeout=10_000)


@dataclass(slots=True)
class Bench:
    """What all calls of one measurement share."""

    options: argparse.Namespace
    driver: Playwright
    media: tuple[Media, Media]
    begun: float = field(default_factory=time.monotonic)

    @property
    def out_of_time(self) -> bool:
        """Whether no further run is to begin."""
        return self.options.minutes is not None and time.monotonic() - self.begun > self.options.minutes * 60

    async def measure(self, scenario: Scenario) -> dict[str, Any]:
        """Some runs of one scenario; the best of them and the best of the control make the row."""
        options = self.options
        relayed, direct, done = kept_runs(options.keep if options.resume else None, scenario)
        made = row(scenario, relayed, direct, done)
        for number in range(done, options.runs):
            if self.out_of_time or (done and options.until_wanted and as_wanted(made)):
                break
            seed = f"{options.seed}/{scenario.name}/{number}"
            if options.only != "control":
                relayed += await self.attempt(scenario, seed, "relay")
            if scenario.event != "worker_killed" and options.only != "relay":
                direct += await self.attempt(scenario, seed, "control")
            done = number + 1
            made = row(scenario, relayed, direct, done)
            if options.keep is not None:
                keep(options.keep, made)
        return made

    async def attempt(self, scenario: Scenario, seed: str, way: str) -> list[Run]:
        """One run, or none when the call did not come about; says which."""
        async with alone():
            begun, waited = time.monotonic(), cpu_waited_s()
            try:
                run = await (self.relayed(scenario, seed) if way == "relay" else self.call(scenario, seed, None))
            except (PlaywrightError, InstallationFailed) as error:
                say(f"{seed} {way}: no call: {chr(10).join(str(error).splitlines()[-12:])}")
                return []
            run.hints["cpu_wait_share"] = round((cpu_waited_s() - waited) / (time.monotonic() - begun), 2)
        say(f"{seed} {way}: {json.dumps(run.figures)}")
        say(f"    {json.dumps(run.hints)}")
        return [run]

    async def relayed(self, scenario: Scenario, seed: str) -> Run:
        """One call through a fresh installation, whose log is shown when there is no call."""
        async with Installation(env=ENVIRONMENT) as turnpike:
            try:
                return await self.call(scenario, seed, turnpike)
            except PlaywrightError:
                say(turnpike.log_tail(20))
                raise

    async def call(self, scenario: Scenario, seed: str, turnpike: Installation | None) -> Run:
        """One call, through the relay or, without an installation, from page to page."""
        return await run_once(scenario, self.options.seconds, seed, self.driver, self.media, turnpike)


def cpu_waited_s() -> float:
    """For how long something on this machine waited for a processor, since it was started; 0 where it doesn't tell."""
    pressure = Path("/proc/pressure/cpu")
    if not pressure.exists():
        return 0.0
    return int(pressure.read_text().splitlines()[0].rpartition("total=")[2]) / 1e6


async def measure_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every scenario asked for, one after the other."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="tp-media-") as folder:
        media = make_media(Path(folder))
        async with async_playwright() as driver:
            bench = Bench(options, driver, media)
            for name in options.scenarios:
                made = await bench.measure(replace(SCENARIOS[name], ends=options.ends))
                if not made["runs"]:  # there was no time for one
                    continue
                rows.append(made)
                failed = [text for text, held in rows[-1]["wanted"]["checks"].items() if not held]
                judged = f"NOT AS WANTED: {'; '.join(failed)}" if failed else "as wanted"
                say(f"{name}, {rows[-1]['runs']} runs: {judged}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of: {', '.join(SCENARIOS)}; none: all")
    parser.add_argument("--runs", type=int, default=3, help="the best of so many counts")
    parser.add_argument("--until-wanted", action="store_true", help="no further run once one is as wanted")
    parser.add_argument("--minutes", type=float, help="begin no further run after so long")
    parser.add_argument("--seconds", type=float, default=20, help="length of an impairment that lasts")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only", choices=["relay", "control"], help="leave the other one out")
    parser.add_argument("--ends", choices=ENDS, default="subscriber", help="whose line is bad")
    parser.add_argument("--keep", type=Path, help="add rows, statistics and series to this JSON file, for bench.plots")
    parser.add_argument("--resume", action="store_true", help="count the runs kept before, and only make those missing")
    options = parser.parse_args()
    unknown = set(options.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    options.scenarios = options.scenarios or list(SCENARIOS)
    announce(Chromium=chromium_version())
    rows = asyncio.run(measure_all(options))
    print(json.dumps([printed(made) for made in rows]))


if __name__ == "__main__":
    main()
