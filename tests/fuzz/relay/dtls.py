"""DTLS records, towards a server that waits, and one in the middle of a handshake."""

from __future__ import annotations

import functools

from relay.dtls import DATAGRAM_MAX_BYTES, HANDSHAKE_MAX_NS, DtlsAssociation, DtlsCertificate, DtlsState
from tests.fuzz.kit import Run, Target, expect, framed, unframed

OUT_MAX = 64 * 1024
"""Bytes sent in answer to one input."""


@functools.cache
def certificates() -> tuple[DtlsCertificate, DtlsCertificate]:
    return DtlsCertificate(), DtlsCertificate()


def hello() -> list[bytes]:
    """A client's first flight."""
    ours, theirs = certificates()
    client = DtlsAssociation(theirs, "client")
    client.start([ours.fingerprint], 0)
    return client.poll()


def make() -> Run:
    ours, theirs = certificates()
    first = hello()

    def run(data: bytes) -> None:
        server = DtlsAssociation(ours, "server")
        server.start([theirs.fingerprint], 0)
        if data[:1] >= b"\x80":  # what follows its flight
            for datagram in first:
                server.receive(datagram)
        sent = 0
        for datagram in unframed(data[1:]):
            server.receive(datagram)
            server.handle_timer(server.next_timer_ns(0) or 0)
            for answer in server.poll():
                sent += len(answer)
                expect(len(answer) <= DATAGRAM_MAX_BYTES, "a datagram longer than a path carries")
        expect(sent <= OUT_MAX, "the answer is out of proportion")
        expect(server.state is not DtlsState.CONNECTED, "connected with nobody")
        server.handle_timer(HANDSHAKE_MAX_NS)
        expect(server.state in (DtlsState.FAILED, DtlsState.CLOSED), "a handshake without an end")
        server.close()

    return run


def seeds() -> list[bytes]:
    ours, theirs = certificates()
    server, client = DtlsAssociation(ours, "server"), DtlsAssociation(theirs, "client")
    server.start([theirs.fingerprint], 0)
    client.start([ours.fingerprint], 0)
    first = client.poll()
    for datagram in first:
        server.receive(datagram)
    for datagram in server.poll():
        client.receive(datagram)
    alert = b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28"
    return [
        b"\0" + framed(first),
        b"\x80" + framed(client.poll()),
        b"\x80" + framed([*first, alert]),
        b"\0" + framed([alert]),
    ]


TARGET = Target("relay/dtls", make, seeds, max_bytes=4_096, words=(b"\x16\xfe\xff", b"\x16\xfe\xfd", b"\x14\xfe\xfd"))
