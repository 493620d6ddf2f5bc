"""``turnpike`` with tiny roles, as ``test_serve`` runs it. The servers, locks and supervision are the real ones."""

from __future__ import annotations

import os
import sys

from config.settings import Settings
from signaling import cli, serve
from signaling.supervisor import ChildSpec

CONTROL = """
import asyncio, sys
from aiohttp import web
from config.connections import open_redis
from config.database import Database
from config.metrics import ops_routes
from config.process import run_role
from config.settings import Settings

async def accounts(_):
    return web.json_response({"accounts": [{"email": "ann@demo.example", "password": "demo", "role": "client"}]})

async def main(settings):
    redis = open_redis(settings.redis_url)
    async with await Database.open(settings.database_url, name="control") as database:
        app = web.Application()
        app.add_routes([*ops_routes({"database": database.ping}), web.get("/api/v1/demo/accounts", accounts)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, settings.http_host, settings.http_port).start()
        await redis.incr("starts")
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()
            await redis.aclose()

sys.exit(run_role("control", Settings(), main))
"""

SIMPLE = """
import asyncio, sys
from config.process import run_role
from config.settings import Settings

async def main(settings):
    await asyncio.Event().wait()

sys.exit(run_role(sys.argv[1], Settings(), main))
"""

WORKER = """
import asyncio, os, sys, time
from config.connections import open_redis
from config.process import run_role
from config.settings import Settings
from relay.bus import WorkerBus
from relay.messages import Done
from relay.messages_status import WorkerStatus

async def main(settings):
    redis = open_redis(settings.redis_url)
    now = time.time_ns() // 1_000_000
    status = WorkerStatus(
        worker_id="w1", pid=os.getpid(), host="here", addresses=("127.0.0.1",), port=4000, plane="python",
        plane_reason="small", ops_url="", rooms=(), load=0.0, draining=False, started_at_ms=now, at_ms=now, version="1",
    )
    async def handle(_command):
        return Done()
    async with WorkerBus(redis, "w1", handle) as bus:
        while True:
            await bus.tell_status(status)
            await asyncio.sleep(1)

sys.exit(run_role("worker", Settings(), main))
"""


def _specs(settings: Settings) -> list[ChildSpec]:
    scripts = {"control": CONTROL, "worker-1": WORKER, "recorder": SIMPLE}
    return [
        ChildSpec(spec.name, [sys.executable, "-c", scripts[spec.name], spec.name], spec.env, spec.stop_order)
        for spec in _real_specs(settings)
    ]


_real_specs = serve.role_specs

if __name__ == "__main__":
    os.environ.setdefault("TURNPIKE_HTTP_PORT", "0")
    serve.role_specs = _specs
    sys.exit(cli.main())
