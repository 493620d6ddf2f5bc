"""A recording as control makes it, and a recorder to work on it, on real servers."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from config.clock import VirtualClock
from config.database import Database
from config.http import TOKENS, errors, mount
from config.identity import Principal, Role, Tokens
from config.ids import DEFAULT_TENANT, PublicId, SessionId, UserId
from config.keys import KeyRing, SigningKey, WrappedKeys
from config.objects import DirectoryStore
from config.objects_open import open_keys
from config.settings import Settings
from recorder.api import endpoints
from recorder.catalogue import CONSENT_TEXT, NewRecording, Recordings, Story
from recorder.compliance_api import endpoints as compliance_endpoints
from recorder.job import Services
from recorder.root import Signer
from recorder.store import Store
from relay.spool import PartHeader, PartParticipant
from tests.recorder.asking import Ask
from tests.recorder.media import START_NS, START_WALL_MS, Scene

hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")  # the machine may be busy: an example has no deadline

SEGMENT_MS = 4_000
"""So that calls of a few seconds fall into several segments."""
PEOPLE = (("client", "Ana"), ("provider", "Ben"), ("compliance", "Cleo"), ("admin", "Ada"))


@dataclasses.dataclass
class Person:
    """A user in the database."""

    id: UserId
    public_id: PublicId
    name: str
    role: str


@dataclasses.dataclass
class Desk:
    """What control and recorder share on one host."""

    settings: Settings
    services: Services
    recordings: Recordings
    people: dict[str, Person]
    keys: KeyRing
    new: NewRecording
    """A recording of session 5 that nothing has been spooled of yet."""

    def header(self, epoch: int = 1) -> PartHeader:
        people = [self.people[role] for role in ("client", "provider")]
        return PartHeader(
            tenant_id=1,
            session_id=5,
            session_public_id="ses_00000000000000000005",
            recording_public_id=self.new.public_id,
            epoch=epoch,
            worker_id="w1",
            key_id=self.new.key_id,
            wrapped_key=self.new.wrapped_key,
            started_wall_ms=START_WALL_MS,
            started_monotonic_ns=START_NS,
            participants=tuple(
                PartParticipant(user_id=p.id, public_id=p.public_id, name=p.name, role=p.role) for p in people
            ),
        )

    def scene(self, epoch: int = 1) -> Scene:
        """A part of the recording, to be filled."""
        data_key = self.keys.unwrap(self.new.key_id, self.new.wrapped_key, self.new.public_id)
        return Scene(self.settings.spool_dir, data_key, self.header(epoch))

    @property
    def objects_dir(self) -> Path:
        return self.settings.objects_dir


@pytest.fixture
async def people(owner: Any) -> dict[str, Person]:
    """One user of each role."""
    out = {}
    for number, (role, name) in enumerate(PEOPLE):
        public_id = f"usr_{number:020d}"
        user_id = await owner.fetchval(
            "insert into app_user (tenant_id, public_id, email, name, role, password_hash)"
            " values (1, $1, $2, $3, $4, '') returning id",
            public_id,
            f"{role}@example.test",
            name,
            role,
        )
        out[role] = Person(UserId(user_id), PublicId(public_id), name, role)
    return out


@pytest.fixture
async def desk(
    settings: Settings, database: Database, clock: VirtualClock, people: dict[str, Person]
) -> AsyncIterator[Desk]:
    """A recording made by control, and what a recorder needs."""
    keys, objects = KeyRing.from_settings(settings), DirectoryStore(settings.objects_dir)
    wrapped = WrappedKeys(open_keys(settings))
    recordings = Recordings(database, keys, wrapped, objects, clock)
    sides = [people["client"], people["provider"]]
    for side in sides:
        await recordings.give_consent(DEFAULT_TENANT, SessionId(5), side.id, CONSENT_TEXT.version, True)
    new = await recordings.create(
        DEFAULT_TENANT,
        SessionId(5),
        PublicId("ses_00000000000000000005"),
        "video",
        [(p.id, p.public_id, p.name, p.role) for p in sides],
        START_WALL_MS,
    )
    story = Story(
        events=[{"at_ms": START_WALL_MS, "what": "accept"}],
        chat=[{"at_ms": START_WALL_MS, "from": sides[0].public_id, "body": "A secret word: rhubarb."}],
    )
    await recordings.end(DEFAULT_TENANT, SessionId(5), START_WALL_MS + 60_000, story)
    with ThreadPoolExecutor(2) as executor:
        store = Store(database)
        signer = Signer(store, objects, keys, wrapped, SigningKey.from_settings(settings), clock)
        services = Services(store, objects, keys, executor, SEGMENT_MS, signer, recordings)
        yield Desk(settings, services, recordings, people, keys, new)


@pytest.fixture
async def ask(desk: Desk, clock: VirtualClock) -> AsyncIterator[Ask]:
    """``await ask("GET", "/recordings", role="compliance")``"""
    app = web.Application(middlewares=[errors])
    tokens = app[TOKENS] = Tokens(bytes(32), 3600)
    mount(app, compliance_endpoints(desk.recordings, desk.services.signer.key, clock))
    mount(app, endpoints(desk.recordings))
    async with TestClient(TestServer(app)) as client:

        async def send(method: str, path: str, role: str | None = None, **kwargs: Any) -> ClientResponse:
            headers = dict(kwargs.pop("headers", {}))
            if role is not None:
                who = desk.people[role]
                principal = Principal(DEFAULT_TENANT, who.id, who.public_id, Role(role), who.name)
                headers["Authorization"] = "Bearer " + tokens.issue(principal, int(time.time()))
            full = path if path.startswith("/api") else "/api/v1" + path
            return await client.request(method, full, headers=headers, **kwargs)

        yield send
