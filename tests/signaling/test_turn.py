"""TURN credentials: what coturn will accept, until when; and where pages are told."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from pydantic import SecretStr

from config.ids import PublicId
from config.settings import Settings
from signaling.turn import URLS_MAX, TurnServers
from tests.signaling.conftest import World

TURN = "turn:turn.example:3478?transport=udp, turns:turn.example:5349?transport=tcp"


def servers(settings: Settings, urls: str = TURN, secret: str | None = "north", ttl_s: int = 3_600) -> TurnServers:
    found = None if secret is None else SecretStr(secret)
    return TurnServers(settings.model_copy(update={"turn_urls": urls, "turn_secret": found, "turn_ttl_s": ttl_s}))


def test_credentials_are_those_of_coturns_use_auth_secret(settings: Settings) -> None:
    (server,) = servers(settings).for_user(PublicId("usr_ann"), 1_700_000_000_999)
    assert server.urls == ["turn:turn.example:3478?transport=udp", "turns:turn.example:5349?transport=tcp"]
    assert server.username == "1700003600:usr_ann"
    digest = hmac.new(b"north", b"1700003600:usr_ann", hashlib.sha1).digest()
    assert server.credential == base64.b64encode(digest).decode()


def test_stun_servers_need_no_credentials(settings: Settings) -> None:
    stun, turn = servers(settings, "stun:stun.example,turn:turn.example").for_user(PublicId("usr_ann"), 0)
    assert (stun.urls, stun.username, stun.credential) == (["stun:stun.example"], None, None)
    assert turn.credential
    assert servers(settings, "").for_user(PublicId("usr_ann"), 0) == []


@pytest.mark.parametrize(
    ("urls", "secret", "why"),
    [
        ("turn:turn.example", None, "need turn_secret"),
        ("turn.example:3478", "north", "must begin with"),
        (",".join(["turn:turn.example"] * (URLS_MAX + 1)), "north", "at most"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    settings: Settings, urls: str, secret: str | None, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        servers(settings, urls, secret)


def test_the_secret_is_in_no_printed_settings(settings: Settings) -> None:
    assert "north" not in repr(settings.model_copy(update={"turn_secret": SecretStr("north")}))


async def test_pages_are_told_before_the_call_and_with_every_join(
    world: World, settings: Settings, client_of_world: TestClient[Any, Any]
) -> None:
    world.control.rooms._turn = told = servers(settings)
    session = await world.connect()
    answer = await world.control.director.join(world.client, world.join(session))
    assert answer.ice_servers == told.for_user(world.client.public_id, world.clock.wall_ms())
    token = world.control.tokens.issue(world.client, world.clock.wall_ms() // 1000)
    headers = {"Authorization": f"Bearer {token}"}
    reply = await client_of_world.get("/api/v1/ice-servers", headers=headers)
    assert (reply.status, await reply.json()) == (200, {"ice_servers": [], "ttl_s": settings.turn_ttl_s})
    assert (await client_of_world.get("/api/v1/ice-servers")).status == 401
