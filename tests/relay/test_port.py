"""The shared port: which addresses, and how much a stranger may ask of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aioice import stun

from relay.dtls import DtlsCertificate
from relay.ice import IceCredentials
from relay.plane import SocketHandle, Upcall, UpcallKind
from relay.plane_python import PythonPlane
from relay.port import CHECKS_PER_SECOND_MAX, UNKNOWN_PER_SECOND_MAX, MediaPort, PortDrop, media_addresses
from relay.transport import Transport, TransportEnd, TransportState

SECOND = 1_000_000_000


def test_listed_addresses_are_taken_as_they_are_and_wildcards_refused() -> None:
    listed = media_addresses(" 192.0.2.1, 2001:db8:0::2,192.0.2.1, 203.0.113.5 = 10.0.0.5, [2001:db8::9]=fd00::9")
    assert listed == (
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::2", "2001:db8::2"),
        ("203.0.113.5", "10.0.0.5"),
        ("2001:db8::9", "fd00::9"),
    )
    assert ("127.0.0.1", "127.0.0.1") in media_addresses("auto")
    for setting in ("0.0.0.0", "", "192.0.2.1,::", "203.0.113.5=0.0.0.0"):
        with pytest.raises(ValueError, match="wildcard"):
            media_addresses(setting)
    with pytest.raises(ValueError, match="no IP address"):
        media_addresses("turn.example")


def stranger(number: int, at_ns: int, host: str = "203.0.113.5") -> Upcall:
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["USERNAME"] = f"unknown{number}:x"
    message.add_message_integrity(b"guess")
    return Upcall(UpcallKind.STUN, 0, SocketHandle(1), (host, 4000 + number % 100), bytes(message), at_ns)


class Owner:
    """Who is told what a transport brings up."""

    def __init__(self, *, faulty: bool = False) -> None:
        self.received: list[bytes] = []
        self.ended: list[str] = []
        self._faulty = faulty

    def rtcp_received(self, transport: Transport, compound: bytes, now_ns: int) -> None:
        if self._faulty:
            raise ZeroDivisionError
        self.received.append(compound)

    def transport_ended(self, transport: Transport, why: TransportEnd, now_ns: int) -> None:
        self.ended.append(why)
        if self._faulty:
            raise ZeroDivisionError

    def transport_connected(self, transport: Transport, now_ns: int) -> None: ...
    def unknown_rtp_received(self, transport: Transport, packet: bytes, now_ns: int) -> None: ...
    def key_frame_wanted(self, transport: Transport, stream: int, now_ns: int) -> None: ...


class Door:
    """A port on one loopback socket."""

    def __init__(self) -> None:
        self.port = MediaPort(PythonPlane(), DtlsCertificate())
        self.socket, self.own = self.port.plane.bind(("127.0.0.1", 0))

    def open(self, *, faulty: bool = False) -> tuple[Transport, Owner]:
        owner = Owner(faulty=faulty)
        return self.port.open_transport(IceCredentials.fresh(), "x", (), owner, SECOND), owner

    def check(self, transport: Transport, at_ns: int, pwd: str | None = None) -> Upcall:
        message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        message.attributes["USERNAME"] = f"{transport.ice.local.ufrag}:x"
        message.add_message_integrity((pwd or transport.ice.local.pwd).encode())
        return Upcall(UpcallKind.STUN, 0, self.socket, self.own, bytes(message), at_ns)


@pytest.fixture
def door() -> Iterator[Door]:
    opened = Door()
    yield opened
    opened.port.plane.close()


def test_strangers_from_however_many_addresses_keep_nobody_out(door: Door) -> None:
    transport, _ = door.open()
    crowd = [stranger(n, SECOND) for n in range(50)]
    flood = [crowd[n % 50]._replace(address=(f"203.0.{n // 250}.{n % 250}", 9)) for n in range(10_000)]
    door.port.dispatch([*flood, door.check(transport, SECOND + 5)])
    assert transport.ice.last_request_ns == SECOND + 5
    assert door.port.drops == {PortDrop.STUN_UNKNOWN_UFRAG: 10_000}


def test_guesses_at_one_transport_are_read_at_a_bounded_rate_and_harm_no_other(door: Door) -> None:
    (known, _), (other, _) = door.open(), door.open()
    guess = door.check(known, SECOND, pwd="guess")
    door.port.dispatch([guess] * (CHECKS_PER_SECOND_MAX + 50))
    assert door.port.drops[PortDrop.STUN_UNAUTHENTICATED] == CHECKS_PER_SECOND_MAX
    assert door.port.drops[PortDrop.STUN_TOO_FAST] == 50
    door.port.dispatch([door.check(other, SECOND), door.check(known, 2 * SECOND)])
    assert (other.ice.last_request_ns, known.ice.last_request_ns) == (SECOND, 2 * SECOND)


def test_who_is_known_is_read_even_when_strangers_have_had_their_share(door: Door) -> None:
    transports = [door.open()[0] for _ in range(UNKNOWN_PER_SECOND_MAX // CHECKS_PER_SECOND_MAX)]
    for transport in transports:
        door.port.dispatch([door.check(transport, SECOND, pwd="guess")] * CHECKS_PER_SECOND_MAX)
    known, _ = door.open()
    door.port.dispatch([door.check(known, SECOND)])
    assert known.ice.last_request_ns == 0
    door.port.dispatch([door.check(known, SECOND)._replace(transport=known.handle)])
    assert known.ice.last_request_ns == SECOND


@pytest.mark.parametrize("where", ["dispatch", "timers"])
def test_fault_costs_the_transport_that_it_struck_and_no_other(
    door: Door, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bad, struck), (good, well) = door.open(faulty=True), door.open()
    calls = [Upcall(UpcallKind.RTCP, each.handle, door.socket, door.own, b"report", SECOND) for each in (bad, good)]
    if where == "dispatch":
        door.port.dispatch(calls)
    else:
        monkeypatch.setattr(bad, "handle_timer", None)
        door.port.run_timers(SECOND)
        door.port.dispatch(calls[1:])
    assert well.received == [b"report"]
    assert (struck.ended, well.ended) == (["failed"], [])
    assert door.port.drops[PortDrop.FAULT] == 1
    assert (bad.state, good.state) == (TransportState.CLOSED, TransportState.CONNECTING)
    assert door.port.transports == 1


def test_every_address_is_bound_to_one_port() -> None:
    port = MediaPort(PythonPlane(), DtlsCertificate())
    try:
        port.bind(media_addresses("127.0.0.1,198.51.100.7=127.0.0.2"), 0)
        assert [address for address, _ in port.candidates] == ["127.0.0.1", "198.51.100.7"]
        assert port.tcp_candidates == port.candidates
        assert len(port.sockets) == 4
        assert len({number for _, number in port.candidates}) == 1
        with pytest.raises(OSError, match=r"in use"):
            MediaPort(port.plane, port.certificate).bind(media_addresses("127.0.0.1"), port.candidates[0][1])
    finally:
        port.plane.close()
