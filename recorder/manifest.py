"""The manifest: what a part holds, in an order that shows when something was changed, left out or added.

Each stored segment is an entry; ``chain = sha256(chain before || sha256(entry))``, from a start that names recording
and epoch. Manifests are numbered objects, each with the entries since the one before and that one's hash; the last one,
``manifest.json``, holds all. Wall times are Unix milliseconds; times of segments count from their stream's start.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, Final

from recorder import segments
from relay.spool import PartHeader

FORMAT: Final = "turnpike-recording-manifest"
FORMAT_VERSION: Final = 1
FINAL_NAME: Final = "manifest.json"
ENTRIES_PER_MANIFEST: Final = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One stored segment."""

    epoch: int
    stream: int
    segment: int
    object_key: str
    object_bytes: int
    object_sha256: bytes
    plain_bytes: int
    plain_sha256: bytes
    start_ms: int
    end_ms: int

    def as_json(self) -> dict[str, Any]:
        """The entry as the manifest shows it; what its hash is taken of."""
        fields = dataclasses.asdict(self)
        return {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}

    def digest(self) -> bytes:
        """The entry's hash."""
        return hashlib.sha256(canonical(self.as_json())).digest()


def canonical(value: Any) -> bytes:
    """JSON with sorted names and no spaces: the same bytes for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def chain_start(recording: str, epoch: int) -> bytes:
    """What a part's chain begins with."""
    return hashlib.sha256(f"{FORMAT} {FORMAT_VERSION} {recording} {epoch}".encode()).digest()


def chain_next(chain: bytes, entry: bytes) -> bytes:
    """The chain with one more entry's hash."""
    return hashlib.sha256(chain + entry).digest()


def number_key(header: PartHeader, number: int) -> str:
    """Object key of the part's ``number``-th manifest."""
    prefix = segments.part_prefix(header.tenant_id, header.recording_public_id, header.epoch)
    return f"{prefix}manifest-{number:05d}.json"


def final_key(header: PartHeader) -> str:
    """Object key of the part's last manifest."""
    return segments.part_prefix(header.tenant_id, header.recording_public_id, header.epoch) + FINAL_NAME


def part_manifest(
    header: PartHeader,
    *,
    number: int,
    final: bool,
    chain_before: bytes,
    entries: list[Entry],
    streams: list[dict[str, Any]],
    media: dict[str, Any],
    previous_sha256: bytes | None,
) -> bytes:
    """A manifest's bytes. ``media``: tracks with clocks, gaps and mutes, and problems; ``streams``: the files."""
    chain, chained = chain_before, []
    for entry in entries:
        digest = entry.digest()
        chain = chain_next(chain, digest)
        chained.append({**entry.as_json(), "entry_sha256": digest.hex(), "chain": chain.hex()})
    return canonical(
        {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "number": number,
            "final": final,
            "previous_sha256": previous_sha256.hex() if previous_sha256 else None,
            "recording": header.recording_public_id,
            "session": header.session_public_id,
            "epoch": header.epoch,
            "worker": header.worker_id,
            "encryption": {
                "key_id": header.key_id,
                "objects": f"TPSG {segments.FORMAT_VERSION}: AES-256-GCM, key by HKDF-SHA256 with a synthetic IV",
            },
            "clock": {"wall_ms": header.started_wall_ms, "monotonic_ns": header.started_monotonic_ns},
            "participants": [{"id": each.public_id, "role": each.role} for each in header.participants],
            "streams": streams,
            **media,
            "chain": {"before": chain_before.hex(), "head": chain.hex(), "entries": chained},
        }
    )
