"""Keeping the books: the nightly proof, checkpoints, archives, alerts, and looking at the ledger."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from billing import alerts, books_store, inspect, metrics, packages, reconcile, recovery
from billing.books_store import ARCHIVE_AFTER_WEEKS, SLOTS_A_WEEK, BooksError
from billing.charges import ChargeOrder
from billing.meter_store import SLOT_MS
from billing.nightly import Nightly, newest
from billing.terms import SessionRef
from config.clock import SystemClock, VirtualClock
from config.ids import PublicId, UserId
from config.settings import Settings
from tests.billing.conftest import TENANT, Town, books

SECRET = b"k" * 32
UNBALANCE = "update account set posted_minor = posted_minor + 1 where kind = 'platform_revenue' and lane = 0"


async def public_id(owner: Any, user_id: UserId) -> PublicId:
    found: PublicId = await owner.fetchval("select public_id from app_user where id = $1", user_id)
    return found


async def a_day(town: Town) -> SessionRef:
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    await town.billing.settle(TENANT, ref.session_id, 1, 75_500)
    await town.evidence(ref, 75_500)
    return ref


async def test_the_leaseholder_of_shard_0_proves_the_books_once_a_night(
    town: Town, clock: VirtualClock, owner: Any
) -> None:
    await a_day(town)
    nightly = Nightly(town.database, clock)
    await nightly.run({5: 1})
    assert await newest(town.database) is None, "another process has shard 0"
    for _ in range(3):
        await nightly.run({0: 1, 5: 1})
    # The clock of this test is ahead of the database's, which dates the proof: a day later it is due again.
    first = await newest(town.database)
    assert first is not None
    assert (first.disagreements, len(first.findings)) == (0, len(reconcile.CHECKS))
    assert metrics.RECONCILE_OK._value.get() == 1
    await owner.execute(UNBALANCE)
    clock.advance_ms(86_400_000)
    await nightly.run({0: 1})
    assert (metrics.RECONCILE_OK._value.get(), metrics.DISAGREEMENTS._value.get()) == (0, 2)


async def test_the_nightly_proof_is_not_repeated_the_same_night(town: Town, owner: Any) -> None:
    nightly = Nightly(town.database, SystemClock())
    for _ in range(3):
        await nightly.run({0: 1})
    assert await owner.fetchval("select count(*) from reconcile_run") == 1


async def test_a_chore_that_fails_stops_no_other_and_partitions_come_first(
    town: Town, clock: VirtualClock, owner: Any, monkeypatch: pytest.MonkeyPatch, loop_faults: list[Any]
) -> None:
    async def fails(*_: object) -> int:
        raise ValueError("this cannot be")

    monkeypatch.setattr(alerts, "look", fails)
    monkeypatch.setattr(recovery, "of_everybody", fails)
    client = await town.client(5_000)
    offer = await packages.add_offer(town.database, TENANT, packages.PackageOffer("Hour", 3_600_000, 1_500, "USD"))
    await town.billing.buy_package(TENANT, client, offer, "buy-1")
    await owner.execute("update client_package set expires_at = now() - interval '1 day'")
    await Nightly(town.database, clock).run({0: 1})
    assert await owner.fetchval("select closed_at is not null from client_package")
    slot = clock.wall_ms() // SLOT_MS
    for week in (slot // SLOTS_A_WEEK, slot // SLOTS_A_WEEK + 1):
        assert await owner.fetchval("select to_regclass($1) is not null", f"session_charge_{week}")


async def test_a_checkpoint_is_signed_and_a_forged_one_is_found(town: Town, owner: Any) -> None:
    await a_day(town)
    checkpoint = await books_store.take_checkpoint(owner, SECRET)
    assert checkpoint.accounts == await owner.fetchval("select count(*) from account")
    assert await books_store.verify(owner, SECRET) == []
    assert "signature" in (await books_store.verify(owner, b"x" * 32))[0]
    with pytest.raises(asyncpg.RestrictViolationError):
        await owner.execute("update checkpoint_balance set posted_minor = 0")
    await owner.execute("alter table checkpoint_balance disable trigger user")
    await owner.execute("update checkpoint_balance set posted_minor = posted_minor + 1 where posted_minor > 0")
    assert "not those that were signed" in (await books_store.verify(owner, SECRET))[0]


async def test_books_that_do_not_agree_are_not_signed(town: Town, owner: Any) -> None:
    await a_day(town)
    await owner.execute(UNBALANCE)
    with pytest.raises(BooksError, match="1 balances"):
        await books_store.take_checkpoint(owner, SECRET)


async def test_old_postings_are_archived_and_every_balance_stays_proved(
    town: Town, clock: VirtualClock, owner: Any, tmp_path: Path
) -> None:
    slot = clock.wall_ms() // SLOT_MS
    await owner.execute("select ensure_charge_partition($1)", slot)
    refs = [await a_day(town) for _ in range(3)]
    await town.billing.give_promo(TENANT, refs[0].client_id, 100, "p", "")
    name = f"session_charge_{slot // SLOTS_A_WEEK}"
    assert await owner.fetchval(f"select count(*) from {name}") == 3
    with pytest.raises(asyncpg.RestrictViolationError):
        await owner.execute(f"delete from {name}")
    before = {one.name: one.examined for one in await reconcile.examine(town.database)}
    early = await books_store.archive(owner, SECRET, tmp_path, slot + ARCHIVE_AFTER_WEEKS * SLOTS_A_WEEK)
    assert [one for one in early if one.rows] == [], "not old enough"
    late = slot + (ARCHIVE_AFTER_WEEKS + 1) * SLOTS_A_WEEK
    (done,) = [one for one in await books_store.archive(owner, SECRET, tmp_path, late) if one.rows]
    assert (done.rows, done.file.exists(), await owner.fetchval("select count(*) from session_charge")) == (3, True, 0)
    findings = await reconcile.examine(town.database)
    assert [finding for finding in findings if finding.disagreeing] == []
    assert before["balances"] == next(one.examined for one in findings if one.name == "balances")
    assert await books_store.verify(owner, SECRET) == []
    looked = await inspect.look(town.database, "session", refs[0].session_public_id)
    assert looked is not None
    assert looked["archived"][0]["amount_minor"] == 250
    done.file.write_bytes(b"something else")
    assert "not the file" in (await books_store.verify(owner, SECRET))[0]
    await owner.execute("select ensure_charge_partition($1)", slot)
    assert await owner.fetchval("select to_regclass($1)", name) is None, "an archived week is not begun again"


async def test_a_week_with_an_open_session_is_not_archived(
    town: Town, clock: VirtualClock, owner: Any, tmp_path: Path
) -> None:
    await owner.execute("select ensure_charge_partition($1)", clock.wall_ms() // SLOT_MS)
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    await owner.fetch(
        "select * from meter_tick(array[$1::bigint], array[1], array[0::bigint], array[60000::bigint],"
        " array[null::bigint], false, $2, 90000)",
        *(ref.session_id, clock.wall_ms() // SLOT_MS),
    )
    late = clock.wall_ms() // SLOT_MS + 20 * SLOTS_A_WEEK
    with pytest.raises(asyncpg.ObjectInUseError, match="still open"):
        await books_store.archive(owner, SECRET, tmp_path, late)
    await books(owner)


async def test_conspicuous_accounts_are_told_once_a_day(
    town: Town, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, quiet = await town.client(5_000), await town.client(5_000)
    for number in range(3):
        await town.billing.top_up(TENANT, client, 100, f"more-{number}", "")
    rules = [dataclasses.replace(rule, over=3 if rule.name == "many_topups" else rule.over) for rule in alerts.RULES]
    monkeypatch.setattr(alerts, "RULES", rules)
    assert [await alerts.look(town.database) for _ in range(2)] == [1, 0]
    (alert,) = await alerts.read(town.database, TENANT)
    assert (alert.rule, alert.user, alert.figure) == ("many_topups", await public_id(owner, client), 4)
    assert quiet != client


async def test_the_ledger_can_be_looked_at(
    town: Town, owner: Any, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = await a_day(town)
    client = await public_id(owner, ref.client_id)
    provider = await public_id(owner, ref.provider_id)
    order = ChargeOrder(TENANT, ref.client_id, "tip", 100, "USD", provider, ref.session_public_id, "Thanks", "tip-0001")
    tip = await town.billing.charge(order)
    assert not isinstance(tip, str)
    assert await inspect.main(settings, "account", client, as_json=True) == 0
    account = json.loads(capsys.readouterr().out)
    assert account["history"] == [
        {"account_id": account["accounts"][0]["id"], "posted_minor": 4_650, "history_minor": 4_650, "agrees": True,
         "rows": 4}
    ]  # fmt: skip
    assert await inspect.main(settings, "session", ref.session_public_id, as_json=True) == 0
    session = json.loads(capsys.readouterr().out)
    assert session["meter"]["posted_minor"] == sum(posting["amount_minor"] for posting in session["postings"]) == 250
    assert (session["charges"][0]["public_id"], session["evidence"][0]["live_ms"]) == (tip.public_id, 75_500)
    assert await inspect.main(settings, "transfer", tip.public_id, as_json=False) == 0
    shown = capsys.readouterr().out
    assert "total_minor: 100" in shown
    assert "credit_kind=provider_earnings" in shown
    assert await inspect.main(settings, "session", "ses_none", as_json=False) == 1
    for job in ("checkpoint", "verify", "archive"):
        assert await inspect.main(settings, job, "", as_json=True) == 0, job
    assert await inspect.main(settings.model_copy(update={"database_url": None}), "account", "1", as_json=False) == 2
