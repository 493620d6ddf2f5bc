"""Random lives of wallets and sessions on a real ledger, watched by an auditor that shares no code with it."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing import meter_store
from billing.terms import BillingRefusal, Opened, Rate, SessionRef, TickInput, Wallet
from config.ids import UserId
from tests.billing.conftest import TENANT, Town, books

RATES = [Rate("video", 199, "USD"), Rate("audio", 7, "USD"), Rate("video", 75_000, "USD")]
SHARES = [7_000, 3_333, 10_000]
GRANT_MS = 90_000

indices = st.integers(0, 5)
steps = st.integers(-30_000, 130_000)
"""Milliseconds that evidence is ahead of what was seen before, or behind."""
commands = st.one_of(
    st.tuples(st.just("top_up"), indices, st.integers(1, 200_000), st.integers(0, 3)),
    st.tuples(st.just("open"), indices, indices),
    st.tuples(
        st.just("tick"),
        st.lists(st.tuples(indices, st.integers(-30_000, 130_000)), min_size=1, max_size=4),
        st.booleans(),
    ),
    st.tuples(st.just("move"), indices),
    st.tuples(st.just("settle"), indices, steps),
)


@dataclasses.dataclass
class AuditedSession:
    """What an auditor with pencil and paper knows of a session."""

    ref: SessionRef
    bps: int
    epoch: int = 1
    base_ms: int = 0
    live_ms: int = 0
    billed_ms: int = 0
    granted_ms: int = 0
    settled: bool = False

    @property
    def total_ms(self) -> int:
        return self.base_ms + self.live_ms

    @property
    def charged(self) -> int:
        return self.ref.rate.minor_per_minute * self.billed_ms // 60_000

    @property
    def spoken_for(self) -> int:
        """Charged or held."""
        return self.charged if self.settled else self.ref.rate.minor_per_minute * self.granted_ms // 60_000

    def saw(self, live_ms: int) -> None:
        """Evidence arrives and is posted: billed as far as it was granted."""
        self.live_ms = max(self.live_ms, live_ms)
        self.billed_ms = max(self.billed_ms, min(self.total_ms, self.granted_ms))


class Auditor:
    """Runs commands against the ledger and compares it with its own notes after each."""

    def __init__(self, town: Town, owner: Any, clients: list[UserId], providers: list[UserId]) -> None:
        self.town, self.owner, self.clients, self.providers = town, owner, clients, providers
        self.money = dict.fromkeys(clients, 0)
        self.keys: dict[tuple[UserId, int], int] = {}
        self.sessions: list[AuditedSession] = []
        self.slot = 0

    async def top_up(self, who: int, amount: int, key: int) -> None:
        client = self.clients[who % len(self.clients)]
        answer = await self.town.billing.top_up(TENANT, client, amount, f"key{key}", "")
        known = self.keys.setdefault((client, key), amount)
        assert isinstance(answer, Wallet) == (known == amount)
        self.money[client] = sum(paid for (whose, _), paid in self.keys.items() if whose == client)

    async def open(self, who: int, whom: int) -> None:
        client, number = self.clients[who % len(self.clients)], whom % len(self.providers)
        rate = RATES[number]
        ref = self.town.ref(client, self.providers[number], rate)
        free = self.money[client] - sum(
            max(one.charged, one.ref.rate.minor_per_minute * one.granted_ms // 60_000)
            if not one.settled
            else one.charged
            for one in self.sessions
            if one.ref.client_id == client
        )
        answer = await self.town.billing.open_session(ref)
        if (free + 1) * 60_000 <= rate.minor_per_minute * 60_000:
            assert answer is BillingRefusal.INSUFFICIENT_FUNDS
            return
        assert isinstance(answer, Opened)
        self.sessions.append(AuditedSession(ref, SHARES[number], granted_ms=answer.granted_live_ms))

    async def tick(self, which: list[tuple[int, int]], twice: bool) -> None:
        chosen = {index % len(self.sessions): step for index, step in which} if self.sessions else {}
        leases = await meter_store.lease_shards(self.town.database, "auditor", datetime.timedelta(seconds=60))
        self.slot += 1
        inputs = []
        for number, step in chosen.items():
            one = self.sessions[number]
            live_ms = max(0, one.live_ms + step)
            inputs.append(
                TickInput(one.ref.session_id, one.epoch, one.base_ms, live_ms, leases[one.ref.session_id % 64])
            )
            if not one.settled:
                one.saw(live_ms)
        runs = [meter_store.tick(self.town.database, inputs, self.slot, GRANT_MS) for _ in range(2 if twice else 1)]
        for results in await asyncio.gather(*runs):
            for result in results:
                one = next(s for s in self.sessions if s.ref.session_id == result.session_id)
                assert result.status == ("settled" if one.settled else "ok")
        if twice:
            # The second run may bill what the first one's grant has let in.
            for number in chosen:
                await self._recount(self.sessions[number])

    async def _recount(self, one: AuditedSession) -> None:
        granted = await self.owner.fetchval(
            "select granted_ms from session_meter where session_id = $1", one.ref.session_id
        )
        if not one.settled:
            one.granted_ms = granted
            one.saw(0)

    async def move(self, index: int) -> None:
        if self.sessions:
            one = self.sessions[index % len(self.sessions)]
            if not one.settled:
                one.base_ms, one.live_ms, one.epoch = one.total_ms, 0, one.epoch + 1

    async def settle(self, index: int, step: int) -> None:
        if not self.sessions:
            return
        one = self.sessions[index % len(self.sessions)]
        live_ms = max(0, one.live_ms + step)
        if not one.settled:
            one.saw(live_ms)
            one.settled = True
        receipt = await self.town.billing.settle(TENANT, one.ref.session_id, one.epoch, live_ms)
        assert (receipt.billed_ms, receipt.charged_minor) == (one.billed_ms, one.charged)
        assert receipt.provider_minor == one.charged * one.bps // 10_000
        assert receipt.provider_minor + receipt.platform_minor == receipt.charged_minor

    async def check(self) -> None:
        await books(self.owner)
        meters = {row["session_id"]: row for row in await self.owner.fetch("select * from session_meter")}
        for one in self.sessions:
            meter, rate = meters[one.ref.session_id], one.ref.rate.minor_per_minute
            assert meter["billed_through_ms"] == one.billed_ms
            assert meter["posted_minor"] == one.charged
            assert meter["granted_ms"] >= one.granted_ms, "a grant never falls"
            assert meter["held_minor"] == (0 if one.settled else rate * meter["granted_ms"] // 60_000 - one.charged)
            one.granted_ms = meter["granted_ms"]
        for client, money in self.money.items():
            mine = [one for one in self.sessions if one.ref.client_id == client]
            wallet = await self.town.billing.wallet(TENANT, client, "client")
            assert wallet.balance_minor == money - sum(one.charged for one in mine)
            assert wallet.held_minor == sum(meters[one.ref.session_id]["held_minor"] for one in mine)
            assert wallet.available_minor >= 0
        for number, provider in enumerate(self.providers):
            earned = sum(one.charged * one.bps // 10_000 for one in self.sessions if one.ref.provider_id == provider)
            assert await self.town.balance(provider, "provider") == earned, number


@settings(
    max_examples=25,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking against a real database outlasts the time limit
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(lives=st.lists(commands, min_size=5, max_size=25))
async def test_the_ledger_agrees_with_its_auditor(town: Town, owner: Any, lives: list[tuple[Any, ...]]) -> None:
    clients = [await town.client(0) for _ in range(2)]
    providers = [await town.provider(rate, bps) for rate, bps in zip(RATES, SHARES, strict=True)]
    auditor = Auditor(town, owner, clients, providers)
    for client in (0, 1):
        await auditor.top_up(client, 100_000, 9)
    for name, *arguments in lives:
        await getattr(auditor, name)(*arguments)
        await auditor.check()
