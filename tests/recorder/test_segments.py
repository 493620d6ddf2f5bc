"""Sealed objects open under their own name only; live files are cut and put together byte for byte."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import SegmentCorrupt
from recorder.matroska import Cue, MatroskaError, Splitter, read_cluster, seekable_front
from recorder.muxer import RunFormat, RunMuxer
from recorder.segments import FRONT, SEGMENT_BYTES_MAX, Name, Sealer, Segmenter
from tests.recorder.media import decode, video

NAME = Name(1, "rec_0", 1, 1, 0)
SEALER = Sealer(bytes(32), "local-1")


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_sealed_objects_open_again_and_the_same_is_sealed_alike(plaintext: bytes, segment: int) -> None:
    name = dataclasses.replace(NAME, segment=segment)
    sealed = SEALER.seal(name, plaintext)
    assert SEALER.open(name, sealed) == plaintext
    assert SEALER.seal(name, plaintext) == sealed


@given(st.integers(0, 200), st.integers(1, 255))
def test_any_changed_byte_is_found(at: int, flip: int) -> None:
    sealed = bytearray(SEALER.seal(NAME, b"x" * 100))
    sealed[at % len(sealed)] ^= flip
    with pytest.raises(SegmentCorrupt):
        SEALER.open(NAME, bytes(sealed))


@pytest.mark.parametrize(
    "other",
    [{"tenant_id": 2}, {"recording": "rec_1"}, {"epoch": 2}, {"stream": 2}, {"segment": 1}, {"segment": FRONT}],
)
def test_object_opens_under_its_own_name_only(other: dict[str, int]) -> None:
    with pytest.raises(SegmentCorrupt):
        SEALER.open(dataclasses.replace(NAME, **other), SEALER.seal(NAME, b"media"))  # type: ignore[arg-type]


def test_other_plaintext_never_shares_a_key_stream() -> None:
    one, two = SEALER.seal(NAME, bytes(64)), SEALER.seal(NAME, bytes(63) + b"\1")
    assert sum(a == b for a, b in zip(one[-80:], two[-80:], strict=True)) < 8


def clusters(seconds: float = 4.0) -> tuple[bytes, list[bytes]]:
    muxer, out = RunMuxer(RunFormat("vp8", 320, 180, False)), []
    for frame in video("vp8", seconds):
        out += muxer.write("video", frame.data, round(frame.at_ms), frame.key, 0)
    out += muxer.close()
    return muxer.header, out


@given(st.integers(1, 5000))
def test_live_file_is_cut_alike_however_it_arrives(step: int) -> None:
    header, parts = clusters(2.0)
    data = header + b"".join(parts)
    splitter, found = Splitter(), []
    for at in range(0, len(data), step):
        found += splitter.feed(data[at : at + step])
    assert (splitter.header, found) == (header, parts)


@given(st.binary(max_size=200))
def test_other_bytes_than_matroska_are_refused_or_waited_for(data: bytes) -> None:
    try:
        Splitter().feed(data)
        read_cluster(data, 1)
    except MatroskaError:
        pass


def test_seekable_file_knows_its_duration_and_key_frames() -> None:
    header, parts = clusters()
    cues, offset = [], 0
    for part in parts:
        key_ms = read_cluster(part, 1).key_ms
        cues += [Cue(key_ms, offset)] if key_ms is not None else []
        offset += len(part)
    data = seekable_front(header, cues, 1, offset, 4000) + b"".join(parts)
    assert len(cues) == 2
    found = decode(data)
    assert (found.duration_ms, len(found.video_ms)) == (4000.0, 120)


def test_segments_are_whole_clusters_of_about_the_wanted_length() -> None:
    header, parts = clusters()
    segmenter = Segmenter(0, 1500)
    done = segmenter.push(header, parts) + segmenter.finish(4000)
    assert b"".join(each.plaintext for each in done) == header + b"".join(parts)
    assert [each.number for each in done] == list(range(len(done)))
    assert [each.start_ms for each in done[1:]] == [each.end_ms for each in done[:-1]]
    assert done[-1].end_ms == 4000
    assert all(1000 <= each.end_ms - each.start_ms <= 3000 for each in done[:-1])
    assert max(len(each.plaintext) for each in done) < SEGMENT_BYTES_MAX


def test_segmenter_knows_what_the_seekable_front_needs() -> None:
    header, parts = clusters()
    segmenter, before = Segmenter(0, 1500), 0
    segmenter.push(header, parts)
    assert (segmenter.index.header, segmenter.index.clusters_bytes) == (header, sum(map(len, parts)))
    for cue, key_ms in zip(segmenter.index.cues, (0, 2000), strict=True):
        assert abs(cue.time_ms - key_ms) <= 1
    for part in parts:
        own = [cue.time_ms for cue in segmenter.index.cues if cue.cluster_offset == before]
        assert own == [key for key in [read_cluster(part, 1).key_ms] if key is not None]
        before += len(part)


def test_a_cut_cluster_is_refused_wherever_it_is_cut() -> None:
    _, parts = clusters(1.0)
    for size in [*range(40), len(parts[0]) // 2, len(parts[0]) - 1]:
        with pytest.raises(MatroskaError):
            read_cluster(parts[0][:size], 2)  # no key frame of that track ends the search before the cut
