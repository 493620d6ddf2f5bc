"""The REST endpoints of sign-in, people, sessions and chat. Billing and the recorder have tables of their own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from billing.service import Billing
from config.clock import Clock
from config.http import ApiError, Call, Endpoint, endpoint, not_found
from config.identity import Principal, Role, Tokens
from config.ids import DEFAULT_TENANT
from config.logs import get_log
from config.settings import Settings
from signaling.chat import PAGE_MAX, Chat
from signaling.demo import accounts
from signaling.director import STAFF, Director
from signaling.doorkeeper import Doorkeeper
from signaling.limits import SignInLimits
from signaling.messages import (
    AcceptSession,
    ChatMessage,
    ChatMessages,
    ConsentText,
    DemoAccounts,
    Login,
    MeView,
    Providers,
    ProviderView,
    RateView,
    ReceiptLine,
    ReceiptView,
    RequestSession,
    SendMessage,
    Sessions,
    SessionView,
    SetAvailability,
    SignedIn,
    Workers,
    WorkerView,
)
from signaling.people import People, User
from signaling.presence import Presence
from signaling.rooms import Rooms
from signaling.store import Session, SessionStore
from signaling.views import billed_view, extra_views, me_view, person_view, rate_view, session_view

V1: Final = "/api/v1"

log = get_log("signaling.api")


@dataclass(frozen=True, slots=True)
class Api:
    """The handlers. ``endpoints`` is their table."""

    settings: Settings
    tokens: Tokens
    people: People
    presence: Presence
    director: Director
    sessions: SessionStore
    chat: Chat
    rooms: Rooms
    billing: Billing
    sign_ins: SignInLimits
    doorkeeper: Doorkeeper
    clock: Clock
    consent_text: ConsentText

    def endpoints(self) -> list[Endpoint]:
        """Every route of this module."""
        call, client, provider = f"{V1}/sessions/{{id}}", [Role.CLIENT], [Role.PROVIDER]
        people = [Role.CLIENT, Role.PROVIDER]
        view, chat = SessionView, f"{V1}/sessions/{{id}}/messages"
        return [
            endpoint("POST", f"{V1}/auth/login", "Sign in", self.login, roles=None, body=Login, result=SignedIn),
            endpoint("GET", f"{V1}/demo/accounts", "Demo accounts", self.demo, roles=None, result=DemoAccounts),
            endpoint("GET", f"{V1}/me", "The caller", self.me, result=MeView),
            endpoint(
                *("PUT", f"{V1}/me/availability", "Take calls, or not", self.set_available),
                roles=provider,
                body=SetAvailability,
                result=MeView,
            ),
            endpoint("GET", f"{V1}/providers", "Providers, their presence and rates", self.providers, result=Providers),
            endpoint("GET", f"{V1}/consent", "The text on recording", self.consent, result=ConsentText),
            endpoint(
                *("POST", f"{V1}/sessions", "Call a provider", self.request),
                roles=client,
                body=RequestSession,
                result=view,
                status=201,
            ),
            endpoint("GET", f"{V1}/sessions", "Sessions, newest first", self.list_sessions, result=Sessions),
            endpoint("GET", call, "One session", self.session, result=view),
            endpoint(
                "POST", f"{call}/accept", "Take a call", self.accept, roles=provider, body=AcceptSession, result=view
            ),
            endpoint("POST", f"{call}/decline", "Do not take a call", self.decline, roles=provider, result=view),
            endpoint("POST", f"{call}/cancel", "Stop ringing", self.cancel, roles=client, result=view),
            endpoint("POST", f"{call}/end", "Hang up", self.end, roles=people, result=view),
            endpoint("GET", chat, "Messages, oldest first", self.messages, roles=people, result=ChatMessages),
            endpoint(
                *("POST", chat, "Send a message", self.send),
                roles=people,
                body=SendMessage,
                result=ChatMessage,
                status=201,
            ),
            endpoint("GET", f"{call}/receipt", "What a session cost", self.receipt, result=ReceiptView),
            endpoint("GET", f"{V1}/workers", "Media workers", self.list_workers, roles=[Role.ADMIN], result=Workers),
        ]

    # --- sign-in and people -----------------------------------------------------------------------------------------

    async def login(self, call: Call) -> SignedIn:
        body: Login = call.body
        address, email = self.doorkeeper.address(call.request), body.email.strip()
        await self.sign_ins.admit(address, email)
        user = await self.people.sign_in(DEFAULT_TENANT, email, body.password)
        if user is None:
            log.info("sign-in refused", address=address)
            raise ApiError(401, "wrong_credentials", "The e-mail address or the password is wrong.")
        now_s = self.clock.wall_ms() // 1000
        token = self.tokens.issue(user.principal, now_s)
        expires_at_ms = (now_s + self.settings.token_ttl_s) * 1000
        return SignedIn(access_token=token, expires_at_ms=expires_at_ms, me=me_view(user))

    async def demo(self, _: Call) -> DemoAccounts:
        if not self.settings.demo:
            raise not_found("page")
        return await accounts(self.people)

    async def me(self, call: Call) -> MeView:
        return me_view(await self._user(call.principal))

    async def _user(self, who: Principal) -> User:
        user = await self.people.get(who.tenant_id, who.user_id)
        if user is None:
            raise ApiError(401, "invalid_token", "This account does not exist any more.")
        return user

    async def set_available(self, call: Call) -> MeView:
        who, body = call.principal, call.body
        await self.people.set_available(who.tenant_id, who.user_id, body.available, self.clock.wall_ms())
        await self.presence.refresh(who.tenant_id, [who.user_id])
        return me_view(await self._user(who))

    async def providers(self, call: Call) -> Providers:
        tenant = call.principal.tenant_id
        users = await self.people.providers(tenant)
        presence = await self.presence.of(tenant, users)
        rates = await self.billing.rates(tenant, [user.id for user in users])
        return Providers(
            providers=[
                ProviderView(
                    user=person_view(user),
                    presence=presence[user.id],
                    rates=[
                        RateView(kind=rate.kind, minor_per_minute=rate.minor_per_minute, currency=rate.currency)
                        for rate in rates.get(user.id, [])
                    ],
                )
                for user in users
            ]
        )

    async def consent(self, _: Call) -> ConsentText:
        return self.consent_text

    # --- sessions ------------------------------------------------------------------------------------------------

    async def request(self, call: Call) -> SessionView:
        return session_view(await self.director.request(call.principal, call.body))

    async def accept(self, call: Call) -> SessionView:
        return session_view(await self.director.accept(call.principal, call.id("id"), call.body.consent))

    async def decline(self, call: Call) -> SessionView:
        return session_view(await self.director.decline(call.principal, call.id("id")))

    async def cancel(self, call: Call) -> SessionView:
        return session_view(await self.director.cancel(call.principal, call.id("id")))

    async def end(self, call: Call) -> SessionView:
        return session_view(await self.director.end(call.principal, call.id("id")))

    async def session(self, call: Call) -> SessionView:
        return session_view(await self._readable(call))

    async def list_sessions(self, call: Call) -> Sessions:
        who, limit = call.principal, call.query_int("limit", 50, 1, 200)
        mine = None if who.role in STAFF else who.user_id
        found = await self.sessions.of_user(who.tenant_id, mine, call.query_text("cursor", 64), limit + 1)
        cursor = found[limit - 1].public_id if len(found) > limit else None
        billed = await self.billing.billed(who.tenant_id, [session.id for session in found[:limit]])
        rows = [billed_view(session, billed.get(session.id), who) for session in found[:limit]]
        return Sessions(sessions=rows, next_cursor=cursor)

    async def messages(self, call: Call) -> ChatMessages:
        session = await self.director.find(call.principal, call.id("id"))  # what people say is not for all staff
        limit = call.query_int("limit", 100, 1, PAGE_MAX)
        return await self.chat.history(session, call.query_text("after", 64), limit)

    async def send(self, call: Call) -> ChatMessage:
        session = await self.director.find(call.principal, call.id("id"))
        return await self.chat.send(call.principal, session, call.body)

    async def receipt(self, call: Call) -> ReceiptView:
        who, session = call.principal, await self._readable(call)
        receipt = await self.billing.receipt(session.tenant_id, session.id)
        if receipt is None:
            raise ApiError(409, "not_settled", "The session is not settled yet.", state=session.state.value)
        is_provider = who.user_id == session.provider.user_id
        staff_or_provider = who.role in STAFF or is_provider
        extras = extra_views(*await self.billing.extras(session.tenant_id, session.public_id), is_provider)
        return ReceiptView(
            session_id=session.public_id,
            kind=session.kind,
            client=person_view(session.client),
            provider=person_view(session.provider),
            rate=rate_view(session),
            billed_ms=receipt.billed_ms,
            charged_minor=receipt.charged_minor,
            currency=receipt.currency,
            provider_minor=receipt.provider_minor if staff_or_provider else None,
            platform_minor=receipt.platform_minor if staff_or_provider else None,
            lines=[ReceiptLine(label=line.label, amount_minor=line.amount_minor) for line in receipt.lines],
            started_at_ms=session.started_at_ms,
            ended_at_ms=session.ended_at_ms,
            balance_after_minor=receipt.balance_after_minor if who.user_id == session.client.user_id else None,
            recording_id=session.recording_public_id,
            extras=extras,
            total_minor=None if is_provider else receipt.charged_minor + sum(one.amount_minor for one in extras),
            prepaid_ms=receipt.prepaid_ms,
            promo_minor=0 if is_provider else receipt.promo_minor,
        )

    async def _readable(self, call: Call) -> Session:
        return await self.director.find_to_read(call.principal, call.id("id"))

    # --- operations ----------------------------------------------------------------------------------------------

    async def list_workers(self, _: Call) -> Workers:
        await self.rooms.refresh()
        return Workers(
            workers=[
                WorkerView(
                    worker_id=worker.worker_id,
                    host=worker.host,
                    plane=worker.plane,
                    rooms=len(worker.rooms),
                    load=worker.load,
                    draining=worker.draining,
                    uptime_s=max(0, int(time.time() - worker.started_at_ms / 1000)),
                    version=worker.version,
                )
                for worker in self.rooms.workers
            ]
        )
