"""Bodies of requests and of Socket.IO messages: read as what they claim to be, or refused with a reason.

The first byte chooses the model.
"""

from __future__ import annotations

import importlib
import json

from config.http import ApiError, Body, parse
from signaling.client_messages import CLIENT_MESSAGES
from tests.fuzz.kit import Run, Target, expect

MODULES = (
    *("signaling.messages", "signaling.client_messages", "signaling.api", "billing.api", "billing.charges_api"),
    *("billing.tariffs_api", "billing.statements_api", "recorder.api", "recorder.compliance_api"),
)
REFUSAL_MAX = 8_192


def models() -> list[type[Body]]:
    """Every body that anybody may send, in one order."""
    for module in MODULES:
        importlib.import_module(module)
    found: set[type[Body]] = set(CLIENT_MESSAGES.values())
    waiting = [Body]
    while waiting:
        found.update(kinds := waiting.pop().__subclasses__())
        waiting += kinds
    return sorted(found, key=lambda kind: (kind.__module__, kind.__qualname__))


def make() -> Run:
    kinds = models()

    def run(data: bytes) -> None:
        kind = kinds[data[0] % len(kinds)] if data else kinds[0]
        raw = data[1:]
        try:
            read = parse(kind, raw)
        except ApiError as refusal:
            expect(refusal.status == 400, "refused as something else than a bad request")
            expect(
                len(json.dumps(refusal.body("request"))) <= REFUSAL_MAX + 2 * len(raw), "a refusal out of proportion"
            )
        else:
            json.dumps(read.model_dump(mode="json")).encode()
        try:
            loose = json.loads(raw)  # what Socket.IO hands over
        except (ValueError, RecursionError):
            return
        if isinstance(loose, dict):
            try:
                parse(kind, loose)
            except ApiError as refusal:
                expect(refusal.status == 400, "refused as something else than a bad request")

    return run


CONSENT = {"version": "1", "accepted": True}
TRACK = {"source": "camera", "direction": "up", "loss": 0.1, "jitter_ms": 1e3}
WISHES = (
    {"session_id": "ses_" + "a" * 22, "sdp": "v=0\r\n", "sources": {"0": "microphone"}, "fresh": True},
    {
        "provider_id": "usr_" + "a" * 22,
        "kind": "video",
        "consent": {"version": "1", "accepted": True},
        "request_key": "k",
    },
    {"session_id": "ses_" + "a" * 22, "muted": {"microphone": True, "camera": False}},
    {"session_id": "ses_" + "a" * 22, "client_message_id": "m", "text": "Grüße 👋"},
    {"email": "a@b.test", "password": "secret"},
    {"seq": 7},
    {"amount_minor": 500, "currency": "EUR", "idempotency_key": "k", "reason": "asked for"},
    {
        "session_id": "ses_" + "a" * 22,
        "tracks": [{"source": "camera", "direction": "up", "loss": 0.1, "jitter_ms": 1e3}],
    },
)


def seeds() -> list[bytes]:
    texts = [json.dumps(wish, ensure_ascii=False).encode() for wish in WISHES]
    return [bytes((kind,)) + text for kind in range(0, len(models()), 3) for text in texts]


WORDS = (
    b"null",
    b"1e999",
    b"-0",
    b"[" * 200,
    b'{"a":' * 50,
    b'"\\ud800"',
    b"\\u0000",
    b"9" * 30,
    b'"fresh":',
    b"NaN",
    b"\xff",
)
TARGET = Target("signaling/messages", make, seeds, max_bytes=4_096, words=WORDS)
