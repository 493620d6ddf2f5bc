"""Parts of a recording that could not be stored: what is missing, and about when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from recorder.store import StreamRow


class MissingPart(NamedTuple):
    """A part that is not in the recording."""

    epoch: int
    failure: str | None


async def missing_parts(connection: Any, tenant_id: int, recording_id: int) -> list[MissingPart]:
    """The parts that failed, in order."""
    rows = await connection.fetch(
        "select epoch, failure from recording_part"
        " where tenant_id = $1 and recording_id = $2 and state = 'failed' order by epoch",
        tenant_id,
        recording_id,
    )
    return [MissingPart(*row) for row in rows]


def span_ms(epoch: int, streams: Iterable[StreamRow]) -> tuple[int | None, int | None]:
    """Between which times a part that is missing lies, as the others tell (wall clock). None: nothing is before, or
    after it."""
    streams = list(streams)
    before = max((each.end_ms for each in streams if each.epoch < epoch), default=None)
    after = min((each.start_ms for each in streams if each.epoch > epoch), default=None)
    return before, after
