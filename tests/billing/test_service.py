"""A session's money, from the first hold to the receipt, on a real database."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from typing import Any

import asyncpg
import pytest

from billing.money import Tariff, affordable_ms
from billing.service import Billing
from billing.store import ledger
from billing.terms import (
    BillingError,
    BillingRefusal,
    EntryCursor,
    LedgerUnavailable,
    Mark,
    Opened,
    Quote,
    Rate,
    UnknownMeter,
    Wallet,
)
from config.clock import VirtualClock
from config.database import Database
from config.ids import SessionId, TenantId, UserId
from config.settings import Settings
from tests.billing.conftest import RATE, TENANT, Town, books
from tests.conftest import DatabaseUrls


async def test_a_call_is_held_charged_split_and_receipted(town: Town, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider()
    assert await town.billing.quote(TENANT, client, provider, "video") == Quote(RATE, 1_507_839)
    ref = town.ref(client, provider)
    assert await town.billing.open_session(ref) == Opened(90_000, False)
    assert await town.billing.wallet(TENANT, client, "client") == Wallet(5_000, 4_702, 298, "USD")
    assert await town.billing.receipt(TENANT, ref.session_id) is None
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 75_500)
    assert (receipt.billed_ms, receipt.charged_minor) == (75_500, 199 * 75_500 // 60_000) == (75_500, 250)
    assert (receipt.provider_minor, receipt.platform_minor, receipt.balance_after_minor) == (175, 75, 4_750)
    assert receipt.lines[0].label == "Video call, 1:15 min"
    assert await town.billing.wallet(TENANT, client, "client") == Wallet(4_750, 4_750, 0, "USD")
    assert await town.billing.wallet(TENANT, provider, "provider") == Wallet(175, 175, 0, "USD")
    assert await town.billing.receipt(TENANT, ref.session_id) == receipt
    await books(owner)


async def test_two_hang_ups_debit_once(town: Town, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    receipts = await asyncio.gather(
        *(town.billing.settle(TENANT, ref.session_id, 1, live_ms) for live_ms in (60_000, 60_000, 61_000, 30_000))
    )
    assert len(set(receipts)) == 1
    assert await town.balance(client) == 5_000 - receipts[0].charged_minor
    assert await town.billing.settle(TENANT, ref.session_id, 1, 85_000) == receipts[0]
    await books(owner)


async def test_evidence_beyond_the_grant_is_never_charged(town: Town) -> None:
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 10**12)
    assert (receipt.billed_ms, receipt.charged_minor) == (90_000, 298)


async def test_opening_again_holds_nothing_more(town: Town, owner: Any) -> None:
    client, provider = await town.client(200), await town.provider()
    ref = town.ref(client, provider)
    first = await asyncio.gather(*(town.billing.open_session(ref) for _ in range(5)))
    assert first == [Opened(affordable_ms(Tariff(199, 0), 200), True)] * 5
    assert (await town.billing.wallet(TENANT, client, "client")).held_minor == 200
    await town.billing.settle(TENANT, ref.session_id, 1, 1_000)
    assert await town.billing.open_session(ref) is BillingRefusal.ALREADY_SETTLED
    await books(owner)


async def test_a_session_that_cannot_be_paid_leaves_no_trace(town: Town, owner: Any) -> None:
    client, provider = await town.client(198), await town.provider()
    assert await town.billing.quote(TENANT, client, provider, "video") is BillingRefusal.INSUFFICIENT_FUNDS
    assert await town.billing.open_session(town.ref(client, provider)) is BillingRefusal.INSUFFICIENT_FUNDS
    assert await owner.fetchval("select count(*) from session_meter") == 0
    assert await town.billing.wallet(TENANT, client, "client") == Wallet(198, 198, 0, "USD")


async def test_a_session_opened_by_mistake_costs_nothing(town: Town, owner: Any) -> None:
    client, provider = await town.client(1_000), await town.provider()
    ref = await town.open(client, provider)
    receipt = await town.billing.settle(TENANT, ref.session_id, 0, 0)
    assert (receipt.billed_ms, receipt.charged_minor, receipt.balance_after_minor) == (0, 0, 1_000)
    await books(owner)


async def test_check_then_debit_races_cannot_spend_the_same_money(town: Town, owner: Any) -> None:
    client = await town.client(500)
    providers = [await town.provider() for _ in range(6)]
    answers = await asyncio.gather(*(town.billing.open_session(town.ref(client, p)) for p in providers))
    opened = {answer for answer in answers if isinstance(answer, Opened)}
    assert opened == {Opened(90_000, False), Opened(affordable_ms(Tariff(199, 0), 202), True)}
    assert all(a is BillingRefusal.INSUFFICIENT_FUNDS for a in answers if not isinstance(a, Opened))
    assert (await town.billing.wallet(TENANT, client, "client")).available_minor == 0
    await books(owner)


async def test_refusals_say_what_is_missing(town: Town) -> None:
    client, provider, euro = await town.client(5_000), await town.provider(), await town.client(5_000, "EUR")
    quote, open_session = town.billing.quote, town.billing.open_session
    assert await quote(TENANT, client, provider, "audio") is BillingRefusal.NO_RATE
    assert await quote(TENANT, UserId(999), provider, "video") is BillingRefusal.NO_WALLET
    assert await quote(TENANT, euro, provider, "video") is BillingRefusal.CURRENCY_MISMATCH
    assert await open_session(town.ref(euro, provider)) is BillingRefusal.CURRENCY_MISMATCH
    assert await open_session(town.ref(UserId(999), provider)) is BillingRefusal.NO_WALLET
    assert await open_session(town.ref(client, provider, Rate("video", 5, "USD"))) is BillingRefusal.NO_RATE
    assert all(refusal.message for refusal in BillingRefusal)


async def test_the_rate_shown_at_request_holds_after_a_change(town: Town) -> None:
    client, provider = await town.client(5_000), await town.provider()
    ref = town.ref(client, provider)
    await town.billing.set_rate(TENANT, provider, "video", 499, "USD", 9_000)
    assert (await town.billing.rates(TENANT, [provider]))[provider] == [Rate("video", 499, "USD")]
    assert isinstance(await town.billing.open_session(ref), Opened)
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 60_000)
    assert (receipt.charged_minor, receipt.provider_minor) == (199, 139)


async def test_setting_the_same_rate_adds_no_history(town: Town, owner: Any) -> None:
    provider = await town.provider()
    for _ in range(3):
        await town.billing.set_rate(TENANT, provider, "video", 199, "USD")
    assert await owner.fetchval("select count(*) from tariff") == 1
    await town.billing.set_rate(TENANT, provider, "video", 299, "USD")
    await town.billing.set_rate(TENANT, provider, "video", 199, "USD")
    assert await owner.fetchval("select count(*) from tariff") == 3


async def test_a_top_up_counts_once_per_key(town: Town, owner: Any) -> None:
    client, other = await town.client(0), await town.client(0)
    wallets = await asyncio.gather(*(town.billing.top_up(TENANT, client, 700, "key-1", "card") for _ in range(6)))
    assert wallets == [Wallet(700, 700, 0, "USD")] * 6
    assert await town.billing.top_up(TENANT, client, 800, "key-1", "card") is BillingRefusal.KEY_REUSED
    assert await town.billing.top_up(TENANT, other, 800, "key-1", "card") == Wallet(800, 800, 0, "USD")
    for senseless in (0, -5, 10**13):
        assert await town.billing.top_up(TENANT, client, senseless, "key-2", "") is BillingRefusal.BAD_AMOUNT
    assert await town.billing.top_up(TENANT, UserId(999), 5, "key-3", "") is BillingRefusal.NO_WALLET
    await books(owner)


async def test_wallets_of_all_roles(town: Town) -> None:
    compliance = await town.user("compliance")
    with pytest.raises(BillingError, match="no wallet"):
        await town.billing.wallet(TENANT, compliance, "compliance")
    assert await town.billing.wallet(TENANT, compliance, "client") == Wallet(0, 0, 0, "USD")
    with pytest.raises(BillingError, match="no user"):
        await town.billing.wallet(TENANT, UserId(999), "client")


async def test_other_tenants_see_nothing(town: Town) -> None:
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    stranger = TenantId(2)
    assert await town.billing.receipt(stranger, ref.session_id) is None
    assert await town.billing.rates(stranger, [provider]) == {provider: []}
    assert await town.billing.quote(stranger, client, provider, "video") is BillingRefusal.NO_RATE
    assert await town.billing.top_up(stranger, client, 5, "key", "") is BillingRefusal.NO_WALLET
    with pytest.raises(UnknownMeter):
        await town.billing.settle(stranger, ref.session_id, 1, 5)
    assert await town.billing.receipt(TENANT, ref.session_id) is None


async def test_settling_what_was_never_opened_is_a_fault(town: Town) -> None:
    with pytest.raises(UnknownMeter):
        await town.billing.settle(TENANT, SessionId(77), 1, 1_000)


async def test_unsettled_sessions_are_found_by_shard(town: Town) -> None:
    client, provider = await town.client(5_000), await town.provider()
    refs = [await town.open(client, provider) for _ in range(2)]
    await town.billing.settle(TENANT, refs[0].session_id, 1, 5)
    assert await town.billing.unsettled({ref.session_id % 64 for ref in refs}) == [(TENANT, refs[1].session_id)]
    assert await town.billing.unsettled({63}) == []


async def test_the_mark_of_a_dead_worker_is_the_furthest_that_is_stored(town: Town) -> None:
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    assert await town.billing.latest_evidence(TENANT, ref.session_id) == Mark(0, 0)
    assert await town.billing.latest_evidence(TENANT, SessionId(99)) == Mark(0, 0)
    await town.evidence(ref, 41_000)
    await town.evidence(ref, 52_345)
    assert await town.billing.latest_evidence(TENANT, ref.session_id) == Mark(1, 52_345)
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 52_345)
    assert receipt.billed_ms == 52_345


async def test_the_application_can_write_neither_balances_nor_history(town: Town, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    await town.billing.settle(TENANT, ref.session_id, 1, 50_000)
    for statement in (
        "update transfer set amount_minor = 1",
        "delete from transfer",
        "update session_charge set amount_minor = 1",
        "delete from session_charge",
        "update tariff set minor_per_minute = 1",
        "delete from account",
        "update account set posted_minor = 1000000",
        "insert into account (tenant_id, kind, user_id, currency, overdraft, posted_minor)"
        " values (1, 'client_wallet', 99, 'USD', false, 1000000)",
        "update session_meter set granted_ms = 1000000",
        "insert into session_charge select * from session_charge",
        "insert into transfer overriding system value select * from transfer",
        "delete from session_meter",
        "truncate transfer",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with town.database.transaction(TENANT) as connection:
                await connection.execute(statement)
    for statement in (
        "update transfer set amount_minor = 1",
        "delete from transfer",
        "update session_charge set amount_minor = 1",
        "delete from session_charge",
        "update tariff set minor_per_minute = 1",
        "truncate transfer",
        "delete from session_meter",
        "update session_meter set posted_minor = 0 where state = 'settled'",
    ):
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await owner.execute(statement)


async def test_no_statement_can_overdraw_a_wallet(town: Town, owner: Any) -> None:
    client = await town.client(100)
    with pytest.raises(asyncpg.CheckViolationError, match="account_never_negative"):
        await owner.execute("update account set posted_minor = -1 where user_id = $1", client)


async def test_mark_debit_and_hold_move_in_one_transaction_or_not_at_all(town: Town, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    before = await owner.fetchrow("select * from session_meter")
    # The platform's account refuses its part: the last write of the settlement fails.
    await owner.execute(
        "alter table account add constraint broken check (kind <> 'platform_revenue' or posted_minor = 0)"
    )
    with pytest.raises(asyncpg.CheckViolationError):
        await town.billing.settle(TENANT, ref.session_id, 1, 60_000)
    assert await owner.fetchrow("select * from session_meter") == before
    assert await town.billing.wallet(TENANT, client, "client") == Wallet(5_000, 4_702, 298, "USD")
    assert await owner.fetchval("select count(*) from session_charge") == 0
    await owner.execute("alter table account drop constraint broken")
    assert (await town.billing.settle(TENANT, ref.session_id, 1, 60_000)).charged_minor == 199


async def test_a_reservation_survives_the_kill_of_its_process(
    town: Town, owner: Any, database_urls: DatabaseUrls
) -> None:
    """A process is killed between posting and commit: nothing of that is there, what came before is."""
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    program = f"""
        import asyncio, os, signal
        from config.database import Database
        async def main():
            async with await Database.open({database_urls.app_url!r}, name="victim") as database:
                async with database.transaction("*") as connection:
                    await connection.fetch(
                        "select * from meter_tick(array[{ref.session_id}::bigint], array[1], array[0::bigint],"
                        " array[60000::bigint], array[null::bigint], true, 1, 0)")
                    print("posted", flush=True)
                    os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(main())
    """
    victim = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30
    )
    assert (victim.stdout, victim.returncode) == ("posted\n", -signal.SIGKILL), victim.stderr
    assert await town.billing.wallet(TENANT, client, "client") == Wallet(5_000, 4_702, 298, "USD")
    assert (await town.billing.settle(TENANT, ref.session_id, 1, 60_000)).charged_minor == 199
    await books(owner)


async def test_a_ledger_that_is_away_is_told_as_such(
    clock: VirtualClock, settings: Settings, database_urls: DatabaseUrls
) -> None:
    database = await Database.open(database_urls.app_url, name="cut", max_size=1)
    with pytest.raises(LedgerUnavailable):
        async with ledger(database, TENANT) as connection:
            await connection.execute("select pg_terminate_backend(pg_backend_pid())")
    billing = Billing(database, clock, settings)
    assert await billing.receipt(TENANT, SessionId(1)) is None, "the pool connects again by itself"
    await database.close()
    with pytest.raises(LedgerUnavailable):
        await billing.receipt(TENANT, SessionId(1))


async def test_history_lists_top_ups_and_one_line_a_session(town: Town) -> None:
    client, provider = await town.client(5_000), await town.provider()
    refs = [await town.open(client, provider) for _ in range(2)]
    for ref in refs:
        await town.billing.settle(TENANT, ref.session_id, 1, 60_000)
    await town.billing.top_up(TENANT, client, 700, "more", "Test top-up")
    lines = await town.billing.entries(TENANT, client, "client", None, 10)
    assert [(line.kind, line.amount_minor, line.balance_after_minor) for line in lines] == [
        ("topup", 700, 5_302),
        ("session", -199, 4_602),
        ("session", -199, 4_801),
        ("topup", 5_000, 5_000),
    ]
    assert [line.public_id for line in lines[1:3]] == [refs[1].session_public_id, refs[0].session_public_id]
    pages: list[Any] = []
    after: EntryCursor | None = None
    while page := await town.billing.entries(TENANT, client, "client", after, 1):
        pages += page
        after = page[-1].cursor
    assert pages == lines
    earned = await town.billing.entries(TENANT, provider, "provider", None, 10)
    assert [(line.amount_minor, line.balance_after_minor) for line in earned] == [(139, 278), (139, 139)]
