"""What pages say over Socket.IO; acknowledged with ``{"ok": true, "data": …}`` or ``{"ok": false, "error": …}``.

With ``messages`` (REST) and ``server_events`` (what the server says by itself) the source of docs/protocol.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from billing.money import RATE_MAX, STEP_MAX_MS
from config.http import Body, View
from relay.messages import PAGE_TRACKS_MAX, SDP_MAX_CHARS, Direction, SessionKind, Source
from signaling.messages import (
    CHAT_MAX_CHARS,
    Consent,
    PublicIdText,
    RequestKey,
    RequestSession,
)


class OnSession(Body):
    """Base of messages about one session."""

    session_id: PublicIdText


class AcceptMessage(OnSession):
    """``session.accept``"""

    consent: Consent


class ChangeKindMessage(OnSession):
    """``session.change_kind``: asks for another kind at the terms shown, or agrees to what the other side has asked."""

    kind: SessionKind
    minor_per_minute: Annotated[int, Field(ge=0, le=RATE_MAX)]
    step_ms: Annotated[int, Field(ge=1, le=STEP_MAX_MS)] = 1
    agrees: bool = False


class JoinRoom(OnSession):
    """``room.join``: the page's offer; answered with ``RoomAnswer``. Also for renegotiation and ICE restart.

    ``fresh``: the page made a new RTCPeerConnection. ``sources`` maps the mid of each m-line to what it sends.
    """

    sdp: Annotated[str, Field(min_length=1, max_length=SDP_MAX_CHARS)]
    sources: dict[Annotated[str, Field(max_length=16)], Source]
    fresh: bool = True


class RoomTrack(View):
    """What an m-line of the answer carries towards the page."""

    mid: str
    user_id: str
    source: Source


class IceServer(View):
    """A STUN or TURN server, as RTCIceServer has it."""

    urls: list[str]
    username: str | None = None
    credential: str | None = None


class IceServers(View):
    """GET /api/v1/ice-servers: for connections made within ``ttl_s``."""

    ice_servers: list[IceServer]
    ttl_s: int


class AnnouncementView(View):
    """What the page plays and shows when the recording begins."""

    version: str
    text: str
    url: str | None
    """The tenant's own spoken notice; null: a sound of the page's."""


class RoomAnswer(View):
    """Acknowledgement of ``room.join``."""

    sdp: str
    room_epoch: int
    tracks: list[RoomTrack]
    muted: dict[str, dict[Source, bool]]
    """Declared states of everybody in the room so far: user id → source → muted."""
    ice_servers: list[IceServer] = Field(default_factory=list)
    """For the page's next connection."""
    announcement: AnnouncementView | None = None
    """Null: nothing is announced here, or nothing can be recorded."""


class SetMuted(OnSession):
    """``room.mute``: what the page does with its own sources; told to the other side, and to the meter (02)."""

    muted: dict[Source, bool]


class TrackStats(Body):
    """What getStats says of one track since the last digest: ``up`` from the page, ``down`` to it."""

    source: Source
    direction: Direction
    frames_per_second: Annotated[float, Field(ge=0, le=1000)] | None = None
    frozen_ms: Annotated[float, Field(ge=0, le=60_000)] = 0.0
    concealed: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the samples played that were made up."""
    playout_ms: Annotated[float, Field(ge=0, le=60_000)] | None = None
    """How long what arrives waits in the jitter buffer."""


class RoomStats(OnSession):
    """``room.stats``, about every 2 s while connected: merged into the session's quality, never into its price."""

    rtt_ms: Annotated[float, Field(ge=0, le=60_000)] | None = None
    tracks: Annotated[list[TrackStats], Field(max_length=PAGE_TRACKS_MAX)]


class OpenProbe(Body):
    """``probe.open``: a connection test, acknowledged with ``ProbeOpened``. Six in five minutes."""


class ProbeOpened(View):
    """The test begins now: the page offers twice, and stops after ``test_ms``; the worker after ``open_ms``."""

    probe_id: str
    test_ms: int
    open_ms: int


class OnProbe(Body):
    """Base of messages about one's own connection test; ``probe.close`` carries nothing else."""

    probe_id: PublicIdText


class JoinProbe(OnProbe):
    """``probe.join``: an offer of one of the page's two connections; acknowledged with ``ProbeAnswer``.

    What the one with side ``send`` sends comes back on the one with side ``receive``. Again for another path: always a
    fresh RTCPeerConnection.
    """

    side: Literal["send", "receive"]
    sdp: Annotated[str, Field(min_length=1, max_length=SDP_MAX_CHARS)]
    mid: Annotated[str, Field(max_length=16)]
    """Of the one m-line, video."""


class ProbeAnswer(View):
    """The worker's answer."""

    sdp: str


class SendChat(OnSession):
    """``chat.send``; acknowledged with the stored ``ChatMessage``."""

    client_message_id: RequestKey
    text: Annotated[str, Field(min_length=1, max_length=CHAT_MAX_CHARS)]


class Heartbeat(Body):
    """``presence.heartbeat``, every 10 s; acknowledged with ``{"newest": seq}`` of the caller's events."""


class EventsSince(Body):
    """``events.since``: acknowledged with ``{"events": [{"event", "seq", "data"}…], "complete": bool}``.

    ``complete`` false: some are no longer kept; read the state again over REST.
    """

    seq: Annotated[int, Field(ge=0, le=2**53)]


CLIENT_MESSAGES: dict[str, type[Body]] = {
    "session.request": RequestSession,
    "session.accept": AcceptMessage,
    "session.decline": OnSession,
    "session.cancel": OnSession,
    "session.end": OnSession,
    "session.change_kind": ChangeKindMessage,
    "session.keep_kind": OnSession,
    "room.join": JoinRoom,
    "room.mute": SetMuted,
    "room.stats": RoomStats,
    "probe.open": OpenProbe,
    "probe.join": JoinProbe,
    "probe.close": OnProbe,
    "chat.send": SendChat,
    "presence.heartbeat": Heartbeat,
    "events.since": EventsSince,
}
"""Every message that a client may send; the acknowledgement of the ``session.*`` ones carries a ``SessionView``."""
