"""Compound RTCP: reports, NACK, picture loss, REMB, transport-cc feedback."""

from __future__ import annotations

from relay.feedback_reader import FeedbackReader
from relay.rtcp import (
    PACKETS_MAX,
    SEQUENCES_MAX,
    Nack,
    ReportBlock,
    is_rtcp,
    pack_full_intra_request,
    pack_goodbye,
    pack_nack,
    pack_picture_loss,
    pack_receiver_estimate,
    pack_receiver_report,
    pack_sender_report,
    parse_compound,
)
from relay.rtcp_transport_cc import STATUSES_MAX, TransportFeedback, pack_transport_feedback
from tests.fuzz.kit import Run, Target, expect

BLOCK = ReportBlock(7, 51, 10, 70_000, 20, 0x12345678, 65_536)


def make() -> Run:
    reader = FeedbackReader()

    def run(data: bytes) -> None:
        is_rtcp(data[1] if len(data) > 1 else 0)
        items = parse_compound(data)
        if items is None:
            return
        expect(len(items) <= PACKETS_MAX, "more packets than are read")
        for item in items:
            if isinstance(item, Nack):
                expect(len(item.sequences) <= SEQUENCES_MAX, "too many sequence numbers")
                expect(all(0 <= number <= 0xFFFF for number in item.sequences), "a sequence number that cannot be")
            elif isinstance(item, TransportFeedback):
                expect(0 < len(item.deltas) <= STATUSES_MAX, "too many statuses")
                reader.read(item, [None] * len(item.deltas))

    return run


def seeds() -> list[bytes]:
    arrivals = {
        number: 1_000_000 * number + (number % 5) * 40_000_000 for number in range(65_500, 65_600) if number % 7
    }
    feedback, _ = pack_transport_feedback(1, 2, 65_500, 65_599, arrivals, 3)
    reports = pack_sender_report(7, 1 << 60, 90_000, 10, 1_000, [BLOCK]) + pack_receiver_report(7, [BLOCK] * 3)
    requests = pack_picture_loss(1, 2) + pack_full_intra_request(1, 2, 9) + pack_nack(1, 2, [5, 6, 7, 40, 65_535])
    return [
        reports,
        requests,
        feedback,
        reports + requests + feedback + pack_receiver_estimate(1, 700_000, [1, 2]) + pack_goodbye([7, 8]),
    ]


TARGET = Target(
    "relay/rtcp", make, seeds, words=(b"REMB", b"\x8f\xcd", b"\x81\xcd", b"\x81\xce", b"\x8f\xce", b"\x1f\xff")
)
