"""The proof of the books: silent when they are right, and loud about each kind of damage."""

from __future__ import annotations

import json
from typing import Any

import pytest

from billing import reconcile
from billing.checks import CHECKS
from config.settings import Settings
from tests.billing.conftest import TENANT, Town

DAMAGE = {
    "sums": "update account set posted_minor = posted_minor + 1 where kind = 'platform_revenue' and posted_minor > 0",
    "balances": "update account set posted_minor = posted_minor + 5 where kind in ('client_wallet')",
    "solvency": "update account set posted_minor = -1, held_minor = 0 where kind = 'client_wallet'",
    "currencies": "update account set currency = 'EUR' where kind = 'provider_earnings'",
    "holds": "update account set held_minor = held_minor + 1 where kind = 'client_wallet'",
    "grants": "update session_meter set granted_ms = granted_ms + 60000 where state = 'open'",
    "charges": "update session_meter set billed_through_ms = billed_through_ms + 1000, granted_ms = 90000"
    " where state = 'settled'",
    "carried": "insert into session_terms (tenant_id, session_id, revision, from_ms, kind, tariff_id, free_ms,"
    " prepaid_ms, paid_ms) select tenant_id, session_id, 2, 75500, kind, tariff_id, 5, 0, 5 from session_terms",
    "postings": "update session_charge set amount_minor = amount_minor + 1",
    "splits": "update session_meter set posted_provider_minor = posted_provider_minor - 1 where posted_minor > 0",
    "rates": "update session_meter set minor_per_minute = 200, provider_bps = 7001",
    "promo": "update account set promo_minor = 5 where kind = 'client_wallet'",
    "packages": "insert into client_package (tenant_id, public_id, client_account_id, charge_id, offer_id, total_ms,"
    " price_minor, currency, provider_bps, then_money, expires_at) values (1, 'x', 1, 1, 1, 60000, 100, 'USD',"
    " 7000, true, now())",
    "receivables": "insert into account (tenant_id, kind, user_id, currency, overdraft, posted_minor)"
    " values (1, 'receivable', 1, 'USD', true, -5)",
    "one_off": "insert into charge (tenant_id, public_id, kind, payer_account_id, house_account_id, currency,"
    " amount_minor, provider_bps, provider_minor, promo_minor, idempotency_key, content, memo)"
    " values (1, 'x', 'gift', 1, 2, 'USD', 5, 0, 0, 0, 'k', '', '')",
    "evidence": "update media_evidence set live_ms = live_ms - 1; update session_meter set settled_at ="
    " settled_at - interval '1 hour' where state = 'settled'",
}
"""What an owner with a free hand might do, by the check that has to find it."""


async def _worked_town(town: Town) -> None:
    client, provider = await town.client(5_000), await town.provider()
    ref = await town.open(client, provider)
    await town.evidence(ref, 75_500)
    await town.billing.settle(TENANT, ref.session_id, 1, 75_500)
    await town.open(client, provider)


async def test_right_books_pass_and_say_what_was_proved(
    town: Town, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await _worked_town(town)
    assert await reconcile.main(settings) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("the books are right\n")
    assert all(f"ok    {check.name}" in shown for check in CHECKS)
    findings = {finding.name: finding for finding in await reconcile.examine(town.database)}
    assert (findings["balances"].examined, findings["evidence"].examined, findings["holds"].examined) == (7, 1, 1)


async def test_an_empty_installation_is_right(database: Any, settings: Settings) -> None:
    assert await reconcile.main(settings) == 0


async def test_each_kind_of_damage_is_found_and_its_rows_are_named(town: Town, owner: Any) -> None:
    await _worked_town(town)
    await owner.execute("alter table account drop constraint account_never_negative, drop constraint account_promo")
    for table in ("session_charge", "session_meter", "transfer", "charge"):
        await owner.execute(f"alter table {table} disable trigger user")
    assert DAMAGE.keys() == {check.name for check in CHECKS}
    for check in CHECKS:
        damage = owner.transaction()
        await damage.start()
        await owner.execute(DAMAGE[check.name])
        finding = await reconcile.run_check(owner, check)
        await damage.rollback()
        assert len(finding.rows) == finding.disagreeing > 0, check.name
        assert (await reconcile.run_check(owner, check)).disagreeing == 0, check.name


async def test_packages_that_a_session_that_is_over_still_holds_are_found(town: Town, owner: Any) -> None:
    await _worked_town(town)
    await owner.execute(
        "insert into session_package (tenant_id, session_id, ordinal, package_id, reserved_ms)"
        " select tenant_id, session_id, 1, 7, 60000 from session_meter where state = 'settled'"
    )
    (check,) = [check for check in CHECKS if check.name == "packages"]
    finding = await reconcile.run_check(owner, check)
    assert [row["package_id"] for row in finding.rows] == [7]


async def test_free_time_that_a_change_of_kind_gives_anew_is_found(town: Town, owner: Any) -> None:
    await _worked_town(town)
    (check,) = [check for check in CHECKS if check.name == "carried"]
    for free_ms, wrong in ((1, 1), (0, 0)):
        change = owner.transaction()
        await change.start()
        await owner.execute(
            "insert into session_terms (tenant_id, session_id, revision, from_ms, kind, tariff_id, free_ms, prepaid_ms)"
            " select tenant_id, session_id, 2, 75500, t.kind, t.tariff_id, $1, 0 from session_terms t"
            " join session_meter m using (tenant_id, session_id) where m.state = 'settled'",
            free_ms,
        )
        finding = await reconcile.run_check(owner, check)
        await change.rollback()
        assert [row["first_ms"] for row in finding.rows] == [1] * wrong


async def test_damage_fails_the_command_for_people_and_programs(
    town: Town, owner: Any, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await _worked_town(town)
    await owner.execute(DAMAGE["sums"])
    assert await reconcile.main(settings, as_json=True) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["balanced"]
    assert {check["name"] for check in report["checks"] if check["disagreeing"]} == {"sums", "balances"}
    assert await reconcile.main(settings) == 1
    shown = capsys.readouterr().out
    assert "WRONG sums" in shown
    assert "sum_minor=1" in shown
    assert shown.endswith("2 rows disagree\n")


async def test_a_session_settled_just_now_waits_for_its_evidence(
    town: Town, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = await town.open(await town.client(), await town.provider())
    await town.billing.settle(TENANT, ref.session_id, 1, 30_000)
    assert await reconcile.main(settings) == 0
    assert "1 sessions were settled within 10 min" in capsys.readouterr().out


async def test_a_session_billed_for_less_than_its_evidence_is_found(town: Town, settings: Settings) -> None:
    ref = await town.open(await town.client(), await town.provider())
    await town.evidence(ref, 60_000)
    await town.billing.settle(TENANT, ref.session_id, 1, 30_000)
    assert await reconcile.main(settings) == 1


async def test_many_rows_are_counted_and_some_are_shown(
    town: Town, owner: Any, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "ROWS_MAX", 2)
    for _ in range(4):
        await town.client(1_000)
    await owner.execute("update account set posted_minor = posted_minor + 1 where kind = 'client_wallet'")
    assert await reconcile.main(settings) == 1
    assert "… and 2 more" in capsys.readouterr().out


async def test_without_a_database_it_says_so(settings: Settings) -> None:
    assert await reconcile.main(settings.model_copy(update={"database_url": None})) == 2


async def test_what_a_killed_worker_had_not_written_down_yet_is_no_disagreement(
    town: Town, settings: Settings, owner: Any
) -> None:
    await _worked_town(town)
    lost = "update media_evidence set final = $1, live_ms = live_ms - 900"
    aged = "update session_meter set settled_at = settled_at - interval '1 hour' where state = 'settled'"
    async with town.database.transaction(TENANT) as connection:
        await connection.execute(lost, False)
    await owner.execute("alter table session_meter disable trigger user")
    await owner.execute(aged)
    assert await reconcile.main(settings) == 0
    async with town.database.transaction(TENANT) as connection:
        await connection.execute("update media_evidence set final = true")
    assert await reconcile.main(settings) == 1
