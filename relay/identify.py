"""Whose packet is it: of streams that no offer announced, found out by mid and rid, or by payload type."""

from __future__ import annotations

from typing import NamedTuple

from relay.negotiation import MID, REPAIRED_RID, RID
from relay.participant import Participant
from relay.published import Encoding, PublishedTrack
from relay.rtp import RtpHeader, get_extension


class Identified(NamedTuple):
    """What a packet is of."""

    track: PublishedTrack
    encoding: Encoding
    is_rtx: bool


def identify(participant: Participant, packet: bytes, header: RtpHeader) -> Identified | None:
    """What a participant's packet is of; None: it does not say."""
    found = _by_mid(participant, packet, header) or _by_type(participant, header.payload_type)
    if found is None:
        return None
    track, is_rtx = found
    encoding = _encoding_of(track, packet, header)
    return None if encoding is None else Identified(track, encoding, is_rtx)


def _encoding_of(track: PublishedTrack, packet: bytes, header: RtpHeader) -> Encoding | None:
    """Which encoding of a track a packet, or what it repairs, is of (RFC 8852)."""
    if not track.is_simulcast:
        return track.best
    for uri in (RID, REPAIRED_RID):
        number = track.media.extensions.get(uri)
        rid = None if number is None else get_extension(packet, header, number)
        if rid is not None:
            return next((each for each in track.encodings if each.rid.encode() == rid), None)
    return None


def _by_mid(participant: Participant, packet: bytes, header: RtpHeader) -> tuple[PublishedTrack, bool] | None:
    for track in (*participant.published.values(), *participant.resting.values()):
        number = track.media.extensions.get(MID)
        if number is not None and get_extension(packet, header, number) == track.media.mid.encode():
            return track, header.payload_type in track.media.rtx.values()
    return None


def _by_type(participant: Participant, payload_type: int) -> tuple[PublishedTrack, bool] | None:
    """The one track whose codecs have this payload type, where only one has (cameras and screens share theirs)."""
    tracks = [
        track
        for track in participant.published.values()
        if payload_type in track.media.rtx.values()
        or any(codec.payload_type == payload_type for codec in track.media.codecs)
    ]
    return (tracks[0], payload_type in tracks[0].media.rtx.values()) if len(tracks) == 1 else None
