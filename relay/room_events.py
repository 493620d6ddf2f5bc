"""How a room speaks: events to control, entries to the journal, lines to the log, all with its ids in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from config.logs import get_log
from relay.evidence import LiveClock
from relay.journal import JournalEntry
from relay.messages import Event, MediaEvidence, OpenRoom, ParticipantConnecting, ParticipantEvidence
from relay.reports import TimeBase

log = get_log("relay.room")


class RoomListener(Protocol):
    """What a room tells its worker. Must not block."""

    def tell(self, event: Event) -> None: ...
    def journal(self, entry: JournalEntry) -> None: ...
    def connected_after(self, connect_ns: int) -> None: ...


class RoomEvents:
    """One room's voice."""

    def __init__(self, command: OpenRoom, worker_id: str, time: TimeBase, listener: RoomListener) -> None:
        self.seq = 0
        """Of the newest evidence."""
        self._command = command
        self._worker_id = worker_id
        self._time = time
        self._listener = listener

    def tell(self, kind: Callable[..., Event], now_ns: int, **fields: Any) -> None:
        """Tell control an event of type ``kind``; the room's ids and the time are filled in."""
        if self._command.probe:
            return
        event = kind(
            tenant_id=self._command.tenant_id,
            session_id=self._command.session_id,
            epoch=self._command.epoch,
            worker_id=self._worker_id,
            at_ms=self._time.wall_ms(now_ns),
            **fields,
        )
        self._listener.tell(event)

    def evidence(
        self,
        live: LiveClock,
        participants: tuple[ParticipantEvidence, ...],
        terms_revision: int,
        now_ns: int,
        *,
        final: bool,
        at_once: bool,
    ) -> None:
        """Tell and journal how long media has flowed."""
        if self._command.probe:
            return
        self.seq += 1
        self.tell(
            MediaEvidence,
            now_ns,
            seq=self.seq,
            live_ms=live.live_ms,
            granted_live_ms=live.granted_live_ms,
            running=live.running,
            final=final,
            at_once=at_once,
            participants=participants,
            terms_revision=terms_revision,
        )
        entry = JournalEntry(
            tenant_id=self._command.tenant_id,
            session_id=self._command.session_id,
            epoch=self._command.epoch,
            seq=self.seq,
            live_ms=live.live_ms,
            granted_live_ms=live.granted_live_ms,
            worker_id=self._worker_id,
            final=final,
            at_ms=self._time.wall_ms(now_ns),
        )
        self._listener.journal(entry)

    def connecting(self, user_id: int, now_ns: int) -> None:
        """Tell that a participant's page is about to connect."""
        self.tell(ParticipantConnecting, now_ns, user_id=user_id)

    def log(self, event: str, **fields: Any) -> None:
        """A line in the worker's log."""
        log.info(event, session_id=self._command.session_id, room_epoch=self._command.epoch, **fields)
