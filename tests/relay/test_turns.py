"""Packets before all else: what comes between the pieces of long work, and when rooms are looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from config.clock import VirtualClock
from relay.plane import Upcall, UpcallKind
from relay.port import MediaPort
from relay.room import Room
from relay.turns import PIECE_UPCALLS, STALE_MAX, TURN_MAX_NS, UPCALLS_WAITING_MAX, RoomTimes, Turns

MS = 1_000_000
UPCALL = Upcall(UpcallKind.RTCP, 1, 1, ("127.0.0.1", 9), b"", 0)


def room(name: object) -> Room:
    """Anything that can be told from another: none of a room's methods is called here."""
    return cast(Room, name)


@dataclass
class Machine:
    """A plane that notes when it forwards, and work that takes its time of a virtual clock."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    upcall_ms: int = 0
    room_ms: int = 0
    due_ns: int | None = None
    """When the plane wants to send something of its own: paced packets, feedback."""
    timed_ns: list[int] = field(default_factory=list)
    forwarded_ns: list[int] = field(default_factory=list)
    handled: list[Upcall] = field(default_factory=list)
    ticked: list[Room] = field(default_factory=list)
    brings: list[list[Upcall]] = field(default_factory=list)
    """What comes up with each of the next drains."""
    again: Callable[[Room, int], None] = lambda _room, _now_ns: None

    def __post_init__(self) -> None:
        self.turns = Turns(cast(MediaPort, self), self.clock, self.tick)
        self.plane = self

    def drain(self, now_ns: int) -> list[Upcall]:
        self.forwarded_ns.append(now_ns)
        return self.brings.pop(0) if self.brings else []

    def next_timer_ns(self) -> int | None:
        return self.due_ns

    def run_timers(self, now_ns: int) -> list[Upcall]:
        self.timed_ns.append(now_ns)
        self.due_ns = now_ns + 5 * MS
        return [UPCALL._replace(transport=99)]

    def dispatch(self, upcalls: list[Upcall]) -> None:
        for upcall in upcalls:
            self.handled.append(upcall)
            self.clock.advance_ms(self.upcall_ms)

    def tick(self, which: Room, now_ns: int) -> None:
        self.ticked.append(which)
        self.clock.advance_ms(self.room_ms)
        self.again(which, now_ns)

    def run(self) -> int:
        """Work until nothing is left; how many turns that took."""
        turns = 1
        while self.turns.work():
            turns += 1
        return turns


def longest_wait_ns(machine: Machine) -> int:
    pairs = zip(machine.forwarded_ns, [*machine.forwarded_ns[1:], machine.clock.monotonic_ns()], strict=True)
    return max(later - earlier for earlier, later in pairs)


def test_packets_are_forwarded_between_rooms_that_are_due_at_once() -> None:
    machine = Machine(room_ms=2)
    for number in range(50):
        machine.turns.rooms.put(room(number), 0)
    machine.turns.forward()
    turns = machine.run()
    assert sorted(cast(list[Any], machine.ticked)) == list(range(50))
    assert longest_wait_ns(machine) <= 2 * MS
    assert turns >= 50 * 2 * MS // (TURN_MAX_NS + 2 * MS)  # the event loop had its turn in between


def test_packets_are_forwarded_between_upcalls_of_one_batch() -> None:
    machine = Machine(upcall_ms=1, brings=[[UPCALL._replace(transport=n) for n in range(100)]])
    machine.turns.forward()
    machine.run()
    assert [upcall.transport for upcall in machine.handled] == list(range(100))
    assert longest_wait_ns(machine) <= PIECE_UPCALLS * MS


def test_what_the_plane_has_to_send_leaves_between_pieces_too() -> None:
    machine = Machine(room_ms=1)
    machine.due_ns = machine.clock.monotonic_ns()
    for number in range(40):
        machine.turns.rooms.put(room(number), 0)
    machine.turns.forward()
    machine.run()
    gaps = [later - earlier for earlier, later in zip(machine.timed_ns, machine.timed_ns[1:], strict=False)]
    assert len(machine.timed_ns) >= 6
    assert max(gaps) <= 7 * MS
    assert [upcall.transport for upcall in machine.handled] == [99] * len(machine.timed_ns)


def test_short_work_does_not_ask_the_kernel_again() -> None:
    machine = Machine(brings=[[UPCALL] * 10])
    machine.turns.rooms.put(room("a"), 0)
    machine.turns.forward()
    assert machine.run() == 1
    assert (len(machine.forwarded_ns), len(machine.handled), machine.ticked) == (1, 10, [room("a")])


def test_no_more_upcalls_are_fetched_than_may_wait_and_none_is_lost() -> None:
    flood = [[UPCALL] * UPCALLS_WAITING_MAX for _ in range(8)]
    machine = Machine(upcall_ms=1, brings=list(flood))
    most = 0
    while machine.brings or machine.turns._upcalls:
        machine.turns.forward()
        most = max(most, len(machine.turns._upcalls))
        machine.turns.work()
    assert most < 2 * UPCALLS_WAITING_MAX
    assert len(machine.handled) == sum(len(batch) for batch in flood)


def test_rooms_are_looked_at_however_many_upcalls_come() -> None:
    machine = Machine(upcall_ms=1, brings=[[UPCALL] * UPCALLS_WAITING_MAX for _ in range(40)])
    for number in range(20):
        machine.turns.rooms.put(room(number), 0)
    for _ in range(40):
        machine.turns.forward()
        machine.turns.work()
    assert len(machine.ticked) == 20
    assert machine.turns._upcalls


def test_room_that_asks_to_be_looked_at_at_once_does_not_keep_the_thread() -> None:
    machine = Machine(room_ms=1)
    machine.again = machine.turns.rooms.put
    machine.turns.rooms.put(room("a"), 0)
    assert machine.turns.work()
    assert machine.clock.monotonic_ns() <= 1_000_000_000 + TURN_MAX_NS + MS


@given(
    st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 40))), max_size=200), st.integers(0, 40)
)
def test_rooms_come_in_order_of_their_newest_times(said: list[tuple[int, int | None]], now_ns: int) -> None:
    times, wanted = RoomTimes(), dict[int, int]()
    for number, due_ns in said:
        if due_ns is None:
            times.drop(room(number))
            wanted.pop(number, None)
        else:
            times.put(room(number), due_ns)
            wanted[number] = due_ns
    assert times.next_ns() == min(wanted.values(), default=None)
    taken = []
    while (one := times.take(now_ns)) is not None:
        taken.append(one)
    assert [due_ns for _, due_ns in taken] == sorted(due for due in wanted.values() if due <= now_ns)
    assert dict(cast(list[Any], taken)) == {number: due for number, due in wanted.items() if due <= now_ns}
    assert times.next_ns() == min((due for due in wanted.values() if due > now_ns), default=None)


def test_times_that_count_no_more_are_not_kept() -> None:
    times = RoomTimes()
    for count in range(10_000):
        times.put(room("a"), 10**9 - count)
        times.put(room("b"), count)
    assert len(times._heap) <= 4 + STALE_MAX
    times.drop(room("b"))
    assert times.take(10**9) == (room("a"), 10**9 - 9_999)
    assert times.next_ns() is None
