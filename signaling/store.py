"""Sessions in PostgreSQL: every change is one transaction that locks the row, asks the table of transitions, writes the
new state, raises the revision, and adds who, when and why to ``session_change``. Publishing comes after.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import asyncpg

from config.database import ALL_TENANTS, Database
from config.ids import SHARDS, PublicId, RoomEpoch, SessionId, TenantId, UserId, WorkerId, new_public_id
from relay.messages import SessionKind
from signaling.lifecycle import IN_CALL, LIVE, OVER, Limits, State, Trigger, Verdict, step

SWEEP_PAGE: Final = 5_000
"""Sessions that a sweep reads at a time; it reads on until it has seen all."""


class TooManyLive(Exception):
    """The client has as many live sessions as a client may have."""


@dataclass(frozen=True, slots=True)
class Person:
    """A participant, as sessions show them."""

    user_id: UserId
    public_id: PublicId
    name: str
    role: str
    headline: str | None
    avatar_hue: int


@dataclass(frozen=True, slots=True)
class Session:
    """One row of ``session`` with its two people. Times are Unix milliseconds."""

    tenant_id: TenantId
    id: SessionId
    public_id: PublicId
    client: Person
    provider: Person
    kind: SessionKind
    state: State
    end_reason: str | None
    minor_per_minute: int
    currency: str
    tariff_id: int | None
    client_consented: bool
    provider_consented: bool | None
    recording: str
    recording_public_id: PublicId | None
    recording_paused_until_ms: int | None
    """Where ``recording`` is ``paused``: when it goes on by itself."""
    worker_id: WorkerId | None
    room_epoch: RoomEpoch
    requested_at_ms: int
    deadline_at_ms: int | None
    accepted_at_ms: int | None
    started_at_ms: int | None
    ended_at_ms: int | None
    settled_at_ms: int | None
    revision: int
    asked_kind: SessionKind | None = None
    """What one side has asked to change to (``kinds``), with who, at what rate, and until when it stands."""
    asked_by: UserId | None = None
    asked_minor_per_minute: int | None = None
    asked_tariff_id: int | None = None
    asked_step_ms: int | None = None
    asked_until_ms: int | None = None

    @property
    def over(self) -> bool:
        return self.state in OVER

    @property
    def to_settle(self) -> bool:
        """Over, and money may be held for it."""
        return self.over and self.accepted_at_ms is not None and self.settled_at_ms is None

    @property
    def people(self) -> tuple[Person, Person]:
        return (self.client, self.provider)

    def includes(self, user_id: UserId) -> bool:
        return user_id in (self.client.user_id, self.provider.user_id)


class SweepRow(NamedTuple):
    """What the sweep has to know of every session that is live, or over and not settled."""

    tenant_id: TenantId
    id: SessionId
    state: State
    worker_id: WorkerId | None
    room_epoch: RoomEpoch
    deadline_at_ms: int | None
    ended_at_ms: int | None
    revision: int


@dataclass(frozen=True, slots=True)
class NewSession:
    """What ``create`` stores."""

    tenant_id: TenantId
    client_id: UserId
    provider_id: UserId
    kind: SessionKind
    minor_per_minute: int
    currency: str
    tariff_id: int | None
    request_key: str
    client_consented: bool


@dataclass(frozen=True, slots=True)
class Applied:
    """A verdict, and the session as it is now."""

    verdict: Verdict
    session: Session

    @property
    def changed(self) -> bool:
        return self.verdict is Verdict.CHANGED


_PLAIN: Final = (
    *("tenant_id", "id", "public_id", "kind", "end_reason", "minor_per_minute", "currency", "tariff_id"),
    "client_consented",
    *("provider_consented", "recording", "recording_public_id", "worker_id", "room_epoch", "requested_at_ms"),
    *("deadline_at_ms", "accepted_at_ms", "started_at_ms", "ended_at_ms", "settled_at_ms", "revision"),
    "recording_paused_until_ms",
    *("asked_kind", "asked_by", "asked_minor_per_minute", "asked_tariff_id", "asked_step_ms", "asked_until_ms"),
)
_PERSON: Final = ("public_id", "name", "role", "headline", "avatar_hue")
_SELECT: Final = (
    "select s.client_id, s.provider_id, s.state, "
    + ", ".join(f"s.{column}" for column in _PLAIN)
    + "".join(f", {side}.{column} as {side}_{column}" for side in ("c", "p") for column in _PERSON)
    + " from session s"
    + " join app_user c on c.tenant_id = s.tenant_id and c.id = s.client_id"
    + " join app_user p on p.tenant_id = s.tenant_id and p.id = s.provider_id "
)
_LIVE: Final = "state in (" + ", ".join(f"'{state}'" for state in State if state in LIVE) + ")"
"""Spelled out, not a parameter, so that the planner may use the partial indexes."""
CLOCKS_APART_MS: Final = 5_000
"""What the clocks of two machines may differ by before it is made good."""
STORY_MAX: Final = 20_000
"""Changes, and messages, of one session that go into its recording."""
_SETTABLE: Final = frozenset(
    {"worker_id", "room_epoch", "recording", "recording_public_id", "provider_consented", "settled_at_ms"}
    | {"deadline_at_ms"}
    | {"recording_paused_until_ms", "kind", "minor_per_minute", "tariff_id"}
    | {"asked_kind", "asked_by", "asked_minor_per_minute", "asked_tariff_id", "asked_step_ms", "asked_until_ms"}
)


def _person(row: Any, side: str, user_id: int) -> Person:
    return Person(
        user_id=UserId(user_id),
        public_id=PublicId(row[f"{side}_public_id"]),
        name=row[f"{side}_name"],
        role=row[f"{side}_role"],
        headline=row[f"{side}_headline"],
        avatar_hue=row[f"{side}_avatar_hue"] or 0,
    )


def _session(row: Any) -> Session:
    plain = {column: row[column] for column in _PLAIN}
    client, provider = _person(row, "c", row["client_id"]), _person(row, "p", row["provider_id"])
    return Session(client=client, provider=provider, state=State(row["state"]), **plain)


class SessionStore:
    """All SQL about sessions."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits

    async def create(self, new: NewSession, now_ms: int, live_max: int) -> tuple[Session, bool] | None:
        """Store a request: (session, whether it is new). None: the provider has another live session.

        The same client with the same request key gets the session made before. Raises ``TooManyLive`` when the client
        has ``live_max`` live sessions already.
        """
        try:
            async with self._database.transaction(new.tenant_id) as sql:
                found = await sql.fetchrow(
                    _SELECT + "where s.tenant_id = $1 and s.client_id = $2 and s.request_key = $3",
                    *(new.tenant_id, new.client_id, new.request_key),
                )
                if found is not None:
                    return _session(found), False
                # The client's row is locked first, so that requests sent at once are counted one after another.
                await sql.execute(
                    "select from app_user where tenant_id = $1 and id = $2 for no key update",
                    *(new.tenant_id, new.client_id),
                )
                live = await sql.fetchval(
                    f"select count(*) from session where tenant_id = $1 and client_id = $2 and {_LIVE}",
                    *(new.tenant_id, new.client_id),
                )
                if live >= live_max:
                    raise TooManyLive
                session_id = await sql.fetchval(
                    "insert into session (tenant_id, public_id, client_id, provider_id, kind, state, minor_per_minute,"
                    " currency, request_key, client_consented, recording, requested_at_ms, deadline_at_ms, tariff_id)"
                    " values ($1, $2, $3, $4, $5, 'requested', $6, $7, $8, $9, $10, $11, $12, $13) returning id",
                    *(new.tenant_id, new_public_id("ses"), new.client_id, new.provider_id, new.kind),
                    *(new.minor_per_minute, new.currency, new.request_key, new.client_consented),
                    "waiting_for_consent" if new.client_consented else "off",
                    *(now_ms, now_ms + self._limits.ring_timeout_ms, new.tariff_id),
                )
                await sql.execute(
                    "insert into session_change (tenant_id, session_id, revision, at_ms, to_state, what, actor_id)"
                    " values ($1, $2, 1, $3, 'requested', 'request', $4)",
                    *(new.tenant_id, session_id, now_ms, new.client_id),
                )
                return await self._read(sql, new.tenant_id, session_id), True
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name == "session_one_per_provider":
                return None
            return await self.create(
                new, now_ms, live_max
            )  # the same request key at the same moment: theirs is stored now

    async def requested(self, tenant: TenantId, client_id: UserId, request_key: str) -> Session | None:
        """The session that a client requested under that key."""
        async with self._database.transaction(tenant) as sql:
            row = await sql.fetchrow(
                _SELECT + "where s.tenant_id = $1 and s.client_id = $2 and s.request_key = $3",
                *(tenant, client_id, request_key),
            )
            return None if row is None else _session(row)

    async def apply(
        self,
        tenant: TenantId,
        session_id: SessionId,
        trigger: Trigger,
        *,
        now_ms: int,
        actor: UserId | None = None,
        why: str = "",
        **columns: Any,
    ) -> Applied:
        """Let ``trigger`` happen; ``columns`` are stored with the change, if there is one."""
        async with self._database.transaction(tenant) as sql:
            row = await sql.fetchrow(
                "select state, deadline_at_ms, started_at_ms from session where tenant_id = $1 and id = $2 for update",
                *(tenant, session_id),
            )
            old = State(row["state"])
            result = step(old, row["deadline_at_ms"], trigger, now_ms, self._limits)
            if result.verdict is Verdict.CHANGED:
                columns |= {"state": result.state.value, "deadline_at_ms": result.deadline_at_ms}
                if result.state is State.ACCEPTED:
                    columns["accepted_at_ms"] = now_ms
                if result.state is State.ACTIVE and row["started_at_ms"] is None:
                    columns["started_at_ms"] = now_ms
                if result.state in OVER:
                    columns |= {"ended_at_ms": now_ms, "end_reason": result.end_reason}
                await self._write(sql, tenant, session_id, columns, old, result.state, trigger, now_ms, actor, why)
            return Applied(result.verdict, await self._read(sql, tenant, session_id))

    async def note(
        self,
        tenant: TenantId,
        session_id: SessionId,
        what: str,
        *,
        now_ms: int,
        why: str = "",
        actor: UserId | None = None,
        during: frozenset[State] | None = None,
        **columns: Any,
    ) -> Session:
        """Store ``columns`` in a change that leaves the state as it is. What is so already changes nothing; nor does
        what comes when the state is none of ``during``."""
        if not columns.keys() <= _SETTABLE:
            raise ValueError(f"not to be noted: {sorted(columns.keys() - _SETTABLE)}")
        async with self._database.transaction(tenant) as sql:
            names = ", ".join(["state", *columns])
            row = await sql.fetchrow(
                f"select {names} from session where tenant_id = $1 and id = $2 for update",
                *(tenant, session_id),
            )
            state = State(row["state"])
            if (during is None or state in during) and any(row[name] != value for name, value in columns.items()):
                await self._write(sql, tenant, session_id, columns, state, state, what, now_ms, actor, why)
            return await self._read(sql, tenant, session_id)

    async def still_asked(self, sql: Any, session: Session) -> bool:
        """Whether the other kind that ``session`` was asked for is asked still; nobody takes it back before the
        transaction of ``sql`` is over."""
        stands: bool = await sql.fetchval(
            "select (asked_kind, asked_by, asked_until_ms) is not distinct from ($3, $4::bigint, $5::bigint)"
            " from session where tenant_id = $1 and id = $2 for share",
            *(session.tenant_id, session.id, session.asked_kind, session.asked_by, session.asked_until_ms),
        )
        return stands

    def capped(self, state: State, deadline_at_ms: int | None, now_ms: int) -> int | None:
        """The deadline to store instead of one that is further away than its state may last: the clock was set back
        since. None: it is as it should be."""
        lasts_ms = self._limits.of(state)
        if deadline_at_ms is None or lasts_ms is None or deadline_at_ms - now_ms <= lasts_ms + CLOCKS_APART_MS:
            return None
        return now_ms + lasts_ms

    async def story(self, tenant: TenantId, session_id: SessionId) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What happened to a session, and what was written in it, oldest first: as they go into its recording."""
        async with self._database.transaction(tenant) as sql:
            changes = await sql.fetch(
                "select c.at_ms, c.what, c.to_state as state, coalesce(u.public_id, '') as by, c.why"
                " from session_change c left join app_user u on u.tenant_id = c.tenant_id and u.id = c.actor_id"
                " where c.tenant_id = $1 and c.session_id = $2 order by c.revision limit $3",
                *(tenant, session_id, STORY_MAX),
            )
            messages = await sql.fetch(
                "select m.sent_at_ms as at_ms, u.public_id as by, m.body as text from chat_message m"
                " join app_user u on u.tenant_id = m.tenant_id and u.id = m.sender_id"
                " where m.tenant_id = $1 and m.session_id = $2 order by m.id limit $3",
                *(tenant, session_id, STORY_MAX),
            )
        return [dict(row) for row in changes], [dict(row) for row in messages]

    async def move(
        self,
        session: Session,
        *,
        now_ms: int,
        why: str,
        worker_id: WorkerId,
        room_epoch: RoomEpoch,
        recording: str,
    ) -> Session | None:
        """The session's room is on another worker now; None: the session is over, or has been moved by someone else."""
        columns = {"worker_id": worker_id, "room_epoch": room_epoch, "recording": recording}
        tenant, session_id = session.tenant_id, session.id
        async with self._database.transaction(tenant) as sql:
            row = await sql.fetchrow(
                "select state, room_epoch from session where tenant_id = $1 and id = $2 for update",
                *(tenant, session_id),
            )
            state = State(row["state"])
            if state not in IN_CALL or row["room_epoch"] != session.room_epoch:
                return None
            await self._write(sql, tenant, session_id, columns, state, state, "room_moved", now_ms, None, why)
            return await self._read(sql, tenant, session_id)

    async def _write(
        self,
        sql: Any,
        tenant: TenantId,
        session_id: SessionId,
        columns: dict[str, Any],
        old: State,
        new: State,
        what: str,
        now_ms: int,
        actor: UserId | None,
        why: str,
    ) -> None:
        sets = "".join(f", {column} = ${n}" for n, column in enumerate(columns, start=3))
        revision = await sql.fetchval(
            f"update session set revision = revision + 1{sets} where tenant_id = $1 and id = $2 returning revision",
            *(tenant, session_id, *columns.values()),
        )
        await sql.execute(
            "insert into session_change (tenant_id, session_id, revision, at_ms, from_state, to_state, what, actor_id,"
            " why) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            *(tenant, session_id, revision, now_ms, old.value, new.value, str(what), actor, why[:500]),
        )

    async def _read(self, sql: Any, tenant: TenantId, session_id: SessionId) -> Session:
        return _session(await sql.fetchrow(_SELECT + "where s.tenant_id = $1 and s.id = $2", tenant, session_id))

    async def get(self, tenant: TenantId, session_id: SessionId) -> Session | None:
        """The session with that key."""
        async with self._database.transaction(tenant) as sql:
            row = await sql.fetchrow(_SELECT + "where s.tenant_id = $1 and s.id = $2", tenant, session_id)
            return None if row is None else _session(row)

    async def by_public_id(self, tenant: TenantId, public_id: str) -> Session | None:
        """The session with that public id."""
        async with self._database.transaction(tenant) as sql:
            row = await sql.fetchrow(_SELECT + "where s.tenant_id = $1 and s.public_id = $2", tenant, public_id)
            return None if row is None else _session(row)

    async def of_user(self, tenant: TenantId, user_id: UserId | None, before: str | None, limit: int) -> list[Session]:
        """Sessions newest first, older than the one called ``before``; ``user_id`` None: everybody's."""
        async with self._database.transaction(tenant) as sql:
            rows = await sql.fetch(
                _SELECT + "where s.tenant_id = $1 and ($2::bigint is null or s.client_id = $2 or s.provider_id = $2)"
                " and ($3::text is null or s.id < (select id from session where tenant_id = $1 and public_id = $3))"
                " order by s.id desc limit $4",
                *(tenant, user_id, before, limit),
            )
            return [_session(row) for row in rows]

    async def to_sweep(self, shards: Iterable[int]) -> list[SweepRow]:
        """All sessions of these shards, of all tenants, that are live, or over and not settled; oldest first."""
        found: list[SweepRow] = []
        while True:
            async with self._database.transaction(ALL_TENANTS) as sql:
                rows = await sql.fetch(
                    "select tenant_id, id, state, worker_id, room_epoch, deadline_at_ms, ended_at_ms, revision"
                    f" from session where id % {SHARDS} = any($1) and id > $2 and ({_LIVE}"
                    " or (accepted_at_ms is not null and settled_at_ms is null)) order by id limit $3",
                    *(list(shards), found[-1].id if found else 0, SWEEP_PAGE),
                )
            found += [SweepRow(row["tenant_id"], row["id"], State(row["state"]), *row[3:]) for row in rows]
            if len(rows) < SWEEP_PAGE:
                return found

    async def recorded_against(self, shards: Iterable[int]) -> list[tuple[TenantId, SessionId]]:
        """Sessions of these shards, of all tenants, that are recorded though somebody in them has said no once."""
        async with self._database.transaction(ALL_TENANTS) as sql:
            rows = await sql.fetch(
                f"select tenant_id, id from session s where id % {SHARDS} = any($1) and {_LIVE}"
                " and s.recording in ('recording', 'paused') and exists (select from consent c"
                " where c.tenant_id = s.tenant_id and c.session_id = s.id and not c.accepted) order by id limit $2",
                *(list(shards), SWEEP_PAGE),
            )
        return [(row["tenant_id"], row["id"]) for row in rows]

    async def busy(self, tenant: TenantId, user_ids: Iterable[int]) -> set[UserId]:
        """Which of the providers have a live session."""
        async with self._database.transaction(tenant) as sql:
            rows = await sql.fetch(
                f"select provider_id from session where tenant_id = $1 and provider_id = any($2) and {_LIVE}",
                *(tenant, list(user_ids)),
            )
            return {UserId(row["provider_id"]) for row in rows}

    async def count_by_state(self) -> dict[str, int]:
        """How many live sessions are in each state, over all tenants."""
        async with self._database.transaction(ALL_TENANTS) as sql:
            rows = await sql.fetch(f"select state, count(*) n from session where {_LIVE} group by 1")
            return {row["state"]: row["n"] for row in rows}
