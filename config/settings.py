"""Every knob of Turnpike, read once from the environment.

``TURNPIKE_*`` names apply, except the two that the field spells everywhere alike: ``DATABASE_URL`` and
``REDIS_URL``. Where those two are not set, ``turnpike serve`` starts embedded servers under ``data``.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One process's settings. Children of the supervisor get theirs through the environment."""

    model_config = SettingsConfigDict(env_prefix="TURNPIKE_", extra="ignore", populate_by_name=True)

    data: Path = Path("var")
    """Where everything that must survive a restart lies: databases, spool, objects, secrets."""
    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL")
    """PostgreSQL ≥ 16 for the application's role; None: embedded."""
    database_owner_url: str | None = Field(default=None, validation_alias="DATABASE_OWNER_URL")
    """The role that migrates; None: the same as ``database_url``."""
    redis_url: str | None = Field(default=None, validation_alias="REDIS_URL")
    """Redis ≥ 7 or Valkey ≥ 8; None: embedded."""

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8080, ge=0, le=65535)
    ops_host: str = "127.0.0.1"
    """Where worker and recorder serve /healthz, /readyz and /metrics."""
    ops_port: int = Field(default=0, ge=0, le=65535)
    """0: any free port, told in the registry."""
    media_addresses: str = "auto"
    """Comma-separated addresses, IPv4 and IPv6, that a worker binds and advertises; ``auto``: the host's own and
    loopback. Behind a one-to-one NAT: ``public=own``, e.g. ``203.0.113.5=10.0.0.5``."""
    media_port: int = Field(default=0, ge=0, le=65535)
    """A worker's port, for UDP and ICE-TCP alike; 0: any free one."""
    turn_urls: str = ""
    """Comma-separated TURN (and STUN) servers that pages are told, e.g. ``turn:turn.example:3478?transport=udp``."""
    turn_secret: SecretStr | None = None
    """What coturn knows as ``static-auth-secret``; needed with TURN servers."""
    turn_ttl_s: int = Field(default=12 * 3600, ge=300)
    """How long the TURN credentials of a page are good for: as long as the longest call."""
    plane: Literal["auto", "python", "native"] = "auto"
    """Which media plane a worker runs on; ``auto``: the native one where it was built."""
    workers: int = Field(default=1, ge=1, le=64)
    """How many worker processes the supervisor runs."""
    worker_cores: str = Field(default="", pattern=r"^(\d+(,\d+)*)?$")
    """Comma-separated numbers of the processors that workers run on, and nothing else of ours; empty: any, with all."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"

    demo: bool = False
    """Make demo accounts, whose passwords everybody knows, and the test payment processor. ``make run`` sets it."""
    trusted_proxies: str = ""
    """Comma-separated addresses of reverse proxies whose X-Forwarded-For tells the client's address."""
    token_ttl_s: int = Field(default=12 * 3600, ge=60)
    ring_timeout_ms: int = Field(default=30_000, ge=1_000)
    connect_timeout_ms: int = Field(default=30_000, ge=1_000)
    """How long after accept both sides have to get media flowing."""
    return_timeout_ms: int = Field(default=60_000, ge=1_000)
    """How long a room waits for a side that is gone, before the session ends as dropped."""
    grant_ms: int = Field(default=90_000, ge=15_000)
    """Billable time that a hold covers ahead."""
    minimum_start_ms: int = Field(default=60_000, ge=0)
    """A session starts only when the wallet pays for at least this much of it."""
    tick_ms: int = Field(default=5_000, ge=100)
    """How often the meter takes in evidence and shows the cost."""
    post_every_ms: int = Field(default=60_000, ge=1_000)
    """At most this much billable time is accrued before it is posted to the ledger."""
    objects: str | None = None
    """Where recordings are kept: ``s3://bucket/prefix``; None: below ``data``. Credentials come as boto3 finds them."""
    objects_endpoint: str | None = None
    """URL of an S3 service other than Amazon's."""
    objects_region: str | None = None
    object_lock: Literal["none", "governance", "compliance"] = "none"
    """Lock each stored object until its retention is over; the bucket must have Object Lock enabled."""
    keys: str | None = None
    """Where the wrapped keys of recordings are kept, like ``objects``: a bucket of its own without versions."""
    spool_free_min_bytes: int = Field(default=2 * 1024**3, ge=0)
    """With less free disk than this under the spool, no new recording is begun. What is spooled is never dropped."""
    unrecordable: Literal["refuse", "unrecorded"] = "unrecorded"
    """What becomes of a call that both agreed to have recorded, when it cannot be: it is refused, or takes place."""
    segment_ms: int = Field(default=6_000, ge=1_000)
    """Aimed length of one recorded segment object."""
    jobs: int = Field(default=1, ge=0, le=64)
    """How many exports, compositions and previews a recorder makes at once, each in a process of lowest priority."""
    body_max_bytes: int = Field(default=256 * 1024, ge=1024)
    """Largest HTTP body and Socket.IO message taken from a client."""

    @property
    def cores_of_workers(self) -> tuple[int, ...]:
        """``worker_cores`` as numbers."""
        return tuple(int(core) for core in filter(None, self.worker_cores.split(",")))

    @property
    def secrets_dir(self) -> Path:
        return self.data / "secrets"

    @property
    def spool_dir(self) -> Path:
        return self.data / "spool"

    @property
    def objects_dir(self) -> Path:
        return self.data / "objects"

    @property
    def journal_dir(self) -> Path:
        return self.data / "journal"

    def secret(self, name: str, bytes_: int = 32) -> bytes:
        """The named secret of this installation, made at first use (mode 0600, never in a log)."""
        path = self.secrets_dir / name
        self.secrets_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            value = path.read_bytes()
        except FileNotFoundError:
            fresh = path.with_name(f".{name}.{secrets.token_hex(4)}")
            fresh.touch(mode=0o600)
            fresh.write_bytes(secrets.token_bytes(bytes_))
            try:
                path.hardlink_to(fresh)  # atomic: of several processes one wins, all read the winner's
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
            value = path.read_bytes()
        if len(value) < bytes_:
            raise ValueError(f"secret {name} is shorter than {bytes_} bytes")
        return value
