"""Why a call went as it did: the statistics that tell, and how they went over time, for plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.netfigures import LEAD_MS, Call, Sample, counter, encoded, sizes, streams
from bench.netproxy import Line, Punctuality

SERIES_MS = 500


def hints(call: Call, lines: Mapping[str, Line], punctuality: Punctuality) -> dict[str, Any]:
    """Counts within the window of the measured direction, and what the proxy did to all packets."""
    start, end = call.window.start, call.window.end
    seconds = call.window.length / 1000

    def grew(samples: Sequence[Sample], way: str, kind: str, name: str) -> int:
        return round(counter(samples, way, kind, name).between(start, end))

    def sent(name: str, kind: str = "video") -> int:
        return grew(call.publisher, "out", kind, name)

    def got(name: str, kind: str = "video") -> int:
        return grew(call.subscriber, "in", kind, name)

    return {
        "encoded_fps": round(sent("framesEncoded") / seconds, 1),
        "decoded_fps": round(got("framesDecoded") / seconds, 1),
        "fps_before": round(call.decoded().between(start, call.window.impaired_from) * 1000 / LEAD_MS, 1),
        "left_out_frames": call.left_out(encoded(call.publisher, sizes(call.subscriber)), start, end),
        "sent_kbps": round(sent("bytesSent") * 8 / seconds / 1000),
        "received_kbps": round(got("bytesReceived") * 8 / seconds / 1000),
        "publisher": {
            "nacked": sent("nackCount"),
            "resent": sent("retransmittedPacketsSent"),
            "pli": sent("pliCount"),
            "fir": sent("firCount"),
            "key_frames": sent("keyFramesEncoded"),
            "audio_nacked": sent("nackCount", "audio"),
            "estimate_kbps": estimates(call.publisher, start, end, "availableOutgoingBitrate"),
            "limited_by": limits(call.publisher, start, end),
            "layers": layers(call.publisher, start, end),
        },
        "subscriber": {
            "packets": got("packetsReceived"),
            "lost": got("packetsLost"),
            "nacks": got("nackCount"),
            "resent": got("retransmittedPacketsReceived"),
            "pli": got("pliCount"),
            "key_frames": got("keyFramesDecoded"),
            "dropped_frames": got("framesDropped"),
            "freezes": got("freezeCount"),
            "jitter_buffer_ms": per(got("jitterBufferDelay") * 1000, got("jitterBufferEmittedCount")),
            "audio_packets": got("packetsReceived", "audio"),
            "audio_lost": got("packetsLost", "audio"),
            "audio_nacks": got("nackCount", "audio"),
            "audio_buffer_ms": per(got("jitterBufferDelay", "audio") * 1000, got("jitterBufferEmittedCount", "audio")),
            "audio_concealed": got("concealedSamples", "audio"),
            "audio_silent_concealed": got("silentConcealedSamples", "audio"),
            "connections": len({pc["pc"] for sample in call.subscriber for pc in sample["pcs"]}),
        },
        "codecs": sorted({codec for sample in call.subscriber[-3:] for pc in sample["pcs"] for codec in pc["codecs"]}),
        "proxy": asdict(punctuality),
        "lines": {
            f"{name} {way}": {k: v for k, v in asdict(stats).items() if v}
            for name, line in lines.items()
            for way, stats in (("up", line.up.stats), ("down", line.down.stats))
        },
    }


def per(total: float, count: float) -> int | None:
    """An average, None of nothing."""
    return round(total / count) if count else None


def within(samples: Sequence[Sample], start: float, end: float) -> list[Sample]:
    """The readings of that time."""
    return [sample for sample in samples if start <= sample["t"] <= end]


def estimates(samples: Sequence[Sample], start: float, end: float, name: str) -> list[int]:
    """A candidate pair's estimate, in kb/s: at the start, the lowest, at the end."""
    found = [
        pc["pair"][name] / 1000
        for sample in within(samples, start, end)
        for pc in sample["pcs"]
        if pc["pair"] is not None and name in pc["pair"]
    ]
    return [round(found[0]), round(min(found)), round(found[-1])] if found else []


def limits(samples: Sequence[Sample], start: float, end: float) -> dict[str, float]:
    """Share of the readings in which the encoder was limited by ``cpu`` or ``bandwidth``."""
    reasons = [
        stream.get("qualityLimitationReason", "none")
        for sample in within(samples, start, end)
        for _, stream in streams(sample, "out", "video")
        if stream.get("framesEncoded", 0) > 0
    ]
    return {
        reason: round(reasons.count(reason) / len(reasons), 2) for reason in sorted(set(reasons)) if reason != "none"
    }


def layers(samples: Sequence[Sample], start: float, end: float) -> list[str]:
    """What the publisher encoded: ``rid WxH``, in the order of first appearance."""
    found: dict[str, None] = {}
    for sample in within(samples, start, end):
        for _, stream in streams(sample, "out", "video"):
            if stream.get("framesEncoded", 0) > 0 and "frameWidth" in stream:
                found[f"{stream.get('rid', '')} {stream['frameWidth']}x{stream['frameHeight']}".strip()] = None
    return list(found)


def series(call: Call) -> dict[str, Any]:
    """Frames per second, kb/s, picture height and made-up sound at the subscriber, every ``SERIES_MS``, and the
    publisher's frames."""
    start, end, begin = call.window.start, call.window.end, call.window.impaired_from
    decoded, received = call.decoded(), counter(call.subscriber, "in", "video", "bytesReceived")
    made = counter(call.publisher, "out", "video", "framesEncoded")
    concealed = counter(call.subscriber, "in", "audio", "concealedSamples")
    path = sizes(call.subscriber)
    points = []
    t = start
    while t + SERIES_MS <= end:
        until = t + SERIES_MS
        height = next((h for at, _, h in reversed(path) if at <= until), 0)
        points.append(
            {
                "t_ms": round(until - begin),
                "decoded_fps": round(decoded.between(t, until) * 1000 / SERIES_MS, 1),
                "encoded_fps": round(made.between(t, until) * 1000 / SERIES_MS, 1),
                "kbps": round(received.between(t, until) * 8 / SERIES_MS),
                "height": height,
                "concealed_ms": round(concealed.between(t, until) / 48),
                "rtt_ms": round(call.round_trip_ms(until)),
            }
        )
        t = until
    return {"impaired_ms": round(call.window.impaired_until - begin), "points": points}
