"""Random lives of wallets and sessions on a real ledger, watched by an auditor that shares no code with it.

Every operation may be done once, twice at once, or again and again while the database dies under it, at each of its
calls in turn. The suite takes a few hundred steps; ``make soak`` (tests/billing/soak.py) as many as are asked for.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing import meter_store, packages, reconcile
from billing.charges import Charge, ChargeOrder, Reversal
from billing.packages import Package as BoughtPackage
from billing.service import Billing
from billing.store import ledger
from billing.tariffs import STANDARD, Offer
from billing.terms import BillingRefusal, Opened, TickInput, TickResult, Wallet
from config.ids import PublicId, UserId
from tests.billing import auditor
from tests.billing.auditor import GRANT_MS, OFFERS, PROVIDERS, START_MS, Client, Gift, Package, Priced, Session
from tests.billing.conftest import TENANT, Town, books
from tests.billing.crashing import CrashingDatabase, despite_crashes

T = TypeVar("T")
LIFE = 40
"""Most steps of one life in the suite."""

who = st.integers(0, 5)
how = st.sampled_from(["once"] * 8 + ["twice", "crashing"])
ahead = st.integers(-30_000, 130_000)
"""Milliseconds that evidence is ahead of what was seen before, or behind."""
amounts = st.one_of(st.integers(1, 900), st.integers(1, 200_000))
changing = st.sampled_from(["once"] * 7 + ["twice", "crashing", "race"])
"""``race``: two changes at once, to different kinds, decided on the same terms."""
waits = st.sampled_from([5_000, 5_000, 60_000, 5_000, 4_999, 0])
"""Milliseconds since the command before: two changes must be five seconds apart."""
jumps = st.sampled_from([1, 1, 1, 1, 0, -1, 720, -720])
"""Slots that the clock goes on by between two ticks: it is set forward and back by an hour."""
COMMANDS = {
    "top_up": (2, st.tuples(how, who, amounts, st.integers(0, 6))),
    "promo": (1, st.tuples(how, who, st.integers(1, 2_000))),
    "gift": (2, st.tuples(how, who, who, st.integers(1, 3_000))),
    "package": (3, st.tuples(how, who, who)),
    "open": (5, st.tuples(how, who, who)),
    "tick": (6, st.tuples(how, st.lists(st.tuples(who, ahead), min_size=1, max_size=5), jumps)),
    "late": (1, st.tuples(how, who, ahead)),
    "fenced": (1, st.tuples(how, who, ahead)),
    "move": (2, st.tuples(how, who)),
    "rerate": (8, st.tuples(changing, who, ahead, st.integers(0, 2), waits)),
    "settle": (2, st.tuples(how, who, ahead)),
    "refund": (1, st.tuples(how, who, amounts)),
    "refund_gift": (1, st.tuples(how, who, st.integers(1, 3_000))),
    "refund_package": (1, st.tuples(how, who, who)),
    "recover": (1, st.tuples(how, who)),
}
"""How often each comes up, and what it is told. (``one_of`` counts once what is there twice.)"""
commands = st.sampled_from([name for name, (weight, _) in COMMANDS.items() for _ in range(weight)]).flatmap(
    lambda name: st.tuples(st.just(name), COMMANDS[name][1])
)


class Machine:
    """Does things to the ledger, and notes what they should have come to."""

    def __init__(self, town: Town, owner: Any) -> None:
        self.town, self.owner = town, owner
        self.database = CrashingDatabase(town.database)
        self.billing = Billing(self.database, town.clock, town.billing.settings)
        self.clients: list[Client] = []
        self.providers: list[UserId] = []
        self.provider_ids: list[PublicId] = []
        self.offers: list[PublicId] = []
        self.earned: list[int] = [0] * len(PROVIDERS)
        """What providers got beside their sessions: gifts and packages, less refunds."""
        self.slot = 1_000
        self.keys = 0

    async def settle_down(self) -> None:
        """People, tariffs, offers, some money."""
        for _ in range(2):
            self.clients.append(Client(await self.town.client(0)))
        for asked in PROVIDERS:
            provider = await self.town.user("provider")
            for one in asked:
                await self.town.billing.set_offer(TENANT, provider, Offer(one.kind, STANDARD, one.tariff, "USD"))
            self.providers.append(provider)
            self.provider_ids.append(
                PublicId(await self.owner.fetchval("select public_id from app_user where id = $1", provider))
            )
        self.offers = [await packages.add_offer(self.town.database, TENANT, offer) for offer in OFFERS]
        for number in range(len(self.clients)):
            await self.top_up("once", number, 100_000, 99)

    async def _do(self, how: str, operation: Callable[[], Awaitable[T]]) -> T:
        """Once, twice at once, or at each crash; every answer must be the same."""
        if how == "crashing":
            return await despite_crashes(self.database, operation)
        if how == "twice":
            first, second = await asyncio.gather(operation(), operation())
            assert first == second
            return first
        return await operation()

    def _key(self) -> str:
        self.keys += 1
        return f"key-{self.clients[0].user_id}-{self.keys}"  # other lives are in the same database

    def _client(self, who: int) -> Client:
        return self.clients[who % len(self.clients)]

    @property
    def sessions(self) -> list[Session]:
        return [one for client in self.clients for one in client.sessions]

    def _session(self, who: int, open_first: bool = False) -> Session | None:
        """One of the newest: those that are long over come up less, or (``open_first``) if there is no other."""
        newest = sorted(self.sessions, key=lambda one: (one.settled, -one.ref.session_id))[:6]
        if open_first:
            newest = [one for one in newest if not one.settled] or newest
        return newest[who % len(newest)] if newest else None

    def _payer(self, session: Session) -> Client:
        return next(client for client in self.clients if session in client.sessions)

    # --- money in, and spent at once

    async def top_up(self, how: str, who: int, amount: int, key: int) -> None:
        client, name = self._client(who), f"top-up-{key}"
        answer = await self._do(how, lambda: self.billing.top_up(TENANT, client.user_id, amount, name, ""))
        known = client.keys.get(name)
        assert isinstance(answer, Wallet) == (known in (None, amount))
        if known is None:
            client.keys[name] = amount
            client.paid_in += amount

    async def promo(self, how: str, who: int, amount: int) -> None:
        client, key = self._client(who), self._key()
        answer = await self._do(how, lambda: self.billing.give_promo(TENANT, client.user_id, amount, key, "For you"))
        assert isinstance(answer, Wallet)
        client.paid_in += amount
        client.promo += amount

    async def gift(self, how: str, who: int, whom: int, amount: int) -> None:
        client, number = self._client(who), whom % len(self.providers)
        order = ChargeOrder(
            TENANT, client.user_id, "gift", amount, "USD", self.provider_ids[number], None, "A rose", self._key()
        )
        covered = client.available >= amount
        answer = await self._do(how, lambda: self.billing.charge(order))
        if not covered:
            assert answer is BillingRefusal.INSUFFICIENT_FUNDS
            return
        assert isinstance(answer, Charge)
        share, promo = amount * 7_000 // 10_000, min(client.promo, amount)
        assert (answer.provider_minor, answer.promo_minor) == (share, promo)
        client.spent_at_once += amount
        client.gifts.append(Gift(answer.public_id, number, amount, share, promo))
        self.earned[number] += share

    async def package(self, how: str, who: int, which: int) -> None:
        client, number, key = self._client(who), which % len(OFFERS), self._key()
        covered = client.available >= OFFERS[number].price_minor
        answer = await self._do(how, lambda: self.billing.buy_package(TENANT, client.user_id, self.offers[number], key))
        assert isinstance(answer, BoughtPackage) == covered, answer
        if isinstance(answer, BoughtPackage):
            price = OFFERS[number].price_minor
            client.spent_at_once += price
            client.packages.append(Package(answer.public_id, OFFERS[number], min(client.promo, price)))

    # --- a session's life

    async def open(self, how: str, who: int, whom: int) -> None:
        client, number = self._client(who), whom % len(self.providers)
        priced = PROVIDERS[number][0]
        ref = self.town.ref(client.user_id, self.providers[number], priced.rate)
        session = client.open(ref, number, priced)
        least_ms = min(START_MS, session.limit_ms)
        covered = client.available >= session.cost(least_ms)
        answer = await self._do(how, lambda: self.billing.open_session(ref))
        if not covered:
            assert answer is BillingRefusal.INSUFFICIENT_FUNDS, answer
            return
        assert isinstance(answer, Opened), answer
        assert least_ms <= answer.granted_live_ms <= min(GRANT_MS, session.limit_ms)
        session.granted_ms = answer.granted_live_ms
        for held in session.held_packages:
            held.package.held_ms += held.ms
        client.sessions.append(session)

    async def _leases(self) -> dict[int, int]:
        return await meter_store.lease_shards(self.town.database, "auditor", datetime.timedelta(seconds=60))

    def _say(self, one: Session, live_ms: int, lease: int) -> TickInput:
        return TickInput(one.ref.session_id, one.epoch, one.base_ms, live_ms, lease)

    async def _tick(self, how: str, inputs: list[TickInput]) -> list[TickResult]:
        slot = self.slot

        async def once() -> list[TickResult]:
            return await meter_store.tick(self.database, inputs, slot, GRANT_MS)

        if how == "twice":  # the later one may bill what the earlier one's grant has let in: not the same answer
            return (await asyncio.gather(once(), once()))[1]
        return await self._do(how, once)

    async def tick(self, how: str, which: list[tuple[int, int]], jump: int) -> None:
        self.slot += jump
        leases = await self._leases()
        inputs: list[TickInput] = []
        seen: list[tuple[Session, int]] = []
        for index, step in which:
            one = self._session(index)
            if one is None or any(one is other for other, _ in seen):
                continue
            live_ms = max(0, one.live_ms + step)
            inputs.append(self._say(one, live_ms, leases[one.ref.session_id % 64]))
            seen.append((one, live_ms))
        results = {result.session_id: result for result in await self._tick(how, inputs)}
        for one, live_ms in seen:
            assert results[one.ref.session_id].status == ("settled" if one.settled else "ok")
            await self._learn(one, live_ms, how)

    async def _learn(self, one: Session, live_ms: int, how: str) -> None:
        """Evidence was posted. After several ticks more may be billed: what the grants of those before have let in."""
        if one.settled:
            return
        one.saw(live_ms)
        meter = await self.owner.fetchrow(
            "select granted_ms, billed_through_ms from session_meter where session_id = $1", one.ref.session_id
        )
        assert one.granted_ms <= meter["granted_ms"] <= max(one.granted_ms, one.total_ms + GRANT_MS, 0)
        one.granted_ms = meter["granted_ms"]
        if how != "once":
            assert one.billed_ms <= meter["billed_through_ms"] <= min(one.total_ms, one.granted_ms)
            one.billed_ms = meter["billed_through_ms"]

    async def late(self, how: str, which: int, step: int) -> None:
        """Evidence of a room that the session has left adds nothing."""
        one = self._session(which)
        if one is None or one.epoch == 1:
            return
        leases = await self._leases()
        late = TickInput(
            one.ref.session_id, one.epoch - 1, 0, one.base_ms + max(0, step), leases[one.ref.session_id % 64]
        )
        # The ledger hears of the present room with it, or it would not know that the other is over.
        await self._tick("once", [self._say(one, one.live_ms, leases[one.ref.session_id % 64])])
        await self._learn(one, one.live_ms, "twice")
        await self._tick(how, [late])
        await self._learn(one, one.live_ms, "twice")

    async def fenced(self, how: str, which: int, step: int) -> None:
        """A tick under a lease that another has taken over in the meantime changes nothing."""
        one = self._session(which)
        if one is None:
            return
        mine = await self._leases()
        await meter_store.release_shards(self.town.database, "auditor")
        hour = datetime.timedelta(seconds=60)
        await meter_store.lease_shards(self.town.database, "other", hour)
        await meter_store.release_shards(self.town.database, "other")
        stale = self._say(one, max(0, one.live_ms + step), mine[one.ref.session_id % 64])
        (result,) = await self._tick(how, [stale])
        assert result.status == ("settled" if one.settled else "fenced")

    async def move(self, how: str, which: int) -> None:
        """The room goes to another worker."""
        one = self._session(which)
        if one is not None and not one.settled:
            one.base_ms, one.live_ms, one.epoch = one.total_ms, 0, one.epoch + 1

    async def rerate(self, how: str, which: int, step: int, to: int, wait_ms: int) -> None:
        """Another kind, decided on the terms as they are."""
        self.town.clock.advance_ms(wait_ms)
        one = self._session(which, open_first=which > 0)
        if one is None or len(PROVIDERS[one.provider]) < 2:
            return
        live_ms, revision = max(0, one.live_ms + step), len(one.stretches)
        wanted = [PROVIDERS[one.provider][(to + more) % 3] for more in range(2 if how in ("twice", "race") else 1)]
        if how == "twice":
            wanted = [wanted[0], wanted[0]]

        def change(priced: Priced) -> Awaitable[Opened | BillingRefusal]:
            return self.billing.change_kind(TENANT, one.ref.session_id, one.epoch, live_ms, priced.rate, revision)

        if len(wanted) == 2:
            answers = list(await asyncio.gather(*map(change, wanted)))
        else:
            answers = [await self._do(how, lambda: change(wanted[0]))]
        if not one.settled:
            one.saw(live_ms)
        refusals = [self._refusal(one, priced) for priced in wanted]
        before = one.stretches[-1].priced
        for priced, answer, refusal in zip(wanted, answers, refusals, strict=True):
            if refusal is not None and answer is not BillingRefusal.CHANGED_MEANWHILE:
                assert answer is refusal, (answer, refusal)
            elif isinstance(answer, Opened):
                if priced is not before:
                    self._rerated(one, priced)
            else:  # another one came first
                assert answer is BillingRefusal.CHANGED_MEANWHILE
                assert any(isinstance(other, Opened) for other in answers)
        changed = {priced.kind for priced, answer in zip(wanted, answers, strict=True) if isinstance(answer, Opened)}
        assert len(changed - {before.kind}) <= 1, "two changes were decided on the same terms"
        if changed:
            await self._learn(one, live_ms, "twice" if len(wanted) == 2 else how)

    def _refusal(self, one: Session, to: Priced) -> BillingRefusal | None:
        """What is to be said to a change of kind; None: it is made, or is so already."""
        if one.settled:
            return BillingRefusal.ALREADY_SETTLED
        if one.limit_ms < auditor.FOREVER_MS:
            return BillingRefusal.NOT_METERED
        if to is one.stretches[-1].priced:
            return None
        if self.town.clock.wall_ms() - one.changed_ms < 5_000:
            return BillingRefusal.TOO_SOON
        held = one.held_then(one.next_stretch(to))
        short = self._payer(one).available < held - one.held
        return BillingRefusal.INSUFFICIENT_FUNDS if short else None

    def _rerated(self, one: Session, to: Priced) -> None:
        if to is not one.stretches[-1].priced:
            stretch = one.next_stretch(to)
            one.use_packages()
            one.stretches.append(stretch)
            one.changed_ms = self.town.clock.wall_ms()

    async def settle(self, how: str, which: int, step: int) -> None:
        one = self._session(which)
        if one is None:
            return
        live_ms = max(0, one.live_ms + step)
        if not one.settled:
            one.saw(live_ms)
            one.settled = True
            self.earned[one.provider] += auditor.settle_packages(one)
        receipt = await self._do(how, lambda: self.billing.settle(TENANT, one.ref.session_id, one.epoch, live_ms))
        assert (receipt.billed_ms, receipt.charged_minor) == (one.billed_ms, one.charged)
        assert (receipt.provider_minor, receipt.platform_minor) == (one.share, one.charged - one.share)
        assert receipt.prepaid_ms == one.package_used_ms()

    # --- refunds

    async def refund(self, how: str, which: int, amount: int) -> None:
        one = self._session(which)
        if one is None:
            return
        promo = await self.owner.fetchval(
            "select posted_promo_minor from session_meter where session_id = $1", one.ref.session_id
        )
        answer = await self._reverse(how, one.ref.session_public_id, amount)
        if not one.settled:
            assert answer is BillingRefusal.NOT_SETTLED
        else:
            self._refunded(self._payer(one), one, answer, amount, (one.charged, one.share, promo))

    async def refund_gift(self, how: str, which: int, amount: int) -> None:
        client = self._client(which)
        if client.gifts:
            one = client.gifts[which % len(client.gifts)]
            answer = await self._reverse(how, one.public_id, amount)
            self._refunded(client, one, answer, amount, (one.amount, one.share, one.promo))

    async def refund_package(self, how: str, who: int, which: int) -> None:
        """What is left of a package, unless a session holds it."""
        client = self._client(who)
        if not client.packages:
            return
        one = client.packages[which % len(client.packages)]
        left = one.offer.price_minor - one.paid_on
        answer = await self._reverse(how, one.public_id, 1)
        if one.given_back is not None or (left == 0 and one.held_ms == 0):
            assert answer is BillingRefusal.PACKAGE_OVER
        elif one.held_ms:
            assert answer is BillingRefusal.PACKAGE_IN_USE
        else:
            promo = one.promo * left // one.offer.price_minor
            assert isinstance(answer, Reversal)
            assert (answer.amount_minor, answer.provider_minor, answer.promo_minor) == (left, 0, promo)
            one.given_back = left
            client.refunded += left
            client.promo += promo

    async def recover(self, how: str, whom: int) -> None:
        """A provider pays what they owe, as far as they have it; what they are worth stays the same."""
        provider = self.providers[whom % len(self.providers)]

        async def once() -> int:
            async with ledger(self.database, TENANT) as connection:
                return int(await connection.fetchval("select recover_receivable($1, $2)", TENANT, provider))

        if how == "twice":
            assert 0 in await asyncio.gather(once(), once())
        else:
            await self._do(how, once)
        left = await self.owner.fetch(
            "select kind, abs(posted_minor) as minor from account where user_id = $1 and posted_minor <> 0", provider
        )
        assert len(left) <= 1, left

    async def _reverse(self, how: str, what: PublicId, amount: int) -> Reversal | BillingRefusal:
        key = self._key()
        return await self._do(how, lambda: self.billing.reverse(TENANT, what, amount, key, UserId(1), "A complaint"))

    def _refunded(
        self,
        client: Client,
        one: Session | Gift,
        answer: Reversal | BillingRefusal,
        amount: int,
        of: tuple[int, int, int],
    ) -> None:
        gross, share, promo = of
        if one.refunded + amount > gross:
            assert answer is BillingRefusal.TOO_MUCH
            return
        assert isinstance(answer, Reversal)
        one.refunded += amount
        part = min(amount, auditor.proportion(share, one.refunded, gross) - one.refunded_share)
        promo_part = min(amount, auditor.proportion(promo, one.refunded, gross) - one.refunded_promo)
        assert (answer.provider_minor, answer.promo_minor) == (part, promo_part)
        one.refunded_share += part
        one.refunded_promo += promo_part
        client.refunded += amount
        client.promo += promo_part
        self.earned[one.provider] -= part

    # --- the audit

    async def check(self) -> None:
        """Hold wallets, meters and earnings against the notes."""
        ids = [one.ref.session_id for one in self.sessions]
        rows = await self.owner.fetch(
            "select session_id, billed_through_ms, posted_minor, posted_provider_minor, granted_ms, held_minor"
            " from session_meter where session_id = any ($1)",
            ids,
        )
        meters = {row["session_id"]: tuple(row.values())[1:] for row in rows}
        for one in self.sessions:
            expected = (one.billed_ms, one.charged, one.share, one.granted_ms, one.held)
            assert meters[one.ref.session_id] == expected, one
        packages_of = [package for client in self.clients for package in client.packages]
        stored = {
            row["public_id"]: tuple(row.values())[1:]
            for row in await self.owner.fetch(
                "select public_id, used_ms, reserved_ms, recognised_minor, refunded_minor from client_package"
                " where public_id = any ($1)",
                [package.public_id for package in packages_of],
            )
        }
        for package in packages_of:
            back = package.given_back
            paid_on = package.paid_on if back is None else package.offer.price_minor
            assert stored[package.public_id] == (package.used_ms, package.held_ms, paid_on, back or 0), package
        users = [*(client.user_id for client in self.clients), *self.providers]
        accounts: dict[tuple[int, str], Any] = {
            (row["user_id"], row["kind"]): row
            for row in await self.owner.fetch(
                "select user_id, kind, posted_minor, held_minor, promo_minor from account where user_id = any ($1)",
                users,
            )
        }
        for client in self.clients:
            client.spend_promo()
            wallet = accounts[client.user_id, "client_wallet"]
            assert (wallet["posted_minor"], wallet["held_minor"]) == (client.balance, client.held)
            assert wallet["promo_minor"] == client.promo
            assert client.available >= 0
        for number, provider in enumerate(self.providers):
            owed = accounts.get((provider, "receivable"))
            has = accounts[provider, "provider_earnings"]["posted_minor"] + (owed["posted_minor"] if owed else 0)
            shares = sum(one.share for one in self.sessions if one.provider == number)
            assert has == shares + self.earned[number], number

    async def close(self) -> None:
        """At the end of a life: the whole books, twice over."""
        await books(self.owner)
        wrong = [finding for finding in await reconcile.examine(self.town.database) if finding.disagreeing]
        assert wrong == []


async def live(town: Town, owner: Any, life: list[tuple[Any, ...]]) -> None:
    """One life, checked after each step."""
    machine = Machine(town, owner)
    await machine.settle_down()
    for name, arguments in life:
        await getattr(machine, name)(*arguments)
        await machine.check()
    await machine.close()


@settings(
    max_examples=12,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking against a real database outlasts the time limit
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(life=st.lists(commands, min_size=10, max_size=LIFE))
async def test_the_ledger_agrees_with_its_auditor(town: Town, owner: Any, life: list[tuple[Any, ...]]) -> None:
    await live(town, owner, life)
