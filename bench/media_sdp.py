"""The media client's offer, as a browser would write it, and what it reads from the answer."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.dtls import Fingerprint
from relay.ice import IceCredentials
from relay.messages import Source
from relay.negotiation import KIND_OF, MID, TRANSPORT_CC
from relay.plane import Address
from relay.sdp import SessionDescription, parse

MID_ID: Final = 1
TRANSPORT_CC_ID: Final = 2
OPUS: Final = 111
VP8: Final = 96
VP8_RTX: Final = 97
H264: Final = 102
H264_RTX: Final = 103
_VIDEO_CODECS: Final = {
    "VP8": (VP8, VP8_RTX, ""),
    "H264": (H264, H264_RTX, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
}


@dataclass
class OfferedMedia:
    """One m-line of the client's; its SSRCs stay for the client's life."""

    mid: str
    source: Source
    direction: str = "sendrecv"
    announced: bool = True
    """Whether the offer names the SSRCs; else the worker has to learn them from the packets' mid."""
    ssrc: int = field(default_factory=lambda: secrets.randbelow(2**32 - 1) + 1)
    rtx_ssrc: int = field(default_factory=lambda: secrets.randbelow(2**32 - 1) + 1)


def offer(
    media: Sequence[OfferedMedia],
    credentials: IceCredentials,
    fingerprint: Fingerprint,
    session: tuple[int, int],
    video_codecs: Sequence[str] = ("VP8", "H264"),
) -> str:
    """A bundled offer. ``session``: id and version of the origin line."""
    lines = ["v=0", f"o=- {session[0]} {session[1]} IN IP4 127.0.0.1", "s=-", "t=0 0"]
    lines.append("a=group:BUNDLE " + " ".join(item.mid for item in media))
    for item in media:
        kind = KIND_OF[item.source]
        names = video_codecs if kind == "video" else ()
        types = [OPUS] if kind == "audio" else [number for name in names for number in _VIDEO_CODECS[name][:2]]
        lines += [
            f"m={kind} 9 UDP/TLS/RTP/SAVPF " + " ".join(map(str, types)),
            "c=IN IP4 0.0.0.0",
            f"a=ice-ufrag:{credentials.ufrag}",
            f"a=ice-pwd:{credentials.pwd}",
            f"a=fingerprint:{fingerprint.algorithm} {fingerprint.value}",
            "a=setup:actpass",
            f"a=mid:{item.mid}",
            f"a=extmap:{MID_ID} {MID}",
            f"a=extmap:{TRANSPORT_CC_ID} {TRANSPORT_CC}",
            f"a={item.direction}",
            "a=rtcp-mux",
            "a=rtcp-rsize",
        ]
        if kind == "audio":
            lines += [f"a=rtpmap:{OPUS} opus/48000/2", f"a=fmtp:{OPUS} minptime=10;useinbandfec=1"]
            lines.append(f"a=rtcp-fb:{OPUS} transport-cc")
        for name in names:
            number, rtx, fmtp = _VIDEO_CODECS[name]
            lines.append(f"a=rtpmap:{number} {name}/90000")
            lines += [f"a=rtcp-fb:{number} {what}" for what in ("transport-cc", "ccm fir", "nack", "nack pli")]
            lines += [f"a=fmtp:{number} {fmtp}"] if fmtp else []
            lines += [f"a=rtpmap:{rtx} rtx/90000", f"a=fmtp:{rtx} apt={number}"]
        if item.announced and item.direction in ("sendrecv", "sendonly"):
            if kind == "video":
                lines.append(f"a=ssrc-group:FID {item.ssrc} {item.rtx_ssrc}")
                lines.append(f"a=ssrc:{item.rtx_ssrc} cname:client")
            lines.append(f"a=ssrc:{item.ssrc} cname:client")
    return "\r\n".join(lines) + "\r\n"


@dataclass(frozen=True)
class ReadAnswer:
    """What the client needs of an answer."""

    description: SessionDescription
    credentials: IceCredentials
    fingerprints: tuple[Fingerprint, ...]
    candidates: tuple[Address, ...]


def read_answer(text: str) -> ReadAnswer:
    """Read an answer of the relay's. Raises ``BadSdp`` or ValueError."""
    description = parse(text)
    carrier = next(section for section in description.sections if not section.rejected)
    candidates = []
    for line in text.splitlines():
        if line.startswith("a=candidate:"):
            parts = line.split()
            candidates.append((parts[4], int(parts[5])))
    unique = tuple(dict.fromkeys(candidates))
    return ReadAnswer(description, IceCredentials(carrier.ice_ufrag, carrier.ice_pwd), carrier.fingerprints, unique)
