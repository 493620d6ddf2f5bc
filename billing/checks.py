"""What reconciliation proves: a table of checks in SQL, with arithmetic of their own, not the tick's functions."""

from __future__ import annotations

import dataclasses
from typing import Final

EVIDENCE_GRACE_S: Final = 600
"""Workers ship their journals once a minute; a session settled more recently than this may wait for its evidence."""
UNDERCHARGE_SLACK_MS: Final = 5_000
"""Media time that may stay unbilled: when a worker died, its journal may come after the settlement."""


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One thing that is proved. Both queries may use what ``COMMON`` defines."""

    name: str
    proves: str
    examined: str
    """Counts what was looked at."""
    wrong: str
    """The rows that disagree."""


COMMON: Final = """
with history as (
  select id, sum(amount) as amount_minor from (
    select debit_account_id as id, -amount_minor as amount from transfer
    union all select credit_account_id, amount_minor from transfer
    union all select client_account_id, -amount_minor from session_charge
    union all select provider_account_id, amount_minor - fee_minor from session_charge
    union all select platform_account_id, fee_minor from session_charge
  ) movement group by id
), priced as (
  select m.*, div(minor_per_minute::numeric * billed_through_ms, 60000) as cost_minor,
    div(minor_per_minute::numeric * granted_ms, 60000) as grant_minor,
    div(m.posted_minor::numeric * provider_bps, 10000) as share_minor
  from session_meter m
), charged as (
  select tenant_id, session_id, sum(amount_minor) as amount_minor, sum(amount_minor - fee_minor) as provider_minor,
    max(through_ms) as through_ms,
    array_agg(distinct array[client_account_id, provider_account_id, platform_account_id]) as parties
  from session_charge group by tenant_id, session_id
), seen as (
  select p.*, coalesce(e.live_ms, 0) as evidence_ms,
    p.settled_at > now() - interval '$grace seconds' as recent,
    least(coalesce(e.live_ms, 0), p.granted_ms) - p.billed_through_ms as unbilled_ms, $slack as slack_ms
  from priced p left join (
    select tenant_id, session_id, sum(live_ms) as live_ms from (
      select tenant_id, session_id, epoch, max(live_ms) as live_ms from media_evidence group by 1, 2, 3
    ) epochs group by 1, 2
  ) e using (tenant_id, session_id)
  where p.state = 'settled'
)
""".replace("$grace", str(EVIDENCE_GRACE_S)).replace("$slack", str(UNDERCHARGE_SLACK_MS))

CHECKS: Final = (
    Check(
        "sums",
        "all accounts of a currency sum to zero",
        "select count(distinct (tenant_id, currency)) from account",
        "select tenant_id, currency, sum(posted_minor) as sum_minor from account"
        " group by 1, 2 having sum(posted_minor) <> 0",
    ),
    Check(
        "balances",
        "every balance equals its history",
        "select count(*) from account",
        "select id as account_id, a.kind, a.user_id, a.posted_minor, coalesce(h.amount_minor, 0) as history_minor"
        " from account a full join history h using (id)"
        " where a.posted_minor is distinct from coalesce(h.amount_minor, 0)",
    ),
    Check(
        "solvency",
        "no wallet is below zero, and none has more held than it has",
        "select count(*) from account where not overdraft",
        "select id as account_id, kind, user_id, posted_minor, held_minor from account"
        " where held_minor < 0 or (not overdraft and posted_minor - held_minor < 0)",
    ),
    Check(
        "currencies",
        "money stays in its currency and its tenant",
        "select (select count(*) from transfer) + (select count(*) from session_meter)",
        "select x.* from ("
        " select 'transfer' as what, id, tenant_id, currency, unnest(array[debit_account_id, credit_account_id])"
        "  as account_id from transfer"
        " union all select 'session', session_id, tenant_id, currency,"
        "  unnest(array[client_account_id, provider_account_id, platform_account_id]) from session_meter) x"
        " left join account a on a.id = x.account_id and a.tenant_id = x.tenant_id"
        " where a.currency is distinct from x.currency",
    ),
    Check(
        "holds",
        "what is held on a wallet is what its open sessions hold",
        "select count(*) from session_meter where state = 'open'",
        "select a.id as account_id, a.user_id, a.held_minor, coalesce(m.held_minor, 0) as sessions_hold_minor"
        " from account a left join (select client_account_id, sum(held_minor) as held_minor from session_meter"
        " group by 1) m on m.client_account_id = a.id where a.held_minor <> coalesce(m.held_minor, 0)",
    ),
    Check(
        "grants",
        "every open session holds the cost of its grant, no more and no less; a settled one holds nothing",
        "select count(*) from session_meter",
        "select session_id, state, granted_ms, grant_minor, posted_minor, held_minor from priced"
        " where held_minor <> case when state = 'open' then grant_minor - posted_minor else 0 end",
    ),
    Check(
        "charges",
        "every charge is the cost of the time billed at the session's rate, and within its grant",
        "select count(*) from session_meter",
        "select session_id, minor_per_minute, billed_through_ms, granted_ms, posted_minor, cost_minor from priced"
        " where posted_minor <> cost_minor or billed_through_ms > granted_ms",
    ),
    Check(
        "postings",
        "what was posted for a session is what its meter says, between its own accounts",
        "select count(*) from session_charge",
        "select session_id, m.posted_minor, c.amount_minor as charged_minor, m.billed_through_ms, c.through_ms"
        " from session_meter m full join charged c using (tenant_id, session_id)"
        " where coalesce(m.posted_minor, -1) <> coalesce(c.amount_minor, 0) or c.through_ms > m.billed_through_ms"
        " or c.parties <> array[array[m.client_account_id, m.provider_account_id, m.platform_account_id]]",
    ),
    Check(
        "splits",
        "provider's and platform's parts make up the charge, by the agreed share",
        "select count(*) from session_meter",
        "select session_id, provider_bps, posted_minor, share_minor, posted_provider_minor,"
        " coalesce(c.provider_minor, 0) as paid_minor from priced p left join charged c using (tenant_id, session_id)"
        " where posted_provider_minor <> share_minor or posted_provider_minor <> coalesce(c.provider_minor, 0)",
    ),
    Check(
        "rates",
        "every session's rate is one that its provider had set before",
        "select count(*) from session_meter",
        "select m.session_id, a.user_id as provider_id, m.kind, m.minor_per_minute, m.currency, m.provider_bps"
        " from session_meter m left join account a on a.tenant_id = m.tenant_id and a.id = m.provider_account_id"
        " where not exists (select from tariff t where t.tenant_id = m.tenant_id and t.provider_id = a.user_id"
        "  and t.kind = m.kind and t.minor_per_minute = m.minor_per_minute and t.currency = m.currency"
        "  and t.provider_bps = m.provider_bps and t.valid_from <= m.opened_at)",
    ),
    Check(
        "evidence",
        "every settled session is billed for what the workers' journals show: no more, and no less within its grant",
        "select count(*) from session_meter where state = 'settled'",
        "select session_id, billed_through_ms, evidence_ms, granted_ms, settled_at from seen"
        " where (billed_through_ms > evidence_ms and not recent) or unbilled_ms > slack_ms",
    ),
)

WAITING: Final = "select count(*) from seen where billed_through_ms > evidence_ms and recent"
"""Sessions whose evidence may still be on its way."""
