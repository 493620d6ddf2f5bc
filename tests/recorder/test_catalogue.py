"""Consent before anything, one recording a session, and an audit log that shows every change."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from config.database import Database
from config.ids import DEFAULT_TENANT, PublicId, SessionId, TenantId, UserId
from recorder import audit
from recorder.catalogue import CONSENT_TEXT, Recordings
from recorder.errors import ConsentMissing
from recorder.search import Search
from tests.recorder.conftest import Desk
from tests.recorder.media import START_WALL_MS

SESSION = SessionId(9)


@pytest.fixture
def recordings(desk: Desk) -> Recordings:
    return desk.recordings


async def test_consent_taken_back_counts_and_is_audited(desk: Desk, owner: Any) -> None:
    ana, ben = desk.people["client"], desk.people["provider"]
    assert await desk.recordings.consented(DEFAULT_TENANT, SessionId(5), [ana.id, ben.id])
    entry = audit.NewEntry(DEFAULT_TENANT, ana.id, ana.public_id, audit.WITHDRAWN, desk.new.public_id)
    await desk.recordings.consents.withdraw(SessionId(5), entry)
    assert not await desk.recordings.consented(DEFAULT_TENANT, SessionId(5), [ana.id, ben.id])
    assert await owner.fetchval("select action from audit_log order by n desc limit 1") == audit.WITHDRAWN


async def test_consent_needs_the_yes_of_everybody_to_a_known_text(desk: Desk, recordings: Recordings) -> None:
    ana, ben = desk.people["client"].id, desk.people["provider"].id

    async def say(user: UserId, accepted: bool, version: str = CONSENT_TEXT.version) -> bool:
        return await recordings.give_consent(DEFAULT_TENANT, SESSION, user, version, accepted)

    assert not await recordings.consented(DEFAULT_TENANT, SESSION, [])
    assert not await say(ana, True, "of last year")
    assert await say(ana, True)
    assert not await recordings.consented(DEFAULT_TENANT, SESSION, [ana, ben])
    assert await say(ben, True)
    assert await recordings.consented(DEFAULT_TENANT, SESSION, [ana, ben])
    assert not await recordings.consented(DEFAULT_TENANT, SessionId(10), [ana, ben])
    assert await say(ben, False)
    assert not await recordings.consented(DEFAULT_TENANT, SESSION, [ana, ben])


async def test_consent_cannot_be_changed_afterwards(desk: Desk, database: Database) -> None:
    await desk.recordings.give_consent(DEFAULT_TENANT, SESSION, desk.people["client"].id, CONSENT_TEXT.version, False)
    for statement in ("update consent set accepted = true", "delete from consent"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(DEFAULT_TENANT) as connection:
                await connection.execute(statement)


async def agree(desk: Desk, session: int) -> None:
    for role in ("client", "provider"):
        user_id, version = desk.people[role].id, CONSENT_TEXT.version
        await desk.recordings.give_consent(DEFAULT_TENANT, SessionId(session), user_id, version, True)


async def test_nothing_is_recorded_without_everybodys_consent(desk: Desk, recordings: Recordings) -> None:
    ana, ben = desk.people["client"], desk.people["provider"]
    people = [(p.id, p.public_id, p.name, p.role) for p in (ana, ben)]
    for said in (None, (ana.id, True), (ben.id, False)):
        if said is not None:
            await recordings.give_consent(DEFAULT_TENANT, SESSION, said[0], CONSENT_TEXT.version, said[1])
        with pytest.raises(ConsentMissing):
            await recordings.create(DEFAULT_TENANT, SESSION, PublicId("ses_x"), "audio", people, START_WALL_MS)
    assert await recordings.of_session(DEFAULT_TENANT, SESSION) is None


async def test_asking_again_gives_the_same_recording(desk: Desk, recordings: Recordings) -> None:
    await agree(desk, SESSION)
    people = [(p.id, p.public_id, p.name, p.role) for p in (desk.people["client"], desk.people["provider"])]

    async def create() -> Any:
        return await recordings.create(DEFAULT_TENANT, SESSION, PublicId("ses_x"), "audio", people, START_WALL_MS)

    first, *others = await asyncio.gather(*(create() for _ in range(4)))
    assert all(each == first for each in others)
    assert desk.keys.unwrap(first.key_id, first.wrapped_key, first.public_id)
    summary = await recordings.of_session(DEFAULT_TENANT, SESSION)
    assert summary is not None
    assert (summary.public_id, summary.state, summary.bytes) == (first.public_id, "recording", 0)
    assert await recordings.of_session(DEFAULT_TENANT, SessionId(99)) is None


async def test_search_by_person_session_and_time(desk: Desk, recordings: Recordings) -> None:
    ana = desk.people["client"]
    ben = desk.people["provider"]
    for number in range(6, 9):
        await agree(desk, number)
        await recordings.create(
            DEFAULT_TENANT,
            SessionId(number),
            PublicId(f"ses_{number}"),
            "video",
            [(ana.id, ana.public_id, "Ana 100%", "client")]
            if number == 7
            else [(ben.id, PublicId("usr_b"), "Bea", "provider")],
            START_WALL_MS + number * 1000,
        )

    async def found(**wanted: Any) -> list[str]:
        return [each.session_public_id for each in await recordings.search(DEFAULT_TENANT, Search(**wanted), 10)]

    assert await found() == ["ses_8", "ses_7", "ses_6", "ses_00000000000000000005"]
    assert await found(participant="0%") == ["ses_7"]
    assert await found(participant="ben") == ["ses_00000000000000000005"]
    assert await found(participant="_") == []
    assert await found(participant=ana.public_id) == ["ses_7", "ses_00000000000000000005"]
    assert await found(session="ses_6") == ["ses_6"]
    assert await found(from_ms=START_WALL_MS + 7000, to_ms=START_WALL_MS + 7999) == ["ses_7"]
    newest = (await recordings.search(DEFAULT_TENANT, Search(), 1))[0]
    assert (await found(before=newest.id))[0] == "ses_7"


async def test_other_tenants_see_nothing(desk: Desk, recordings: Recordings) -> None:
    other = TenantId(2)
    assert await recordings.search(other, Search(), 10) == []
    assert await recordings.find(other, desk.new.public_id) is None
    assert await recordings.of_session(other, SessionId(5)) is None


def entry(number: int = 0) -> audit.NewEntry:
    return audit.NewEntry(DEFAULT_TENANT, None, "usr_x", audit.GRANTED, "rec_x", f"reason {number}", {"ü": number})


async def test_audit_log_is_chained_without_gaps_when_written_at_once(
    recordings: Recordings, database: Database
) -> None:
    await asyncio.gather(*(recordings.note(entry(n)) for n in range(12)))
    async with database.transaction(DEFAULT_TENANT) as connection:
        assert await audit.first_broken(connection, DEFAULT_TENANT) is None
        found = await audit.of_subject(connection, DEFAULT_TENANT, "rec_x", 100)
    assert [each.n for each in found] == list(range(12, 0, -1))


async def test_audit_log_cannot_be_changed_by_application_or_owner(
    recordings: Recordings, database: Database, owner: Any
) -> None:
    await recordings.note(entry())
    for statement in ("update audit_log set reason = ''", "delete from audit_log", "truncate audit_log"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(DEFAULT_TENANT) as connection:
                await connection.execute(statement)
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await owner.execute(statement)


@pytest.mark.parametrize(
    "tampering",
    ["update audit_log set reason = 'another' where n = 2", "delete from audit_log where n = 2"],
)
async def test_audit_log_shows_what_somebody_with_all_rights_changed(
    recordings: Recordings, owner: Any, tampering: str
) -> None:
    for number in range(4):
        await recordings.note(entry(number))
    assert await audit.first_broken(owner, DEFAULT_TENANT) is None
    await owner.execute("alter table audit_log disable trigger user")
    await owner.execute(tampering)
    assert await audit.first_broken(owner, DEFAULT_TENANT) in (2, 3)


async def test_numbers_and_hashes_given_by_the_application_are_ignored(database: Database) -> None:
    async with database.transaction(DEFAULT_TENANT) as connection:
        await connection.execute(
            "insert into audit_log (tenant_id, n, at, actor, action, subject, prev_hash, hash)"
            " values (1, 77, '2001-01-01', 'x', 'x', 'x', 'forged', 'forged')"
        )
        assert await connection.fetchval("select n from audit_log") == 1
        assert await connection.fetchval("select at > '2020-01-01' from audit_log")
        assert await audit.first_broken(connection, DEFAULT_TENANT) is None
