"""A part goes from the spool into the store, whatever happens on the way."""

from __future__ import annotations

from config.ids import DEFAULT_TENANT
from recorder.job import PartJob
from tests.recorder.conftest import Desk
from tests.recorder.media import Scene, Sender, audio, video


def call(desk: Desk, seconds: float = 6.0, codec: str = "vp8") -> Scene:
    """Both sides with sound and picture."""
    scene = desk.scene()
    for number, role in enumerate(("client", "provider")):
        user_id = desk.people[role].id
        sound = Sender("opus", ssrc=10 + number, user_id=user_id)
        picture = Sender(codec, ssrc=20 + number, user_id=user_id)
        scene.add(sound, sound.packets(audio(seconds)), reports_ms=(2500,))
        scene.add(picture, picture.packets(video(codec, seconds)))
    return scene


async def test_finished_call_becomes_a_ready_recording(desk: Desk) -> None:
    scene = call(desk)
    scene.close()
    assert await PartJob(scene.directory, desk.services).run() == "ready"
    found = await desk.recordings.find(DEFAULT_TENANT, desk.new.public_id)
    assert found is not None
    assert found.state == "ready"
    assert found.duration_ms == 6000
    assert [stream.video_frames for stream in found.streams] == [180, 180]
    assert not scene.directory.exists()
