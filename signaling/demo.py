"""Demo accounts: made in an empty installation whose settings say ``demo``, shown by ``GET /api/v1/demo/accounts``.

Their passwords are public by purpose. An installation with ``TURNPIKE_DEMO=false`` neither makes nor shows them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from billing.service import Billing
from config.identity import Role
from config.ids import DEFAULT_TENANT
from config.logs import get_log
from config.settings import Settings
from recorder.catalogue import Recordings
from recorder.retention import KINDS, OwnRule, Policy, set_policy
from relay.messages import SessionKind
from signaling.messages import DemoAccount, DemoAccounts
from signaling.people import NewUser, People

CURRENCY: Final = "USD"
OPENING_BALANCE_MINOR: Final = 5_000
_TOP_UP_KEY: Final = "demo-opening-balance"

log = get_log("signaling.demo")


@dataclass(frozen=True, slots=True)
class _Account:
    email: str
    password: str
    name: str
    role: Role
    note: str
    headline: str | None = None
    avatar_hue: int = 0
    rates: dict[SessionKind, int] = field(default_factory=dict)
    """Minor units a minute."""


_ACCOUNTS: Final = (
    _Account(
        *("client@demo.test", "demo-client", "Mira Lindqvist", Role.CLIENT, "Pays: has 50.00 USD to spend"),
        avatar_hue=18,
    ),
    _Account(
        *("ada@demo.test", "demo-ada", "Ada Fox", Role.PROVIDER, "Earns: video 1.99, audio 1.49, chat 0.99 a minute"),
        headline="Career advisor · twelve years of hiring engineers",
        avatar_hue=262,
        rates={"video": 199, "audio": 149, "chat": 99},
    ),
    _Account(
        *("ben@demo.test", "demo-ben", "Ben Okafor", Role.PROVIDER, "Earns: video 3.50, audio 2.75 a minute"),
        headline="Mathematics tutor · from fractions to finals",
        avatar_hue=152,
        rates={"video": 350, "audio": 275},
    ),
    _Account(
        *("compliance@demo.test", "demo-compliance", "Ines Duarte", Role.COMPLIANCE, "Searches and plays recordings"),
        avatar_hue=205,
    ),
    _Account(
        *(
            "finance@demo.test",
            "demo-finance",
            "Jun Park",
            Role.FINANCE,
            "Sets tariffs, gives refunds, keeps the books",
        ),
        avatar_hue=96,
    ),
    _Account(
        *("admin@demo.test", "demo-admin", "Tomas Reyes", Role.ADMIN, "Sees workers and all sessions"),
        avatar_hue=330,
    ),
)


async def accounts(people: People) -> DemoAccounts:
    """What ``GET /api/v1/demo/accounts`` shows: those that are there."""
    there = await people.existing(DEFAULT_TENANT, [account.email for account in _ACCOUNTS])
    return DemoAccounts(
        accounts=[
            DemoAccount(email=a.email, password=a.password, name=a.name, role=a.role.value, note=a.note)
            for a in _ACCOUNTS
            if a.email in there
        ]
    )


async def furnish(settings: Settings, people: People, billing: Billing) -> bool:
    """Make the demo accounts, unless the installation has users of its own; whether it is a demo.

    May be repeated, and run by several processes at once: what a process that died left undone is done by the next.
    Raises ValueError when the settings say that this is no demo.
    """
    if not settings.demo:
        raise ValueError("demo accounts are made only with TURNPIKE_DEMO=true")
    if await people.others(DEFAULT_TENANT, [account.email for account in _ACCOUNTS]):
        return False
    for account in _ACCOUNTS:
        await _make(account, people, billing)
    return True


async def furnish_policies(recordings: Recordings) -> None:
    """In a demo people see recordings of their own calls, unless somebody has set a policy."""
    rule = OwnRule(after_h=0, for_days=30)
    async with recordings.database.transaction(DEFAULT_TENANT) as connection:
        for kind in KINDS:
            wanted = Policy(kind, client=rule, provider=rule)
            await set_policy(connection, DEFAULT_TENANT, wanted, only_first=True)


async def _make(account: _Account, people: People, billing: Billing) -> None:
    user = await people.by_email(DEFAULT_TENANT, account.email)
    if user is None:
        new = NewUser(
            email=account.email,
            name=account.name,
            role=account.role,
            password=account.password,
            currency=CURRENCY,
            headline=account.headline,
            avatar_hue=account.avatar_hue,
        )
        user = await people.create(DEFAULT_TENANT, new)
        log.info("demo account made", email=account.email, role=account.role)
    await billing.open_wallets(DEFAULT_TENANT, user.id, user.role, CURRENCY)
    known = {rate.kind for rate in (await billing.rates(DEFAULT_TENANT, [user.id]))[user.id]}
    for kind, minor_per_minute in account.rates.items():
        if kind not in known:
            await billing.set_rate(DEFAULT_TENANT, user.id, kind, minor_per_minute, CURRENCY)
    if account.role is Role.CLIENT:
        await billing.top_up(DEFAULT_TENANT, user.id, OPENING_BALANCE_MINOR, _TOP_UP_KEY, "Opening balance")
