"""``turnpike ledger``: look at an account, a session, or the chain of one movement of money, and prove that it adds up;
sign checkpoints, verify them, archive old postings.

What is printed is what is stored, with the sums that have to agree.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from billing import books_store
from billing.meter_store import SLOT_MS
from billing.postings import read_postings
from billing.store import ledger
from config.clock import SystemClock
from config.database import ALL_TENANTS, Database
from config.ids import TenantId
from config.settings import Settings

ROWS_MAX: Final = 200
"""Newest rows shown of each table."""
PATIENCE_MS: Final = 5_000
"""How long one statement of a page may take: calls use the same connections."""

Report = dict[str, Any]


async def account(connection: Any, tenants: list[int], key: str, whole: bool) -> Report | None:
    """A ledger account by number, or a user's accounts by public id."""
    number = int(key) if key.isascii() and key.isdigit() and len(key) <= 18 else None
    accounts = await connection.fetch(
        "select a.*, u.public_id as user_public_id, u.name as user_name from account a left join app_user u"
        " on u.tenant_id = a.tenant_id and u.id = a.user_id where a.id = any (array("
        "  select $1::bigint union select m.id from app_user p join account m on m.tenant_id = p.tenant_id"
        "  and m.user_id = p.id where p.public_id = $2)) order by a.id",
        number,
        key,
    )
    if not accounts:
        return None
    ids = [row["id"] for row in accounts]
    # What a house account moved is the whole ledger: the nightly proof adds it up, and here only whoever asks for it.
    proved = ids if whole else [row["id"] for row in accounts if row["user_id"] != 0]
    history = (_HISTORY_OF_POSTINGS, proved) if whole else (_HISTORY, proved, tenants)
    return {
        "accounts": _rows(accounts),
        "history": _rows(await connection.fetch(*history)) if proved else [],
        "newest_transfers": _rows(await connection.fetch(_NEWEST_TRANSFERS, ids, ROWS_MAX)),
        "holds": _rows(
            await connection.fetch(
                "select session_public_id, state, granted_ms, posted_minor, held_minor from session_meter"
                " where tenant_id = any ($3) and client_account_id = any ($1) and state = 'open'"
                " order by session_id limit $2",
                *(ids, ROWS_MAX, tenants),
            )
        ),
    }


_NEWEST_TRANSFERS: Final = """
select n.* from account a cross join lateral (
  (select * from transfer t where t.tenant_id = a.tenant_id and t.debit_account_id = a.id order by t.id desc limit $2)
  union all
  (select * from transfer t where t.tenant_id = a.tenant_id and t.credit_account_id = a.id order by t.id desc limit $2)
) n where a.id = any ($1) order by n.id desc limit $2
"""
_AGREES: Final = """
select a.id as account_id, a.posted_minor, coalesce(sum(h.amount), 0)::bigint as history_minor,
  a.posted_minor = coalesce(sum(h.amount), 0) as agrees, sum(h.n)::bigint as rows
from account a left join ({history}) h on h.id = a.id where a.id = any ($1) group by a.id, a.posted_minor order by a.id
"""
_HISTORY: Final = _AGREES.format(
    history="""
  select debit_account_id as id, -sum(amount_minor) as amount, count(*) as n from transfer
    where tenant_id = any ($2) and debit_account_id = any ($1) group by 1
  union all select credit_account_id, sum(amount_minor), count(*) from transfer
    where tenant_id = any ($2) and credit_account_id = any ($1) group by 1
  union all select client_account_id, -sum(posted_minor), count(*) from session_meter
    where tenant_id = any ($2) and client_account_id = any ($1) group by 1
  union all select provider_account_id, sum(posted_provider_minor), count(*) from session_meter
    where tenant_id = any ($2) and provider_account_id = any ($1) group by 1"""
)
"""People's accounts against their transfers and their sessions' meters: all by index, however long the ledger is."""
_HISTORY_OF_POSTINGS: Final = _AGREES.format(
    history="""
  select debit_account_id as id, -sum(amount_minor) as amount, count(*) as n from transfer
    where debit_account_id = any ($1) group by 1
  union all select credit_account_id, sum(amount_minor), count(*) from transfer
    where credit_account_id = any ($1) group by 1
  union all select client_account_id, -sum(amount_minor), count(*) from session_charge
    where client_account_id = any ($1) group by 1
  union all select provider_account_id, sum(amount_minor - fee_minor), count(*) from session_charge
    where provider_account_id = any ($1) group by 1
  union all select platform_account_id, sum(fee_minor), count(*) from session_charge
    where platform_account_id = any ($1) group by 1
  union all select account_id, sum(amount_minor), count(*) from archived_movement
    where account_id = any ($1) group by 1"""
)
"""Any account against each single posting: reads the whole ledger."""


async def session(connection: Any, tenants: list[int], key: str, _whole: bool) -> Report | None:
    """A session's meter, terms, evidence, postings, packages, one-off charges and reversals."""
    meter = await connection.fetchrow(
        "select * from session_meter where tenant_id = any ($2) and session_public_id = $1", key, tenants
    )
    if meter is None:
        return None
    tenant, number = meter["tenant_id"], meter["session_id"]
    report: Report = {"meter": dict(meter)}
    for name, statement in _OF_SESSION.items():
        by = number if "$2::bigint" in statement else key
        report[name] = _rows(await connection.fetch(statement, tenant, by))
    report["postings"] = _rows(await read_postings(connection, tenant, number))
    return report


_OF_SESSION: Final = {
    "terms": "select s.*, t.code, t.minor_per_minute, t.step_ms, t.flat_minor, t.included_ms, t.minimum_minor,"
    " t.provider_bps from session_terms s join tariff t on t.tenant_id = s.tenant_id and t.id = s.tariff_id"
    " where s.tenant_id = $1 and s.session_id = $2::bigint order by s.revision",
    "evidence": "select epoch, max(live_ms) as live_ms, max(granted_live_ms) as granted_live_ms, bool_or(final)"
    " as final from media_evidence where tenant_id = $1 and session_id = $2::bigint group by epoch order by epoch",
    "archived": "select c.archive_id, c.amount_minor, c.provider_minor, c.promo_minor, c.through_ms from archive a"
    " join archived_charge c on c.archive_id = a.id and c.session_id = $2::bigint and c.tenant_id = $1"
    " order by c.archive_id",
    "packages": "select * from session_package where tenant_id = $1 and session_id = $2::bigint order by ordinal",
    "charges": "select * from charge where tenant_id = $1 and session_public_id = $2 order by id",
    "reversals": "select * from reversal where tenant_id = $1 and session_id = $2::bigint order by id",
    "transfers": "select * from transfer where tenant_id = $1 and source_id = $2 order by id",
}


async def transfer(connection: Any, tenants: list[int], key: str, _whole: bool) -> Report | None:
    """A transfer with all that belongs to it: its legs, their source, and what reversed it."""
    legs = await connection.fetch(
        "select t.*, d.kind as debit_kind, d.user_id as debit_user, c.kind as credit_kind, c.user_id as credit_user"
        " from (select * from transfer where public_id = $1"
        "  union select * from transfer where tenant_id = any ($2) and source_id = any (array("
        "   select $1 union select source_id from transfer where public_id = $1))) t"
        " join account d on d.id = t.debit_account_id join account c on c.id = t.credit_account_id order by t.id",
        key,
        tenants,
    )
    if not legs:
        return None
    tenant = legs[0]["tenant_id"]
    sources = sorted({leg["source_id"] for leg in legs if leg["source_id"] is not None})
    charges = await connection.fetch("select * from charge where public_id = any ($1)", sources)
    reversals = await connection.fetch(
        "select * from reversal where public_id = any ($1) or (tenant_id = $2 and charge_id = any ($3)) order by id",
        sources,
        tenant,
        [row["id"] for row in charges],
    )
    reversed_charges = await connection.fetch(
        "select * from charge where tenant_id = $1 and id = any ($2)", tenant, [row["charge_id"] for row in reversals]
    )
    return {
        "legs": _rows(legs),
        "charge": _rows(charges or reversed_charges),
        "reversals": _rows(reversals),
        "total_minor": sum(leg["amount_minor"] for leg in legs),
    }


LOOKS: Final[dict[str, Callable[[Any, list[int], str, bool], Awaitable[Report | None]]]] = {
    "account": account,
    "session": session,
    "transfer": transfer,
}
"""What ``turnpike ledger`` can look at."""


def _rows(rows: list[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in rows]


async def look(
    database: Database, what: str, key: str, tenant: TenantId | str = ALL_TENANTS, *, whole: bool = False
) -> Report | None:
    """One report; None: there is no such thing, or not in that tenant. Raises ``LedgerUnavailable``.

    ``whole``: add an account up from every single posting, however long that takes; else from what indexes lead to, and
    for no longer than ``PATIENCE_MS``."""
    async with ledger(database, tenant) as connection:
        if not whole:
            await connection.execute(f"set local statement_timeout = {PATIENCE_MS}")
        tenants = [row["id"] for row in await connection.fetch("select id from tenant order by id")]
        return await LOOKS[what](connection, tenants, key, whole)


async def _checkpoint(settings: Settings) -> tuple[Report, int]:
    async with books_store.owner(settings) as connection:
        return {"checkpoint": _plain(await books_store.take_checkpoint(connection, _secret(settings)))}, 0


async def _verify(settings: Settings) -> tuple[Report, int]:
    async with books_store.owner(settings) as connection:
        wrong = await books_store.verify(connection, _secret(settings))
    return {"wrong": [{"what": one} for one in wrong]}, 1 if wrong else 0


async def _archive(settings: Settings) -> tuple[Report, int]:
    slot = SystemClock().wall_ms() // SLOT_MS
    async with books_store.owner(settings) as connection:
        done = await books_store.archive(connection, _secret(settings), settings.data / "archive", slot)
    return {"archived": [_plain(one) for one in done]}, 0


JOBS: Final[dict[str, Callable[[Settings], Awaitable[tuple[Report, int]]]]] = {
    "checkpoint": _checkpoint,
    "verify": _verify,
    "archive": _archive,
}
"""What ``turnpike ledger`` can do: each answers with a report and an exit status."""


def _secret(settings: Settings) -> bytes:
    return settings.secret(books_store.KEY)


def _plain(thing: Any) -> dict[str, Any]:
    return dataclasses.asdict(thing)


async def main(settings: Settings, what: str, key: str, *, as_json: bool) -> int:
    """Print one report; 1 when there is no such thing, or something is wrong."""
    if settings.database_url is None:
        sys.stderr.write("ledger: no database; set DATABASE_URL, or run it beside turnpike serve\n")
        return 2
    if what in JOBS:
        try:
            report, status = await JOBS[what](settings)
        except books_store.BooksError as error:
            sys.stderr.write(f"ledger: {error}\n")
            return 1
        sys.stdout.write(_told(report, as_json))
        return status
    async with await Database.open(settings.database_url, name="ledger", max_size=1) as database:
        found = await look(database, what, key, whole=True)
    if found is None:
        sys.stderr.write(f"ledger: there is no {what} {key}\n")
        return 1
    sys.stdout.write(_told(found, as_json))
    return 0


def _told(report: Report, as_json: bool) -> str:
    return json.dumps(report, default=str, ensure_ascii=False) + "\n" if as_json else _as_text(report)


def _as_text(report: Report) -> str:
    lines: list[str] = []
    for name, value in report.items():
        rows = value if isinstance(value, list) else [value] if isinstance(value, dict) else None
        if rows is None:
            lines.append(f"{name}: {value}")
            continue
        lines.append(f"{name}: {len(rows) if rows else 'none'}" if isinstance(value, list) else f"{name}:")
        lines += ["  " + " ".join(f"{k}={v}" for k, v in row.items() if v is not None) for row in rows]
    return "\n".join(lines) + "\n"
