"""A room's recording: begun, paused, kept going, ended, and told of each time."""

from __future__ import annotations

from relay.messages import RecordingPaused, RecordingStarted, RecordingStopped
from relay.plane import Plane
from relay.recording import RoomRecording
from relay.room_events import RoomEvents
from relay.spool import SpoolPart
from relay.wiring import Wiring


class RoomRecorder:
    """See the module's docstring. What needs the disk is the worker's affair."""

    def __init__(self, plane: Plane, wiring: Wiring, events: RoomEvents) -> None:
        self._plane, self._wiring, self._events = plane, wiring, events

    @property
    def recording(self) -> RoomRecording | None:
        """The recording that is being written."""
        return self._wiring.recording

    def start(self, part: SpoolPart, now_ns: int) -> None:
        """Spool every track into an open part from now on."""
        recording = RoomRecording(part, self._plane, now_ns)
        self._wiring.record(recording, now_ns)
        self._events.tell(RecordingStarted, now_ns, recording_public_id=recording.recording_public_id)

    def stop(self, now_ns: int) -> SpoolPart | None:
        """Spool no more; the part that the worker has to close."""
        recording = self.recording
        if recording is None:
            return None
        self._wiring.record(None, now_ns)
        self._events.tell(RecordingStopped, now_ns, recording_public_id=recording.recording_public_id)
        return recording.part

    def pause(self, for_ms: int, now_ns: int) -> None:
        """Spool nothing for ``for_ms`` at most."""
        if (recording := self.recording) is not None:
            was = recording.paused_until_ns
            self._wiring.pause_recording(now_ns + for_ms * 1_000_000, now_ns)
            if was is None:
                self._tell_paused(recording, True, now_ns)

    def resume(self, now_ns: int) -> None:
        """Spool again, if that was paused."""
        if (recording := self.recording) is not None and recording.paused_until_ns is not None:
            self._wiring.pause_recording(None, now_ns)
            self._tell_paused(recording, False, now_ns)

    def keep(self, now_ns: int) -> None:
        """What a recording needs from time to time."""
        recording = self.recording
        if recording is None:
            return
        if recording.paused_until_ns is not None and now_ns >= recording.paused_until_ns:
            self.resume(now_ns)
        if recording.key_frames_due(now_ns):
            self._wiring.ask_recorded(now_ns)

    def _tell_paused(self, recording: RoomRecording, paused: bool, now_ns: int) -> None:
        self._events.tell(RecordingPaused, now_ns, recording_public_id=recording.recording_public_id, paused=paused)
