"""The life of a session: one table of transitions, one function that reads it.

``requested → ringing → accepted → connecting → active ⇄ interrupted → ended``, and the ways out before that. Pure: the
time is passed in, the result is data. Whoever stores the result does so in one transaction with the row locked, so that
of two people who press a button at the same moment one wins and the other learns what happened.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class State(enum.StrEnum):
    """Where a session stands. The last six are for good."""

    REQUESTED = "requested"
    RINGING = "ringing"
    ACCEPTED = "accepted"
    CONNECTING = "connecting"
    ACTIVE = "active"
    INTERRUPTED = "interrupted"
    ENDED = "ended"
    DECLINED = "declined"
    MISSED = "missed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FAILED = "failed"


OVER: Final = frozenset({State.ENDED, State.DECLINED, State.MISSED, State.CANCELLED, State.EXPIRED, State.FAILED})
LIVE: Final = frozenset(State) - OVER
IN_CALL: Final = frozenset({State.CONNECTING, State.ACTIVE, State.INTERRUPTED})
"""A room is open: people may join it."""


class Trigger(enum.StrEnum):
    """What may happen to a session."""

    RING = "ring"
    ACCEPT = "accept"
    DECLINE = "decline"
    CANCEL = "cancel"
    CLIENT_END = "client_end"
    PROVIDER_END = "provider_end"
    ROOM_OPENED = "room_opened"
    MEDIA_FLOWS = "media_flows"
    MEDIA_HALTS = "media_halts"
    MONEY_USED_UP = "money_used_up"
    NO_FUNDS = "no_funds"
    DEADLINE = "deadline"
    ROOM_LOST = "room_lost"
    SERVER_FAILED = "server_failed"


class Verdict(enum.Enum):
    """What became of a trigger."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    """It had happened already, or means nothing any more: a repeated click, an event that came twice."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session may stay in a state that waits for somebody."""

    ring_timeout_ms: int
    connect_timeout_ms: int
    return_timeout_ms: int

    def of(self, state: State) -> int | None:
        """The time that ``state`` may last; None: as long as people like."""
        return {
            State.REQUESTED: self.ring_timeout_ms,
            State.RINGING: self.ring_timeout_ms,
            State.ACCEPTED: self.connect_timeout_ms,
            State.CONNECTING: self.connect_timeout_ms,
            State.INTERRUPTED: self.return_timeout_ms,
        }.get(state)


@dataclass(frozen=True, slots=True)
class Step:
    """The result of ``step``: where the session goes, why it ended, and until when it may stay there."""

    verdict: Verdict
    state: State
    end_reason: str | None = None
    deadline_at_ms: int | None = None


_S, _T = State, Trigger
_TRANSITIONS: Final[dict[tuple[State, Trigger], tuple[State, str | None]]] = {
    (_S.REQUESTED, _T.RING): (_S.RINGING, None),
    (_S.REQUESTED, _T.CANCEL): (_S.CANCELLED, "client_cancelled"),
    (_S.REQUESTED, _T.CLIENT_END): (_S.CANCELLED, "client_cancelled"),
    (_S.REQUESTED, _T.SERVER_FAILED): (_S.FAILED, "server_error"),
    (_S.REQUESTED, _T.DEADLINE): (_S.EXPIRED, "server_error"),
    (_S.RINGING, _T.ACCEPT): (_S.ACCEPTED, None),
    (_S.RINGING, _T.DECLINE): (_S.DECLINED, "provider_declined"),
    (_S.RINGING, _T.PROVIDER_END): (_S.DECLINED, "provider_declined"),
    (_S.RINGING, _T.CANCEL): (_S.CANCELLED, "client_cancelled"),
    (_S.RINGING, _T.CLIENT_END): (_S.CANCELLED, "client_cancelled"),
    (_S.RINGING, _T.DEADLINE): (_S.MISSED, "no_answer"),
    (_S.ACCEPTED, _T.ROOM_OPENED): (_S.CONNECTING, None),
    (_S.ACCEPTED, _T.NO_FUNDS): (_S.FAILED, "balance_exhausted"),
    (_S.ACCEPTED, _T.SERVER_FAILED): (_S.FAILED, "server_error"),
    (_S.ACCEPTED, _T.DEADLINE): (_S.FAILED, "never_connected"),
    (_S.ACCEPTED, _T.CLIENT_END): (_S.ENDED, "client_left"),
    (_S.ACCEPTED, _T.CANCEL): (_S.ENDED, "client_left"),  # a cancel that crossed the accept still ends the session
    (_S.ACCEPTED, _T.PROVIDER_END): (_S.ENDED, "provider_left"),
    (_S.CONNECTING, _T.MEDIA_FLOWS): (_S.ACTIVE, None),
    (_S.CONNECTING, _T.DEADLINE): (_S.FAILED, "never_connected"),
    (_S.CONNECTING, _T.SERVER_FAILED): (_S.FAILED, "server_error"),
    (_S.CONNECTING, _T.MONEY_USED_UP): (_S.ENDED, "balance_exhausted"),
    (_S.CONNECTING, _T.CLIENT_END): (_S.ENDED, "client_left"),
    (_S.CONNECTING, _T.CANCEL): (_S.ENDED, "client_left"),
    (_S.CONNECTING, _T.PROVIDER_END): (_S.ENDED, "provider_left"),
    (_S.ACTIVE, _T.MEDIA_HALTS): (_S.INTERRUPTED, None),
    (_S.ACTIVE, _T.MONEY_USED_UP): (_S.ENDED, "balance_exhausted"),
    (_S.ACTIVE, _T.ROOM_LOST): (_S.INTERRUPTED, None),
    (_S.ACTIVE, _T.CLIENT_END): (_S.ENDED, "client_left"),
    (_S.ACTIVE, _T.PROVIDER_END): (_S.ENDED, "provider_left"),
    (_S.INTERRUPTED, _T.MEDIA_FLOWS): (_S.ACTIVE, None),
    (_S.INTERRUPTED, _T.MONEY_USED_UP): (_S.ENDED, "balance_exhausted"),
    (_S.INTERRUPTED, _T.DEADLINE): (_S.ENDED, "dropped"),
    (_S.INTERRUPTED, _T.CLIENT_END): (_S.ENDED, "client_left"),
    (_S.INTERRUPTED, _T.PROVIDER_END): (_S.ENDED, "provider_left"),
}
"""Every transition there is: (state, trigger) → (new state, end reason)."""

_DONE_BY: Final[dict[Trigger, frozenset[State]]] = {
    _T.RING: LIVE - {_S.REQUESTED},
    _T.ACCEPT: frozenset({_S.ACCEPTED}) | IN_CALL,
    _T.DECLINE: frozenset({_S.DECLINED}),
    _T.CANCEL: OVER,
    _T.CLIENT_END: OVER,
    _T.PROVIDER_END: OVER,
    _T.ROOM_OPENED: IN_CALL,
    _T.MEDIA_FLOWS: OVER | {_S.ACTIVE},
    _T.MEDIA_HALTS: OVER | {_S.CONNECTING, _S.INTERRUPTED},
    _T.MONEY_USED_UP: OVER,
    _T.NO_FUNDS: OVER,
    _T.DEADLINE: frozenset(State),
    _T.ROOM_LOST: OVER | {_S.CONNECTING, _S.INTERRUPTED},  # the deadline that runs already bounds the wait for another
    _T.SERVER_FAILED: OVER,
}
"""States in which a trigger has nothing left to do. Anything neither here nor in the transitions is refused."""


def step(state: State, deadline_at_ms: int | None, trigger: Trigger, now_ms: int, limits: Limits) -> Step:
    """What ``trigger`` does to a session in ``state``. ``DEADLINE`` counts only once the deadline has passed.

    The deadline for connecting runs from the acceptance: opening the room does not start it anew.
    """
    if trigger is Trigger.DEADLINE and (deadline_at_ms is None or now_ms < deadline_at_ms):
        return Step(Verdict.UNCHANGED, state, None, deadline_at_ms)
    found = _TRANSITIONS.get((state, trigger))
    if found is not None:
        new, reason = found
        lasts_ms = limits.of(new)
        deadline = None if lasts_ms is None else now_ms + lasts_ms
        if trigger is Trigger.ROOM_OPENED:
            deadline = deadline_at_ms
        return Step(Verdict.CHANGED, new, reason, deadline)
    verdict = Verdict.UNCHANGED if state in _DONE_BY[trigger] else Verdict.REFUSED
    return Step(verdict, state, None, deadline_at_ms)
