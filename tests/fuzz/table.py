"""All targets, by name. Each is imported when it is asked for, so that a process starts with what it needs."""

from __future__ import annotations

import importlib
from typing import Final

from tests.fuzz.kit import Target

MODULES: Final = {
    **{
        f"relay/{name}": f"tests.fuzz.relay.{name}"
        for name in ("rtp", "rtcp", "stun", "dtls", "tcp_frames", "sdp", "payloads", "room")
    },
    **{f"recorder/{name}": f"tests.fuzz.recorder.{name}" for name in ("frames", "statements")},
    "signaling/messages": "tests.fuzz.signaling.messages",
    "config/tokens": "tests.fuzz.config.tokens",
}
PLANE: Final = "relay/plane_"
"""What the names of the planes' targets begin with: one for each that can be made here."""


def names() -> list[str]:
    """Every target that there is here."""
    from relay.plane_choice import PLANES

    return [*MODULES, *(PLANE + plane for plane in sorted(PLANES))]


def load(name: str) -> Target:
    """The target of that name. Raises KeyError."""
    if name.startswith(PLANE):
        from tests.fuzz.relay.plane_input import target_of

        return target_of(name.removeprefix(PLANE))
    target: Target = importlib.import_module(MODULES[name]).TARGET
    return target
