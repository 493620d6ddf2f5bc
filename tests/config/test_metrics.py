"""Metrics are named by the rules, and the ops server tells of life and readiness."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable

import aiohttp
import pytest

from config import metrics
from config.metrics import OpsServer, counter, gauge, histogram, render


@pytest.mark.parametrize("name", ["turnpike_calls", "calls_total", "turnpike_Calls_total", "turnpike_wait_ms_total"])
def test_counter_with_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        counter(name, "no")


@pytest.mark.parametrize("name", ["turnpike_rooms_total", "turnpike_delay_ms", "turnpike_size_kib", "rooms"])
def test_gauge_with_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        gauge(name, "no")


def test_promtool_finds_nothing_wrong(tool: Callable[[str, str], str]) -> None:
    promtool = tool("promtool", "prometheus")
    counter("turnpike_test_packets_total", "Packets, by direction.", ["direction"]).labels("in").inc()
    gauge("turnpike_test_rooms", "Rooms open now.").set(3)
    histogram("turnpike_test_connect_seconds", "From offer to first packet.").observe(0.2)
    text = render()
    assert b'turnpike_test_packets_total{direction="in"} 1.0' in text
    assert b"process_resident_memory_bytes" in text
    subprocess.run([promtool, "check", "metrics"], input=text, check=True, timeout=20)


async def _get(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    async with session.get(url) as answer:
        return answer.status, await answer.text()


async def test_ready_only_while_every_check_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "CHECK_TIMEOUT_S", 0.05)
    state = {"disk": True}

    async def hangs() -> bool:
        await asyncio.sleep(60)
        return True

    def breaks() -> bool:
        raise RuntimeError("broken")

    checks: dict[str, metrics.Check] = {"disk": lambda: state["disk"]}
    async with OpsServer("127.0.0.1", 0, checks) as ops, aiohttp.ClientSession() as session:
        assert await _get(session, ops.url + "/healthz") == (200, '{"status": "ok"}')
        assert await _get(session, ops.url + "/readyz") == (200, '{"status": "ok", "checks": {"disk": "ok"}}')
        state["disk"] = False
        assert (await _get(session, ops.url + "/readyz"))[0] == 503
        state["disk"] = True
        checks |= {"bus": hangs, "store": breaks}
        status, text = await _get(session, ops.url + "/readyz")
        assert status == 503
        assert text.count("failing") == 2
        status, text = await _get(session, ops.url + "/metrics")
        assert status == 200
        assert "process_cpu_seconds_total" in text


async def test_taken_port_is_an_error_at_start() -> None:
    async with OpsServer("127.0.0.1", 0, {}) as ops:
        with pytest.raises(OSError):
            await OpsServer("127.0.0.1", ops.port, {}).__aenter__()
