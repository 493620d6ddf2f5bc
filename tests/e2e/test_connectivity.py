"""Ways to a worker, each in a real call of two browsers: TCP where no UDP gets through, and IPv6."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page

from bench.installation import Installation
from tests.e2e.test_kills import Call, call_between_pages, hang_up

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("chromium_program"), pytest.mark.timeout(180)]

NO_UDP = """
(() => {
  const native = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = function (description) {
    const lines = description.sdp.split('\\r\\n').filter((line) => !/^a=candidate:\\S+ 1 udp /.test(line));
    return native.call(this, { type: description.type, sdp: lines.join('\\r\\n') });
  };
})();
"""
"""As in a network that drops UDP: no UDP candidate of the server is there to be reached."""

PATH = """
async () => {
  const report = await window.__witness.pcs.at(-1).getStats();
  const pairs = [...report.values()].filter((x) => x.type === 'candidate-pair' && x.nominated);
  const pair = pairs.find((x) => x.state === 'succeeded');
  const { protocol, address, tcpType } = report.get(pair.remoteCandidateId);
  return { protocol, address, tcpType: report.get(pair.localCandidateId).tcpType };
}
"""


async def path_of(page: Page) -> dict[str, Any]:
    """What the selected pair of the page's connection says of itself."""
    path: dict[str, Any] = await page.evaluate(PATH)
    return path


async def lasts(call: Call) -> bool:
    """Whether a hundred more frames come through."""
    before = await call.frames()
    await call.client.wait_for_function(f"() => window.__witness.frames > {before + 100}", timeout=20_000)
    return True


async def test_call_goes_over_tcp_where_no_udp_gets_through(turnpike: Installation) -> None:
    async with call_between_pages(turnpike, scripts=[NO_UDP]) as call:
        assert await lasts(call)
        for page in (call.client, call.provider):
            assert (await path_of(page))["protocol"] == "tcp"
        await hang_up(call)


async def test_call_goes_over_udp_where_both_are_offered(turnpike: Installation) -> None:
    async with call_between_pages(turnpike) as call:
        for page in (call.client, call.provider):
            assert (await path_of(page))["protocol"] == "udp"
        await hang_up(call)


async def test_call_goes_over_ipv6_where_there_is_nothing_else() -> None:
    async with (
        Installation(env={"TURNPIKE_MEDIA_ADDRESSES": "::1"}) as turnpike,
        call_between_pages(turnpike) as call,
    ):
        assert (await path_of(call.client))["address"] == "::1"
        assert await lasts(call)
        await hang_up(call)
