"""What billing counts, for Prometheus."""

from __future__ import annotations

from typing import Final

from config.metrics import counter, gauge, histogram

TICK_SECONDS: Final = histogram("turnpike_billing_tick_seconds", "Duration of a meter's tick, over all its chunks")
SESSIONS: Final = gauge("turnpike_billing_sessions", "Sessions that this process meters")
POSTED: Final = counter("turnpike_billing_posted_minor_total", "Minor units charged to clients", ["currency"])
TOPPED_UP: Final = counter("turnpike_billing_topped_up_minor_total", "Minor units credited by top-ups", ["currency"])
REFUSALS: Final = counter("turnpike_billing_refusals_total", "Requests that billing refused", ["code"])
UNAVAILABLE: Final = counter("turnpike_billing_ledger_unavailable_total", "Ticks that could not reach PostgreSQL")
FENCED: Final = counter(
    "turnpike_billing_fenced_total", "Sessions refused in a tick because another process leads them"
)
TURNED_AWAY: Final = counter("turnpike_billing_turned_away_total", "Media events of sessions beyond what is metered")
OVER_GRANT: Final = counter(
    "turnpike_billing_over_grant_seconds_total", "Media time that evidence shows beyond its grant; never charged"
)
RECONCILE_OK: Final = gauge("turnpike_billing_reconcile_ok", "1 when the newest proof of the books found nothing wrong")
DISAGREEMENTS: Final = gauge("turnpike_billing_reconcile_disagreements", "Rows that disagreed in the newest proof")
RECONCILED_AT: Final = gauge("turnpike_billing_reconciled_timestamp_seconds", "When the books were last proved")
ALERTS: Final = counter("turnpike_billing_alerts_total", "Accounts told of as conspicuous")
CHARGED: Final = counter("turnpike_billing_charged_minor_total", "Minor units of one-off charges", ["kind", "currency"])
REVERSED: Final = counter("turnpike_billing_reversed_minor_total", "Minor units given back", ["currency"])
