"""What pages send, as the recorder puts it together: reordering, VP8, H264 and opus frames, sizes of pictures."""

from __future__ import annotations

from recorder.frames import AUDIO, VIDEO, assembler
from recorder.h264 import picture_size
from recorder.sequence import Reorder, RtpPacket, Unwrapper
from tests.fuzz.kit import Run, Target, broken, expect, framed, unframed

CODECS = sorted({*VIDEO, *AUDIO})
SECOND_NS = 1_000_000_000


def make() -> Run:
    def run(data: bytes) -> None:
        codec = CODECS[data[0] % len(CODECS)] if data else CODECS[0]
        frames = assembler(codec, Unwrapper(32)) or broken(f"{codec} has no assembler")
        order, taken, made = Reorder(), 0, 0
        for now, frame in enumerate(unframed(data[1:])):
            head, payload = frame[:4].ljust(4, b"\0"), frame[4:]
            taken += len(payload)
            packet = RtpPacket(head[0] << 8 | head[1], 3_000 * head[2], bool(head[3] & 1), 96, payload, now * SECOND_NS)
            order.push(packet)
            for ordered in order.pop(now * SECOND_NS, final=head[3] & 128 != 0):
                whole = frames.push(ordered)
                made += 0 if whole is None else len(whole.data)
        for ordered in order.pop(100 * SECOND_NS, final=True):
            whole = frames.push(ordered)
            made += 0 if whole is None else len(whole.data)
        # H264 units get four bytes of length each, and every key frame may carry parameter sets seen before.
        expect(made <= 66 * (taken + 64), "frames out of proportion")
        picture_size(data)

    return run


def seeds() -> list[bytes]:
    def packets(codec: str, *payloads: bytes) -> bytes:
        code = bytes((CODECS.index(codec),))
        return code + framed(
            b"\0" + bytes((n, 1, n == len(payloads))) + payload for n, payload in enumerate(payloads, 1)
        )

    sps, pps = bytes.fromhex("6742c01f95a0280f6840"), bytes.fromhex("68ce3c80")
    together = b"\x78" + b"".join(len(unit).to_bytes(2, "big") + unit for unit in (sps, pps))
    key = b"\x90\xe0\x81\x23\x07\x40\x10\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01"
    return [
        packets("vp8", key, b"\x80\xe0\x81\x23\x07\x40more"),
        packets("h264", together, b"\x7c\x85first", b"\x7c\x05", b"\x7c\x45last"),
        packets("h264", sps, pps, b"\x65picture"),
        packets("opus", b"\x78voice", b"\x7b\x03three"),
        b"\0" + sps,
    ]


TARGET = Target(
    "recorder/frames", make, seeds, max_bytes=2_048, words=(b"\x9d\x01\x2a", b"\x78\x00", b"\x7c\x85", b"\x67")
)
