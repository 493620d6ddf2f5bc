"""The shared port: which addresses, and how much a stranger may ask of it."""

from __future__ import annotations

import pytest
from aioice import stun

from relay.dtls import DtlsCertificate
from relay.plane import SocketHandle, Upcall, UpcallKind
from relay.plane_python import PythonPlane
from relay.port import UNKNOWN_PER_SECOND_MAX, MediaPort, PortDrop, advertised_addresses

SECOND = 1_000_000_000


def test_listed_addresses_are_taken_as_they_are_and_wildcards_refused() -> None:
    assert advertised_addresses(" 192.0.2.1, 198.51.100.2,192.0.2.1") == ("192.0.2.1", "198.51.100.2")
    assert "127.0.0.1" in advertised_addresses("auto")
    for setting in ("0.0.0.0", "", "192.0.2.1,::"):
        with pytest.raises(ValueError, match="wildcard"):
            advertised_addresses(setting)


def stranger(number: int, at_ns: int, host: str = "203.0.113.5") -> Upcall:
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["USERNAME"] = f"unknown{number}:x"
    message.add_message_integrity(b"guess")
    return Upcall(UpcallKind.STUN, 0, SocketHandle(1), (host, 4000 + number % 100), bytes(message), at_ns)


def test_stranger_is_read_at_a_bounded_rate_and_never_answered() -> None:
    port = MediaPort(PythonPlane(), DtlsCertificate())
    port.dispatch([stranger(n, SECOND) for n in range(UNKNOWN_PER_SECOND_MAX + 50)])
    assert port.drops[PortDrop.STUN_UNKNOWN_UFRAG] == UNKNOWN_PER_SECOND_MAX
    assert port.drops[PortDrop.SOURCE_TOO_FAST] == 50
    port.dispatch([stranger(0, SECOND, host="203.0.113.6"), stranger(0, 2 * SECOND)])
    assert port.drops[PortDrop.STUN_UNKNOWN_UFRAG] == UNKNOWN_PER_SECOND_MAX + 2


def test_every_address_is_bound_to_one_port() -> None:
    port = MediaPort(PythonPlane(), DtlsCertificate())
    try:
        port.bind(("127.0.0.1", "127.0.0.2"), 0)
        assert {address for address, _ in port.candidates} == {"127.0.0.1", "127.0.0.2"}
        assert len({number for _, number in port.candidates}) == 1
        with pytest.raises(OSError, match=r"in use"):
            MediaPort(port.plane, port.certificate).bind(("127.0.0.1",), port.candidates[0][1])
    finally:
        port.plane.close()
