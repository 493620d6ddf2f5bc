"""TCP over a bad line: everything arrives, in order, and what was lost costs time."""

from __future__ import annotations

import asyncio
import random

import pytest

from bench.netlink import Conditions, Link
from bench.netproxy import Line
from bench.nettcp import RTO_MIN_MS, SEGMENT, TcpGate, passes_ms


def link(**conditions: float) -> Link:
    return Link("seed", Conditions(**conditions))  # type: ignore[arg-type]


def test_a_clean_line_costs_its_delay() -> None:
    assert passes_ms(link(delay_ms=40), link(), 10 * SEGMENT, random.Random(1)) == 40


def test_each_lost_segment_costs_a_timer_and_a_second_loss_twice_as_much() -> None:
    lossy, luck = link(loss=0.5), random.Random(1)
    times = {passes_ms(lossy, link(), 1, luck) for _ in range(200)}
    assert {0, RTO_MIN_MS, 2 * RTO_MIN_MS, 4 * RTO_MIN_MS} <= times
    few = sum(passes_ms(link(loss=0.1), link(), 1, luck) > 0 for _ in range(1_000))
    many = sum(passes_ms(link(loss=0.1), link(), 8 * SEGMENT, luck) > 0 for _ in range(1_000))
    assert 60 < few < 140
    assert many > 2 * few


def test_a_loss_costs_a_round_trip_where_others_follow_and_the_timer_where_none_do() -> None:
    slow, luck = link(loss=0.5, delay_ms=150), random.Random(1)
    alone = {passes_ms(slow, link(delay_ms=150), 1, luck) for _ in range(50)}
    assert {150, 150 + 300 + RTO_MIN_MS} <= alone
    rarely = link(loss=0.02, delay_ms=150)
    of_many = [passes_ms(rarely, link(delay_ms=150), 20 * SEGMENT, luck) for _ in range(300)]
    assert of_many.count(150 + 300) > of_many.count(150 + 300 + RTO_MIN_MS) > 0


@pytest.mark.parametrize("loss", [0.0, 0.05])
async def test_all_of_a_conversation_arrives_in_order(loss: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"heard " + await reader.read())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    line = Line(link(), link())
    async with server, TcpGate("seed", line, server.sockets[0].getsockname()) as gate:
        reader, writer = await asyncio.open_connection(*gate.address)
        line.set(Conditions(loss=loss), Conditions(loss=loss))
        said = bytes(range(256)) * 400
        for at in range(0, len(said), 10_000):
            writer.write(said[at : at + 10_000])
            await asyncio.sleep(0)
        writer.write_eof()
        async with asyncio.timeout(20):
            assert await reader.read() == b"heard " + said
        writer.close()


async def test_nobody_behind_the_gate_closes_the_connection() -> None:
    async with TcpGate("seed", Line(link(), link()), ("127.0.0.1", 9)) as gate:
        reader, writer = await asyncio.open_connection(*gate.address)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
