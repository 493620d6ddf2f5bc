"""People for loads: clients with money and providers with a tariff, put into an installation's database directly."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, NamedTuple

from billing.service import Billing
from config.clock import SystemClock
from config.database import Database
from config.identity import Principal, Role, Tokens
from config.ids import DEFAULT_TENANT, UserId, new_public_id
from config.settings import Settings
from signaling.assembly import TOKEN_SECRET

AT_ONCE: Final = 6
TOKEN_S: Final = 3600


class Means(NamedTuple):
    """What a pair has: the client's money, the provider's tariff."""

    money_minor: int
    minor_per_minute: int
    step_ms: int


async def make_pairs(settings: Settings, kind: str, means: list[Means]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """A client and a provider for each of ``means``: {id, token} of both. Their tariff is for ``kind``."""
    tokens = Tokens(settings.secret(TOKEN_SECRET), TOKEN_S)
    assert settings.database_url is not None
    slots = asyncio.Semaphore(AT_ONCE)
    async with await Database.open(settings.database_url, name="load") as database:
        billing = Billing(database, SystemClock(), settings)

        async def one(role: Role, number: int, has: Means) -> dict[str, Any]:
            async with slots:
                public_id = new_public_id("usr")
                name = f"{role} {number}"
                async with database.transaction(DEFAULT_TENANT) as connection:
                    user_id = await connection.fetchval(
                        "insert into app_user (tenant_id, public_id, email, name, role, password_hash, currency)"
                        " values ($1, $2, $3, $4, $5, '', 'USD') returning id",
                        *(DEFAULT_TENANT, public_id, f"{role}{number}@load.test", name, role),
                    )
                await billing.open_wallets(DEFAULT_TENANT, UserId(user_id), role, "USD")
                if role is Role.CLIENT:
                    await billing.top_up(DEFAULT_TENANT, UserId(user_id), has.money_minor, "opening", "Opening balance")
                else:
                    async with database.transaction(DEFAULT_TENANT) as connection:
                        await connection.execute(
                            "insert into tariff (tenant_id, provider_id, kind, minor_per_minute, step_ms, currency,"
                            " provider_bps) values ($1, $2, $3, $4, $5, 'USD', 7000)",
                            *(DEFAULT_TENANT, user_id, kind, has.minor_per_minute, has.step_ms),
                        )
            principal = Principal(DEFAULT_TENANT, UserId(user_id), public_id, role, name)
            return {"id": public_id, "token": tokens.issue(principal, int(time.time()))}

        made = (
            asyncio.gather(one(Role.CLIENT, number, has), one(Role.PROVIDER, number, has))
            for number, has in enumerate(means)
        )
        return [(client, provider) for client, provider in await asyncio.gather(*made)]
