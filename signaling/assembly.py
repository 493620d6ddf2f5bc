"""The composition root: which parts there are, and which part needs which. Nothing is opened or started here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from billing import api as billing_api
from billing.leases import Leases
from billing.meter import Meter
from billing.nightly import Nightly
from billing.service import Billing
from config.clock import Clock
from config.database import Database
from config.http import Endpoint
from config.identity import Tokens
from config.settings import Settings
from recorder.catalogue import Recordings
from relay.bus import ControlBus, MediaLog
from signaling import attested
from signaling.announcer import Announcer
from signaling.api import Api
from signaling.chat import Chat
from signaling.closing import Closer
from signaling.connection_history import ConnectionHistory
from signaling.director import Director
from signaling.doorkeeper import Doorkeeper
from signaling.events import Events
from signaling.following import Follower
from signaling.kinds import KindApi, KindChanges
from signaling.last_words import LastWords
from signaling.lifecycle import Limits
from signaling.limits import SignInLimits
from signaling.messages import ConsentText
from signaling.moving import Mover
from signaling.people import People
from signaling.presence import Presence
from signaling.quality import QualityApi, QualityKeeper
from signaling.quality_probe import Probes
from signaling.quality_store import QualityStore
from signaling.rooms import Rooms
from signaling.shards import ShardRunner
from signaling.sockets import Sockets, make_server
from signaling.store import SessionStore
from signaling.timeline import TimelineApi
from signaling.timeline_store import TimelineStore
from signaling.turn import TurnApi, TurnServers
from signaling.unagreed import Unagreed

TOKEN_SECRET = "token-key"  # noqa: S105 - the name of a secret, not one


@dataclass(frozen=True, slots=True)
class Servers:
    """What a control process is connected to."""

    database: Database
    meter_database: Database
    """Connections of the meter's own, so that neither waits for the other."""
    redis: Redis
    redis_url: str
    bus: ControlBus


@dataclass(frozen=True, slots=True)
class Control:
    """All parts of one control process."""

    tokens: Tokens
    sio: Any
    people: People
    sessions: SessionStore
    events: Events
    presence: Presence
    rooms: Rooms
    billing: Billing
    meter: Meter
    leases: Leases
    recordings: Recordings
    closer: Closer
    director: Director
    kinds: KindChanges
    mover: Mover
    follower: Follower
    quality: QualityKeeper
    connections: ConnectionHistory
    shards: ShardRunner
    chat: Chat
    sockets: Sockets
    doorkeeper: Doorkeeper
    endpoints: list[Endpoint]


def assemble(
    settings: Settings,
    clock: Clock,
    servers: Servers,
    recordings: Recordings,
    consent_text: ConsentText,
    recorder_endpoints: Iterable[Endpoint],
    *,
    billing: Billing | None = None,
) -> Control:
    """Put the parts together."""
    tokens = Tokens(settings.secret(TOKEN_SECRET), settings.token_ttl_s)
    sio = make_server(servers.redis, servers.redis_url, settings.body_max_bytes)
    limits = Limits(settings.ring_timeout_ms, settings.connect_timeout_ms, settings.return_timeout_ms)
    billing = billing or Billing(servers.database, clock, settings)
    on_meter = (servers.meter_database, clock)
    meter, leases, nightly = Meter(*on_meter, settings), Leases(*on_meter, servers.bus.control_id), Nightly(*on_meter)
    people, sessions = People(servers.database), SessionStore(servers.database, limits)
    events, notes = Events(servers.redis, sio, clock), TimelineStore(servers.database)
    presence = Presence(servers.redis, people, sessions, events, clock)
    turn, chat, kept = TurnServers(settings), Chat(servers.database, events, clock), QualityStore(servers.database)
    rooms, announcer = Rooms(servers.bus, servers.redis, turn, clock), Announcer(events, presence, billing, clock)
    closer = Closer(sessions, rooms, billing, recordings, announcer, clock)
    means = (sessions, people, presence, rooms, billing, recordings, announcer, closer, clock)
    director = Director(*means, consent_text.version, settings.unrecordable == "refuse")
    last_words, unagreed = LastWords(rooms, meter), Unagreed(sessions, rooms, recordings, announcer, clock)
    mover = Mover(sessions, rooms, billing, meter, recordings, announcer, last_words, clock)
    quality, connections = QualityKeeper(kept, clock, recordings.note_quality), ConnectionHistory(servers.database)
    parts = (sessions, rooms, billing, meter, announcer, closer, mover, quality, connections, notes, last_words, clock)
    follower = Follower(*parts)
    shards = ShardRunner(leases, MediaLog(servers.redis), meter, follower, nightly, unagreed, clock, settings.tick_ms)
    doorkeeper, probes = Doorkeeper(people, clock, settings.trusted_proxies), Probes(servers.bus, servers.redis, rooms)
    kinds = KindChanges(director, sessions, rooms, billing, announcer, clock)
    sockets = Sockets(sio, tokens, director, kinds, chat, presence, events, probes, doorkeeper, clock)
    at_the_door = (SignInLimits(servers.redis), doorkeeper, clock, consent_text)
    api = Api(settings, tokens, people, presence, director, sessions, chat, rooms, billing, *at_the_door)
    return Control(
        tokens=tokens,
        sio=sio,
        people=people,
        sessions=sessions,
        events=events,
        presence=presence,
        rooms=rooms,
        billing=billing,
        meter=meter,
        leases=leases,
        recordings=recordings,
        closer=closer,
        director=director,
        kinds=kinds,
        mover=mover,
        follower=follower,
        quality=quality,
        connections=connections,
        shards=shards,
        chat=chat,
        sockets=sockets,
        doorkeeper=doorkeeper,
        endpoints=[
            *api.endpoints(),
            *TurnApi(turn, clock).endpoints(),
            *QualityApi(director, kept).endpoints(),
            *KindApi(kinds, director, billing).endpoints(),
            *TimelineApi(director, notes, connections, billing, clock).endpoints(),
            *billing_api.endpoints(billing, announcer.wallet, announcer.charged),
            *attested.endpoints(settings, servers.database, director, sessions, rooms, recordings, announcer, clock),
            *recorder_endpoints,
        ],
    )
