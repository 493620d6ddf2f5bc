"""Token buckets by key, on a clock that is passed in."""

from __future__ import annotations

from config.rates import Rates

SECOND_NS = 1_000_000_000


def test_each_key_has_a_burst_and_a_rate_of_its_own() -> None:
    rates = Rates(2.0, 3)
    assert [rates.take("a", 0) for _ in range(4)] == [True, True, True, False]
    assert rates.take("b", 0)
    assert [rates.take("a", SECOND_NS) for _ in range(3)] == [True, True, False]


def test_memory_is_bounded_by_forgetting_the_key_unused_for_longest() -> None:
    rates = Rates(1.0, 1, keys_max=2)
    assert rates.take("a", 0)
    assert rates.take("b", 0)
    assert not rates.take("a", 0)
    assert rates.take("c", 0)
    assert not rates.take("a", 0), "used lately, so still known"
    assert rates.take("b", 0), "forgotten, so it starts afresh"
