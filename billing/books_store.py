"""Signed checkpoints of all balances, and archives of old postings behind them.

A checkpoint says, under the installation's key, what every account held at one moment, proved in the same snapshot:
each balance equals its history and what is archived of it. An old week of session postings may then be written to a
file, and its partition replaced by its sums: every balance remains archives + history. Both need the role that owns
the tables: the application can do neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import dataclasses
import datetime
import gzip
import hashlib
import hmac
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import asyncpg

from billing.checks import COMMON
from config.settings import Settings

KEY: Final = "ledger-key"
SLOTS_A_WEEK: Final = 120_960
ARCHIVE_AFTER_WEEKS: Final = 13
"""A week's postings stay in the database for so many weeks after it."""
ARCHIVES_MAX: Final = 1_000


class BooksError(Exception):
    """The books cannot be signed or archived; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement of all balances."""

    id: int
    at: datetime.datetime
    accounts: int
    digest: str


@dataclasses.dataclass(frozen=True, slots=True)
class Archived:
    """A week of postings that lies in a file now."""

    from_slot: int
    rows: int
    file: Path
    sha256: str


@contextlib.asynccontextmanager
async def owner(settings: Settings) -> AsyncIterator[Any]:
    """A connection as the role that owns the tables, seeing all tenants."""
    url = settings.database_owner_url or settings.database_url
    connection = await asyncpg.connect(
        url, server_settings={"turnpike.tenant": "*", "application_name": "turnpike-books", "timezone": "UTC"}
    )
    try:
        yield connection
    finally:
        await connection.close()


_WRONG: Final = (
    COMMON + "select count(*) from account a full join history h using (id)"
    " where a.posted_minor is distinct from coalesce(h.amount_minor, 0)"
)


async def take_checkpoint(connection: Any, secret: bytes) -> Checkpoint:
    """Prove all balances against their history, and sign them. Raises ``BooksError`` when one does not agree."""
    async with connection.transaction(isolation="repeatable_read"):
        wrong = await connection.fetchval(_WRONG)
        if wrong:
            raise BooksError(f"{wrong} balances do not equal their history; see turnpike reconcile")
        return await _sign(connection, secret)


async def _sign(connection: Any, secret: bytes) -> Checkpoint:
    accounts = await connection.fetch("select tenant_id, id, posted_minor, held_minor, promo_minor from account")
    digest = _digest([tuple(row) for row in accounts], await _archives(connection, None))
    at = await connection.fetchval("select clock_timestamp()")
    number = await connection.fetchval(
        "insert into checkpoint (at, accounts, digest, signature) values ($1, $2, $3, $4) returning id",
        *(at, len(accounts), digest, _signature(secret, at, len(accounts), digest)),
    )
    await connection.executemany(
        "insert into checkpoint_balance values ($1, $2, $3, $4, $5, $6)", [(number, *row) for row in accounts]
    )
    return Checkpoint(number, at, len(accounts), digest)


async def _archives(connection: Any, before_checkpoint: int | None) -> list[str]:
    rows = await connection.fetch(
        "select from_slot, rows, sha256 from archive where $1::bigint is null or checkpoint_id < $1 order by from_slot",
        before_checkpoint,
    )
    return [f"archive {row['from_slot']} {row['rows']} {row['sha256']}" for row in rows]


def _digest(accounts: list[tuple[int, ...]], archives: list[str]) -> str:
    lines = [" ".join(str(value) for value in row) for row in sorted(accounts)] + archives
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _signature(secret: bytes, at: datetime.datetime, accounts: int, digest: str) -> str:
    text = f"turnpike checkpoint v1|{at.astimezone(datetime.UTC).isoformat()}|{accounts}|{digest}"
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


async def verify(connection: Any, secret: bytes) -> list[str]:
    """What is wrong with the checkpoints and archives, in words; empty: nothing."""
    wrong = []
    for row in await connection.fetch("select * from checkpoint order by id"):
        balances = await connection.fetch(
            "select tenant_id, account_id, posted_minor, held_minor, promo_minor from checkpoint_balance"
            " where checkpoint_id = $1",
            row["id"],
        )
        digest = _digest([tuple(balance) for balance in balances], await _archives(connection, row["id"]))
        if digest != row["digest"]:
            wrong.append(f"checkpoint {row['id']}: its balances are not those that were signed")
        signature = _signature(secret, row["at"], row["accounts"], row["digest"])
        if not hmac.compare_digest(signature, row["signature"]):
            wrong.append(f"checkpoint {row['id']}: the signature is not of this installation's key")
    for row in await connection.fetch("select * from archive order by from_slot limit $1", ARCHIVES_MAX):
        wrong += await _verify_archive(connection, row)
    return wrong


async def _verify_archive(connection: Any, row: Any) -> list[str]:
    stored = await connection.fetch(
        "select account_id, amount_minor, promo_minor from archived_movement where archive_id = $1 order by 1",
        row["id"],
    )
    return await asyncio.to_thread(_compare_archive, row, [tuple(one) for one in stored])


def _compare_archive(row: Any, stored: list[tuple[int, ...]]) -> list[str]:
    path = Path(row["file"])
    if not path.exists():
        return [f"archive {row['from_slot']}: {path} is not there; bring it back from its backup to verify it"]
    if _sha256(path) != row["sha256"]:
        return [f"archive {row['from_slot']}: {path} is not the file that was written"]
    if stored != _sums(path):
        return [f"archive {row['from_slot']}: the sums in the database are not those of {path}"]
    return []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sums(path: Path) -> list[tuple[int, int, int]]:
    sums: dict[int, list[int]] = {}
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            amount, fee, promo = int(row["amount_minor"]), int(row["fee_minor"]), int(row["promo_minor"])
            for account, moved, credit in (
                ("client_account_id", -amount, -promo),
                ("provider_account_id", amount - fee, 0),
                ("platform_account_id", fee, 0),
            ):
                entry = sums.setdefault(int(row[account]), [0, 0])
                entry[0] += moved
                entry[1] += credit
    return [(account, moved, credit) for account, (moved, credit) in sorted(sums.items())]


async def archive(connection: Any, secret: bytes, directory: Path, now_slot: int) -> list[Archived]:
    """Write every week that is old enough to a file under ``directory`` and replace its partition by its sums.

    Export, checkpoint and drop are one transaction, with the partition locked; a file left by one that failed is
    written anew. Raises ``BooksError``, and ``asyncpg.ObjectInUseError`` while a session of that time is open.
    """
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True, mode=0o700)
    latest = (now_slot // SLOTS_A_WEEK - ARCHIVE_AFTER_WEEKS) * SLOTS_A_WEEK
    done = []
    for name in await _partitions(connection):
        from_slot = int(name.rpartition("_")[2]) * SLOTS_A_WEEK
        if from_slot >= latest:
            continue
        async with connection.transaction():
            await connection.execute(f"lock table {name} in access exclusive mode")
            path = directory / f"{name}.csv.gz"
            rows = await _export(connection, name, path)
            if await connection.fetchval(_WRONG):
                raise BooksError("balances do not equal their history; see turnpike reconcile")
            checkpoint = await _sign(connection, secret)
            sha256 = _sha256(path)
            await connection.fetchval(
                "select drop_charge_partition($1, $2, $3, $4)", from_slot, checkpoint.id, str(path), sha256
            )
        done.append(Archived(from_slot, rows, path, sha256))
    return done


async def _partitions(connection: Any) -> list[str]:
    rows = await connection.fetch(
        "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'session_charge'::regclass and c.relname ~ '^session_charge_[0-9]+$' order by 1"
    )
    return [row["relname"] for row in rows]


async def _export(connection: Any, name: str, path: Path) -> int:
    """Write a partition to a compressed CSV that is on the disk when this returns; how many rows it has."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as raw:
        with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed:
            copied = await connection.copy_from_query(
                f"select * from {name} order by slot, session_id, leg", output=packed, format="csv", header=True
            )
        raw.flush()
        os.fsync(raw.fileno())
    partial.replace(path)
    return int(copied.rpartition(" ")[2])
