"""Connection tests: one's own only, bounded in number, on a worker that needs no session."""

from __future__ import annotations

import pytest

from config.http import ApiError
from relay.messages import CloseRoom, Negotiate, OpenRoom, Refused
from signaling.client_messages import JoinProbe
from signaling.quality_probe import JOINS_MAX, TEST_MS, TESTS_MAX, Probes
from tests.signaling.conftest import World


@pytest.fixture
def probes(world: World) -> Probes:
    found: Probes = world.control.sockets._probes
    return found


def offer(probe_id: str, side: str) -> JoinProbe:
    return JoinProbe.model_validate({"probe_id": probe_id, "side": side, "sdp": "v=0 offer", "mid": "0"})


async def test_page_is_both_sides_of_an_unbilled_room(world: World, probes: Probes) -> None:
    opened = await probes.open(world.client)
    await probes.join(world.client, offer(opened.probe_id, "send"))
    await probes.join(world.client, offer(opened.probe_id, "receive"))
    await probes.close(world.client, opened.probe_id)
    await probes.close(world.client, opened.probe_id)
    room, sent, received, closed = world.worker.commands
    assert isinstance(room, OpenRoom)
    assert room.probe
    assert room.session_id < 0
    assert room.granted_live_ms == TEST_MS
    assert isinstance(sent, Negotiate)
    assert isinstance(received, Negotiate)
    assert (sent.user_id, received.user_id) == (1, 2)
    assert isinstance(closed, CloseRoom)


async def test_nobody_joins_anothers_test(world: World, probes: Probes) -> None:
    opened = await probes.open(world.client)
    for probe_id, who in ((opened.probe_id, world.ada), ("prb_00000000000000000000", world.client)):
        with pytest.raises(ApiError) as refused:
            await probes.join(who, offer(probe_id, "send"))
        assert refused.value.status == 404
    await probes.close(world.ada, opened.probe_id)
    assert not any(isinstance(command, CloseRoom) for command in world.worker.commands)


async def test_tests_and_their_offers_are_counted(world: World, probes: Probes) -> None:
    opened = await probes.open(world.client)
    for _ in range(JOINS_MAX):
        await probes.join(world.client, offer(opened.probe_id, "send"))
    with pytest.raises(ApiError) as refused:
        await probes.join(world.client, offer(opened.probe_id, "send"))
    assert refused.value.status == 429
    for _ in range(TESTS_MAX - 1):
        await probes.open(world.client)
    with pytest.raises(ApiError) as refused:
        await probes.open(world.client)
    assert refused.value.code == "too_many_tests"
    await probes.open(world.ada)


async def test_full_worker_is_told_in_words(world: World, probes: Probes) -> None:
    world.worker.refuse[OpenRoom] = Refused(code="worker_full", message="full")
    with pytest.raises(ApiError) as refused:
        await probes.open(world.client)
    assert (refused.value.status, refused.value.code) == (503, "no_test_free")
