"""Bundles and folders that strangers hand to ``turnpike verify``: signed, but with a key of their own.

The documents in an input are signed where they can be, so that what is read after the signature is read too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Coroutine
from typing import Any

from config.keys import SigningKey
from recorder.check import Findings, check_recording
from recorder.check_audit import check_anchors
from recorder.check_bundle import check_bundle
from recorder.files import Digest
from recorder.manifest import FORMAT, FORMAT_VERSION, canonical
from recorder.signed import ANCHOR_FORMAT, BUNDLE_FORMAT, ROOT_FORMAT, envelope
from tests.fuzz.kit import Run, Target, expect, framed, unframed

KEY = SigningKey(b"k" * 32)
NAMES = ("bundle.json", "root-000.json", "parts/1/manifest.json", "audit.json", "1/manifest.json", "media/a.webm")
PURPOSES = {"bundle.json": BUNDLE_FORMAT, "root-000.json": ROOT_FORMAT}


class Given:
    """Files in memory."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    async def names(self) -> list[str]:
        return sorted(self._files)

    async def read(self, name: str) -> bytes | None:
        return self._files.get(name)

    async def digest(self, name: str) -> Digest | None:
        data = self._files.get(name)
        return None if data is None else Digest(len(data), hashlib.sha256(data).digest())


def signed(data: bytes, purpose: str) -> bytes:
    """What a stranger would sign."""
    try:
        statement = json.loads(data)
        return envelope(KEY, purpose, statement) if isinstance(statement, dict) else data
    except (ValueError, RecursionError):
        return data


def done(checking: Coroutine[Any, Any, object]) -> None:
    """Run what never waits, because ``Given`` does not."""
    try:
        checking.send(None)
    except StopIteration:
        return
    expect(False, "a check waits for something")


def make() -> Run:
    def run(data: bytes) -> None:
        given = dict(zip(NAMES, unframed(data, len(NAMES)), strict=False))
        manifest = hashlib.sha256(given.get("parts/1/manifest.json", b"")).hexdigest().encode()
        files = {
            name: signed(document.replace(b"@manifest", manifest), PURPOSES[name]) if name in PURPOSES else document
            for name, document in given.items()
        }
        found = Findings()
        anchor = Given({"anchor": signed(next(iter(given.values()), b""), ANCHOR_FORMAT)})
        done(check_bundle(Given(files), None, found))
        done(check_recording(Given(files), "", sorted(files), None, found))
        done(check_anchors(anchor, ["anchor"], None, found))
        expect(all(isinstance(problem, str) for problem in found.problems), "a problem that is no text")

    return run


def seeds() -> list[bytes]:
    digest = hashlib.sha256(b"").hexdigest()
    chain: dict[str, Any] = {"before": digest, "head": digest, "entries": []}
    entry = {"epoch": 1, "stream": 0, "segment": 0, "object_key": "k", "object_bytes": 1, "object_sha256": digest}
    entry |= {
        "plain_bytes": 1,
        "plain_sha256": digest,
        "start_ms": 0,
        "end_ms": 1,
        "entry_sha256": digest,
        "chain": digest,
    }
    stream = {"n": 0, "source": "camera", "superseded": False, "derivative": {"file_sha256": digest}}
    manifest = {"format": FORMAT, "version": FORMAT_VERSION, "number": 0, "final": True, "previous_sha256": None}
    manifest |= {"recording": "rec_1", "epoch": 1, "streams": [stream], "chain": {**chain, "entries": [entry]}}
    part = {"epoch": 1, "manifest_key": "t/1/rec_1/1/manifest.json", "manifest_sha256": "@manifest", "state": "ready"}
    part |= {"failure": None, "head": digest, "chain": digest, "entries": 1}
    root = {"tenant": 1, "recording": "rec_1", "number": 0, "previous_sha256": None, "parts": [part], "story": None}
    root |= {"audit": {"n": 1, "hash": digest}, "products": []}
    bundle = {"recording": "rec_1", "files": [{"name": "audit.json", "bytes": 1, "sha256": digest}], "participants": []}
    row = {"n": 1, "text": "x", "text_sha256": digest, "hash": digest}
    audit = {"before": digest, "first": 1, "rows": [row]}
    documents = [canonical(each) for each in (bundle, root, manifest, audit, manifest)]
    return [framed([*documents, b"media"]), framed([canonical({"n": 1, "hash": digest}), *documents[1:]])]


WORDS = (
    *(b"Infinity", b"-1", b"NaN", b"null", b"[]", b"{}", b'""', b"true", b"9" * 25, b'"epoch":', b'"n":', b'"tenant":'),
    *(b'"manifest_key":null', b'"text":7', b'"parts":{}', b'"files":null', b'"story":{}', b'"entries":7', b"[" * 40),
)
TARGET = Target("recorder/statements", make, seeds, max_bytes=8_192, words=WORDS)
