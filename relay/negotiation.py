"""Offer and answer (RFC 8829) for the *direct* mode, where a page negotiates with the server.

A pure core: what the room is, what was agreed before, and an offer go in; out come the answer, what it agrees on, and
the tracks that it promises. Nothing is opened or changed here. The page always offers: one RTCPeerConnection, one
bundle, one m-line per source; the m-line that carries a source up carries the other side's same source down.

Kept across renegotiations of one transport, as RFC 8829 and RFC 9143 demand: the session id (its version rises),
payload types, header extension ids, our SSRCs while in use. Codecs: the tenant's, in its order, that the offer has and
that every other participant who has already negotiated can take too. Where that leaves an earlier joiner sending what a
later one cannot read, ``Agreement.video_codecs`` tells the room, and the room asks the earlier one to offer again.

The *relayed* mode, between two peer-to-peer pages, will be another core over the same ``Agreement``.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.dtls import Fingerprint
from relay.ice import IceCredentials
from relay.messages import SessionKind, Source
from relay.plane import Address
from relay.sdp import BadSdp, Codec, Direction, MediaSection, SessionDescription

MID: Final = "urn:ietf:params:rtp-hdrext:sdes:mid"
AUDIO_LEVEL: Final = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
RID: Final = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID: Final = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
VIDEO_ORIENTATION: Final = "urn:3gpp:video-orientation"
TRANSPORT_CC: Final = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"

EXTENSIONS: Final[dict[str, tuple[str, ...]]] = {
    "audio": (MID, AUDIO_LEVEL, TRANSPORT_CC),
    "video": (MID, VIDEO_ORIENTATION, TRANSPORT_CC),
}
"""Header extensions that we take, per kind."""
SIMULCAST_EXTENSIONS: Final = (RID, REPAIRED_RID)
"""And these where a page sends several encodings: what their first packets are told apart by (RFC 8852)."""
ENCODINGS_MAX: Final = 3
"""Encodings of one source; a page that offers more is asked for its first ones only."""
SIMULCAST_SOURCES: Final = frozenset({"camera"})
"""A screen must be read, and its page adapts it as a whole."""
FORWARDED_EXTENSIONS: Final = (AUDIO_LEVEL, VIDEO_ORIENTATION)
"""Those that travel from publisher to subscriber; the others are made anew or end at the worker."""
FEEDBACK: Final[dict[str, tuple[str, ...]]] = {
    "audio": ("transport-cc", "nack"),
    "video": ("transport-cc", "ccm fir", "nack", "nack pli"),
}
"""RTCP feedback that we take, per kind, where it is offered."""
UNASKED: Final[dict[str, tuple[str, ...]]] = {"audio": ("nack",), "video": ()}
"""Answered whether it is offered or not: browsers offer none for audio, yet ask for it, and answer, when told so."""
START_KBPS: Final = 1_000
"""Of pages that send. From 300 kb/s, where browsers begin, a whole picture takes up to 15 s on a busy machine."""
KIND_OF: Final[dict[Source, str]] = {"microphone": "audio", "camera": "video", "screen": "video"}
ALLOWED_KINDS: Final[dict[SessionKind, frozenset[str]]] = {
    "chat": frozenset(),
    "audio": frozenset({"audio"}),
    "video": frozenset({"audio", "video"}),
}
"""What m-lines a session's kind pays for."""

_ANSWER_DIRECTION: Final[dict[Direction, Direction]] = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}
_PROTOCOLS: Final = frozenset({"UDP/TLS/RTP/SAVPF", "TCP/TLS/RTP/SAVPF"})
_HOST_CANDIDATE_PRIORITY: Final = 2_130_706_431
_TCP_CANDIDATE_PRIORITY: Final = (90 << 24) + (((4 << 13) + 8_191) << 8) + 255
"""Below every UDP candidate; the direction preference is that of a passive one (RFC 6544 §4.2)."""
_H264_PROFILES: Final = ("42e01f", "42001f")
"""Constrained baseline first: what every decoder takes."""


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """What the answer says of our end."""

    credentials: IceCredentials
    fingerprint: Fingerprint
    candidates: Sequence[Address]
    tcp_candidates: Sequence[Address] = ()
    """Where ICE-TCP is listened for."""


@dataclass(frozen=True, slots=True)
class RoomView:
    """What negotiation needs to know of a room, from one participant's seat."""

    kind: SessionKind
    video_codecs: tuple[str, ...]
    """The tenant's, best first."""
    other_video_codecs: tuple[frozenset[str], ...] = ()
    """What each other participant can take, of those who have negotiated already."""
    other_public_id: str = ""
    """Whose tracks come back to this participant: shown as the stream id of the tracks."""


@dataclass(frozen=True, slots=True)
class MediaAgreement:
    """What one m-line was agreed to carry."""

    mid: str
    kind: str
    source: Source
    direction: Direction
    """Ours: ``sendrecv`` and ``recvonly`` take the page's media, ``sendrecv`` and ``sendonly`` carry the other's."""
    codecs: tuple[Codec, ...]
    rtx: Mapping[int, int]
    """Payload type → its RTX payload type."""
    extensions: Mapping[str, int]
    receive_ssrcs: tuple[int, ...]
    """Announced by the page; may be empty, then mid or payload type tell."""
    receive_rtx_ssrcs: Mapping[int, int]
    send_ssrc: int
    send_rtx_ssrc: int
    rids: tuple[str, ...] = ()
    """Encodings that the page sends at once, the smallest first; empty: one, without a rid."""
    paid: bool = True
    """Whether the room's kind pays for it. Where it did before and does not any more the m-line stays as it was, since
    a page that is told otherwise forgets its encodings; but nothing flows."""

    @property
    def receives(self) -> bool:
        """Whether what the page sends on this m-line is taken."""
        return self.paid and self.direction in ("sendrecv", "recvonly")

    @property
    def sends(self) -> bool:
        """Whether the other side's track goes down on this m-line."""
        return self.paid and self.direction in ("sendrecv", "sendonly")


@dataclass(frozen=True, slots=True)
class Agreement:
    """The outcome of one offer and answer on one transport."""

    session_id: int
    session_version: int
    media: tuple[MediaAgreement, ...]
    remote_ufrag: str
    remote_fingerprints: tuple[Fingerprint, ...]
    video_codecs: frozenset[str] = field(default_factory=frozenset)
    """Tenant codecs that this page can take, whether in use or not."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's text and what it means."""

    sdp: str
    agreement: Agreement


def remote_ice(offer: SessionDescription) -> tuple[str, tuple[Fingerprint, ...]]:
    """The offer's ICE ufrag and certificate fingerprints, from the m-line that carries the bundle."""
    carrier = _carrier(offer)
    if not carrier.ice_ufrag or not carrier.ice_pwd:
        raise BadSdp("the offer has no ice-ufrag and ice-pwd")
    if not carrier.fingerprints:
        raise BadSdp("the offer has no fingerprint")
    if carrier.setup not in ("actpass", "active"):
        raise BadSdp("the offer must let the page be the DTLS client: a=setup:actpass or active")
    return carrier.ice_ufrag, carrier.fingerprints


def answer(
    view: RoomView,
    offer: SessionDescription,
    sources: Mapping[str, Source],
    local: LocalTransport,
    previous: Agreement | None,
) -> Answer:
    """Answer ``offer``. Raises ``BadSdp`` where nothing sensible can be answered.

    m-lines that are outside the bundle, of kinds we do not carry, or without a codec in common, are rejected one by one
    (port 0), and the rest goes on. Those that the room's kind does not pay for, and never has, are answered as
    inactive: another kind then takes a new offer on the same transport, and no more.
    """
    ufrag, fingerprints = remote_ice(offer)
    kept = {media.mid: media for media in previous.media} if previous else {}
    common = _common_codecs(view)
    agreed: dict[str, MediaAgreement] = {}
    for section in offer.sections:
        media = _agree(view, offer, section, sources, common, kept.get(section.mid))
        if media is not None:
            agreed[section.mid] = media
    if not agreed:
        raise BadSdp("nothing in the offer can be carried: no m-line of a known source, allowed kind and codec")
    _check_one_space(agreed.values())
    agreement = Agreement(
        session_id=previous.session_id if previous else secrets.randbits(62),
        session_version=previous.session_version + 1 if previous else 1,
        media=tuple(agreed.values()),
        remote_ufrag=ufrag,
        remote_fingerprints=fingerprints,
        video_codecs=_video_codecs(view, offer),
    )
    return Answer(_write(view, offer, agreement, local), agreement)


def _carrier(offer: SessionDescription) -> MediaSection:
    if not offer.sections:
        raise BadSdp("the offer has no m-line")
    by_mid = {section.mid: section for section in offer.sections}
    return by_mid[offer.bundle[0]] if offer.bundle else offer.sections[0]


def _common_codecs(view: RoomView) -> tuple[str, ...]:
    return tuple(name for name in view.video_codecs if all(name in others for others in view.other_video_codecs))


def _video_codecs(view: RoomView, offer: SessionDescription) -> frozenset[str]:
    """Tenant codecs in the offer; all of them where it has no video m-line, since it then stands in nobody's way."""
    sections = [section for section in offer.sections if section.kind == "video" and not section.rejected]
    if not sections:
        return frozenset(view.video_codecs)
    return frozenset(name for name in view.video_codecs if all(_pick(section, name) for section in sections))


def _agree(
    view: RoomView,
    offer: SessionDescription,
    section: MediaSection,
    sources: Mapping[str, Source],
    common: Sequence[str],
    kept: MediaAgreement | None,
) -> MediaAgreement | None:
    source = sources.get(section.mid)
    bundled = section.mid in offer.bundle or len(offer.sections) == 1
    if section.rejected or source is None or not bundled or section.kind not in KIND_OF.values():
        return None
    paid = section.kind in ALLOWED_KINDS[view.kind]
    if KIND_OF[source] != section.kind:
        raise BadSdp(f"m-line {section.mid} is {section.kind}, but its source is {source}")
    if section.protocol not in _PROTOCOLS or not section.rtcp_mux:
        raise BadSdp(f"m-line {section.mid} must use UDP/TLS/RTP/SAVPF with rtcp-mux")
    names = ("opus",) if section.kind == "audio" else common
    codecs = tuple(codec for name in names if (codec := _pick(section, name)) is not None)
    if not codecs:
        return None
    stays = paid or (kept is not None and kept.direction != "inactive")
    rids = _simulcast(section, source) if stays else ()
    wanted = EXTENSIONS[section.kind] + (SIMULCAST_EXTENSIONS if rids else ())
    return MediaAgreement(
        mid=section.mid,
        kind=section.kind,
        source=source,
        direction=_ANSWER_DIRECTION[section.direction] if stays else "inactive",
        codecs=codecs,
        rtx=_rtx(section, codecs),
        extensions={uri: section.extensions[uri] for uri in wanted if uri in section.extensions},
        receive_ssrcs=() if rids else _primary_ssrcs(section),
        receive_rtx_ssrcs=section.rtx_ssrcs,
        send_ssrc=kept.send_ssrc if kept and kept.sends else _new_ssrc(),
        send_rtx_ssrc=kept.send_rtx_ssrc if kept and kept.sends else _new_ssrc(),
        rids=rids,
        paid=paid,
    )


def _simulcast(section: MediaSection, source: Source) -> tuple[str, ...]:
    """The encodings to take; empty where it is one, or where they could not be told apart."""
    rids = section.simulcast[:ENCODINGS_MAX]
    sends = section.direction in ("sendrecv", "sendonly")
    if source not in SIMULCAST_SOURCES or not sends or len(rids) < 2:
        return ()
    return rids if MID in section.extensions and RID in section.extensions else ()


def _new_ssrc() -> int:
    return secrets.randbelow(2**32 - 2) + 1


def _primary_ssrcs(section: MediaSection) -> tuple[int, ...]:
    repairing = set(section.rtx_ssrcs.values())
    return tuple(ssrc for ssrc in section.ssrcs if ssrc not in repairing)[:1]


def _pick(section: MediaSection, name: str) -> Codec | None:
    """The offered payload type to use for a codec."""
    found = [codec for codec in section.codecs if codec.name.lower() == name.lower()]
    if name == "H264":
        found = [codec for codec in found if codec.parameters.get("packetization-mode") == "1"]
        found.sort(key=lambda codec: _h264_rank(codec.parameters.get("profile-level-id", "").lower()))
    return found[0] if found else None


def _h264_rank(profile: str) -> int:
    return _H264_PROFILES.index(profile) if profile in _H264_PROFILES else len(_H264_PROFILES)


def _rtx(section: MediaSection, codecs: Iterable[Codec]) -> dict[int, int]:
    repaired = {codec.payload_type for codec in codecs}
    pairs: dict[int, int] = {}
    for codec in section.codecs:
        apt = codec.parameters.get("apt", "")
        if codec.name.lower() == "rtx" and apt.isascii() and apt.isdigit() and len(apt) < 4 and int(apt) in repaired:
            pairs.setdefault(int(apt), codec.payload_type)
    return pairs


def _check_one_space(media: Iterable[MediaAgreement]) -> None:
    """A bundle has one space each of payload types, extension ids (RFC 9143 §7.1, §7.2) and SSRCs."""
    codecs: dict[int, tuple[str, str]] = {}
    extensions: dict[int, str] = {}
    ssrcs: set[int] = set()
    for item in media:
        if not ssrcs.isdisjoint(item.receive_ssrcs):
            raise BadSdp("two m-lines announce the same SSRC")
        ssrcs.update(item.receive_ssrcs)
        for codec in item.codecs:
            what = (item.kind, codec.name.lower())
            if codecs.setdefault(codec.payload_type, what) != what:
                raise BadSdp(f"payload type {codec.payload_type} means two things in one bundle")
        for uri, number in item.extensions.items():
            if extensions.setdefault(number, uri) != uri:
                raise BadSdp(f"header extension id {number} means two things in one bundle")


def _write(view: RoomView, offer: SessionDescription, agreement: Agreement, local: LocalTransport) -> str:
    host = local.candidates[0][0]
    agreed = {media.mid: media for media in agreement.media}
    lines = [
        "v=0",
        f"o=- {agreement.session_id} {agreement.session_version} IN {_net(host)}",
        "s=-",
        "t=0 0",
        "a=ice-lite",
        *(["a=extmap-allow-mixed"] if offer.allow_mixed else []),
        " ".join(["a=group:BUNDLE", *(section.mid for section in offer.sections if section.mid in agreed)]),
        "a=msid-semantic: WMS *",
    ]
    for section in offer.sections:
        media = agreed.get(section.mid)
        if media is None:
            formats = " ".join(section.formats[:1])
            lines += [f"m={section.kind} 0 {section.protocol} {formats}", f"c=IN {_net(host)}", "a=inactive"]
            lines.append(f"a=mid:{section.mid}")
        else:
            lines += _write_media(view, media, section, local)
    return "\r\n".join(lines) + "\r\n"


def _net(host: str) -> str:
    return f"IP6 {host}" if ":" in host else f"IP4 {host}"


def _write_media(view: RoomView, media: MediaAgreement, section: MediaSection, local: LocalTransport) -> list[str]:
    host, port = local.candidates[0]
    payload_types: list[int] = []
    for codec in media.codecs:
        payload_types.append(codec.payload_type)
        if codec.payload_type in media.rtx:
            payload_types.append(media.rtx[codec.payload_type])
    lines = [
        f"m={media.kind} {port} {section.protocol} " + " ".join(map(str, payload_types)),
        f"c=IN {_net(host)}",
        f"a=ice-ufrag:{local.credentials.ufrag}",
        f"a=ice-pwd:{local.credentials.pwd}",
        f"a=fingerprint:{local.fingerprint.algorithm} {local.fingerprint.value}",
        "a=setup:passive",
        f"a=mid:{media.mid}",
        f"a={media.direction}",
        "a=rtcp-mux",
        *(["a=rtcp-rsize"] if section.rtcp_rsize else []),
        *(["a=extmap-allow-mixed"] if section.allow_mixed else []),
    ]
    for index, (address, candidate_port) in enumerate(local.candidates):
        priority = _HOST_CANDIDATE_PRIORITY - (index << 8)
        lines.append(f"a=candidate:{index + 1} 1 udp {priority} {address} {candidate_port} typ host")
    for index, (address, candidate_port) in enumerate(local.tcp_candidates, len(local.candidates)):
        priority = _TCP_CANDIDATE_PRIORITY - (index << 8)
        lines.append(f"a=candidate:{index + 1} 1 tcp {priority} {address} {candidate_port} typ host tcptype passive")
    lines.append("a=end-of-candidates")
    lines += [f"a=extmap:{number} {uri}" for uri, number in media.extensions.items()]
    for codec in media.codecs:
        lines += _write_codec(media, codec)
    if media.direction in ("sendrecv", "sendonly"):
        lines += _write_sender(view, media)
    if media.rids:
        # What the page has paused stays paused: an answer that does not say so would set it going again.
        states = [f"~{rid}" if rid in section.paused else rid for rid in media.rids]
        lines += [f"a=rid:{rid} recv" for rid in media.rids]
        lines.append(f"a=simulcast:recv {';'.join(states)}")
    return lines


def _write_codec(media: MediaAgreement, codec: Codec) -> list[str]:
    number = codec.payload_type
    channels = f"/{codec.channels}" if codec.channels > 1 else ""
    lines = [f"a=rtpmap:{number} {codec.name}/{codec.clock_rate}{channels}"]
    parameters = _opus_fmtp(codec) if media.kind == "audio" else _video_fmtp(codec)
    if parameters:
        lines.append(f"a=fmtp:{number} {parameters}")
    wanted = [what for what in FEEDBACK[media.kind] if what in codec.feedback or what in UNASKED[media.kind]]
    if TRANSPORT_CC not in media.extensions:
        wanted = [what for what in wanted if what != "transport-cc"]
    lines += [f"a=rtcp-fb:{number} {what}" for what in wanted]
    if number in media.rtx:
        lines += [f"a=rtpmap:{media.rtx[number]} rtx/{codec.clock_rate}", f"a=fmtp:{media.rtx[number]} apt={number}"]
    return lines


def _video_fmtp(codec: Codec) -> str:
    """With where Chromium's estimate begins; others do not know the parameter, and ignore it as RFC 8866 §6.15 says."""
    return ";".join([*([codec.fmtp] if codec.fmtp else []), f"x-google-start-bitrate={START_KBPS}"])


def _opus_fmtp(codec: Codec) -> str:
    parameters = codec.parameters
    parameters["useinbandfec"] = "1"
    return ";".join(f"{name}={value}" if value else name for name, value in parameters.items())


def _write_sender(view: RoomView, media: MediaAgreement) -> list[str]:
    owner = view.other_public_id or "-"
    lines = [f"a=msid:{owner} {media.source}"]
    if media.rtx:
        lines.append(f"a=ssrc-group:FID {media.send_ssrc} {media.send_rtx_ssrc}")
    lines.append(f"a=ssrc:{media.send_ssrc} cname:{owner}")
    if media.rtx:
        lines.append(f"a=ssrc:{media.send_rtx_ssrc} cname:{owner}")
    return lines
