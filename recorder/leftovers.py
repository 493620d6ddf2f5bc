"""What attempts at jobs that came to nothing had stored goes: of so many jobs at a time, round and round."""

from __future__ import annotations

import datetime
from typing import Any, Final

from config.clock import Clock
from config.database import ALL_TENANTS
from config.logs import get_log
from config.objects import ObjectStoreError
from recorder.catalogue import Recordings
from recorder.segments import PRODUCT_EPOCH, part_prefix

log = get_log("recorder.leftovers")

BATCH_MAX: Final = 50
"""Jobs that one round looks at; the next round goes on after them."""


class Leftovers:
    """Sweeps up. Remembers how far it has come: what cannot be deleted has its turn again, and holds up no other."""

    def __init__(self, recordings: Recordings, clock: Clock) -> None:
        self._recordings = recordings
        self._clock = clock
        self._after = 0

    async def sweep(self) -> int:
        """Delete what is left over of the next few jobs: of how many there was something.

        Raises what asyncpg raises while PostgreSQL is away.
        """
        now = datetime.datetime.fromtimestamp(self._clock.wall_ms() / 1000, datetime.UTC)
        async with self._recordings.database.transaction(ALL_TENANTS) as connection:
            rows = await connection.fetch(_LEFT_OVER, now, self._after, BATCH_MAX)
        self._after = rows[-1]["id"] if len(rows) == BATCH_MAX else 0
        for row in rows:
            try:
                await self._delete(row)
            except ObjectStoreError as error:  # away, or locked by the bucket's own rule: later
                log.warning("leftovers of a job not deleted", job=row["public_id"], why=str(error))
                continue
            async with self._recordings.database.transaction(row["tenant_id"]) as connection:
                await connection.execute(
                    "update recording_job set outputs = '{}'"
                    " where tenant_id = $1 and id = $2 and state <> 'running' and outputs = $3",
                    row["tenant_id"],
                    row["id"],
                    row["outputs"],
                )
        return len(rows)

    async def _delete(self, row: Any) -> None:
        base = part_prefix(row["tenant_id"], row["recording"], PRODUCT_EPOCH)
        for number in row["outputs"]:
            async for key in self._recordings.objects.keys(f"{base}{number:02d}-"):
                await self._recordings.objects.delete(key)


# Until its lease is over, a worker may not know yet that its job was taken away.
_LEFT_OVER: Final = """
select j.tenant_id, j.id, j.public_id, j.outputs, r.public_id as recording from recording_job j
join recording r on r.tenant_id = j.tenant_id and r.id = j.recording_id
where j.outputs <> '{}' and j.state <> 'running' and coalesce(j.leased_until < $1, true) and j.id > $2
order by j.id limit $3
"""
