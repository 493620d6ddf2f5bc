"""SRTP contexts (RFC 3711, RFC 7714) on the libsrtp that pylibsrtp carries, in place on the caller's buffers.

pylibsrtp's own methods copy twice and take at most 1,356 bytes; its C functions work on any buffer with
``TRAILER_BYTES_MAX`` to spare.
"""

from __future__ import annotations

import enum
from typing import Any, Final

from pylibsrtp import Policy, Session
from pylibsrtp._binding import ffi, lib

from relay.plane import SrtpProfile

BUFFER_BYTES: Final = 2048
"""Size of every packet buffer."""
TRAILER_BYTES_MAX: Final = 148
"""What protection may add: tag, MKI and SRTCP index."""
PACKET_BYTES_MAX: Final = BUFFER_BYTES - TRAILER_BYTES_MAX
WINDOW_PACKETS: Final = 1024
"""Replay window; packet caches for resending must not be larger."""

_PROFILES: Final = {
    SrtpProfile.AEAD_AES_128_GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    SrtpProfile.AEAD_AES_256_GCM: Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
    SrtpProfile.AES128_CM_SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
}
_REPLAYS: Final = frozenset((9, 10))  # srtp_err_status_replay_fail, srtp_err_status_replay_old
# Looked up once: these run for every packet.
_protect: Final[Any] = lib.srtp_protect
_unprotect: Final[Any] = lib.srtp_unprotect
_protect_rtcp: Final[Any] = lib.srtp_protect_rtcp
_unprotect_rtcp: Final[Any] = lib.srtp_unprotect_rtcp


def native_functions() -> dict[str, int]:
    """Addresses of libsrtp's own functions, for code that calls them without Python."""
    names = ("srtp_protect", "srtp_unprotect", "srtp_protect_rtcp", "srtp_unprotect_rtcp")
    return {name: int(ffi.cast("uintptr_t", ffi.addressof(lib, name))) for name in names}


class SrtpStatus(enum.IntEnum):
    """What became of a packet, where it is not a length."""

    FAILED = -1
    """Not authentic, malformed, or of another key."""
    REPLAYED = -2
    """Seen before, or older than the window."""


def _failure(status: int) -> SrtpStatus:
    return SrtpStatus.REPLAYED if status in _REPLAYS else SrtpStatus.FAILED


class PacketBuffer:
    """A buffer of ``BUFFER_BYTES`` that both Python and libsrtp write in. It must never be resized."""

    __slots__ = ("data", "pointer", "view")

    def __init__(self) -> None:
        self.data = bytearray(BUFFER_BYTES)
        self.view = memoryview(self.data)
        self.pointer: Any = ffi.from_buffer(self.data)


class SrtpContext:
    """One direction of one transport: any number of SSRCs under one master key."""

    __slots__ = ("_length", "_policy", "_raw", "_session")

    def __init__(self, profile: SrtpProfile, key: bytes, *, inbound: bool) -> None:
        """``key``: master key followed by salt, exactly as long as the profile says, else ``ValueError``."""
        if len(key) != profile.key_bytes + profile.salt_bytes:
            raise ValueError(f"{profile.name} takes {profile.key_bytes + profile.salt_bytes} bytes, not {len(key)}")
        self._policy = Policy(
            key=bytes(key),
            ssrc_type=Policy.SSRC_ANY_INBOUND if inbound else Policy.SSRC_ANY_OUTBOUND,
            srtp_profile=_PROFILES[profile],
        )
        self._policy.allow_repeat_tx = True  # a lost packet may be sent again as it was
        self._policy.window_size = WINDOW_PACKETS
        self._session = Session(self._policy)
        self._raw = self._session._srtp[0]
        self._length = ffi.new("int *")

    @property
    def native_session(self) -> int:
        """Address of the ``srtp_t``, for ``native_functions``; valid as long as this object."""
        return int(ffi.cast("uintptr_t", self._raw))

    def protect(self, buffer: PacketBuffer, length: int) -> int:
        """Encrypt RTP in place; the new length, or a negative ``SrtpStatus``. ``length`` ≤ ``PACKET_BYTES_MAX``."""
        cell = self._length
        cell[0] = length
        status = _protect(self._raw, buffer.pointer, cell)
        return cell[0] if status == 0 else _failure(status)

    def unprotect(self, buffer: PacketBuffer, length: int) -> int:
        """Authenticate and decrypt RTP in place; the new length, or a negative ``SrtpStatus``."""
        cell = self._length
        cell[0] = length
        status = _unprotect(self._raw, buffer.pointer, cell)
        return cell[0] if status == 0 else _failure(status)

    def protect_rtcp(self, buffer: PacketBuffer, length: int) -> int:
        """``protect`` for a compound RTCP packet."""
        return self._run(_protect_rtcp, buffer, length)

    def unprotect_rtcp(self, buffer: PacketBuffer, length: int) -> int:
        """``unprotect`` for a compound RTCP packet."""
        return self._run(_unprotect_rtcp, buffer, length)

    def _run(self, function: Any, buffer: PacketBuffer, length: int) -> int:
        cell = self._length
        cell[0] = length
        status = function(self._raw, buffer.pointer, cell)
        return cell[0] if status == 0 else _failure(status)

    def protect_bytes(self, packet: bytes, *, rtcp: bool = False) -> bytes | None:
        """``protect`` for callers that are in no hurry; None where it cannot be done."""
        return self._copying(_protect_rtcp if rtcp else _protect, packet, PACKET_BYTES_MAX)

    def unprotect_bytes(self, packet: bytes, *, rtcp: bool = False) -> bytes | None:
        """``unprotect`` for callers that are in no hurry; None where it is not authentic."""
        return self._copying(_unprotect_rtcp if rtcp else _unprotect, packet, BUFFER_BYTES)

    def _copying(self, function: Any, packet: bytes, most: int) -> bytes | None:
        if len(packet) > most:
            return None
        buffer = PacketBuffer()
        buffer.view[: len(packet)] = packet
        length = self._run(function, buffer, len(packet))
        return None if length < 0 else bytes(buffer.view[:length])
