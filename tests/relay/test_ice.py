"""The lite agent against requests built as a browser builds them."""

from __future__ import annotations

from typing import Any

from aioice import stun
from hypothesis import given
from hypothesis import strategies as st

from relay.ice import IceAgent, IceCredentials, IceOutcome, Path, peek_ufrag, read_request
from relay.plane import SocketHandle

LOCAL = IceCredentials("localufrag", "local-password-local-password")
HERE = Path(SocketHandle(1), ("192.0.2.7", 4000))
THERE = Path(SocketHandle(1), ("192.0.2.8", 5000))


def binding(
    credentials: IceCredentials = LOCAL,
    remote: str = "remote",
    pwd: str | None = None,
    attributes: dict[str, Any] | None = None,
) -> stun.Message:
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["USERNAME"] = f"{credentials.ufrag}:{remote}"
    message.attributes["PRIORITY"] = 1
    message.attributes.update(attributes or {"ICE-CONTROLLING": 1})
    message.add_message_integrity((pwd or credentials.pwd).encode())
    read = read_request(bytes(message))
    assert read is not None
    return read


def test_answer_is_signed_and_tells_the_mapped_address() -> None:
    agent = IceAgent(LOCAL, "remote")
    request = binding()
    reply = agent.receive(request, HERE, 5)
    assert reply.datagram is not None
    answer = stun.parse_message(reply.datagram)
    assert answer.message_class is stun.Class.RESPONSE
    assert answer.transaction_id == request.transaction_id
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == HERE.address
    assert answer.check_message_integrity(LOCAL.pwd.encode())
    assert "FINGERPRINT" in answer.attributes
    assert agent.last_request_ns == 5


def test_ufrag_is_found_wherever_browsers_may_put_it_and_only_in_binding_requests() -> None:
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["SOFTWARE"] = "x" * 5  # padded to eight
    message.attributes["PRIORITY"] = 1
    message.attributes["USERNAME"] = f"{LOCAL.ufrag}:remote"
    data = bytes(message)
    assert peek_ufrag(data) == LOCAL.ufrag
    assert peek_ufrag(b"\1\1" + data[2:]) is None, "a response"
    assert peek_ufrag(data[:4] + b"\0" + data[5:]) is None, "no STUN cookie"
    assert peek_ufrag(data.replace(b":", b";")) is None
    assert peek_ufrag(data[:20] + b"\x80\x22\0\0" * 100) is None, "too many attributes"
    for length in range(len(data) - 8):
        assert peek_ufrag(data[:length]) is None or peek_ufrag(data[:length]) == LOCAL.ufrag


def test_before_a_nomination_the_newest_path_is_used_and_after_it_only_nominated_ones() -> None:
    agent = IceAgent(LOCAL, "remote")
    assert agent.receive(binding(), HERE, 1).outcome is IceOutcome.SELECTED
    assert agent.receive(binding(), THERE, 2).outcome is IceOutcome.SELECTED
    assert agent.heard(HERE)
    nominating: dict[str, Any] = {"ICE-CONTROLLING": 1, "USE-CANDIDATE": None}
    assert agent.receive(binding(attributes=nominating), THERE, 3).outcome is IceOutcome.SELECTED
    assert agent.receive(binding(), HERE, 4).outcome is IceOutcome.ANSWERED
    assert not agent.heard(HERE)
    assert agent.path == THERE


def test_what_does_not_authenticate_is_met_with_silence() -> None:
    agent = IceAgent(LOCAL, "remote")
    for request in (binding(pwd="wrong"), binding(remote="other"), binding(IceCredentials("nobody", "x" * 24))):
        reply = agent.receive(request, HERE, 1)
        assert reply == (IceOutcome.UNAUTHENTICATED, None)
    assert agent.path is None
    assert agent.last_request_ns == 0


def test_other_side_that_wants_to_be_controlled_is_told_to_change_roles() -> None:
    agent = IceAgent(LOCAL, "remote")
    reply = agent.receive(binding(attributes={"ICE-CONTROLLED": 7}), HERE, 1)
    assert reply.outcome is IceOutcome.ROLE_CONFLICT
    assert reply.datagram is not None
    assert stun.parse_message(reply.datagram).error_code == 487
    assert agent.path is None


def test_restart_accepts_both_credentials_until_the_new_ones_are_used() -> None:
    agent = IceAgent(LOCAL, "remote")
    agent.receive(binding(), HERE, 1)
    new = IceCredentials.fresh()
    agent.restart(new, "remote2")
    assert set(agent.ufrags) == {LOCAL.ufrag, new.ufrag}
    assert agent.receive(binding(), HERE, 2).datagram is not None
    assert agent.receive(binding(new, "remote2"), THERE, 3).outcome is IceOutcome.SELECTED
    assert set(agent.ufrags) == {new.ufrag}
    assert agent.receive(binding(), HERE, 4).outcome is IceOutcome.UNAUTHENTICATED


def test_fresh_credentials_are_long_and_of_the_characters_that_sdp_allows() -> None:
    credentials = IceCredentials.fresh()
    assert len(credentials.ufrag) >= 4
    assert len(credentials.pwd) >= 22
    assert set(credentials.ufrag + credentials.pwd).isdisjoint("-_=")


@given(st.binary(max_size=700))
def test_any_bytes_are_read_without_a_fault(data: bytes) -> None:
    read_request(data)
    peek_ufrag(data)
    peek_ufrag(b"\0\1\0\x40\x21\x12\xa4\x42" + data)


@given(st.integers(0, 120), st.binary(min_size=1, max_size=4))
def test_altered_requests_are_read_without_a_fault_and_never_accepted(at: int, junk: bytes) -> None:
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, b"123456789012")
    message.attributes["USERNAME"] = f"{LOCAL.ufrag}:remote"
    message.attributes["ICE-CONTROLLING"] = 1
    message.add_message_integrity(LOCAL.pwd.encode())
    whole = bytes(message)
    altered = whole[:at] + junk + whole[at + len(junk) :]
    request = read_request(altered)
    if (
        request is not None and altered[:-8] != whole[:-8]
    ):  # what comes after is FINGERPRINT, which authenticates nothing
        assert IceAgent(LOCAL, "remote").receive(request, HERE, 1).outcome is not IceOutcome.SELECTED
