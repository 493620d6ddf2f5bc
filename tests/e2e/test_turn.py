"""A call of two pages that may only go through a TURN server, with the credentials that the installation hands out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bench.installation import Installation, free_port
from tests.e2e.test_connectivity import lasts
from tests.e2e.test_kills import call_between_pages, hang_up

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("chromium_program"), pytest.mark.timeout(120)]

SECRET = "a-secret-of-the-turn-server"
RELAY_ONLY = """
(() => {
  const Native = window.RTCPeerConnection;
  window.RTCPeerConnection = class RTCPeerConnection extends Native {
    constructor(config = {}, ...more) { super({ ...config, iceTransportPolicy: 'relay' }, ...more); }
  };
})();
"""
"""As a page of a company whose firewall lets nothing out but to the TURN server."""

PATH = """
async () => {
  const report = await window.__witness.pcs.at(-1).getStats();
  const pairs = [...report.values()].filter((x) => x.type === 'candidate-pair' && x.nominated);
  const pair = pairs.find((x) => x.state === 'succeeded');
  const local = report.get(pair.localCandidateId);
  return [local.candidateType, local.relayProtocol];
}
"""


@contextlib.asynccontextmanager
async def turn_server(program: str, folder: Path) -> AsyncIterator[int]:
    """coturn on loopback, the only place where it may relay to; yields its port."""
    port = free_port()
    log = folder / "turnserver.log"
    command = [
        *(program, "-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--listening-port={port}"),
        *("--use-auth-secret", f"--static-auth-secret={SECRET}", "--realm=turnpike.test", "--allow-loopback-peers"),
        *("--no-tls", "--no-dtls", "--no-cli", "--fingerprint", "--simple-log", f"--log-file={log}"),
        *(f"--pidfile={folder / 'turnserver.pid'}", f"--userdb={folder / 'turnserver.db'}"),
    ]
    with (folder / "turnserver.out").open("wb") as out:
        process = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=subprocess.STDOUT, cwd=folder)
    try:
        async with asyncio.timeout(10):
            while not listens(port):
                assert process.returncode is None, (folder / "turnserver.out").read_text()
                await asyncio.sleep(0.05)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_call_goes_through_turn_where_nothing_else_is_let_through(
    transport: str, tool: Callable[[str, str], str], tmp_path: Path
) -> None:
    async with turn_server(tool("turnserver", "coturn"), tmp_path) as port:
        env = {"TURNPIKE_TURN_URLS": f"turn:127.0.0.1:{port}?transport={transport}", "TURNPIKE_TURN_SECRET": SECRET}
        async with Installation(env=env) as turnpike, call_between_pages(turnpike, scripts=[RELAY_ONLY]) as call:
            assert await lasts(call)
            for page in (call.client, call.provider):
                assert await page.evaluate(PATH) == ["relay", transport]
            await hang_up(call)
