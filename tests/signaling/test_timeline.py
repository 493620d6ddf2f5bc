"""The time line: everything that is stored of a session, and for each seat its own money."""

from __future__ import annotations

from typing import Any

from aiohttp.test_utils import TestClient

from billing.charges import Reversal
from relay.messages import ParticipantConnected
from signaling.kinds import Shown
from signaling.timeline import _minutes
from signaling.timeline_store import EvidenceRow
from tests.signaling.conftest import World

Http = TestClient[Any, Any]


async def read(world: World, http: Http, who: str, session: Any) -> tuple[int, Any]:
    token = world.control.tokens.issue(world.people[who], world.clock.wall_ms() // 1000)
    headers = {"Authorization": f"Bearer {token}"}
    async with http.get(f"/api/v1/sessions/{session.public_id}/timeline", headers=headers) as answer:
        return answer.status, await answer.json()


async def worked(world: World) -> Any:
    """A call of a minute of video and half a minute of audio, with a tip, over and settled."""
    session = await world.call()
    client, provider = session.client.user_id, session.provider.user_id
    for user_id in (client, provider):
        told = ParticipantConnected(**world.worker.common(session), user_id=user_id, connect_ms=120)
        await world.control.follower.on_event(told)
    await world.worker.live(session, 60_000)
    await world.read()
    await world.tick()
    await world.control.kinds.ask(world.client, session.public_id, "audio", Shown(149))
    await world.worker.live(session, 90_000)
    await world.read()
    await world.control.director.end(world.client, session.public_id)
    return await world.over(session)


async def test_states_kinds_and_charges_are_on_one_line(world: World, client_of_world: Http) -> None:
    session = await worked(world)
    status, line = await read(world, client_of_world, "client", session)
    assert status == 200
    assert [span["state"] for span in line["states"]] == [
        *("requested", "ringing", "accepted", "connecting", "active", "ended"),
    ]
    assert all(a["to_ms"] == b["from_ms"] for a, b in zip(line["states"], line["states"][1:], strict=False))
    assert line["states"][-1]["to_ms"] is None
    assert [(kind["kind"], kind["live_ms"]) for kind in line["kinds"]] == [("video", 0), ("audio", 60_000)]
    assert "kind_changed" in [mark["what"] for mark in line["marks"]]
    assert sum(move["amount_minor"] for move in line["money"]) == line["meter"]["amount_minor"] == 199 + 74
    assert line["money"][-1]["what"] == "settled"
    assert line["meter"]["billed_ms"] == 90_000
    assert line["from_ms"] <= line["to_ms"]


async def test_each_seat_sees_its_own_money(world: World, client_of_world: Http) -> None:
    session = await worked(world)
    _, earned = await read(world, client_of_world, "ada", session)
    assert earned["meter"]["amount_minor"] == (199 + 74) * 7 // 10
    assert sum(move["amount_minor"] for move in earned["money"]) == earned["meter"]["amount_minor"]
    assert (earned["meter"]["held_minor"], earned["meter"]["provider_minor"]) == (None, None)
    _, all_of_it = await read(world, client_of_world, "admin", session)
    assert all_of_it["meter"]["provider_minor"] == earned["meter"]["amount_minor"]
    assert all_of_it["meter"]["refundable_minor"] == 199 + 74
    status, _ = await read(world, client_of_world, "ben", session)
    assert status == 404


async def test_a_provider_learns_neither_what_the_wallet_pays_for_nor_finances_words(
    world: World, client_of_world: Http
) -> None:
    session = await worked(world)
    async with world.control.billing.database.transaction(session.tenant_id) as sql:
        await sql.execute(
            "insert into media_evidence (tenant_id, session_id, epoch, minute, seq, live_ms, granted_live_ms,"
            " worker_id, final, at) values ($1, $2, 1, 1, 9, 90000, 180000, 'worker-1', true, now())",
            *(session.tenant_id, session.id),
        )
    back = await world.control.billing.reverse(
        session.tenant_id, session.public_id, 100, "back-1", world.people["admin"].user_id, "a known trouble-maker"
    )
    assert isinstance(back, Reversal)
    seen = {}
    for who in ("client", "ada", "admin"):
        _, line = await read(world, client_of_world, who, session)
        minute = line["evidence"][0]
        (memo,) = [move["memo"] for move in line["money"] if move["what"] == "reversal"]
        seen[who] = (line["meter"]["granted_ms"] is None, minute["granted_ms"], minute["worker_id"], memo)
    assert seen == {
        "client": (False, 180_000, None, ""),
        "ada": (True, None, None, ""),
        "admin": (False, 180_000, "worker-1", "a known trouble-maker"),
    }
    for who, role in (("client", "client"), ("ada", "provider")):
        lines = await world.control.billing.entries(session.tenant_id, world.people[who].user_id, role, None, 20)
        assert [line.memo for line in lines if line.kind == "reversal"] == ["Given back"]


async def test_session_without_money_has_a_line_too(world: World, client_of_world: Http) -> None:
    session = await world.ring()
    await world.control.director.decline(world.ada, session.public_id)
    status, line = await read(world, client_of_world, "client", session)
    assert (status, line["meter"], line["money"]) == (200, None, [])
    assert [span["state"] for span in line["states"]] == ["requested", "ringing", "declined"]


async def test_warnings_that_the_money_ends_are_on_the_line(world: World, client_of_world: Http) -> None:
    session = await world.call()
    await world.worker.live(session, 5_000_000 // 199 * 60 - 50_000)
    await world.read()
    for _ in range(3):
        await world.tick()
    notes = [row for row in (await world.control.follower._notes.read(session.tenant_id, session.id))[1]]
    _, line = await read(world, client_of_world, "client", session)
    told = [mark for mark in line["marks"] if mark["what"] == "money_ends"]
    assert len(told) == len(notes)


def test_minutes_count_what_is_new_in_each_room() -> None:
    rows = [
        EvidenceRow(60_000, 1, 50_000, 90_000, "w1", False),
        EvidenceRow(120_000, 1, 110_000, 180_000, "w1", True),
        EvidenceRow(180_000, 2, 40_000, 90_000, "w2", True),
    ]
    assert [(minute.epoch, minute.new_ms) for minute in _minutes(rows, "staff")] == [
        (1, 50_000),
        (1, 60_000),
        (2, 40_000),
    ]
