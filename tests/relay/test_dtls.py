"""Two associations in memory, over links that lose, repeat and mangle."""

from __future__ import annotations

import datetime
import hashlib
import random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import crypto

from relay.dtls import (
    DATAGRAM_MAX_BYTES,
    EARLY_MAX,
    HANDSHAKE_MAX_NS,
    RESEND_AFTER_NS,
    DtlsAssociation,
    DtlsCertificate,
    DtlsState,
    Fingerprint,
)
from relay.plane import SrtpProfile

SERVER, CLIENT = DtlsCertificate(), DtlsCertificate()


def pair() -> tuple[DtlsAssociation, DtlsAssociation]:
    return DtlsAssociation(SERVER, "server"), DtlsAssociation(CLIENT, "client")


def start(server: DtlsAssociation, client: DtlsAssociation) -> None:
    server.start([CLIENT.fingerprint], 0)
    client.start([SERVER.fingerprint], 0)


def exchange(server: DtlsAssociation, client: DtlsAssociation) -> None:
    for _ in range(10):
        for datagram in client.poll():
            server.receive(datagram)
        for datagram in server.poll():
            assert len(datagram) <= DATAGRAM_MAX_BYTES
            client.receive(datagram)


def test_both_sides_end_with_the_same_keys_and_the_cheap_profile() -> None:
    server, client = pair()
    start(server, client)
    exchange(server, client)
    assert server.state is client.state is DtlsState.CONNECTED
    assert server.keys is not None
    assert client.keys is not None
    assert server.keys.profile is SrtpProfile.AEAD_AES_128_GCM
    assert (server.keys.receive_key, server.keys.send_key) == (client.keys.send_key, client.keys.receive_key)
    assert server.next_timer_ns(0) is None


def test_client_hello_that_comes_before_the_start_waits() -> None:
    server, client = pair()
    client.start([SERVER.fingerprint], 0)
    for datagram in client.poll():
        server.receive(datagram)
    for _ in range(3 * EARLY_MAX):
        server.receive(b"\x16junk")
    assert server.poll() == []
    server.start([CLIENT.fingerprint], 0)
    exchange(server, client)
    assert server.state is DtlsState.CONNECTED


def test_repeated_client_hello_brings_the_last_flight_again_at_once() -> None:
    server, client = pair()
    start(server, client)
    (hello,) = client.poll()
    server.receive(hello)
    lost = server.poll()
    server.receive(hello[:10] + b"\x07" + hello[11:])  # a repeat has another record number
    again = server.poll()
    assert again == lost
    assert server.resends == 1


def test_lost_answer_comes_again_by_itself_until_the_peer_goes_on() -> None:
    server, client = pair()
    start(server, client)
    (hello,) = client.poll()
    server.receive(hello)
    lost, now_ns, resent = server.poll(), 5_000, []
    for after_ns in RESEND_AFTER_NS:
        assert server.next_timer_ns(now_ns) == now_ns + after_ns
        server.handle_timer(now_ns + after_ns - 1)
        assert server.poll() == []
        now_ns += after_ns
        server.handle_timer(now_ns)
        resent += server.poll()
    assert resent == lost * len(RESEND_AFTER_NS)
    due = server.next_timer_ns(now_ns)
    assert due is not None
    assert due > now_ns + RESEND_AFTER_NS[-1]  # the rest is OpenSSL's affair
    for datagram in lost:
        client.receive(datagram)
    exchange(server, client)
    assert server.state is client.state is DtlsState.CONNECTED


def test_lost_last_flight_does_no_harm() -> None:
    server, client = pair()
    start(server, client)
    for datagram in client.poll():
        server.receive(datagram)
    for datagram in server.poll():
        client.receive(datagram)
    for datagram in client.poll():
        server.receive(datagram)
    assert server.state is DtlsState.CONNECTED
    last = server.poll()
    assert len(last) > 1
    client.receive(last[-1])  # only the second copy arrives
    assert client.state is DtlsState.CONNECTED
    for datagram in last:  # and then the first one after all
        client.receive(datagram)
    assert client.state is DtlsState.CONNECTED


def of_version_5() -> tuple[DtlsCertificate, bytes]:
    """What no library writes and OpenSSL takes: a certificate whose version is out of range, and its bytes."""
    made = DtlsCertificate()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "odd")])
    now = datetime.datetime.now(tz=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    sound = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    odd = sound.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020104"), 1)
    made.context.use_certificate(crypto.load_certificate(crypto.FILETYPE_ASN1, odd))
    made.context.use_privatekey(key)
    return made, odd


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL X509 objects")  # the only way to use such a one
@pytest.mark.parametrize("announced", [True, False])
def test_certificate_that_cannot_be_parsed_counts_by_its_bytes_and_raises_nothing(announced: bool) -> None:
    certificate, der = of_version_5()
    with pytest.raises(x509.InvalidVersion):
        _ = x509.load_der_x509_certificate(der).version
    digest = hashlib.sha256(der).hexdigest().upper()
    fingerprint = Fingerprint("sha-256", ":".join(digest[i : i + 2] for i in range(0, 64, 2)))
    server, client = DtlsAssociation(SERVER, "server"), DtlsAssociation(certificate, "client")
    server.start([fingerprint if announced else CLIENT.fingerprint], 0)
    client.start([SERVER.fingerprint], 0)
    exchange(server, client)
    assert server.state is (DtlsState.CONNECTED if announced else DtlsState.FAILED)


def test_certificate_other_than_announced_is_refused() -> None:
    server, client = pair()
    server.start([Fingerprint("sha-256", "00:" * 31 + "00")], 0)
    client.start([SERVER.fingerprint], 0)
    exchange(server, client)
    assert server.state is DtlsState.FAILED
    assert server.keys is None
    assert "certificate" in server.failure


def test_fingerprints_of_unknown_hashes_alone_are_refused() -> None:
    server, client = pair()
    server.start([Fingerprint("md5", "00")], 0)
    client.start([SERVER.fingerprint], 0)
    exchange(server, client)
    assert server.state is DtlsState.FAILED


def test_handshake_has_a_deadline() -> None:
    server, _ = pair()
    server.start([CLIENT.fingerprint], 1000)
    due = server.next_timer_ns(1000)
    assert due is not None
    assert due <= 1000 + HANDSHAKE_MAX_NS
    states = []
    for now_ns in (1000 + HANDSHAKE_MAX_NS - 1, 1000 + HANDSHAKE_MAX_NS):
        server.handle_timer(now_ns)
        states.append(server.state)
    assert states == [DtlsState.HANDSHAKE, DtlsState.FAILED]


def test_goodbye_is_heard() -> None:
    server, client = pair()
    start(server, client)
    exchange(server, client)
    client.close()
    client.close()
    exchange(server, client)
    assert server.state is client.state is DtlsState.CLOSED


@pytest.mark.parametrize("seed", range(5))
def test_handshake_survives_repeats_and_disorder(seed: int) -> None:
    dice = random.Random(seed)
    server, client = pair()
    start(server, client)
    for _ in range(20):
        for source, sink in ((client, server), (server, client)):
            datagrams = [datagram for datagram in source.poll() for _ in range(dice.choice((1, 1, 2)))]
            dice.shuffle(datagrams)
            for datagram in datagrams:
                sink.receive(datagram)
    assert server.state is client.state is DtlsState.CONNECTED


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=200).map(lambda tail: b"\x16\xfe\xfd" + tail), max_size=5))
def test_garbage_never_raises(datagrams: list[bytes]) -> None:
    server, _ = pair()
    server.start([CLIENT.fingerprint], 0)
    for datagram in datagrams:
        server.receive(datagram)
        server.poll()
    assert server.state in (DtlsState.HANDSHAKE, DtlsState.FAILED)


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=1, max_size=100))
def test_garbage_after_the_handshake_changes_nothing(junk: bytes) -> None:
    server, client = pair()
    start(server, client)
    exchange(server, client)
    server.receive(b"\x17\xfe\xfd" + junk)
    assert server.state is DtlsState.CONNECTED
