"""Binding requests, before and after their password was checked."""

from __future__ import annotations

from aioice import stun

from relay.ice import IceAgent, IceCredentials, IceOutcome, Path, peek_ufrag, read_request
from relay.plane import SocketHandle
from tests.fuzz.kit import Run, Target, expect

OURS = IceCredentials("ourufrag", "p" * 32)
THEIRS = "them"
PATH = Path(SocketHandle(1), ("192.0.2.1", 4_000))


def make() -> Run:
    agent = IceAgent(OURS, THEIRS)

    def run(data: bytes) -> None:
        ufrag = peek_ufrag(data)
        request = read_request(data)
        if request is None:
            return
        expect(ufrag is not None, "a request whose ufrag the quick look does not find")
        reply = agent.receive(request, PATH, 1)
        expect((reply.datagram is None) == (reply.outcome is IceOutcome.UNAUTHENTICATED), "a stranger got an answer")
        if reply.datagram is not None:
            expect(len(reply.datagram) <= len(data), "the answer is longer than the question")
        expect(len(agent.ufrags) == 1, "generations out of nothing")

    return run


def request(nominate: bool = False, controlled: bool = False) -> bytes:
    """A check as browsers send it."""
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, b"t" * 12)
    message.attributes["USERNAME"] = f"{OURS.ufrag}:{THEIRS}"
    message.attributes["PRIORITY"] = 1_853_824_767
    message.attributes["ICE-CONTROLLED" if controlled else "ICE-CONTROLLING"] = 7
    if nominate:
        message.attributes["USE-CANDIDATE"] = None
    message.add_message_integrity(OURS.pwd.encode())
    message.add_fingerprint()
    return bytes(message)


def seeds() -> list[bytes]:
    return [request(), request(nominate=True), request(controlled=True)]


TARGET = Target("relay/stun", make, seeds, words=(b"\x00\x06", b"\x00\x08\x00\x14", b"\x80\x28\x00\x04", b"ourufrag:"))
