"""Whether a feedback tells of nothing but packets that came at once: most do, and need no look at each packet.

Then the delay-based half of the estimate (``bandwidth_delay``) learns what the least and the most of their delays was,
and nothing else could follow from them: a queue has to stand above 70 ms for 400 ms before it counts. A worker gets
thousands of feedbacks a second, tens of thousands of packets; where a path wanders, loses or is probed, each is looked
at. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relay.feedback_reader import Told
from relay.plane import SentRun

CALM_NS: Final = 15_000_000
"""Packets that waited no longer than this were not kept by a queue that matters, nor overtaken by ones sent later."""
PACKETS_MIN: Final = 2


def is_calm(run: SentRun, base_ns: int | None) -> bool:
    """Whether packets that all came for the first time, added up, tell no more than their sum does."""
    if base_ns is None or run.packets < PACKETS_MIN or run.most_ns - base_ns > CALM_NS:
        return False
    return max(run.most_ns, base_ns) - run.least_ns <= CALM_NS


def calm(told: Sequence[Told], base_ns: int | None) -> SentRun | None:
    """The sum of a feedback in which every packet came for the first time, none of a probe's, each within ``CALM_NS``
    of the path's own delay; None: look at each of them."""
    if base_ns is None or len(told) < PACKETS_MIN:
        return None
    least_ns, most_ns = base_ns + CALM_NS, base_ns - CALM_NS
    size_bytes = last_sent_ns = last_arrival_ns = delay_ns = 0
    for (_, size, sent_ns, cluster), arrival_ns, late in told:
        if arrival_ns is None or late or cluster:
            return None
        delay_ns = arrival_ns - sent_ns
        if delay_ns > most_ns:
            if delay_ns - base_ns > CALM_NS:
                return None
            most_ns = delay_ns
        if delay_ns < least_ns:
            least_ns = delay_ns
        size_bytes += size
        if sent_ns > last_sent_ns:
            last_sent_ns = sent_ns
        if arrival_ns > last_arrival_ns:
            last_arrival_ns = arrival_ns
    ends = (last_sent_ns, last_arrival_ns, least_ns, most_ns, delay_ns)
    run = SentRun(told[0].sent.number, len(told), size_bytes, *ends)
    return run if is_calm(run, base_ns) else None
