"""Host platforms attest consent: signed, fresh, once, with the text word for word; taking it back ends a recording."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from config.clock import VirtualClock
from config.database import Database
from config.http import TOKENS, ApiError
from config.keys import UnknownKey
from config.objects import ObjectStoreError
from recorder.attestation import SKEW_S, SignedRequest, signature
from recorder.audit import NewEntry
from recorder.catalogue import ATTESTED, CONSENT_TEXT
from recorder.consents import Consents, TextDiffers
from relay.messages import StopRecording
from signaling.messages import Consent
from signaling.store import Session
from tests.signaling.conftest import FakeRecordings, World

REASON = {"reason": "The platform of our partner."}
TEXT = {"text_version": "partner-7", "text": "Calls on this platform are recorded."}


class Platform:
    """A host platform with a key."""

    def __init__(self, client: TestClient[Any, Any], clock: VirtualClock, key: dict[str, Any]) -> None:
        self.client, self.clock, self.key = client, clock, key

    async def send(self, path: str, body: Any, **altered: str) -> ClientResponse:
        raw = json.dumps(body).encode()
        stamp = altered.get("timestamp", str(self.clock.wall_ms() // 1000))
        request = SignedRequest(self.key["id"], stamp, "", "POST", path, raw)
        headers = {
            "Turnpike-Key": self.key["id"],
            "Turnpike-Timestamp": stamp,
            "Turnpike-Signature": signature(altered.get("secret", self.key["secret"]), request).decode(),
        }
        return await self.client.post(altered.get("sent_to", path), data=altered.get("raw", raw), headers=headers)

    async def attest(self, session: Session, accepted: bool = True, key: str = "k1", **more: Any) -> ClientResponse:
        answers = [
            {"user_id": person.public_id, "accepted": accepted, "at_ms": self.clock.wall_ms()}
            for person in session.people
        ]
        body = {"request_key": key, **TEXT, "evidence": "Ticked the box at sign-up.", "answers": answers, **more}
        return await self.send(f"/api/v1/sessions/{session.public_id}/consents", body)


def bearer(client: TestClient[Any, Any], world: World, who: Any) -> dict[str, str]:
    assert client.server is not None
    tokens = client.server.app[TOKENS]  # type: ignore[attr-defined]
    return {"Authorization": "Bearer " + tokens.issue(who, world.clock.wall_ms() // 1000)}


@pytest.fixture
async def platform(client_of_world: TestClient[Any, Any], world: World, clock: VirtualClock) -> Platform:
    headers = bearer(client_of_world, world, world.people["admin"])
    made = await client_of_world.post("/api/v1/platform-keys", json={"name": "partner", **REASON}, headers=headers)
    assert made.status == 201
    return Platform(client_of_world, clock, await made.json())


async def code_of(response: ClientResponse) -> tuple[int, str]:
    return response.status, (await response.json())["error"]["code"]


async def rows(owner: Any) -> list[Any]:
    found: list[Any] = await owner.fetch("select * from consent order by id")
    return found


async def test_attested_consent_is_stored_with_its_text_and_audited(
    world: World, platform: Platform, owner: Any
) -> None:
    session = await world.ring(consent=Consent(version=ATTESTED, accepted=False))
    answer = await platform.attest(session)
    assert answer.status == 200
    assert (await answer.json())["all_agreed"]
    stored = await rows(owner)
    assert [(row["given_by"], row["text_version"], row["accepted"]) for row in stored] == [
        ("platform", "partner-7", True)
    ] * 2
    assert await owner.fetchval("select text from consent_text where version = 'partner-7'") == TEXT["text"]
    entry = await owner.fetchrow("select * from audit_log where action = 'recording.consent_attested'")
    assert (entry["actor"], entry["subject"]) == (platform.key["id"], session.public_id)


async def test_the_same_request_is_taken_once(world: World, platform: Platform, owner: Any) -> None:
    session = await world.ring()
    before = len(await rows(owner))
    first = await platform.attest(session)
    assert await (await platform.attest(session)).json() == await first.json()
    assert len(await rows(owner)) == before + 2
    other = await platform.attest(session, accepted=False)
    assert await code_of(other) == (409, "request_key_used")


@pytest.mark.parametrize(
    "altered",
    [
        {"secret": "0" * 64},
        {"raw": "{}"},
        {"timestamp": "1"},
        {"timestamp": "²"},
        {"sent_to": "/api/v1/sessions/ses_00000000000000000000/consents"},
    ],
)
async def test_what_is_not_signed_as_it_was_sent_is_refused(
    world: World, platform: Platform, altered: dict[str, str]
) -> None:
    session = await world.ring()
    refused = await platform.send(f"/api/v1/sessions/{session.public_id}/consents", {"request_key": "k"}, **altered)
    assert await code_of(refused) == (401, "bad_signature")


async def test_old_requests_and_revoked_keys_are_refused(
    world: World, platform: Platform, client_of_world: TestClient[Any, Any]
) -> None:
    session = await world.ring()
    path = f"/api/v1/sessions/{session.public_id}/consents"
    old = str(world.clock.wall_ms() // 1000 - SKEW_S - 2)
    assert await code_of(await platform.send(path, {}, timestamp=old)) == (401, "bad_signature")
    headers = bearer(client_of_world, world, world.people["admin"])
    revoke = f"/api/v1/platform-keys/{platform.key['id']}/revoke"
    revoked = await client_of_world.post(revoke, json=REASON, headers=headers)
    assert (await revoked.json())["revoked_at_ms"] is not None
    assert await code_of(await platform.attest(session)) == (401, "bad_signature")
    listed = await (await client_of_world.get("/api/v1/platform-keys", headers=headers)).json()
    assert [(key["name"], "secret" in key) for key in listed["keys"]] == [("partner", False)]
    refused = await client_of_world.get("/api/v1/platform-keys", headers=bearer(client_of_world, world, world.ada))
    assert refused.status == 403


async def test_texts_keep_to_their_versions(world: World, platform: Platform) -> None:
    session = await world.ring()
    assert await code_of(await platform.attest(session, text=None)) == (409, "unknown_text")
    assert (await platform.attest(session)).status == 200
    assert (await platform.attest(session, key="k2", text=None)).status == 200
    assert await code_of(await platform.attest(session, key="k3", text="Another.")) == (409, "text_differs")
    ours = await platform.attest(session, key="k4", text_version=CONSENT_TEXT.version)
    assert await code_of(ours) == (409, "text_differs")


async def test_answers_of_strangers_and_of_the_future_are_refused(world: World, platform: Platform) -> None:
    session = await world.ring()
    stranger = [{"user_id": world.ben.public_id, "accepted": True, "at_ms": 1}]
    assert await code_of(await platform.attest(session, answers=stranger)) == (400, "bad_request")
    late = [{"user_id": world.client.public_id, "accepted": True, "at_ms": world.clock.wall_ms() + 3_600_000}]
    assert await code_of(await platform.attest(session, answers=late)) == (400, "bad_request")
    assert await code_of(await platform.attest(session, evidence="short")) == (400, "bad_request")
    twice = [{"user_id": world.client.public_id, "accepted": True, "at_ms": 1}] * 2
    assert await code_of(await platform.attest(session, answers=twice)) == (400, "bad_request")


async def test_consent_that_a_platform_takes_back_ends_the_recording(
    world: World, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await world.call()
    assert session.recording == "recording"
    orders: list[Any] = []

    async def order(_session: Session, command: Any) -> None:
        orders.append(command)

    monkeypatch.setattr(world.control.rooms, "order", order)
    answer = await platform.attest(session, accepted=False)
    assert not (await answer.json())["all_agreed"]
    assert [type(command) for command in orders] == [StopRecording]
    assert (await world.get(session)).recording == "stopped"


async def test_a_no_that_the_worker_did_not_hear_is_carried_out_when_it_is_repeated(
    world: World, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await world.call()
    orders: list[Any] = []

    async def order(_session: Session, command: Any) -> None:
        orders.append(command)
        if len(orders) == 1:
            raise ApiError(503, "worker_unreachable", "The media server does not answer.")

    monkeypatch.setattr(world.control.rooms, "order", order)
    assert (await platform.attest(session, accepted=False)).status == 503
    assert (await world.get(session)).recording == "recording"
    again = await platform.attest(session, accepted=False)
    assert (again.status, (await again.json())["all_agreed"]) == (200, False)
    assert [type(command) for command in orders] == [StopRecording] * 2
    assert (await world.get(session)).recording == "stopped"
    assert (await platform.attest(session, accepted=False)).status == 200
    assert len(orders) == 2


async def test_a_no_whose_teller_died_is_found_and_carried_out(
    world: World, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await world.call()

    async def dies(*_: Any) -> None:
        raise ApiError(503, "worker_unreachable", "The media server does not answer.")

    with monkeypatch.context() as away:
        away.setattr(world.control.rooms, "order", dies)
        assert (await platform.attest(session, accepted=False)).status == 503
        world.recordings.consents[session.id, world.client.user_id] = False
        await world.control.shards._look_after_consent()
    assert (await world.get(session)).recording == "recording"
    await world.control.shards._look_after_consent()
    assert (await world.get(session)).recording == "stopped"
    assert isinstance(world.worker.commands[-1], StopRecording)


async def test_a_no_that_comes_while_the_recording_begins_ends_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms, record = world.control.rooms, world.control.rooms.record

    async def slowly(session: Session, *more: Any) -> bool:
        begun = await record(session, *more)
        world.recordings.consents[session.id, world.client.user_id] = False  # said no; nothing to be stopped yet
        return begun

    monkeypatch.setattr(rooms, "record", slowly)
    session = await world.connect()
    assert session.recording == "stopped"
    assert isinstance(world.worker.commands[-1], StopRecording)


async def test_the_answer_that_was_given_last_counts_whichever_comes_last(world: World, platform: Platform) -> None:
    session = await world.ring(consent=Consent(version=ATTESTED, accepted=False))

    def said(accepted: bool, ago_ms: int) -> list[dict[str, Any]]:
        at_ms = world.clock.wall_ms() - ago_ms
        return [{"user_id": p.public_id, "accepted": accepted, "at_ms": at_ms} for p in session.people]

    no = await platform.attest(session, key="no", answers=said(False, 1_000))
    assert not (await no.json())["all_agreed"]
    late = await platform.attest(session, key="yes, sent late", answers=said(True, 60_000))
    assert (late.status, (await late.json())["all_agreed"]) == (200, False)
    newer = await platform.attest(session, key="yes, newer", answers=said(True, 0))
    assert (await newer.json())["all_agreed"]


async def test_what_somebody_took_back_themselves_stands_against_an_older_yes_of_their_platform(
    world: World, platform: Platform, database: Database
) -> None:
    session, people = await world.ring(), Consents(database, world.clock)
    users = [person.user_id for person in session.people]
    assert (await (await platform.attest(session)).json())["all_agreed"]
    entry = NewEntry(session.tenant_id, users[0], "", "recording.consent_withdrawn", "")
    await people.withdraw(session.id, entry)
    world.clock.advance_ms(60_000)
    old = [{"user_id": p.public_id, "accepted": True, "at_ms": world.clock.wall_ms() - 59_999} for p in session.people]
    answers = [old[1], {**old[0], "at_ms": old[0]["at_ms"] - 1_000}]
    later = await platform.attest(session, key="the other's, and again the first one's", answers=answers)
    assert not (await later.json())["all_agreed"]


async def test_a_request_key_is_of_one_session(world: World, platform: Platform) -> None:
    session = await world.ring()
    answers = [{"user_id": world.client.public_id, "accepted": True, "at_ms": 1}]
    assert (await platform.attest(session, answers=answers)).status == 200
    other = await world.ring(world.ben)
    assert await code_of(await platform.attest(other, answers=answers)) == (409, "request_key_used")


async def test_a_platforms_text_never_stands_for_one_of_ours(
    world: World, platform: Platform, database: Database
) -> None:
    session = await world.ring()
    assert (await platform.attest(session, text_version="2031-01-1")).status == 200
    consents = Consents(database, world.clock)
    async with database.transaction(session.tenant_id) as connection:
        await consents.keep_text(connection, session.tenant_id, "2031-01-1", "Ours of that time.", "turnpike")
        with pytest.raises(TextDiffers):
            await consents.keep_text(connection, session.tenant_id, "2031-01-1", "Altered.", "turnpike")
    texts = {(each.source, each.version): each.text for each in await consents.texts(session.tenant_id)}
    assert texts["platform", "2031-01-1"] == TEXT["text"]
    assert texts["turnpike", "2031-01-1"] == "Ours of that time."


async def test_call_goes_on_recorded_once_a_platform_attests_that_all_agree(world: World, platform: Platform) -> None:
    silent = Consent(version=ATTESTED, accepted=False)
    session = await world.ring(consent=silent)
    session = await world.control.director.accept(world.ada, session.public_id, silent)
    assert session.recording == "off"
    for person in session.people:
        world.recordings.consents[session.id, person.user_id] = True
    assert (await (await platform.attest(session)).json())["all_agreed"]
    now = await world.get(session)
    assert now.recording == "recording"
    assert now.recording_public_id is not None


class NoKeys(FakeRecordings):
    """There is no key."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def create(self, *_: object) -> Any:
        raise self._error


@pytest.mark.parametrize("refuse", [False, True])
@pytest.mark.parametrize("error", [ObjectStoreError("the bucket of keys does not answer"), UnknownKey("rec_1")])
async def test_call_whose_recording_gets_no_key_goes_by_the_policy(
    world: World, monkeypatch: pytest.MonkeyPatch, refuse: bool, error: Exception
) -> None:
    director = world.control.director
    monkeypatch.setattr(director, "_recordings", NoKeys(error))
    monkeypatch.setattr(director, "_unrecorded_refused", refuse)
    monkeypatch.setattr(director._recordings, "consented", _yes)
    if refuse:
        with pytest.raises(Exception, match="cannot_record"):
            await world.connect()
        return
    session = await world.connect()
    assert (session.recording, session.recording_public_id) == ("failed", None)


async def _yes(*_: object) -> bool:
    return True
