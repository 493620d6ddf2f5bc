"""``turnpike reconcile``: prove the books, with queries that share nothing with the code that writes them.

Each check is one statement, so it sees one moment, and none keeps a snapshot for long: it may run beside live sessions.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any, Final

from billing.checks import CHECKS, COMMON, EVIDENCE_GRACE_S, WAITING, Check
from billing.store import ledger
from config.database import ALL_TENANTS, Database
from config.settings import Settings

ROWS_MAX: Final = 50
"""Disagreeing rows shown of each check; the count is of all."""
_NUMBERED: Final = "select *, count(*) over () as disagreeing from wrong limit $1"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    name: str
    proves: str
    examined: int
    disagreeing: int
    rows: list[dict[str, Any]]


async def examine(database: Database) -> list[Finding]:
    """Run all checks, over all tenants. Raises ``LedgerUnavailable`` when PostgreSQL cannot be reached."""
    findings = []
    for check in CHECKS:
        async with ledger(database, ALL_TENANTS) as connection:
            findings.append(await run_check(connection, check))
    return findings


async def run_check(connection: Any, check: Check) -> Finding:
    """Run one check."""
    examined = await connection.fetchval(COMMON + check.examined)
    counted = await connection.fetch(f"{COMMON}, wrong as ({check.wrong}) {_NUMBERED}", ROWS_MAX)
    rows = [{key: value for key, value in row.items() if key != "disagreeing"} for row in counted]
    disagreeing = counted[0]["disagreeing"] if counted else 0
    return Finding(check.name, check.proves, examined, disagreeing, rows)


async def waiting_for_evidence(database: Database) -> int:
    """Sessions settled so recently that their evidence may still be on its way: neither right nor wrong yet."""
    async with ledger(database, ALL_TENANTS) as connection:
        count: int = await connection.fetchval(COMMON + WAITING)
    return count


async def main(settings: Settings, *, as_json: bool = False) -> int:
    """Print what was proved and every row that disagrees; 1 when any does, 0 when the books are right."""
    if settings.database_url is None:
        sys.stderr.write("reconcile: no database; set DATABASE_URL, or run it beside turnpike serve\n")
        return 2
    async with await Database.open(settings.database_url, name="reconcile", max_size=2) as database:
        findings = await examine(database)
        waiting = await waiting_for_evidence(database)
    wrong = sum(finding.disagreeing for finding in findings)
    report = _as_json if as_json else _as_text
    sys.stdout.write(report(findings, waiting, wrong) + "\n")
    return 1 if wrong else 0


def _as_json(findings: list[Finding], waiting: int, wrong: int) -> str:
    checks = [dataclasses.asdict(finding) for finding in findings]
    return json.dumps(
        {"balanced": wrong == 0, "waiting_for_evidence": waiting, "checks": checks}, default=str, ensure_ascii=False
    )


def _as_text(findings: list[Finding], waiting: int, wrong: int) -> str:
    lines = []
    for finding in findings:
        word = "WRONG" if finding.disagreeing else "ok"
        lines.append(f"{word:<6}{finding.name:<12}{finding.examined:>9}  {finding.proves}")
        lines += ["      " + " ".join(f"{key}={value}" for key, value in row.items()) for row in finding.rows]
        if finding.disagreeing > len(finding.rows):
            lines.append(f"      … and {finding.disagreeing - len(finding.rows)} more")
    if waiting:
        lines.append(f"{waiting} sessions were settled within {EVIDENCE_GRACE_S // 60} min and wait for their evidence")
    lines.append(f"{wrong} rows disagree" if wrong else "the books are right")
    return "\n".join(lines)
