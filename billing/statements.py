"""Statements and exports: a wallet over a period, and what the platform earned by day.

A session is booked on the day of its settlement (one that runs: of its newest posting), everything else when it was
posted; so the opening balance plus the lines is the closing balance, to the unit.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
from collections.abc import Iterable, Sequence
from typing import Any, Final

from billing.meter_store import SLOT_MS
from billing.store import LINES, ledger
from config.database import Database
from config.ids import TenantId, UserId

LINES_MAX: Final = 10_000
"""Lines in one statement; a period with more is refused, not cut."""
PERIOD_DAYS_MAX: Final = 366
SLOT_SLACK: Final = 86_400_000 // SLOT_MS
"""Slots come from the application's clock, days from the database's: so much they may lie apart."""


class TooLong(Exception):
    """The period has more than ``LINES_MAX`` lines: ask for a shorter one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Period:
    """From the beginning of one day to the end of another, UTC."""

    first: datetime.date
    last: datetime.date

    @property
    def start(self) -> datetime.datetime:
        return datetime.datetime.combine(self.first, datetime.time(), datetime.UTC)

    @property
    def end(self) -> datetime.datetime:
        return datetime.datetime.combine(self.last + datetime.timedelta(days=1), datetime.time(), datetime.UTC)


@dataclasses.dataclass(frozen=True, slots=True)
class StatementLine:
    """One line of a statement, oldest first."""

    at: datetime.datetime
    public_id: str
    kind: str
    memo: str
    amount_minor: int
    """Negative: money that left."""
    balance_minor: int
    """After this line."""


@dataclasses.dataclass(frozen=True, slots=True)
class Statement:
    """A wallet, or a provider's earnings, over a period."""

    period: Period
    currency: str
    opening_minor: int
    closing_minor: int
    lines: tuple[StatementLine, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class RevenueLine:
    """What one source moved, and what of it was the platform's, on one day."""

    day: datetime.date
    currency: str
    source: str
    """``sessions``, or the kind of the transfers: ``charge``, ``reversal``, ``package_use``, ``package_expiry``."""
    gross_minor: int
    platform_minor: int


_STATEMENT: Final = (
    LINES
    + """
, period as (select * from placed where at >= $4 and at < $5)
select a.currency as account_currency, p.*,
  a.posted_minor - coalesce((select sum(amount_minor) from placed where at >= $4), 0)::bigint as opening
 from account a left join (select * from period order by at_us, part, number limit $6) p on true
where a.id = (select id from mine) and a.tenant_id = $1 order by p.at_us, p.part, p.number
"""
)


async def read_statement(
    database: Database, tenant: TenantId, user_id: UserId, kind: str, period: Period
) -> Statement | None:
    """A user's account of that kind over a period; None: there is none. Raises ``TooLong``."""
    async with ledger(database, tenant) as connection:
        rows = await connection.fetch(_STATEMENT, tenant, user_id, kind, period.start, period.end, LINES_MAX + 1)
    if not rows:
        return None
    if len(rows) > LINES_MAX:
        raise TooLong
    balance = opening = rows[0]["opening"]
    lines = []
    for row in rows:
        if row["public_id"] is not None:
            balance += row["amount_minor"]
            lines.append(
                StatementLine(row["at"], row["public_id"], row["kind"], row["memo"], row["amount_minor"], balance)
            )
    return Statement(period, rows[0]["account_currency"], opening, balance, tuple(lines))


_REVENUE: Final = """
select day, currency, source, sum(gross)::bigint as gross_minor, sum(platform)::bigint as platform_minor from (
  select (c.created_at at time zone 'UTC')::date as day, a.currency, 'sessions' as source, sum(c.amount_minor) as gross,
    sum(c.fee_minor) as platform
  from session_charge c join account a on a.tenant_id = c.tenant_id and a.id = c.platform_account_id
  where c.tenant_id = $1 and c.slot >= $4 and c.slot < $5 and c.created_at >= $2 and c.created_at < $3 group by 1, 2
  union all
  select (t.created_at at time zone 'UTC')::date, t.currency, t.kind,
    sum(case when t.kind = 'reversal' then -t.amount_minor else t.amount_minor end),
    sum(case when p.kind = 'platform_revenue' then t.amount_minor when d.kind = 'platform_revenue' then -t.amount_minor
        else 0 end)
  from transfer t join account d on d.tenant_id = t.tenant_id and d.id = t.debit_account_id
    join account p on p.tenant_id = t.tenant_id and p.id = t.credit_account_id
  where t.tenant_id = $1 and t.created_at >= $2 and t.created_at < $3
    and t.kind in ('charge', 'reversal', 'package_use', 'package_expiry') and p.kind <> 'package_liability'
    and not (t.kind = 'reversal' and d.kind = 'package_liability')  -- of time that had not been earned yet
  group by 1, 2, 3
) x group by 1, 2, 3 order by 1, 2, 3
"""


async def read_revenue(database: Database, tenant: TenantId, period: Period) -> list[RevenueLine]:
    """What was earned by day and source. Days whose postings are archived are in the archives' files."""
    first, last = (int(at.timestamp() * 1000) // SLOT_MS for at in (period.start, period.end))
    async with ledger(database, tenant) as connection:
        rows = await connection.fetch(_REVENUE, tenant, period.start, period.end, first - SLOT_SLACK, last + SLOT_SLACK)
    return [RevenueLine(*row.values()) for row in rows]


def as_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """RFC 4180. A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value.isoformat() if isinstance(value, datetime.date) else value


def statement_csv(statement: Statement) -> str:
    """A statement for a spreadsheet, with the opening and the closing balance as lines of their own."""
    rows: list[tuple[Any, ...]] = [
        (statement.period.start, "", "opening", "Opening balance", "", statement.opening_minor, statement.currency)
    ]
    rows += [
        (line.at, line.public_id, line.kind, line.memo, line.amount_minor, line.balance_minor, statement.currency)
        for line in statement.lines
    ]
    rows.append(
        (statement.period.end, "", "closing", "Closing balance", "", statement.closing_minor, statement.currency)
    )
    return as_csv(("at", "id", "kind", "memo", "amount_minor", "balance_minor", "currency"), rows)
