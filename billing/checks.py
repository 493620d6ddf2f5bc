"""What reconciliation proves: a table of checks in SQL, with arithmetic of their own, not the tick's functions."""

from __future__ import annotations

import dataclasses
from typing import Final

EVIDENCE_GRACE_S: Final = 600
"""A session settled more recently than this may wait for its evidence: journals come within seconds, but for kills."""
UNDERCHARGE_SLACK_MS: Final = 5_000
"""Media time that may stay unbilled: when a worker died, its journal may come after the settlement."""
UNPROVEN_MS: Final = 2_000
"""Media time of an epoch that no worker has ended in its journal: told to the meter, killed before it was written."""


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One thing that is proved. Both queries may use what ``COMMON`` defines."""

    name: str
    proves: str
    examined: str
    """Counts what was looked at."""
    wrong: str
    """The rows that disagree."""


COMMON: Final = (
    """
with history as (
  select id, sum(amount) as amount_minor from (
    select debit_account_id as id, -amount_minor as amount from transfer
    union all select credit_account_id, amount_minor from transfer
    union all select client_account_id, -amount_minor from session_charge
    union all select provider_account_id, amount_minor - fee_minor from session_charge
    union all select platform_account_id, fee_minor from session_charge
    union all select account_id, amount_minor from archived_movement
  ) movement group by id
), term as (
  -- A session's terms with how long they lasted, billed and granted. What is carried over to the unit belongs together.
  select s.*, t.kind as tariff_kind, t.minor_per_minute, t.step_ms, t.flat_minor, t.included_ms, t.minimum_minor,
    t.provider_bps, (coalesce(lead(s.from_ms) over session, m.billed_through_ms) - s.from_ms)::numeric as live_ms,
    case when s.revision = m.revision then (m.granted_ms - s.from_ms)::numeric end as grant_ms,
    count(*) filter (where s.revision = 1 or not s.carried) over session as run
  from session_terms s join tariff t on t.tenant_id = s.tenant_id and t.id = s.tariff_id
  join session_meter m on m.tenant_id = s.tenant_id and m.session_id = s.session_id
  window session as (partition by s.tenant_id, s.session_id order by s.revision)
), used as (
  select *, greatest(0, live_ms - free_ms - included_ms) as over_ms,
    ceil(greatest(0, live_ms - free_ms - included_ms) / step_ms) * step_ms as steps_ms,
    least(paid_ms, greatest(0, live_ms - (free_ms - prepaid_ms - paid_ms))) as used_ahead_ms,
    ceil(greatest(0, grant_ms - free_ms - included_ms) / step_ms) * step_ms as grant_steps_ms
  from term
), worth as (
  -- What was used is worth its time at its own rate; what is paid ahead of a step is worth that until it is used.
  select *, coalesce(sum(minor_per_minute * (used_ahead_ms + over_ms)) over (
      partition by tenant_id, session_id, run order by revision rows between unbounded preceding and 1 preceding), 0)
      as worth_before,
    case when run = 1 then first_value(minimum_minor) over (partition by tenant_id, session_id, run order by revision)
      else 0 end as least_minor,
    case when over_ms > 0 then steps_ms - over_ms else paid_ms - used_ahead_ms end as ahead_ms
  from used
), reached as (
  select *,
    case when live_ms <= free_ms then 0 else greatest(least_minor,
      flat_minor + div(worth_before + minor_per_minute * (paid_ms + steps_ms), 60000)) end as cost_minor,
    case when grant_ms is null or grant_ms <= free_ms then 0 else greatest(least_minor,
      flat_minor + div(worth_before + minor_per_minute * (paid_ms + grant_steps_ms), 60000)) end as held_minor
  from worth
), stretch_cost as (
  select *, max(cost_minor) over so_far
      - coalesce(max(cost_minor) over (so_far rows between unbounded preceding and 1 preceding), 0) as amount_minor
  from reached window so_far as (partition by tenant_id, session_id, run order by revision)
), run_cost as (
  select tenant_id, session_id, max(cost_minor) as cost, greatest(max(cost_minor), max(held_minor)) as held,
    div(sum(amount_minor * provider_bps), 10000) as share from stretch_cost group by tenant_id, session_id, run
), priced as (
  select m.*, c.cost_minor, c.grant_minor, c.share_minor
  from session_meter m left join (
    select tenant_id, session_id, sum(cost) as cost_minor, sum(held) as grant_minor, sum(share) as share_minor
    from run_cost group by 1, 2
  ) c using (tenant_id, session_id)
), charged as (
  select tenant_id, session_id, sum(amount_minor) as amount_minor, sum(provider_minor) as provider_minor,
    sum(promo_minor) as promo_minor, max(through_ms) as through_ms,
    array_agg(distinct parties) as parties
  from (
    select tenant_id, session_id, amount_minor, amount_minor - fee_minor as provider_minor, promo_minor, through_ms,
      array[client_account_id, provider_account_id, platform_account_id] as parties from session_charge
    union all select tenant_id, session_id, amount_minor, provider_minor, promo_minor, through_ms, parties
      from archived_charge
  ) posting group by tenant_id, session_id
), seen as (
  select p.*, coalesce(e.live_ms, 0) as evidence_ms,
    p.settled_at > now() - interval '$grace seconds' as recent,
    least(coalesce(e.live_ms, 0), p.granted_ms) - p.billed_through_ms as unbilled_ms, $slack as slack_ms,
    coalesce(e.unproven_ms, 0) as unproven_ms
  from priced p left join (
    -- A worker that was killed had told the meter up to a second more than it had written down.
    select tenant_id, session_id, sum(live_ms) as live_ms,
      count(*) filter (where not final) * $unproven as unproven_ms from (
      select tenant_id, session_id, epoch, max(live_ms) as live_ms, bool_or(final) as final
      from media_evidence group by 1, 2, 3
    ) epochs group by 1, 2
  ) e using (tenant_id, session_id)
  where p.state = 'settled'
)
""".replace("$grace", str(EVIDENCE_GRACE_S))
    .replace("$slack", str(UNDERCHARGE_SLACK_MS))
    .replace("$unproven", str(UNPROVEN_MS))
)

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
        " where held_minor is distinct from case when state = 'open' then grant_minor - posted_minor else 0 end",
    ),
    Check(
        "charges",
        "every charge is the cost of the time billed at the session's terms, stretch by stretch, and within its grant",
        "select count(*) from session_meter",
        "select session_id, minor_per_minute, billed_through_ms, granted_ms, posted_minor, cost_minor from priced"
        " where posted_minor is distinct from cost_minor or billed_through_ms > granted_ms",
    ),
    Check(
        "carried",
        "a change of kind carries over what was paid for and not used, for as much time as that buys at the new rate,"
        " and of the free first time what is left",
        "select count(*) from session_terms where revision > 1",
        "select session_id, revision, paid_ms, ahead_minor, first_ms, first_left_ms from ("
        " select *, free_ms - prepaid_ms - paid_ms as first_ms, lag(minor_per_minute * ahead_ms) over so_far"
        "  as ahead_minor, lag(greatest(0, free_ms - prepaid_ms - paid_ms - live_ms)) over so_far as first_left_ms"
        " from worth window so_far as (partition by tenant_id, session_id order by revision)) w"
        " where paid_ms is distinct from case when revision = 1 or not carried then 0"
        "  else least(div(ahead_minor, nullif(minor_per_minute, 0)), 5000000000) end"
        " or first_ms is distinct from coalesce(first_left_ms, first_ms)",
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
        "every session's terms are those of a tariff that its provider had set before",
        "select count(*) from session_terms",
        "select m.session_id, a.user_id as provider_id, m.kind, m.minor_per_minute, m.currency, m.provider_bps"
        " from session_meter m left join account a on a.tenant_id = m.tenant_id and a.id = m.provider_account_id"
        " left join session_terms s on s.tenant_id = m.tenant_id and s.session_id = m.session_id"
        "  and s.revision = m.revision"
        " left join tariff t on t.tenant_id = m.tenant_id and t.id = s.tariff_id and t.provider_id = a.user_id"
        "  and t.valid_from <= s.at"
        " where (m.tariff_id, m.kind, m.minor_per_minute, m.currency, m.provider_bps, m.step_ms, m.flat_minor,"
        "  m.included_ms, m.free_ms, m.prepaid_ms) is distinct from (t.id, t.kind, t.minor_per_minute, t.currency,"
        "  t.provider_bps, t.step_ms, t.flat_minor, t.included_ms, s.free_ms, s.prepaid_ms)"
        "  or s.free_ms - s.prepaid_ms not between 0 and t.free_ms and s.revision = 1",
    ),
    Check(
        "promo",
        "promotional credit in wallets is what was given less what was spent; sessions' parts are their postings'",
        "select count(*) from account where kind = 'client_wallet'",
        "select a.id as account_id, null::bigint as session_id, a.promo_minor,"
        " coalesce(h.promo_minor, 0) as history_minor"
        " from account a left join (select id, sum(promo) as promo_minor from ("
        "  select debit_account_id as id, -promo_minor as promo from transfer"
        "  union all select credit_account_id, promo_minor from transfer"
        "  union all select client_account_id, -promo_minor from session_charge"
        "  union all select account_id, promo_minor from archived_movement) x group by id) h on h.id = a.id"
        " where a.kind = 'client_wallet' and a.promo_minor <> coalesce(h.promo_minor, 0)"
        " union all select null, session_id, m.posted_promo_minor, coalesce(c.promo_minor, 0)"
        " from session_meter m left join charged c using (tenant_id, session_id)"
        " where m.posted_promo_minor <> coalesce(c.promo_minor, 0)",
    ),
    Check(
        "packages",
        "package time is used, held or left; its price is owed or paid on, in proportion to the time used",
        "select count(*) from client_package",
        "select id as package_id, total_ms, used_ms, p.reserved_ms, recognised_minor, s.used as sessions_used_ms"
        " from client_package p left join (select tenant_id, package_id, sum(coalesce(used_ms, 0)) as used,"
        "  sum(case when used_ms is null then reserved_ms else 0 end) as held, sum(coalesce(value_minor, 0)) as value"
        "  from session_package group by 1, 2) s on s.tenant_id = p.tenant_id and s.package_id = p.id"
        " where p.used_ms <> coalesce(s.used, 0) or p.reserved_ms <> coalesce(s.held, 0)"
        "  or coalesce(s.value, 0) <> div(price_minor::numeric * p.used_ms, total_ms)"
        "  or p.refunded_minor <> coalesce((select sum(r.amount_minor) from reversal r"
        "   where r.tenant_id = p.tenant_id and r.charge_id = p.charge_id), 0)"
        "  or coalesce(s.value, 0) + p.refunded_minor > price_minor"
        "  or recognised_minor <> case when closed_at is null then coalesce(s.value, 0) else price_minor end"
        " union all select s.package_id, null, null, s.reserved_ms, null, s.taken_ms from session_package s"
        "  join session_meter m using (tenant_id, session_id)"
        "  where s.used_ms is null and m.state = 'settled' or s.used_ms <> s.taken_ms and s.taken_ms > 0"
        " union all select null, null, null, null, m.after_prepaid_ms, sum(s.taken_ms) from session_meter m"
        "  join session_package s using (tenant_id, session_id) where m.state = 'open'"
        "  group by m.tenant_id, m.session_id, m.after_prepaid_ms having sum(s.taken_ms) <> m.after_prepaid_ms"
        " union all select null, null, null, null, a.posted_minor, coalesce(o.owed, 0) from account a left join ("
        "  select tenant_id, currency, sum(price_minor - recognised_minor) as owed from client_package group by 1, 2) o"
        "  on o.tenant_id = a.tenant_id and o.currency = a.currency"
        " where a.kind = 'package_liability' and a.posted_minor <> coalesce(o.owed, 0)",
    ),
    Check(
        "receivables",
        "what providers owe is what refunds took beyond what they had, less what they have paid off since",
        "select count(*) from account where kind = 'receivable'",
        "select o.id as account_id, o.user_id, o.posted_minor, coalesce(m.moved, 0) as history_minor from account o"
        " left join (select id, sum(moved) as moved from ("
        "  select debit_account_id as id, -amount_minor as moved from transfer where kind = 'reversal'"
        "  union all select credit_account_id, amount_minor from transfer where kind = 'recovery') x group by id) m"
        " on m.id = o.id where o.kind = 'receivable'"
        " and (o.posted_minor <> coalesce(m.moved, 0) or o.posted_minor > 0)",
    ),
    Check(
        "one_off",
        "every one-off charge was posted once, to its parts; no reversal gives back more than there was",
        "select (select count(*) from charge) + (select count(*) from reversal)",
        "select c.public_id, c.amount_minor, c.promo_minor, x.amount_minor as posted_minor from charge c left join ("
        "  select tenant_id, source_id, sum(amount_minor) as amount_minor, sum(promo_minor) as promo_minor"
        "  from transfer where kind = 'charge' group by 1, 2) x"
        "  on x.tenant_id = c.tenant_id and x.source_id = c.public_id"
        " where (c.amount_minor, c.promo_minor) is distinct from (x.amount_minor, x.promo_minor)"
        "  or c.provider_minor <> div(c.amount_minor::numeric * c.provider_bps, 10000)"
        " union all select r.public_id, r.amount_minor, r.promo_minor, x.amount_minor from reversal r left join ("
        "  select tenant_id, source_id, sum(amount_minor) as amount_minor, sum(promo_minor) as promo_minor"
        "  from transfer where kind = 'reversal' group by 1, 2) x"
        "  on x.tenant_id = r.tenant_id and x.source_id = r.public_id"
        " where (r.amount_minor, r.promo_minor) is distinct from (x.amount_minor, x.promo_minor)"
        " union all select m.session_public_id, m.posted_minor, m.posted_promo_minor, sum(r.amount_minor)"
        " from reversal r join session_meter m using (tenant_id, session_id) group by 1, 2, 3"
        " having sum(r.amount_minor) > m.posted_minor or sum(r.promo_minor) > m.posted_promo_minor"
        " union all select c.public_id, c.amount_minor, c.promo_minor, sum(r.amount_minor)"
        " from reversal r join charge c on c.tenant_id = r.tenant_id and c.id = r.charge_id group by 1, 2, 3"
        " having sum(r.amount_minor) > c.amount_minor or sum(r.promo_minor) > c.promo_minor",
    ),
    Check(
        "evidence",
        "every settled session is billed for what the workers' journals show: no more, and no less within its grant",
        "select count(*) from session_meter where state = 'settled'",
        "select session_id, billed_through_ms, evidence_ms, granted_ms, settled_at from seen"
        " where (billed_through_ms > evidence_ms + unproven_ms and not recent) or unbilled_ms > slack_ms",
    ),
)

WAITING: Final = "select count(*) from seen where billed_through_ms > evidence_ms + unproven_ms and recent"
"""Sessions whose evidence may still be on its way."""
