"""Host platforms attest consent: signed, fresh, once, with the text word for word; taking it back ends a recording."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from config.clock import VirtualClock
from config.http import TOKENS
from config.objects import ObjectStoreError
from recorder.attestation import SKEW_S, SignedRequest, signature
from recorder.catalogue import ATTESTED, CONSENT_TEXT
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
    """The store of keys is away."""

    async def create(self, *_: object) -> Any:
        raise ObjectStoreError("the bucket of keys does not answer")


@pytest.mark.parametrize("refuse", [False, True])
async def test_call_whose_recording_gets_no_key_goes_by_the_policy(
    world: World, monkeypatch: pytest.MonkeyPatch, refuse: bool
) -> None:
    director = world.control.director
    monkeypatch.setattr(director, "_recordings", NoKeys())
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
