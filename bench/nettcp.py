"""What a bad network does to TCP, on the lines of ``bench.netproxy``: a forwarder for signaling and for ICE over TCP.

No packet of a TCP connection is lost for good: it comes later, and all behind it wait. Each piece of a stream is taken
as the segments that it is sent in; a lost segment costs a round trip where enough follow it, else the sender's
retransmission timer, and that, doubled each time, if the resent one is lost too. Congestion windows are left out: what
is said while a call is set up fits into the first one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Final

from bench.netlink import Link
from bench.netproxy import LOOPBACK, Address, Line

SEGMENT: Final = 1_400
RTO_MIN_MS: Final = 200
"""The least that Linux adds to a round trip before it sends again (``TCP_RTO_MIN``)."""
DUPLICATES: Final = 3
"""So many later segments that arrive make the sender send a lost one again at once (RFC 5681 §3.2)."""
PIECE_MAX: Final = 32_768
WAITING_MAX: Final = 512
"""Pieces under way in one direction of a connection; then the sender has to wait."""


class TcpGate:
    """The address at which the owner of ``line`` sees ``target``. Use as an async context manager."""

    def __init__(self, seed: str, line: Line, target: Address) -> None:
        self._luck = random.Random(seed)
        self._line = line
        self._target = target
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> TcpGate:
        self._server = await asyncio.start_server(self._connected, LOOPBACK, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def address(self) -> Address:
        assert self._server is not None
        address: Address = self._server.sockets[0].getsockname()
        return address

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        far: asyncio.StreamWriter | None = None
        with contextlib.suppress(OSError, asyncio.CancelledError):
            # The handshake's round trip, before anything can be said.
            await asyncio.sleep(passes_ms(self._line.up, self._line.down, 1, self._luck) / 1e3)
            await asyncio.sleep(passes_ms(self._line.down, self._line.up, 1, self._luck) / 1e3)
            far_reader, far = await asyncio.open_connection(*self._target)
            await asyncio.gather(
                forward(reader, far, self._line.up, self._line.down, self._luck),
                forward(far_reader, writer, self._line.down, self._line.up, self._luck),
            )
        for each in (writer, far):
            if each is not None:
                each.close()
        self._connections.discard(task)


async def forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link, back: Link, luck: random.Random
) -> None:
    """Carry one direction, in order, until it ends; then close the other end of it."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WAITING_MAX)

    async def deliver() -> None:
        while True:
            at_s, piece = await waiting.get()
            await asyncio.sleep(max(0.0, at_s - loop.time()))
            if not piece:
                break
            writer.write(piece)
            await writer.drain()
        writer.write_eof()

    delivering = asyncio.create_task(deliver())
    newest_s, piece = 0.0, b"first"
    try:
        while piece and not delivering.done():
            piece = await reader.read(PIECE_MAX)
            newest_s = max(newest_s, loop.time() + passes_ms(link, back, len(piece), luck) / 1e3)
            await waiting.put((newest_s, piece))
        await delivering
    finally:
        delivering.cancel()


def passes_ms(link: Link, back: Link, size: int, luck: random.Random) -> float:
    """After how long the last segment of a piece has arrived."""
    now = link.conditions
    round_trip_ms = now.delay_ms + back.conditions.delay_ms
    segments = max(1, -(-size // SEGMENT))
    worst = 0.0
    for number in range(segments):
        late_ms, timer_ms = now.jitter_ms * luck.random(), round_trip_ms + RTO_MIN_MS
        loss = min(now.loss, 0.9)
        if luck.random() < loss:
            # The three that follow it tell the sender; of the last ones nobody tells.
            late_ms += round_trip_ms if segments - number > DUPLICATES else timer_ms
            while luck.random() < loss:
                late_ms += timer_ms
                timer_ms *= 2
        worst = max(worst, now.delay_ms + late_ms)
    return worst
