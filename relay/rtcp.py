"""RTCP (RFC 3550 §6, RFC 4585, RFC 5104, RFC 5506): a bounded reader and the packets that the relay itself sends.

``parse_compound`` takes what libsrtp authenticated, which a hostile page may still have composed: it reads no byte
outside the packet, returns a bounded number of items, skips what it does not know, and never raises. Transport-wide
congestion control is ``relay.rtcp_transport_cc``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from relay.rtcp_transport_cc import TransportFeedback, parse_transport_feedback
from relay.rtp import Buffer

SR: Final = 200
RR: Final = 201
SDES: Final = 202
BYE: Final = 203
RTPFB: Final = 205
PSFB: Final = 206

PACKETS_MAX: Final = 64
"""RTCP packets read from one compound; later ones are ignored."""
SEQUENCES_MAX: Final = 512
"""Sequence numbers read from one NACK; later ones are ignored (they are asked for again)."""
_NTP_EPOCH_S: Final = 2_208_988_800
_REPORT: Final = struct.Struct("!IIIIII")
_NACK_ITEM: Final = struct.Struct("!HH")


class ReportBlock(NamedTuple):
    """What a receiver says of one stream (RFC 3550 §6.4.1)."""

    ssrc: int
    fraction_lost: int
    """Of 256, since the previous report."""
    packets_lost: int
    """Cumulative, signed 24 bits."""
    highest_sequence: int
    """Extended: cycles in the upper 16 bits."""
    jitter: int
    """In RTP time units."""
    last_sr: int
    """Middle 32 bits of the NTP time of the last sender report; 0: none yet."""
    delay_since_last_sr: int
    """In 1/65536 s."""


class SenderReport(NamedTuple):
    """RFC 3550 §6.4.1."""

    ssrc: int
    ntp64: int
    """32.32 fixed point, seconds since 1900."""
    rtp_timestamp: int
    packets: int
    octets: int
    reports: tuple[ReportBlock, ...]


class ReceiverReport(NamedTuple):
    """RFC 3550 §6.4.2; a profile extension after the blocks is ignored."""

    ssrc: int
    reports: tuple[ReportBlock, ...]


class Goodbye(NamedTuple):
    """RFC 3550 §6.6."""

    ssrcs: tuple[int, ...]


class Nack(NamedTuple):
    """Generic NACK (RFC 4585 §6.2.1)."""

    sender_ssrc: int
    media_ssrc: int
    sequences: tuple[int, ...]


class PictureLoss(NamedTuple):
    """PLI (RFC 4585 §6.3.1): a key frame is wanted."""

    sender_ssrc: int
    media_ssrc: int


class FullIntraRequest(NamedTuple):
    """FIR (RFC 5104 §4.3.1): key frames are wanted, as (ssrc, command number)."""

    sender_ssrc: int
    requests: tuple[tuple[int, int], ...]


class ReceiverEstimate(NamedTuple):
    """REMB (draft-alvestrand-rmcat-remb): the receiver's estimate of what it can take."""

    sender_ssrc: int
    bitrate_bps: int
    ssrcs: tuple[int, ...]


RtcpItem = (
    SenderReport
    | ReceiverReport
    | Goodbye
    | Nack
    | PictureLoss
    | FullIntraRequest
    | ReceiverEstimate
    | TransportFeedback
)


def is_rtcp(second_byte: int) -> bool:
    """Whether the second byte of an RTP-looking datagram says RTCP (RFC 5761 §4)."""
    return 192 <= second_byte <= 223


def parse_compound(data: Buffer) -> list[RtcpItem] | None:
    """The items of a compound or reduced-size packet that are known; None where the framing is broken."""
    data = bytes(data)
    items: list[RtcpItem] = []
    at, end = 0, len(data)
    if end < 4:
        return None
    for _ in range(PACKETS_MAX):
        if at == end:
            break
        if end - at < 4 or data[at] & 0xC0 != 0x80:
            return None
        size = 4 + 4 * (data[at + 2] << 8 | data[at + 3])
        if at + size > end:
            return None
        body = data[at + 4 : at + size]
        if data[at] & 0x20:  # padding, of the last packet
            if not body or not 0 < body[-1] <= len(body):
                return None
            body = body[: -body[-1]]
        reader = _READERS.get(data[at + 1])
        item = reader(data[at] & 31, body) if reader is not None else None
        if item is not None:
            items.append(item)
        at += size
    return items


def _report_blocks(count: int, body: bytes, at: int) -> tuple[ReportBlock, ...] | None:
    if len(body) < at + count * _REPORT.size:
        return None
    blocks = []
    for i in range(count):
        ssrc, loss, highest, jitter, last_sr, delay = _REPORT.unpack_from(body, at + i * _REPORT.size)
        lost = loss & 0xFFFFFF
        lost -= (lost & 0x800000) << 1
        blocks.append(ReportBlock(ssrc, loss >> 24, lost, highest, jitter, last_sr, delay))
    return tuple(blocks)


def _read_sr(count: int, body: bytes) -> SenderReport | None:
    blocks = _report_blocks(count, body, 24)
    if blocks is None:
        return None
    ssrc, ntp64, rtp_timestamp, packets, octets = struct.unpack_from("!IQIII", body)
    return SenderReport(ssrc, ntp64, rtp_timestamp, packets, octets, blocks)


def _read_rr(count: int, body: bytes) -> ReceiverReport | None:
    blocks = _report_blocks(count, body, 4)
    if blocks is None:
        return None
    return ReceiverReport(int.from_bytes(body[:4], "big"), blocks)


def _read_bye(count: int, body: bytes) -> Goodbye | None:
    if len(body) < 4 * count:
        return None
    return Goodbye(struct.unpack_from(f"!{count}I", body))


def _read_rtpfb(fmt: int, body: bytes) -> Nack | TransportFeedback | None:
    if len(body) < 8:
        return None
    sender, media = struct.unpack_from("!II", body)
    if fmt == 15:
        return parse_transport_feedback(sender, media, body[8:])
    if fmt != 1:
        return None
    sequences: list[int] = []
    for at in range(8, len(body) - 3, 4):
        first, mask = _NACK_ITEM.unpack_from(body, at)
        sequences.append(first)
        sequences.extend((first + 1 + bit) & 0xFFFF for bit in range(16) if mask >> bit & 1)
        if len(sequences) >= SEQUENCES_MAX:
            break
    return Nack(sender, media, tuple(sequences[:SEQUENCES_MAX]))


def _read_psfb(fmt: int, body: bytes) -> PictureLoss | FullIntraRequest | ReceiverEstimate | None:
    if len(body) < 8:
        return None
    sender, media = struct.unpack_from("!II", body)
    if fmt == 1:
        return PictureLoss(sender, media)
    if fmt == 4:
        entries = (struct.unpack_from("!IB", body, at) for at in range(8, len(body) - 7, 8))
        return FullIntraRequest(sender, tuple(entries))
    if fmt == 15 and len(body) >= 16 and body[8:12] == b"REMB":
        count = body[12]
        if len(body) < 16 + 4 * count:
            return None
        bits = int.from_bytes(body[13:16], "big")
        return ReceiverEstimate(sender, (bits & 0x3FFFF) << (bits >> 18), struct.unpack_from(f"!{count}I", body, 16))
    return None


_READERS: Final[dict[int, Callable[[int, bytes], RtcpItem | None]]] = {
    SR: _read_sr,
    RR: _read_rr,
    BYE: _read_bye,
    RTPFB: _read_rtpfb,
    PSFB: _read_psfb,
}


def _pack(count_or_fmt: int, kind: int, body: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | count_or_fmt, kind, len(body) // 4) + body


def _pack_blocks(reports: Sequence[ReportBlock]) -> bytes:
    return b"".join(
        _REPORT.pack(
            r.ssrc,
            r.fraction_lost << 24 | max(-0x800000, min(0x7FFFFF, r.packets_lost)) & 0xFFFFFF,
            r.highest_sequence & 0xFFFF_FFFF,
            r.jitter & 0xFFFF_FFFF,
            r.last_sr,
            r.delay_since_last_sr & 0xFFFF_FFFF,
        )
        for r in reports
    )


def pack_sender_report(
    ssrc: int, ntp64: int, rtp_timestamp: int, packets: int, octets: int, reports: Sequence[ReportBlock] = ()
) -> bytes:
    """A sender report; at most 31 blocks. Counts are taken modulo 2³²."""
    info = struct.pack("!IQIII", ssrc, ntp64, rtp_timestamp, packets & 0xFFFF_FFFF, octets & 0xFFFF_FFFF)
    return _pack(len(reports), SR, info + _pack_blocks(reports))


def pack_receiver_report(ssrc: int, reports: Sequence[ReportBlock] = ()) -> bytes:
    """A receiver report; at most 31 blocks."""
    return _pack(len(reports), RR, struct.pack("!I", ssrc) + _pack_blocks(reports))


def pack_cname(ssrc: int, cname: str) -> bytes:
    """A source description with one CNAME of at most 255 bytes (RFC 3550 §6.5.1)."""
    name = cname.encode()[:255]
    chunk = struct.pack("!IBB", ssrc, 1, len(name)) + name + b"\0"
    return _pack(1, SDES, chunk + bytes(-len(chunk) % 4))


def pack_goodbye(ssrcs: Sequence[int]) -> bytes:
    """A BYE for at most 31 SSRCs."""
    return _pack(len(ssrcs), BYE, struct.pack(f"!{len(ssrcs)}I", *ssrcs))


def pack_nack(sender_ssrc: int, media_ssrc: int, sequences: Iterable[int]) -> bytes:
    """A generic NACK. ``sequences`` in ascending order modulo 2¹⁶, so that neighbours share an item."""
    items: list[list[int]] = []
    for sequence in sequences:
        behind = (sequence - items[-1][0]) & 0xFFFF if items else 0
        if 0 < behind <= 16:
            items[-1][1] |= 1 << (behind - 1)
        elif not items or behind:
            items.append([sequence & 0xFFFF, 0])
    body = b"".join(_NACK_ITEM.pack(first, mask) for first, mask in items)
    return _pack(1, RTPFB, struct.pack("!II", sender_ssrc, media_ssrc) + body)


def pack_picture_loss(sender_ssrc: int, media_ssrc: int) -> bytes:
    """A PLI."""
    return _pack(1, PSFB, struct.pack("!II", sender_ssrc, media_ssrc))


def pack_full_intra_request(sender_ssrc: int, media_ssrc: int, command: int) -> bytes:
    """A FIR; ``command`` must change (modulo 256) for every new request."""
    return _pack(4, PSFB, struct.pack("!IIIBxxx", sender_ssrc, 0, media_ssrc, command & 255))


def pack_receiver_estimate(sender_ssrc: int, bitrate_bps: int, ssrcs: Sequence[int]) -> bytes:
    """A REMB, rounded down to 18 significant bits."""
    exponent = max(0, bitrate_bps.bit_length() - 18)
    bits = exponent << 18 | bitrate_bps >> exponent
    body = struct.pack("!II4sB", sender_ssrc, 0, b"REMB", len(ssrcs)) + bits.to_bytes(3, "big")
    return _pack(15, PSFB, body + struct.pack(f"!{len(ssrcs)}I", *ssrcs))


def ntp64_of(wall_ns: int) -> int:
    """NTP time, 32.32 fixed point, of nanoseconds since the Unix epoch."""
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    return ((seconds + _NTP_EPOCH_S) & 0xFFFF_FFFF) << 32 | (rest << 32) // 1_000_000_000


def ntp_middle(ntp64: int) -> int:
    """The middle 32 bits, as report blocks echo them: 1/65536 s."""
    return ntp64 >> 16 & 0xFFFF_FFFF


def round_trip_ns(block: ReportBlock, now_ntp64: int) -> int | None:
    """Round-trip time from a report on our own stream (RFC 3550 §6.4.1); None: no sender report echoed, or nonsense."""
    if not block.last_sr:
        return None
    units = (ntp_middle(now_ntp64) - block.last_sr - block.delay_since_last_sr) & 0xFFFF_FFFF
    if units >= 0x8000_0000:  # a clock's rounding may make it slightly negative
        return 0 if units > 0xFFFF_0000 else None
    return units * 1_000_000_000 >> 16
