"""What a worker shows Prometheus. Totals live where they are counted; this collects them when asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from config.metrics import REGISTRY, histogram
from relay.outbox import Outbox
from relay.port import MediaPort
from relay.rooms import Rooms

CONNECT_SECONDS: Final = histogram(
    "turnpike_relay_connect_seconds", "From a page's offer to a finished DTLS handshake."
)
_SHORT: Final = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
FORWARD_SECONDS: Final = histogram(
    "turnpike_relay_forward_seconds",
    "From taking a batch of packets off the socket to its last one sent on; a sample of the batches.",
    buckets=_SHORT,
)
LATE_SECONDS: Final = histogram(
    "turnpike_relay_late_seconds",
    "How late the worker came to a room's timer: packets waited in the socket for as long at most.",
    buckets=_SHORT,
)
FORWARD_SAMPLED: Final = 16
"""One batch in so many is timed."""


class RelayCollector(Collector):
    """The figures of one worker; registered for as long as the worker runs."""

    def __init__(self, port: MediaPort, rooms: Rooms, outbox: Outbox) -> None:
        self._port = port
        self._rooms = rooms
        self._outbox = outbox

    def __enter__(self) -> RelayCollector:
        REGISTRY.register(self)
        return self

    def __exit__(self, *_: object) -> None:
        REGISTRY.unregister(self)

    def collect(self) -> Iterator[Metric]:
        """Called for every scrape."""
        yield GaugeMetricFamily("turnpike_relay_rooms", "Rooms open on this worker.", len(self._rooms))
        connected = sum(participant.ready for room in self._rooms for participant in room.participants.values())
        yield GaugeMetricFamily("turnpike_relay_participants", "Participants connected to this worker.", connected)
        yield GaugeMetricFamily(
            "turnpike_relay_transports",
            "Transports open on this worker, connecting ones included.",
            self._port.transports,
        )
        yield CounterMetricFamily(
            "turnpike_relay_forwarded_packets", "Media packets forwarded to subscribers.", self._rooms.forwarded
        )
        drops = CounterMetricFamily(
            "turnpike_relay_dropped_packets", "Datagrams and packets dropped, by reason.", labels=["reason"]
        )
        for reason, count in self._port.plane.drops().items():
            drops.add_metric([reason.value], count)
        for port_reason, count in self._port.drops.items():
            drops.add_metric([port_reason.value], count)
        yield drops
        yield GaugeMetricFamily("turnpike_relay_events_waiting", "Media events not yet on the bus.", len(self._outbox))
        yield CounterMetricFamily(
            "turnpike_relay_events_dropped", "Media events dropped because too many waited.", self._outbox.dropped
        )
