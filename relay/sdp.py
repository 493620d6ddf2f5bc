"""Reading session descriptions (RFC 8866, RFC 8829), bounded and strict about what we use, blind to the rest.

``parse`` returns frozen values or raises ``BadSdp`` with a sentence for whoever wrote the page; nothing else escapes
it, whatever the text. Lines are written by ``negotiation``: an answer is short and ours from end to end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from relay.dtls import Fingerprint
from relay.messages import SDP_MAX_CHARS

SECTIONS_MAX: Final = 32
LINES_MAX: Final = 4096
CODECS_MAX: Final = 64
"""Payload types per m-line."""
EXTENSIONS_MAX: Final = 32
RIDS_MAX: Final = 8
"""Simulcast encodings per m-line that are remembered; more are left out."""
SSRCS_MAX: Final = 16
"""SSRC lines per m-line that are remembered; more are left out."""

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
_DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")
_ICE_CHARS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_TOKEN_CHARS: Final = (
    frozenset("!#$%&'*+-.^_`{|}~0123456789")
    | frozenset("abcdefghijklmnopqrstuvwxyz")
    | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
)
_TOKEN_MAX: Final = 64
_LINE_MAX: Final = 4096


class BadSdp(Exception):
    """A description that cannot be read, or that asks for what is not offered; the message may go to its author."""


@dataclass(frozen=True, slots=True)
class Codec:
    """One payload type of an m-line, as its rtpmap, fmtp and rtcp-fb lines say."""

    payload_type: int
    name: str
    clock_rate: int
    channels: int = 1
    fmtp: str = ""
    """Format parameters as written."""
    feedback: tuple[str, ...] = ()
    """Values of rtcp-fb lines, e.g. ``nack pli``."""

    @property
    def parameters(self) -> dict[str, str]:
        """``fmtp`` taken apart; names in lower case."""
        pairs = (part.strip().partition("=") for part in self.fmtp.split(";"))
        return {name.lower(): value for name, _, value in pairs if name}


@dataclass(frozen=True, slots=True)
class MediaSection:
    """One m-line with its attributes; transport attributes include those inherited from the session level."""

    kind: str
    """``audio``, ``video``, ``application``, or whatever else was written."""
    port: int
    protocol: str
    formats: tuple[str, ...]
    mid: str
    direction: Direction = "sendrecv"
    codecs: tuple[Codec, ...] = ()
    """In order of preference, those with an rtpmap only."""
    extensions: dict[str, int] = field(default_factory=dict)
    """Header extension URI → id (RFC 8285)."""
    ssrcs: tuple[int, ...] = ()
    rtx_ssrcs: dict[int, int] = field(default_factory=dict)
    """SSRC → the SSRC of its retransmissions (FID group, RFC 5576)."""
    rids: tuple[str, ...] = ()
    """Encodings that the page can send (RFC 8851)."""
    simulcast: tuple[str, ...] = ()
    """Those of them that it offers to send at once, in its order (RFC 8853); of alternatives the first."""
    paused: frozenset[str] = frozenset()
    """Those of them that it does not send for now."""
    ice_ufrag: str = ""
    ice_pwd: str = ""
    fingerprints: tuple[Fingerprint, ...] = ()
    setup: str = ""
    rtcp_mux: bool = False
    rtcp_rsize: bool = False
    """Reduced-size RTCP is offered (RFC 5506)."""
    allow_mixed: bool = False
    """One-byte and two-byte header extensions may be mixed (RFC 8285 §6); here and for the whole session apart."""
    bundle_only: bool = False

    @property
    def rejected(self) -> bool:
        """Port zero, unless the m-line merely rides on another's transport (RFC 9143 §6)."""
        return self.port == 0 and not self.bundle_only


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """A parsed description: its m-lines in order, and which of them share one transport."""

    sections: tuple[MediaSection, ...]
    bundle: tuple[str, ...]
    """Mids of the BUNDLE group, the first carries the transport."""
    version: int
    """The version that its origin line gives."""
    allow_mixed: bool = False
    """``MediaSection.allow_mixed``, said for the whole session."""


@dataclass(slots=True)
class _Draft:
    """An m-line being read; what it leaves unset is inherited."""

    kind: str = ""
    port: int = 0
    protocol: str = ""
    formats: tuple[str, ...] = ()
    mid: str = ""
    direction: str = ""
    rtpmaps: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    fmtps: dict[int, str] = field(default_factory=dict)
    feedback: dict[str, list[str]] = field(default_factory=dict)
    extensions: dict[str, int] = field(default_factory=dict)
    ssrcs: dict[int, None] = field(default_factory=dict)
    rtx_ssrcs: dict[int, int] = field(default_factory=dict)
    rids: list[str] = field(default_factory=list)
    simulcast: tuple[str, ...] = ()
    paused: frozenset[str] = frozenset()
    ice_ufrag: str = ""
    ice_pwd: str = ""
    fingerprints: list[Fingerprint] = field(default_factory=list)
    setup: str = ""
    rtcp_mux: bool = False
    rtcp_rsize: bool = False
    allow_mixed: bool = False
    bundle_only: bool = False


def parse(text: str) -> SessionDescription:
    """The description in ``text``. Raises ``BadSdp`` and nothing else."""
    if len(text) > SDP_MAX_CHARS:
        raise BadSdp(f"the session description is longer than {SDP_MAX_CHARS} characters")
    lines = [line.rstrip("\r") for line in text.split("\n")]
    lines = [line for line in lines if line]
    if len(lines) > LINES_MAX:
        raise BadSdp(f"the session description has more than {LINES_MAX} lines")
    if not lines or lines[0] != "v=0":
        raise BadSdp("a session description starts with v=0")
    session, version = _Draft(), 0
    drafts: list[_Draft] = []
    bundle: tuple[str, ...] = ()
    for line in lines:
        if len(line) < 2 or line[1] != "=" or len(line) > _LINE_MAX or not line.isprintable():
            raise BadSdp(f"not a line of a session description: {_quoted(line)}")
        letter, value = line[0], line[2:]
        if letter == "m":
            if len(drafts) == SECTIONS_MAX:
                raise BadSdp(f"more than {SECTIONS_MAX} m-lines")
            drafts.append(_read_media_line(value))
        elif letter == "o":
            version = _origin_version(value)
        elif letter == "a" and not drafts and value.startswith("group:BUNDLE"):
            bundle = tuple(value.split()[1:])
        elif letter == "a":
            name, _, rest = value.partition(":")
            reader = _ATTRIBUTES.get(name)
            if reader is not None:
                reader(drafts[-1] if drafts else session, rest)
            elif name in _DIRECTIONS:
                (drafts[-1] if drafts else session).direction = name
    sections = tuple(_finish(draft, session) for draft in drafts)
    _check_mids(sections, bundle)
    return SessionDescription(sections, bundle, version, session.allow_mixed)


def _check_mids(sections: tuple[MediaSection, ...], bundle: tuple[str, ...]) -> None:
    mids = [section.mid for section in sections]
    if "" in mids:
        raise BadSdp("every m-line needs a mid")
    if len(set(mids)) < len(mids):
        raise BadSdp("two m-lines have the same mid")
    if not set(bundle) <= set(mids):
        raise BadSdp("the BUNDLE group names a mid that no m-line has")


def _quoted(text: str) -> str:
    return repr(text[:60])


def _integer(text: str, low: int, high: int, what: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20 or not low <= int(text) <= high:
        raise BadSdp(f"{what} {_quoted(text)} is not a number from {low} to {high}")
    return int(text)


def _token(text: str, what: str) -> str:
    if not 0 < len(text) <= _TOKEN_MAX or not _TOKEN_CHARS.issuperset(text):
        raise BadSdp(f"{what} {_quoted(text)} is not a token")
    return text


def _origin_version(value: str) -> int:
    parts = value.split()
    if len(parts) != 6:
        raise BadSdp("the origin line is malformed")
    return _integer(parts[2], 0, 2**64 - 1, "session version")


def _read_media_line(value: str) -> _Draft:
    parts = value.split()
    if len(parts) < 4:
        raise BadSdp(f"malformed m-line {_quoted(value)}")
    port = _integer(parts[1].partition("/")[0], 0, 65535, "port")
    if len(parts) - 3 > CODECS_MAX:
        raise BadSdp(f"more than {CODECS_MAX} formats in an m-line")
    return _Draft(kind=_token(parts[0], "media kind"), port=port, protocol=parts[2][:64], formats=tuple(parts[3:]))


def _read_mid(draft: _Draft, value: str) -> None:
    draft.mid = _token(value, "mid")


def _read_rtpmap(draft: _Draft, value: str) -> None:
    number, _, encoding = value.partition(" ")
    parts = encoding.split("/")
    if len(parts) not in (2, 3):
        raise BadSdp(f"malformed rtpmap {_quoted(value)}")
    channels = _integer(parts[2], 1, 255, "channel count") if len(parts) == 3 else 1
    payload_type = _integer(number, 0, 127, "payload type")
    draft.rtpmaps[payload_type] = (_token(parts[0], "codec"), _integer(parts[1], 1, 10**6, "clock rate"), channels)


def _read_fmtp(draft: _Draft, value: str) -> None:
    number, _, parameters = value.partition(" ")
    draft.fmtps[_integer(number, 0, 127, "payload type")] = parameters.strip()


def _read_feedback(draft: _Draft, value: str) -> None:
    number, _, what = value.partition(" ")
    draft.feedback.setdefault(number, []).append(what.strip())


def _read_extmap(draft: _Draft, value: str) -> None:
    parts = value.split()
    if len(parts) < 2:
        raise BadSdp(f"malformed extmap {_quoted(value)}")
    number = _integer(parts[0].partition("/")[0], 1, 4351, "header extension id")
    if len(draft.extensions) < EXTENSIONS_MAX and number < 256:
        draft.extensions[parts[1]] = number


def _read_ssrc(draft: _Draft, value: str) -> None:
    ssrc = _integer(value.partition(" ")[0], 0, 2**32 - 1, "SSRC")
    if len(draft.ssrcs) < SSRCS_MAX:
        draft.ssrcs[ssrc] = None


def _read_ssrc_group(draft: _Draft, value: str) -> None:
    parts = value.split()
    if len(parts) == 3 and parts[0] == "FID" and len(draft.rtx_ssrcs) < SSRCS_MAX:
        first, second = (_integer(part, 0, 2**32 - 1, "SSRC") for part in parts[1:])
        draft.rtx_ssrcs[first] = second


def _read_rid(draft: _Draft, value: str) -> None:
    parts = value.split()
    if len(parts) >= 2 and parts[1] == "send" and len(draft.rids) < RIDS_MAX:
        draft.rids.append(_token(parts[0], "rid"))


def _read_simulcast(draft: _Draft, value: str) -> None:
    parts = value.split()
    for direction, streams in zip(parts[::2], parts[1::2], strict=False):
        if direction == "send":
            first = [stream.partition(",")[0] for stream in streams.split(";")][:RIDS_MAX]
            draft.simulcast = tuple(_token(rid.removeprefix("~"), "rid") for rid in first)
            draft.paused = frozenset(rid[1:] for rid in first if rid.startswith("~"))


def _ice_value(low: int, what: str, value: str) -> str:
    if not low <= len(value) <= 256 or not _ICE_CHARS.issuperset(value):
        raise BadSdp(f"malformed {what}")
    return value


def _read_ufrag(draft: _Draft, value: str) -> None:
    draft.ice_ufrag = _ice_value(4, "ice-ufrag", value)


def _read_pwd(draft: _Draft, value: str) -> None:
    draft.ice_pwd = _ice_value(22, "ice-pwd", value)


def _read_fingerprint(draft: _Draft, value: str) -> None:
    parts = value.split()
    if len(parts) != 2:
        raise BadSdp("malformed fingerprint")
    if len(draft.fingerprints) < 8:
        draft.fingerprints.append(Fingerprint(parts[0].lower()[:32], parts[1].upper()[:256]))


def _read_setup(draft: _Draft, value: str) -> None:
    if value not in ("actpass", "active", "passive", "holdconn"):
        raise BadSdp(f"unknown setup {_quoted(value)}")
    draft.setup = value


def _read_rtcp_mux(draft: _Draft, value: str) -> None:
    draft.rtcp_mux = True


def _read_rtcp_rsize(draft: _Draft, value: str) -> None:
    draft.rtcp_rsize = True


def _read_allow_mixed(draft: _Draft, value: str) -> None:
    draft.allow_mixed = True


def _read_bundle_only(draft: _Draft, value: str) -> None:
    draft.bundle_only = True


_ATTRIBUTES: Final[dict[str, Callable[[_Draft, str], None]]] = {
    "mid": _read_mid,
    "rtpmap": _read_rtpmap,
    "fmtp": _read_fmtp,
    "rtcp-fb": _read_feedback,
    "extmap": _read_extmap,
    "ssrc": _read_ssrc,
    "ssrc-group": _read_ssrc_group,
    "rid": _read_rid,
    "simulcast": _read_simulcast,
    "ice-ufrag": _read_ufrag,
    "ice-pwd": _read_pwd,
    "fingerprint": _read_fingerprint,
    "setup": _read_setup,
    "rtcp-mux": _read_rtcp_mux,
    "rtcp-rsize": _read_rtcp_rsize,
    "extmap-allow-mixed": _read_allow_mixed,
    "bundle-only": _read_bundle_only,
}


def _codecs(draft: _Draft) -> Iterable[Codec]:
    for text in draft.formats:
        if not text.isascii() or not text.isdigit() or len(text) > 3 or int(text) not in draft.rtpmaps:
            continue
        payload_type = int(text)
        name, clock_rate, channels = draft.rtpmaps[payload_type]
        feedback = tuple(draft.feedback.get(text, []) + draft.feedback.get("*", []))[:16]
        yield Codec(payload_type, name, clock_rate, channels, draft.fmtps.get(payload_type, ""), feedback)


def _finish(draft: _Draft, session: _Draft) -> MediaSection:
    return MediaSection(
        kind=draft.kind,
        port=draft.port,
        protocol=draft.protocol,
        formats=draft.formats,
        mid=draft.mid,
        direction=cast(Direction, draft.direction or session.direction or "sendrecv"),
        codecs=tuple(_codecs(draft)),
        extensions=draft.extensions,
        ssrcs=tuple(draft.ssrcs),
        rtx_ssrcs=draft.rtx_ssrcs,
        rids=tuple(draft.rids),
        simulcast=tuple(dict.fromkeys(rid for rid in draft.simulcast if rid in draft.rids)),
        paused=draft.paused,
        ice_ufrag=draft.ice_ufrag or session.ice_ufrag,
        ice_pwd=draft.ice_pwd or session.ice_pwd,
        fingerprints=tuple(draft.fingerprints or session.fingerprints),
        setup=draft.setup or session.setup,
        rtcp_mux=draft.rtcp_mux,
        rtcp_rsize=draft.rtcp_rsize,
        allow_mixed=draft.allow_mixed,
        bundle_only=draft.bundle_only,
    )
