"""Demo accounts, chat, presence words, and rates of messages."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.http import ApiError
from config.identity import Role
from config.ids import DEFAULT_TENANT
from config.rates import TokenBucket
from config.settings import Settings
from signaling import demo
from signaling.messages import SendMessage
from signaling.people import NewUser
from signaling.presence import word_for
from tests.signaling.conftest import World


async def balance(world: World) -> int:
    return (await world.control.billing.wallet(DEFAULT_TENANT, world.client.user_id, "client")).balance_minor


async def test_demo_accounts_are_made_once(world: World, settings: Settings) -> None:
    before = {name: who.public_id for name, who in world.people.items()}
    await asyncio.gather(*(demo.furnish(settings, world.control.people, world.control.billing) for _ in range(3)))
    for name, public_id in before.items():
        user = await world.control.people.by_email(DEFAULT_TENANT, f"{name}@demo.test")
        assert user is not None
        assert user.public_id == public_id
    assert await balance(world) == 5000


async def test_demo_accounts_are_refused_where_there_is_no_demo(world: World, settings: Settings) -> None:
    real = settings.model_copy(update={"demo": False})
    with pytest.raises(ValueError, match="TURNPIKE_DEMO"):
        await demo.furnish(real, world.control.people, world.control.billing)


async def test_demo_accounts_are_not_added_to_users_of_ones_own(world: World, settings: Settings) -> None:
    own = NewUser("me@real.example", "Me", Role.ADMIN, "a real password", "USD", None, 0)
    await world.control.people.create(DEFAULT_TENANT, own)
    assert await demo.furnish(settings, world.control.people, world.control.billing) is False


async def test_a_message_is_stored_once_and_told_once(world: World) -> None:
    session = await world.connect()
    message = SendMessage(client_message_id="message-1", text="Can you hear me?")
    chat = world.control.chat
    first, second = await asyncio.gather(
        chat.send(world.client, session, message), chat.send(world.client, session, message)
    )
    assert first == second
    assert await world.events(world.ada, "chat.message") == [first.model_dump()]
    other = SendMessage(client_message_id="message-1", text="Something else")
    with pytest.raises(ApiError) as caught:
        await chat.send(world.client, session, other)
    assert caught.value.code == "message_id_used"
    theirs = await chat.send(world.ada, session, message)  # the same id of another sender is another message
    assert theirs.id != first.id


async def test_chat_history_is_read_in_pages(world: World) -> None:
    session = await world.connect()
    for n in range(5):
        await world.control.chat.send(
            world.ada, session, SendMessage(client_message_id=f"message-{n}", text=f"text {n}")
        )
    first = await world.control.chat.history(session, None, 3)
    rest = await world.control.chat.history(session, first.messages[-1].id, 3)
    assert [m.text for m in first.messages + rest.messages] == [f"text {n}" for n in range(5)]
    assert (first.more, rest.more) == (True, False)


async def test_chat_closes_some_time_after_the_end(world: World) -> None:
    session = await world.connect()
    await world.control.director.end(world.client, session.public_id)
    over = await world.over(session)
    await world.control.chat.send(world.ada, over, SendMessage(client_message_id="thanks-1", text="Bye!"))
    world.clock.advance_ms(15 * 60_000 + 1)
    with pytest.raises(ApiError) as caught:
        await world.control.chat.send(world.ada, over, SendMessage(client_message_id="thanks-2", text="Bye!"))
    assert caught.value.code == "chat_closed"


@pytest.mark.parametrize(
    ("here", "available", "busy", "word"),
    [
        (False, True, False, "offline"),
        (False, True, True, "offline"),
        (True, True, True, "busy"),
        (True, False, True, "busy"),
        (True, False, False, "away"),
        (True, True, False, "online"),
    ],
)
def test_one_word_says_where_a_provider_is(here: bool, available: bool, busy: bool, word: str) -> None:
    assert word_for(here=here, available=available, busy=busy) == word


async def test_a_user_is_there_while_any_device_is(world: World) -> None:
    presence, ada = world.control.presence, world.ada
    await presence.heard(ada, "phone")
    await presence.left(ada, "device of Ada Fox")
    world.clock.advance_ms(3_001)
    assert await presence.here(ada.tenant_id, [ada.user_id]) == {ada.user_id}
    world.clock.advance_ms(27_000)
    assert await presence.here(ada.tenant_id, [ada.user_id]) == set()


@given(st.lists(st.integers(-(10**9), 5 * 10**9), max_size=200), st.integers(1, 20), st.integers(1, 20))
def test_a_bucket_never_lets_more_through_than_its_rate(steps: list[int], rate: int, burst: int) -> None:
    bucket, now, newest, taken = TokenBucket(rate, burst, 0), 0, 0, 0
    for passed in steps:
        now += passed
        newest = max(newest, now)
        taken += bucket.take(now)
        assert taken <= burst + rate * newest / 1e9 + 1e-6
