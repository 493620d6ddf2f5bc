"""The end of a recording: every step is taken in the end, whatever is away or locked, and nothing holds up another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.clock import VirtualClock
from config.ids import DEFAULT_TENANT, PublicId, SessionId
from config.keys import WrappedKeys
from config.objects import DirectoryStore, ObjectStoreError
from recorder import lifecycle as module
from recorder.catalogue import CONSENT_TEXT
from recorder.lifecycle import LOCKED_WAIT_MS, Lifecycle
from tests.recorder.asking import REASON, Ask
from tests.recorder.conftest import Desk
from tests.recorder.media import START_WALL_MS
from tests.recorder.test_job import recorded, stored

DELETE = DirectoryStore.delete


@pytest.fixture
async def ready(desk: Desk) -> str:
    """Path of a signed recording."""
    await recorded(desk, 1.0)
    return f"/recordings/{desk.new.public_id}"


@pytest.fixture
async def other(desk: Desk) -> str:
    """Path of a newer recording without any media, which failed."""
    sides = [desk.people["client"], desk.people["provider"]]
    for side in sides:
        await desk.recordings.give_consent(DEFAULT_TENANT, SessionId(6), side.id, CONSENT_TEXT.version, True)
    new = await desk.recordings.create(
        DEFAULT_TENANT,
        SessionId(6),
        PublicId("ses_00000000000000000006"),
        "video",
        [(each.id, each.public_id, each.name, each.role) for each in sides],
        START_WALL_MS,
    )
    await desk.recordings.end(DEFAULT_TENANT, SessionId(6), START_WALL_MS + 1)
    await desk.services.store.give_up_unrecorded(START_WALL_MS + 2)
    return f"/recordings/{new.public_id}"


def keys(desk: Desk) -> list[Path]:
    return list((desk.settings.data / "keys").rglob("*.key"))


def fail_to_destroy(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    """Keys cannot be destroyed so many times: their store is away."""
    left, destroy = [failures], WrappedKeys.destroy

    async def away(self: WrappedKeys, tenant: Any, about: str) -> None:
        if left[0]:
            left[0] -= 1
            raise ObjectStoreError("the store of keys is away")
        await destroy(self, tenant, about)

    monkeypatch.setattr(WrappedKeys, "destroy", away)


def lock(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    """No object of the first recording can be deleted."""
    delete = DirectoryStore.delete

    async def locked(self: DirectoryStore, key: str) -> None:
        if key.startswith(f"recordings/1/{desk.new.public_id}"):
            raise ObjectStoreError("AccessDenied: the object is locked")
        await delete(self, key)

    monkeypatch.setattr(DirectoryStore, "delete", locked)


def unlock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects can be deleted again."""
    monkeypatch.setattr(DirectoryStore, "delete", DELETE)


async def swept(ask: Ask) -> list[bool]:
    report = await (await ask("GET", "/recordings/reports/lifecycle", "admin")).json()
    return [entry["swept"] for entry in report["entries"]]


async def test_key_of_a_recording_without_media_is_destroyed_when_its_store_is_back(
    desk: Desk, ask: Ask, other: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_destroy(monkeypatch, 2)
    assert (await ask("POST", other + "/erase", "admin", json=REASON)).status >= 500
    assert (len(keys(desk)), await swept(ask)) == (2, [False])
    lifecycle = Lifecycle(desk.recordings, desk.services.signer.key, clock)
    assert await lifecycle.sweep_gone() == 1
    assert (len(keys(desk)), await swept(ask)) == (2, [False])
    assert await lifecycle.sweep_gone() == 1
    assert (len(keys(desk)), await swept(ask)) == (1, [True])
    assert await lifecycle.sweep_gone() == 0


async def test_recordings_that_are_locked_for_years_hold_up_no_other(
    desk: Desk, ask: Ask, ready: str, other: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_MAX", 1)
    lock(monkeypatch, desk)
    lifecycle = Lifecycle(desk.recordings, desk.services.signer.key, clock)
    assert (await ask("POST", ready + "/erase", "admin", json=REASON)).status == 204
    assert len(keys(desk)) == 1  # the key goes at once, locked or not
    fail_to_destroy(monkeypatch, 1)
    assert (await ask("POST", other + "/erase", "admin", json=REASON)).status >= 500
    clock.advance_ms(LOCKED_WAIT_MS)
    await lifecycle.sweep_gone()
    assert keys(desk) == []
    assert await swept(ask) == [True, False]
    assert [key for key in stored(desk) if key.startswith("recordings/")]
    monkeypatch.undo()
    assert await lifecycle.sweep_gone() == 0  # not before an hour is over
    clock.advance_ms(LOCKED_WAIT_MS)
    assert await lifecycle.sweep_gone() == 1
    assert await swept(ask) == [True, True]
    assert not [key for key in stored(desk) if key.startswith("recordings/")]


async def test_one_key_that_cannot_be_destroyed_holds_up_no_other(
    desk: Desk, ask: Ask, ready: str, other: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_MAX", 1)
    fail_to_destroy(monkeypatch, 2)
    for path in (ready, other):
        assert (await ask("POST", path + "/erase", "admin", json=REASON)).status >= 500
    fail_to_destroy(monkeypatch, 1)
    lifecycle = Lifecycle(desk.recordings, desk.services.signer.key, clock)
    await lifecycle.sweep_gone()
    await lifecycle.sweep_gone()
    assert [path.stem for path in keys(desk)] == [desk.new.public_id]


async def test_when_a_key_was_destroyed_stays_noted_while_its_objects_are_tried_again(
    desk: Desk, ask: Ask, ready: str, owner: Any, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock(monkeypatch, desk)
    assert (await ask("POST", ready + "/erase", "admin", json=REASON)).status == 204
    destroyed = await owner.fetchval("select key_destroyed_at from recording")
    assert destroyed is not None
    fail_to_destroy(monkeypatch, 1)  # that store is not needed any more
    clock.advance_ms(LOCKED_WAIT_MS)
    unlock(monkeypatch)
    assert await Lifecycle(desk.recordings, desk.services.signer.key, clock).sweep_gone() == 1
    assert await swept(ask) == [True]
    assert await owner.fetchval("select key_destroyed_at from recording") == destroyed
