"""Quality on control's side: packed minutes, what is kept of a session, and who may read it."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.http import ApiError
from config.ids import DEFAULT_TENANT
from relay.messages import Direction, QualityMeasured, QualitySecond, ReportStats, Source, TrackSecond
from signaling.client_messages import RoomStats
from signaling.quality import OVER_AFTER_NS, POINTS_MAX, session_quality
from signaling.quality_series import SECONDS, BadSeries, pack, summarise, unpack
from signaling.quality_store import MinuteKey, QualityStore
from signaling.store import Session
from tests.signaling.conftest import World

SOUND = TrackSecond("microphone", "up", 0.02, 3.5, 41_000, None, 0, False, 3.9)
PICTURE = TrackSecond("camera", "down", 0.0, 1.0, 900_000, 29.0, 400, False, 2.5)


def second(user_id: int, at_s: int, mos: float = 4.4, score: int = 5, **other: Any) -> QualitySecond:
    return QualitySecond(user_id, True, score, mos, rtt_ms=41.5, tracks=(SOUND, PICTURE), at_s=at_s, **other)


tracks = st.builds(
    TrackSecond,
    source=st.sampled_from(["microphone", "camera", "screen"]),
    direction=st.sampled_from(["up", "down"]),
    loss=st.floats(0, 1),
    jitter_ms=st.floats(0, 6_000),
    bitrate_bps=st.integers(0, 60_000_000),
    frames_per_second=st.none() | st.floats(0, 200),
    frozen_ms=st.integers(0, 1000),
    paused=st.booleans(),
    mos=st.none() | st.floats(1, 4.5),
)
seconds = st.builds(
    QualitySecond,
    user_id=st.just(7),
    connected=st.booleans(),
    score=st.integers(1, 5),
    mos=st.floats(1, 4.5),
    cause=st.sampled_from(["none", "loss_up", "gone", "video_paused"]),
    rtt_ms=st.none() | st.floats(0, 6_000),
    tracks=st.lists(tracks, max_size=6, unique_by=lambda t: (t.source, t.direction)).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.integers(0, 59), seconds, max_size=10))
def test_packed_minute_comes_back_within_its_units(minute: dict[int, QualitySecond]) -> None:
    packed = pack(minute)
    back = unpack(packed, 7)
    assert back.keys() == minute.keys()
    assert len(packed) <= 4096
    for at, was in minute.items():
        now = back[at]
        assert (now.connected, now.score, now.cause) == (was.connected, was.score, was.cause)
        assert now.mos == pytest.approx(was.mos, abs=0.011)
        assert (now.rtt_ms is None) == (was.rtt_ms is None)
        theirs = {(t.source, t.direction): t for t in now.tracks}
        assert theirs.keys() == {(t.source, t.direction) for t in was.tracks}
        for track in was.tracks:
            assert theirs[track.source, track.direction].loss == pytest.approx(track.loss, abs=1e-4)
            assert theirs[track.source, track.direction].bitrate_bps == pytest.approx(track.bitrate_bps, abs=501)


@settings(max_examples=60, deadline=None)
@given(*[st.dictionaries(st.integers(0, 59), seconds, max_size=10)] * 2)
def test_seconds_packed_onto_a_minute_leave_its_others_as_they_were(
    before: dict[int, QualitySecond], more: dict[int, QualitySecond]
) -> None:
    assert pack(more, pack(before)) == pack({**before, **more})


@given(st.binary(max_size=200))
def test_what_is_no_packed_minute_is_refused(junk: bytes) -> None:
    for data in (junk, b"\x01" + junk):
        with pytest.raises(BadSeries):
            unpack(data, 7)
        with pytest.raises(BadSeries):
            pack({}, data)


def test_full_minute_of_noise_fits_its_row() -> None:
    noise = tuple(
        TrackSecond(source, direction, n / 7, n * 17 % 99, n * 7919 % 9_000_000, n % 60, n * 13 % 999, False, 1 + n % 3)
        for n, (source, direction) in enumerate(itertools.product(get_args(Source), get_args(Direction)))
    )
    minute = {n: QualitySecond(7, True, 1 + n % 5, 1 + n % 4, "none", n * 31 % 900, noise) for n in range(SECONDS)}
    assert len(pack(minute)) < 4096


def test_summary_is_the_worst_stretch_the_middle_and_the_share_that_was_good() -> None:
    series = [second(7, n) for n in range(95)] + [second(7, 95 + n, 1.5, 1) for n in range(5)]
    summary = summarise(series)
    assert summary is not None
    assert (summary.seconds, summary.worst_mos, summary.median_mos) == (100, 1.5, 4.4)
    assert (summary.good_ratio, summary.frozen_ms) == (0.95, 40_000)
    assert summarise([]) is None


async def tell(world: World, session: Session, measured: list[QualitySecond]) -> None:
    await world.worker.tell(QualityMeasured(**world.worker.common(session), seconds=tuple(measured)))
    await world.read()


async def test_what_a_worker_measured_is_kept_summarised_and_read(world: World) -> None:
    session = await world.call()
    at_s = world.clock.wall_ms() // 60_000 * 60 + 58  # over the end of a minute
    both = (world.client.user_id, world.ada.user_id)
    await tell(world, session, [second(user, at_s + n) for n in range(5) for user in both])
    await world.control.quality.save()
    await tell(world, session, [second(world.ada.user_id, at_s + 5 + n, 2.0, 2) for n in range(5)])
    world.clock.advance_ms(OVER_AFTER_NS // 1_000_000)
    await world.control.quality.save()
    store: QualityStore = world.control.quality._store
    found = await store.seconds(session.tenant_id, session.id)
    answer = session_quality(session, found, with_tracks=True)
    client, ada = answer.participants
    assert (answer.from_ms, answer.step_ms) == (at_s * 1000, 1000)
    assert client.score == [5] * 5 + [None] * 5
    assert ada.score == [5] * 5 + [2] * 5
    assert ada.summary is not None
    assert (ada.summary.worst_mos, ada.summary.good_ratio) == (2.0, 0.5)
    assert ada.tracks is not None
    assert {(t.source, t.direction) for t in ada.tracks} == {("microphone", "up"), ("camera", "down")}
    async with world.control.sessions._database.transaction(DEFAULT_TENANT) as connection:
        rows = await connection.fetch("select seconds from session_quality_summary order by user_id")
    assert sorted(row["seconds"] for row in rows) == [5, 10]
    worst, _, good = world.recordings.judged[session.id]
    assert (worst, good) == (2.0, 0.5)


async def test_two_controls_add_to_the_same_minute(world: World) -> None:
    session = await world.call()
    store, user = world.control.quality._store, world.ada.user_id
    key = MinuteKey(session.tenant_id, session.id, user, 1000)
    await store.save({key: {0: second(user, 0), 1: second(user, 1)}})
    await store.save({key: {1: second(user, 1, 3.0, 3), 2: second(user, 2)}})
    found = (await store.seconds(session.tenant_id, session.id))[user]
    assert [s.score for s in found.values()] == [5, 3, 5]


async def test_a_stored_minute_that_cannot_be_read_holds_up_no_other(world: World) -> None:
    session = await world.call()
    store, user, other = world.control.quality._store, world.ada.user_id, world.client.user_id
    bad, good = (MinuteKey(session.tenant_id, session.id, one, 1000) for one in (user, other))
    await store.save({bad: {0: second(user, 0)}, good: {0: second(other, 0)}})
    async with store._database.transaction(session.tenant_id) as sql:
        await sql.execute("update session_quality set samples = $1 where user_id = $2", b"junk", user)
    await store.save({bad: {1: second(user, 1)}, good: {1: second(other, 1)}})
    found = await store.seconds(session.tenant_id, session.id)
    assert {one: sorted(seconds) for one, seconds in found.items()} == {user: [60_001], other: [60_000, 60_001]}


async def test_quality_of_strangers_is_dropped(world: World) -> None:
    session = await world.call()
    await tell(world, session, [second(world.ben.user_id, 60)])
    await world.control.quality.save()
    assert await world.control.quality._store.seconds(session.tenant_id, session.id) == {}


async def test_long_series_is_thinned_out_keeping_the_worst_scores(world: World) -> None:
    session = await world.call()
    user = world.ada.user_id
    found = {user: {n: second(user, n, score=1 if n == 1801 else 5) for n in range(3 * POINTS_MAX + 5)}}
    ada = session_quality(session, found, with_tracks=False).participants[0]
    assert len(ada.score) <= POINTS_MAX
    assert ada.score.count(1) == 1
    assert ada.tracks is None


async def test_digest_goes_to_the_worker_and_only_from_a_participant(world: World) -> None:
    session = await world.call()
    body = RoomStats.model_validate(
        {"session_id": session.public_id, "rtt_ms": 33, "tracks": [{"source": "camera", "direction": "down"}]}
    )
    await world.control.director.stats(world.ada, body)
    sent = world.worker.commands[-1]
    assert isinstance(sent, ReportStats)
    assert (sent.user_id, sent.rtt_ms, len(sent.tracks)) == (world.ada.user_id, 33, 1)
    with pytest.raises(ApiError):
        await world.control.director.stats(world.ben, body)
