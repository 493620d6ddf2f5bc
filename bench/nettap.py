"""What the relay sends towards a person, as far as the outside of encrypted packets tells: which frames it left out.

RTP's SSRC and timestamp are not encrypted (RFC 3711), so the proxy can count the frames of each stream before its line
does anything to them. A relay that drops temporal layers sends every second or every fourth frame, and evenly; frames
that it leaves out like this are not missing from the layer that it sends.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Frame = tuple[float, int]
"""When its first packet came by, in Unix ms, and its RTP timestamp."""

STREAMS_MAX = 64
"""Streams noted; packets of further ones are not."""
FRAMES_MAX = 50_000
"""Frames noted of each stream."""
RECENT_FRAMES = 128
"""A packet of one of so many frames before is a late one of that, and no new frame."""
CLOCK_RATE = 90_000
PATTERNS = (2, 4)
"""Of how many frames one is sent without the highest temporal layer, and without the two highest."""


@dataclass(slots=True)
class FrameTap:
    """Notes the frames of every RTP stream that passes."""

    frames: dict[int, list[Frame]] = field(default_factory=dict)
    _recent: dict[int, deque[int]] = field(default_factory=dict, repr=False)

    def note(self, data: bytes, now_ms: float) -> None:
        """A datagram passes; what is no RTP is none of our business (RFC 5761, section 4; RFC 7983)."""
        if len(data) < 12 or data[0] >> 6 != 2 or 192 <= data[1] <= 223:
            return
        timestamp, ssrc = int.from_bytes(data[4:8]), int.from_bytes(data[8:12])
        if ssrc not in self.frames:
            if len(self.frames) >= STREAMS_MAX:
                return
            self.frames[ssrc], self._recent[ssrc] = [], deque(maxlen=RECENT_FRAMES)
        recent = self._recent[ssrc]
        if timestamp not in recent and len(self.frames[ssrc]) < FRAMES_MAX:
            recent.append(timestamp)
            self.frames[ssrc].append((now_ms, timestamp))


def left_out(frames: Sequence[Frame], encoded_fps: Callable[[float], float]) -> list[tuple[float, int]]:
    """When how many frames were left out on purpose: gaps of a temporal pattern, with one of the same size beside them.

    ``encoded_fps``: frames per second that the encoder made around a time in Unix ms.
    """
    gaps = []
    for (_, before), (t, timestamp) in itertools.pairwise(frames):
        ticks = (timestamp - before) % (1 << 32)
        gaps.append((t, round(ticks * encoded_fps(t) / CLOCK_RATE) if ticks < CLOCK_RATE else 0))
    found = []
    for at, (t, gap) in enumerate(gaps):
        beside = [other for _, other in gaps[max(0, at - 1) : at] + gaps[at + 1 : at + 2]]
        if gap in PATTERNS and gap in beside:
            found.append((t, gap - 1))
    return found
