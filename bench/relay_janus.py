"""Debian's Janus as a relay: its videoroom plugin, one room per call or one for the broadcast.

Janus runs on the relay's core with all its threads, as ``janus -F`` with a configuration made for the run; its clients
are aiortc peer connections, whose sockets and keys the load takes over once they are connected. Publishers and
subscribers have a connection each, as the plugin wants it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
from aiortc import MediaStreamTrack, RTCConfiguration, RTCDtlsTransport, RTCPeerConnection, RTCSessionDescription

from bench.relay_aiortc import flows_of, only_gcm
from bench.relay_case import Case, Rig, as_a_worker

LIBRARIES = Path("/usr/lib")
CONNECTS_AT_ONCE = 6
REPLY_S = 15.0
CLOSE_S = 5.0

JANUS = """general: {{
	{event_loops}
	configs_folder = "{folder}"
	plugins_folder = "{libraries}/plugins"
	transports_folder = "{libraries}/transports"
	events_folder = "{libraries}/events"
	loggers_folder = "{libraries}/loggers"
	debug_level = 2
}}
media: {{ rtp_port_range = "40000-44000" }}
nat: {{ ice_lite = true, full_trickle = false, ignore_mdns = true, ice_enforce_list = "{address}" }}
plugins: {{ disable = "{unused_plugins}" }}
transports: {{ disable = "{unused_transports}" }}
"""
HTTP = """general: {{
	json = "compact", base_path = "/janus", http = true, port = {port}, ip = "127.0.0.1", https = false
}}
admin: {{ admin_http = false }}
"""


def installed() -> str | None:
    """The version of Janus on this machine, None where there is none."""
    if shutil.which("janus") is None or _libraries() is None:
        return None
    words = subprocess.run(["janus", "--version"], capture_output=True, text=True, timeout=10).stdout.split()
    return next((word.strip("()") for word in words if "." in word), "unknown")  # "Janus version: 1102 (1.1.2)"


def _libraries() -> Path | None:
    found = sorted(LIBRARIES.glob("*/janus/plugins/libjanus_videoroom.so"))
    return found[0].parent.parent if found else None


def own_address() -> str | None:
    """An IPv4 address of this machine that is not loopback: Janus offers no other. None: there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return None if address.startswith("127.") else address


class _Silent(MediaStreamTrack):
    """A track that the peer connection sends nothing of: the load sends in its place."""

    kind = "video"

    async def recv(self) -> Any:
        await asyncio.Event().wait()


class _Api:
    """Janus' own REST interface, one session."""

    def __init__(self, http: aiohttp.ClientSession, base: str) -> None:
        self._http, self._base = http, base
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._session = 0

    async def open(self) -> asyncio.Task[None]:
        """Begin a session; the task that polls its events."""
        reply = await self._post(self._base, {"janus": "create"})
        self._session = reply["data"]["id"]
        return asyncio.create_task(self._poll())

    async def attach(self) -> int:
        """A handle on the videoroom plugin."""
        body = {"janus": "attach", "plugin": "janus.plugin.videoroom"}
        handle: int = (await self._post(f"{self._base}/{self._session}", body))["data"]["id"]
        return handle

    async def ask(self, handle: int, body: dict[str, Any], jsep: dict[str, str] | None = None) -> dict[str, Any]:
        """Send a message to the plugin; its answer, which may come as an event."""
        message: dict[str, Any] = {"janus": "message", "body": body, "transaction": secrets.token_hex(8)}
        if jsep is not None:
            message["jsep"] = jsep
        waiting = self._waiting[message["transaction"]] = asyncio.get_running_loop().create_future()
        try:
            reply = await self._post(f"{self._base}/{self._session}/{handle}", message)
            if reply["janus"] == "ack":
                reply = await asyncio.wait_for(waiting, REPLY_S)
        finally:
            del self._waiting[message["transaction"]]
        if reply["janus"] == "error" or "error" in reply.get("plugindata", {}).get("data", {}):
            raise RuntimeError(f"janus refused {body['request']}: {reply}")
        return reply

    async def _post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        body.setdefault("transaction", secrets.token_hex(8))
        async with self._http.post(url, json=body) as response:
            reply: dict[str, Any] = await response.json(content_type=None)
            return reply

    async def _poll(self) -> None:
        while True:
            async with self._http.get(f"{self._base}/{self._session}", params={"maxev": "10"}) as response:
                events = await response.json(content_type=None)
            for event in events if isinstance(events, list) else [events]:
                waiting = self._waiting.get(event.get("transaction", ""))
                if waiting is not None and not waiting.done() and event["janus"] in ("event", "error"):
                    waiting.set_result(event)


def _peer() -> RTCPeerConnection:
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def _sha256_only(sdp: str) -> str:
    kept = (line for line in sdp.splitlines(True) if not line.startswith("a=fingerprint:") or "sha-256" in line)
    return "".join(kept)


def _transport(peer: RTCPeerConnection) -> RTCDtlsTransport:
    return peer.getTransceivers()[0].receiver.transport


async def _connected(peer: RTCPeerConnection) -> None:
    async with asyncio.timeout(REPLY_S):
        while peer.connectionState != "connected":  # noqa: ASYNC110 - it may have come already
            await asyncio.sleep(0.02)


async def _publish(api: _Api, room: int) -> tuple[RTCPeerConnection, int, int, int]:
    """A publisher in a room: its connection, its id there, its SSRC, its payload type."""
    handle = await api.attach()
    joined = await api.ask(handle, {"request": "join", "ptype": "publisher", "room": room, "display": "p"})
    peer = _peer()
    sender = peer.addTrack(_Silent())
    await peer.setLocalDescription(await peer.createOffer())
    offer = {"type": "offer", "sdp": _sha256_only(peer.localDescription.sdp)}
    answer = (await api.ask(handle, {"request": "configure", "audio": False, "video": True}, offer))["jsep"]["sdp"]
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await _connected(peer)
    lines = [line for line in answer.splitlines() if line.startswith("a=rtpmap:") and "VP8" in line]
    return peer, joined["plugindata"]["data"]["id"], sender._ssrc, int(lines[0].split()[0].split(":")[1])


async def _subscribe(api: _Api, room: int, publisher: int) -> RTCPeerConnection:
    handle = await api.attach()
    join = {"request": "join", "ptype": "subscriber", "room": room, "streams": [{"feed": publisher}]}
    offer = (await api.ask(handle, join))["jsep"]["sdp"]
    peer = _peer()
    await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    await peer.setLocalDescription(await peer.createAnswer())
    answer = {"type": "answer", "sdp": _sha256_only(peer.localDescription.sdp)}
    await api.ask(handle, {"request": "start"}, answer)
    await _connected(peer)
    return peer


async def _fill(api: _Api, case: Case, peers: list[RTCPeerConnection]) -> Rig:
    """Rooms, publishers and subscribers of the case; ``peers`` gets every connection that was made."""
    from bench.relay import add_senders

    limit = asyncio.Semaphore(CONNECTS_AT_ONCE)
    rooms = case.publishers // 2 if case.fan == 1 else case.publishers
    admin = await api.attach()
    for room in range(1, rooms + 1):
        await api.ask(admin, {"request": "create", "room": room, "publishers": 2, "bitrate": 0, "videocodec": "vp8",
                              "fir_freq": 0, "notify_joining": False})  # fmt: skip

    async def publisher(index: int) -> tuple[RTCPeerConnection, int, int, int]:
        async with limit:
            made = await _publish(api, (index // 2 if case.fan == 1 else index) + 1)
        peers.append(made[0])
        return made

    publishers = await asyncio.gather(*(publisher(index) for index in range(case.publishers)))

    async def subscriber(index: int) -> RTCPeerConnection:
        source = index ^ 1 if case.fan == 1 else index // case.fan
        async with limit:
            made = await _subscribe(api, (index // 2 if case.fan == 1 else source) + 1, publishers[source][1])
        peers.append(made)
        return made

    subscribers = await asyncio.gather(*(subscriber(index) for index in range(case.publishers * case.fan)))
    connections = [made[0] for made in publishers] + list(subscribers)
    flows, control = flows_of([_transport(peer) for peer in connections], case.publishers)
    ssrcs = [made[2] for made in publishers]
    add_senders(flows, case, range(case.publishers), ssrcs, publishers[0][3])
    return Rig(flows, [], control)


def host(event_loops: int) -> Callable[[Case], AbstractAsyncContextManager[Rig | None]]:
    """Janus with so many event loops (0: one per connection, as it comes) as a contender of ``bench.relay``."""

    @contextlib.asynccontextmanager
    async def run(case: Case) -> AsyncIterator[Rig | None]:
        address, libraries = own_address(), _libraries()
        if installed() is None or address is None or libraries is None:
            yield None
            return
        only_gcm()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folder = Path(tempfile.mkdtemp(prefix="tp-janus-"))
        _configure(folder, libraries, address, port, event_loops)
        child = subprocess.Popen(  # noqa: ASYNC220 - nothing is read from it
            as_a_worker("janus", "-F", str(folder)),
            stdout=(folder / "log").open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        peers: list[RTCPeerConnection] = []
        try:
            async with aiohttp.ClientSession() as http, contextlib.AsyncExitStack() as stack:
                api = _Api(http, f"http://127.0.0.1:{port}/janus")
                polling = await _open(api, child)
                stack.callback(polling.cancel)
                rig = await _fill(api, case, peers)
                rig.pids.append(child.pid)
                yield rig
                with contextlib.suppress(TimeoutError):  # some wait for a word of their peer
                    await asyncio.wait_for(asyncio.gather(*(peer.close() for peer in peers)), CLOSE_S)
        finally:
            child.kill()
            child.wait()
            shutil.rmtree(folder, ignore_errors=True)

    return run


def _configure(folder: Path, libraries: Path, address: str, port: int, event_loops: int) -> None:
    plugins = [path.name for path in (libraries / "plugins").glob("*.so") if "videoroom" not in path.name]
    transports = [path.name for path in (libraries / "transports").glob("*.so") if "http" not in path.name]
    (folder / "janus.jcfg").write_text(
        JANUS.format(
            event_loops=f"event_loops = {event_loops}" if event_loops else "",
            folder=folder,
            libraries=libraries,
            address=address,
            unused_plugins=",".join(plugins),
            unused_transports=",".join(transports),
        )
    )
    (folder / "janus.transport.http.jcfg").write_text(HTTP.format(port=port))
    (folder / "janus.plugin.videoroom.jcfg").write_text("general: { }\n")


async def _open(api: _Api, child: subprocess.Popen[bytes]) -> asyncio.Task[None]:
    for _ in range(100):
        if child.poll() is not None:
            raise RuntimeError("janus ended at once")
        try:
            return await api.open()
        except aiohttp.ClientError:
            await asyncio.sleep(0.1)
    raise RuntimeError("janus does not answer")
