"""What others shipped, and had to give money back for: one test each, by the name of the failure."""

from __future__ import annotations

import ast
import asyncio
import datetime
import random
from pathlib import Path
from typing import Any

import pytest

import billing as billing_package
from billing import meter_store, reconcile
from billing.money import Tariff, affordable_ms
from billing.service import Billing
from billing.terms import BillingRefusal, Mark, Opened, Rate, TickInput, Wallet
from config.clock import VirtualClock
from tests.billing.conftest import RATE, TENANT, Town, books
from tests.billing.crashing import CrashingDatabase, despite_crashes
from tests.billing.worlds import Control

DAY_MS = 86_400_000


@pytest.fixture
async def control(billing: Billing, clock: VirtualClock) -> Control:
    return Control(billing, clock)


async def right(town: Town, owner: Any) -> None:
    await books(owner)
    assert [finding for finding in await reconcile.examine(town.database) if finding.disagreeing] == []


async def test_double_charge_during_and_after_the_call(town: Town, control: Control, owner: Any) -> None:
    """Posted while it ran, and the whole of it again at the end."""
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    control.room(ref, 90_000)
    await control.run(125)
    assert await owner.fetchval("select count(*) from session_charge") >= 1, "posted during the call"
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 125_000)
    await control.tick()
    assert receipt.charged_minor == 199 * 125_000 // 60_000
    assert await town.balance(client) == 5_000 - receipt.charged_minor
    await town.evidence(ref, 125_000)
    await right(town, owner)


async def test_talking_past_the_balance(town: Town, control: Control, owner: Any) -> None:
    """The money was gone, and the call went on until somebody looked."""
    client, provider = await town.client(300), await town.provider()
    ref = await town.open(client, provider)
    room = control.room(ref, 90_000)
    await control.run(300)
    assert room.live_ms == affordable_ms(Tariff(199, 7_000), 300), "the worker stopped by itself, to the millisecond"
    assert control.last(ref).exhausted
    assert await town.balance(client) == 0
    await right(town, owner)


async def test_two_hang_ups_debiting_twice(town: Town, owner: Any) -> None:
    """Both hung up at once, and each hang-up was charged."""
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    receipts = await asyncio.gather(
        *(town.billing.settle(TENANT, ref.session_id, 1, live_ms) for live_ms in (60_000, 60_400, 60_000, 59_000))
    )
    assert len({receipt.charged_minor for receipt in receipts}) == 1
    assert await town.balance(client) == 5_000 - receipts[0].charged_minor
    assert await owner.fetchval("select count(*) from session_charge") == 1
    await books(owner)


async def test_check_then_debit_races(town: Town, owner: Any) -> None:
    """The balance was looked at, found enough, and spent by somebody else before the debit."""
    client, provider = await town.client(300), await town.provider()
    refs = [town.ref(client, provider) for _ in range(8)]
    answers = await asyncio.gather(*(town.billing.open_session(ref) for ref in refs))
    opened = [answer for answer in answers if isinstance(answer, Opened)]
    assert len(opened) == 1, "300 pays for one start of 60 seconds, not for two"
    assert {answer for answer in answers if answer not in opened} == {BillingRefusal.INSUFFICIENT_FUNDS}
    await books(owner)


async def test_a_bill_mark_moved_before_the_debit_was_stored(town: Town, owner: Any) -> None:
    """The mark said "billed up to here", the process died, and nobody ever paid for it: at every call of the tick."""
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    crashing = CrashingDatabase(town.database)
    lease = (await meter_store.lease_shards(town.database, "me", datetime.timedelta(minutes=1)))[ref.session_id % 64]
    for slot in range(1, 4):

        async def tick(slot: int = slot) -> None:
            try:
                await meter_store.tick(crashing, [TickInput(ref.session_id, 1, 0, slot * 30_000, lease)], slot, 90_000)
            finally:
                meter = await owner.fetchrow("select * from session_meter")
                posted = await owner.fetchval("select coalesce(sum(amount_minor), 0) from session_charge")
                assert posted == meter["posted_minor"] == 199 * meter["billed_through_ms"] // 60_000

        await despite_crashes(crashing, tick)
        assert await owner.fetchval("select billed_through_ms from session_meter") == slot * 30_000
    await books(owner)


def test_money_in_floats() -> None:
    """Ten cents three times made 30.000000000000004. No module of billing divides into floats, or names one."""
    for path in Path(str(billing_package.__file__)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            money = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "round"
            assert not money, f"{path.name}:{getattr(node, 'lineno', 0)} rounds"
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                is_float = isinstance(node.annotation, ast.Name) and node.annotation.id == "float"
                assert not (is_float and node.target.id.endswith(("_minor", "_ms"))), f"{path.name}:{node.lineno}"


async def test_money_in_floats_in_the_database(owner: Any) -> None:
    columns = await owner.fetch(
        "select table_name, column_name, data_type from information_schema.columns where table_schema = 'public'"
        " and (column_name like '%minor%' or column_name like '%bps')"
    )
    wrong = [tuple(row) for row in columns if row["data_type"] not in ("bigint", "integer")]
    assert len(columns) > 20
    assert wrong == []


async def test_a_reservation_lost_in_a_crash(town: Town, owner: Any) -> None:
    """Held, the process died, and the money was free again while the call ran; or held for ever for no call at all."""
    client, provider = await town.client(5_000), await town.provider()
    crashing = CrashingDatabase(town.database)
    mine = Billing(crashing, town.clock, town.billing.settings)
    ref = town.ref(client, provider)

    async def open_session() -> Any:
        try:
            return await mine.open_session(ref)
        finally:
            held = (await town.billing.wallet(TENANT, client, "client")).held_minor
            meters = await owner.fetchval("select count(*) from session_meter")
            assert (held, meters) in ((0, 0), (298, 1)), "both or neither"

    assert isinstance(await despite_crashes(crashing, open_session), Opened)
    receipt = await despite_crashes(crashing, lambda: mine.settle(TENANT, ref.session_id, 0, 0))
    assert receipt.charged_minor == 0
    assert (await town.billing.wallet(TENANT, client, "client")).held_minor == 0
    await books(owner)


async def test_a_webhook_replayed(town: Town, owner: Any) -> None:
    """One payment, told five times, in parallel, credited five times. The event's id is the key."""
    client = await town.client(0)
    told = [town.billing.top_up(TENANT, client, 2_500, "evt_1", "Card payment") for _ in range(5)]
    assert {answer.balance_minor for answer in await asyncio.gather(*told) if isinstance(answer, Wallet)} == {2_500}
    again = await town.billing.top_up(TENANT, client, 9_900, "evt_1", "Card payment")
    assert again is BillingRefusal.KEY_REUSED
    assert await town.balance(client) == 2_500
    await books(owner)


async def test_a_payout_retried_a_day_later(town: Town, owner: Any) -> None:
    """The processor had forgotten the key after 24 hours, and paid again. Ours is in the ledger, and never forgotten:
    no movement of any kind happens twice, however late its repetition."""
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    await town.billing.settle(TENANT, ref.session_id, 1, 60_000)

    async def everything() -> list[Any]:
        return [
            await town.billing.top_up(TENANT, client, 100, "top-up", ""),
            await town.billing.give_promo(TENANT, client, 100, "promo", "Welcome"),
            await town.billing.reverse(TENANT, ref.session_public_id, 50, "back", provider, "A complaint"),
        ]

    await everything()
    before = await owner.fetch("select * from account order by id")
    for days in (1, 30, 3_650):
        town.clock.advance_ms(days * DAY_MS)
        await everything()
        assert await owner.fetch("select * from account order by id") == before
    await books(owner)


async def test_a_clock_stepped_back_an_hour_during_a_call(town: Town, control: Control, owner: Any) -> None:
    """An hour was charged, or an hour was free, or a key of that hour came up twice."""
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    room = control.room(ref, 90_000)
    chance = random.Random(7)
    for _ in range(12):
        town.clock.step_wall_ms(chance.choice((-3_600_000, 3_600_000, -1_000, 0)))
        await control.run(20)
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, room.live_ms)
    assert (receipt.billed_ms, receipt.charged_minor) == (240_000, 199 * 4)
    await town.evidence(ref, 240_000)
    await right(town, owner)


async def test_a_worker_that_died_is_billed_for_its_last_evidence_and_no_longer(town: Town, owner: Any) -> None:
    """The clock went on at the server, until somebody noticed that there was no call any more."""
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    await town.evidence(ref, 31_000)
    town.clock.advance_ms(3_600_000)
    mark = await town.billing.latest_evidence(TENANT, ref.session_id)
    assert mark == Mark(1, 31_000)
    receipt = await town.billing.settle(TENANT, ref.session_id, mark.epoch, mark.live_ms)
    assert (receipt.billed_ms, receipt.charged_minor) == (31_000, RATE.minor_per_minute * 31_000 // 60_000)
    await right(town, owner)


async def test_a_price_raised_during_the_call(town: Town, owner: Any) -> None:
    """Shown 1.99, charged 9.99: the provider had changed it in the meantime."""
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    await town.billing.set_rate(TENANT, provider, "video", 999, "USD")
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 60_000)
    assert (receipt.charged_minor, receipt.rate) == (199, Rate("video", 199, "USD"))
    await books(owner)
