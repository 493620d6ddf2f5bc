"""The spool: what is written comes back, what is torn is forgiven, what is altered is found."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.spool import (
    PartHeader,
    PartParticipant,
    Record,
    RtpRecord,
    SenderReportRecord,
    SpoolCorrupt,
    SpoolError,
    SpoolPart,
    SpoolStream,
    SpoolTrack,
    SpoolTrouble,
    SpoolWriter,
    TrackEventRecord,
    find_parts,
    open_part,
)
from relay.spool import writer as writer_module

KEY = bytes(range(32))
TRACK = SpoolTrack(user_id=7, source="camera", ssrc=11, kind="video", clock_rate=90_000, codecs={96: "VP8"})
HEADER = PartHeader(
    tenant_id=1,
    session_id=2,
    session_public_id="ses_0",
    recording_public_id="rec_0",
    epoch=3,
    worker_id="w1",
    key_id="local-1",
    wrapped_key=b"\x00\xffwrapped",
    started_wall_ms=1_800_000_000_000,
    started_monotonic_ns=5,
    participants=(PartParticipant(user_id=7, public_id="usr_0", name="Ana", role="client"),),
)
TRACK_RECORD = TrackEventRecord(
    1,
    "track",
    {"user_id": 7, "source": "camera", "ssrc": 11, "kind": "video", "clock_rate": 90_000, "codecs": {"96": "VP8"}},
)


def unwrap(key_id: str, wrapped: bytes) -> bytes:
    assert (key_id, wrapped) == (HEADER.key_id, HEADER.wrapped_key)
    return KEY


def begin(tmp: Path, **kwargs: Any) -> tuple[SpoolPart, SpoolStream]:
    part = SpoolPart.open(tmp, HEADER, KEY, **kwargs)
    return part, part.add_stream(TRACK, 1)


def read_all(directory: Path) -> list[tuple[int, Record]]:
    records: list[tuple[int, Record]] = []
    with open_part(directory, unwrap) as reader:
        while found := reader.poll():
            records += found
    return records


def put(stream: SpoolStream, record: Record) -> None:
    match record:
        case RtpRecord(at, packet):
            stream.rtp(at, packet)
        case SenderReportRecord(at, ssrc, ntp64, rtp_timestamp):
            stream.sender_report(at, ssrc, ntp64, rtp_timestamp)
        case TrackEventRecord(at, event, fields):
            stream.event(at, event, fields)


u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
record_strategy = st.one_of(
    st.builds(RtpRecord, u64, st.binary(max_size=1500)),
    st.builds(SenderReportRecord, u64, u32, u64, u32),
    st.builds(TrackEventRecord, u64, st.just("muted"), st.fixed_dictionaries({"muted": st.booleans()})),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.tuples(st.integers(1, 3), record_strategy), max_size=12), max_size=4))
def test_records_come_back_in_order_per_file(tmp_path: Path, batches: list[list[tuple[int, Record]]]) -> None:
    shutil.rmtree(tmp_path / "rec_0", ignore_errors=True)
    part = SpoolPart.open(tmp_path, HEADER, KEY)
    streams = [part.add_stream(TRACK, 1) for _ in range(3)]
    for batch in batches:
        for number, record in batch:
            put(streams[number - 1], record)
        part.flush(sync=False)
    part.close()
    found = read_all(part.directory)
    for number in (1, 2, 3):
        written = [record for batch in batches for n, record in batch if n == number]
        assert [record for n, record in found if n == number] == [TRACK_RECORD, *written]


def test_header_comes_back(tmp_path: Path) -> None:
    part, _ = begin(tmp_path)
    with open_part(part.directory, unwrap) as reader:
        assert reader.header == HEADER
    assert find_parts(tmp_path) == [part.directory]
    part.close()


def test_no_media_in_clear_on_disk(tmp_path: Path) -> None:
    part, stream = begin(tmp_path)
    stream.rtp(1, b"in clear " * 20)
    part.close()
    assert b"in clear" not in (part.directory / "0001.spool").read_bytes()


def test_reader_follows_a_part_that_grows_and_finds_new_files(tmp_path: Path) -> None:
    part, stream = begin(tmp_path)
    with open_part(part.directory, unwrap) as reader:
        assert reader.poll() == []
        part.flush(sync=True)
        assert reader.poll() == [(1, TRACK_RECORD)]
        stream.rtp(2, b"a")
        other = part.add_stream(TRACK, 1)
        other.rtp(3, b"b")
        part.flush(sync=False)
        assert reader.poll() == [(1, RtpRecord(2, b"a")), (2, TRACK_RECORD), (2, RtpRecord(3, b"b"))]
        assert (reader.closed, reader.writer_alive) == (False, True)
        part.close()
        assert (reader.closed, reader.writer_alive) == (True, False)
        assert reader.poll() == []


def test_a_writer_that_cannot_be_looked_for_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, _ = begin(tmp_path)

    def no_more(*_: Any) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with open_part(part.directory, unwrap) as reader:
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", no_more)
            with pytest.raises(OSError, match="Too many open files"):
                assert reader.writer_alive
        assert reader.writer_alive
        (part.directory / "lock").unlink()
        assert not reader.writer_alive
    part.close()


def written_file(tmp: Path) -> tuple[SpoolPart, bytes, list[tuple[int, Record]]]:
    part, stream = begin(tmp)
    part.flush(sync=False)
    stream.rtp(2, b"x" * 30)
    part.flush(sync=False)
    stream.end(3)
    part.close()
    return part, (part.directory / "0001.spool").read_bytes(), read_all(part.directory)


def test_a_file_cut_at_any_byte_yields_a_prefix(tmp_path: Path) -> None:
    part, data, records = written_file(tmp_path)
    (part.directory / "closed").unlink()
    seen = set()
    for length in range(len(data)):
        (part.directory / "0001.spool").write_bytes(data[:length])
        found = read_all(part.directory)
        assert found == records[: len(found)]
        seen.add(len(found))
    assert seen == {0, 1, 2}


def test_a_torn_tail_is_delivered_once_it_is_whole(tmp_path: Path) -> None:
    part, data, records = written_file(tmp_path)
    (part.directory / "closed").unlink()
    path = part.directory / "0001.spool"
    path.write_bytes(data[:-5])
    with open_part(part.directory, unwrap) as reader:
        assert reader.poll() == records[:2]
        assert reader.poll() == []
        path.write_bytes(data)
        assert reader.poll() == records[2:]


def test_a_tail_of_zeros_is_torn_not_corrupt(tmp_path: Path) -> None:
    part, data, records = written_file(tmp_path)
    (part.directory / "closed").unlink()
    (part.directory / "0001.spool").write_bytes(data + bytes(100))
    assert read_all(part.directory) == records


def test_any_flipped_byte_is_found(tmp_path: Path) -> None:
    part, data, records = written_file(tmp_path)
    for offset in range(len(data)):
        damaged = bytearray(data)
        damaged[offset] ^= 1 + offset % 255
        (part.directory / "0001.spool").write_bytes(damaged)
        found: list[tuple[int, Record]] = []
        with open_part(part.directory, unwrap) as reader, pytest.raises(SpoolError):  # noqa: PT012
            while True:
                more = reader.poll()
                found += more
                if not more:
                    break
        assert found == records[: len(found)]


def test_a_changed_part_header_is_found(tmp_path: Path) -> None:
    part, _, _ = written_file(tmp_path)
    path = part.directory / "part.json"
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(HEADER, tenant_id=9)))
    with open_part(part.directory, unwrap) as reader, pytest.raises(SpoolCorrupt):
        reader.poll()


def test_blocks_moved_repeated_or_left_out_are_found(tmp_path: Path) -> None:
    part, data, _ = written_file(tmp_path)
    ends, sizes = [], []
    for cut in range(1, len(data) + 1):
        (part.directory / "closed").unlink(missing_ok=True)
        (part.directory / "0001.spool").write_bytes(data[:cut])
        sizes.append(len(read_all(part.directory)))
        if len(sizes) > 1 and sizes[-1] > sizes[-2]:
            ends.append(cut)
    block1, block2 = data[ends[0] : ends[1]], data[ends[1] : ends[2]]
    head_and_block0 = data[: ends[0]]
    for blocks in ((block2, block1), (block1, block1), (block2,)):
        (part.directory / "0001.spool").write_bytes(head_and_block0 + b"".join(blocks))
        with pytest.raises(SpoolCorrupt):
            read_all(part.directory)


def test_a_file_put_under_another_number_is_found(tmp_path: Path) -> None:
    part, data, _ = written_file(tmp_path)
    (part.directory / "0002.spool").write_bytes(data)
    with pytest.raises(SpoolCorrupt):
        read_all(part.directory)


def test_a_cut_file_of_a_closed_part_is_corrupt(tmp_path: Path) -> None:
    part, data, records = written_file(tmp_path)
    (part.directory / "0001.spool").write_bytes(data[:-1])
    with open_part(part.directory, unwrap) as reader:
        assert reader.poll() == records[:2]
        with pytest.raises(SpoolCorrupt):
            reader.poll()
        assert reader.poll() == []


def test_a_part_is_never_written_twice(tmp_path: Path) -> None:
    part, _ = begin(tmp_path)
    part.close()
    with pytest.raises(SpoolError):
        SpoolPart.open(tmp_path, HEADER, KEY)


def test_full_queue_drops_the_newest_and_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "PENDING_BYTES_MAX", 4_000)
    troubles: list[SpoolTrouble] = []
    part, stream = begin(tmp_path, on_trouble=lambda trouble, why: troubles.append(trouble))
    for i in range(10):
        stream.rtp(i, bytes([i]) * 1_000)
    assert (stream.dropped, troubles) == (7, [SpoolTrouble.FULL])
    part.flush(sync=False)
    stream.rtp(20, b"after")
    stream.rtp(21, bytes(5_000))
    stream.end(22)
    part.close()
    found = [record for _, record in read_all(part.directory)]
    assert [r.packet[:1] for r in found if isinstance(r, RtpRecord)] == [b"\0", b"\1", b"\2", b"a"]
    assert TrackEventRecord(20, "lost", {"packets": 7}) in found
    assert found[-2:] == [TrackEventRecord(22, "lost", {"packets": 1}), TrackEventRecord(22, "end", {})]


def test_a_full_disk_ends_the_part_and_reports_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    troubles: list[tuple[SpoolTrouble, str]] = []
    part, stream = begin(tmp_path, on_trouble=lambda *trouble: troubles.append(trouble))
    part.flush(sync=True)
    fd = stream._fd
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, fd)
    os.close(full)
    stream.rtp(2, b"lost")
    part.flush(sync=True)
    stream.rtp(3, b"lost too")
    part.flush(sync=True)
    part.close()
    assert [trouble for trouble, _ in troubles] == [SpoolTrouble.FAILED]
    assert part.failed is not None
    with open_part(part.directory, unwrap) as reader:
        assert (reader.closed, reader.writer_alive) == (False, False)
        assert reader.poll() == [(1, TRACK_RECORD)]


def test_the_writer_thread_writes_by_itself_and_closes_what_is_open(tmp_path: Path) -> None:
    with SpoolWriter() as writer:
        part = writer.open_part(tmp_path, HEADER, KEY).result(5)
        stream = part.add_stream(TRACK, 1)
        for i in range(100):
            stream.sink(1, i, b"p" * 1000)
        with pytest.raises(SpoolError):
            writer.open_part(tmp_path, HEADER, KEY).result(5)
        other = writer.open_part(tmp_path, msgspec.structs.replace(HEADER, epoch=4), KEY).result(5)
        writer.close_part(other).result(5)
        assert (other.directory / "closed").exists()
    assert (part.directory / "closed").exists()
    assert len(read_all(part.directory)) == 101


def test_a_closed_writer_refuses_and_closes_twice_without_harm(tmp_path: Path) -> None:
    writer = SpoolWriter()
    writer.close()  # never started
    with SpoolWriter() as writer:
        part = writer.open_part(tmp_path, HEADER, KEY).result(5)
    writer.close()
    for future in (writer.open_part(tmp_path, HEADER, KEY), writer.close_part(part)):
        with pytest.raises(SpoolError):
            future.result(5)


def test_a_fault_of_one_part_leaves_the_others(tmp_path: Path) -> None:
    troubles: list[SpoolTrouble] = []
    with SpoolWriter() as writer:
        bad = writer.open_part(tmp_path, HEADER, KEY, lambda trouble, why: troubles.append(trouble)).result(5)
        good = writer.open_part(tmp_path, msgspec.structs.replace(HEADER, epoch=4), KEY).result(5)
        bad.add_stream(TRACK, 1).event(2, "muted", {"muted": object()})
        good.add_stream(TRACK, 1).rtp(2, b"x")
    assert troubles == [SpoolTrouble.FAILED]
    assert not (bad.directory / "closed").exists()
    assert read_all(good.directory) == [(1, TRACK_RECORD), (1, RtpRecord(2, b"x"))]


def test_a_file_of_a_later_version_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    part, stream = begin(tmp_path)
    part.add_stream(TRACK, 1)
    stream.end(2)
    part.close()
    path = part.directory / "0001.spool"
    head = bytearray(path.read_bytes()[:10] + b"local-1" + bytes(32))
    head[4] = 2
    path.write_bytes(head + zlib.crc32(head).to_bytes(4, "big"))
    with open_part(part.directory, unwrap) as reader:
        assert reader.poll() == [(2, TRACK_RECORD)]
        with pytest.raises(SpoolError, match="version 2"):
            reader.poll()
        assert reader.poll() == []


def test_the_lock_goes_with_a_killed_writer(tmp_path: Path) -> None:
    script = (
        "import sys, os, time, msgspec\n"
        "from pathlib import Path\n"
        "from relay.spool import *\n"
        "header = msgspec.json.decode(sys.stdin.read(), type=PartHeader)\n"
        "part = SpoolPart.open(Path(sys.argv[1]), header, bytes(range(32)))\n"
        "part.add_stream(SpoolTrack(user_id=7, source='camera', ssrc=11, kind='video', clock_rate=90000,"
        " codecs={96: 'VP8'}), 1)\n"
        "part.flush(sync=True)\n"
        "print('up', flush=True)\n"
        "time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(msgspec.json.encode(HEADER))
    child.stdin.close()
    assert child.stdout.readline() == b"up\n"
    with open_part(find_parts(tmp_path)[0], unwrap) as reader:
        assert reader.writer_alive
        child.kill()
        child.wait()
        assert not reader.writer_alive
        assert reader.poll() == [(1, TRACK_RECORD)]
    child.stdout.close()
