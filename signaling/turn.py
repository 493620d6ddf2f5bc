"""TURN servers for pages whose networks let nothing else through, with credentials limited in time.

The credentials are those that coturn checks with ``use-auth-secret`` (draft-uberti-behave-turn-rest-00): a user name
that says until when it is good, and its HMAC-SHA1 under a secret that both know. Nothing is stored, nothing is asked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

from config.clock import Clock
from config.http import Call, Endpoint, endpoint
from config.ids import PublicId
from config.settings import Settings
from signaling.client_messages import IceServer, IceServers

TURN_SCHEMES: Final = ("turn:", "turns:")
STUN_SCHEMES: Final = ("stun:", "stuns:")
URLS_MAX: Final = 8


class TurnServers:
    """What ``ice_servers`` of joins and of ``GET /api/v1/ice-servers`` say."""

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError where the settings do not go together."""
        urls = [url.strip() for url in settings.turn_urls.split(",") if url.strip()]
        self._turn = [url for url in urls if url.startswith(TURN_SCHEMES)]
        self._stun = [url for url in urls if url.startswith(STUN_SCHEMES)]
        self._secret = b"" if settings.turn_secret is None else settings.turn_secret.get_secret_value().encode()
        self.ttl_s = settings.turn_ttl_s
        if len(self._turn) + len(self._stun) != len(urls):
            raise ValueError("turn_urls: each must begin with turn:, turns:, stun: or stuns:")
        if len(urls) > URLS_MAX:
            raise ValueError(f"turn_urls: at most {URLS_MAX}, browsers slow down with more")
        if self._turn and not self._secret:
            raise ValueError("turn_urls need turn_secret, the static-auth-secret of the TURN server")

    def for_user(self, public_id: PublicId, now_ms: int) -> list[IceServer]:
        """The servers for one user's page, good for ``ttl_s`` from now."""
        servers = [IceServer(urls=self._stun)] if self._stun else []
        if self._turn:
            username = f"{now_ms // 1000 + self.ttl_s}:{public_id}"
            digest = hmac.new(self._secret, username.encode(), hashlib.sha1).digest()
            credential = base64.b64encode(digest).decode()
            servers.append(IceServer(urls=self._turn, username=username, credential=credential))
        return servers


class TurnApi:
    """``GET /api/v1/ice-servers``: asked before a page makes its first connection."""

    def __init__(self, turn: TurnServers, clock: Clock) -> None:
        self._turn = turn
        self._clock = clock

    def endpoints(self) -> list[Endpoint]:
        """The one route."""
        return [endpoint("GET", "/api/v1/ice-servers", "STUN and TURN servers", self.servers, result=IceServers)]

    async def servers(self, call: Call) -> IceServers:
        """The servers for the caller's page."""
        servers = self._turn.for_user(call.principal.public_id, self._clock.wall_ms())
        return IceServers(ice_servers=servers, ttl_s=self._turn.ttl_s)
