"""The control role: REST, Socket.IO, sessions, the meter, and the web app, in one stateless process.

``main`` opens what the parts need, serves, and runs the loops until it is cancelled; then it disconnects its sockets
(their pages connect to another control), finishes what it was winding up, and passes its shards on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import web

from config.clock import Clock, SystemClock
from config.connections import open_redis
from config.database import Database
from config.keys import KeyRing, SigningKey, WrappedKeys
from config.logs import get_log
from config.metrics import gauge
from config.objects_open import open_keys, open_objects
from config.settings import Settings
from recorder import api as recorder_api
from recorder import compliance_api
from recorder.catalogue import CONSENT_TEXT, Recordings
from relay.bus import ControlBus
from signaling import demo
from signaling.application import application
from signaling.assembly import Control, Servers, assemble
from signaling.away import AWAY
from signaling.lifecycle import LIVE
from signaling.messages import ConsentText
from signaling.sockets import close_server

POOL_MAX: Final = 16
METER_POOL_MAX: Final = 4
PRESENCE_EVERY_S: Final = 2.0
COUNT_EVERY_S: Final = 5.0
FINISH_S: Final = 5.0
"""An orderly end waits so long for sessions that are being wound up; the next leaseholder does the rest."""

log = get_log("signaling.control")
_sessions = gauge("turnpike_sessions", "Live sessions of the installation, by state", ["state"])


async def main(settings: Settings) -> int:
    """Run until cancelled."""
    async with serving(settings, SystemClock()) as (_, port):
        log.info("control serves", host=settings.http_host, port=port)
        await asyncio.Event().wait()
    return 0


@contextlib.asynccontextmanager
async def serving(settings: Settings, clock: Clock) -> AsyncIterator[tuple[Control, int]]:
    """A running control process: its parts, and the port that it listens on."""
    if settings.database_url is None or settings.redis_url is None:
        raise ValueError("control needs DATABASE_URL and REDIS_URL")
    async with contextlib.AsyncExitStack() as stack:
        servers = await _open(stack, settings.database_url, settings.redis_url)
        keys, wrapped = KeyRing.from_settings(settings), WrappedKeys(open_keys(settings))
        recordings = Recordings(servers.database, keys, wrapped, open_objects(settings), clock)
        consent_text = ConsentText(version=CONSENT_TEXT.version, text=CONSENT_TEXT.text)
        signing = SigningKey.from_settings(settings)
        recorder_endpoints = [
            *compliance_api.endpoints(recordings, signing, clock),
            *recorder_api.endpoints(recordings),
        ]
        control = assemble(settings, clock, servers, recordings, consent_text, recorder_endpoints)
        if settings.demo:
            await demo.furnish(settings, control.people, control.billing)
            await demo.furnish_policies(recordings)
        port = await _listen(stack, settings, application(settings, control, servers))
        stack.push_async_callback(_finish, control)
        loops = [control.rooms.watch(), control.shards.run(), _presence(control), _count(control)]
        loops.append(control.quality.run())
        # A loop that ends takes the process with it, which is then started anew: one without it would look well.
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = [group.create_task(loop) for loop in loops]
        stack.callback(_stop, tasks)
        yield control, port


async def _open(stack: contextlib.AsyncExitStack, database_url: str, redis_url: str) -> Servers:
    database = await stack.enter_async_context(await Database.open(database_url, name="control", max_size=POOL_MAX))
    meter = await stack.enter_async_context(await Database.open(database_url, name="meter", max_size=METER_POOL_MAX))
    redis = open_redis(redis_url, name="turnpike-control")
    stack.push_async_callback(redis.aclose)
    bus = await stack.enter_async_context(ControlBus(redis))
    return Servers(database, meter, redis, redis_url, bus)


async def _listen(stack: contextlib.AsyncExitStack, settings: Settings, app: web.Application) -> int:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, settings.http_host, settings.http_port, backlog=1024)
    await site.start()
    return int(runner.addresses[0][1])


def _stop(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()


async def _finish(control: Control) -> None:
    """Sockets first, so that nothing new comes; then what was begun."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FINISH_S):
            await control.sockets.close()
            await control.mover.finish()
            await control.closer.finish()
            await control.quality.save()
    await close_server(control.sio)


async def _presence(control: Control) -> None:
    while True:
        await asyncio.sleep(PRESENCE_EVERY_S)
        try:
            await control.sockets.drop_strangers()
            await control.sockets.renew_standing()
            await control.presence.sweep()
        except AWAY as error:
            log.warning("presence not swept", why=str(error))
        except Exception:  # noqa: BLE001 - a loop's boundary: logged, and tried again
            log.fault("presence not swept")


async def _count(control: Control) -> None:
    while True:
        try:
            counts = await control.sessions.count_by_state()
            for state in LIVE:
                _sessions.labels(state.value).set(counts.get(state.value, 0))
        except Exception as error:  # noqa: BLE001 - a loop's boundary: the numbers stay as they are until the next look
            log.warning("sessions not counted", why=repr(error))
        await asyncio.sleep(COUNT_EVERY_S)
