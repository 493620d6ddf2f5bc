"""What money moved in one session, and when: for the session's time line and for whoever explains a bill."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from billing.postings import FROM_POSTINGS
from billing.store import ledger
from billing.terms import Rate
from config.database import Database
from config.ids import SessionId, TenantId

MOVES_MAX: Final = 2_000
"""Movements of one session that are told, the oldest ones."""


@dataclasses.dataclass(frozen=True, slots=True)
class Movement:
    """One movement, or one step of the meter. Amounts are what the client paid (negative: got back)."""

    at_ms: int
    what: str
    """``posted`` and ``settled`` (time of the session), ``package_use``, ``reversal``, ``topup``, ``promo``, or the
    kind of a one-off charge."""
    public_id: str
    amount_minor: int
    provider_minor: int
    """The provider's part."""
    through_ms: int | None
    """Of ``posted`` and ``settled``: the live time that is paid for by then."""
    memo: str


@dataclasses.dataclass(frozen=True, slots=True)
class TermsFrom:
    """From when on what was charged."""

    at_ms: int
    from_ms: int
    """Live time before it."""
    rate: Rate


@dataclasses.dataclass(frozen=True, slots=True)
class MoneyStory:
    """A session's meter as it stands, with all that moved."""

    currency: str
    opened_at_ms: int
    settled_at_ms: int | None
    live_ms: int
    billed_ms: int
    granted_ms: int
    held_minor: int
    charged_minor: int
    provider_minor: int
    returned_minor: int
    """What was given back of the session itself."""
    terms: tuple[TermsFrom, ...]
    movements: tuple[Movement, ...]


async def read(database: Database, tenant: TenantId, session_id: SessionId) -> MoneyStory | None:
    """The money of a session; None: none was ever held for it."""
    async with ledger(database, tenant) as connection:
        meter = await connection.fetchrow(
            "select m.*, coalesce((select sum(r.amount_minor) from reversal r where r.tenant_id = m.tenant_id"
            "  and r.session_id = m.session_id), 0)::bigint as returned_minor,"
            " (extract(epoch from opened_at) * 1000)::bigint as opened_at_ms,"
            " (extract(epoch from settled_at) * 1000)::bigint as settled_at_ms from session_meter m"
            " where m.tenant_id = $1 and m.session_id = $2",
            *(tenant, session_id),
        )
        if meter is None:
            return None
        terms = await connection.fetch(_TERMS, tenant, session_id)
        moves = await connection.fetch(
            _MOVES, tenant, session_id, meter["session_public_id"], meter["client_account_id"], MOVES_MAX
        )
    return MoneyStory(
        currency=meter["currency"],
        opened_at_ms=meter["opened_at_ms"],
        settled_at_ms=meter["settled_at_ms"],
        live_ms=meter["live_ms"],
        billed_ms=meter["billed_through_ms"],
        granted_ms=meter["granted_ms"],
        held_minor=meter["held_minor"],
        charged_minor=meter["posted_minor"],
        provider_minor=meter["posted_provider_minor"],
        returned_minor=meter["returned_minor"],
        terms=tuple(_terms(row) for row in terms),
        movements=tuple(Movement(*row.values()) for row in moves),
    )


def _terms(row: Any) -> TermsFrom:
    return TermsFrom(
        row["at_ms"], row["from_ms"], Rate(row["kind"], row["minor_per_minute"], row["currency"], row["tariff_id"])
    )


_TERMS: Final = (
    "select (extract(epoch from s.at) * 1000)::bigint as at_ms, s.from_ms, s.kind, t.minor_per_minute, t.currency,"
    " s.tariff_id from session_terms s join tariff t on t.tenant_id = s.tenant_id and t.id = s.tariff_id"
    " where s.tenant_id = $1 and s.session_id = $2 order by s.revision"
)
_MOVES: Final = f"""
with meter as (
  select opened_at, coalesce(settled_at, now()) as until from session_meter where tenant_id = $1 and session_id = $2
)
select (extract(epoch from at) * 1000)::bigint as at_ms, what, public_id, amount, provider, through_ms, memo from (
  select c.created_at as at, case c.leg when 1 then 'settled' else 'posted' end as what, $3::text as public_id,
    c.amount_minor as amount, c.amount_minor - c.fee_minor as provider, c.through_ms, '' as memo
  from {FROM_POSTINGS}
  union all
  select created_at, kind, public_id, amount_minor, provider_minor, null, memo
  from charge where tenant_id = $1 and session_public_id = $3
  union all
  select r.created_at, 'reversal', r.public_id, -r.amount_minor, -r.provider_minor, null, r.reason
  from reversal r where r.tenant_id = $1 and (r.session_id = $2
    or r.charge_id in (select c.id from charge c where c.tenant_id = $1 and c.session_public_id = $3))
  union all
  select max(t.created_at), 'package_use', $3, 0, sum(case when p.kind = 'provider_earnings' then t.amount_minor else 0
    end)::bigint, null, max(t.memo) from transfer t join account p on p.tenant_id = t.tenant_id
    and p.id = t.credit_account_id where t.tenant_id = $1 and t.source_id = $3 and t.kind = 'package_use'
    having count(*) > 0
  union all
  select t.created_at, t.kind, t.public_id, -t.amount_minor, 0, null, t.memo
  from transfer t, meter where t.tenant_id = $1 and t.credit_account_id = $4 and t.kind in ('topup', 'promo')
    and t.created_at between meter.opened_at and meter.until
) moved order by at, what limit $5
"""
