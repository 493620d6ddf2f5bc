"""DTLS-SRTP (RFC 5764) on pyOpenSSL's public API: from datagrams to two SRTP keys.

Sans-IO: ``receive`` takes a datagram, ``poll`` gives those to send, ``next_timer_ns``/``handle_timer`` drive
retransmission. One deviation from sans-IO cannot be helped: OpenSSL reads its own clock for the retransmission timer.

OpenSSL ignores a ClientHello that comes again while it waits for the next flight, until its own one-second timer
fires. A browser whose first answer was lost would lose that second, so the last flight is kept and sent again at once
when a handshake datagram is repeated. Browsers wait for two round trips before they repeat one, so a server does not
wait for that either: it sends a flight again by itself until the peer goes on, and the very last one, which is small,
twice.
"""

from __future__ import annotations

import datetime
import enum
import hashlib
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto

from relay.plane import SrtpProfile

HANDSHAKE_MAX_NS: Final = 10_000_000_000
"""A handshake that takes longer has failed."""
DATAGRAM_MAX_BYTES: Final = 1200
EARLY_MAX: Final = 8
"""Datagrams kept from before ``start``; later ones are dropped, the peer sends them again."""
RESENDS_MAX: Final = 16
"""How often one handshake answers repeated datagrams with its last flight."""
RESEND_AFTER_NS: Final = (100_000_000, 200_000_000, 400_000_000)
"""A server's flight that nothing has followed is sent again after so long, each time; then OpenSSL's timer is left."""
_RECORD_HEADER: Final = 13
_HANDSHAKE: Final = 22
_REPEATS_REMEMBERED: Final = 8
_CERTIFICATE_DAYS: Final = 365
_EXPORTER: Final = b"EXTRACTOR-dtls_srtp"
_PROFILES: Final = {profile.openssl_name.encode(): profile for profile in SrtpProfile}
_FINGERPRINT_HASHES: Final = {"sha-256": "sha256", "sha-384": "sha384", "sha-512": "sha512"}
"""As SDP names them → as OpenSSL does."""


class Fingerprint(NamedTuple):
    """A certificate's hash as SDP writes it (RFC 8122): algorithm, colon-separated upper-case hex."""

    algorithm: str
    value: str


class DtlsCertificate:
    """A self-signed ECDSA P-256 certificate and the OpenSSL context made of it; one per process, made at start."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, secrets.token_hex(8))])
        now = datetime.datetime.now(tz=datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=_CERTIFICATE_DAYS))
            .sign(key, hashes.SHA256())
        )
        self.fingerprint = _fingerprint("sha-256", certificate.public_bytes(serialization.Encoding.DER))
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_QUERY_MTU | SSL.OP_NO_RENEGOTIATION)
        # Certificates are self-signed: identity is the fingerprint in the SDP, compared after the handshake.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.use_certificate(certificate)
        context.use_privatekey(key)
        context.set_tlsext_use_srtp(b":".join(_PROFILES))
        self.context = context


def _fingerprint(algorithm: str, der: bytes) -> Fingerprint:
    digest = hashlib.new(_FINGERPRINT_HASHES[algorithm], der).hexdigest().upper()
    return Fingerprint(algorithm, ":".join(digest[i : i + 2] for i in range(0, len(digest), 2)))


class DtlsState(enum.Enum):
    """``NEW`` → ``HANDSHAKE`` → ``CONNECTED`` → ``CLOSED``; a handshake may end ``FAILED``."""

    NEW = "new"
    HANDSHAKE = "handshake"
    CONNECTED = "connected"
    FAILED = "failed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """Keying material of one association: master key followed by salt, each way."""

    profile: SrtpProfile
    receive_key: bytes
    send_key: bytes


class DtlsAssociation:
    """One DTLS association, as server (``passive``) or client (``active``)."""

    def __init__(self, certificate: DtlsCertificate, role: Literal["server", "client"] = "server") -> None:
        self.state = DtlsState.NEW
        self.keys: SrtpKeys | None = None
        """Set once ``CONNECTED``."""
        self.failure = ""
        """Why the association failed, for the log."""
        self.resends = 0
        self._role: Literal["server", "client"] = role
        self._fingerprints: tuple[Fingerprint, ...] = ()
        self._early: deque[bytes] = deque(maxlen=EARLY_MAX)
        self._out: list[bytes] = []
        self._flight: list[bytes] = []
        self._recent: deque[bytes] = deque(maxlen=_REPEATS_REMEMBERED)
        self._deadline_ns = 0
        self._unanswered = 0
        """How often the last flight was sent again unasked; ``len(RESEND_AFTER_NS)``: no more of that."""
        self._resend_ns: int | None = None
        self._connection = SSL.Connection(certificate.context)
        self._connection.set_ciphertext_mtu(DATAGRAM_MAX_BYTES)

    def start(self, fingerprints: Sequence[Fingerprint], now_ns: int) -> None:
        """Begin: the peer must show a certificate of these fingerprints. A client sends its first flight."""
        if self.state is not DtlsState.NEW:
            return
        self._fingerprints = tuple(fingerprints)
        self._deadline_ns = now_ns + HANDSHAKE_MAX_NS
        self.state = DtlsState.HANDSHAKE
        if self._role == "server":
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
            self._handshake()
        while self._early:
            self.receive(self._early.popleft())

    def receive(self, data: bytes) -> None:
        """Take one datagram from the peer; never raises."""
        if self.state is DtlsState.NEW:
            if len(self._early) < EARLY_MAX:
                self._early.append(data)
        elif self.state is DtlsState.HANDSHAKE:
            self._receive_handshake(data)
        elif self.state is DtlsState.CONNECTED:
            self._receive_record(data)

    def poll(self) -> list[bytes]:
        """Datagrams to send now."""
        out, self._out = self._out, []
        return out

    def next_timer_ns(self, now_ns: int) -> int | None:
        """When ``handle_timer`` wants to be called; None: never, as things stand."""
        if self.state is not DtlsState.HANDSHAKE:
            return None
        due = [self._deadline_ns]
        timeout_s = self._connection.DTLSv1_get_timeout()
        if timeout_s is not None:
            due.append(now_ns + int(timeout_s * 1e9) + 1_000_000)
        if self._role == "server" and self._flight and self._unanswered < len(RESEND_AFTER_NS):
            if self._resend_ns is None:  # it has just been sent
                self._resend_ns = now_ns + RESEND_AFTER_NS[self._unanswered]
            due.append(self._resend_ns)
        return min(due)

    def handle_timer(self, now_ns: int) -> None:
        """Retransmit or give up, when due; calling early does nothing."""
        if self.state is not DtlsState.HANDSHAKE:
            return
        if now_ns >= self._deadline_ns:
            self._fail("no handshake in time")
            return
        if self._resend_ns is not None and now_ns >= self._resend_ns:
            self._out.extend(self._flight)
            self._unanswered += 1
            self._resend_ns = None
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error as error:
            self._fail(f"retransmission: {error!r}")
        self._flush()

    def close(self) -> None:
        """Say goodbye (close_notify) if connected; then ``poll`` once more."""
        if self.state is DtlsState.CONNECTED:
            try:
                self._connection.shutdown()
            except SSL.Error as error:
                self.failure = repr(error)
            self._flush()
        if self.state is not DtlsState.FAILED:
            self.state = DtlsState.CLOSED

    def _receive_handshake(self, data: bytes) -> None:
        if self._answer_repeat(data):
            return
        try:
            self._connection.bio_write(data)
        except SSL.Error as error:
            self._fail(f"input refused: {error!r}")
            return
        self._handshake()

    def _answer_repeat(self, data: bytes) -> bool:
        if len(data) <= _RECORD_HEADER or data[0] != _HANDSHAKE:
            return False
        body = data[_RECORD_HEADER:]  # a repeat carries a new record number before the same message
        if body not in self._recent:
            self._recent.append(body)
            self._unanswered = len(RESEND_AFTER_NS)  # the peer goes on
            self._resend_ns = None
            return False
        if not self._flight:
            return False
        if self.resends < RESENDS_MAX:
            self.resends += 1
            self._out.extend(self._flight)
        return True

    def _handshake(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self._flush()
            return
        except SSL.Error as error:
            self._flush()
            self._fail(f"handshake: {error!r}")
            return
        self._flush()
        self._finish()

    def _finish(self) -> None:
        try:
            self._take_keys()
        except (SSL.Error, crypto.Error) as error:
            self._fail(f"keys: {error!r}")

    def _take_keys(self) -> None:
        certificate = self._connection.get_peer_certificate()
        profile = _PROFILES.get(self._connection.get_selected_srtp_profile())
        if certificate is None or not self._is_expected(certificate):
            self._fail("the certificate is not the one announced")
            return
        if profile is None:
            self._fail("no SRTP profile in common")
            return
        key, salt = profile.key_bytes, profile.salt_bytes
        material = self._connection.export_keying_material(_EXPORTER, 2 * (key + salt))
        client = material[:key] + material[2 * key : 2 * key + salt]
        server = material[key : 2 * key] + material[2 * key + salt :]
        receive, send = (client, server) if self._role == "server" else (server, client)
        self.keys = SrtpKeys(profile, receive, send)
        self.state = DtlsState.CONNECTED
        if self._role == "server":
            self._out.extend(self._flight)  # nothing but the peer's repeating its own would bring it again

    def _is_expected(self, certificate: crypto.X509) -> bool:
        """Only its bytes count. What they say is never parsed: OpenSSL lets pass what cryptography refuses to read."""
        known = [f for f in self._fingerprints if f.algorithm.lower() in _FINGERPRINT_HASHES]
        return bool(known) and all(
            secrets.compare_digest(
                certificate.digest(_FINGERPRINT_HASHES[f.algorithm.lower()]), f.value.upper().encode("utf-8", "replace")
            )
            for f in known
        )

    def _receive_record(self, data: bytes) -> None:
        try:
            self._connection.bio_write(data)
            # Nothing is expected but alerts, and a repeated last flight, which OpenSSL answers while reading.
            while self._connection.recv(65536):
                pass
        except SSL.ZeroReturnError:
            self.state = DtlsState.CLOSED
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self.failure = repr(error)
        self._flush()

    def _fail(self, why: str) -> None:
        self.failure = why
        self.state = DtlsState.FAILED

    def _flush(self) -> None:
        """Move what OpenSSL wrote into datagrams of whole records: its memory BIO keeps no boundaries."""
        try:
            written = self._connection.bio_read(65536)
        except SSL.Error:
            return
        flight: list[bytes] = []
        datagram = b""
        start = 0
        while start + _RECORD_HEADER <= len(written):
            end = start + _RECORD_HEADER + int.from_bytes(written[start + 11 : start + 13], "big")
            if datagram and len(datagram) + end - start > DATAGRAM_MAX_BYTES:
                flight.append(datagram)
                datagram = b""
            datagram += written[start:end]
            start = end
        if datagram:
            flight.append(datagram)
        if flight:
            self._out.extend(flight)
            self._flight = flight
            self._unanswered = 0
            self._resend_ns = None
