"""What time costs: exact, monotone, without drift, and the same in SQL."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.money import BPS, RATE_MAX, Tariff, affordable_ms, cost, split

tariffs = st.builds(Tariff, st.integers(1, RATE_MAX), st.integers(0, BPS))
times = st.integers(0, 10**10)
amounts = st.integers(0, 10**12)


@given(tariffs, times)
def test_cost_is_rounded_down_in_the_clients_favour(tariff: Tariff, live_ms: int) -> None:
    exact_times_60000 = tariff.minor_per_minute * live_ms
    assert 0 <= exact_times_60000 - cost(tariff, live_ms) * 60_000 < 60_000


@given(tariffs, amounts)
def test_affordable_is_the_exact_inverse_of_cost(tariff: Tariff, amount_minor: int) -> None:
    longest_ms = affordable_ms(tariff, amount_minor)
    assert cost(tariff, longest_ms) <= amount_minor < cost(tariff, longest_ms + 1)


@given(tariffs, amounts)
def test_a_split_loses_no_unit(tariff: Tariff, gross_minor: int) -> None:
    parts = split(tariff, gross_minor)
    assert parts.provider_minor + parts.platform_minor == gross_minor
    assert 0 <= parts.provider_minor <= gross_minor


@given(tariffs, st.lists(st.integers(0, 100_000), max_size=50))
def test_postings_from_totals_add_up_and_never_pay_back(tariff: Tariff, steps: list[int]) -> None:
    live_ms = posted = provider = 0
    for step in steps:
        live_ms += step
        charge = cost(tariff, live_ms) - posted
        share = split(tariff, posted + charge).provider_minor - provider
        assert charge >= 0
        assert 0 <= share <= charge
        posted, provider = posted + charge, provider + share
    assert posted == cost(tariff, sum(steps))
    assert provider == split(tariff, posted).provider_minor


def test_199_a_minute_in_five_second_ticks_does_not_drift() -> None:
    tariff = Tariff(199, 7_000)
    posted = 0
    for tick in range(1, 12 * 60 + 1):
        posted += cost(tariff, tick * 5_000) - posted
        if tick % 12 == 0:
            assert posted == 199 * (tick // 12)
    assert posted == 199 * 60
    assert 12 * 60 * cost(tariff, 5_000) == 11_520 < posted, "per-tick amounts would have drifted by 4.20"


@pytest.mark.parametrize(("rate", "bps"), [(0, 0), (-1, 0), (RATE_MAX + 1, 0), (1, -1), (1, BPS + 1)])
def test_senseless_tariffs_are_refused(rate: int, bps: int) -> None:
    with pytest.raises(ValueError, match="is from"):
        Tariff(rate, bps)


async def test_sql_computes_the_same(owner: Any) -> None:
    chosen = random.Random(7)
    cases = [(1, 0, 0, 0), (RATE_MAX, 10**10, 10**12, BPS), (199, 60_301, 199, 7_000), (60_001, 1, 1, 3_333)]
    cases += [
        (chosen.randint(1, 10 ** chosen.randint(1, 7)), chosen.randint(0, 10**10), chosen.randint(0, 10**12),
         chosen.randint(0, BPS))
        for _ in range(2_000)
    ]  # fmt: skip
    rows = await owner.fetch(
        "select cost_minor(r, t) as cost, affordable_ms(r, a) as ms, share_minor(a, b) as share"
        " from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) with ordinality"
        " u (r, t, a, b, n) order by n",
        *(list(column) for column in zip(*cases, strict=True)),
    )
    for (rate, live_ms, amount, bps), row in zip(cases, rows, strict=True):
        tariff = Tariff(rate, bps)
        expected = (cost(tariff, live_ms), affordable_ms(tariff, amount), split(tariff, amount).provider_minor)
        assert (row["cost"], row["ms"], row["share"]) == expected
