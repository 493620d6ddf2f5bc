"""The meters' SQL: a session's money from its first hold to its receipt, the tick, and the shard leases."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from billing.money import Tariff
from billing.store import CLIENT_WALLET, LANES, PROVIDER_EARNINGS, ConstraintViolated, find_account, ledger
from billing.stretches import StoredTerms, stretches
from billing.terms import (
    Billed,
    BillingRefusal,
    Mark,
    MeterRow,
    MeterState,
    Opened,
    Rate,
    Receipt,
    SessionRef,
    SessionTerms,
    Stretch,
    TickInput,
    TickResult,
)
from config.database import ALL_TENANTS, Database
from config.ids import PublicId, SessionId, TenantId, shard_of
from config.logs import get_log

log = get_log("billing.meter_store")

CHUNK_MAX: Final = 500
"""Sessions in one tick transaction (and those of one more wallet): more would keep a top-up waiting."""
SLOT_MS: Final = 5_000
Condition = Callable[[Any], Awaitable[bool]]
"""Whether something holds, asked on a connection in the middle of a transaction; it stays so until that ends."""


def lane_of(client_account_id: int) -> int:
    """The lane that a wallet's sessions are metered in, for good: sessions that share money are in one."""
    # Spread by the high bits of a multiplicative hash: ids of wallets may have a pattern.
    return (client_account_id * 2_654_435_761 % 2**32) * LANES >> 32


# --- sessions ----------------------------------------------------------------------------------------------------


class _Refuse(Exception):
    """Carries a refusal out of a transaction, so that it is rolled back."""

    def __init__(self, refusal: BillingRefusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


async def open_session(database: Database, ref: SessionRef, grant_ms: int, minimum_ms: int) -> Opened | BillingRefusal:
    """Make a session's meter and hold money for its first grant, in one transaction. Once open, it stays so."""
    try:
        async with ledger(database, ref.tenant_id) as connection:
            if await _insert_meter(connection, ref):
                await _tick(connection, [TickInput(ref.session_id, 0, 0, 0, None)], False, 0, grant_ms)
                least_ms = min(minimum_ms, grant_ms)
            else:
                least_ms = 0
            row = await connection.fetchrow(
                "select state, granted_ms, limit_ms, final_unit from session_meter"
                " where tenant_id = $1 and session_id = $2",
                ref.tenant_id,
                ref.session_id,
            )
            if row is None:
                raise _Refuse(BillingRefusal.NO_WALLET)
            if row["state"] == "settled":
                raise _Refuse(BillingRefusal.ALREADY_SETTLED)
            if row["granted_ms"] < min(least_ms, row["limit_ms"]):
                raise _Refuse(BillingRefusal.INSUFFICIENT_FUNDS)
            return Opened(row["granted_ms"], row["final_unit"])
    except _Refuse as refused:
        return refused.refusal


async def _insert_meter(connection: Any, ref: SessionRef) -> bool:
    """Add the meter's row; False when it is there. Its terms are those of the tariff shown."""
    tenant = ref.tenant_id
    if await connection.fetchval(
        "select 1 from session_meter where tenant_id = $1 and session_id = $2", tenant, ref.session_id
    ):
        return False
    tariff_id = await connection.fetchval(
        "select id from tariff where tenant_id = $1 and provider_id = $2 and kind = $3"
        " and minor_per_minute = $4 and currency = $5 and ($6::bigint is null or id = $6) order by id desc limit 1",
        tenant,
        ref.provider_id,
        ref.kind,
        ref.rate.minor_per_minute,
        ref.rate.currency,
        ref.rate.tariff_id,
    )
    if tariff_id is None:
        raise _Refuse(BillingRefusal.NO_RATE)
    client = await find_account(connection, tenant, ref.client_id, CLIENT_WALLET)
    provider = await find_account(connection, tenant, ref.provider_id, PROVIDER_EARNINGS)
    if client is None or provider is None:
        raise _Refuse(BillingRefusal.NO_WALLET)
    if not client["currency"] == provider["currency"] == ref.rate.currency:
        raise _Refuse(BillingRefusal.CURRENCY_MISMATCH)
    made: bool = await connection.fetchval(
        "select open_meter($1, $2, $3, $4, $5, $6, a.id, $7) from account a"
        " where a.tenant_id = $1 and a.kind = 'platform_revenue' and a.currency = $8 and a.lane = $9",
        tenant,
        ref.session_id,
        ref.session_public_id,
        shard_of(ref.session_id),
        client["id"],
        provider["id"],
        tariff_id,
        ref.rate.currency,
        lane_of(client["id"]),
    )
    return made


async def settle(
    database: Database, tenant: TenantId, session_id: SessionId, epoch: int, live_ms: int, slot: int
) -> tuple[Receipt, TickResult] | None:
    """Post the rest, release the hold, close the meter: once. None: there is no such meter."""
    async with ledger(database, tenant) as connection:
        row = await connection.fetchrow("select * from settle_meter($1, $2, $3, $4)", session_id, epoch, live_ms, slot)
        receipt = await _receipt(connection, tenant, session_id)
        return None if receipt is None else (receipt, TickResult(*row.values()))


async def change_kind(
    database: Database,
    tenant: TenantId,
    session_id: SessionId,
    mark: Mark,
    rate: Rate,
    grant_ms: int,
    *,
    now_ms: int,
    revision: int | None,
    asked: Condition | None = None,
) -> Opened | BillingRefusal:
    """Post what the session has cost until ``mark`` and go on at the rate's terms, if those before are still those of
    ``revision`` and what was ``asked`` stands. ``now_ms`` is wall time."""
    async with ledger(database, tenant) as connection:
        stands = asked is None or await asked(connection)  # whatever it locks comes before the meter
        tariff_id = await connection.fetchval(
            "select t.id from session_meter m join account a on a.tenant_id = m.tenant_id"
            "  and a.id = m.provider_account_id join tariff t on t.tenant_id = m.tenant_id"
            "  and t.provider_id = a.user_id and t.currency = m.currency"
            " where m.tenant_id = $1 and m.session_id = $2 and t.kind = $3 and t.minor_per_minute = $4"
            " and ($5::bigint is null or t.id = $5) order by t.id desc limit 1",
            tenant,
            session_id,
            rate.kind,
            rate.minor_per_minute,
            rate.tariff_id,
        )
        if tariff_id is None:
            return BillingRefusal.NO_RATE
        if not stands:
            now = await connection.fetchrow(
                "select tariff_id, revision from session_meter where tenant_id = $1 and session_id = $2",
                tenant,
                session_id,
            )
            if now["tariff_id"] != tariff_id:
                changed = revision not in (None, now["revision"])
                return BillingRefusal.CHANGED_MEANWHILE if changed else BillingRefusal.NOT_ASKED
        status = await connection.fetchval(
            "select rerate_meter($1, $2, $3, $4, $5, $6, $7, $8)",
            *(session_id, mark.epoch, mark.live_ms, tariff_id, now_ms // SLOT_MS, grant_ms, revision, now_ms),
        )
        if status != "done":
            return _RERATE_REFUSALS[status]
        row = await connection.fetchrow(
            "select granted_ms, final_unit, revision from session_meter where tenant_id = $1 and session_id = $2",
            tenant,
            session_id,
        )
        return Opened(row["granted_ms"], row["final_unit"], row["revision"])


_RERATE_REFUSALS: Final = {
    "settled": BillingRefusal.ALREADY_SETTLED,
    "unknown": BillingRefusal.NO_SUCH_SESSION,
    "not_metered": BillingRefusal.NOT_METERED,
    "insufficient_funds": BillingRefusal.INSUFFICIENT_FUNDS,
    "changed_meanwhile": BillingRefusal.CHANGED_MEANWHILE,
    "too_many_changes": BillingRefusal.TOO_MANY_CHANGES,
    "too_soon": BillingRefusal.TOO_SOON,
}


async def carry_over(
    database: Database, tenant: TenantId, session_id: SessionId, epoch: int, live_ms: int, slot: int, grant_ms: int
) -> TickResult | None:
    """Post what room ``epoch`` was live for, as its last word, and hold for the next grant. None: no such meter."""
    async with ledger(database, tenant) as connection:
        results = await _tick(connection, [TickInput(session_id, epoch, 0, live_ms, None)], False, slot, grant_ms)
        return results[0] if results else None


async def read_terms(database: Database, tenant: TenantId, session_id: SessionId) -> SessionTerms | None:
    """What a session is charged at now; None: it has no meter."""
    async with ledger(database, tenant) as connection:
        row = await connection.fetchrow(
            "select kind, minor_per_minute, currency, tariff_id, step_ms, provider_bps, revision,"
            " (select coalesce(sum(p.r_left_ms - p.r_take_ms), 0)::bigint"
            "  from packages_taken(m.tenant_id, m.session_id, m.kind, package_used_ms(m)) p where p.r_kind = m.kind)"
            " from session_meter m where tenant_id = $1 and session_id = $2",
            *(tenant, session_id),
        )
    return None if row is None else SessionTerms(Rate(*tuple(row)[:4]), *tuple(row)[4:])


async def read_billed(
    database: Database, tenant: TenantId, session_ids: Sequence[SessionId]
) -> dict[SessionId, Billed]:
    """What each of these sessions came to so far; those without a meter are left out."""
    async with ledger(database, tenant) as connection:
        rows = await connection.fetch(
            "select session_id, billed_through_ms, posted_minor, posted_provider_minor, state = 'settled' as settled"
            " from session_meter where tenant_id = $1 and session_id = any ($2)",
            *(tenant, list(session_ids)),
        )
    return {row["session_id"]: Billed(*list(row.values())[1:]) for row in rows}


async def read_receipt(database: Database, tenant: TenantId, session_id: SessionId) -> Receipt | None:
    """The receipt of a settled session; None before, and of sessions never opened."""
    async with ledger(database, tenant) as connection:
        return await _receipt(connection, tenant, session_id)


async def _receipt(connection: Any, tenant: TenantId, session_id: SessionId) -> Receipt | None:
    row = await connection.fetchrow(
        "select * from session_meter where tenant_id = $1 and session_id = $2 and state = 'settled'", tenant, session_id
    )
    if row is None:
        return None
    since_ms = row["billed_through_ms"] - row["after_ms"]
    return Receipt(
        tenant_id=tenant,
        session_id=session_id,
        session_public_id=PublicId(row["session_public_id"]),
        rate=Rate(row["kind"], row["minor_per_minute"], row["currency"]),
        provider_bps=row["provider_bps"],
        billed_ms=row["billed_through_ms"],
        charged_minor=row["posted_minor"],
        provider_minor=row["posted_provider_minor"],
        platform_minor=row["posted_minor"] - row["posted_provider_minor"],
        currency=row["currency"],
        balance_after_minor=row["client_balance_minor"],
        provider_balance_after_minor=row["provider_balance_minor"],
        settled_at_ms=_ms(row["settled_at"]),
        prepaid_ms=row["after_prepaid_ms"]
        + min(row["prepaid_ms"], max(0, since_ms - row["free_ms"] + row["prepaid_ms"])),
        promo_minor=row["posted_promo_minor"],
        stretches=await _stretches(connection, row) if row["revision"] > 1 else (),
    )


async def _stretches(connection: Any, meter: Any) -> tuple[Stretch, ...]:
    """A settled session's parts at different terms; their amounts make up its charge."""
    rows = await connection.fetch(
        "select t.kind, t.minor_per_minute, t.currency, t.id, t.step_ms, t.flat_minor, t.included_ms, t.minimum_minor,"
        " s.from_ms, coalesce(lead(s.from_ms) over (order by s.revision), $3) - s.from_ms as live_ms,"
        " s.free_ms, s.paid_ms, s.prepaid_ms, s.carried from session_terms s"
        " join tariff t on t.tenant_id = s.tenant_id and t.id = s.tariff_id"
        " where s.tenant_id = $1 and s.session_id = $2 order by s.revision",
        *(meter["tenant_id"], meter["session_id"], meter["billed_through_ms"]),
    )
    return stretches(StoredTerms(Rate(*terms[:4]), *terms[4:]) for terms in map(tuple, rows))


def _ms(at: datetime.datetime) -> int:
    return int(at.timestamp() * 1000)


async def read_unsettled(database: Database, shards: Sequence[int]) -> list[tuple[TenantId, SessionId]]:
    """Sessions of those shards whose meters are open, oldest first."""
    async with ledger(database, ALL_TENANTS) as connection:
        rows = await connection.fetch(
            "select tenant_id, session_id from session_meter where state = 'open' and shard = any ($1) order by 2",
            list(shards),
        )
    return [(row["tenant_id"], row["session_id"]) for row in rows]


async def read_mark(database: Database, tenant: TenantId, session_id: SessionId) -> Mark:
    """The furthest that the meter and the workers' stored evidence know of, in the newest epoch of either."""
    async with ledger(database, tenant) as connection:
        row = await connection.fetchrow(
            "select epoch, max(live_ms) as live_ms from ("
            "  select epoch, live_ms - epoch_base_ms as live_ms from session_meter"
            "  where tenant_id = $1 and session_id = $2"
            "  union all"
            "  select epoch, live_ms from media_evidence where tenant_id = $1 and session_id = $2"
            " ) known group by epoch order by epoch desc limit 1",
            tenant,
            session_id,
        )
    return Mark(0, 0) if row is None else Mark(row["epoch"], row["live_ms"])


# --- the tick ----------------------------------------------------------------------------------------------------


async def tick(database: Database, inputs: Sequence[TickInput], slot: int, grant_ms: int) -> list[TickResult]:
    """One chunk's tick. Where one session's row violates a constraint the chunk is done again session by session."""
    try:
        async with ledger(database, ALL_TENANTS) as connection:
            return await _tick(connection, inputs, False, slot, grant_ms)
    except ConstraintViolated as error:
        log.warning("chunk not metered at once, trying session by session", sessions=len(inputs), why=str(error))
    results: list[TickResult] = []
    for one in inputs:
        try:
            async with ledger(database, ALL_TENANTS) as connection:
                results += await _tick(connection, [one], False, slot, grant_ms)
        except ConstraintViolated as error:
            log.error("session not metered", session_id=one.session_id, why=str(error))
    return results


async def _tick(
    connection: Any, inputs: Sequence[TickInput], final: bool, slot: int, grant_ms: int
) -> list[TickResult]:
    rows = await connection.fetch(
        "select t.*, (select m.revision from session_meter m where m.session_id = t.r_session)"
        " from meter_tick($1, $2, $3, $4, $5, $6, $7, $8) t",
        [one.session_id for one in inputs],
        [one.epoch for one in inputs],
        [one.base_ms for one in inputs],
        [one.live_ms for one in inputs],
        [one.lease_epoch for one in inputs],
        final,
        slot,
        grant_ms,
    )
    return [TickResult(*row.values()) for row in rows]


async def load_meters(
    database: Database, shards: dict[int, int], session_ids: Sequence[SessionId] | None, limit: int
) -> list[MeterRow]:
    """Open meters of the leased shards (shard → lease epoch), all or the named ones; older leases are fenced out."""
    async with ledger(database, ALL_TENANTS) as connection:
        rows = await connection.fetch(
            "with due as (select m.session_id, l.epoch from session_meter m"
            "  join unnest($1::smallint[], $2::bigint[]) u (shard, epoch) on u.shard = m.shard"
            "  join shard_lease l on l.shard = u.shard and l.epoch = u.epoch"
            "  where m.state = 'open' and ($3::bigint[] is null or m.session_id = any ($3))"
            "  order by m.session_id limit $4 for no key update of m)"
            " update session_meter m set lease_epoch = greatest(m.lease_epoch, due.epoch) from due"
            " where m.session_id = due.session_id returning m.*",
            list(shards),
            list(shards.values()),
            None if session_ids is None else list(session_ids),
            limit,
        )
    return [
        MeterRow(
            row["tenant_id"],
            row["session_id"],
            row["currency"],
            row["client_account_id"],
            _tariff(row),
            row["epoch"],
            row["epoch_base_ms"],
            row["live_ms"],
            row["granted_ms"],
            row["posted_minor"],
            row["held_minor"],
            row["final_unit"],
            row["revision"],
            row["kind"],
        )
        for row in rows
    ]


def _tariff(row: Any) -> Tariff:
    return Tariff(*(row[name] for name in _TERMS))


_TERMS: Final = tuple(field.name for field in dataclasses.fields(Tariff))
"""A meter's columns have the names of the tariff's fields."""


async def read_states(database: Database, session_ids: Sequence[SessionId]) -> dict[SessionId, MeterState]:
    """Of each session: whether its meter is open, its client's balance, what of it is available, and its revision."""
    async with ledger(database, ALL_TENANTS) as connection:
        rows = await connection.fetch(
            "select m.session_id, m.state = 'open' as open, a.posted_minor, a.posted_minor - a.held_minor as available,"
            " m.revision from session_meter m"
            " join account a on a.tenant_id = m.tenant_id and a.id = m.client_account_id"
            " where m.session_id = any ($1)",
            list(session_ids),
        )
    return {
        row["session_id"]: MeterState(row["open"], row["posted_minor"], row["available"], row["revision"])
        for row in rows
    }


# --- leases ------------------------------------------------------------------------------------------------------


async def lease_shards(database: Database, owner: str, ttl: datetime.timedelta) -> dict[int, int]:
    """Renew, give up or take leases, to a fair share; returns shard → lease epoch."""
    async with ledger(database, ALL_TENANTS) as connection:
        rows = await connection.fetch("select * from lease_shards($1, $2)", owner, ttl)
    return {row["r_shard"]: row["r_epoch"] for row in rows}


async def release_shards(database: Database, owner: str) -> None:
    """Give up all of an owner's leases, and its share."""
    async with ledger(database, ALL_TENANTS) as connection:
        await connection.execute("delete from shard_owner where owner = $1", owner)
        await connection.execute(
            "update shard_lease set owner = null, expires_at = '-infinity' where owner = $1", owner
        )
