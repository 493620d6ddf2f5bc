"""What is stored, as clients see it: pure functions from rows to the views of ``messages``."""

from __future__ import annotations

from billing.charges import Charge, Reversal
from billing.terms import Billed
from config.identity import Principal
from relay.messages import MediaEvidence, ParticipantEvidence
from signaling.messages import (
    KindAsked,
    MeView,
    RateView,
    ReceiptExtra,
    SessionView,
    UserView,
)
from signaling.people import User
from signaling.server_events import QualityEvent, QualitySide
from signaling.store import Person, Session


def person_view(person: Person | User) -> UserView:
    """A user, as others see them."""
    return UserView.model_validate(
        {
            "id": person.public_id,
            "name": person.name,
            "role": str(person.role),
            "headline": person.headline,
            "avatar_hue": person.avatar_hue,
        }
    )


def me_view(user: User) -> MeView:
    """The caller."""
    available = user.available if user.role == "provider" else None
    return MeView(user=person_view(user), email=user.email, currency=user.currency, available=available)


def rate_view(session: Session) -> RateView:
    """The rate that was shown at request."""
    return RateView(kind=session.kind, minor_per_minute=session.minor_per_minute, currency=session.currency)


def asked_view(session: Session) -> KindAsked | None:
    """What one side has asked to change to."""
    if session.asked_kind is None or session.over:
        return None
    by = next(person for person in session.people if person.user_id == session.asked_by)
    rate = RateView(
        kind=session.asked_kind, minor_per_minute=session.asked_minor_per_minute or 0, currency=session.currency
    )
    return KindAsked(
        kind=session.asked_kind,
        rate=rate,
        step_ms=session.asked_step_ms or 1,
        by=by.public_id,
        until_ms=session.asked_until_ms or 0,
    )


def session_view(session: Session) -> SessionView:
    """A session, as its participants see it."""
    return SessionView.model_validate(
        {
            "id": session.public_id,
            "kind": session.kind,
            "state": session.state.value,
            "end_reason": session.end_reason,
            "client": person_view(session.client),
            "provider": person_view(session.provider),
            "rate": rate_view(session),
            "recording": session.recording,
            "recording_id": session.recording_public_id,
            "recording_paused_until_ms": session.recording_paused_until_ms if session.recording == "paused" else None,
            "room_epoch": session.room_epoch,
            "requested_at_ms": session.requested_at_ms,
            "ring_until_ms": session.deadline_at_ms if session.state == "ringing" else None,
            "accepted_at_ms": session.accepted_at_ms,
            "started_at_ms": session.started_at_ms,
            "ended_at_ms": session.ended_at_ms,
            "settled": session.settled_at_ms is not None,
            "asked": asked_view(session),
            "revision": session.revision,
        }
    )


def billed_view(session: Session, billed: Billed | None, who: Principal) -> SessionView:
    """A session as one line of a list, with what it came to so far."""
    view = session_view(session)
    if billed is None:
        return view
    earns = who.user_id == session.provider.user_id
    amount_minor = billed.provider_minor if earns else billed.charged_minor
    return view.model_copy(update={"billed_ms": billed.billed_ms, "amount_minor": amount_minor})


def extra_views(charges: list[Charge], reversals: list[Reversal], for_provider: bool) -> list[ReceiptExtra]:
    """What else was paid in a session, and what was given back; a provider sees the provider's part."""
    paid = [
        ReceiptExtra(
            id=one.public_id,
            kind=one.kind,
            label=one.memo or one.kind.replace("_", " ").capitalize(),
            amount_minor=one.provider_minor if for_provider else one.amount_minor,
            at_ms=one.at_ms,
        )
        for one in charges
    ]
    returned = [
        ReceiptExtra(
            id=one.public_id,
            kind="reversal",
            label="Given back",
            amount_minor=-(one.provider_minor if for_provider else one.amount_minor),
            at_ms=one.at_ms,
        )
        for one in reversals
    ]
    return sorted(paid + returned, key=lambda one: one.at_ms)


def quality_view(session: Session, evidence: MediaEvidence) -> QualityEvent:
    """Both sides' connections in one piece of evidence."""
    names: dict[int, str] = {person.user_id: person.public_id for person in session.people}
    sides = [_side(names[side.user_id], side) for side in evidence.participants if side.user_id in names]
    return QualityEvent(session_id=session.public_id, sides=sides)


def _side(public_id: str, side: ParticipantEvidence) -> QualitySide:
    return QualitySide(
        user_id=public_id,
        connected=side.connected,
        score=side.score,
        rtt_ms=side.rtt_ms,
        loss_up=side.loss_up,
        loss_down=side.loss_down,
        jitter_ms=side.jitter_ms,
        bitrate_up_bps=side.bitrate_up_bps,
        bitrate_down_bps=side.bitrate_down_bps,
        cause=side.cause,
        videos_paused=side.videos_paused,
    )
