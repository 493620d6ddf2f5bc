"""A small town of clients and providers, and the commands that tests give them."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from billing.service import Billing
from billing.terms import Opened, Rate, SessionRef, Wallet
from config.clock import VirtualClock
from config.database import Database
from config.ids import DEFAULT_TENANT, PublicId, SessionId, UserId, new_public_id
from config.settings import Settings

TENANT = DEFAULT_TENANT
RATE = Rate("video", 199, "USD")


@dataclasses.dataclass
class Town:
    """Billing on a real database, with users and sessions at hand."""

    billing: Billing
    clock: VirtualClock
    database: Database
    _numbers: itertools.count[int] = dataclasses.field(default_factory=lambda: itertools.count(1))
    _sessions: itertools.count[int] = dataclasses.field(default_factory=lambda: itertools.count(1))

    async def user(self, role: str, currency: str = "USD") -> UserId:
        number = next(self._numbers)
        async with self.database.transaction(TENANT) as connection:
            user_id = await connection.fetchval(
                "insert into app_user (tenant_id, public_id, email, name, role, password_hash, currency)"
                " values ($1, $2, $3, $4, $5, '', $6) returning id",
                TENANT,
                new_public_id("usr"),
                f"user{number}@example.com",
                f"User {number}",
                role,
                currency,
            )
        await self.billing.open_wallets(TENANT, user_id, role, currency)
        return UserId(user_id)

    async def client(self, money: int = 5_000, currency: str = "USD") -> UserId:
        user_id = await self.user("client", currency)
        if money:
            topped = await self.billing.top_up(TENANT, user_id, money, f"opening-{user_id}", "Opening balance")
            assert isinstance(topped, Wallet)
        return user_id

    async def provider(self, rate: Rate = RATE, bps: int = 7_000) -> UserId:
        user_id = await self.user("provider", rate.currency)
        await self.billing.set_rate(TENANT, user_id, rate.kind, rate.minor_per_minute, rate.currency, bps)
        return user_id

    def ref(
        self, client: UserId, provider: UserId, rate: Rate = RATE, session_id: SessionId | None = None
    ) -> SessionRef:
        number = SessionId(next(self._sessions)) if session_id is None else session_id
        public = PublicId(f"ses_{number:020d}")
        return SessionRef(TENANT, number, public, client, provider, rate.kind, rate)

    async def open(self, client: UserId, provider: UserId, rate: Rate = RATE) -> SessionRef:
        ref = self.ref(client, provider, rate)
        opened = await self.billing.open_session(ref)
        assert isinstance(opened, Opened), opened
        return ref

    async def balance(self, user_id: UserId, role: str = "client") -> int:
        return (await self.billing.wallet(TENANT, user_id, role)).balance_minor

    async def evidence(self, ref: SessionRef, live_ms: int, epoch: int = 1) -> None:
        """What a worker's journal would have shipped."""
        async with self.database.transaction(TENANT) as connection:
            await connection.execute(
                "insert into media_evidence (tenant_id, session_id, epoch, minute, seq, live_ms, granted_live_ms,"
                " worker_id, final, at) values ($1, $2, $3, $4, 1, $4, $4, 'w', true, now())",
                TENANT,
                ref.session_id,
                epoch,
                live_ms,
            )


@pytest.fixture
def billing(database: Database, clock: VirtualClock, settings: Settings) -> Billing:
    return Billing(database, clock, settings)


@pytest.fixture
def town(billing: Billing, clock: VirtualClock, database: Database) -> Town:
    return Town(billing, clock, database)


async def books(owner: Any) -> None:
    """An auditor with queries of its own: sums are zero, balances are their history, holds are what meters hold."""
    assert await owner.fetchval("select coalesce(sum(posted_minor), 0) from account") == 0
    assert (
        await owner.fetch(
            "select a.id, a.posted_minor, coalesce(sum(h.amount), 0) as history from account a left join ("
            " select debit_account_id as id, -amount_minor as amount from transfer"
            " union all select credit_account_id, amount_minor from transfer"
            " union all select client_account_id, -amount_minor from session_charge"
            " union all select provider_account_id, amount_minor - fee_minor from session_charge"
            " union all select platform_account_id, fee_minor from session_charge) h on h.id = a.id"
            " group by a.id, a.posted_minor having a.posted_minor <> coalesce(sum(h.amount), 0)"
        )
        == []
    )
    assert await owner.fetchval("select sum(held_minor) from account") == await owner.fetchval(
        "select coalesce(sum(held_minor), 0) from session_meter"
    )
