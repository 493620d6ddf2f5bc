"""Events that wait: in order, bounded, evidence coalesced."""

from __future__ import annotations

import msgspec

from relay.messages import MediaEvidence, MediaStarted, QualityMeasured
from relay.outbox import BATCH_MAX, EVENTS_MAX, ROOMS_MAX, Outbox, can_wait


def evidence(seq: int, session_id: int = 1) -> MediaEvidence:
    return MediaEvidence(
        tenant_id=1, session_id=session_id, epoch=1, worker_id="w", at_ms=0, seq=seq, live_ms=seq, granted_live_ms=9,
        running=True,
    )  # fmt: skip


def started(session_id: int = 1) -> MediaStarted:
    return MediaStarted(tenant_id=1, session_id=session_id, epoch=1, worker_id="w", at_ms=0)


def test_newest_evidence_of_a_room_replaces_what_waits() -> None:
    box = Outbox()
    box.put(evidence(1))
    box.put(started())
    box.put(evidence(2))
    box.put(evidence(1, session_id=2))
    assert box.take() == [started(), evidence(2), evidence(1, session_id=2)]


def test_what_is_put_while_a_batch_is_on_its_way_is_not_lost() -> None:
    box = Outbox()
    box.put(evidence(1))
    batch = box.take()
    box.put(evidence(2))
    box.settle(batch)
    assert box.take() == [evidence(2)]
    box.settle(box.take())
    assert len(box) == 0


def test_batches_are_bounded_and_in_order() -> None:
    box = Outbox()
    events = [started(n) for n in range(BATCH_MAX + 5)]
    for event in events:
        box.put(event)
    assert box.take() == events[:BATCH_MAX]
    box.settle(box.take())
    assert box.take() == events[BATCH_MAX:]


def test_oldest_events_give_way_and_evidence_stays() -> None:
    box = Outbox()
    box.put(evidence(1))
    for n in range(EVENTS_MAX + 10):
        box.put(started(n))
    assert box.dropped == 10
    assert len(box) == EVENTS_MAX + 1
    assert box.take()[0] == evidence(1)


def test_evidence_of_too_many_rooms_is_bounded() -> None:
    box = Outbox()
    for n in range(ROOMS_MAX + 3):
        box.put(evidence(1, session_id=n))
    assert len(box) == ROOMS_MAX
    assert box.take()[0] == evidence(1, session_id=3)


def test_only_what_goes_on_as_before_can_wait() -> None:
    quality = QualityMeasured(tenant_id=1, session_id=1, epoch=1, worker_id="w", at_ms=0, seconds=())
    assert can_wait(evidence(1))
    assert can_wait(quality)
    assert not can_wait(started())
    assert not can_wait(msgspec.structs.replace(evidence(1), final=True))
    assert not can_wait(msgspec.structs.replace(evidence(1), at_once=True))
