"""What is done for the books without anybody asking: the nightly proof, alerts, expired packages, partitions ahead.

The leaseholder of shard 0 does it, so that one process at a time does; what was done is in the database, so that the
next leaseholder goes on from there. Every process shows the newest proof as metrics.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from typing import Any, Final

from billing import alerts, metrics, reconcile, recovery
from billing.meter_store import SLOT_MS
from billing.store import ledger
from billing.terms import LedgerUnavailable
from config.clock import Clock
from config.database import ALL_TENANTS, Database
from config.logs import get_log

NIGHT_HOUR: Final = 3
"""The proof runs at the first look after this hour, UTC."""
CHORES_EVERY_S: Final = 3_600
SLOTS_A_WEEK: Final = 120_960
LOOK_EVERY_S: Final = 60.0
"""How often to call ``run``."""

log = get_log("billing.nightly")


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """One proof of the books."""

    at: datetime.datetime
    disagreements: int
    waiting_for_evidence: int
    findings: list[dict[str, Any]]


class Nightly:
    """Looks after the books. Call ``run`` every ``LOOK_EVERY_S``."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._next_chores_ms = 0

    async def run(self, leases: dict[int, int]) -> None:
        """Do what is due, if shard 0 is among the leases, and show the newest proof. Raises ``LedgerUnavailable``."""
        newest_run = await newest(self._database)
        if 0 in leases:
            if _is_due(newest_run, self._clock.wall_ms()):
                newest_run = await prove(self._database)
            if self._clock.wall_ms() >= self._next_chores_ms:
                await self._chores()
                self._next_chores_ms = self._clock.wall_ms() + CHORES_EVERY_S * 1000
        if newest_run is not None:
            metrics.RECONCILE_OK.set(newest_run.disagreements == 0)
            metrics.DISAGREEMENTS.set(newest_run.disagreements)
            metrics.RECONCILED_AT.set(newest_run.at.timestamp())

    async def _chores(self) -> None:
        """Each by itself: one that fails is logged, and stops none of the others. Raises ``LedgerUnavailable``."""
        for chore in (self._make_partitions, self._raise_alerts, self._recover, self._close_packages):
            try:
                await chore()
            except LedgerUnavailable:
                raise
            except Exception:  # noqa: BLE001 - a task's boundary: logged here once, the next hour tries again
                log.fault("chore failed", chore=chore.__name__.strip("_"))

    async def _make_partitions(self) -> None:
        """First: postings of a week without a partition stay where no archive finds them."""
        slot = self._clock.wall_ms() // SLOT_MS
        async with ledger(self._database, ALL_TENANTS) as connection:
            for ahead in range(2):
                await connection.execute("select ensure_charge_partition($1)", slot + ahead * SLOTS_A_WEEK)

    async def _raise_alerts(self) -> None:
        new_alerts = await alerts.look(self._database)
        if new_alerts:
            metrics.ALERTS.inc(new_alerts)
            log.warning("conspicuous accounts", alerts=new_alerts)

    async def _recover(self) -> None:
        await recovery.of_everybody(self._database)

    async def _close_packages(self) -> None:
        async with ledger(self._database, ALL_TENANTS) as connection:
            tenants = [row["id"] for row in await connection.fetch("select id from tenant order by id")]
        for tenant in tenants:
            async with ledger(self._database, tenant) as connection:
                closed = await connection.fetchval("select close_packages($1)", tenant)
            if closed:
                log.info("packages closed", tenant_id=tenant, packages=closed)


def _is_due(run: Run | None, wall_ms: int) -> bool:
    """Whether there was no proof since the newest ``NIGHT_HOUR``. (One from the future: a clock was set back.)"""
    now = datetime.datetime.fromtimestamp(wall_ms / 1000, datetime.UTC)
    night = now.replace(hour=NIGHT_HOUR, minute=0, second=0, microsecond=0)
    if now < night:
        night -= datetime.timedelta(days=1)
    return run is None or run.at < night or run.at > now + datetime.timedelta(days=1)


async def prove(database: Database) -> Run:
    """Prove the books now and keep what was found."""
    findings = await reconcile.examine(database)
    waiting = await reconcile.waiting_for_evidence(database)
    disagreements = sum(finding.disagreeing for finding in findings)
    for finding in findings:
        if finding.disagreeing:
            log.error("the books disagree", check=finding.name, rows=finding.disagreeing, shown=finding.rows[:5])
    report = json.dumps([dataclasses.asdict(finding) for finding in findings], default=str)
    async with ledger(database, ALL_TENANTS) as connection:
        at = await connection.fetchval(
            "insert into reconcile_run (disagreements, waiting_for_evidence, findings) values ($1, $2, $3)"
            " returning at",
            *(disagreements, waiting, report),
        )
    log.info("books proved", disagreements=disagreements, waiting_for_evidence=waiting)
    return Run(at, disagreements, waiting, json.loads(report))


async def newest(database: Database) -> Run | None:
    """The newest proof; None: there was none yet."""
    async with ledger(database, ALL_TENANTS) as connection:
        row = await connection.fetchrow("select * from reconcile_run order by id desc limit 1")
    if row is None:
        return None
    return Run(row["at"], row["disagreements"], row["waiting_for_evidence"], json.loads(row["findings"]))
