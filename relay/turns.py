"""Whose turn it is on the worker's one thread: packets come before all else that waits for it.

A hundred rooms that are looked at in one go, or as many reports that came in one batch, take tens of milliseconds, in
which every packet of every call would wait. So what is long is done in pieces, some upcalls or a room; and between two
pieces the plane gets to forward what has come in, as soon as ``FORWARD_WITHIN_NS`` have passed without it.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import Final

from config.clock import Clock
from relay.metrics import FORWARD_SAMPLED, FORWARD_SECONDS, LATE_SECONDS
from relay.plane import Upcall
from relay.port import MediaPort
from relay.room import Room

FORWARD_WITHIN_NS: Final = 1_000_000
"""Work goes on for no longer than this, and one piece, before packets are forwarded again."""
TURN_MAX_NS: Final = 5_000_000
"""Then everything else of the event loop gets its turn: the bus, threads that have finished."""
PIECE_UPCALLS: Final = 4
"""Upcalls handled between two looks at the clock."""
UPCALLS_WAITING_MAX: Final = 256
"""With so many waiting, no more are fetched: packets wait for them too, in the sockets, which are bounded."""
STALE_MAX: Final = 64
"""Times of rooms that have been given another since, kept beyond as many as there are rooms."""


class RoomTimes:
    """Rooms by when they want to be looked at; a room has one time. Sans-IO."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Room]] = []
        self._newest: dict[Room, int] = {}
        """The order of the one entry of each room that counts."""
        self._orders = itertools.count()

    def put(self, room: Room, due_ns: int) -> None:
        """Look at the room then, and no longer when it was said before."""
        order = self._newest[room] = next(self._orders)
        heapq.heappush(self._heap, (due_ns, order, room))
        if len(self._heap) > 2 * len(self._newest) + STALE_MAX:
            self._heap = [entry for entry in self._heap if self._newest.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)

    def drop(self, room: Room) -> None:
        """Look at it no more."""
        self._newest.pop(room, None)

    def next_ns(self) -> int | None:
        """The earliest time; None: there is no room."""
        while self._heap and self._newest.get(self._heap[0][2]) != self._heap[0][1]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now_ns: int) -> tuple[Room, int] | None:
        """The room that has been due for longest, and since when; it has no time afterwards. None: none is due."""
        due_ns = self.next_ns()
        if due_ns is None or due_ns > now_ns:
            return None
        room = heapq.heappop(self._heap)[2]
        del self._newest[room]
        return room, due_ns


class Turns:
    """See the module's docstring. The worker says when something may be due; no time passes in here but its work's."""

    def __init__(self, port: MediaPort, clock: Clock, tick: Callable[[Room, int], None]) -> None:
        """``tick``: looks at a room; it says itself when it wants that next (``rooms.put``)."""
        self.rooms = RoomTimes()
        self._port, self._clock, self._tick = port, clock, tick
        self._upcalls = deque[Upcall]()
        self._room_next = False
        self._forwarded_ns = 0
        self._forwards = 0

    def forward(self) -> None:
        """Let the plane forward what has come in, and send what is due; what it brings up waits for ``work``."""
        if len(self._upcalls) >= UPCALLS_WAITING_MAX:
            return
        began_ns = self._clock.monotonic_ns()
        plane = self._port.plane
        self._upcalls += plane.drain(began_ns)
        due_ns = plane.next_timer_ns()
        if due_ns is not None and due_ns <= began_ns:
            self._upcalls += plane.run_timers(began_ns)
        self._forwarded_ns = self._clock.monotonic_ns()
        self._forwards += 1
        if self._forwards % FORWARD_SAMPLED == 0:
            FORWARD_SECONDS.observe((self._forwarded_ns - began_ns) / 1e9)

    def work(self) -> bool:
        """Do what waits, forwarding in between; whether something is left when the turn is over."""
        until_ns = self._clock.monotonic_ns() + TURN_MAX_NS
        while self._piece():
            now_ns = self._clock.monotonic_ns()
            if now_ns - self._forwarded_ns >= FORWARD_WITHIN_NS:
                self.forward()
            if now_ns >= until_ns:
                return True
        return False

    def _piece(self) -> bool:
        """A little work, upcalls and rooms by turns: however many there are of one, the other goes on. False: none."""
        self._room_next = not self._room_next
        if self._room_next:
            return self._room_piece() or self._upcalls_piece()
        return self._upcalls_piece() or self._room_piece()

    def _upcalls_piece(self) -> bool:
        pieces = min(PIECE_UPCALLS, len(self._upcalls))
        if pieces:
            self._port.dispatch([self._upcalls.popleft() for _ in range(pieces)])
        return pieces > 0

    def _room_piece(self) -> bool:
        now_ns = self._clock.monotonic_ns()
        due = self.rooms.take(now_ns)
        if due is None:
            return False
        room, due_ns = due
        LATE_SECONDS.observe((now_ns - due_ns) / 1e9)
        self._tick(room, now_ns)
        return True
