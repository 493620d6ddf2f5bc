"""Events on their way to the bus: bounded, in order, evidence coalesced to the newest per room.

While Redis is away events wait. Evidence is cumulative, so that of each room only the newest waits; the others are few
per room. Beyond ``EVENTS_MAX`` the oldest that is not evidence is dropped and counted: control learns the state of a
room from the next evidence in any case.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from relay.messages import Event, MediaEvidence, QualityMeasured

EVENTS_MAX: Final = 4096
ROOMS_MAX: Final = 4096
"""Rooms whose newest evidence waits; the one that waited longest gives way."""
BATCH_MAX: Final = 256


def can_wait(event: Event) -> bool:
    """Whether it is one of the many that tell once a second what goes on as before, and nobody acts on at once."""
    if isinstance(event, MediaEvidence):
        return not (event.at_once or event.final)
    return isinstance(event, QualityMeasured)


class Outbox:
    """See the module's docstring. ``put`` from anywhere in the worker's thread; one sender takes and settles."""

    def __init__(self) -> None:
        self.dropped = 0
        self._events: OrderedDict[int, Event] = OrderedDict()
        self._evidence: dict[tuple[int, int], int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: Event) -> None:
        """Queue an event. Evidence replaces what waits of the same room, unless that was final."""
        self._next += 1
        if isinstance(event, MediaEvidence):
            room = (event.session_id, event.epoch)
            waiting = self._evidence.pop(room, None)
            if waiting is not None:
                self._events.pop(waiting, None)
            self._evidence[room] = self._next
        self._events[self._next] = event
        while len(self._events) > EVENTS_MAX + len(self._evidence) or len(self._evidence) > ROOMS_MAX:
            self._drop_oldest()

    def take(self) -> list[Event]:
        """The oldest events, up to ``BATCH_MAX``; they stay queued until ``settle``."""
        return [event for event, _ in zip(self._events.values(), range(BATCH_MAX), strict=False)]

    def settle(self, events: list[Event]) -> None:
        """These have arrived: forget them, but not evidence that replaced one of them meanwhile."""
        sent = {id(event) for event in events}
        for number in [number for number, event in self._events.items() if id(event) in sent]:
            self._forget(number)

    def _drop_oldest(self) -> None:
        victim = next((n for n, e in self._events.items() if not isinstance(e, MediaEvidence)), None)
        if victim is None or len(self._evidence) > ROOMS_MAX:
            victim = next(iter(self._evidence.values()))
        self._forget(victim)
        self.dropped += 1

    def _forget(self, number: int) -> None:
        event = self._events.pop(number)
        if isinstance(event, MediaEvidence) and self._evidence.get((event.session_id, event.epoch)) == number:
            del self._evidence[event.session_id, event.epoch]
