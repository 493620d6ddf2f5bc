"""How good a second of a call was for the one who heard and saw it: mean opinion scores from what was measured.

Sound follows the E-model (ITU-T G.107, 06/2015): a transmission rating ``R`` from 0 to 100, and from it a mean opinion
score (Annex B), 1 to 4.5. With the model's default values for everything that a browser's headset and echo canceller
settle, ``R = 93.2 − Id − Ie,eff`` (clause 7.1): what delay takes (7.4) and what the codec and its losses take (7.5).

Opus is not in the tables of G.113 Appendix I. ``OPUS_IE`` is 0, as for G.711: at 24 kb/s and more it is at least its
equal; ``OPUS_BPL`` is that of GSM-EFR and AMR 12.2 (10), codecs that predict across packets as Opus does and conceal
about as well. The loss to put in is the one left after repair, best the share of concealed samples that the page
itself tells, so that in-band FEC and retransmission count for what they do and nothing is assumed of them.

Pictures have no such model without their bits (ITU-T P.1203 needs them, G.1070 a calibration per codec and size). Their
score is our own and plain, on the same scale: 4.5, times how much of it frame rate, freezes and unrepaired loss leave.
"""

from __future__ import annotations

import math
from typing import Final

MOS_MIN: Final = 1.0
MOS_MAX: Final = 4.5

_R_DEFAULT: Final = 93.2
"""Ro − Is with the default values of G.107 table 2."""
_DELAY_FREE_MS: Final = 100.0
"""Absolute delay below which Idd is 0 (G.107 equation 7-27)."""
OPUS_IE: Final = 0.0
OPUS_BPL: Final = 10.0

_FRAMES_ENOUGH: Final = 24.0
"""Frames a second from which more are not missed in a talking head."""
_FRAMES_WEIGHT: Final = 0.5
"""The square root: half the frames keep 70 % of the score."""
_FREEZE_WEIGHT: Final = 1.5
"""A third of a second frozen halves the score of that second."""
_PAUSED: Final = 2.0
"""A picture left out costs more than a bad one, but the conversation goes on."""
_VIDEO_LOSS_SCALE: Final = 0.08
"""Unrepaired loss that takes all but 1/e."""

_AUDIO_SHARE: Final = 0.6
_STEPS: Final = ((4.03, 5), (3.60, 4), (3.10, 3), (2.58, 2))
"""MOS limits of the speech quality categories of ITU-T G.109 (R = 80, 70, 60, 50)."""


def delay_impairment(delay_ms: float) -> float:
    """``Idd`` (G.107 7-27, 7-28): what a mouth-to-ear delay takes from R, with perfect echo control."""
    if not delay_ms > _DELAY_FREE_MS:
        return 0.0
    x = math.log2(min(delay_ms, 60_000.0) / _DELAY_FREE_MS)
    return 25.0 * (math.pow(1 + x**6, 1 / 6) - 3 * math.pow(1 + (x / 3) ** 6, 1 / 6) + 2)


def loss_impairment(loss: float, *, ie: float = OPUS_IE, bpl: float = OPUS_BPL, burst_ratio: float = 1.0) -> float:
    """``Ie,eff`` (G.107 7-29): what a codec (``ie``) and a share ``loss`` of lost packets, 0–1, take from R."""
    percent = 100.0 * min(1.0, max(0.0, loss))
    return ie + (95.0 - ie) * percent / (percent / burst_ratio + bpl) if percent else ie


def audio_rating(delay_ms: float, loss: float) -> float:
    """``R`` of a second of speech, 0–93.2."""
    return min(_R_DEFAULT, max(0.0, _R_DEFAULT - delay_impairment(delay_ms) - loss_impairment(loss)))


def mos_of_rating(rating: float) -> float:
    """The mean opinion score of a rating (G.107 Annex B, B-4), 1–4.5."""
    if rating <= 0:
        return MOS_MIN
    if rating >= 100:
        return MOS_MAX
    mos = 1 + 0.035 * rating + rating * (rating - 60) * (100 - rating) * 7e-6
    return min(MOS_MAX, max(MOS_MIN, mos))  # the cubic dips below 1 for R < 6.5


def audio_mos(delay_ms: float, loss: float) -> float:
    """The mean opinion score of a second of speech."""
    return mos_of_rating(audio_rating(delay_ms, loss))


def video_mos(frames_per_second: float | None, frozen_ms: float, loss: float, *, paused: bool = False) -> float:
    """The score of a second of picture; ``frames_per_second`` None: not known, and not held against it."""
    if paused:
        return _PAUSED
    frames = 1.0 if frames_per_second is None else min(1.0, max(0.0, frames_per_second) / _FRAMES_ENOUGH)
    frozen = min(1.0, max(0.0, frozen_ms) / 1000.0)
    kept = math.pow(frames, _FRAMES_WEIGHT) * max(0.0, 1 - _FREEZE_WEIGHT * frozen)
    kept *= math.exp(-min(1.0, max(0.0, loss)) / _VIDEO_LOSS_SCALE)
    return MOS_MIN + (MOS_MAX - MOS_MIN) * kept


def call_mos(audio: float | None, video: float | None) -> float | None:
    """Both together: sound weighs more, and no picture makes up for bad sound. None: there was neither."""
    if audio is None or video is None:
        return video if audio is None else audio
    return min(audio, _AUDIO_SHARE * audio + (1 - _AUDIO_SHARE) * video)


def score_of(mos: float) -> int:
    """1 (unusable) to 5 (very good): the steps that people see."""
    return next((score for floor, score in _STEPS if mos >= floor), 1)
