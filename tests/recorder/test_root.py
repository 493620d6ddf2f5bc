"""A recording's root is over all of its parts, whenever they turn up."""

from __future__ import annotations

from typing import Any

import pytest

from config.ids import DEFAULT_TENANT
from recorder.check import Findings, check_store
from recorder.files import FolderFiles
from recorder.job import PartJob
from recorder.root import Signer
from tests.recorder.conftest import Desk
from tests.recorder.test_job import call


async def test_part_that_begins_while_the_root_is_stored_is_in_the_next_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = call(desk, 1.0), call(desk, 1.0, epoch=2)
    first.close()
    second.close()
    keep = Signer._keep_root

    async def late(self: Signer, row: Any, statement: dict[str, Any]) -> tuple[str, bytes]:
        kept = await keep(self, row, statement)
        await desk.services.store.begin_part(desk.header(2))
        return kept

    with monkeypatch.context() as patched:
        patched.setattr(Signer, "_keep_root", late)
        assert await PartJob(first.directory, desk.services).run() == "finishing"
    assert await PartJob(second.directory, desk.services).run() == "ready"
    found = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert found is not None
    assert (found.state, (found.root_key or "").rsplit("/", 1)[-1]) == ("ready", "root-001.json")
    findings = Findings()
    await check_store(FolderFiles(desk.objects_dir), desk.services.signer.key.public, findings)
    assert (findings.problems, findings.recordings) == ([], 1)
