"""What may be played or exported: what is stored and signed of a recording; and why the others may not."""

from __future__ import annotations

from typing import Final

from config.http import ApiError
from config.identity import Principal
from recorder.catalogue import Details
from recorder.gate import Gate

_NOT_READY: Final[dict[str, tuple[str, str]]] = {
    "recording": ("recording_in_progress", "The call is still being recorded."),
    "finishing": ("recording_finishing", "The recording is being completed. Try again in a moment."),
    "expired": ("recording_expired", "The recording was deleted when its time was over."),
    "erased": ("recording_erased", "The recording was erased: its key was destroyed."),
    "failed": ("recording_failed", "There is nothing to play: the recording failed."),
}


def not_ready(recording: Details) -> ApiError:
    """Why there is nothing to play or export."""
    code, message = _NOT_READY.get(recording.state, ("recording_not_ready", "The recording is not ready."))
    return ApiError(409, code, message, state=recording.state, failure=recording.failure)


async def check_ready(gate: Gate, who: Principal, recording: Details, kind: str = "access") -> None:
    """Raises 409, audited, for a recording of which nothing may be had (yet) by access or by a job of that ``kind``."""
    if not recording.allows(kind):
        await gate.refuse(who, recording, recording.state)
        raise not_ready(recording)
