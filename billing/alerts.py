"""What looks like abuse: a table of rules in SQL, looked at with the nightly proof and once an hour.

An alert is for people to look at; nothing is done by itself. Each rule tells an account once a day.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Final

from billing.store import ledger
from config.database import ALL_TENANTS, Database
from config.ids import TenantId

ALERTS_MAX: Final = 200
"""Alerts shown at once, the newest."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One kind of conspicuous behaviour within the last 24 hours."""

    name: str
    means: str
    over: int
    """The figure above which an account is told of."""
    figures: str
    """Selects tenant_id, account_id, figure."""


RULES: Final = (
    Rule(
        "many_charges",
        "one wallet paid many one-off charges in a day",
        100,
        "select tenant_id, payer_account_id as account_id, count(*) as figure from charge"
        " where created_at > now() - interval '1 day' group by 1, 2",
    ),
    Rule(
        "many_topups",
        "one wallet was topped up many times in a day",
        20,
        "select tenant_id, credit_account_id as account_id, count(*) as figure from transfer"
        " where kind = 'topup' and created_at > now() - interval '1 day' group by 1, 2",
    ),
    Rule(
        "free_time_hopping",
        "one client used free time with many providers in a day",
        5,
        "select m.tenant_id, m.client_account_id as account_id, count(distinct m.provider_account_id) as figure"
        " from session_meter m join session_terms t on t.tenant_id = m.tenant_id and t.session_id = m.session_id"
        " and t.revision = 1 where m.opened_at > now() - interval '1 day' and t.free_ms > t.prepaid_ms group by 1, 2",
    ),
    Rule(
        "many_short_sessions",
        "one pair had many sessions of under a minute in a day",
        20,
        "select tenant_id, client_account_id as account_id, count(*) as figure from session_meter"
        " where opened_at > now() - interval '1 day' and state = 'settled' and billed_through_ms < 60000"
        " group by tenant_id, client_account_id, provider_account_id",
    ),
    Rule(
        "many_reversals",
        "one provider's charges were given back many times in a day",
        10,
        "select r.tenant_id, coalesce(m.provider_account_id, c.provider_account_id) as account_id, count(*) as figure"
        " from reversal r left join session_meter m on m.tenant_id = r.tenant_id and m.session_id = r.session_id"
        " left join charge c on c.tenant_id = r.tenant_id and c.id = r.charge_id"
        " where r.created_at > now() - interval '1 day' and r.provider_minor > 0 group by 1, 2",
    ),
)
_MEANS: Final = {rule.name: rule.means for rule in RULES}


@dataclasses.dataclass(frozen=True, slots=True)
class Alert:
    """An account that a rule tells of."""

    rule: str
    means: str
    user: str | None
    """The public id of the account's user."""
    day: datetime.date
    figure: int


async def look(database: Database) -> int:
    """Apply all rules over all tenants; returns how many alerts are new."""
    new = 0
    for rule in RULES:
        async with ledger(database, ALL_TENANTS) as connection:
            rows = await connection.fetch(
                "insert into fraud_alert (tenant_id, rule, account_id, day, figure)"
                " select tenant_id, $1, account_id, (now() at time zone 'UTC')::date, max(figure) from ("
                + rule.figures
                + ") f where figure > $2 group by tenant_id, account_id on conflict do nothing returning id",
                rule.name,
                rule.over,
            )
        new += len(rows)
    return new


async def read(database: Database, tenant: TenantId) -> list[Alert]:
    """A tenant's newest alerts."""
    async with ledger(database, tenant) as connection:
        rows = await connection.fetch(
            "select f.rule, u.public_id, f.day, f.figure from fraud_alert f"
            " join account a on a.tenant_id = f.tenant_id and a.id = f.account_id"
            " left join app_user u on u.tenant_id = a.tenant_id and u.id = a.user_id"
            " where f.tenant_id = $1 order by f.id desc limit $2",
            *(tenant, ALERTS_MAX),
        )
    return [
        Alert(row["rule"], _MEANS.get(row["rule"], row["rule"]), row["public_id"], row["day"], row["figure"])
        for row in rows
    ]
