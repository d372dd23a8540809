"""Text in pictures, drawn with Pillow: not every build of ffmpeg can draw text."""

from __future__ import annotations

import functools
import importlib.util
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gallop.report.films.frames import Frame

if TYPE_CHECKING:
    from PIL import ImageFont

PLATE = 0.45  # brightness of what is behind the text
SECONDS_OF_SPEED = 0.5  # over which the speed is averaged: it varies within a stride


class Overlay:
    """Writes time, speed and return into the frames of an episode.

    >>> overlay = Overlay(seconds=0.05)
    >>> overlay.note(0.0, np.array([0.0, 0.0, 0.7]))
    >>> overlay.note(1234.5, np.array([0.3, 0.4, 0.7]))
    >>> overlay.text
    '0.05 s   10.0 m/s   return 1,234.5'
    """

    def __init__(self, seconds: float) -> None:
        """
        Args:
            seconds: per timestep.
        """
        self._seconds, self._n = seconds, -1
        self._places: deque[NDArray[np.float64]] = deque(
            maxlen=max(2, round(SECONDS_OF_SPEED / seconds) + 1)
        )
        self.text = ""

    def restart(self) -> None:
        """Begin another episode."""
        self._n = -1
        self._places.clear()

    def note(self, total: float, place: NDArray[np.float64] | None) -> None:
        """Take in the next frame's state.

        Args:
            total: the return so far.
            place: where the robot's centre of mass is, in m; None if that is unknown.
        """
        self._n += 1
        parts = [f"{self._n * self._seconds:.2f} s"]
        if place is not None:
            self._places.append(np.array(place[:2]))
            way = float(np.linalg.norm(self._places[-1] - self._places[0]))
            speed = way / (self._seconds * max(1, len(self._places) - 1))
            parts.append(f"{speed:.1f} m/s")
        parts.append(f"return {total:,.1f}")
        self.text = "   ".join(parts)

    def __call__(self, frame: Frame) -> Frame:
        """Return the frame with the text at its top left."""
        written = frame.copy()
        write(written, self.text, text_size(frame))
        return written


def text_size(frame: Frame) -> int:
    """Return the size of letters that suits a picture, in pixels."""
    return max(8, int(min(frame.shape[:2])) // 30)


def write(frame: Frame, text: str, size: int, bottom: bool = False) -> None:
    """Write one line on a dark plate into a picture, in place; what does not fit is cut off.

    Args:
        frame: uint8 [height, width, 3].
        text: the line.
        size: of the letters, in pixels.
        bottom: at the bottom left instead of the top left.
    """
    letters = line(text, size)[: frame.shape[0], : frame.shape[1], None]
    height, width = letters.shape[:2]
    rows = slice(-height, None) if bottom else slice(height)
    part = frame[rows, :width]
    part[:] = (part * PLATE * (1 - letters) + 255 * letters).astype(np.uint8)


@functools.lru_cache(maxsize=16)
def line(text: str, size: int) -> NDArray[np.float32]:
    """Return a line of text with a margin, from 0 to 1 (letters), shape [height, width]."""
    from PIL import Image, ImageDraw

    drawn, margin = font(size), size // 2
    left, _, right, _ = drawn.getbbox(text)
    image = Image.new("L", (int(right - left) + 2 * margin, size + 2 * margin))
    middle = (margin - left, image.height / 2)
    ImageDraw.Draw(image).text(middle, text, fill=255, font=drawn, anchor="lm")
    letters: NDArray[np.float32] = np.asarray(image, np.float32) / np.float32(255)
    letters.setflags(write=False)
    return letters


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font that comes with matplotlib, which importing matplotlib is too slow for."""
    from PIL import ImageFont

    found: Any = importlib.util.find_spec("matplotlib")
    path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)
