"""Frames are whole and decodable, or they are left out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder import av1
from recorder.frames import OPUS_SILENCE, VIDEO, Frame, OpusAssembler, VideoAssembler, opus_samples
from recorder.h264 import ParameterSets, nal_units, picture_size
from recorder.sequence import Ordered, RtpPacket, Unwrapper
from tests.recorder.media import Coded, h264_payloads, payloads_of, video, vp8_payloads


def packets(codec: str, frames: tuple[Coded, ...]) -> list[RtpPacket]:
    out: list[RtpPacket] = []
    for number, frame in enumerate(frames):
        payloads = payloads_of(codec, frame.data, number, 300)
        for index, payload in enumerate(payloads):
            out.append(RtpPacket(len(out), number * 3000, index == len(payloads) - 1, 96, payload, number))
    return out


def assemble(codec: str, kept: list[RtpPacket]) -> tuple[list[Frame], VideoAssembler]:
    assembler, out, expected = VideoAssembler(codec, Unwrapper(32)), [], 0
    for packet in kept:
        frame = assembler.push(Ordered(packet, packet.sequence - expected))
        expected = packet.sequence + 1
        out += [frame] if frame else []
    return out, assembler


@pytest.mark.parametrize("codec", sorted(VIDEO))
def test_frames_come_back_as_encoded(codec: str) -> None:
    frames = video(codec, 1.0, gop=15)
    found, _ = assemble(codec, packets(codec, frames))
    assert [frame.key for frame in found] == [frame.key for frame in frames]
    assert found[0].size == (320, 180)
    if codec in ("vp8", "vp9"):
        assert [frame.data for frame in found] == [frame.data for frame in frames]


@pytest.mark.parametrize("codec", sorted(VIDEO))
@pytest.mark.parametrize("lost", ["first", "middle", "last"])
def test_after_a_loss_nothing_comes_until_the_next_key_frame(codec: str, lost: str) -> None:
    frames = video(codec, 1.0, gop=15)
    sent = packets(codec, frames)
    of_fifth = [packet for packet in sent if packet.timestamp == 5 * 3000]
    missing = {"first": of_fifth[0], "middle": of_fifth[len(of_fifth) // 2], "last": of_fifth[-1]}[lost]
    found, _ = assemble(codec, [packet for packet in sent if packet is not missing])
    assert [frame.timestamp // 3000 for frame in found] == [*range(5), *range(15, 30)]


def test_padding_between_frames_is_no_loss_even_where_it_is_missing() -> None:
    sent = packets("vp8", video("vp8", 0.5))
    shifted = [packet._replace(sequence=packet.sequence + (7 if packet.timestamp >= 9000 else 0)) for packet in sent]
    found, assembler = assemble("vp8", shifted)
    assert len(found) == 15
    assert assembler.dropped == 0
    padding = RtpPacket(sent[-1].sequence + 1, 99, False, 96, b"", 0)
    assert len(assemble("vp8", [*sent, padding])[0]) == 15


def test_frames_before_the_first_key_frame_are_left_out() -> None:
    frames = video("vp8", 1.0, gop=15)
    found, assembler = assemble("vp8", packets("vp8", frames)[len(vp8_payloads(frames[0].data, 0, 300)) :])
    assert found[0].timestamp == 15 * 3000
    assert assembler.dropped == 14


@pytest.mark.parametrize("size", [(320, 180), (640, 360), (1280, 720), (426, 240), (160, 90)])
def test_picture_size_is_read_from_the_parameter_set(size: tuple[int, int]) -> None:
    frames = video("h264", 0.1, *size)
    _, key, found = ParameterSets().join(nal_units(h264_payloads(frames[0].data)) or [])
    assert (key, found) == (True, size)


def test_key_frame_without_parameter_sets_gets_the_newest_ones() -> None:
    units = nal_units(h264_payloads(video("h264", 0.1)[0].data)) or []
    sets = ParameterSets()
    whole, _, _ = sets.join(units)
    alone, key, size = sets.join([unit for unit in units if unit[0] & 31 not in (7, 8)])
    assert (alone, key, size) == (whole, True, (320, 180))


def vp8_key(width: int, height: int) -> bytes:
    """The head of a key frame, which claims a size (RFC 6386 §9.1)."""
    return b"\x10\0\0\x9d\x01\x2a" + width.to_bytes(2, "little") + height.to_bytes(2, "little") + bytes(40)


def vp9_key(width: int, height: int) -> bytes:
    """The head of a key frame of profile 0: marker, sync code, colours, size."""
    bits = f"10000010{0x498342:024b}001" + "0" + f"{width - 1:016b}{height - 1:016b}" + "0"
    return int(bits.ljust(8 * 20, "0"), 2).to_bytes(20, "big")


@pytest.mark.parametrize(
    ("codec", "made", "size", "taken"),
    [
        ("vp8", vp8_key, (3840, 2160), True),
        ("vp8", vp8_key, (16_383, 16_383), False),
        ("vp9", vp9_key, (5120, 1440), True),
        ("vp9", vp9_key, (65_536, 32_767), False),
        ("vp9", vp9_key, (65_536, 16), False),
    ],
)
def test_picture_that_claims_gigabytes_is_left_out(
    codec: str, made: Callable[[int, int], bytes], size: tuple[int, int], taken: bool
) -> None:
    payloads = payloads_of(codec, made(*size), 1)
    kept = [RtpPacket(n, 0, n == len(payloads) - 1, 96, payload, 0) for n, payload in enumerate(payloads)]
    found, assembler = assemble(codec, kept)
    assert ([frame.size for frame in found], assembler.dropped) == (([size], 0) if taken else ([], 1))


def test_a_unit_in_thousands_of_fragments_is_joined_whole() -> None:
    head, body = b"\x61", [bytes([n & 255]) * 1000 for n in range(4000)]
    last = len(body) - 1
    parts = [bytes([0x7C, (n == 0) << 7 | (n == last) << 6 | 1]) + part for n, part in enumerate(body)]
    assert nal_units(parts) == [head + b"".join(body)]
    obus = [bytes([0x10 | (n > 0) << 7 | (n < last) << 6]) + part for n, part in enumerate(body)]
    assert av1.units(obus) == [b"".join(body)]


@pytest.mark.parametrize(
    ("packet", "samples"),
    [(OPUS_SILENCE, 960), (b"\x00", 480), (b"\x18", 2880), (b"\xe0", 120), (b"\xf9", 1920), (b"\xfb\x03", 2880)],
)
def test_opus_duration_is_read_from_its_first_byte(packet: bytes, samples: int) -> None:
    assert opus_samples(packet) == samples


@given(st.sampled_from(sorted(VIDEO)), st.lists(st.tuples(st.binary(max_size=40), st.booleans(), st.integers(0, 3))))
def test_any_payloads_make_frames_or_nothing(codec: str, payloads: list[tuple[bytes, bool, int]]) -> None:
    assembler, opus = VideoAssembler(codec, Unwrapper(32)), OpusAssembler("opus", Unwrapper(32))
    for number, (payload, marker, timestamp) in enumerate(payloads):
        packet = Ordered(RtpPacket(number, timestamp, marker, 96, payload, 0), 0)
        frame = assembler.push(packet)
        assert frame is None or frame.data
        opus.push(packet)


@given(st.binary(max_size=80))
def test_any_parameter_set_gives_a_sensible_size_or_none(data: bytes) -> None:
    size = picture_size(b"\x67" + data)
    assert size is None or (0 < size[0] <= 16384 and 0 < size[1] <= 16384)
