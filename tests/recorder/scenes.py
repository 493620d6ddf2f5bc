"""Running a scene through the pipeline without a database."""

from __future__ import annotations

from pathlib import Path

from recorder.pipeline import Output, Pipeline, RunEnded
from recorder.segments import Segment
from tests.recorder.media import Scene, Sender, audio, video

KEY = bytes(range(32))


class Muxed:
    """What came out."""

    def __init__(self, pipeline: Pipeline, outputs: list[Output]) -> None:
        self.core, self.merge, self.corrupt = pipeline.core, pipeline.merge, pipeline.corrupt
        self.runs = [each.run for each in outputs if isinstance(each, RunEnded)]
        self.runs.sort(key=lambda run: run.index)
        self.segments = [each for each in outputs if isinstance(each, Segment)]

    def file(self, run: int = 0) -> bytes:
        return b"".join(each.plaintext for each in self.segments if each.run == run)

    def span_ms(self, run: int = 0) -> tuple[int, int]:
        """When a run begins and ends, from the part's start."""
        start = self.core.header.started_monotonic_ns
        return tuple(round((at - start) / 1e6) for at in (self.runs[run].start_ns, self.runs[run].end_ns))  # type: ignore[return-value]


def drain(pipeline: Pipeline) -> tuple[list[Output], bool]:
    """All that can be had now, and whether that was all."""
    outputs: list[Output] = []
    while True:
        round_ = pipeline.round()
        outputs += round_.outputs
        if not round_.busy:
            return outputs, round_.done


def mux(directory: Path) -> Muxed:
    """Read a closed part from beginning to end."""
    pipeline = Pipeline(directory, lambda _key_id, _wrapped: KEY, 2000)
    try:
        outputs, done = drain(pipeline)
        assert done
        return Muxed(pipeline, outputs)
    finally:
        pipeline.close()


def both(scene: Scene, seconds: float = 5.0, codec: str = "vp8", **kwargs: float) -> tuple[Sender, Sender]:
    """Sound and picture of one participant."""
    sound, picture = Sender("opus", ssrc=1), Sender(codec, ssrc=2, **kwargs)  # type: ignore[arg-type]
    scene.add(sound, sound.packets(audio(seconds)), reports_ms=(2500,))
    scene.add(picture, picture.packets(video(codec, seconds)))
    return sound, picture
