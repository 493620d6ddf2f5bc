"""What control and workers say to each other over the bus: commands, replies and media events.

Commands go to one worker and are answered once; they are idempotent by (``room_epoch``, command id), so control may
send one again after a lost reply. Media events go to the log of the session's shard; they are cumulative or
idempotent, so that loss, duplication and reordering change nothing that matters. Names of events are past tense.

``epoch`` is a room epoch: it rises when a session's room moves to another worker, and fences the old one.
Sources name what a track shows (``microphone``, ``camera``, ``screen``), never how it is coded.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SDP_MAX_CHARS = 64 * 1024
"""Longest session description taken from a client."""

Source = Literal["microphone", "camera", "screen"]
SessionKind = Literal["chat", "audio", "video"]
Direction = Literal["up", "down"]
"""``up``: from a participant to the relay; ``down``: to the participant."""
Cause = Literal["none", "loss_up", "loss_down", "delay", "jitter", "frozen", "few_frames", "video_paused", "gone"]
"""What is to blame for a bad connection, for people."""
PAGE_TRACKS_MAX = 6
"""Tracks in a page's digest: three sources, two directions."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """Base of everything on the bus: immutable, JSON, tagged with its class name."""


# --- commands: control → worker ---------------------------------------------------------------------------------


class ParticipantSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Who may join a room. ``pays`` marks the client, ``earns`` the provider."""

    user_id: int
    public_id: str
    name: str
    role: Literal["client", "provider"]


class RoomCommand(Message, frozen=True, kw_only=True):
    """A command about one room. Workers refuse one whose epoch is older than the room's (``stale_epoch``)."""

    tenant_id: int
    session_id: int
    epoch: int


class OpenRoom(RoomCommand, frozen=True, kw_only=True):
    """Make a room. Opening one that exists at the same epoch changes nothing and succeeds."""

    session_public_id: str
    kind: SessionKind
    participants: tuple[ParticipantSpec, ...]
    granted_live_ms: int
    revision: int = 0
    """Of the terms that ``kind`` is of, as in ``SetKind``; 0: those at the opening of the session."""
    video_codecs: tuple[str, ...] = ("VP8", "H264")
    """Codecs that the tenant allows, best first."""
    probe: bool = False
    """A connection test: one page is both participants and is sent its own media. Nothing is told, journalled or
    billed, and the worker closes the room by itself (``relay.rooms``)."""


class Negotiate(RoomCommand, frozen=True, kw_only=True):
    """A participant's offer (RFC 8829). The answer comes back in ``Negotiated``.

    ``sources`` says what each offered m-line sends (mid → source); the same m-line receives the other side's track of
    that source. A first offer makes the participant's transport; later ones on the same transport renegotiate or
    restart ICE; ``fresh`` says that the page made a new RTCPeerConnection, so the old transport is closed.
    """

    user_id: int
    sdp: str
    sources: dict[str, Source]
    fresh: bool = True


class SetGrant(RoomCommand, frozen=True, kw_only=True):
    """The cumulative billable time that is paid for; never lowered (the larger of old and new holds)."""

    granted_live_ms: int
    kind: SessionKind | None = None
    """What that pays for; None: as before."""
    revision: int = 0
    """Of the terms that ``kind`` is of, as in ``SetKind``."""


class SetKind(RoomCommand, frozen=True, kw_only=True):
    """What may flow from now on: sources that the kind does not pay for end at once, others may be offered anew on the
    same transport. Answered by ``KindSet``. None: changes nothing, for the answer alone."""

    kind: SessionKind | None
    revision: int = 0
    """Of the terms (1: those at the opening): what is no newer than what the room has changes nothing."""


class DeclareState(RoomCommand, frozen=True, kw_only=True):
    """What a participant says of its own sources: muted microphone, camera off. The clock runs on (02)."""

    user_id: int
    muted: dict[Source, bool]


class PageTrack(msgspec.Struct, frozen=True, kw_only=True):
    """What a page's getStats says of one track since its last digest."""

    source: Source
    direction: Direction
    frames_per_second: float | None = None
    frozen_ms: float = 0.0
    """Time for which the picture stood still."""
    concealed: float | None = None
    """Share of the samples played that were made up because theirs did not come in time, 0–1."""
    playout_ms: float | None = None
    """How long what arrives waits in the jitter buffer."""


class ReportStats(RoomCommand, frozen=True, kw_only=True):
    """A page's digest of its getStats, about every 2 s. Goes into quality, and into nothing that is paid for."""

    user_id: int
    rtt_ms: float | None = None
    tracks: tuple[PageTrack, ...] = ()
    """At most ``PAGE_TRACKS_MAX``; more are not looked at."""


class StartRecording(RoomCommand, frozen=True, kw_only=True):
    """Spool the room's media from now on. Needs every participant's stored consent: control's duty to check."""

    recording_public_id: str
    key_id: str
    wrapped_key: bytes
    """The recording's data key, wrapped by the master key ``key_id`` (``config.keys``)."""


class StopRecording(RoomCommand, frozen=True, kw_only=True):
    """End the spool of the recording; the call goes on."""

    recording_public_id: str


class PauseRecording(RoomCommand, frozen=True, kw_only=True):
    """Spool nothing for a while: something is said that must not be kept. The call, and the bill, go on."""

    recording_public_id: str
    for_ms: int
    """Goes on by itself then. Asking again counts from then; 0: goes on now."""


class CloseRoom(RoomCommand, frozen=True, kw_only=True):
    """Close all transports and end spool and evidence. Answered by ``RoomClosed`` also when already closed."""

    reason: str


class Drain(Message, frozen=True, kw_only=True):
    """Take no more rooms. Control then moves those that the worker holds to others; it stays up."""


RecordingCommand = StartRecording | StopRecording | PauseRecording
Command = Drain | OpenRoom | Negotiate | SetGrant | SetKind | DeclareState | ReportStats | RecordingCommand | CloseRoom


# --- replies: worker → control ----------------------------------------------------------------------------------


class Done(Message, frozen=True, kw_only=True):
    """The command was carried out and has nothing to tell."""


class ReceivedTrack(msgspec.Struct, frozen=True, kw_only=True):
    """What an m-line of the answer carries towards the page: whose track, of which source."""

    mid: str
    user_id: int
    participant: str
    """The public id of the user that sends it."""
    source: Source


class Negotiated(Message, frozen=True, kw_only=True):
    """The worker's answer to an offer."""

    sdp: str
    tracks: tuple[ReceivedTrack, ...]


class Closed(Message, frozen=True, kw_only=True):
    """The room is closed. ``live_ms`` is final: the worker forwards nothing more for this epoch."""

    live_ms: int
    evidence_seq: int


class KindSet(Message, frozen=True, kw_only=True):
    """The kind of the room, and for how long it has been live: what was forwarded until now was of the kind before."""

    kind: SessionKind
    live_ms: int


class Refused(Message, frozen=True, kw_only=True):
    """The command was not carried out. ``code`` is one of ``REFUSALS``."""

    code: str
    message: str


REFUSALS: dict[str, str] = {
    "unknown_room": "no such room on this worker",
    "unknown_participant": "that user is no participant of the room",
    "stale_epoch": "the room has moved on to another worker",
    "transport_gone": "there is no transport any more to renegotiate: the offer has to be that of a fresh one",
    "bad_sdp": "the session description cannot be read or asks for what is not offered",
    "bad_command": "the command cannot be read",
    "worker_full": "the worker takes no more rooms",
    "worker_draining": "the worker is being drained",
    "already_recording": "the room is being recorded under another recording id",
    "not_recording": "the room is not being recorded under that recording id",
    "spool_full": "there is too little free disk to begin a recording",
    "spool_failed": "the spool cannot be written",
    "internal": "the worker met a fault; it is in its log",
}

Reply = Done | Negotiated | KindSet | Closed | Refused


# --- media events: worker → the session's shard log ---------------------------------------------------------------


class ParticipantEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a room at the moment of a ``MediaEvidence``."""

    user_id: int
    connected: bool
    """STUN consent, RTP or RTCP was seen within the liveness window."""
    last_rtp_ms: int | None = None
    """Age of the newest RTP packet from this side; None: none yet."""
    muted: dict[Source, bool] = {}
    forwarded_packets: int = 0
    """Packets from this side forwarded to the other, in total."""
    rtt_ms: float | None = None
    loss_up: float = 0.0
    """Share of this side's packets that did not arrive in the last second, 0–1."""
    loss_down: float = 0.0
    """Share of packets towards this side that it reports lost, 0–1."""
    jitter_ms: float = 0.0
    bitrate_up_bps: int = 0
    bitrate_down_bps: int = 0
    score: int = 5
    """Connection quality 1 (unusable) to 5 (good)."""
    cause: Cause = "none"
    videos_paused: tuple[Source, ...] = ()
    """Videos that are not sent to this side for now, because its path does not take them beside the sound."""


class MediaEvent(Message, frozen=True, kw_only=True):
    """Something that happened in a room; ``at_ms`` is the worker's wall clock, for people, never for billing."""

    tenant_id: int
    session_id: int
    epoch: int
    worker_id: str
    at_ms: int


class MediaEvidence(MediaEvent, frozen=True, kw_only=True):
    """How long media has flowed both ways, in total for this epoch, on the worker's monotonic clock.

    Sent once a second while the room is open and once more, ``final``, when it closes. Cumulative: of two, the one with
    the greater ``seq`` counts, and ``live_ms`` never falls.
    """

    seq: int
    live_ms: int
    granted_live_ms: int
    running: bool
    """Whether the clock runs at this moment."""
    final: bool = False
    at_once: bool = False
    """Out of turn, because something changed that people should see now: ``videos_paused``."""
    participants: tuple[ParticipantEvidence, ...] = ()
    terms_revision: int | None = None
    """Of the terms that the room lets flow what they pay for (``SetKind``); None: told by an older worker."""


class ParticipantConnecting(MediaEvent, frozen=True, kw_only=True):
    """A participant's page offered a transport, and got an answer."""

    user_id: int


class ParticipantConnected(MediaEvent, frozen=True, kw_only=True):
    """DTLS is up for a participant's transport; ``connect_ms`` counts from its first offer."""

    user_id: int
    connect_ms: int


class ParticipantDisconnected(MediaEvent, frozen=True, kw_only=True):
    """A participant's transport was closed or fell silent for longer than the liveness window."""

    user_id: int
    reason: Literal["closed", "timeout", "failed", "replaced"]


class MediaStarted(MediaEvent, frozen=True, kw_only=True):
    """The first packet was forwarded in each direction: the billable clock runs from here."""


class MediaInterrupted(MediaEvent, frozen=True, kw_only=True):
    """One side has been gone for longer than the liveness window: the clock stands still."""

    user_id: int


class MediaResumed(MediaEvent, frozen=True, kw_only=True):
    """Both sides are back: the clock runs again."""


class TrackStarted(MediaEvent, frozen=True, kw_only=True):
    """The first packet of a published source arrived."""

    user_id: int
    source: Source
    codec: str


class NegotiationNeeded(MediaEvent, frozen=True, kw_only=True):
    """A participant's page has to offer again on its RTCPeerConnection: another one joined who cannot decode the video
    codec in use, and the answer will now leave that codec out."""

    user_id: int


class LayersWanted(MediaEvent, frozen=True, kw_only=True):
    """A participant's page should send these simulcast encodings of ``source`` and pause its others: nobody takes them.
    Said again while one that is wanted does not come."""

    user_id: int
    source: Source
    rids: tuple[str, ...]


class TrackSecond(msgspec.Struct, frozen=True, array_like=True):
    """One track in one direction during one second."""

    source: Source
    direction: Direction
    loss: float
    """Share of the packets that did not arrive at first, 0–1."""
    jitter_ms: float
    bitrate_bps: int
    frames_per_second: float | None = None
    frozen_ms: int = 0
    paused: bool = False
    mos: float | None = None
    """1–4.5 (``relay.mos``); None: nothing was sent that could be judged."""


class QualitySecond(msgspec.Struct, frozen=True, array_like=True):
    """One participant's second."""

    user_id: int
    connected: bool
    score: int
    """1–5, smoothed: what people see."""
    mos: float
    """1–4.5, of this second, the worse of both directions."""
    cause: Cause = "none"
    rtt_ms: float | None = None
    tracks: tuple[TrackSecond, ...] = ()
    at_s: int = 0
    """The second, since the Unix epoch, on the worker's clock."""


class QualityMeasured(MediaEvent, frozen=True, kw_only=True):
    """The last few seconds of everybody in the room, and the rest when it closes. Lost ones leave gaps."""

    seconds: tuple[QualitySecond, ...]


class GrantUsedUp(MediaEvent, frozen=True, kw_only=True):
    """``live_ms`` reached ``granted_live_ms``: the gate is closed, nothing is forwarded until the grant is raised."""

    live_ms: int


class RecordingStarted(MediaEvent, frozen=True, kw_only=True):
    """The spool of a recording is being written."""

    recording_public_id: str


class RecordingStopped(MediaEvent, frozen=True, kw_only=True):
    """The spool of a recording has been closed."""

    recording_public_id: str


class RecordingPaused(MediaEvent, frozen=True, kw_only=True):
    """Nothing is spooled for now; or, not ``paused``, it is again."""

    recording_public_id: str
    paused: bool


class RoomClosed(MediaEvent, frozen=True, kw_only=True):
    """The room is gone from its worker; ``live_ms`` is final for this epoch."""

    reason: str
    live_ms: int


Event = (
    MediaEvidence
    | ParticipantConnecting
    | ParticipantConnected
    | ParticipantDisconnected
    | MediaStarted
    | MediaInterrupted
    | MediaResumed
    | TrackStarted
    | NegotiationNeeded
    | LayersWanted
    | QualityMeasured
    | GrantUsedUp
    | RecordingStarted
    | RecordingStopped
    | RecordingPaused
    | RoomClosed
)
