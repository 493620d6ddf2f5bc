"""A recording that is paused keeps nothing, goes on by itself, and begins again with a key frame."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config.clock import SystemClock
from config.keys import KeyRing
from config.settings import Settings
from relay import recording as module
from relay.messages import (
    Done,
    MediaStarted,
    PauseRecording,
    RecordingPaused,
    Refused,
    StartRecording,
    StopRecording,
)
from relay.spool import RtpRecord, open_part
from tests.relay.call import Call
from tests.relay.test_worker import call, two_pages

__all__ = ["call"]
REC: dict[str, Any] = {"recording_public_id": "rec_test"}


def start(call: Call) -> tuple[dict[str, Any], bytes]:
    settings = Settings(data=call.worker.data)
    key_id, wrapped, data_key = KeyRing.from_settings(settings).new_data_key("rec_test")
    return {**REC, "key_id": key_id, "wrapped_key": wrapped}, data_key


async def test_nothing_is_spooled_while_paused_and_files_begin_anew_after(call: Call) -> None:
    begin, data_key = start(call)
    await call.open()
    async with two_pages(call) as (client, _):
        await call.wait_for(MediaStarted)
        assert await call.do(StartRecording, **begin) == Done()
        assert await call.do(PauseRecording, **REC, for_ms=60_000) == Done()
        assert (await call.wait_for(RecordingPaused)).paused
        paused_ns = SystemClock().monotonic_ns()
        await asyncio.sleep(0.5)
        before = client.sent["camera"].key_frames
        resuming_ns = SystemClock().monotonic_ns()
        assert await call.do(PauseRecording, **REC, for_ms=0) == Done()
        resumed_ns = SystemClock().monotonic_ns()
        async with asyncio.timeout(20):
            while client.sent["camera"].key_frames == before:  # noqa: ASYNC110 - asked for over the wire
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.8)
        assert await call.do(StopRecording, **REC) == Done()
    part = open_part(Settings(data=call.worker.data).spool_dir / "rec_test" / "1", lambda *_: data_key)
    media = [(number, record.arrival_ns) for number, record in part.poll() if isinstance(record, RtpRecord)]
    assert not [at for _, at in media if paused_ns < at < resuming_ns]
    assert any(at > resumed_ns for _, at in media)
    assert {number for number, at in media if at > resuming_ns} == {5, 6, 7, 8}


async def test_a_pause_ends_by_itself(call: Call) -> None:
    begin, _ = start(call)
    await call.open()
    async with two_pages(call):
        await call.wait_for(MediaStarted)
        await call.do(StartRecording, **begin)
        await call.do(PauseRecording, **REC, for_ms=200)
        await call.wait_for(RecordingPaused, lambda event: not event.paused, 20)
    assert [event.paused for event in call.told(RecordingPaused)] == [True, False]


async def test_what_is_not_recorded_is_not_paused(call: Call) -> None:
    await call.open()
    for for_ms in (1000, 0):
        reply = await call.do(PauseRecording, **REC, for_ms=for_ms)
        assert isinstance(reply, Refused)
        assert reply.code == "not_recording"


async def test_without_free_disk_no_recording_is_begun(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.rooms.free_bytes", lambda _: 1000)
    begin, _ = start(call)
    await call.open()
    reply = await call.do(StartRecording, **begin)
    assert isinstance(reply, Refused)
    assert reply.code == "spool_full"


async def test_key_frames_are_asked_for_again_and_again(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEY_FRAME_EVERY_NS", 400_000_000)
    begin, _ = start(call)
    await call.open()
    async with two_pages(call) as (client, _):
        await call.wait_for(MediaStarted)
        await call.do(StartRecording, **begin)
        before = client.sent["camera"].key_frames
        async with asyncio.timeout(20):
            while client.sent["camera"].key_frames < before + 3:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
