"""Ten thousand paid sessions on an embedded PostgreSQL, made in bulk, for ``bench.billing``."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from billing import meter_store
from billing.meter_store import CHUNK_MAX, lane_of
from billing.service import Billing
from billing.terms import TickInput
from config.clock import VirtualClock
from config.database import Database
from config.embedded_postgres import EmbeddedPostgres
from config.ids import DEFAULT_TENANT, SHARDS, SessionId, UserId
from config.migrate import migrate
from config.settings import Settings

MONEY_MINOR: Final = 10_000_000
PRESETS: Final = (("per second", 1), ("every 5 s", 5_000), ("started minutes", 60_000))
LOG_FILES: Final = 32
"""What ``max_wal_size`` comes to."""
SHARED_EVERY: Final = 10
"""One session in so many is paid from the wallet of the one before it, and one earns for the provider before it."""

# Rates from 0.99 to 5.99 a minute, in the steps of the presets.
_PEOPLE: Final = """
insert into app_user (id, tenant_id, public_id, email, name, role, password_hash, currency)
overriding system value
select base + n, 1, 'usr_' || lpad((base + n)::text, 20, '0'), role || n || '@bench', role, role, '', 'USD'
from generate_series(1, $1::int) n, (values (1000000, 'client'), (2000000, 'provider')) r (base, role)
"""
_ACCOUNTS: Final = """
insert into account (tenant_id, kind, user_id, currency, overdraft)
select 1, case role when 'client' then 'client_wallet' else 'provider_earnings' end, id, 'USD', false
from app_user where id > 1000000
"""
_TARIFFS: Final = """
insert into tariff (tenant_id, provider_id, kind, minor_per_minute, step_ms, currency, provider_bps)
select 1, 2000000 + n, 'video', rate, step, 'USD', 7000
from unnest($1::int[], $2::bigint[], $3::bigint[]) u (n, rate, step)
"""
_MONEY: Final = """
select count(post_transfer(1, 'trf_bench' || a.id, 'topup', c.id, a.id, $1, 'USD', 'opening:' || a.id, 'Opening'))
from account a, account c where a.kind = 'client_wallet' and c.kind = 'payment_clearing' and c.currency = 'USD'
"""
_METERS: Final = """
select count(open_meter(1, s.n, 'ses_' || lpad(s.n::text, 20, '0'), (s.n % $4)::smallint, c.id, p.id, h.id, t.id))
from unnest($1::int[], $2::bigint[], $3::bigint[]) s (n, client, provider)
join account c on c.user_id = s.client join account p on p.user_id = s.provider
join account h on h.kind = 'platform_revenue' and h.currency = 'USD' and h.lane = $5
join tariff t on t.provider_id = s.provider
where c.id = any ($6)
"""


@dataclass
class Town:
    """The sessions, and the means to bill them."""

    postgres: EmbeddedPostgres
    owner: Any
    """A connection as the owner of the tables."""
    billing: Billing
    database: Database
    clock: VirtualClock
    sessions: list[SessionId]
    clients: list[UserId]


@contextlib.asynccontextmanager
async def town(sessions: int, seed: int) -> AsyncIterator[Town]:
    """A fresh server with open sessions, each with its first grant; durable from the moment that this yields."""
    with tempfile.TemporaryDirectory(prefix="tp-billing-") as folder:
        async with EmbeddedPostgres(Path(folder)) as postgres:
            await migrate(postgres.owner_url)
            owner = await asyncpg.connect(postgres.owner_url, server_settings={"turnpike.tenant": "*"})
            settings = Settings(data=Path(folder), database_url=postgres.app_url)
            try:
                clients = await _populate(postgres, owner, sessions, seed, settings)
                async with await Database.open(postgres.app_url, name="bench") as database:
                    clock = VirtualClock()
                    ids = [SessionId(n) for n in range(1, sessions + 1)]
                    yield Town(postgres, owner, Billing(database, clock, settings), database, clock, ids, clients)
            finally:
                await owner.close()


async def _populate(
    postgres: EmbeddedPostgres, owner: Any, sessions: int, seed: int, settings: Settings
) -> list[UserId]:
    """People, money, meters, first grants: in bulk, and not durable while it lasts."""
    chance = random.Random(seed)
    admin = await asyncpg.connect(postgres.url("postgres", "postgres"))
    await owner.execute("set synchronous_commit = off")
    async with await Database.open(postgres.app_url, name="bench-setup") as database:
        await Billing(database, VirtualClock(), settings).open_wallets(DEFAULT_TENANT, UserId(1), "client", "USD")
        await owner.execute(_PEOPLE, sessions)
        await owner.execute(_ACCOUNTS)
        numbers = list(range(1, sessions + 1))
        rates = [chance.randint(99, 599) for _ in numbers]
        await owner.execute(_TARIFFS, numbers, rates, [PRESETS[n % len(PRESETS)][1] for n in numbers])
        await owner.execute("analyze")  # else what follows is planned for empty tables
        await owner.execute(_MONEY, MONEY_MINOR)
        clients = [1_000_000 + (n - 1 if n % SHARED_EVERY == 0 else n) for n in numbers]
        providers = [2_000_000 + (n - 1 if n % SHARED_EVERY == 5 else n) for n in numbers]
        wallets = [row["id"] for row in await owner.fetch("select id from account where kind = 'client_wallet'")]
        for lane in range(2):
            mine = [wallet for wallet in wallets if lane_of(wallet) == lane]
            await owner.execute(_METERS, numbers, clients, providers, SHARDS, lane, mine)
        for start in range(0, sessions, CHUNK_MAX):
            first = [TickInput(SessionId(n), 0, 0, 0, None) for n in numbers[start : start + CHUNK_MAX]]
            await meter_store.tick(database, first, 0, settings.grant_ms)
    # A server that has run for a while uses its log files again; a fresh one stops for each that it makes.
    for _ in range(LOG_FILES):
        await admin.execute("select pg_logical_emit_message(false, 'bench', 'next file'), pg_switch_wal()")
    await admin.execute("checkpoint")
    await admin.close()
    await owner.execute("vacuum analyze")
    return [UserId(client) for client in dict.fromkeys(clients)]
