"""SRTP in place: what one end protects, the other reads, once."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pylibsrtp import Policy, Session

from relay.plane import SrtpProfile
from relay.rtcp import pack_receiver_report
from relay.rtp import make_packet
from relay.srtp import PACKET_BYTES_MAX, PacketBuffer, SrtpContext, SrtpStatus

PROFILES = list(SrtpProfile)


def key_of(profile: SrtpProfile) -> bytes:
    return os.urandom(profile.key_bytes + profile.salt_bytes)


def packet(sequence: int, payload: bytes = b"payload") -> bytes:
    return make_packet(payload_type=96, sequence=sequence, timestamp=1, ssrc=2, payload=payload)


@pytest.mark.parametrize("profile", PROFILES)
def test_both_ends_agree_up_to_the_largest_packet(profile: SrtpProfile) -> None:
    key = key_of(profile)
    sender, receiver = SrtpContext(profile, key, inbound=False), SrtpContext(profile, key, inbound=True)
    largest = packet(1, bytes(PACKET_BYTES_MAX - 12))
    protected = sender.protect_bytes(largest)
    assert protected is not None
    assert receiver.unprotect_bytes(protected) == largest
    assert sender.protect_bytes(largest + b"x") is None
    report = pack_receiver_report(2)
    protected = sender.protect_bytes(report, rtcp=True)
    assert protected is not None
    assert receiver.unprotect_bytes(protected, rtcp=True) == report


def test_in_place_bytes_are_those_of_the_stock_session() -> None:
    profile = SrtpProfile.AEAD_AES_128_GCM
    key = key_of(profile)
    stock = Session(
        Policy(key=key, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=Policy.SRTP_PROFILE_AEAD_AES_128_GCM)
    )
    context, buffer = SrtpContext(profile, key, inbound=False), PacketBuffer()
    data = packet(9)
    buffer.view[: len(data)] = data
    length = context.protect(buffer, len(data))
    assert bytes(buffer.view[:length]) == stock.protect(data)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_replay_and_a_forgery_are_told_apart(profile: SrtpProfile) -> None:
    key = key_of(profile)
    sender, receiver = SrtpContext(profile, key, inbound=False), SrtpContext(profile, key, inbound=True)
    protected = sender.protect_bytes(packet(1))
    assert protected is not None
    buffer = PacketBuffer()

    def receive(data: bytes) -> int:
        buffer.view[: len(data)] = data
        return receiver.unprotect(buffer, len(data))

    assert receive(protected[:-1] + bytes((protected[-1] ^ 1,))) == SrtpStatus.FAILED
    assert receive(protected) > 0
    assert receive(protected) == SrtpStatus.REPLAYED


def test_a_packet_may_be_sent_again_as_it_was() -> None:
    profile = SrtpProfile.AEAD_AES_128_GCM
    sender = SrtpContext(profile, key_of(profile), inbound=False)
    first = sender.protect_bytes(packet(1))
    for sequence in range(2, 1_000):
        sender.protect_bytes(packet(sequence))
    assert sender.protect_bytes(packet(1)) == first


def test_a_key_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError):
        SrtpContext(SrtpProfile.AEAD_AES_128_GCM, bytes(30), inbound=True)


@settings(max_examples=60)
@given(st.binary(max_size=120), st.sampled_from(PROFILES))
def test_any_bytes_fail_without_raising(data: bytes, profile: SrtpProfile) -> None:
    receiver = SrtpContext(profile, key_of(profile), inbound=True)
    for candidate in (data, b"\x80\x60" + data, b"\x9f\x60" + data, b"\x80\xc9" + data):
        assert receiver.unprotect_bytes(candidate) is None
        assert receiver.unprotect_bytes(candidate, rtcp=True) is None
