"""The meter on a real database: what runs is charged once, exactly, and no further than the money goes."""

from __future__ import annotations

import asyncio
import datetime
import random
from typing import Any

import pytest

from billing import meter_store
from billing.money import Tariff, affordable_ms, cost
from billing.service import Billing
from billing.terms import LedgerUnavailable, Opened, Rate, SessionRef, TickInput
from config.clock import VirtualClock
from config.ids import SessionId, UserId
from config.settings import Settings
from relay.messages import MediaInterrupted, RoomClosed
from tests.billing.conftest import RATE, TENANT, Town, books
from tests.billing.worlds import Control, evidence

TARIFF = Tariff(199, 7_000)


@pytest.fixture
async def control(billing: Billing, clock: VirtualClock) -> Control:
    return Control(billing, clock)


async def _start(town: Town, control: Control, client: UserId, rate: Rate = RATE) -> SessionRef:
    ref = town.ref(client, await town.provider(rate), rate)
    opened = await town.billing.open_session(ref)
    assert isinstance(opened, Opened)
    control.room(ref, opened.granted_live_ms)
    return ref


async def test_cost_is_shown_every_tick_and_posted_at_most_once_a_minute(
    town: Town, control: Control, owner: Any
) -> None:
    client = await town.client(5_000)
    ref = await _start(town, control, client)
    await control.run(300)
    shown = control.outcomes[ref.session_id]
    assert [(o.live_ms, o.cost_minor) for o in shown] == [(t, cost(TARIFF, t)) for t in range(5_000, 300_001, 5_000)]
    assert all(o.balance_minor == 5_000 - o.cost_minor for o in shown)
    assert all(o.provider_minor == o.cost_minor * 7 // 10 for o in shown)
    assert all(o.running and not o.final_unit and not o.exhausted and not o.warnings for o in shown)
    assert shown[-1].remaining_ms == affordable_ms(TARIFF, 5_000) - 300_000
    postings = await owner.fetch("select amount_minor, through_ms from session_charge order by slot")
    assert 4 <= len(postings) <= 7
    assert control.rooms[ref.session_id].live_ms == 300_000, "the grant was always extended in time"
    await books(owner)
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 300_400)
    assert receipt.charged_minor == cost(TARIFF, 300_400)
    await books(owner)


async def test_a_call_ends_exactly_when_the_money_does(town: Town, control: Control, owner: Any) -> None:
    client = await town.client(500)
    ref = await _start(town, control, client)
    paid_ms = affordable_ms(TARIFF, 500)
    assert paid_ms == 151_055
    await control.run(180)
    assert control.rooms[ref.session_id].live_ms == paid_ms
    last = control.last(ref)
    assert (last.exhausted, last.running, last.remaining_ms, last.balance_minor) == (True, False, 0, 0)
    warned = [(seconds, o.remaining_ms) for o in control.outcomes[ref.session_id] for seconds in o.warnings]
    assert [seconds for seconds, _ in warned] == [60, 30, 10]
    assert all(seconds * 1000 - 1_000 < left <= seconds * 1000 for seconds, left in warned)
    used_up = next(o for o in control.outcomes[ref.session_id] if o.exhausted)
    assert used_up.live_ms == paid_ms
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, paid_ms)
    assert (receipt.charged_minor, receipt.balance_after_minor, receipt.billed_ms) == (500, 0, paid_ms)
    await books(owner)


async def test_a_top_up_in_the_final_unit_extends_the_grant_at_the_next_tick(
    town: Town, control: Control, owner: Any
) -> None:
    client = await town.client(300)
    ref = await _start(town, control, client)
    await control.run(60)
    assert control.last(ref).final_unit
    assert [s for o in control.outcomes[ref.session_id] for s in o.warnings] == [60, ]  # fmt: skip
    await town.billing.top_up(TENANT, client, 300, "more", "")
    outcomes = await control.tick()
    assert [(o.session_id, o.final_unit) for o in outcomes] == [(ref.session_id, False)]
    await control.run(60)
    assert control.rooms[ref.session_id].live_ms == 120_000
    await control.run(120)
    assert control.rooms[ref.session_id].live_ms == affordable_ms(TARIFF, 600)
    assert [s for o in control.outcomes[ref.session_id] for s in o.warnings] == [60, 60, 30, 10]
    assert control.last(ref).exhausted
    await books(owner)


async def test_a_top_up_after_exhaustion_is_found_before_the_session_is_ended(town: Town, control: Control) -> None:
    client = await town.client(250)
    ref = await _start(town, control, client)
    await control.run(90)
    assert control.last(ref).exhausted
    await town.billing.top_up(TENANT, client, 100, "more", "")
    (outcome,) = await control.tick()
    assert (outcome.exhausted, outcome.granted_live_ms) == (False, affordable_ms(TARIFF, 350))


async def test_parallel_sessions_share_one_wallet_and_never_overdraw_it(
    town: Town, control: Control, owner: Any
) -> None:
    client = await town.client(1_000)
    refs = [await _start(town, control, client) for _ in range(3)]
    await control.run(240)
    lives = [control.rooms[ref.session_id].live_ms for ref in refs]
    assert all(control.last(ref).exhausted for ref in refs)
    assert max(lives) - min(lives) <= 5_000, "they share what is left, to within a tick"
    for ref, live_ms in zip(refs, lives, strict=True):
        await town.billing.settle(TENANT, ref.session_id, 1, live_ms)
    assert await town.balance(client) == 1_000 - sum(cost(TARIFF, live_ms) for live_ms in lives) <= 2
    await books(owner)


async def test_evidence_late_duplicated_and_out_of_order_changes_nothing(town: Town, control: Control) -> None:
    client = await town.client(5_000)
    ref = await _start(town, control, client)
    lives = [*range(1_000, 41_000, 1_000)] * 3
    random.Random(3).shuffle(lives)
    for live_ms in lives:
        control.meter.take(evidence(ref.session_id, live_ms))
    (outcome,) = await control.tick()
    assert (outcome.live_ms, outcome.cost_minor) == (40_000, cost(TARIFF, 40_000))


async def test_a_tick_repeated_late_or_out_of_order_charges_once(town: Town, owner: Any) -> None:
    client = await town.client(5_000)
    ref = await town.open(client, await town.provider())
    epoch = (await meter_store.lease_shards(town.database, "me", datetime.timedelta(seconds=60)))[ref.session_id % 64]

    async def tick(live_ms: int, slot: int) -> Any:
        inputs = [TickInput(ref.session_id, 1, 0, live_ms, epoch)]
        return (await meter_store.tick(town.database, inputs, slot, 90_000))[0]

    first = await tick(60_000, 100)
    again = await tick(60_000, 100)
    assert (first.charged_minor, again.charged_minor) == (199, 0)
    assert (first.posted_minor, first.granted_ms, first.final_unit) == (
        again.posted_minor, again.granted_ms, again.final_unit)  # fmt: skip
    assert (await tick(20_000, 101)).posted_minor == 199
    assert (await tick(80_000, 100)).posted_minor == cost(TARIFF, 80_000), "same slot, newer total"
    racing = await asyncio.gather(*(tick(live_ms, 102) for live_ms in (85_000, 90_000, 85_000, 90_000)))
    assert sum(result.charged_minor for result in racing) == cost(TARIFF, 90_000) - cost(TARIFF, 80_000)
    assert await town.balance(client) == 5_000 - cost(TARIFF, 90_000)
    await books(owner)


async def test_a_wall_clock_set_back_an_hour_changes_nothing(town: Town, control: Control, owner: Any) -> None:
    client = await town.client(5_000)
    ref = await _start(town, control, client)
    await control.run(70)
    control.clock.step_wall_ms(-3_600_000)
    await control.run(140)
    assert control.rooms[ref.session_id].live_ms == 210_000
    slots = [row["slot"] for row in await owner.fetch("select slot from session_charge order by through_ms")]
    assert slots == sorted(set(slots))
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 210_000)
    assert receipt.charged_minor == cost(TARIFF, 210_000)
    await books(owner)


async def test_a_lost_lease_fences_the_old_process(town: Town, control: Control, billing: Billing, owner: Any) -> None:
    client = await town.client(5_000)
    ref = await _start(town, control, client)
    await control.run(10)
    stale, balance = control.leases.held, await town.balance(client)
    await owner.execute("update shard_lease set expires_at = '-infinity'; delete from shard_owner")
    heir = Control(billing, control.clock, "control-2")
    heir.rooms = control.rooms
    await heir.tick()
    control.meter.take(evidence(ref.session_id, 85_000))
    assert await control.meter.tick(stale, control.clock.monotonic_ns()) == []
    assert await town.balance(client) == balance
    await heir.run(100)
    assert heir.last(ref).live_ms == 110_000
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 110_000)
    assert receipt.charged_minor == cost(TARIFF, 110_000)
    await books(owner)


async def test_a_new_leaseholder_goes_on_from_the_stored_mark(town: Town, control: Control, billing: Billing) -> None:
    client = await town.client(5_000)
    ref = await _start(town, control, client)
    await control.run(100)
    posted = await town.balance(client)
    await control.leases.release()
    heir = Control(billing, control.clock, "control-2")
    heir.meter.take(evidence(ref.session_id, 100_000, granted_ms=150_000))
    (outcome,) = await heir.tick()
    assert (outcome.live_ms, outcome.cost_minor) == (100_000, cost(TARIFF, 100_000))
    assert await town.balance(client) == 5_000 - cost(TARIFF, 100_000) < posted, "posted at once on the change"


async def test_live_time_of_earlier_room_epochs_is_kept_apart(town: Town, control: Control, owner: Any) -> None:
    client = await town.client(5_000)
    ref = await _start(town, control, client)
    await control.run(50)
    control.meter.take(evidence(ref.session_id, 51_000))
    control.meter.take(evidence(ref.session_id, 3_000, epoch=2, granted_ms=20_000))
    control.meter.take(evidence(ref.session_id, 99_000))
    assert control.meter.urgent == {ref.session_id}
    (outcome,) = await control.tick(urgent=True)
    assert (outcome.epoch, outcome.live_ms) == (2, 54_000)
    assert outcome.granted_live_ms == await owner.fetchval("select granted_ms from session_meter") - 51_000
    assert outcome.grant_changed
    mark = control.meter.mark(ref.session_id)
    assert mark is not None
    assert (mark.epoch, mark.live_ms) == (2, 3_000)
    late = TickInput(ref.session_id, 1, 0, 99_000, control.leases.held[ref.session_id % 64])
    (result,) = await meter_store.tick(town.database, [late], 1, 90_000)
    assert (result.live_ms, result.charged_minor) == (54_000, 0), "evidence of an epoch that is over adds nothing"
    receipt = await town.billing.settle(TENANT, ref.session_id, 2, 5_000)
    assert receipt.billed_ms == 56_000
    await books(owner)


async def test_media_runs_on_what_is_held_while_the_ledger_is_away(
    town: Town, control: Control, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await town.client(5_000)
    ref = await _start(town, control, client)
    await control.run(30)
    real, real_tick = meter_store.read_states, meter_store.tick

    async def away(*_: object) -> Any:
        raise LedgerUnavailable("gone")

    monkeypatch.setattr(meter_store, "read_states", away)
    monkeypatch.setattr(meter_store, "tick", away)
    await control.run(100)
    room = control.rooms[ref.session_id]
    assert room.live_ms == control.last(ref).live_ms == control.last(ref).granted_live_ms < 130_000
    assert not control.last(ref).exhausted, "only the ledger says that the money is gone"
    monkeypatch.setattr(meter_store, "read_states", real)
    monkeypatch.setattr(meter_store, "tick", real_tick)
    stopped_ms = room.live_ms
    await control.run(5)
    await control.run(20)
    assert room.live_ms == stopped_ms + 20_000
    await town.billing.settle(TENANT, ref.session_id, 1, room.live_ms)
    assert await town.balance(client) == 5_000 - cost(TARIFF, room.live_ms)
    await books(owner)


async def test_what_is_due_anyway_is_not_looked_up_and_the_tick_tells_of_changed_terms(
    town: Town, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await town.client(5_000)
    ref = await _start(town, control, client)
    await control.run(5)
    audio = Rate("audio", 100, "USD")
    await town.billing.set_rate(TENANT, ref.provider_id, "audio", 100, "USD", 7_000)
    assert isinstance(await town.billing.change_kind(TENANT, ref.session_id, 1, 5_000, audio), Opened)

    async def looked_up(*_: object) -> Any:
        raise AssertionError("looked up")

    monkeypatch.setattr(meter_store, "read_states", looked_up)
    control.meter.take(evidence(ref.session_id, 65_000, granted_ms=95_000))
    (outcome,) = await control.meter.tick(control.leases.held, town.clock.monotonic_ns())
    assert (outcome.kind, outcome.cost_minor, outcome.balance_minor) == ("audio", 116, 5_000 - 116)
    await town.billing.settle(TENANT, ref.session_id, 1, 65_000)
    control.meter.take(evidence(ref.session_id, 130_000, granted_ms=155_000))
    assert await control.meter.tick(control.leases.held, town.clock.monotonic_ns()) == [], "settled, and so forgotten"


async def test_an_interrupted_call_is_told_once_and_posted_within_a_minute(town: Town, control: Control) -> None:
    client = await town.client(5_000)
    ref = await _start(town, control, client)
    await control.run(20)
    control.rooms.clear()
    control.meter.take(
        MediaInterrupted(tenant_id=1, session_id=ref.session_id, epoch=1, worker_id="w1", at_ms=0, user_id=1)
    )
    told = len(control.outcomes[ref.session_id])
    for second in range(65):
        control.meter.take(
            evidence(
                ref.session_id,
                20_000,
                seq=20_001 + second,
                granted_ms=control.last(ref).granted_live_ms,
                running=False,
            )
        )
        await control.run(1)
        if second % 5 == 0:
            await control.tick()
    assert [o.running for o in control.outcomes[ref.session_id][told:]][:1] == [False]
    assert len(control.outcomes[ref.session_id]) <= told + 2, "once for the pause, once for the grant that came after"
    assert await town.balance(client) == 5_000 - cost(TARIFF, 20_000)


async def test_a_settled_session_is_metered_no_more(town: Town, control: Control) -> None:
    client = await town.client(5_000)
    ref = await _start(town, control, client)
    await control.run(20)
    control.rooms.clear()
    control.meter.take(
        RoomClosed(
            tenant_id=1, session_id=ref.session_id, epoch=1, worker_id="w1", at_ms=0, reason="ended", live_ms=20_400
        )
    )
    mark = control.meter.mark(ref.session_id)
    assert mark is not None
    await town.billing.settle(TENANT, ref.session_id, mark.epoch, mark.live_ms)
    assert await control.tick() == []
    control.meter.take(evidence(ref.session_id, 30_000))
    assert await control.tick() == []
    assert await town.balance(client) == 5_000 - cost(TARIFF, 20_400)


async def test_evidence_beyond_the_grant_is_counted_and_not_charged(town: Town, control: Control, owner: Any) -> None:
    client = await town.client(250)
    ref = await town.open(client, await town.provider())
    control.meter.take(evidence(ref.session_id, 200_000))
    (outcome,) = await control.tick()
    assert (outcome.cost_minor, outcome.balance_minor, outcome.exhausted) == (250, 0, True)
    await books(owner)


async def test_one_broken_row_does_not_stop_the_chunk(town: Town, control: Control, owner: Any) -> None:
    good, bad = await town.client(5_000), await town.client(5_000)
    refs = [await _start(town, control, good), await _start(town, control, bad)]
    await owner.execute(
        f"alter table session_meter add constraint broken check (session_id <> {refs[1].session_id} or live_ms < 50000)"
    )
    await control.run(80)
    assert await town.balance(good) < 5_000 - cost(TARIFF, 50_000) < await town.balance(bad)
    await books(owner)


async def test_many_sessions_are_metered_in_chunks_and_lanes(
    town: Town, control: Control, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.meter.CHUNK_MAX", 4)
    clients = [await town.client(5_000) for _ in range(5)]
    refs = [await _start(town, control, clients[n % 5]) for n in range(20)]
    await control.run(130)
    assert {control.rooms[ref.session_id].live_ms for ref in refs} == {130_000}
    platforms = await owner.fetch(
        "select posted_minor from account where kind = 'platform_revenue' and posted_minor > 0"
    )
    assert len(platforms) == 2, "each lane has its own"
    await books(owner)


async def test_a_tick_waits_for_another_of_the_same_wallet_and_sees_what_it_left(
    town: Town, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def complain(event: str, **fields: Any) -> None:
        pytest.fail(f"{event}: {fields}")

    monkeypatch.setattr(meter_store.log, "warning", complain)
    client = await town.client(700)
    refs = [await town.open(client, await town.provider()) for _ in range(2)]
    held = await meter_store.lease_shards(town.database, "me", datetime.timedelta(seconds=60))
    inputs = [TickInput(ref.session_id, 1, 0, 60_000, held[ref.session_id % 64]) for ref in refs]
    async with town.database.transaction("*") as connection:
        (first,) = await meter_store._tick(connection, inputs[:1], False, 1, 90_000)
        second = asyncio.create_task(meter_store.tick(town.database, inputs[1:], 1, 90_000))
        await asyncio.sleep(0.2)
        assert not second.done()
    (after,) = await second
    assert (first.final_unit, first.available_minor) == (True, 0)
    assert (after.final_unit, after.available_minor, after.granted_ms) == (True, 0, affordable_ms(TARIFF, 298))
    await books(owner)


async def test_ticks_and_top_ups_and_settlements_side_by_side_do_not_deadlock(
    town: Town, settings: Settings, owner: Any
) -> None:
    clients = [await town.client(100_000) for _ in range(4)]
    providers = [await town.provider() for _ in range(4)]
    pairs = [(client, provider) for client in clients for provider in providers]
    refs = [await town.open(*pair) for pair in pairs]
    held = await meter_store.lease_shards(town.database, "me", datetime.timedelta(seconds=60))
    chosen = random.Random(11)

    async def ticks(live_ms: int) -> None:
        some = chosen.sample(refs, len(refs))
        inputs = [TickInput(r.session_id, 1, 0, live_ms, held[r.session_id % 64]) for r in some]
        await meter_store.tick(town.database, inputs, live_ms, settings.grant_ms)

    async def top_ups(number: int) -> None:
        await town.billing.top_up(TENANT, chosen.choice(clients), 1, f"t{number}", "")

    for round_ in range(10):
        await asyncio.gather(
            *(ticks((round_ * 4 + n) * 1_000) for n in range(4)), *(top_ups(round_ * 9 + n) for n in range(9))
        )
    await asyncio.gather(*(town.billing.settle(TENANT, r.session_id, 1, 50_000) for r in refs), ticks(60_000))
    assert await owner.fetchval("select count(*) from session_meter where state = 'settled'") == len(refs)
    assert sum([await town.balance(client) for client in clients]) == 400_000 + 90 - sum(
        [(await town.billing.settle(TENANT, r.session_id, 1, 0)).charged_minor for r in refs]
    )
    await books(owner)


async def test_events_of_unknown_sessions_are_dropped(control: Control) -> None:
    control.meter.take(evidence(SessionId(424_242), 5_000))
    assert await control.tick() == []
    assert control.meter.mark(SessionId(424_242)) is None
