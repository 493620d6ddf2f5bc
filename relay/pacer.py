"""How fast packets leave towards one transport: a leaky bucket for video, and probes that fill it up.

Sans-IO. A publisher sends a key frame as one burst, at its own uplink's pace; a subscriber's thinner link would have to
queue it, and its queue is short. So, where the path is known to be thin, video waits here and leaves in slices, what is
sent again first. Audio never waits, but counts. A probe sends more than the media for a moment, to find out whether the
path takes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from relay.plane_routes import Route

SLICE_NS: Final = 5_000_000
"""What waits is looked at this often; a slice's worth may leave early, so that timers need not be exact."""
QUEUED_MAX: Final = 2_048
"""Packets waiting; one more is an overflow."""
AGAIN_MAX: Final = 64
"""Packets waiting to be sent again; the oldest is forgotten first: it will be asked for once more."""
QUEUED_MAX_NS: Final = 400_000_000
"""What waits longer comes too late to be shown in time: more than this much waiting is an overflow."""
_SECOND_NS: Final = 1_000_000_000


class Paced(NamedTuple):
    """A packet that waits: rendered, not yet numbered for the transport or encrypted."""

    route: Route
    packet: bytes
    output: int
    """The route's output number; 0: something sent again."""


class Probe:
    """One cluster being sent: as many bytes as the rate says by now, media included."""

    __slots__ = ("began_ns", "cluster", "next_output", "rate_bps", "route", "sent_bytes", "size_bytes")

    def __init__(self, route: Route, rate_bps: int, size_bytes: int, cluster: int, began_ns: int) -> None:
        self.route = route
        self.rate_bps = rate_bps
        self.size_bytes = size_bytes
        self.cluster = cluster
        self.began_ns = began_ns
        self.sent_bytes = 0
        self.next_output = route.highest_output
        """What it sends again next, going backwards."""

    @property
    def due_ns(self) -> int:
        """When the next packet of it leaves."""
        return self.began_ns + self.sent_bytes * 8 * _SECOND_NS // self.rate_bps

    @property
    def done(self) -> bool:
        """Whether all of it was sent."""
        return self.sent_bytes >= self.size_bytes


class Pacer:
    """See the module's docstring."""

    __slots__ = ("_again", "_free_ns", "_queue", "_queued_bytes", "probe", "rate_bps")

    def __init__(self) -> None:
        self.rate_bps: int | None = None
        """What video may leave at; None: nothing waits."""
        self.probe: Probe | None = None
        self._queue: deque[Paced] = deque()
        self._again: deque[Paced] = deque(maxlen=AGAIN_MAX)
        self._queued_bytes = 0
        self._free_ns = 0
        """When everything sent so far would have left at the pace."""

    def __len__(self) -> int:
        return len(self._queue) + len(self._again)

    @property
    def due_ns(self) -> int | None:
        """When something may leave; None: nothing waits."""
        waiting = self._free_ns if self._queue or self._again else None
        probing = self.probe.due_ns if self.probe is not None else None
        if waiting is None or probing is None:
            return waiting if probing is None else probing
        return min(waiting, probing)

    def may_pass(self, now_ns: int) -> bool:
        """Whether a packet that comes now may leave at once."""
        return not self._queue and not self._again and (self.rate_bps is None or self._free_ns <= now_ns + SLICE_NS)

    def spend(self, size_bytes: int, now_ns: int) -> None:
        """A packet left."""
        probe = self.probe
        if probe is not None:
            probe.sent_bytes += size_bytes
        if self.rate_bps is not None:
            self._free_ns = max(self._free_ns, now_ns - SLICE_NS) + size_bytes * 8 * _SECOND_NS // self.rate_bps

    def push(self, paced: Paced) -> bool:
        """Let a packet wait. False: too many wait already; the packet is not taken."""
        rate = self.rate_bps
        if len(self._queue) >= QUEUED_MAX or (
            rate is not None and (self._queued_bytes * 8 * _SECOND_NS) // rate > QUEUED_MAX_NS
        ):
            return False
        self._queue.append(paced)
        self._queued_bytes += len(paced.packet)
        return True

    def push_again(self, paced: Paced) -> None:
        """Let a packet that is sent again wait, before what is sent for the first time."""
        self._again.append(paced)

    def release(self, now_ns: int) -> Iterator[Paced]:
        """What may leave now; ``spend`` must be called for each before the next is taken."""
        while (self._queue or self._again) and (self.rate_bps is None or self._free_ns <= now_ns + SLICE_NS):
            if self._again:
                yield self._again.popleft()
                continue
            paced = self._queue.popleft()
            self._queued_bytes -= len(paced.packet)
            yield paced

    def drop(self, route: Route) -> int:
        """Forget what waits of a route; how many packets that were."""
        before = len(self._queue)
        if before:
            self._queue = deque(paced for paced in self._queue if paced.route is not route)
            self._queued_bytes = sum(len(paced.packet) for paced in self._queue)
        for paced in [paced for paced in self._again if paced.route is route]:
            self._again.remove(paced)
        if self.probe is not None and self.probe.route is route:
            self.probe = None
        return before - len(self._queue)
