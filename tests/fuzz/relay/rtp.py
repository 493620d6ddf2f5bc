"""RTP headers and extensions, RTX, and what is learned of unknown SSRCs."""

from __future__ import annotations

from recorder.sequence import parse_rtp
from relay.rtp import Unwrapper, get_extension, make_packet, read_extensions, read_header, unwrap_rtx
from tests.fuzz.kit import Run, Target, expect


def make() -> Run:
    unwrapper = Unwrapper()

    def run(data: bytes) -> None:
        header = read_header(data, len(data))
        parsed = parse_rtp(data, 0)
        expect((header is None) == (parsed is None), "the recorder reads what the relay does not, or the other way")
        if header is None:
            return
        expect(12 <= header.payload_start <= header.payload_end <= len(data), "a payload outside the packet")
        for number, start, length in read_extensions(data, header):
            expect(0 <= number < 256, "an extension that cannot be")  # 0 is nobody's, and asked for by nobody
            expect(12 <= start <= start + length <= header.payload_start, "an extension outside the header")
        for number in range(1, 16):
            get_extension(data, header, number)
        unwrapper.unwrap(header.sequence)
        original = unwrap_rtx(data, header, 96, 1)
        if original is not None:
            expect(len(original) <= len(data), "RTX made a packet longer")
            expect(read_header(original, len(original)) is not None, "RTX made something else than a packet")

    return run


def seeds() -> list[bytes]:
    common = {"payload_type": 96, "timestamp": 1, "ssrc": 7}
    return [
        make_packet(sequence=1, payload=b"\x10payload", **common),
        make_packet(sequence=65_535, payload=b"\0\1rtx", marker=True, extensions=[(1, b"0"), (3, b"\0\7")], **common),
        make_packet(sequence=2, payload=b"", padding=9, extensions=[(20, bytes(20))], **common),
    ]


TARGET = Target("relay/rtp", make, seeds, words=(b"\xbe\xde", b"\x10\x00", b"\x90\x60", b"\xb0\xe0"))
