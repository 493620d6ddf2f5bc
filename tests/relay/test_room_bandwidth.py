"""A room heeds what subscribers' connections take: publishers hear of it, pictures are left out, audio is protected."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from bench.media_client import MediaClient
from relay.bus import ControlBus
from relay.messages import MediaEvidence, MediaStarted
from relay.negotiation import TRANSPORT_CC
from relay.pacer import QUEUED_MAX_NS
from relay.room_bandwidth import FREE_NS, PACE_MIN_BPS, SETTLE_AGAIN_NS, SETTLE_NS, pace_bps
from relay.rtcp import ReceiverEstimate, ReceiverReport, ReportBlock, pack_receiver_estimate, pack_receiver_report
from tests.relay.call import CLIENT, PROVIDER, Call, running_worker, two_pages, until


@pytest.fixture
async def call(redis: Redis, redis_url: str, tmp_path: Path) -> AsyncIterator[Call]:
    async with running_worker(redis, redis_url, tmp_path) as worker, ControlBus(redis) as bus:
        yield Call(worker, bus, redis)


def heard(page: MediaClient, kind: type) -> list[Any]:
    """From now on, what RTCP of one kind a page receives."""
    items: list[Any] = []
    before = page._receive_rtcp

    def receive(item: Any) -> None:
        if isinstance(item, kind):
            items.append(item)
        before(item)

    page._receive_rtcp = receive  # type: ignore[method-assign]
    return items


async def test_a_thin_path_bounds_the_publisher_and_a_thinner_one_pauses_the_picture(call: Call) -> None:
    await call.open()
    async with two_pages(call) as (client, provider):
        await call.wait_for(MediaStarted)
        bounds = heard(provider, ReceiverEstimate)
        client._send_rtcp(pack_receiver_estimate(1, 400_000, []))
        await until(lambda: len(bounds) > 0)
        assert 250_000 < bounds[0].bitrate_bps < 450_000
        client._send_rtcp(pack_receiver_estimate(1, 40_000, []))
        evidence = await call.wait_for(MediaEvidence, lambda event: event.at_once)
        assert {side.user_id: side.videos_paused for side in evidence.participants} == {
            CLIENT: ("camera",),
            PROVIDER: (),
        }
        frames, packets = client.received["camera"].frames_complete, client.received["microphone"].packets
        await until(lambda: client.received["microphone"].packets > packets + 20)
        assert client.received["camera"].frames_complete <= frames + 2
        client._send_rtcp(pack_receiver_estimate(1, 20_000_000, []))
        await call.wait_for(MediaEvidence, lambda event: event.at_once and not event.participants[0].videos_paused)
        await until(lambda: client.received["camera"].frames_complete > frames + 10)
        assert bounds[-1].bitrate_bps > 10_000_000, "the publisher is told that it may send what it likes again"


async def test_a_publisher_of_audio_hears_of_its_subscribers_loss(call: Call) -> None:
    await call.open()
    async with two_pages(call) as (client, provider):
        await call.wait_for(MediaStarted)
        reports = heard(provider, ReceiverReport)
        voice = client.received["microphone"].ssrc
        block = ReportBlock(voice, 51, 10, 0, 0, 0, 0)
        async with asyncio.timeout(5):
            while not any(
                told.fraction_lost == 51 and told.ssrc == provider.sent["microphone"].ssrc
                for report in reports
                for told in report.reports
            ):
                client._send_rtcp(pack_receiver_report(1, [block]))
                await asyncio.sleep(0.1)
        camera = provider.sent["camera"].ssrc
        told = [told.fraction_lost for report in reports for told in report.reports if told.ssrc == camera]
        assert 51 not in told


async def test_nothing_is_sent_to_try_a_path_while_its_videos_halt(call: Call) -> None:
    await call.open()
    async with two_pages(call) as (client, _):
        await call.wait_for(MediaStarted)
        (room,) = call.worker.rooms
        participant, bandwidth = room.participants[CLIENT], room._bandwidth
        client._send_rtcp(pack_receiver_estimate(1, 400_000, []))
        await until(lambda: bandwidth.estimate_bps(participant) is not None)
        subscriber = bandwidth._subscriber(participant)
        assert subscriber is not None
        asked: list[int] = []

        def plan_probe(wanted_bps: float, now_ns: int) -> None:
            asked.append(now_ns)

        subscriber.estimator.plan_probe = plan_probe  # type: ignore[method-assign]
        halted_ns = time.monotonic_ns()
        bandwidth._halt(participant, subscriber, halted_ns)
        for after_ms in range(0, SETTLE_NS // 1_000_000, 50):
            bandwidth._allocate(participant, subscriber, halted_ns + after_ms * 1_000_000)
        assert asked == []
        bandwidth._allocate(participant, subscriber, halted_ns + SETTLE_NS)
        assert asked == [halted_ns + SETTLE_NS]


async def test_a_page_that_agreed_to_tell_nothing_of_videos_is_not_silent(call: Call) -> None:
    await call.open()
    async with two_pages(call):
        await call.wait_for(MediaStarted)
        (room,) = call.worker.rooms
        participant, bandwidth = room.participants[CLIENT], room._bandwidth
        assert bandwidth._video_packets(participant) > 0
        camera = participant.subscribed["camera"]
        others = {uri: number for uri, number in camera.media.extensions.items() if uri != TRANSPORT_CC}
        camera.media = dataclasses.replace(camera.media, extensions=others)
        assert bandwidth._video_packets(participant) == 0


@pytest.mark.parametrize(("estimate_bps", "halts"), [(450_000, True), (1_300_000, False)])
async def test_a_video_halts_only_where_far_more_comes_than_the_path_takes(
    call: Call, estimate_bps: int, halts: bool
) -> None:
    await call.open()
    async with two_pages(call):
        await call.wait_for(MediaStarted)
        (room,) = call.worker.rooms
        participant, bandwidth = room.participants[CLIENT], room._bandwidth
        subscriber = bandwidth._subscriber(participant)
        feed = bandwidth._wiring.feed_of(participant, participant.subscribed["camera"])
        assert subscriber is not None
        assert feed is not None
        subscriber.takes_bps = {"camera": 200_000}  # the small picture was chosen, the large one still comes
        feed[1].best.reception.bitrate_bps = 1_500_000
        subscriber.estimator.receiver_estimate(estimate_bps, 0)
        subscriber.estimator.delay.standing_ms = 200.0
        bandwidth._settle(participant, subscriber, 10 * SETTLE_AGAIN_NS)
        assert (subscriber.settled_ns > 0) == halts


def test_while_a_smaller_picture_is_on_its_way_a_large_key_frame_overflows_and_a_small_one_passes() -> None:
    pace = pace_bps(420_000, 208_000, draining=True)
    large, small = 30_000 * 8 / pace, 8_000 * 8 / pace
    assert large > QUEUED_MAX_NS / 1e9 > small
    assert pace_bps(420_000, None, draining=True) == 504_000
    assert pace_bps(420_000, 208_000, draining=False) == 1_050_000, "nothing is held up: it may come as it does"
    assert pace_bps(30_000, 208_000, draining=True) == PACE_MIN_BPS


async def test_a_path_that_gets_all_there_is_is_seldom_looked_at_and_one_that_is_limited_at_once(call: Call) -> None:
    await call.open()
    async with two_pages(call) as (client, _):
        await call.wait_for(MediaStarted)
        (room,) = call.worker.rooms
        participant, bandwidth = room.participants[CLIENT], room._bandwidth
        looked: list[int] = []
        allocate = bandwidth._allocate

        def look(one: Any, subscriber: Any, now_ns: int) -> None:
            if one is participant:
                looked.append(now_ns)
            allocate(one, subscriber, now_ns)

        bandwidth._allocate = look  # type: ignore[method-assign]
        now_ns = time.monotonic_ns() + 10 * FREE_NS
        bandwidth.tick(now_ns)
        for after_ms in range(0, 1_000, 100):
            bandwidth.tick(now_ns + after_ms * 1_000_000)
        assert looked == [now_ns, now_ns + FREE_NS]
        client._send_rtcp(pack_receiver_estimate(1, 400_000, []))
        await until(lambda: bandwidth.estimate_bps(participant) is not None)
        looked.clear()
        for after_ms in range(1_000, 1_500, 100):
            bandwidth.tick(now_ns + after_ms * 1_000_000)
        assert len(looked) >= 5
