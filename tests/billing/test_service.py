"""A session's money, from the first hold to the receipt, on a real database."""

from __future__ import annotations

from typing import Any

from billing.terms import Opened, Quote, Wallet
from tests.billing.conftest import RATE, TENANT, Town, books


async def test_a_call_is_held_charged_split_and_receipted(town: Town, owner: Any) -> None:
    client, provider = await town.client(5_000), await town.provider()
    assert await town.billing.quote(TENANT, client, provider, "video") == Quote(RATE, 1_507_839)
    ref = town.ref(client, provider)
    assert await town.billing.open_session(ref) == Opened(90_000, False)
    assert await town.billing.wallet(TENANT, client, "client") == Wallet(5_000, 4_702, 298, "USD")
    assert await town.billing.receipt(TENANT, ref.session_id) is None
    receipt = await town.billing.settle(TENANT, ref.session_id, 1, 75_500)
    assert (receipt.billed_ms, receipt.charged_minor) == (75_500, 199 * 75_500 // 60_000) == (75_500, 250)
    assert (receipt.provider_minor, receipt.platform_minor, receipt.balance_after_minor) == (175, 75, 4_750)
    assert receipt.lines[0].label == "Video call, 1:15 min"
    assert await town.billing.wallet(TENANT, client, "client") == Wallet(4_750, 4_750, 0, "USD")
    assert await town.billing.wallet(TENANT, provider, "provider") == Wallet(175, 175, 0, "USD")
    assert await town.billing.receipt(TENANT, ref.session_id) == receipt
    await books(owner)
