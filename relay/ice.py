"""ICE-lite (RFC 8445 §2.5, RFC 8489): answer connectivity checks, follow the nomination, know who still consents.

Sans-IO. A lite agent sends no checks of its own: it answers authenticated Binding requests and lets the full side pick
the pair. ``peek_ufrag`` finds which agent a datagram names (all clients of a worker share one port) and
``read_request`` turns it into a request or nothing; ``IceAgent.receive`` checks it and says what to send back. What
does not authenticate is answered with silence: an answer would tell scanners of us and could be aimed at others.
"""

from __future__ import annotations

import enum
import secrets
import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from aioice import stun

from relay.plane import Address, SocketHandle

STUN_MAX_BYTES: Final = 576
"""Longest Binding request taken; browsers send about 100 bytes."""
GENERATIONS_MAX: Final = 2
"""Credentials accepted at once: during an ICE restart the old pair works until the new one is checked (RFC 8445 §9)."""
ATTRIBUTES_PEEKED_MAX: Final = 16
"""Attributes looked at for the USERNAME; browsers put it first."""
_UFRAG_BYTES: Final = 9
_PWD_BYTES: Final = 24
_ROLE_CONFLICT: Final = (487, "Role Conflict")
_HEADER: Final = struct.Struct("!HHI12x")
_BINDING_REQUEST: Final = 0x0001
_USERNAME: Final = 0x0006


class Path(NamedTuple):
    """Where a datagram came from, and where an answer to it must leave from."""

    socket: SocketHandle
    address: Address


@dataclass(frozen=True, slots=True)
class IceCredentials:
    """Short-term credentials of one side (RFC 8445 §5.3)."""

    ufrag: str
    pwd: str

    @classmethod
    def fresh(cls) -> IceCredentials:
        """72 and 192 random bits, in characters that SDP allows."""
        return cls(_ice_chars(_UFRAG_BYTES), _ice_chars(_PWD_BYTES))


def _ice_chars(bytes_: int) -> str:
    return secrets.token_urlsafe(bytes_).replace("-", "+").replace("_", "/")


class IceOutcome(enum.Enum):
    """What became of a Binding request."""

    ANSWERED = "answered"
    SELECTED = "selected"
    """Answered, and the agent now sends along the request's path."""
    ROLE_CONFLICT = "role_conflict"
    UNAUTHENTICATED = "unauthenticated"


class IceReply(NamedTuple):
    """What to do after a Binding request."""

    outcome: IceOutcome
    datagram: bytes | None
    """To be sent back along the path that the request came by."""


def read_request(data: bytes) -> stun.Message | None:
    """The Binding request in a datagram; None for anything else, however malformed. Checks FINGERPRINT, no password."""
    if not 20 <= len(data) <= STUN_MAX_BYTES:
        return None
    try:
        message = stun.parse_message(data)
    except (ValueError, KeyError, IndexError, struct.error):
        return None
    if message.message_class is not stun.Class.REQUEST or message.message_method is not stun.Method.BINDING:
        return None
    if "FINGERPRINT" not in message.attributes or ":" not in message.attributes.get("USERNAME", ""):
        return None
    return message


def peek_ufrag(data: bytes) -> str | None:
    """The ufrag of the agent that a Binding request is for (the part of USERNAME before the colon); None: not to be
    found. Reads a few bytes only, so that what is for nobody costs next to nothing; ``read_request`` checks the rest.
    """
    if not _HEADER.size <= len(data) <= STUN_MAX_BYTES:
        return None
    kind, _, cookie = _HEADER.unpack_from(data)
    if kind != _BINDING_REQUEST or cookie != stun.COOKIE:
        return None
    at = _HEADER.size
    for _ in range(ATTRIBUTES_PEEKED_MAX):
        if at + 4 > len(data):
            return None
        attribute, length = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
        if attribute == _USERNAME:
            ufrag, colon, _ = data[at + 4 : at + 4 + length].partition(b":")
            return ufrag.decode("ascii", "replace") if colon else None
        at += 4 + (length + 3 & ~3)
    return None


class IceAgent:
    """The lite side of one transport. Times are monotonic nanoseconds."""

    def __init__(self, local: IceCredentials, remote_ufrag: str) -> None:
        self._generations: list[tuple[IceCredentials, str]] = [(local, remote_ufrag)]
        self.path: Path | None = None
        """Where to send: the nominated path, or before a nomination the one last heard from."""
        self.nominated = False
        self.last_request_ns = 0
        """Arrival of the newest authenticated request: consent (RFC 7675)."""

    @property
    def local(self) -> IceCredentials:
        """The newest local credentials: those to put into an answer."""
        return self._generations[-1][0]

    @property
    def remote_ufrag(self) -> str:
        """The newest ufrag of the other side."""
        return self._generations[-1][1]

    @property
    def ufrags(self) -> tuple[str, ...]:
        """Every local ufrag that is accepted at this moment."""
        return tuple(credentials.ufrag for credentials, _ in self._generations)

    def restart(self, local: IceCredentials, remote_ufrag: str) -> None:
        """New credentials on both sides; the old ones are accepted until the first check with the new."""
        self._generations = [*self._generations, (local, remote_ufrag)][-GENERATIONS_MAX:]
        self.nominated = False

    def receive(self, request: stun.Message, path: Path, now_ns: int) -> IceReply:
        """Check and answer one Binding request (RFC 8445 §7.3)."""
        generation = self._authenticated(request)
        if generation is None:
            return IceReply(IceOutcome.UNAUTHENTICATED, None)
        credentials = self._generations[generation][0]
        if "ICE-CONTROLLED" in request.attributes:
            # Both would be controlled. A lite agent cannot check, so whatever the tie-breakers say, the other side
            # has to take the controlling role.
            error = stun.Message(stun.Method.BINDING, stun.Class.ERROR, request.transaction_id)
            error.attributes["ERROR-CODE"] = _ROLE_CONFLICT
            return IceReply(IceOutcome.ROLE_CONFLICT, _signed(error, credentials))
        if generation == len(self._generations) - 1:
            del self._generations[:-1]
        self.last_request_ns = max(self.last_request_ns, now_ns)
        answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
        answer.attributes["XOR-MAPPED-ADDRESS"] = path.address
        chosen = self._select(path, "USE-CANDIDATE" in request.attributes)
        outcome = IceOutcome.SELECTED if chosen else IceOutcome.ANSWERED
        return IceReply(outcome, _signed(answer, credentials))

    def heard(self, path: Path) -> bool:
        """DTLS came by ``path``: before a nomination, answer where the other side last spoke from. True: it changed."""
        return self._select(path, nominate=False)

    def _select(self, path: Path, nominate: bool) -> bool:
        if self.nominated and not nominate:
            return False
        self.nominated = self.nominated or nominate
        changed = path != self.path
        self.path = path
        return changed

    def _authenticated(self, request: stun.Message) -> int | None:
        local, _, remote = request.attributes["USERNAME"].partition(":")
        for index, (credentials, remote_ufrag) in enumerate(self._generations):
            if credentials.ufrag == local and remote_ufrag == remote:
                valid: bool = request.check_message_integrity(credentials.pwd.encode())
                return index if valid else None
        return None


def _signed(message: stun.Message, credentials: IceCredentials) -> bytes:
    message.add_message_integrity(credentials.pwd.encode())
    return bytes(message)
