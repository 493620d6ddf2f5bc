"""All targets, by name. Another plane is another target (``tests.fuzz.relay.plane_input``)."""

from __future__ import annotations

from tests.fuzz.config import tokens
from tests.fuzz.kit import Target
from tests.fuzz.recorder import frames, statements
from tests.fuzz.relay import dtls, payloads, plane_input, room, rtcp, rtp, sdp, stun, tcp_frames
from tests.fuzz.signaling import messages

_MODULES = (rtp, rtcp, stun, dtls, tcp_frames, sdp, payloads, room, frames, statements, messages, tokens)
_ALL = [module.TARGET for module in _MODULES]
TARGETS: dict[str, Target] = {target.name: target for target in [*_ALL, *plane_input.targets()]}
