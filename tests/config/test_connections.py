"""Connections to Redis work over every kind of URL, and tell who they are."""

from __future__ import annotations

from redis.asyncio import Redis

from config.connections import open_redis


async def test_replies_are_bytes_and_the_database_starts_empty(redis: Redis) -> None:
    assert await redis.dbsize() == 0
    await redis.set("key", "value")
    assert await redis.get("key") == b"value"


async def test_name_shows_at_the_server(redis_url: str) -> None:
    client = open_redis(redis_url, name="turnpike-test")
    try:
        assert await client.client_getname() in ("turnpike-test", b"turnpike-test")
    finally:
        await client.aclose()


async def test_network_urls_make_a_client_too() -> None:
    client = open_redis("redis://:secret@127.0.0.1:6399/2")
    options = client.connection_pool.connection_kwargs
    assert (options["host"], options["port"], options["db"]) == ("127.0.0.1", 6399, 2)
    await client.aclose()
