"""What the relay reads of payloads: VP8's descriptor, and where key frames begin in each codec."""

from __future__ import annotations

from relay.codecs import key_frame_test, vp8_begins_key_frame, vp8_frame_size
from relay.vp8_rewrite import read_vp8, rewrite_vp8
from tests.fuzz.kit import Run, Target, expect

CODECS = ("VP8", "VP9", "H264", "AV1", "opus", "unheard-of")


def make() -> Run:
    tests = [key_frame_test(codec) for codec in CODECS]

    def run(data: bytes) -> None:
        for test in tests:
            test(data)
        if vp8_begins_key_frame(data):
            vp8_frame_size(data)
        for start in (0, 12):
            found = read_vp8(data, start, len(data))
            if found is None:
                continue
            buffer = bytearray(data)
            rewrite_vp8(buffer, start, found, 1, 1)
            expect(len(buffer) == len(data), "rewriting changed the length")
            again = read_vp8(bytes(buffer), start, len(buffer))
            expect(again is not None, "what was rewritten cannot be read")
            rewrite_vp8(buffer, start, found, 0, 0)
            expect(bytes(buffer) == data, "rewriting by nothing changed something")

    return run


def seeds() -> list[bytes]:
    return [
        b"\x10" + b"\x10\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01",
        b"\x90\xe0\x81\x23\x07\x40" + b"\x11\x00\x00rest",
        b"\x90\x80\x12" + b"\x10\x00\x00\x9d\x01\x2a\x40\x01\xf0\x00",
        b"\x67\x42\xe0\x1f",
        b"\x78\x00\x04\x67\x42\xe0\x1f\x00\x02\x68\xce",
        b"\x7c\x85more",
        b"\x98\x08\x0a\x0b\x00\x00\x00",
        b"\x8c\x80\x01\x02",
    ]


TARGET = Target(
    "relay/payloads", make, seeds, max_bytes=256, words=(b"\x9d\x01\x2a", b"\x90\xf0", b"\x78", b"\x7c\x85")
)
