"""Text in a session: stored before it is acknowledged, once however often it is sent, delivered to both."""

from __future__ import annotations

from typing import Any, Final

from config.clock import Clock
from config.database import Database
from config.http import ApiError
from config.identity import Principal
from config.ids import new_public_id
from signaling.events import Events
from signaling.lifecycle import State
from signaling.messages import ChatMessage, ChatMessages, SendMessage
from signaling.store import Session

PAGE_MAX: Final = 200
AFTER_THE_END_MS: Final = 15 * 60_000
"""So long after the end of a session its participants may still write (a thank-you, a link)."""

_SELECT: Final = (
    "select m.public_id, m.client_message_id, m.body, m.sent_at_ms, u.public_id as sender from chat_message m"
    " join app_user u on u.tenant_id = m.tenant_id and u.id = m.sender_id where m.tenant_id = $1 and m.session_id = $2"
)

_PAGE: Final = (
    " and m.id > coalesce((select id from chat_message where tenant_id = $1 and session_id = $2 and public_id = $3), 0)"
    " order by m.id limit $4"
)


class Chat:
    """The messages of sessions. Who may read and write is checked by the caller, but for the session's state."""

    def __init__(self, database: Database, events: Events, clock: Clock) -> None:
        self._database = database
        self._events = events
        self._clock = clock

    async def send(self, who: Principal, session: Session, message: SendMessage) -> ChatMessage:
        """Store, then deliver. The same ``client_message_id`` with the same text gives the message stored before.

        Raises 409 when the session was never answered or is long over, when a chat is paused, or the id was used for
        another text.
        """
        now = self._clock.wall_ms()
        if session.kind == "chat" and session.state is not State.ACTIVE and session.accepted_at_ms is not None:
            # What is paid for are the messages: none is delivered while the clock stands still, or after it.
            raise ApiError(409, "chat_paused", "Messages are delivered while both of you are here.")
        if session.accepted_at_ms is None or (session.ended_at_ms or now) + AFTER_THE_END_MS < now:
            raise ApiError(409, "chat_closed", "Messages can be sent during a session and shortly after it.")
        async with self._database.transaction(who.tenant_id) as sql:
            # One message of a session at a time, so that keys rise in the order in which messages become visible.
            await sql.execute(
                "select from session where tenant_id = $1 and id = $2 for no key update", who.tenant_id, session.id
            )
            new = await sql.fetchval(
                "insert into chat_message (tenant_id, public_id, session_id, sender_id, client_message_id, body,"
                " sent_at_ms) values ($1, $2, $3, $4, $5, $6, $7)"
                " on conflict (tenant_id, session_id, sender_id, client_message_id) do nothing returning id",
                *(who.tenant_id, new_public_id("msg"), session.id, who.user_id),
                *(message.client_message_id, message.text, now),
            )
            row = await sql.fetchrow(
                _SELECT + " and m.sender_id = $3 and m.client_message_id = $4",
                *(who.tenant_id, session.id, who.user_id, message.client_message_id),
            )
        stored = _message(session, row)
        if stored.text != message.text:
            raise ApiError(409, "message_id_used", "Another message was sent under this id.")
        if new is not None:
            for person in session.people:
                await self._events.tell(session.tenant_id, person.user_id, "chat.message", stored)
        return stored

    async def history(self, session: Session, after: str | None, limit: int) -> ChatMessages:
        """Messages oldest first, those after the one called ``after``."""
        async with self._database.transaction(session.tenant_id) as sql:
            rows = await sql.fetch(
                _SELECT + _PAGE,
                *(session.tenant_id, session.id, after, limit + 1),
            )
        return ChatMessages(messages=[_message(session, row) for row in rows[:limit]], more=len(rows) > limit)


def _message(session: Session, row: Any) -> ChatMessage:
    return ChatMessage(
        id=row["public_id"],
        session_id=session.public_id,
        sender_id=row["sender"],
        client_message_id=row["client_message_id"],
        text=row["body"],
        sent_at_ms=row["sent_at_ms"],
    )
