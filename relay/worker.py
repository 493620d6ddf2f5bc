"""The worker: one process, one plane, one event loop; the shell around ``rooms``.

Four things go round: the sockets' readiness drives the plane; timers drive rooms, DTLS and the plane's own (``turns``
has packets forwarded in between); events go out over the bus and commands come in; once a second the journal is synced
and the worker tells that it lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Final, Literal

from redis.asyncio import Redis

from config.clock import Clock, SystemClock
from config.connections import open_redis
from config.ids import WorkerId
from config.keys import KeyRing
from config.logs import get_log
from config.metrics import OpsServer
from config.process import come_first
from config.settings import Settings
from relay.bus import BUS_ERRORS, WorkerBus, check_cancelled
from relay.dtls import DtlsCertificate
from relay.journal import Journal, JournalEntry, closed_files, read_file
from relay.messages import Event
from relay.messages_status import WorkerStatus
from relay.metrics import CONNECT_SECONDS, RelayCollector
from relay.outbox import Outbox, can_wait
from relay.plane_choice import choose_plane
from relay.port import MediaPort, media_addresses
from relay.room import Room
from relay.rooms import Rooms
from relay.spool import SpoolWriter
from relay.store import EvidenceStore, StoreUnavailable
from relay.turns import Turns

STATUS_INTERVAL_S: Final = 0.5
JOURNAL_INTERVAL_S: Final = 1.0
SHIP_INTERVAL_S: Final = 2.0
RETRY_S: Final = 0.25
GATHER_S: Final = 0.05
"""How long what need not be told at once waits for its like: a hundred rooms tell something every 10 ms, and each time
the worker, the bus and control have to be woken for it."""
LOOP_AGAIN_S: Final = 1.0
"""The pause before a loop that failed begins again."""
DRAIN_MAX_S: Final = 20.0
"""How long a stopping worker waits for control to move its rooms; then it closes them."""
FAREWELL_MAX_S: Final = 4.0
"""How long a stopping worker tries to get its last events onto the bus."""
JOURNAL_WAITING_MAX: Final = 8_192
"""Entries waiting for the disk; the oldest are dropped beyond it, the next say the same and more."""

log = get_log("relay.worker")


def new_worker_id() -> WorkerId:
    """An id that no other worker has, and that tells a person where it runs."""
    host = "".join(c if c.isalnum() else "-" for c in socket.gethostname().lower())[:24]
    return WorkerId(f"{host}-{os.getpid()}-{secrets.token_hex(3)}")


class Worker:
    """See the module's docstring. ``async with Worker(…) as worker: await worker.run()``."""

    def __init__(self, settings: Settings, redis: Redis, store: EvidenceStore | None, clock: Clock) -> None:
        self.worker_id = new_worker_id()
        self.plane, self.plane_reason = choose_plane(settings.plane)
        self.port = MediaPort(self.plane, DtlsCertificate())
        self.outbox = Outbox()
        self.ops_url = ""
        self.data = settings.data
        self._settings = settings
        self._redis = redis
        self._store = store
        self._clock = clock
        self._spool = SpoolWriter()
        self._journal = Journal(settings.journal_dir, self.worker_id)
        self._journal_waiting: deque[JournalEntry] = deque(maxlen=JOURNAL_WAITING_MAX)
        self._outbox_filled = asyncio.Event()
        self._gathering: asyncio.TimerHandle | None = None
        self._port_alarm = _Alarm(clock, self._run_port_timers)
        self._turns = Turns(self.port, clock, self._tick)
        self._rooms_alarm = _Alarm(clock, self._work)
        self._next_turn: asyncio.Handle | None = None
        self._faulty: set[asyncio.Task[None]] = set()
        self._bus_reached = False
        self._started_ms = clock.wall_ms()
        self._cpu = _CpuShare()
        self.rooms = Rooms(
            self.port,
            self.worker_id,
            clock,
            self,
            self._spool,
            settings.spool_dir,
            KeyRing.from_settings(settings),
            self._room_changed,
            settings.spool_free_min_bytes,
        )

    async def __aenter__(self) -> Worker:
        """Bind the media port and start to forward. Raises OSError where the port is taken."""
        self.port.bind(media_addresses(self._settings.media_addresses), self._settings.media_port)
        self._spool.__enter__()
        loop = asyncio.get_running_loop()
        for handle in self.port.sockets:
            loop.add_reader(self.plane.fileno(handle), self._readable)
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        await self.rooms.close_all("worker_stopped")
        for handle in self.port.sockets:
            loop.remove_reader(self.plane.fileno(handle))
        for waiting in (self._port_alarm, self._rooms_alarm, self._next_turn):
            if waiting is not None:  # what had no turn yet gets none: the plane closes
                waiting.cancel()
        await asyncio.to_thread(self._write_journal)
        await asyncio.to_thread(self._journal.close)
        await asyncio.to_thread(self._spool.close)
        self.plane.close()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with contextlib.AsyncExitStack() as stack:
            ops = OpsServer(self._settings.ops_host, self._settings.ops_port, {"bus": lambda: self._bus_reached})
            self.ops_url = (await stack.enter_async_context(ops)).url
            stack.enter_context(RelayCollector(self.port, self.rooms, self.outbox))
            bus = await stack.enter_async_context(WorkerBus(self._redis, self.worker_id, self.rooms.carry_out))
            stack.push_async_callback(self._say_farewell, bus)
            log.info("worker up", worker_id=self.worker_id, addresses=self.port.candidates, plane=self.plane.name)
            async with asyncio.TaskGroup() as tasks:
                loops = self._loops(bus) | {"ship journals": self._ship_journals}
                for name, loop in loops.items():
                    tasks.create_task(self._again(name, loop), name=name)

    def _loops(self, bus: WorkerBus) -> dict[str, Callable[[], Awaitable[None]]]:
        """What goes on up to the farewell's end, by name."""
        return {
            "tell events": lambda: self._tell_events(bus),
            "tell status": lambda: self._tell_status(bus),
            "journal": self._keep_journal,
        }

    async def _again(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """A loop for as long as the worker lives: what nobody expected in it is logged, and costs no call."""
        while True:
            check_cancelled()
            try:
                await loop()
            except Exception:  # noqa: BLE001 - a loop's boundary: logged, and begun again
                log.fault("loop failed, begins again", loop=name)
            await asyncio.sleep(LOOP_AGAIN_S)

    # RoomListener

    def tell(self, event: Event) -> None:
        """An event for control."""
        self.outbox.put(event)
        if not can_wait(event):
            self._outbox_filled.set()
        elif self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_S, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        self._outbox_filled.set()

    def journal(self, entry: JournalEntry) -> None:
        """An entry for the next sync of the journal."""
        self._journal_waiting.append(entry)

    def connected_after(self, connect_ns: int) -> None:
        """A page has connected."""
        CONNECT_SECONDS.observe(connect_ns / 1e9)

    # sockets and timers

    def _readable(self) -> None:
        self._turns.forward()
        self._work()

    def _work(self) -> None:
        """Everything but packets, which come in between; what is left goes on after the event loop's other work."""
        if self._next_turn is not None:
            return
        if self._turns.work():
            self._next_turn = asyncio.get_running_loop().call_soon(self._go_on)
        self._arm_port()
        self._arm_rooms()

    def _go_on(self) -> None:
        self._next_turn = None
        self._readable()

    def _arm_port(self) -> None:
        self._port_alarm.set(self.port.next_timer_ns(self._clock.monotonic_ns()))

    def _run_port_timers(self) -> None:
        self.port.run_timers(self._clock.monotonic_ns())
        self._arm_port()

    def _arm_rooms(self) -> None:
        self._rooms_alarm.set(self._turns.rooms.next_ns())

    def _room_changed(self, room: Room) -> None:
        """A room's next time may be another, or it is closed."""
        self._plan(room)
        self._arm_port()
        self._arm_rooms()

    def _plan(self, room: Room) -> None:
        if room.closed:
            self._turns.rooms.drop(room)
        else:
            # Not before now: who is behind with a room must not come before all others again and again.
            self._turns.rooms.put(room, max(room.next_timer_ns(), self._clock.monotonic_ns()))

    def _tick(self, room: Room, now_ns: int) -> None:
        try:
            room.tick(now_ns)
        except Exception:  # noqa: BLE001 - one room's fault ends that room, not the worker; its gate must not stay open
            log.fault("room failed", session_id=room.command.session_id, room_epoch=room.epoch)
            task = asyncio.create_task(self.rooms.close_faulty(room), name="close faulty room")
            self._faulty.add(task)
            task.add_done_callback(self._faulty.discard)
            return
        self._plan(room)

    # bus

    async def _tell_events(self, bus: WorkerBus) -> None:
        self._outbox_filled.set()
        while True:
            check_cancelled()
            await self._outbox_filled.wait()
            self._outbox_filled.clear()
            while len(self.outbox):
                check_cancelled()
                if not await self._send_batch(bus):
                    await asyncio.sleep(RETRY_S)

    async def _send_batch(self, bus: WorkerBus) -> bool:
        events = self.outbox.take()
        try:
            await bus.tell_events(events)
        except BUS_ERRORS as error:
            self._note_bus(False, error)
            return False
        self.outbox.settle(events)
        return True

    async def _say_farewell(self, bus: WorkerBus) -> None:
        """Have control move the rooms; then the final evidence of those that are left, while the bus is still there."""
        self.rooms.draining = True
        async with asyncio.TaskGroup() as tasks:
            still_told = [
                tasks.create_task(self._again(name, loop), name=name) for name, loop in self._loops(bus).items()
            ]
            try:
                await self._until_moved(bus)
            finally:
                for task in still_told:
                    task.cancel()
        await self.rooms.close_all("worker_stopped")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_MAX_S):
                while len(self.outbox):
                    if not await self._send_batch(bus):
                        await asyncio.sleep(RETRY_S)

    async def _until_moved(self, bus: WorkerBus) -> None:
        """Wait until no room is left, ``DRAIN_MAX_S`` at most, and only while somebody is there to move them."""
        if not len(self.rooms):
            return
        log.info("waiting for the rooms to be moved", rooms=len(self.rooms))
        with contextlib.suppress(TimeoutError, *BUS_ERRORS):
            async with asyncio.timeout(DRAIN_MAX_S):
                while len(self.rooms) and await bus.control_present():  # noqa: ASYNC110 - no event tells of that
                    await asyncio.sleep(RETRY_S)

    async def _tell_status(self, bus: WorkerBus) -> None:
        while True:
            check_cancelled()
            try:
                await bus.tell_status(self.status())
                self._note_bus(True, None)
            except BUS_ERRORS as error:
                self._note_bus(False, error)
            await asyncio.sleep(STATUS_INTERVAL_S)

    def _note_bus(self, reached: bool, error: BaseException | None) -> None:
        if self._bus_reached and not reached:
            log.warning("bus unreachable, calls go on", why=str(error))
        self._bus_reached = reached

    def status(self) -> WorkerStatus:
        """What control places rooms by."""
        plane: Literal["python", "native"] = "native" if self.plane.name == "native" else "python"
        return WorkerStatus(
            worker_id=self.worker_id,
            pid=os.getpid(),
            host=socket.gethostname(),
            addresses=tuple(address for address, _ in self.port.candidates),
            port=self.port.candidates[0][1],
            plane=plane,
            plane_reason=self.plane_reason,
            ops_url=self.ops_url,
            rooms=tuple((room.command.session_id, room.epoch) for room in self.rooms if not room.command.probe),
            load=self._cpu.share(),
            draining=self.rooms.draining,
            started_at_ms=self._started_ms,
            at_ms=self._clock.wall_ms(),
            version=version("turnpike"),
        )

    # journal

    async def _keep_journal(self) -> None:
        failing = False
        while True:
            await asyncio.sleep(JOURNAL_INTERVAL_S)
            try:
                await asyncio.to_thread(self._write_journal)
                failing = False
            except OSError as error:
                if not failing:
                    log.error("journal cannot be written, calls go on", why=str(error))
                failing = True

    def _write_journal(self) -> None:
        entries: list[JournalEntry] = []
        while self._journal_waiting:
            entries.append(self._journal_waiting.popleft())
        self._journal.append(entries, self._clock.monotonic_ns())

    async def _ship_journals(self) -> None:
        waiting = False
        while True:
            try:
                await self.ship_journals()
                waiting = False
            except (StoreUnavailable, OSError) as error:
                if not waiting:
                    log.warning("journals wait for the database", why=str(error))
                waiting = True
            await asyncio.sleep(SHIP_INTERVAL_S)

    async def ship_journals(self) -> None:
        """Ship every closed journal file of this host, dead workers' included, then delete it.

        Raises ``StoreUnavailable`` or OSError; what was not shipped stays for the next time.
        """
        if self._store is None:
            return
        for path in await asyncio.to_thread(closed_files, self._settings.journal_dir):
            try:
                content = await asyncio.to_thread(read_file, path)
            except FileNotFoundError:
                continue  # another worker of this host was quicker
            if content.damaged:
                log.info("journal has a torn tail", file=path.name, lines=content.damaged)
            await self._store.ship(content.entries)
            await asyncio.to_thread(path.unlink, missing_ok=True)


class _Alarm:
    """One timer of the event loop, for the earliest of the times that are set."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock, self._ring_it = clock, ring
        self._timer: asyncio.TimerHandle | None = None
        self._due_ns = 0

    def set(self, due_ns: int | None) -> None:
        """Ring then, or when it rings anyway if that is sooner; None: nothing new."""
        if due_ns is None or (self._timer is not None and self._due_ns <= due_ns):
            return
        self.cancel()
        self._due_ns = due_ns
        delay_s = _delay_s(due_ns, self._clock.monotonic_ns())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._ring)

    def cancel(self) -> None:
        """Ring no more, unless set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self._ring_it()


class _CpuShare:
    """Share of one core that this process has used since the last question."""

    def __init__(self) -> None:
        self._cpu_s = time.process_time()
        self._at_s = time.monotonic()

    def share(self) -> float:
        cpu_s, at_s = time.process_time(), time.monotonic()
        used = (cpu_s - self._cpu_s) / max(at_s - self._at_s, 1e-3)
        self._cpu_s, self._at_s = cpu_s, at_s
        return round(min(1.0, used), 3)


def _delay_s(due_ns: int, now_ns: int) -> float:
    """Seconds until then, rounded up to the event loop's milliseconds so that the timer is not early."""
    return max(0, math.ceil((due_ns - now_ns) / 1e6)) / 1000


async def main(settings: Settings) -> int:
    """Run a worker until it is cancelled; then its rooms are closed in order, with final evidence."""
    if settings.redis_url is None:
        log.error("a worker needs REDIS_URL: it is told what to do over the bus")
        return 2
    redis = open_redis(settings.redis_url, name="worker")
    store = EvidenceStore(settings.database_url, "worker") if settings.database_url else None
    runs = False
    try:
        come_first(settings.cores_of_workers)
        async with Worker(settings, redis, store, SystemClock()) as worker:
            runs = True
            await worker.run()
    except (OSError, ValueError) as error:
        if runs:
            raise  # not a setting that is wrong: the log gets all that is known of it
        log.error("worker cannot start", why=str(error))
        return 1
    finally:
        if store is not None:
            await store.close()
        await redis.aclose()
    return 0
