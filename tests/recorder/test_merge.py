"""Records of several files, brought into order: alike, however much of them is read at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from recorder.part import MERGE_HOLD_NS, STEP_NS, Merge, Window
from relay.spool import Record, RtpRecord

SECOND = 1_000_000_000
MS = 1_000_000


def records(times_ms: list[int]) -> list[Record]:
    return [RtpRecord(at * MS, at.to_bytes(8, "big")) for at in times_ms]


def window_by_window(windows: list[Window]) -> list[tuple[int, int, bytes]]:
    """(end of window, file, packet) in the order in which they are passed on."""
    return [
        (window.until_ns // STEP_NS, number, record.packet)
        for window in windows
        for number, found in window.files
        for record in found
        if isinstance(record, RtpRecord)
    ]


@given(
    st.lists(st.lists(st.integers(0, 6_000), max_size=40).map(sorted), min_size=1, max_size=3),
    st.lists(st.integers(1, 1_200), max_size=12),
)
def test_what_is_passed_on_does_not_depend_on_how_much_is_read_at_a_time(
    files: list[list[int]], steps: list[int]
) -> None:
    at_once, in_steps = Merge(), Merge()
    whole = [(number, records(times)) for number, times in enumerate(files, 1) if times]
    expected = [*at_once.push(whole), *at_once.finish()]
    found: list[Window] = []
    until = 0
    for step in [*steps, 10_000]:  # what each file had when it was looked at
        since, until = until, until + step
        part = [(number, records([at for at in times if since <= at < until])) for number, times in enumerate(files, 1)]
        found += in_steps.push([(number, some) for number, some in part if some])
    found += in_steps.finish()
    assert window_by_window(found) == window_by_window(expected)
    assert in_steps.late == at_once.late == 0


def test_records_wait_for_earlier_ones_of_other_files() -> None:
    merge = Merge()
    assert list(merge.push([(1, records([0, 1_000]))])) == []
    windows = list(merge.push([(1, records([2_000, 3_000])), (2, records([500, 2_900]))]))
    assert [each[1:] for each in window_by_window(windows)] == [
        (1, (0).to_bytes(8, "big")),
        (2, (500).to_bytes(8, "big")),
        (1, (1_000).to_bytes(8, "big")),
    ]
    assert merge.released_ns == 3_000 * MS - MERGE_HOLD_NS


def test_what_comes_after_later_ones_were_passed_on_is_counted_and_kept() -> None:
    merge = Merge()
    passed = list(merge.push([(1, records([0, 5_000]))]))
    passed += merge.push([(2, records([100, 3_000, 5_000]))])
    assert merge.late == 2
    assert len(window_by_window([*passed, *merge.finish()])) == 5


def test_a_file_read_far_ahead_is_left_alone_until_the_others_follow() -> None:
    merge = Merge()
    assert list(merge.push([(1, records([0, 1, 20_000])), (2, records([5]))])) == []
    assert merge.ahead() == {1}
    list(merge.push([(2, records([19_000]))], merge.ahead()))
    assert merge.ahead() == frozenset()


def test_time_never_goes_back_within_a_file() -> None:
    merge = Merge()
    list(merge.push([(1, records([700, 650, 800]))]))
    assert [packet for _, _, packet in window_by_window(list(merge.finish()))] == [
        at.to_bytes(8, "big") for at in (700, 650, 800)
    ]
