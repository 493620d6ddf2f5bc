"""How each participant's page was connected during a session: kept for staff who explain a bill, and for the time line.

Workers tell when a page begins to connect, is connected, and is not any more. Whoever leads the session's shard writes
these down before it acknowledges the events, so that none is lost with a process; while PostgreSQL is away they wait
here, and stay unacknowledged. That a room moved, which ends every connection to its old worker without a word of that
worker's, is in the session's own changes and is joined on reading.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Literal, NamedTuple

from config.database import Database
from config.ids import SessionId, TenantId
from config.logs import get_log
from config.metrics import counter
from relay.messages import ParticipantConnected, ParticipantConnecting, ParticipantDisconnected
from signaling.away import AWAY
from signaling.store import Session

ConnectionState = Literal["connecting", "connected", "reconnecting", "moved", "closed"]
ConnectionEvent = ParticipantConnecting | ParticipantConnected | ParticipantDisconnected

WAITING_MAX: Final = 10_000
"""Changes that wait for PostgreSQL; of more the oldest are dropped and counted."""
OF_SESSION_MAX: Final = 1_000
"""Changes kept of one session, as one process sees it: a page that connects again and again says no more then."""
COUNTED_MAX: Final = 20_000
"""Sessions whose changes are counted; the one not heard of for longest is forgotten first."""
READ_MAX: Final = 5_000

log = get_log("signaling.connection_history")
_lost = counter(
    "turnpike_connection_changes_lost_total",
    "Changes of connections not written down: too many waited, or it could not be",
)

_INSERT: Final = """
insert into connection_change (tenant_id, session_id, user_id, epoch, at_ms, state, reason, connect_ms, worker_id)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing
"""
_READ: Final = """
select * from (
select c.at_ms, u.public_id, c.state, c.reason, c.epoch, c.connect_ms
from connection_change c join app_user u on u.tenant_id = c.tenant_id and u.id = c.user_id
where c.tenant_id = $1 and c.session_id = $2
union all
select m.at_ms, u.public_id, 'moved', m.why, 0, null
from session_change m join session s on s.tenant_id = m.tenant_id and s.id = m.session_id
join app_user u on u.tenant_id = s.tenant_id and u.id in (s.client_id, s.provider_id)
where m.tenant_id = $1 and m.session_id = $2 and m.what = 'room_moved'
) as told
order by at_ms, array_position(array['closed', 'reconnecting', 'moved', 'connecting', 'connected'], state), public_id
limit $3
"""


class ConnectionChange(NamedTuple):
    """One change of one participant's connection."""

    at_ms: int
    """Unix ms; a worker's clock, for ``moved`` control's."""
    user_id: str
    """Public id."""
    state: ConnectionState
    reason: str
    """Of ``reconnecting``: ``timeout`` (nothing was heard for seconds), ``failed``, ``replaced`` (the page made a fresh
    connection). Of ``moved``: ``lost`` (the worker died) or ``drained``. Else empty."""
    epoch: int
    """Room epoch; 0 of ``moved``."""
    connect_ms: int | None
    """Of ``connected``: from the page's offer on; None where a connection that had fallen silent was heard again."""


class _Row(NamedTuple):
    tenant_id: int
    session_id: int
    user_id: int
    epoch: int
    at_ms: int
    state: str
    reason: str
    connect_ms: int | None
    worker_id: str


class ConnectionHistory:
    """See the module's docstring."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Row] = []
        self._counts: OrderedDict[SessionId, int] = OrderedDict()

    def take(self, session: Session, event: ConnectionEvent) -> None:
        """A worker's word, to be written by the next ``keep``. That of strangers is dropped."""
        if event.user_id not in {person.user_id for person in session.people} or not self._counted(session.id):
            return
        state, reason, connect_ms = _told(event)
        common = (event.tenant_id, event.session_id, event.user_id, event.epoch, event.at_ms)
        self._waiting.append(_Row(*common, state, reason, connect_ms, event.worker_id))
        surplus = len(self._waiting) - WAITING_MAX
        if surplus > 0:
            del self._waiting[:surplus]
            _lost.inc(surplus)

    async def keep(self) -> bool:
        """Write down what waits; False: PostgreSQL is away, and it goes on waiting. A repeated change is written once,
        and one that cannot be written at all is logged, counted and dropped, so that it holds no other up."""
        try:
            while self._waiting:
                tenant = self._waiting[0].tenant_id
                rows = [row for row in self._waiting if row.tenant_id == tenant]
                await self._write_all(tenant, rows)
                done = set(map(id, rows))  # not by place: more may have come, and the oldest may have been dropped
                self._waiting = [row for row in self._waiting if id(row) not in done]
        except AWAY as error:
            log.warning("changes of connections not written, will be", why=str(error)[:300])
            return False
        return True

    async def _write_all(self, tenant: int, rows: list[_Row]) -> None:
        try:
            await self._write(tenant, rows)
            return
        except AWAY:
            raise
        except Exception as error:  # noqa: BLE001 - one of them cannot be written: each by itself then
            log.warning("changes of connections not written at once", rows=len(rows), why=repr(error)[:300])
        for row in rows:
            try:
                await self._write(tenant, [row])
            except AWAY:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not hold up a shard's events for good
                _lost.inc()
                log.error("change of a connection not written", session_key=row.session_id, why=repr(error)[:300])

    async def _write(self, tenant: int, rows: list[_Row]) -> None:
        async with self._database.transaction(TenantId(tenant)) as sql:
            await sql.executemany(_INSERT, rows)

    async def of_session(self, tenant: TenantId, session_id: SessionId) -> list[ConnectionChange]:
        """Everybody's changes, oldest first."""
        async with self._database.transaction(tenant) as sql:
            rows = await sql.fetch(_READ, tenant, session_id, READ_MAX)
        return [ConnectionChange(*row) for row in rows]

    def _counted(self, session_id: SessionId) -> bool:
        self._counts[session_id] = self._counts.pop(session_id, 0) + 1
        while len(self._counts) > COUNTED_MAX:
            self._counts.popitem(last=False)
        return self._counts[session_id] <= OF_SESSION_MAX


def _told(event: ConnectionEvent) -> tuple[ConnectionState, str, int | None]:
    match event:
        case ParticipantConnecting():
            return "connecting", "", None
        case ParticipantConnected():
            return "connected", "", event.connect_ms or None
        case ParticipantDisconnected(reason="closed"):
            return "closed", "", None
        case ParticipantDisconnected():
            return "reconnecting", event.reason, None
