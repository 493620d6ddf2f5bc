"""Frames of ICE over TCP, however the stream is cut."""

from __future__ import annotations

from relay.plane_tcp import FRAME_BYTES_MAX, Deframer
from tests.fuzz.kit import Run, Target, expect, framed


def make() -> Run:
    def run(data: bytes) -> None:
        whole, cut = Deframer(), Deframer()
        size = 1 + (data[0] if data else 0)
        together = whole.feed(data)
        pieces = [frame for at in range(0, len(data), size) for frame in cut.feed(data[at : at + size])]
        expect(together == pieces, "what is read depends on how it was cut")
        expect(whole.broken == cut.broken, "broken one way, whole the other")
        expect(all(len(frame) <= FRAME_BYTES_MAX for frame in together), "a frame too long")
        expect(sum(len(frame) + 2 for frame in together) <= len(data), "more came out than went in")

    return run


def seeds() -> list[bytes]:
    return [framed([b"", b"one", bytes(300)]), framed([bytes(2_000)]), framed([bytes(1_000)] * 3), b"\xff\xff more"]


TARGET = Target("relay/tcp_frames", make, seeds, max_bytes=8_192)
