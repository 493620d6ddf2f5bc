"""Pillow's only home: names on pictures, the sign in place of a picture, and thumbnails.

DejaVu is used where the system has it, since it knows most scripts; else the font that comes with Pillow.
"""

from __future__ import annotations

import functools
import io
from typing import Any, Final

from av.video.frame import VideoFrame
from PIL import Image, ImageDraw, ImageFont

NAME_CHARS_MAX: Final = 60
BAR: Final = 28
"""Height of the strip with the name, in pixels."""
_FONTS: Final = ("DejaVuSans.ttf", "NotoSans-Regular.ttf")
_DARK: Final = (24, 27, 32)
_LIGHT: Final = (235, 238, 242)
_DIM: Final = (140, 148, 160)
JPEG_QUALITY: Final = 82


@functools.cache
def _font(size: int) -> Any:
    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def caption(text: str, width: int) -> VideoFrame:
    """A strip ``width`` × ``BAR`` with a name, to be laid over the lower edge of a picture."""
    image = Image.new("RGB", (width, BAR), _DARK)
    draw = ImageDraw.Draw(image)
    draw.text((10, BAR // 2), _fitting(text, width - 20, 15), font=_font(15), fill=_LIGHT, anchor="lm")
    return _frame(image)


def sign(text: str, width: int, height: int, note: str = "") -> VideoFrame:
    """What is shown while there is no picture."""
    image = Image.new("RGB", (width, height), _DARK)
    draw = ImageDraw.Draw(image)
    size = max(16, height // 14)
    middle = (width // 2, height // 2)
    draw.text(middle, _fitting(text, width - 40, size), font=_font(size), fill=_LIGHT, anchor="mm")
    if note:
        draw.text((middle[0], middle[1] + size + 8), note, font=_font(13), fill=_DIM, anchor="mm")
    return _frame(image)


def jpeg(frame: VideoFrame) -> bytes:
    """A picture as JPEG."""
    out = io.BytesIO()
    image: Any = frame.to_image()  # type: ignore[no-untyped-call]
    image.save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def _fitting(text: str, width: int, size: int) -> str:
    """The text on one line, cut with an ellipsis where it is too long."""
    text = " ".join(text.split())[:NAME_CHARS_MAX]
    while text and _font(size).getlength(text) > width:
        text = text[:-2].rstrip() + "…" if len(text) > 2 else ""
    return text


def _frame(image: Any) -> VideoFrame:
    frame: VideoFrame = VideoFrame.from_image(image).reformat(format="yuv420p")  # type: ignore[no-untyped-call]
    return frame
