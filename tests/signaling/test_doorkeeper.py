"""Standing and rates, on a real database and a virtual clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from config.clock import VirtualClock
from config.database import Database
from config.http import ApiError
from config.identity import Role
from config.ids import DEFAULT_TENANT, TenantId, UserId
from signaling.doorkeeper import REQUESTS_BURST, STANDING_NS, Doorkeeper
from signaling.people import NewUser, People


async def new_user(people: People, name: str = "ines") -> Any:
    user = await people.create(
        DEFAULT_TENANT,
        NewUser(
            email=f"{name}@example.test",
            password="a password",
            name=name.title(),
            role=Role.COMPLIANCE,
            currency="USD",
            headline=None,
            avatar_hue=0,
        ),
    )
    return user.principal


async def test_disabled_user_is_turned_away_within_seconds(database: Database, clock: VirtualClock) -> None:
    door = Doorkeeper(People(database), clock)
    who = await new_user(People(database))
    await door.check_standing(who)
    async with database.transaction(DEFAULT_TENANT) as sql:
        await sql.execute("update app_user set disabled_at = now() where id = $1", who.user_id)
    clock.advance_ms(STANDING_NS // 1_000_000 + 1)
    with pytest.raises(ApiError) as refused:
        await door.check_standing(who)
    assert refused.value.status == 401


async def test_user_whose_role_has_changed_must_sign_in_again(database: Database, clock: VirtualClock) -> None:
    door = Doorkeeper(People(database), clock)
    who = await new_user(People(database))
    async with database.transaction(DEFAULT_TENANT) as sql:
        await sql.execute("update app_user set role = 'client' where id = $1", who.user_id)
    with pytest.raises(ApiError):
        await door.check_standing(who)


async def test_requests_beyond_the_rate_are_refused_and_come_back(database: Database, clock: VirtualClock) -> None:
    door = Doorkeeper(People(database), clock)
    request = make_mocked_request("GET", "/api/v1/me")
    for _ in range(REQUESTS_BURST):
        await door.admit(request, None)
    with pytest.raises(ApiError) as refused:
        await door.admit(request, None)
    assert refused.value.status == 429
    clock.advance_ms(1_000)
    await door.admit(request, None)


async def test_standing_of_many_is_renewed_at_once_before_anybody_asks(
    database: Database, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = People(database)
    door, ines, otto = Doorkeeper(people, clock), await new_user(people), await new_user(people, "otto")
    asked: list[set[int]] = []
    roles = people.roles

    async def counted(tenant: TenantId, ids: Iterable[int]) -> dict[UserId, Role]:
        asked.append(set(ids))
        return await roles(tenant, ids)

    async def one_by_one(*_: Any) -> None:
        raise AssertionError("asked of one user alone")

    monkeypatch.setattr(people, "roles", counted)
    monkeypatch.setattr(people, "get", one_by_one)
    await door.renew([ines, otto, ines])
    await door.renew([ines, otto])
    assert asked == [{ines.user_id, otto.user_id}]  # both are known by now
    async with database.transaction(DEFAULT_TENANT) as sql:
        await sql.execute("update app_user set disabled_at = now() where id = $1", otto.user_id)
    for _ in range(4):
        clock.advance_ms(STANDING_NS // 1_000_000 // 4 + 1)
        await door.renew([ines, otto])
    assert len(asked) == 2
    await door.check_standing(ines)
    with pytest.raises(ApiError):
        await door.check_standing(otto)
