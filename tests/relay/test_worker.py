"""Calls between two media clients through a real worker on a real bus."""

from __future__ import annotations

import asyncio
import os
import random
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from redis.asyncio import Redis

from config.keys import KeyRing
from config.settings import Settings
from relay.bus import ControlBus, WorkerBus
from relay.messages import (
    Closed,
    CloseRoom,
    DeclareState,
    Done,
    Event,
    GrantUsedUp,
    MediaEvidence,
    MediaInterrupted,
    MediaResumed,
    MediaStarted,
    Negotiate,
    NegotiationNeeded,
    OpenRoom,
    ParticipantConnected,
    ParticipantDisconnected,
    QualityMeasured,
    RecordingStarted,
    RecordingStopped,
    Refused,
    RoomClosed,
    StartRecording,
    StopRecording,
    TrackStarted,
)
from relay.messages_status import WorkerStatus
from relay.port import PortDrop
from relay.rooms import PROBES_MAX
from relay.spool import RtpRecord, SenderReportRecord, TrackEventRecord, open_part
from tests.relay.call import CLIENT, PARTICIPANTS, PROVIDER, Call, NotNegotiated, running_worker, two_pages, until

HANG_NS = 3_000_000_000
"""Longer than any machine's load makes packets wait: what waits so long has been forgotten."""


@pytest.fixture
async def call(redis: Redis, redis_url: str, tmp_path: Path) -> AsyncIterator[Call]:
    async with running_worker(redis, redis_url, tmp_path) as worker, ControlBus(redis) as bus:
        yield Call(worker, bus, redis)


async def test_a_loop_that_fails_costs_no_call(
    call: Call, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One of the connection to Redis has ended a whole worker before."""
    monkeypatch.setattr("relay.worker.LOOP_AGAIN_S", 0.01)
    told, failures = call.worker.status, iter([RuntimeError("the handler is closed")] * 3)

    def status() -> WorkerStatus:
        for failure in failures:
            raise failure
        return told()

    monkeypatch.setattr(call.worker, "status", status)
    await call.open()
    async with two_pages(call):
        await call.wait_for(MediaStarted)
        await until(lambda: len([1 for record in caplog.records if record.exc_info]) == 3)
        await call.wait_for(MediaEvidence, lambda evidence: evidence.live_ms > 0)


async def test_evidence_goes_with_its_like_and_with_whatever_is_urgent(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.worker.GATHER_S", 1.0)
    worker, ids = call.worker, {"tenant_id": 1, "epoch": 1, "worker_id": call.worker.worker_id, "at_ms": 0}
    batches: list[list[int]] = []
    monkeypatch.setattr(WorkerBus, "tell_events", _noting(batches))

    def evidence(session_id: int) -> MediaEvidence:
        return MediaEvidence(session_id=session_id, seq=1, live_ms=1, granted_live_ms=9, running=True, **ids)

    worker.tell(MediaStarted(session_id=1, **ids))
    await until(lambda: len(batches) == 1)
    worker.tell(evidence(2))
    for _ in range(10):  # turns of the loop
        await asyncio.sleep(0)
    worker.tell(evidence(3))
    await until(lambda: len(batches) == 2)
    worker.tell(evidence(4))
    worker.tell(MediaStarted(session_id=5, **ids))
    await until(lambda: len(batches) == 3)
    assert batches == [[1], [2, 3], [4, 5]]


def _noting(batches: list[list[int]]) -> Callable[[WorkerBus, list[Event]], Awaitable[None]]:
    async def tell_events(_: WorkerBus, events: list[Event]) -> None:
        batches.append([event.session_id for event in events])

    return tell_events


async def test_media_flows_both_ways_and_is_counted(call: Call) -> None:
    await call.open()
    async with two_pages(call) as (client, provider):
        started = await call.wait_for(MediaStarted)
        await asyncio.sleep(2.2)
        await until(lambda: all(page.received["microphone"].packets > 95 for page in (client, provider)))
        await until(lambda: all(page.received["camera"].frames_decodable > 45 for page in (client, provider)))
        closed = await call.close()
    for page in (client, provider):
        camera, microphone = page.received["camera"], page.received["microphone"]
        assert camera.frames_decodable >= camera.frames_complete - 1
        assert camera.foreign == microphone.foreign == camera.duplicates == page.unreadable == 0
        assert page.feedback, "transport-cc feedback"
    ended = await call.wait_for(RoomClosed)
    lived_ms = ended.at_ms - started.at_ms
    assert 0.5 * lived_ms < closed.live_ms <= lived_ms + 1, "a loaded machine's newest packets may be late"
    assert {event.user_id for event in call.told(ParticipantConnected)} == {CLIENT, PROVIDER}
    assert {(event.user_id, event.source, event.codec) for event in call.told(TrackStarted)} == {
        (user, source, codec)
        for user in (CLIENT, PROVIDER)
        for source, codec in (("microphone", "opus"), ("camera", "VP8"))
    }
    evidence = call.told(MediaEvidence)
    assert [e.live_ms for e in evidence] == sorted(e.live_ms for e in evidence)
    assert [e.seq for e in evidence] == sorted({e.seq for e in evidence})
    assert evidence[-1].final
    assert evidence[-1].live_ms == closed.live_ms
    assert evidence[-1].seq == closed.evidence_seq
    assert all(side.forwarded_packets > 200 for side in evidence[-1].participants)
    seconds = [second for event in call.told(QualityMeasured) for second in event.seconds]
    assert {second.user_id for second in seconds} == {CLIENT, PROVIDER}
    assert {len(second.tracks) for second in seconds} == {4}, "two sources, both ways"
    assert any(track.frames_per_second for second in seconds for track in second.tracks)
    assert all(1 <= side.score <= 5 for side in evidence[-2].participants)


async def test_gate_closes_when_the_grant_is_used_up_and_opens_when_it_is_raised(call: Call) -> None:
    await call.open(granted_ms=1200)
    async with two_pages(call) as (client, provider):
        await call.wait_for(MediaStarted)
        used_up = await call.wait_for(GrantUsedUp)
        assert used_up.live_ms == 1200
        room = next(iter(call.worker.rooms))
        await asyncio.sleep(0.3)  # what was under way arrives
        heard = [page.received["microphone"].packets for page in (client, provider)]
        assert min(heard) > 10, "media flowed while it was paid"
        await asyncio.sleep(0.3)
        assert [page.received["microphone"].packets for page in (client, provider)] == heard, "and not a packet since"
        assert room.live.live_ms == 1200
        frames = provider.received["camera"].frames_decodable
        await call.grant(60_000)
        await until(lambda: provider.received["camera"].frames_decodable > frames + 10)
        assert provider.received["camera"].key_frames >= 2, "after a gap video goes on with a key frame"
        closed = await call.close()
    assert 1200 < closed.live_ms < 60_000


async def test_lost_packets_are_resent_to_who_asks(call: Call) -> None:
    await call.open()
    dice = random.Random(7)
    async with two_pages(call) as (client, provider):
        await until(lambda: provider.received["camera"].frames_decodable > 5)
        provider.drop_incoming = lambda data: 127 < data[0] < 192 and len(data) > 500 and dice.random() < 0.1
        track = provider.received["camera"]
        await until(lambda: track.repaired > 5)
        provider.drop_incoming = lambda _: False
        await until(lambda: track.frames_decodable >= 0.8 * client.sent["camera"].frames - 10)


async def test_packets_lost_on_the_way_up_are_asked_for(call: Call) -> None:
    await call.open()
    dice = random.Random(3)
    async with two_pages(call) as (client, provider):
        await until(lambda: provider.received["camera"].frames_decodable > 5)
        send = client.send_raw

        def lossy(datagram: bytes) -> None:
            if len(datagram) < 500 or dice.random() > 0.1:
                send(datagram)

        client.send_raw = lossy  # type: ignore[method-assign]
        sent, received = client.sent["camera"], provider.received["camera"]
        await until(lambda: sent.resent > 5)
        await until(lambda: received.frames_decodable > 0.85 * sent.frames - 10)


async def test_key_frame_request_reaches_the_sender_at_a_bearable_rate(call: Call) -> None:
    await call.open()
    async with two_pages(call) as (client, provider):
        await until(lambda: provider.received["camera"].frames_decodable > 5)
        await asyncio.sleep(0.4)
        before, begun = client.sent["camera"].key_frame_requests, time.monotonic()
        for _ in range(50):
            provider.want_key_frame("camera")
            await asyncio.sleep(0.01)
        await until(lambda: client.sent["camera"].key_frame_requests > before)
        passed_s = time.monotonic() - begun
        assert client.sent["camera"].key_frame_requests - before <= passed_s / 0.2 + 2


async def test_one_side_silent_pauses_from_its_last_sign_and_its_return_resumes(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.evidence.LIVENESS_WINDOW_NS", 1_000_000_000)
    monkeypatch.setattr("relay.room.LIVENESS_WINDOW_NS", 1_000_000_000)
    monkeypatch.setattr("bench.media_client.CONSENT_INTERVAL_S", 0.1)
    await call.open()
    async with two_pages(call) as (client, provider):
        started = await call.wait_for(MediaStarted)
        await asyncio.sleep(0.5)
        client.silent = True
        gone = await call.wait_for(MediaInterrupted)
        assert gone.user_id == CLIENT
        left = await call.wait_for(ParticipantDisconnected)
        assert left.reason == "timeout"
        live = await call.live_ms()
        assert 0 < live <= gone.at_ms - started.at_ms - 1000 + 1, "up to a window before it was noticed"
        heard = provider.received["microphone"].packets
        await asyncio.sleep(0.3)
        assert await call.live_ms() == live
        assert provider.received["microphone"].packets == heard
        client.silent = False
        await call.wait_for(MediaResumed)
        await until(lambda: provider.received["microphone"].packets > heard + 5)
        await call.wait_for(MediaEvidence, lambda evidence: evidence.live_ms > live)


async def test_declared_mute_keeps_the_clock_running(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.evidence.LIVENESS_WINDOW_NS", 1_000_000_000)
    monkeypatch.setattr("bench.media_client.CONSENT_INTERVAL_S", 0.1)
    await call.open(kind="audio")
    async with two_pages(call, sources=("microphone",)) as (_, provider):
        await call.wait_for(MediaStarted)
        assert await call.do(DeclareState, user_id=PROVIDER, muted={"microphone": True}) == Done()
        provider.pause("microphone")
        evidence = await call.wait_for(MediaEvidence, lambda e: e.live_ms > 2200)
        assert not call.told(MediaInterrupted)
        assert evidence.participants[1].muted == {"microphone": True}
        assert await call.do(DeclareState, user_id=PROVIDER, muted={"microphone": False}) == Done()
        interrupted = await call.wait_for(MediaInterrupted)
        assert interrupted.user_id == PROVIDER


async def test_provider_who_sends_nothing_is_not_excused_by_what_they_never_had_on(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.evidence.LIVENESS_WINDOW_NS", 1_000_000_000)
    monkeypatch.setattr("bench.media_client.CONSENT_INTERVAL_S", 0.1)
    await call.open()
    async with two_pages(call) as (_, provider):
        await call.wait_for(MediaStarted)
        for muted in ({"screen": True}, {"microphone": True, "screen": True}):
            assert await call.do(DeclareState, user_id=PROVIDER, muted=muted) == Done()
        provider.pause("microphone")
        provider.pause("camera")
        assert (await call.wait_for(MediaInterrupted)).user_id == PROVIDER
        assert await call.do(DeclareState, user_id=PROVIDER, muted={"camera": True}) == Done()
        await call.wait_for(MediaResumed)


async def test_renegotiation_and_ice_restart_go_unheard(call: Call) -> None:
    await call.open()
    async with two_pages(call) as (client, provider):
        await until(lambda: provider.received["camera"].frames_decodable > 10)
        ssrcs = {source: track.ssrc for source, track in client.received.items()}
        await client.renegotiate()
        await client.renegotiate(ice_restart=True)
        old = client.received["camera"].packets
        await until(lambda: client.received["camera"].packets > old + 20)
        assert {source: track.ssrc for source, track in client.received.items()} == ssrcs
        for page in (client, provider):
            track = page.received["camera"]
            assert track.gap_max_ns < HANG_NS
            assert track.frames_decodable >= track.frames_complete - 1
        assert call.worker.port.transports == 2


async def test_page_that_comes_back_takes_its_place(call: Call) -> None:
    await call.open()
    async with call.page(CLIENT) as client, call.page(PROVIDER) as provider:
        await asyncio.gather(client.connect(), provider.connect())
        client.start()
        provider.start()
        await until(lambda: provider.received["camera"].frames_decodable > 10)
        frames = provider.received["camera"].frames_decodable
        async with call.page(CLIENT) as again:
            await again.connect()
            again.start()
            await until(lambda: again.received["camera"].frames_decodable > 10)
            await until(lambda: provider.received["camera"].frames_decodable > frames + 20)
            assert provider.unreadable == 0, "SRTP numbers ran on"
            assert call.worker.port.transports == 2
            left = await call.wait_for(ParticipantDisconnected)
            assert (left.user_id, left.reason) == (CLIENT, "replaced")


async def test_ssrcs_that_no_offer_named_are_learnt_by_mid(call: Call) -> None:
    await call.open()
    async with call.page(CLIENT, ("microphone", "camera", "screen")) as client, call.page(PROVIDER) as provider:
        for media in client.media:
            media.announced = False
        await asyncio.gather(client.connect(), provider.connect())
        client.start()
        provider.start()
        await until(lambda: provider.received["camera"].frames_decodable > 20)
        await until(lambda: provider.received["microphone"].packets > 20)
        client.sent["camera"].ssrc ^= 1
        await until(lambda: provider.received["camera"].key_frames >= 2)
        frames = provider.received["camera"].frames_decodable
        await until(lambda: provider.received["camera"].frames_decodable > frames + 10)
        assert provider.unreadable == 0
        await call.read()
        assert {event.source for event in call.told(TrackStarted) if event.user_id == CLIENT} >= {"camera", "screen"}


async def test_fault_in_one_room_closes_it_and_leaves_the_worker(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    await call.open()
    async with two_pages(call) as (client, _):
        await call.wait_for(MediaStarted)
        monkeypatch.setattr(next(iter(call.worker.rooms)), "_observe", None)
        await until(lambda: client.closed_by_peer)
    assert len(call.worker.rooms) == 0
    other = Call(call.worker, call.bus, call.worker._redis, session_id=8)
    await other.open()


async def test_joiner_without_the_codec_in_use_makes_the_other_renegotiate(call: Call) -> None:
    await call.open()
    async with call.page(CLIENT) as client, call.page(PROVIDER, video_codecs=("H264",)) as provider:
        await client.connect()
        client.start()
        assert client.sent["camera"].payload_type == 96
        await provider.connect()
        needed = await call.wait_for(NegotiationNeeded)
        assert needed.user_id == CLIENT
        await client.renegotiate()
        assert client.sent["camera"].payload_type == 102
        await until(lambda: provider.received["microphone"].packets > 5)


async def test_closing_page_is_noticed_at_once(call: Call) -> None:
    await call.open()
    async with call.page(CLIENT) as client:
        await client.connect()
    left = await call.wait_for(ParticipantDisconnected)
    assert (left.user_id, left.reason) == (CLIENT, "closed"), "not by its silence"
    assert call.worker.port.transports == 0


async def test_page_that_never_connects_is_given_up(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.transport.CONNECT_MAX_NS", 300_000_000)
    await call.open()
    async with call.page(CLIENT) as client:
        client.silent = True
        with pytest.raises(TimeoutError):
            await client.connect(timeout_s=0.6)
    left = await call.wait_for(ParticipantDisconnected)
    assert (left.user_id, left.reason) == (CLIENT, "timeout")
    assert call.worker.port.transports == 0


async def test_peer_without_a_sign_of_life_loses_its_transport_and_comes_back_with_a_fresh_one(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.room.LIVENESS_WINDOW_NS", 200_000_000)
    monkeypatch.setattr("relay.room.CONSENT_MAX_NS", 400_000_000)
    await call.open()
    async with call.page(CLIENT) as client:
        await client.connect()
        client.silent = True
        await until(lambda: call.worker.port.transports == 0)
        client.silent = False
        with pytest.raises(NotNegotiated, match="transport_gone"):
            await client.renegotiate(ice_restart=True)
    async with call.page(CLIENT) as again:
        await again.connect()


async def test_lost_flight_is_sent_again(call: Call) -> None:
    await call.open()
    flights: list[bytes] = []

    def lose_the_first(data: bytes) -> bool:
        if 20 <= data[0] <= 63:
            flights.append(data)
        return len(flights) == 1 and 20 <= data[0] <= 63

    async with call.page(CLIENT) as client:
        client.drop_incoming = lose_the_first
        await client.connect()
        assert len(flights) > 1  # by whichever timer came first; test_dtls tells the two apart


async def test_audio_room_carries_no_video(call: Call) -> None:
    await call.open(kind="audio")
    async with two_pages(call) as (client, _):
        assert set(client.sent) == {"microphone"}
        await until(lambda: client.received["microphone"].packets > 5)


async def test_garbage_on_the_port_is_counted_and_harms_nobody(call: Call) -> None:
    await call.open()
    dice = random.Random(1)
    async with two_pages(call) as (client, _):
        await until(lambda: client.received["camera"].frames_decodable > 5)
        async with call.page(CLIENT) as stranger:
            stranger._remote = call.worker.port.candidates[0]
            for page in (stranger, client):
                for _ in range(300):
                    size = dice.choice((0, 1, 3, 12, 20, 100, 1200, 1500))
                    first = bytes([dice.choice((0, 1, 22, 23, 63, 128, 144, 191, 200, 255))])
                    page.send_raw((first + os.urandom(size))[: size or 1])
            frames = client.received["camera"].frames_decodable
            await until(lambda: client.received["camera"].frames_decodable > frames + 20)
            assert stranger.unreadable == 0, "a stranger gets no answer"
    drops = call.worker.port.drops
    assert drops[PortDrop.STUN_MALFORMED] > 10
    assert client.received["camera"].gap_max_ns < HANG_NS


async def test_bad_offers_are_refused_in_words(call: Call) -> None:
    await call.open()
    for sdp in ("", "v=0", "v=0\r\nm=audio", "\0" * 100, "v=0\r\n" + "a=x\r\n" * 10_000):
        reply = await call.do(Negotiate, user_id=CLIENT, sdp=sdp, sources={})
        assert isinstance(reply, Refused)
        assert reply.code == "bad_sdp"
    reply = await call.do(Negotiate, user_id=99, sdp="v=0", sources={})
    assert isinstance(reply, Refused)
    assert reply.code == "unknown_participant"
    async with call.page(CLIENT) as client:
        client._video_codecs = ()
        client.media = client.media[:1]
        client.media[0].source = "camera"
        with pytest.raises(NotNegotiated):
            await client.connect()


async def test_commands_are_idempotent_and_fenced_by_epoch(call: Call) -> None:
    await call.open()
    await call.open()
    fields = {"session_public_id": "ses_test", "kind": "video", "participants": PARTICIPANTS, "granted_live_ms": 1}
    assert await call.do(OpenRoom, epoch=2, **fields) == Done()
    stale = await call.do(OpenRoom, epoch=1, **fields)
    assert isinstance(stale, Refused)
    assert stale.code == "stale_epoch"
    first = await call.do(CloseRoom, epoch=2, reason="ended")
    assert isinstance(first, Closed)
    assert await call.do(CloseRoom, epoch=2, reason="ended") == first
    again = await call.do(OpenRoom, epoch=2, **fields)
    assert isinstance(again, Refused)
    assert again.code == "stale_epoch"
    unknown = await call.do(CloseRoom, session_id=999, reason="ended")
    assert isinstance(unknown, Refused)
    assert unknown.code == "unknown_room"


async def test_worker_that_stops_closes_its_rooms_with_final_evidence(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    async with ControlBus(redis) as bus:
        async with running_worker(redis, redis_url, tmp_path) as worker:
            call = Call(worker, bus, redis)
            await call.open()
            async with two_pages(call):
                await call.wait_for(MediaStarted)
                await asyncio.sleep(0.3)
                assert [status.rooms for status in await bus.workers()] in ([()], [((7, 1),)])
            await asyncio.sleep(0)
        closed = await call.wait_for(RoomClosed)
        assert closed.reason == "worker_stopped"
        assert call.told(MediaEvidence)[-1].final
        assert await bus.workers() == []


async def test_work_that_is_left_when_a_worker_stops_has_no_turn_any_more(
    redis: Redis, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_worker(redis, redis_url, tmp_path) as worker:
        monkeypatch.setattr(worker._turns, "work", lambda: True)
        worker._work()
        await asyncio.sleep(0)
    forwards: list[None] = []
    monkeypatch.setattr(worker._turns, "forward", lambda: forwards.append(None))
    await asyncio.sleep(0.05)
    assert not forwards


async def test_recording_spools_every_track_and_ends_in_order(call: Call) -> None:
    settings = Settings(data=call.worker.data)
    key_id, wrapped, data_key = KeyRing.from_settings(settings).new_data_key("rec_test")
    start = {"recording_public_id": "rec_test", "key_id": key_id, "wrapped_key": wrapped}
    await call.open()
    async with two_pages(call) as (client, _):
        await call.wait_for(MediaStarted)
        assert await call.do(StartRecording, **start) == Done()
        assert await call.do(StartRecording, **start) == Done(), "once is enough"
        other = await call.do(StartRecording, **{**start, "recording_public_id": "rec_other"})
        assert isinstance(other, Refused)
        assert other.code == "already_recording"
        await asyncio.sleep(1.3)
        await until(lambda: client.sent["camera"].key_frames >= 2)  # a recording begins with one
        assert await call.do(DeclareState, user_id=CLIENT, muted={"microphone": True}) == Done()
        assert await call.do(StopRecording, recording_public_id="rec_test") == Done()
        assert next(iter(call.worker.rooms)).recording is None
    part = open_part(settings.spool_dir / "rec_test" / "1", lambda *_: data_key)
    by_file: dict[int, list[object]] = {}
    for number, record in part.poll():
        by_file.setdefault(number, []).append(record)
    assert part.closed
    assert len(by_file) == 4
    tracks = {}
    for records in by_file.values():
        first, last = records[0], records[-1]
        assert isinstance(first, TrackEventRecord)
        assert isinstance(last, TrackEventRecord)
        assert (first.event, last.event) == ("track", "end")
        tracks[first.fields["user_id"], first.fields["source"]] = records
    assert set(tracks) == {(user, source) for user in (CLIENT, PROVIDER) for source in ("microphone", "camera")}
    for (_, source), records in tracks.items():
        assert sum(isinstance(record, RtpRecord) for record in records) > 20, source
        assert any(isinstance(record, SenderReportRecord) for record in records)
    assert any(isinstance(r, TrackEventRecord) and r.event == "muted" for r in tracks[CLIENT, "microphone"])
    await call.wait_for(RecordingStarted)
    await call.wait_for(RecordingStopped)


async def test_recording_with_a_key_of_another_ring_is_refused_and_the_call_goes_on(call: Call) -> None:
    await call.open()
    reply = await call.do(StartRecording, recording_public_id="rec_x", key_id="other", wrapped_key=b"x")
    assert isinstance(reply, Refused)
    assert reply.code == "spool_failed"
    async with two_pages(call):
        await call.wait_for(MediaStarted)


async def test_metrics_pass_promtools_check(call: Call, tool: Callable[[str, str], str]) -> None:
    promtool = tool("promtool", "prometheus")
    await call.open()
    async with two_pages(call) as (client, _), aiohttp.ClientSession() as http:
        await until(lambda: client.received["camera"].frames_decodable > 5)
        async with http.get(f"{call.worker.ops_url}/metrics") as response:
            text = await response.text()
        async with http.get(f"{call.worker.ops_url}/readyz") as response:
            assert response.status == 200
    checker = await asyncio.create_subprocess_exec(promtool, "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    said, _ = await checker.communicate(text.encode())
    assert checker.returncode == 0, said.decode()
    assert "turnpike_relay_rooms 1.0" in text
    assert "turnpike_relay_participants 2.0" in text
    assert 'turnpike_relay_dropped_packets_total{reason="unprotect_failed"} 0.0' in text
    assert "turnpike_relay_connect_seconds_bucket" in text


async def test_connection_test_echoes_its_page_and_is_told_to_nobody(call: Call) -> None:
    call.ids["session_id"] = -77
    opened = await call.do(
        OpenRoom,
        session_public_id="probe",
        kind="video",
        participants=PARTICIPANTS,
        granted_live_ms=10_000,
        probe=True,
    )
    assert opened == Done()
    async with call.page(CLIENT, ("camera",)) as sends, call.page(PROVIDER, ("camera",)) as receives:
        await asyncio.gather(sends.connect(), receives.connect())
        sends.start()
        await until(lambda: receives.received["camera"].frames_decodable > 5)
        assert call.worker.status().rooms == (), "control must not take it for a room of a session"
        await call.close()
    await call.read()
    assert call.events == []


async def test_connection_tests_are_few_and_end_by_themselves(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.rooms.PROBE_MAX_S", 0.3)
    replies = []
    for number in range(PROBES_MAX + 1):
        call.ids["session_id"] = -1 - number
        replies.append(
            await call.do(
                OpenRoom,
                session_public_id="probe",
                kind="video",
                participants=PARTICIPANTS,
                granted_live_ms=10_000,
                probe=True,
            )
        )
    assert isinstance(replies[-1], Refused)
    await until(lambda: not len(call.worker.rooms))
