"""One session on one line of time: its states, its connections, the workers' evidence, and every movement of money.

For the two people of the session, and for staff. Each sees their own money: a client what they paid, a provider what
they earned of it; staff see both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from billing import story
from billing.service import Billing
from billing.story import MoneyStory, Movement
from config.clock import Clock
from config.http import Call, Endpoint, View, endpoint
from relay.messages import SessionKind
from signaling.connection_history import ConnectionChange, ConnectionHistory
from signaling.director import STAFF, Director
from signaling.store import Session
from signaling.timeline_store import ChangeRow, EvidenceRow, NoteRow, TimelineStore

PATH: Final = "/api/v1/sessions/{id}/timeline"
_CLIENTS_OWN: Final = frozenset({"topup", "promo"})
"""What only the client, and staff, see."""

Seat = Literal["client", "provider", "staff"]


class StateSpan(View):
    """The session was in a state; ``to_ms`` null: it still is."""

    state: str
    what: str
    """What brought it there."""
    by: str | None = None
    why: str = ""
    from_ms: int
    to_ms: int | None = None


class KindSpan(View):
    """From when on which kind was charged, and at what rate."""

    kind: SessionKind
    minor_per_minute: int
    from_ms: int
    live_ms: int
    """Live time before it."""


class ConnectionMark(View):
    """A participant's connection changed."""

    at_ms: int
    user_id: str
    state: str
    reason: str = ""
    connect_ms: int | None = None


class EvidenceMinute(View):
    """What a worker wrote down of one minute: live time of the room so far, and how much of it is new."""

    at_ms: int
    epoch: int
    live_ms: int
    new_ms: int
    granted_ms: int | None = None
    """As far as the worker was let go; not for providers: with the rate it tells what the client's wallet pays for."""
    worker_id: str | None = None
    """Staff only."""
    final: bool


class MoneyMark(View):
    """Money moved. For a provider the amount is what they earned of it."""

    at_ms: int
    what: str
    id: str
    amount_minor: int
    """Negative: given back, or put into the wallet."""
    provider_minor: int | None = None
    """Staff only."""
    through_ms: int | None = None
    memo: str = ""
    """Of what was given back: finance's words, for staff only."""


class Mark(View):
    """What else happened: moves of the room, pauses of the recording, warnings that the money ends, requests."""

    at_ms: int
    what: str
    by: str | None = None
    why: str = ""
    figure: int | None = None


class MoneyNow(View):
    """The session's meter as it stands."""

    currency: str
    billed_ms: int
    granted_ms: int | None = None
    """As far as money is reserved; not for providers."""
    held_minor: int | None = None
    """What is reserved; not for providers."""
    amount_minor: int
    """What the session came to; for a provider, what they earned."""
    provider_minor: int | None = None
    """Staff only."""
    refundable_minor: int | None = None
    """What can still be given back of the session itself; staff only."""


class TimelineView(View):
    """GET /api/v1/sessions/{id}/timeline"""

    session_id: str
    from_ms: int
    to_ms: int
    """The last thing that happened; now, where the session goes on."""
    states: list[StateSpan]
    kinds: list[KindSpan]
    connections: list[ConnectionMark]
    evidence: list[EvidenceMinute]
    money: list[MoneyMark]
    marks: list[Mark]
    meter: MoneyNow | None = None
    """Null: no money was ever held."""


@dataclass(frozen=True, slots=True)
class TimelineApi:
    """The route."""

    director: Director
    store: TimelineStore
    connections: ConnectionHistory
    billing: Billing
    clock: Clock

    def endpoints(self) -> list[Endpoint]:
        """To be mounted by control."""
        return [endpoint("GET", PATH, "States, evidence and charges", self.read, result=TimelineView)]

    async def read(self, call: Call) -> TimelineView:
        """All of it at once: a session has a few rows a minute."""
        who = call.principal
        session = await self.director.find_to_read(who, call.id("id"))
        changes, notes, evidence = await self.store.read(session.tenant_id, session.id)
        money = await story.read(self.billing.database, session.tenant_id, session.id)
        connections = await self.connections.of_session(session.tenant_id, session.id)
        seat: Seat = "staff" if who.role in STAFF else "client" if who.user_id == session.client.user_id else "provider"
        return timeline(session, changes, notes, evidence, connections, money, seat, self.clock.wall_ms())


def timeline(
    session: Session,
    changes: Sequence[ChangeRow],
    notes: Sequence[NoteRow],
    evidence: Sequence[EvidenceRow],
    connections: Sequence[ConnectionChange],
    money: MoneyStory | None,
    seat: Seat,
    now_ms: int,
) -> TimelineView:
    """What is stored, as one of the three seats sees it."""
    moves = [] if money is None else [_money(move, seat) for move in money.movements if _visible(move, seat)]
    marks = [_mark(change) for change in changes if change.from_state == change.to_state]
    marks += [Mark(at_ms=note.at_ms, what=note.what, by=note.by, figure=note.figure) for note in notes]
    times = [one.at_ms for one in changes] + [one.at_ms for one in evidence] + [one.at_ms for one in connections]
    times += [one.at_ms for one in marks] + [one.at_ms for one in moves]
    return TimelineView(
        session_id=session.public_id,
        from_ms=session.requested_at_ms,
        to_ms=now_ms if not session.over else max([session.requested_at_ms, *times]),
        states=_states(changes),
        kinds=[]
        if money is None
        else [
            KindSpan(
                kind=part.rate.kind,
                minor_per_minute=part.rate.minor_per_minute,
                from_ms=part.at_ms,
                live_ms=part.from_ms,
            )
            for part in money.terms
        ],
        connections=[
            ConnectionMark(
                at_ms=one.at_ms, user_id=one.user_id, state=one.state, reason=one.reason, connect_ms=one.connect_ms
            )
            for one in connections
        ],
        evidence=_minutes(evidence, seat),
        money=moves,
        marks=sorted(marks, key=lambda mark: mark.at_ms),
        meter=None if money is None else _meter(money, seat),
    )


def _states(changes: Sequence[ChangeRow]) -> list[StateSpan]:
    spans: list[StateSpan] = []
    steps = [change for change in changes if change.from_state != change.to_state]
    for change, after in zip(steps, [*steps[1:], None], strict=True):
        spans.append(
            StateSpan(
                state=change.to_state,
                what=change.what,
                by=change.by,
                why=change.why,
                from_ms=change.at_ms,
                to_ms=None if after is None else after.at_ms,
            )
        )
    return spans


def _minutes(evidence: Sequence[EvidenceRow], seat: Seat) -> list[EvidenceMinute]:
    """``new_ms``: since the row before of the same room."""
    known: dict[int, int] = {}
    minutes = []
    for row in evidence:
        before = known.get(row.epoch, 0)
        known[row.epoch] = max(before, row.live_ms)
        minutes.append(
            EvidenceMinute(
                at_ms=row.at_ms,
                epoch=row.epoch,
                live_ms=row.live_ms,
                new_ms=max(0, row.live_ms - before),
                granted_ms=None if seat == "provider" else row.granted_live_ms,
                worker_id=row.worker_id if seat == "staff" else None,
                final=row.final,
            )
        )
    return sorted(minutes, key=lambda minute: (minute.at_ms, minute.epoch))


def _mark(change: ChangeRow) -> Mark:
    return Mark(at_ms=change.at_ms, what=change.what, by=change.by, why=change.why)


def _visible(move: Movement, seat: Seat) -> bool:
    return seat != "provider" or (move.what not in _CLIENTS_OWN and move.provider_minor != 0)


def _money(move: Movement, seat: Seat) -> MoneyMark:
    return MoneyMark(
        at_ms=move.at_ms,
        what=move.what,
        id=move.public_id,
        amount_minor=move.provider_minor if seat == "provider" else move.amount_minor,
        provider_minor=move.provider_minor if seat == "staff" else None,
        through_ms=move.through_ms,
        memo="" if move.what == "reversal" and seat != "staff" else move.memo,
    )


def _meter(money: MoneyStory, seat: Seat) -> MoneyNow:
    return MoneyNow(
        currency=money.currency,
        billed_ms=money.billed_ms,
        granted_ms=None if seat == "provider" else money.granted_ms,
        held_minor=None if seat == "provider" else money.held_minor,
        amount_minor=money.provider_minor if seat == "provider" else money.charged_minor,
        provider_minor=money.provider_minor if seat == "staff" else None,
        refundable_minor=money.charged_minor - money.returned_minor
        if seat == "staff" and money.settled_at_ms
        else None,
    )
