"""Conversion of what tasks render to video frames of one size.

Gymnasium requires uint8 of shape [height, width, 3], but tasks return much else: grey images, an
alpha channel, floats, channels first, lists with the latest frame last, changing sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gallop.errors import counted

Frame = NDArray[np.uint8]  # [height, width, 3]

LEAST = 64  # pixels of the longer side; smaller images are enlarged by a whole factor
FPS, MOST_FPS = 30, 1_000  # default frame rate, and the highest one in a film


class FilmError(RuntimeError):
    """A film could not be made, for the reason in the message."""


class Frames:
    """Converts what a task renders to the frames of one film."""

    def __init__(self) -> None:
        """Start a film; its first frame decides the size."""
        self._size: tuple[int, int] | None = None  # of the first frame, as rendered
        self._scale: float | None = None  # of floats; None until known
        self._n_fitted = 0

    @property
    def note(self) -> str:
        """A remark on the frames; empty if there is none."""
        if not self._n_fitted or self._size is None:
            return ""
        height, width = self._size
        frames = counted(self._n_fitted, "frame")
        return f"the task rendered {frames} of another size, fitted to {width}×{height}"

    def __call__(self, drawn: Any) -> Frame:
        """Convert what `render()` returned to uint8 [height, width, 3] with even height and width.

        Raises:
            FilmError: if it is not an image.
        """
        picture = self._eight_bits(_with_colours_last(_array(drawn)))
        if self._size is None:
            self._size = picture.shape[0], picture.shape[1]
        elif picture.shape[:2] != self._size:
            self._n_fitted += 1
            picture = _fitted(picture, *self._size)
        factor = max(1, LEAST // max(self._size))
        if factor > 1:
            picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
        height, width = picture.shape[:2]
        if height % 2 or width % 2:  # H.264 requires even sizes
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        return np.ascontiguousarray(picture)

    def _eight_bits(self, picture: NDArray[Any]) -> Frame:
        """Scale brightness to 0–255. Floats end at 1 or 255, as the first bright frame shows."""
        kind = picture.dtype.kind
        if kind == "f":
            picture = np.nan_to_num(picture, nan=0.0, posinf=255.0, neginf=0.0)
            brightest = float(picture.max())
            if brightest > 1.5:
                self._scale = 1.0
            elif self._scale is None and brightest > 0:
                self._scale = 255.0
            picture = np.round(picture * (self._scale or 1.0))
        elif kind == "b":
            picture = picture.astype(np.uint8) * 255
        elif kind not in "iu":
            raise FilmError(
                f"the task's render() returned an array of {picture.dtype}, not an image"
            )
        frame: Frame = np.clip(picture, 0, 255).astype(np.uint8)
        return frame


def frames_a_second(metadata: Any) -> int:
    """Return the frame rate of a film in real time, from a task's metadata; 30 by default.

    >>> frames_a_second({"render_fps": 20}), frames_a_second({"render_fps": None})
    (20, 30)
    """
    said = metadata.get("render_fps") if isinstance(metadata, Mapping) else None
    try:
        rate = float(said)  # type: ignore[arg-type]  # it may be anything
    except (TypeError, ValueError):
        return FPS
    return min(max(1, round(rate)), MOST_FPS) if math.isfinite(rate) and rate > 0 else FPS


def _array(drawn: Any) -> NDArray[Any]:
    """Return the latest image of what was rendered, as an array of two or three dimensions."""
    if drawn is None:
        raise FilmError("the task's render() returned None, not an image")
    if isinstance(drawn, str | bytes | Mapping):
        raise FilmError(f"the task's render() returned {type(drawn).__name__}, not an image")
    # Frames since the last call, the latest last; nested lists are the rows of one image.
    while isinstance(drawn, list | tuple) and drawn and _is_picture(drawn[-1]):
        drawn = drawn[-1]
    try:
        picture = np.asarray(drawn)
    except ValueError:  # rows of different lengths
        raise FilmError(
            "the task's render() returned rows of different lengths, not an image"
        ) from None
    if picture.ndim == 4 and len(picture):
        picture = picture[-1]
    if picture.ndim not in (2, 3) or not picture.size:
        raise FilmError(f"the task's render() returned shape {list(picture.shape)}, not an image")
    return picture


def _is_picture(part: Any) -> bool:
    return not isinstance(part, list | tuple) and np.ndim(part) >= 2


def _with_colours_last(picture: NDArray[Any]) -> NDArray[Any]:
    """Return [height, width, 3] of an image with 0 to 4 channels, which are last or first."""
    if picture.ndim == 2:
        picture = picture[..., None]
    elif picture.shape[-1] > 4 and picture.shape[0] <= 4:
        picture = np.moveaxis(picture, 0, -1)
    n_channels = picture.shape[-1]
    if n_channels > 4:
        raise FilmError(f"the task's render() returned shape {list(picture.shape)}, not an image")
    # Grey with or without alpha, or colours with alpha, which is often unset.
    return picture[..., :1].repeat(3, axis=-1) if n_channels <= 2 else picture[..., :3]


def _fitted(picture: Frame, height: int, width: int) -> Frame:
    """Return the whole image fitted into another size, with black borders."""
    from PIL import Image

    factor = min(height / picture.shape[0], width / picture.shape[1])
    rows, columns = (max(1, round(side * factor)) for side in picture.shape[:2])
    small = np.asarray(Image.fromarray(picture).resize((columns, rows)))
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    canvas[top : top + rows, left : left + columns] = small
    return canvas
