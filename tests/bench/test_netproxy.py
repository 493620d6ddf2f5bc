"""The proxy's sockets: who sees whom at which address, before and after an address changed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from bench.netlink import CLEAN, Conditions
from bench.netproxy import FLOWS_MAX, Address, Proxy


class Person:
    """A UDP socket that can be talked to in turns."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.address: Address = self.socket.getsockname()

    def send(self, data: bytes, to: Address) -> None:
        self.socket.sendto(data, to)

    async def hear(self) -> tuple[bytes, Address]:
        async with asyncio.timeout(2):
            return await asyncio.get_running_loop().sock_recvfrom(self.socket, 2048)

    async def hears_nothing(self, seconds: float = 0.1) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().sock_recvfrom(self.socket, 2048)
        except TimeoutError:
            return True
        return False


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with Proxy("seed", ("anna", "bert")) as proxy:
        yield proxy


@pytest.fixture
async def people() -> AsyncIterator[tuple[Person, Person]]:
    anna, bert = Person(), Person()
    yield anna, bert
    anna.socket.close()
    bert.socket.close()


async def test_server_sees_a_socket_of_the_proxy_and_answers_through_it(
    proxy: Proxy, people: tuple[Person, Person]
) -> None:
    anna, server = people
    gate = proxy.gate("anna", server.address)
    anna.send(b"ping", gate)
    data, seen_as = await server.hear()
    assert data == b"ping"
    assert seen_as not in (anna.address, gate)
    server.send(b"pong", seen_as)
    assert await anna.hear() == (b"pong", gate)


async def test_same_target_has_the_same_gate_and_each_source_its_own_flow(
    proxy: Proxy, people: tuple[Person, Person]
) -> None:
    anna, server = people
    gate = proxy.gate("anna", server.address)
    assert proxy.gate("anna", server.address) == gate != proxy.gate("bert", server.address)
    other = Person()
    anna.send(b"1", gate)
    other.send(b"2", gate)
    seen = dict([await server.hear(), await server.hear()])
    other.socket.close()
    assert seen[b"1"] != seen[b"2"]


async def test_after_an_address_change_the_server_hears_from_a_new_one_and_the_old_one_is_dead(
    proxy: Proxy, people: tuple[Person, Person]
) -> None:
    anna, server = people
    gate = proxy.gate("anna", server.address)
    anna.send(b"before", gate)
    _, old = await server.hear()
    proxy.change_address("anna")
    server.send(b"to the old address", old)
    assert await anna.hears_nothing()
    anna.send(b"after", gate)
    _, new = await server.hear()
    assert new != old
    server.send(b"to the new one", new)
    assert await anna.hear() == (b"to the new one", gate)


async def test_change_of_one_leaves_the_other_alone(proxy: Proxy, people: tuple[Person, Person]) -> None:
    anna, server = people
    gate = proxy.gate("anna", server.address)
    anna.send(b"1", gate)
    _, before = await server.hear()
    proxy.change_address("bert")
    anna.send(b"2", gate)
    assert (await server.hear())[1] == before


async def test_direct_peer_is_lost_at_the_old_address_and_heard_from_a_new_one(
    proxy: Proxy, people: tuple[Person, Person]
) -> None:
    anna, bert = people
    bert_as_anna_sees_him = proxy.gate("anna", bert.address, peer="bert")
    anna.send(b"hello", bert_as_anna_sees_him)
    _, anna_as_bert_sees_her = await bert.hear()
    proxy.change_address("bert")
    anna.send(b"to the old address", bert_as_anna_sees_him)
    assert await bert.hears_nothing()
    bert.send(b"here I am", anna_as_bert_sees_her)
    data, from_where = await anna.hear()
    assert data == b"here I am"
    assert from_where != bert_as_anna_sees_him
    anna.send(b"I see", from_where)
    assert await bert.hear() == (b"I see", anna_as_bert_sees_her)


async def test_direct_packets_pass_both_lines(proxy: Proxy, people: tuple[Person, Person]) -> None:
    anna, bert = people
    anna.send(b"hello", proxy.gate("anna", bert.address, peer="bert"))
    await bert.hear()
    assert [proxy.lines[n].up.stats.packets for n in ("anna", "bert")] == [1, 0]
    assert [proxy.lines[n].down.stats.packets for n in ("anna", "bert")] == [0, 1]


async def test_directions_are_set_apart_and_at_any_time(proxy: Proxy, people: tuple[Person, Person]) -> None:
    anna, server = people
    gate = proxy.gate("anna", server.address)
    proxy.lines["anna"].set(up=CLEAN, down=Conditions(down=True))
    anna.send(b"1", gate)
    _, seen_as = await server.hear()
    server.send(b"lost", seen_as)
    assert await anna.hears_nothing()
    proxy.lines["anna"].set(up=CLEAN, down=CLEAN)
    server.send(b"found", seen_as)
    assert (await anna.hear())[0] == b"found"


async def test_delay_is_kept_and_order_too(proxy: Proxy, people: tuple[Person, Person]) -> None:
    anna, server = people
    gate = proxy.gate("anna", server.address)
    proxy.lines["anna"].set(Conditions(delay_ms=60), CLEAN)
    begun = asyncio.get_running_loop().time()
    for n in range(20):
        anna.send(bytes([n]), gate)
    heard = [(await server.hear())[0][0] for _ in range(20)]
    assert heard == list(range(20))
    assert asyncio.get_running_loop().time() - begun >= 0.059


async def test_sources_of_a_gate_are_bounded(proxy: Proxy, people: tuple[Person, Person]) -> None:
    _, server = people
    gate = proxy.gate("anna", server.address)
    crowd = [Person() for _ in range(FLOWS_MAX + 5)]
    for person in crowd:
        person.send(b"x", gate)
    for _ in range(FLOWS_MAX):
        await server.hear()
    assert await server.hears_nothing()
    for person in crowd:
        person.socket.close()
