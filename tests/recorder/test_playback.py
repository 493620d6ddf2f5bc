"""Ranges mean what RFC 9110 says, and the cache stays within its bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.playback import PlainCache, RangeBeyond, read_range


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_range_gives_the_bytes_it_names(size: int, first: int, last: int) -> None:
    data = bytes(range(size))
    try:
        span = read_range(f"bytes={first}-{last}", size)
    except RangeBeyond:
        assert first >= size
        return
    assert (span is None) == (last < first)
    if span is not None:
        assert data[span[0] : span[1]] == data[first : last + 1] != b""


@given(st.integers(1, 50), st.integers(1, 60))
def test_suffix_gives_the_last_bytes(size: int, count: int) -> None:
    assert read_range(f"bytes=-{count}", size) == (max(0, size - count), size)


@given(st.text(max_size=80))
def test_any_text_is_a_range_or_ignored(text: str) -> None:
    try:
        span = read_range(text, 10)
    except RangeBeyond:
        return
    assert span is None or 0 <= span[0] < span[1] <= 10


@pytest.mark.parametrize("text", ["bytes=10-", "bytes=-0", "bytes=99-100"])
def test_range_beyond_the_end_is_refused(text: str) -> None:
    with pytest.raises(RangeBeyond):
        read_range(text, 10)


def test_cache_drops_the_least_recently_used() -> None:
    cache = PlainCache(30)
    for key in "abc":
        cache.put(key, bytes(10))
    assert cache.get("a") is not None
    cache.put("d", bytes(10))
    assert [cache.get(key) is not None for key in "abcd"] == [True, False, True, True]
    cache.put("e", bytes(31))
    assert cache.get("e") is None
