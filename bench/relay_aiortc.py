"""aiortc as a relay: encoded packets from one ``RTCDtlsTransport`` to another, as its own stack parses and prints them.

Run as a program it is the relay's process; ``host`` is its side in ``bench.relay``. Both ends are built from aiortc's
objects for ICE and DTLS, without session descriptions: parameters go over the pipe as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any, cast

import aiortc.rtcdtlstransport as dtls_module
from aiortc import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCIceCandidate,
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceTransport,
)
from aiortc.rtp import HeaderExtensionsMap, RtpPacket

from bench.native import load
from bench.relay_case import BUFFER_BYTES, Case, Rig, as_a_worker, subscribers_of


def only_gcm() -> None:
    """The profile that everybody is measured with."""
    dtls_module.SRTP_PROFILES[:] = [dtls_module.SRTP_AEAD_AES_128_GCM]


async def make_end(certificate: RTCCertificate, *, controlling: bool) -> tuple[RTCDtlsTransport, dict[str, Any]]:
    """A transport that is ready to be started, and what the other end must know of it."""
    gatherer = RTCIceGatherer(iceServers=[])
    gatherer._connection.ice_controlling = controlling
    await gatherer.gather()
    transport = RTCDtlsTransport(RTCIceTransport(gatherer), [certificate])
    dtls = transport.getLocalParameters()
    return transport, {
        "candidates": [asdict(c) for c in gatherer.getLocalCandidates() if ":" not in c.ip],
        "ice": asdict(gatherer.getLocalParameters()),
        "fingerprints": [asdict(fingerprint) for fingerprint in dtls.fingerprints],
    }


async def start_end(transport: RTCDtlsTransport, remote: dict[str, Any], role: str) -> None:
    """ICE and DTLS with the other end, until both are through."""
    for candidate in remote["candidates"]:
        await transport.transport.addRemoteCandidate(RTCIceCandidate(**candidate))
    await transport.transport.addRemoteCandidate(None)
    fingerprints = [RTCDtlsFingerprint(**fingerprint) for fingerprint in remote["fingerprints"]]
    await transport.transport.start(RTCIceParameters(**remote["ice"]))
    await transport.start(RTCDtlsParameters(fingerprints, role=role))


class Forwarder:
    """Takes the packets of a transport and sends them on through others, with SSRC and payload type replaced."""

    def __init__(self, outputs: list[RTCDtlsTransport], number: int) -> None:
        self._outputs, self._ssrc = outputs, 500_000 + number * 1_000
        self._map = HeaderExtensionsMap()

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        packet.payload_type = 120
        for index, output in enumerate(self._outputs):
            packet.ssrc = self._ssrc + index
            await output._send_rtp(packet.serialize(self._map))

    async def _handle_rtcp_packet(self, packet: object) -> None:
        return None

    def _handle_disconnect(self) -> None:
        return None


async def serve() -> None:
    """The relay's process: answers each JSON line of stdin with one."""
    only_gcm()
    job = json.loads(await asyncio.to_thread(sys.stdin.readline))
    certificate = RTCCertificate.generateCertificate()
    ends = [await make_end(certificate, controlling=False) for _ in job["clients"]]
    print(json.dumps([parameters for _, parameters in ends]), flush=True)
    remotes = json.loads(await asyncio.to_thread(sys.stdin.readline))
    transports = [transport for transport, _ in ends]
    await asyncio.gather(*(start_end(t, remote, "client") for t, remote in zip(transports, remotes, strict=True)))
    for number, stream in enumerate(job["streams"]):
        receiver: Any = Forwarder([transports[s] for s in stream["subscribers"]], number)
        transports[stream["client"]]._rtp_router.register_receiver(
            receiver, ssrcs=[stream["ssrc"]], payload_types=[96], mid=None
        )
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextlib.asynccontextmanager
async def host(case: Case) -> AsyncIterator[Rig | None]:
    """A contender of ``bench.relay``."""
    from bench.relay import FIRST_SSRC, add_senders

    only_gcm()
    count = case.publishers if case.fan == 1 else case.publishers * (1 + case.fan)
    job = {
        "clients": list(range(count)),
        "streams": [
            {"client": i, "ssrc": FIRST_SSRC + i, "subscribers": subscribers_of(case, i)}
            for i in range(case.publishers)
        ],
    }
    child = subprocess.Popen(  # noqa: ASYNC220 - its pipes are read in threads
        as_a_worker(sys.executable, "-m", "bench.relay_aiortc"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    transports: list[RTCDtlsTransport] = []
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(job) + "\n")
        child.stdin.flush()
        remotes = json.loads(await asyncio.to_thread(child.stdout.readline))
        certificate = RTCCertificate.generateCertificate()
        ends = [await make_end(certificate, controlling=True) for _ in range(count)]
        transports = [transport for transport, _ in ends]
        child.stdin.write(json.dumps([parameters for _, parameters in ends]) + "\n")
        child.stdin.flush()
        await asyncio.gather(*(start_end(t, r, "server") for t, r in zip(transports, remotes, strict=True)))
        await asyncio.to_thread(child.stdout.readline)
        flows, control = flows_of(transports, case.publishers)
        add_senders(flows, case, range(case.publishers), [FIRST_SSRC + i for i in range(case.publishers)])
        yield Rig(flows, [child.pid], control)
    finally:
        child.kill()
        await asyncio.to_thread(child.communicate)
        for transport in transports:
            with contextlib.suppress(Exception):
                await transport.stop()
                await transport.transport.stop()


def flows_of(transports: list[RTCDtlsTransport], senders: int) -> tuple[Any, Any]:
    """Flows on the sockets and keys of connected transports, which read no more by themselves, and what to do with
    datagrams that are not RTP."""
    flows = load("flows").Flows(len(transports), senders)
    protocols = []
    for transport in transports:
        connection = transport.transport._connection
        pair = connection._nominated[1]
        cast(asyncio.ReadTransport, pair.protocol.transport).pause_reading()  # typed as if it only sent
        sock = pair.protocol.transport.get_extra_info("socket")
        # As all clients have: what they have no room for is not the relay's loss.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        flows.add_client(sock, pair.remote_addr, transport._tx_srtp, transport._rx_srtp)
        protocols.append((pair.protocol, pair.remote_addr))

    def control(client: int, datagram: bytes) -> None:
        protocol, address = protocols[client]
        protocol.datagram_received(datagram, address)

    return flows, control


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    asyncio.run(serve())
