"""What time costs: exact, monotone, without drift, and the same in SQL."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.money import BPS, LIVE_MAX_MS, RATE_MAX, Tariff, affordable_ms, cost, split
from billing.tariffs import PRESETS, preset

per_second = st.builds(Tariff, st.integers(1, RATE_MAX), st.integers(0, BPS))


@st.composite
def _any_tariff(draw: st.DrawFn) -> Tariff:
    """Steps, free time, a minimum, flat prices with and without overtime, terms that follow others."""
    flat = draw(st.booleans())
    return Tariff(
        draw(st.integers(0 if flat else 1, RATE_MAX)),
        draw(st.integers(0, BPS)),
        step_ms=draw(st.sampled_from([1, 1_000, 5_000, 60_000, 3_600_000])),
        free_ms=draw(st.sampled_from([0, 1, 180_000, 7_777_777])),
        flat_minor=draw(st.integers(1, 10**6)) if flat else 0,
        included_ms=draw(st.sampled_from([1, 900_000, 3_600_000])) if flat else 0,
        minimum_minor=draw(st.sampled_from([0, 1, 500, 10**6])),
        after_ms=draw(st.sampled_from([0, 1, 61_234])),
        after_minor=draw(st.sampled_from([0, 1, 203])),
        after_provider_minor=draw(st.sampled_from([0, 1])),
        after_rest=draw(st.sampled_from([0, 1, 59_999] if flat else [0, 1, 59_999, -12_345_678])),
        after_share_rest=draw(st.sampled_from([0, 9_999])),
    )


tariffs = st.one_of(per_second, _any_tariff())
times = st.integers(0, 10**10)
amounts = st.integers(0, 10**12)


@given(per_second, times)
def test_cost_is_rounded_down_in_the_clients_favour(tariff: Tariff, live_ms: int) -> None:
    exact_times_60000 = tariff.minor_per_minute * live_ms
    assert 0 <= exact_times_60000 - cost(tariff, live_ms) * 60_000 < 60_000


@given(tariffs, amounts)
def test_affordable_is_the_exact_inverse_of_cost(tariff: Tariff, amount_minor: int) -> None:
    longest_ms = affordable_ms(tariff, tariff.after_minor + amount_minor)
    assert cost(tariff, longest_ms) <= tariff.after_minor + amount_minor
    assert longest_ms == tariff.longest_ms or tariff.after_minor + amount_minor < cost(tariff, longest_ms + 1)


@given(tariffs, times, times)
def test_more_time_never_costs_less(tariff: Tariff, one_ms: int, other_ms: int) -> None:
    assert cost(tariff, min(one_ms, other_ms)) <= cost(tariff, max(one_ms, other_ms))


@given(tariffs, amounts)
def test_a_split_loses_no_unit(tariff: Tariff, gross_minor: int) -> None:
    gross_minor += tariff.after_minor
    parts = split(tariff, gross_minor)
    assert parts.provider_minor + parts.platform_minor == gross_minor
    assert 0 <= parts.provider_minor <= gross_minor + tariff.after_provider_minor


@given(st.one_of(per_second, _any_tariff()), st.lists(st.integers(0, 100_000), max_size=50))
def test_postings_from_totals_add_up_and_never_pay_back(tariff: Tariff, steps: list[int]) -> None:
    live_ms, posted, provider = tariff.after_ms, tariff.after_minor, tariff.after_provider_minor
    for step in steps:
        live_ms += step
        charge = cost(tariff, live_ms) - posted
        share = split(tariff, posted + charge).provider_minor - provider
        assert charge >= 0
        assert 0 <= share <= charge
        posted, provider = posted + charge, provider + share
    assert posted == cost(tariff, live_ms)
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


def test_a_started_minute_is_charged_in_advance() -> None:
    tariff = Tariff(299, 7_000, step_ms=60_000)
    assert [cost(tariff, ms) for ms in (0, 1, 60_000, 60_001, 120_000, 120_001)] == [0, 299, 299, 598, 598, 897]
    assert affordable_ms(tariff, 298) == 0, "below one minute's rate there is no time at all"
    assert affordable_ms(tariff, 3 * 299 + 298) == 180_000


def test_every_five_seconds_at_90_10_does_not_drift() -> None:
    tariff = preset("every_5_s_90_10", 100)
    assert [cost(tariff, ms) for ms in (1, 5_000, 5_001, 60_000)] == [8, 8, 16, 100]
    assert split(tariff, 1_000).provider_minor == 900


def test_a_flat_price_covers_its_time_and_ends_or_runs_into_overtime() -> None:
    ends, goes_on = preset("flat_30", flat_minor=2_500), preset("flat_30_overtime", 100, 2_500)
    assert [cost(ends, ms) for ms in (0, 1, 1_800_000)] == [0, 2_500, 2_500]
    assert (affordable_ms(ends, 2_499), affordable_ms(ends, 10**6)) == (0, 1_800_000)
    assert [cost(goes_on, ms) for ms in (1_800_000, 1_800_001, 1_860_000, 1_860_001)] == [2_500, 2_600, 2_600, 2_700]
    assert affordable_ms(goes_on, 2_750) == 1_920_000


def test_free_seconds_come_first_and_a_minimum_charge_after() -> None:
    tariff = Tariff(60, 7_000, free_ms=180_000, minimum_minor=50)
    assert [cost(tariff, ms) for ms in (180_000, 180_001, 230_000, 231_000)] == [0, 50, 50, 51]
    assert (affordable_ms(tariff, 0), affordable_ms(tariff, 49), affordable_ms(tariff, 50)) == (
        180_000,
        180_000,
        230_999,
    )


def test_a_preset_takes_the_price_that_it_has_a_place_for() -> None:
    assert {name for name in PRESETS if name.startswith("flat_")} == {
        f"flat_{minutes}{more}" for minutes in (15, 30, 45, 60) for more in ("", "_overtime")
    }
    assert preset("per_started_minute_70_30", 299) == Tariff(299, 7_000, step_ms=60_000)
    with pytest.raises(ValueError, match="another kind of price"):
        preset("flat_15", 100)
    with pytest.raises(KeyError):
        preset("per_moon")


@pytest.mark.parametrize(
    "terms",
    [
        {"step_ms": 0}, {"step_ms": 3_600_001}, {"free_ms": -1}, {"flat_minor": 5}, {"included_ms": 5},
        {"flat_minor": -1, "included_ms": 5}, {"minimum_minor": -1}, {"minimum_minor": 10**11},
    ],
)  # fmt: skip
def test_senseless_terms_are_refused(terms: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"at most|is from"):
        Tariff(100, 7_000, **terms)


async def test_sql_computes_the_same(owner: Any) -> None:
    chosen = random.Random(7)

    def one() -> Tariff:
        flat = chosen.random() < 0.3
        return Tariff(
            chosen.randint(0 if flat else 1, 10 ** chosen.randint(1, 7)),
            chosen.randint(0, BPS),
            step_ms=chosen.choice([1, 1, 1_000, 5_000, 60_000, 3_600_000]),
            free_ms=chosen.choice([0, 0, 1, 180_000, 9_999_999]),
            flat_minor=chosen.randint(1, 10**6) if flat else 0,
            included_ms=chosen.choice([1, 900_000, 3_600_000]) if flat else 0,
            minimum_minor=chosen.choice([0, 0, 1, 10**6]),
            after_rest=chosen.choice([0, 0, 59_999] if flat else [0, 0, 1, 59_999, -(10**9)]),
        )

    cases = [(Tariff(1, 0), 0, 0), (Tariff(RATE_MAX, BPS), 10**10, 10**12), (Tariff(199, 7_000), 60_301, 199)]
    cases += [(one(), chosen.randint(0, 10 ** chosen.randint(1, 10)), chosen.randint(0, 10 ** chosen.randint(1, 12)))
              for _ in range(3_000)]  # fmt: skip
    names = (
        *("minor_per_minute", "step_ms", "free_ms", "flat_minor", "included_ms", "minimum_minor", "provider_bps"),
        "after_rest",
    )
    columns: list[list[int]] = [[getattr(tariff, name) for tariff, _, _ in cases] for name in names]
    rows = await owner.fetch(
        "select tariff_cost(r, s, f, p, i, m, d, t) as cost, tariff_affordable_ms(r, s, f, p, i, m, d, a) as ms,"
        " share_minor(a, b) as share from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],"
        " $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])"
        " with ordinality u (r, s, f, p, i, m, b, d, t, a, n)"
        " order by n",
        *columns,
        [live_ms for _, live_ms, _ in cases],
        [amount for _, _, amount in cases],
    )
    for (tariff, live_ms, amount), row in zip(cases, rows, strict=True):
        expected = (cost(tariff, live_ms), affordable_ms(tariff, amount), split(tariff, amount).provider_minor)
        # A meter's limit is a column of its own in SQL.
        assert (row["cost"], min(row["ms"], LIVE_MAX_MS), row["share"]) == expected, (tariff, live_ms, amount)
