"""What people did in a call, and the files that it becomes: decoded from the first frame to the last."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import pytest

from recorder import lane
from recorder.part import MERGE_HOLD_NS, STEP_NS
from recorder.pipeline import Output, Pipeline
from relay.spool import Record, SpoolPartReader, SpoolStream
from tests.recorder.media import MS, START_NS, Coded, Packet, Scene, Sender, audio, decode, lossy, video
from tests.recorder.scenes import KEY, Muxed, both, drain, mux


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, KEY)


def finish(scene: Scene) -> Muxed:
    scene.close()
    return mux(scene.directory)


def ticks_ms(peaks: list[int], times: list[float]) -> list[int]:
    """When the tone ticked, to the nearest 10 ms."""
    loud = [round(at, -1) for at, peak in zip(times, peaks, strict=True) if peak > 6000]
    return [int(at) for n, at in enumerate(loud) if n == 0 or at - loud[n - 1] > 100]


@pytest.mark.parametrize("codec", ["vp8", "vp9", "av1", "h264"])
def test_sound_and_picture_become_one_file_with_every_frame(scene: Scene, codec: str) -> None:
    both(scene, codec=codec)
    muxed = finish(scene)
    found = decode(muxed.file())
    assert len(muxed.runs) == 1
    assert len(found.video_ms) == 150
    assert len(found.audio_ms) == 250
    assert found.video_ms == [float(round(n * 1000 / 30)) for n in range(150)] or all(
        abs(at - n * 1000 / 30) <= 1 for n, at in enumerate(found.video_ms)
    )


def test_picture_and_sound_stay_together_when_the_network_delays_one(scene: Scene) -> None:
    both(scene, delay_ms=180.0)  # the picture arrives 160 ms after the sound of its instant
    muxed = finish(scene)
    found = decode(muxed.file())
    assert abs(found.video_ms[0] - found.audio_ms[0]) <= 10
    assert ticks_ms(found.audio_peaks, found.audio_ms) == [10, 1000, 2000, 3000, 4000]


def test_reordered_and_doubled_packets_change_nothing(tmp_path: Path) -> None:
    files = []
    for name in ("plain", "shaken"):
        scene = Scene(tmp_path / name, KEY)
        sound, picture = Sender("opus", ssrc=1), Sender("vp8", ssrc=2)
        packets = picture.packets(video("vp8", 4.0))
        if name == "shaken":
            times = [packet.arrival_ns for packet in packets]
            for n in range(0, len(packets) - 3, 3):
                packets[n], packets[n + 2] = packets[n + 2], packets[n]
            packets = [Packet(at, packet.data) for at, packet in zip(times, packets, strict=True)]
            packets += [Packet(packet.arrival_ns + 30 * MS, packet.data) for packet in packets[::5]]
        scene.add(sound, sound.packets(audio(4.0)), reports_ms=(2500,))
        scene.add(picture, packets)
        files.append(finish(scene))
    assert [len(decode(each.file()).video_ms) for each in files] == [120, 120]
    assert files[0].file() == files[1].file()


def test_loss_skips_to_the_next_key_frame_and_is_told(scene: Scene) -> None:
    sound, picture = Sender("opus", ssrc=1), Sender("vp8", ssrc=2)
    scene.add(sound, lossy(sound.packets(audio(6.0)), 0.05), reports_ms=(2500,))
    scene.add(picture, lossy(picture.packets(video("vp8", 6.0, gop=15)), 0.02))
    muxed = finish(scene)
    found = decode(muxed.file())
    tracks = {track["kind"]: track for track in muxed.core.described()["tracks"]}
    assert tracks["audio"]["lost"] > 5
    assert tracks["video"]["lost"] > 0
    assert 60 < len(found.video_ms) < 180
    assert len(found.audio_ms) == 300  # silence fills the holes
    # A tick is there unless its own packets were lost, and it is where it was.
    assert set(ticks_ms(found.audio_peaks, found.audio_ms)) <= {
        10,
        20,
        *range(1000, 6000, 1000),
        *range(1020, 6020, 1000),
    }


def test_losses_that_follow_each_other_cost_no_more_than_what_was_lost(scene: Scene) -> None:
    sound, picture = Sender("opus", ssrc=1), Sender("vp8", ssrc=2)
    sent = sound.packets(audio(8.0))
    kept = lossy(sent, 0.05)
    scene.add(sound, kept, reports_ms=(2500,))
    scene.add(picture, picture.packets(video("vp8", 8.0)))
    muxed = finish(scene)
    described = muxed.core.described()
    assert described["sound_overlapping_packets"] == 0
    assert described["sound_filled_ms"] == 20 * (len(sent) - len(kept))


def test_silence_of_dtx_is_filled_so_that_sound_stays_in_time(scene: Scene) -> None:
    sound, picture = Sender("opus", ssrc=1), Sender("vp8", ssrc=2)
    spoken = [packet for packet in audio(8.0) if not 2000 <= packet.at_ms < 4500]
    scene.add(sound, [p for each in spoken for p in _skip(sound, each)], reports_ms=(2500,))
    scene.add(picture, picture.packets(video("vp8", 8.0)))
    muxed = finish(scene)
    found = decode(muxed.file())
    assert len(found.audio_ms) == 400
    assert ticks_ms(found.audio_peaks, found.audio_ms) == [10, 1000, 5000, 6000, 7000]
    gaps = {track["kind"]: track["gaps"] for track in muxed.core.described()["tracks"]}
    assert [gap["to_ms"] - gap["from_ms"] for gap in gaps["audio"]] == [2500]


def _skip(sender: Sender, frame: Coded) -> list[Packet]:
    return sender.packets([frame])


def test_camera_off_leaves_a_gap_and_sound_goes_on(scene: Scene) -> None:
    sound, picture = Sender("opus", ssrc=1), Sender("vp8", ssrc=2)
    seen = [frame for frame in video("vp8", 8.0, gop=30) if not 2000 <= frame.at_ms < 5000]
    scene.add(sound, sound.packets(audio(8.0)), reports_ms=(2500,))
    stream = scene.add(picture, picture.packets(seen))
    stream.event(START_NS + 9000 * MS, "muted", {"muted": True})
    muxed = finish(scene)
    found = decode(muxed.file())
    assert len(muxed.runs) == 1
    assert len(found.audio_ms) == 400
    assert len(found.video_ms) == len(seen)
    assert max(b - a for a, b in zip(found.video_ms, found.video_ms[1:], strict=False)) == pytest.approx(3033, abs=2)
    assert [(g["to_ms"] - g["from_ms"]) // 100 for g in muxed.core.described()["tracks"][1]["gaps"]] == [30]


def test_camera_that_comes_late_begins_a_file_with_both(scene: Scene) -> None:
    sound, picture = Sender("opus", ssrc=1), Sender("vp8", ssrc=2)
    scene.add(sound, sound.packets(audio(12.0)), reports_ms=(2500, 7500))
    scene.add(picture, picture.packets(video("vp8", 4.0), 8000), reports_ms=(8250,))
    muxed = finish(scene)
    assert [run.source for run in muxed.runs] == ["microphone", "camera"]
    first, second = decode(muxed.file(0)), decode(muxed.file(1))
    assert first.video_ms == []
    assert len(second.video_ms) == 120
    assert len(first.audio_ms) == pytest.approx(400, abs=1)
    assert len(first.audio_ms) + len(second.audio_ms) in (600, 601)
    assert muxed.span_ms(0)[1] == pytest.approx(muxed.span_ms(1)[0], abs=20)


def test_microphone_that_comes_late_is_not_lost(scene: Scene) -> None:
    sound, picture = Sender("opus", ssrc=1), Sender("vp8", ssrc=2)
    scene.add(picture, picture.packets(video("vp8", 14.0, gop=300)))
    scene.add(sound, sound.packets(audio(7.0), 7000), reports_ms=(9500,), declared_ms=7000)
    muxed = finish(scene)
    assert [(run.source, run.video is None) for run in muxed.runs] == [
        ("camera", False),
        ("microphone", True),
        ("camera", False),
    ]
    found = [decode(muxed.file(n)) for n in range(3)]
    assert sum(len(each.video_ms) for each in found) == 420
    assert sum(len(each.audio_ms) for each in found) == pytest.approx(350, abs=1)
    assert found[2].audio_ms


def test_sound_alone_begins_after_a_bounded_wait_for_the_camera(scene: Scene) -> None:
    sound, picture = Sender("opus", ssrc=1), Sender("vp8", ssrc=2)
    scene.add(sound, sound.packets(audio(7.0)), reports_ms=(2500,))
    scene.add(picture, [])
    muxed = finish(scene)
    assert [run.source for run in muxed.runs] == ["microphone"]
    assert len(decode(muxed.file()).audio_ms) == 350
    assert muxed.segments[0].start_ms == 0


def test_screen_is_a_file_of_its_own(scene: Scene) -> None:
    both(scene, 4.0)
    screen = Sender("vp8", ssrc=3, source="screen")
    scene.add(screen, screen.packets(video("vp8", 1.0, 480, 270), 1000))
    muxed = finish(scene)
    assert sorted(run.source for run in muxed.runs) == ["camera", "screen"]
    of_screen = next(run for run in muxed.runs if run.source == "screen")
    assert (of_screen.width, of_screen.audio) == (480, None)
    assert len(decode(muxed.file(of_screen.index)).video_ms) == 30


def test_reconnection_begins_a_new_file(scene: Scene) -> None:
    first = Sender("opus", ssrc=1), Sender("vp8", ssrc=2)
    scene.add(first[0], first[0].packets(audio(3.0)), reports_ms=(2500,), ends=True)
    scene.add(first[1], first[1].packets(video("vp8", 3.0)), ends=True)
    again = Sender("opus", ssrc=3), Sender("vp8", ssrc=4)
    scene.add(again[0], again[0].packets(audio(3.0), 5000), reports_ms=(5500,), declared_ms=4900)
    scene.add(again[1], again[1].packets(video("vp8", 3.0), 5000), reports_ms=(5250,), declared_ms=4900)
    muxed = finish(scene)
    assert [run.source for run in muxed.runs] == ["camera", "camera"]
    assert [len(decode(muxed.file(n)).video_ms) for n in (0, 1)] == [90, 90]
    assert [len(decode(muxed.file(n)).audio_ms) for n in (0, 1)] == [150, 150]
    assert muxed.span_ms(1)[0] == pytest.approx(5020, abs=5)


def test_vp8_may_change_its_size_inside_a_file_and_h264_begins_another(tmp_path: Path) -> None:
    for codec, files in (("vp8", 1), ("h264", 2)):
        scene = Scene(tmp_path / codec, KEY)
        sound, picture = Sender("opus", ssrc=1), Sender(codec, ssrc=2)
        scene.add(sound, sound.packets(audio(3.0)), reports_ms=(2500,))
        larger = [Coded(frame.at_ms + 2000, frame.data, frame.key) for frame in video(codec, 1.0, 480, 270)]
        scene.add(picture, picture.packets([*video(codec, 2.0), *larger]))
        muxed = finish(scene)
        found = [decode(muxed.file(n)) for n in range(files)]
        assert len(muxed.runs) == files
        assert sum(len(each.video_ms) for each in found) == 90
        assert {size for each in found for size in each.sizes} == {(320, 180), (480, 270)}
        assert sum(len(each.audio_ms) for each in found) in (150, 151)


def test_clocks_that_drift_apart_are_followed(scene: Scene) -> None:
    """The sound card's clock is 0.5 % fast: only sender reports tell."""
    sound, picture = Sender("opus", ssrc=1), Sender("vp8", ssrc=2)
    fast = [Coded(packet.at_ms * 1.005, packet.data, True) for packet in audio(24.0)]
    stream = scene.add(sound, [], reports_ms=())
    todo = list(range(500, 24_000, 1000))
    for packet, frame in zip(sound.packets(fast), audio(24.0), strict=True):
        at_ns = packet.arrival_ns - round(frame.at_ms * 0.005 * MS)
        if todo and frame.at_ms >= todo[0]:
            todo.pop(0)
            _drifting_report(sound, stream, frame.at_ms)
        stream.rtp(at_ns, packet.data)
    scene.add(picture, picture.packets(video("vp8", 24.0)))
    muxed = finish(scene)
    found = decode(muxed.file())
    ticks = ticks_ms(found.audio_peaks, found.audio_ms)
    assert max(abs(at - n * 1000) for n, at in enumerate(ticks)) <= 40


def _drifting_report(sender: Sender, stream: SpoolStream, at_ms: float) -> None:
    from tests.recorder.media import NTP_EPOCH_S, START_WALL_MS

    ntp_s = NTP_EPOCH_S + (START_WALL_MS + at_ms + sender.clock_ahead_ms) / 1000
    arrival_ns = START_NS + round((at_ms + sender.delay_ms) * MS)
    stream.sender_report(arrival_ns, sender.ssrc, int(ntp_s * 2**32), sender.rtp_timestamp(at_ms * 1.005))


def test_following_a_live_part_gives_the_same_bytes_as_reading_it_afterwards(scene: Scene) -> None:
    sound, picture = Sender("opus", ssrc=1), Sender("vp8", ssrc=2)
    streams = [scene.part.add_stream(sender.track, START_NS) for sender in (sound, picture)]
    packets = [(p, streams[0]) for p in sound.packets(audio(6.0))] + [
        (p, streams[1]) for p in picture.packets(video("vp8", 6.0))
    ]
    packets.sort(key=lambda each: each[0].arrival_ns)
    pipeline: Pipeline | None = None
    outputs: list[Output] = []
    for number, (packet, stream) in enumerate(packets):
        stream.rtp(packet.arrival_ns, packet.data)
        if number % 23 == 0:
            scene.part.flush(sync=False)
            pipeline = pipeline or Pipeline(scene.directory, lambda _key_id, _wrapped: KEY, 2000)
            found, done = drain(pipeline)
            outputs += found
            assert not done
    assert any(outputs)
    scene.close()
    assert pipeline is not None
    found, done = drain(pipeline)
    assert done
    live = Muxed(pipeline, outputs + found)
    assert live.segments == mux(scene.directory).segments
    assert live.merge.late == 0


def test_a_look_at_a_live_part_reads_its_files_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Sender("opus", ssrc=1)
    stream = scene.part.add_stream(sound.track, START_NS)
    packets = sound.packets(audio(6.0))
    polls: list[int] = []
    poll = SpoolPartReader.poll_files

    def counted(self: SpoolPartReader, skip: Container[int] = ()) -> list[tuple[int, list[Record]]]:
        found = poll(self, skip)
        polls.append(len(found))
        return found

    monkeypatch.setattr(SpoolPartReader, "poll_files", counted)
    for packet in packets:
        stream.rtp(packet.arrival_ns, packet.data)
    scene.part.flush(sync=False)
    pipeline = Pipeline(scene.directory, lambda _key_id, _wrapped: KEY, 2000)
    try:
        assert pipeline.round().busy is False
        assert polls == [1]
        assert pipeline.merge.released_ns > packets[-1].arrival_ns - MERGE_HOLD_NS - STEP_NS
        monkeypatch.setattr("relay.spool.reader.POLL_BYTES_MAX", 1)  # there is more than one poll takes
        stream.rtp(packets[-1].arrival_ns + 20 * MS, packets[-1].data)
        scene.part.flush(sync=False)
        assert pipeline.round().busy is False
        assert polls == [1, 1, 0]
    finally:
        pipeline.close()


def test_picture_that_cannot_be_muxed_ends_alone_and_its_sound_goes_on(scene: Scene) -> None:
    sound, picture = Sender("opus", ssrc=1), Sender("h264", ssrc=2)
    scene.add(sound, sound.packets(audio(5.0)), reports_ms=(2500,))
    sets = [n for n in video("h264", 5.0)[0].data.split(b"\0\0\0\1") if n]
    poison = b"".join(b"\0\0\0\1" + unit for unit in sets if unit[0] & 31 == 7) + b"\0\0\0\1\x65garbage"
    scene.add(picture, picture.packets([Coded(n * 100.0, poison, True) for n in range(50)]))
    other = Sender("opus", ssrc=3, user_id=8)
    scene.add(other, other.packets(audio(5.0)), reports_ms=(2500,))
    muxed = finish(scene)
    found = {(run.user_id, run.source): decode(muxed.file(run.index)) for run in muxed.runs if muxed.file(run.index)}
    assert len(found[8, "microphone"].audio_ms) == 250
    assert len(found[7, "camera"].audio_ms) > 240
    assert "cannot mux" in muxed.core.described()["problems"][0]


def test_changing_the_pictures_size_all_the_time_costs_only_ones_own_picture(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "FILES_MAX", 4)
    sound, picture = Sender("opus", ssrc=1), Sender("h264", ssrc=2)
    scene.add(sound, sound.packets(audio(10.0)), reports_ms=(2500, 7500))
    sizes = [video("h264", 0.5, 320 + 16 * (n % 2), 180) for n in range(20)]
    changing = [Coded(each.at_ms + 500 * n, each.data, each.key) for n, some in enumerate(sizes) for each in some]
    scene.add(picture, picture.packets(changing), reports_ms=(250, 5250))
    other = Sender("opus", ssrc=3, user_id=8), Sender("h264", ssrc=4, user_id=8)
    scene.add(other[0], other[0].packets(audio(10.0)), reports_ms=(2500, 7500))
    scene.add(other[1], other[1].packets(video("h264", 10.0)))
    muxed = finish(scene)
    found = [(run.user_id, decode(muxed.file(run.index))) for run in muxed.runs]
    own, others = ([each for user, each in found if user == who] for who in (7, 8))
    assert [(len(each.video_ms), len(each.audio_ms)) for each in others] == [(300, 500)]
    assert [len(each.video_ms) for each in own] == [15, 15, 15, 15, 0]
    assert sum(len(each.audio_ms) for each in own) == pytest.approx(500, abs=5)
    assert muxed.core.described()["frames_beyond_files"] == 300 - 60


@pytest.mark.parametrize("jump_s", [43_000, -43_000, 300])
def test_a_count_that_jumps_places_nothing_hours_away(scene: Scene, jump_s: int) -> None:
    sound, picture = Sender("opus", ssrc=1), Sender("vp8", ssrc=2)
    packets = sound.packets(audio(4.0))
    at_rtp = slice(4, 8)
    for n, packet in enumerate(packets):
        if n == 50 or n >= 100:  # one astray, then for good
            data = bytearray(packet.data)
            moved = int.from_bytes(data[at_rtp], "big") + jump_s * sound.rate
            data[at_rtp] = (moved & 0xFFFFFFFF).to_bytes(4, "big")
            packet.data = bytes(data)
    scene.add(sound, packets, reports_ms=())
    scene.add(picture, picture.packets(video("vp8", 4.0)), reports_ms=())
    muxed = finish(scene)
    found = decode(muxed.file())
    assert (len(muxed.runs), len(found.video_ms)) == (1, 120)
    assert len(found.audio_ms) == pytest.approx(200, abs=2)
    assert ticks_ms(found.audio_peaks, found.audio_ms) == pytest.approx([0, 1000, 2000, 3000], abs=30)
    assert muxed.core.described()["tracks"][0]["clock_jumps"] == 3


def test_coming_back_all_the_time_costs_only_ones_own_sound(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "FILES_MAX", 2)
    for n in range(8):
        sound = Sender("opus", ssrc=10 + n)
        packets = sound.packets(audio(0.4), 5000 * n)
        scene.add(sound, packets, reports_ms=(), declared_ms=5000 * n, ends=True)
    other = Sender("opus", ssrc=3, user_id=8)
    scene.add(other, other.packets(audio(10.0)), reports_ms=(2500,))
    muxed = finish(scene)
    assert [run.user_id for run in muxed.runs].count(7) == 4
    assert [len(decode(muxed.file(run.index)).audio_ms) for run in muxed.runs if run.user_id == 8] == [500]
    assert muxed.core.described()["frames_beyond_files"] == 4 * 20


def test_garbage_in_a_part_is_noted_and_harms_nothing(scene: Scene) -> None:
    both(scene, 3.0)
    stream = scene.part.add_stream(Sender("opus", ssrc=9).track, START_NS)
    for number in range(50):
        stream.rtp(START_NS + number * MS, bytes([number]) * number)
    stream.event(START_NS, "unheard of", {"x": 1})
    stream.sender_report(START_NS, 9, 2**64 - 1, 2**32 - 1)
    muxed = finish(scene)
    assert len(decode(muxed.file()).video_ms) == 90
    assert muxed.core.described()["tracks"][2]["malformed"] == 50
