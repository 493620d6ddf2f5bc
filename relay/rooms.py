"""All rooms of a worker, and the commands about them. One table says who carries out which command.

A command is idempotent: opening what is open, closing what is closed, starting what has started succeed and change
nothing. The room's epoch fences: what concerns an older one than is held is refused as ``stale_epoch``.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

from config.clock import Clock
from config.keys import KeyRing, UnknownKey
from config.logs import get_log
from relay.messages import (
    Closed,
    CloseRoom,
    Command,
    DeclareState,
    Done,
    Drain,
    KindSet,
    Negotiate,
    OpenRoom,
    PauseRecording,
    Reply,
    ReportStats,
    RoomCommand,
    SetGrant,
    SetKind,
    StartRecording,
    StopRecording,
)
from relay.port import MediaPort
from relay.recording import free_bytes, part_header
from relay.room import Room, refused
from relay.room_events import RoomListener
from relay.spool import SpoolError, SpoolPart, SpoolTrouble, SpoolWriter

ROOMS_MAX: Final = 500
TRANSPORTS_MAX: Final = 1_100
"""Beyond twice the rooms: pages that come back have two transports for a moment."""
PROBES_MAX: Final = 8
"""Connection tests at a time: they must not cost the calls their quality."""
PROBE_MAX_S: Final = 15.0
"""How long a connection test may last; its media are forwarded for less (``relay.evidence.PREROLL_MAX_NS``)."""
CLOSED_MAX: Final = 1_024
"""Closed rooms remembered, to answer a repeated ``CloseRoom``; the oldest are forgotten first."""
PART_CLOSE_MAX_S: Final = 5.0
"""How long a reply waits until the spool is on disk."""
PAUSE_MAX_MS: Final = 15 * 60_000
"""A recording is paused for no longer than this at a time."""

log = get_log("relay.rooms")


class Rooms:
    """See the module's docstring. ``changed`` is called with a room whose timers may have changed."""

    def __init__(
        self,
        port: MediaPort,
        worker_id: str,
        clock: Clock,
        listener: RoomListener,
        spool: SpoolWriter,
        spool_dir: Path,
        keys: KeyRing,
        changed: Callable[[Room], None],
        free_min_bytes: int = 0,
    ) -> None:
        self.draining = False
        self._port = port
        self._worker_id = worker_id
        self._clock = clock
        self._listener = listener
        self._spool = spool
        self._spool_dir = spool_dir
        self._keys = keys
        self._free_min_bytes = free_min_bytes
        self._changed = changed
        self._rooms: dict[int, Room] = {}
        self._closed: OrderedDict[int, tuple[int, Closed]] = OrderedDict()
        self._starting: set[int] = set()
        self._forwarded_before = 0

    @property
    def forwarded(self) -> int:
        """Media packets forwarded since the worker started."""
        return self._forwarded_before + sum(room.forwarded for room in self)

    def __len__(self) -> int:
        return len(self._rooms)

    def __iter__(self) -> Iterator[Room]:
        return iter(list(self._rooms.values()))

    async def carry_out(self, command: Command) -> Reply:
        """Carry out one command from the bus."""
        if isinstance(command, OpenRoom):
            return self._open(command)
        if isinstance(command, CloseRoom):
            return await self._close(command)
        if isinstance(command, Drain):
            log.info("draining", rooms=len(self))
            self.draining = True
            return Done()
        room = self._rooms.get(command.session_id)
        if room is None or command.epoch > room.epoch:
            return refused("unknown_room")
        if command.epoch < room.epoch:
            return refused("stale_epoch")
        reply = await self._HANDLERS[type(command)](self, room, command)
        self._changed(room)
        return reply

    async def close_all(self, reason: str) -> None:
        """Close every room, with final evidence; waits for the spool."""
        self.draining = True
        parts = [self._end(room, reason) for room in self]
        await asyncio.gather(*(self._close_part(part) for part in parts))

    async def close_faulty(self, room: Room) -> None:
        """A room met a fault in its own code: whatever else, it must not go on forwarding unmetered."""
        await self._close_part(self._end(room, "fault"))

    def _open(self, command: OpenRoom) -> Reply:
        room = self._rooms.get(command.session_id)
        closed_epoch, _ = self._closed.get(command.session_id, (-1, None))
        newest = max(room.epoch if room is not None else -1, closed_epoch)
        if command.epoch < newest or command.epoch == closed_epoch:
            return refused("stale_epoch")
        if room is not None and room.epoch == command.epoch:
            return Done()
        if self.draining:
            return refused("worker_draining")
        if len(self._rooms) >= ROOMS_MAX and room is None:
            return refused("worker_full")
        probes = sum(other.command.probe for other in self._rooms.values())
        if command.probe and (probes >= PROBES_MAX or room is not None):
            return refused("worker_full")
        if room is not None:  # moved away and back again before the old one was closed
            part = self._end(room, "replaced")
            if part is not None:
                self._spool.close_part(part)
        room = Room(command, self._port, self._worker_id, self._clock, self._listener)
        self._rooms[command.session_id] = room
        if command.probe:
            asyncio.get_running_loop().call_later(PROBE_MAX_S, self._end_probe, room)
        log.info("room opened", session_id=command.session_id, room_epoch=command.epoch, kind=command.kind)
        self._changed(room)
        return Done()

    async def _close(self, command: CloseRoom) -> Reply:
        room = self._rooms.get(command.session_id)
        if room is not None and room.epoch == command.epoch:
            await self._close_part(self._end(room, command.reason))
        epoch, closed = self._closed.get(command.session_id, (-1, None))
        if closed is not None and epoch == command.epoch:
            return closed
        newest = max(epoch, room.epoch if room is not None else -1)
        return refused("stale_epoch" if command.epoch < newest else "unknown_room")

    def _end_probe(self, room: Room) -> None:
        if not room.closed:
            self._end(room, "probe_over")

    def _end(self, room: Room, reason: str) -> SpoolPart | None:
        if not room.closed:
            self._forwarded_before += room.forwarded
        try:
            part = room.close(reason, self._clock.monotonic_ns())
        except Exception:  # noqa: BLE001 - it has given everything back; the worker's other rooms go on
            log.fault("room closed with a fault", session_id=room.command.session_id, room_epoch=room.epoch)
            part = room.recording.part if room.recording is not None else None
        session_id = room.command.session_id
        if self._rooms.get(session_id) is room:
            del self._rooms[session_id]
        self._closed[session_id] = (room.epoch, Closed(live_ms=room.live.live_ms, evidence_seq=room.evidence_seq))
        self._closed.move_to_end(session_id)
        while len(self._closed) > CLOSED_MAX:
            self._closed.popitem(last=False)
        self._changed(room)
        return part

    async def _negotiate(self, room: Room, command: Negotiate) -> Reply:
        if self._port.transports >= TRANSPORTS_MAX:
            return refused("worker_full")
        return room.negotiate(command, self._clock.monotonic_ns())

    async def _set_grant(self, room: Room, command: SetGrant) -> Reply:
        now_ns = self._clock.monotonic_ns()
        if command.kind is not None:
            room.set_kind(command.kind, command.revision, now_ns)
        room.set_grant(command.granted_live_ms, now_ns)
        return Done()

    async def _set_kind(self, room: Room, command: SetKind) -> Reply:
        now_ns = self._clock.monotonic_ns()
        if command.kind is not None:
            room.set_kind(command.kind, command.revision, now_ns)
        return KindSet(kind=room.kind, live_ms=room.live_until(now_ns))

    async def _declare(self, room: Room, command: DeclareState) -> Reply:
        return room.declare(command, self._clock.monotonic_ns()) or Done()

    async def _report(self, room: Room, command: ReportStats) -> Reply:
        return room.report(command, self._clock.monotonic_ns()) or Done()

    async def _start_recording(self, room: Room, command: StartRecording) -> Reply:
        if room.recording is not None:
            same = room.recording.recording_public_id == command.recording_public_id
            return Done() if same else refused("already_recording")
        if command.session_id in self._starting:
            return refused("already_recording")
        try:
            data_key = self._keys.unwrap(command.key_id, command.wrapped_key, command.recording_public_id)
        except UnknownKey:
            log.error("recording key unknown", session_id=command.session_id, key_id=command.key_id)
            return refused("spool_failed")
        self._starting.add(command.session_id)
        try:
            if self._free_min_bytes and await asyncio.to_thread(free_bytes, self._spool_dir) < self._free_min_bytes:
                log.error("too little free disk to begin a recording", session_id=command.session_id)
                return refused("spool_full")
            part = await self._open_part(room, command, data_key)
        except SpoolError as error:
            log.error("spool cannot be opened", session_id=command.session_id, why=str(error))
            return refused("spool_failed")
        finally:
            self._starting.discard(command.session_id)
        if room.closed:  # while the disk was busy
            await self._close_part(part)
            return refused("unknown_room")
        room.recorder.start(part, self._clock.monotonic_ns())
        return Done()

    async def _open_part(self, room: Room, command: StartRecording, data_key: bytes) -> SpoolPart:
        now_ns = self._clock.monotonic_ns()
        header = part_header(
            tenant_id=command.tenant_id,
            session_id=command.session_id,
            session_public_id=room.command.session_public_id,
            epoch=command.epoch,
            recording_public_id=command.recording_public_id,
            worker_id=self._worker_id,
            key_id=command.key_id,
            wrapped_key=command.wrapped_key,
            participants=room.command.participants,
            wall_ms=room.time.wall_ms(now_ns),
            now_ns=now_ns,
        )
        loop = asyncio.get_running_loop()

        def on_trouble(trouble: SpoolTrouble, why: str) -> None:
            if trouble is SpoolTrouble.FAILED:
                loop.call_soon_threadsafe(self._part_failed, room, command.recording_public_id)

        return await asyncio.wrap_future(self._spool.open_part(self._spool_dir, header, data_key, on_trouble))

    def _part_failed(self, room: Room, recording_public_id: str) -> None:
        """The disk gave up on a part: the call goes on unrecorded, and control hears that it does."""
        if room.recording is not None and room.recording.recording_public_id == recording_public_id:
            part = room.recorder.stop(self._clock.monotonic_ns())
            if part is not None:
                self._spool.close_part(part)

    async def _stop_recording(self, room: Room, command: StopRecording) -> Reply:
        if room.recording is not None and room.recording.recording_public_id == command.recording_public_id:
            await self._close_part(room.recorder.stop(self._clock.monotonic_ns()))
        return Done()

    async def _pause_recording(self, room: Room, command: PauseRecording) -> Reply:
        recording = room.recording
        if recording is None or recording.recording_public_id != command.recording_public_id:
            return refused("not_recording")
        if command.for_ms > 0:
            room.recorder.pause(min(command.for_ms, PAUSE_MAX_MS), self._clock.monotonic_ns())
        else:
            room.recorder.resume(self._clock.monotonic_ns())
        return Done()

    async def _close_part(self, part: SpoolPart | None) -> None:
        if part is None:
            return
        try:
            async with asyncio.timeout(PART_CLOSE_MAX_S):
                await asyncio.shield(asyncio.wrap_future(self._spool.close_part(part)))
        except TimeoutError:
            log.error("spool is slow to close", recording=part.header.recording_public_id)

    _HANDLERS: Final[dict[type[RoomCommand], Callable[[Rooms, Room, Any], Awaitable[Reply]]]] = {
        Negotiate: _negotiate,
        SetGrant: _set_grant,
        SetKind: _set_kind,
        DeclareState: _declare,
        ReportStats: _report,
        StartRecording: _start_recording,
        StopRecording: _stop_recording,
        PauseRecording: _pause_recording,
    }
