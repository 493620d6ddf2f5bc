"""A session's media on one worker: who is connected with whom, whether media may flow, and what control is told.

Synchronous: the worker passes time in, runs ``tick`` at ``next_timer_ns``, and does what needs the disk. ``wiring``
makes streams and routes, ``room_rtcp`` reports and key-frame requests, ``evidence`` the clock; here they meet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from config.clock import Clock
from relay import negotiation, sdp
from relay.evidence import LIVENESS_WINDOW_NS, ClockEvent, ClockState, LiveClock, Side, Signs
from relay.ice import IceCredentials
from relay.messages import (
    REFUSALS,
    DeclareState,
    GrantUsedUp,
    LayersWanted,
    MediaInterrupted,
    MediaResumed,
    MediaStarted,
    Negotiate,
    Negotiated,
    NegotiationNeeded,
    OpenRoom,
    ParticipantConnected,
    ParticipantDisconnected,
    ReceivedTrack,
    Refused,
    ReportStats,
    RoomClosed,
    SessionKind,
    Source,
    TrackStarted,
)
from relay.participant import Participant
from relay.port import MediaPort
from relay.published import PublishedTrack
from relay.recording import RoomRecording
from relay.reports import TimeBase
from relay.room_bandwidth import RoomBandwidth
from relay.room_events import RoomEvents, RoomListener
from relay.room_quality import RoomQuality
from relay.room_recording import RoomRecorder
from relay.room_rtcp import RoomRtcp
from relay.spool import SpoolPart
from relay.transport import Transport, TransportEnd, TransportState
from relay.wiring import Wiring

BUSY_TICK_NS: Final = 20_000_000
"""How often a room is looked at in which media is about to start or to come back."""
TICK_NS: Final = 100_000_000
SECOND_NS: Final = 1_000_000_000
CONSENT_MAX_NS: Final = 30_000_000_000
"""Nothing is sent to a peer, not even reports, that has shown no sign of life for so long (RFC 7675 §5.1)."""


class Room:
    """See the module's docstring. Owner of its participants' transports; ``close`` gives everything back."""

    def __init__(
        self, command: OpenRoom, port: MediaPort, worker_id: str, clock: Clock, listener: RoomListener
    ) -> None:
        now_ns = clock.monotonic_ns()
        self.command = command
        self.epoch = command.epoch
        self.kind: SessionKind = command.kind
        self._terms_revision = command.revision
        self.closed = False
        self.participants = {spec.user_id: Participant(spec) for spec in command.participants}
        self.live = LiveClock(command.granted_live_ms, by_presence=command.kind == "chat")
        self.live.declare_provider_muted(command.kind == "chat", now_ns)
        self.time = TimeBase(clock)
        self._port = port
        self._plane = port.plane
        self._events = RoomEvents(command, worker_id, self.time, listener)
        self._listener = listener
        self._gate = self._plane.add_gate(open=self.live.gate_open)
        self._gate_open = self.live.gate_open
        self._rtcp = RoomRtcp(self._plane, self.time, self.participants)
        self._wiring = Wiring(self._plane, self._gate, self.participants, self._rtcp.want_key_frame, self._tell_layers)
        self._rtcp.wiring = self._wiring
        self.recorder = RoomRecorder(self._plane, self._wiring, self._events)
        self._bandwidth = RoomBandwidth(
            self._plane, self.participants, self._wiring, self._events.log, self._video_paused
        )
        self._rtcp.bandwidth = self._bandwidth
        self._quality = RoomQuality(self._plane, self.participants, self._events, self.time, probe=command.probe)
        self._next_second_ns = now_ns + SECOND_NS
        self._next_tick_ns = now_ns

    @property
    def evidence_seq(self) -> int:
        """Of the newest evidence told."""
        return self._events.seq

    @property
    def forwarded(self) -> int:
        """Media packets forwarded in this room."""
        return sum(participant.forwarded for participant in self.participants.values())

    # commands

    def negotiate(self, command: Negotiate, now_ns: int) -> Negotiated | Refused:
        """Answer a participant's offer, and make, keep or replace their transport accordingly."""
        participant = self.participants.get(command.user_id)
        if participant is None:
            return refused("unknown_participant")
        try:
            return self._negotiate(participant, command, now_ns)
        except sdp.BadSdp as error:
            return Refused(code="bad_sdp", message=str(error))

    def _negotiate(self, participant: Participant, command: Negotiate, now_ns: int) -> Negotiated | Refused:
        offer = sdp.parse(command.sdp)
        ufrag, fingerprints = negotiation.remote_ice(offer)
        old = participant.transport
        if not command.fresh and (old is None or old.state not in _USABLE):
            return refused("transport_gone")  # its DTLS association with it: there is nothing to restart
        kept = old if old is not None and not command.fresh and old.state in _USABLE else None
        if kept is not None and kept.fingerprints != fingerprints:
            raise sdp.BadSdp("another certificate means another RTCPeerConnection: say that the offer is fresh")
        restart = kept is None or ufrag != kept.ice.remote_ufrag
        credentials = IceCredentials.fresh() if kept is None or restart else kept.ice.local
        local = negotiation.LocalTransport(
            credentials, self._port.certificate.fingerprint, self._port.candidates, self._port.tcp_candidates
        )
        previous = participant.agreement if kept is not None else None
        answer = negotiation.answer(self._view_of(participant), offer, command.sources, local, previous)
        # Nothing can be refused from here on.
        if kept is None:
            transport = self._port.open_transport(credentials, ufrag, fingerprints, self, now_ns)
            self._events.connecting(participant.spec.user_id, now_ns)
        else:
            transport = kept
            if restart:
                self._port.restart_ice(transport, credentials, ufrag)
        self._wiring.apply(participant, transport, answer.agreement, now_ns)
        if old is not None and old is not transport:
            self._port.close_transport(old)
            self._quality.forget(old.handle)
            self._disconnected(participant, "replaced", now_ns)
        participant.asked_to_negotiate = False
        self._ask_others_to_negotiate(participant, now_ns)
        self._next_tick_ns = now_ns
        return Negotiated(sdp=answer.sdp, tracks=self._received_tracks(participant, answer.agreement))

    def set_grant(self, granted_live_ms: int, now_ns: int) -> None:
        """More time has been paid for."""
        self._handle(self.live.set_grant(granted_live_ms, now_ns), now_ns)

    def set_kind(self, kind: SessionKind, revision: int, now_ns: int) -> None:
        """What the session pays for changes: what is not paid for any more ends here, whatever pages go on sending.
        Terms that are not newer than those known come late, and change nothing."""
        if revision <= self._terms_revision:
            return
        self._terms_revision = revision
        if kind == self.kind:
            return
        self._observe(now_ns)
        self.kind = kind
        self._wiring.restrict(negotiation.ALLOWED_KINDS[kind], now_ns)
        for participant in self.participants.values():
            if participant.spec.role == "provider":
                self.live.declare_provider_muted(participant.declared_off(kind), now_ns)
            if participant.unpaid & negotiation.ALLOWED_KINDS[kind]:  # it may have offered before it was told so
                self._events.tell(NegotiationNeeded, now_ns, user_id=participant.spec.user_id)
        self.live.by_presence = kind == "chat"
        self._events.log("kind changed", kind=kind, live_ms=self.live.live_ms)
        self._next_tick_ns = now_ns

    def live_until(self, now_ns: int) -> int:
        """Live time (ms) with the newest signs taken in."""
        self._observe(now_ns)
        return self.live.live_ms

    def declare(self, command: DeclareState, now_ns: int) -> Refused | None:
        """A participant says which of their sources are off."""
        participant = self.participants.get(command.user_id)
        if participant is None:
            return refused("unknown_participant")
        for source, muted in command.muted.items():
            if participant.muted.get(source, False) != muted:
                participant.muted[source] = muted
                RoomRecording.muted(participant, source, muted, now_ns)
        if participant.spec.role == "provider":
            self.live.declare_provider_muted(participant.declared_off(self.kind), now_ns)
        return None

    def report(self, command: ReportStats, now_ns: int) -> Refused | None:
        """A page's digest of its getStats."""
        return None if self._quality.report(command, now_ns) else refused("unknown_participant")

    @property
    def recording(self) -> RoomRecording | None:
        """The recording that is being written; ``recorder`` begins and ends it."""
        return self._wiring.recording

    # time

    def next_timer_ns(self) -> int:
        """When ``tick`` wants to be called next."""
        due = self.live.next_timer_ns()
        return self._next_tick_ns if due is None else min(due, self._next_tick_ns)

    def tick(self, now_ns: int) -> None:
        """Look at signs of life, run the clock, ask and report what is due."""
        if self.closed:
            return
        self._observe(now_ns)
        self._wiring.follow_all(now_ns)
        self.recorder.keep(now_ns)
        self._rtcp.send_due(now_ns)
        self._bandwidth.tick(now_ns)
        self._quality.note_joins(now_ns)
        if now_ns >= self._next_second_ns:
            self._next_second_ns += SECOND_NS * (1 + (now_ns - self._next_second_ns) // SECOND_NS)
            self._quality.measure(now_ns)
            self._rtcp.send_reports(now_ns)
            self._tell_evidence(now_ns)
        busy = self.live.state in (ClockState.WAITING, ClockState.HELD, ClockState.PAUSED) and any(
            participant.ready for participant in self.participants.values()
        )
        self._next_tick_ns = min(now_ns + (BUSY_TICK_NS if busy else TICK_NS), self._next_second_ns)

    def close(self, reason: str, now_ns: int) -> SpoolPart | None:
        """Final evidence, then give everything back. Idempotent; returns the part that the worker has to close.

        Should the telling meet a fault, the gate is closed and the transports are given back all the same.
        """
        if self.closed:
            return None
        self.closed = True
        self._plane.set_gate(self._gate, open=False)
        try:
            return self._say_goodbye(reason, now_ns)
        finally:
            for participant in self.participants.values():
                if participant.transport is not None:
                    self._port.close_transport(participant.transport)
            self._plane.remove_gate(self._gate)

    def _say_goodbye(self, reason: str, now_ns: int) -> SpoolPart | None:
        self._observe(now_ns)
        self.live.close(now_ns)
        part = self.recorder.stop(now_ns)
        self._quality.tell(now_ns)
        self._tell_evidence(now_ns, final=True)
        for participant in self.participants.values():
            self._disconnected(participant, "closed", now_ns)
            self._wiring.disconnect(participant, now_ns)
        self._events.tell(RoomClosed, now_ns, reason=reason, live_ms=self.live.live_ms)
        self._events.log("room closed", reason=reason, live_ms=self.live.live_ms)
        return part

    # what transports bring up

    def transport_connected(self, transport: Transport, now_ns: int) -> None:
        """DTLS is up: routes towards this participant can be made."""
        participant = self._owner_of(transport)
        if participant is None:
            return
        connect_ns = now_ns - transport.started_ns
        participant.connected = True
        self._listener.connected_after(connect_ns)
        connect_ms = connect_ns // 1_000_000
        self._events.tell(ParticipantConnected, now_ns, user_id=participant.spec.user_id, connect_ms=connect_ms)
        self._events.log("participant connected", user_id=participant.spec.user_id, connect_ms=connect_ms)
        self._wiring.connect(now_ns)
        self._next_tick_ns = now_ns

    def transport_ended(self, transport: Transport, why: TransportEnd, now_ns: int) -> None:
        """The page closed it, or it never came up."""
        participant = self._owner_of(transport)
        if participant is None:
            return
        self._events.log("transport ended", user_id=participant.spec.user_id, why=why, failure=transport.failure)
        participant.connected = participant.connected or why in ("failed", "timeout")  # so that control is told
        self._disconnected(participant, why, now_ns)
        self._wiring.disconnect(participant, now_ns)
        participant.transport = None
        self._port.close_transport(transport)
        self._quality.forget(transport.handle)

    def rtcp_received(self, transport: Transport, compound: bytes, now_ns: int) -> None:
        """Reports and requests."""
        participant = self._owner_of(transport)
        if participant is not None:
            self._rtcp.received(participant, compound, now_ns)

    def unknown_rtp_received(self, transport: Transport, packet: bytes, now_ns: int) -> None:
        """An SSRC that nobody announced."""
        participant = self._owner_of(transport)
        if participant is not None:
            self._wiring.learn(participant, packet, now_ns)

    def key_frame_wanted(self, transport: Transport, stream: int, now_ns: int) -> None:
        """A route cannot go on without a key frame of a stream."""
        for participant in self.participants.values():
            track = participant.published_by_stream(stream)
            if track is not None:
                self._rtcp.want_key_frame(participant, track, now_ns, track.encoding_by_stream(stream))

    # inside

    def _view_of(self, participant: Participant) -> negotiation.RoomView:
        others = [other for other in self.participants.values() if other is not participant]
        return negotiation.RoomView(
            kind=self.kind,
            video_codecs=self.command.video_codecs,
            other_video_codecs=tuple(other.agreement.video_codecs for other in others if other.agreement is not None),
            other_public_id=others[0].spec.public_id if others else "",
        )

    def _received_tracks(self, participant: Participant, agreement: negotiation.Agreement) -> tuple[ReceivedTrack, ...]:
        other = next((other for other in self.participants.values() if other is not participant), None)
        if other is None:
            return ()
        return tuple(
            ReceivedTrack(
                mid=media.mid, user_id=other.spec.user_id, participant=other.spec.public_id, source=media.source
            )
            for media in agreement.media
            if media.sends
        )

    def _ask_others_to_negotiate(self, joined: Participant, now_ns: int) -> None:
        """Whoever sends video in a codec that ``joined`` cannot take has to offer again."""
        if joined.agreement is None:
            return
        for other in self.participants.values():
            if other is joined or other.agreement is None or other.asked_to_negotiate:
                continue
            in_use = {media.codecs[0].name for media in other.agreement.media if media.kind == "video"}
            if in_use - joined.agreement.video_codecs:
                other.asked_to_negotiate = True
                self._events.tell(NegotiationNeeded, now_ns, user_id=other.spec.user_id)

    def _video_paused(self, subscriber: Participant, source: Source, paused: bool, now_ns: int) -> None:
        """A subscriber's path does not take the video, or takes it again."""
        (subscriber.videos_paused.add if paused else subscriber.videos_paused.discard)(source)
        self._tell_evidence(now_ns, at_once=True)

    def _tell_layers(self, publisher: Participant, track: PublishedTrack, wanted: frozenset[int], now_ns: int) -> None:
        """Somebody takes other encodings of a track than its page was told."""
        rids = tuple(each.rid for spatial, each in enumerate(track.encodings) if spatial in wanted)
        self._events.log("layers wanted", user_id=publisher.spec.user_id, source=track.media.source, rids=rids)
        self._events.tell(LayersWanted, now_ns, user_id=publisher.spec.user_id, source=track.media.source, rids=rids)

    def _owner_of(self, transport: Transport) -> Participant | None:
        for participant in self.participants.values():
            if participant.transport is transport:
                return participant
        return None

    def _disconnected(self, participant: Participant, why: TransportEnd, now_ns: int) -> None:
        if participant.connected:
            participant.connected = False
            self._events.tell(ParticipantDisconnected, now_ns, user_id=participant.spec.user_id, reason=why)

    def _observe(self, now_ns: int) -> None:
        counters = self._plane.gate_counters(self._gate)
        signs: dict[Side, Signs] = {"client": _SILENCE, "provider": _SILENCE}
        for participant in self.participants.values():
            participant.note_forwarded(counters)
            alive_ns, media_ns = participant.last_alive_ns(), participant.last_media_ns(self._plane)
            signs[participant.spec.role] = Signs(max(alive_ns, media_ns), media_ns, participant.forwarded)
            self._note_presence(participant, alive_ns, now_ns)
            self._note_tracks(participant, now_ns)
        self._handle(self.live.observe(signs["client"], signs["provider"], now_ns), now_ns)
        self._handle(self.live.handle_timer(now_ns), now_ns)

    def _note_presence(self, participant: Participant, alive_ns: int, now_ns: int) -> None:
        heard = participant.ready and now_ns - alive_ns <= LIVENESS_WINDOW_NS
        if participant.connected and not heard:
            self._disconnected(participant, "timeout", now_ns)
        elif participant.ready and now_ns - alive_ns > CONSENT_MAX_NS and participant.transport is not None:
            self.transport_ended(participant.transport, "timeout", now_ns)
        elif heard and not participant.connected:
            participant.connected = True
            self._events.tell(ParticipantConnected, now_ns, user_id=participant.spec.user_id, connect_ms=0)

    def _note_tracks(self, participant: Participant, now_ns: int) -> None:
        for source, track in participant.published.items():
            if track.started or track.stream is None or not self._plane.stream_counters(track.stream).packets:
                continue
            track.started = True
            codec = track.media.codecs[0].name
            self._events.tell(TrackStarted, now_ns, user_id=participant.spec.user_id, source=source, codec=codec)

    def _handle(self, events: list[ClockEvent], now_ns: int) -> None:
        self._sync_gate()
        for event in events:
            self._events.log("live clock", what=event.value, live_ms=self.live.live_ms)
            self._CLOCK_EVENTS[event](self, now_ns)
        if events:
            self._tell_evidence(now_ns)

    def _sync_gate(self) -> None:
        if not self.closed and self.live.gate_open != self._gate_open:
            self._gate_open = self.live.gate_open
            self._plane.set_gate(self._gate, open=self._gate_open)

    def _started(self, now_ns: int) -> None:
        self._events.tell(MediaStarted, now_ns)

    def _interrupted(self, now_ns: int) -> None:
        silent = [p for p in self.participants.values() if p.spec.role == self.live.silent]
        self._events.tell(MediaInterrupted, now_ns, user_id=silent[0].spec.user_id if silent else 0)

    def _resumed(self, now_ns: int) -> None:
        self._events.tell(MediaResumed, now_ns)

    def _used_up(self, now_ns: int) -> None:
        self._events.tell(GrantUsedUp, now_ns, live_ms=self.live.live_ms)

    _CLOCK_EVENTS: Final[dict[ClockEvent, Callable[[Room, int], None]]] = {
        ClockEvent.STARTED: _started,
        ClockEvent.INTERRUPTED: _interrupted,
        ClockEvent.RESUMED: _resumed,
        ClockEvent.USED_UP: _used_up,
    }

    def _tell_evidence(self, now_ns: int, *, final: bool = False, at_once: bool = False) -> None:
        sides = tuple(participant.evidence(self._plane, now_ns) for participant in self.participants.values())
        self._events.evidence(self.live, sides, self._terms_revision, now_ns, final=final, at_once=at_once)


_SILENCE: Final = Signs()
_USABLE: Final = frozenset({TransportState.CONNECTING, TransportState.CONNECTED})


def refused(code: str) -> Refused:
    """A refusal with its standard message."""
    return Refused(code=code, message=REFUSALS[code])
