"""Encoding films: mp4 that every browser plays, and gifs of a limited size."""

from __future__ import annotations

import itertools
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gallop.answers import tell
from gallop.report.films.frames import FilmError, Frame, Frames

CRF = 28  # of H.264: side by side, no eye tells it from 24, whose films are half as large again
MOST_PIXELS, MOST_FPS = 1_280, 240  # of a film's longer side; frames per second
GIF_SECONDS = 10
GIF_BYTES = 2_000_000  # at most, so that pages and READMEs load fast
SECONDS_BETWEEN_ANSWERS = 0.5


class GifQuality(NamedTuple):
    """How large and smooth a gif is."""

    width: int
    """Pixels at most."""
    fps: int
    colours: int
    seconds: int = GIF_SECONDS

    @property
    def bits(self) -> float:
        """A measure of the size of the file."""
        return self.width**2 * self.fps * self.seconds * math.log2(self.colours)


GIF_QUALITIES = (
    GifQuality(320, 20, 256),
    GifQuality(280, 20, 128),
    GifQuality(240, 20, 64),
    GifQuality(240, 10, 64),
    GifQuality(200, 10, 32),
    GifQuality(160, 8, 16),
    GifQuality(120, 5, 8, 8),
    GifQuality(80, 4, 4, 5),
)
"""From the best to one that fits whatever is filmed."""


def ffmpeg() -> str:
    """Return the path of the system's ffmpeg, or of the one in imageio-ffmpeg."""
    found = shutil.which("ffmpeg")
    if found is None:
        import imageio_ffmpeg

        found = imageio_ffmpeg.get_ffmpeg_exe()
    return found


def encode(
    drawn: Iterator[Any],
    path: Path,
    rate: Fraction | int,
    n_total: int = 0,
    finish: Callable[[Frame], Frame] | None = None,
    crf: int = CRF,
) -> str:
    """Stream what a task renders to ffmpeg as H.264, with at most one frame in memory.

    Args:
        drawn: what a task renders, frame by frame; at least one.
        path: of the mp4 to write.
        rate: frames per second.
        n_total: number of frames, for answers to the parent process; 0: do not answer.
        finish: changes each frame, such as by writing on it.
        crf: of H.264; larger numbers give smaller and coarser films.

    Returns:
        A remark on the film; empty if there is none.

    Raises:
        FilmError: if ffmpeg fails, a frame is not an image, or all frames are black.
    """
    frames = Frames()
    first = frames(next(drawn))
    height, width = first.shape[:2]
    encoder = subprocess.Popen(
        [
            *(ffmpeg(), "-loglevel", "error", "-y"),
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(rate)),
            *("-i", "-", "-an", "-c:v", "libx264", "-preset", "veryfast", "-crf", str(crf)),
            *("-pix_fmt", "yuv420p", *_limits(width, height, rate)),
            *("-movflags", "+faststart", str(path)),
        ],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert encoder.stdin is not None
    brightest, darkest, n_changes, n_frames = 0, 255, 0, 0
    previous, told = first, time.monotonic()
    try:
        for image in itertools.chain([first], map(frames, drawn)):
            shown = image if finish is None else finish(image)
            encoder.stdin.write(shown.tobytes())
            brightest = max(brightest, int(image.max()))
            darkest = min(darkest, int(image.min()))
            n_changes += not np.array_equal(image, previous)
            n_frames += 1
            previous = image
            if n_total and time.monotonic() - told > SECONDS_BETWEEN_ANSWERS:
                told = time.monotonic()
                tell(frames=(n_frames, n_total))
    except BrokenPipeError:
        pass  # the reason follows from ffmpeg's message
    finally:
        _, message = encoder.communicate()
    if encoder.returncode != 0:
        raise FilmError(f"ffmpeg failed: {message.decode(errors='replace').strip()[-300:]}")
    if brightest < 30 and brightest - darkest < 8:
        raise FilmError("the film is black: the task renders nothing")
    still = ""
    if n_frames > 2 and n_changes < n_frames // 10:
        still = f"nothing moves in {n_frames - n_changes - 1:,} of {n_frames:,} frames"
    return "; ".join(filter(None, (still, frames.note)))


def _limits(width: int, height: int, rate: Fraction | int) -> list[str]:
    """Return arguments of ffmpeg that limit a film to what players can show."""
    limits = []
    if max(width, height) > MOST_PIXELS:
        factor = MOST_PIXELS / max(width, height)
        sides = (max(2, round(side * factor / 2) * 2) for side in (width, height))
        limits += ["-vf", f"scale={':'.join(map(str, sides))}"]
    if rate > MOST_FPS:
        limits += ["-r", str(MOST_FPS)]  # in real time; frames are dropped
    return limits


def make_gif(source: Path, path: Path, widest: int = 1) -> str:
    """Write a film's first seconds as a gif with its own palette, of at most `GIF_BYTES`.

    Args:
        source: the film.
        path: of the gif.
        widest: how many times as wide as usual it may be, for pictures side by side.

    Returns:
        Why there is no gif; empty if there is one. The film is worth keeping without it.
    """
    bytes_per_bit = 0.0  # of the latest try; unknown at first
    for quality in GIF_QUALITIES:
        if bytes_per_bit * quality.bits > 1.2 * GIF_BYTES and quality != GIF_QUALITIES[-1]:
            continue
        try:
            _write_gif(source, path, quality, quality.width * widest)
        except FilmError as error:
            path.unlink(missing_ok=True)
            return f"no gif: {error}"
        size = path.stat().st_size
        if size <= GIF_BYTES:
            break
        bytes_per_bit = size / quality.bits
    return ""


def _write_gif(source: Path, path: Path, quality: GifQuality, width: int) -> None:
    """Write a gif; dithering hides that colours are few, but makes files larger."""
    dither = "bayer:bayer_scale=4" if quality == GIF_QUALITIES[0] else "none"
    steps = (
        # Without "pass" a film that is shorter than one frame of the gif would give none.
        f"fps={quality.fps}:eof_action=pass,scale='min({width},iw)':-2:flags=lanczos,split[a][b]",
        f"[a]palettegen=stats_mode=diff:max_colors={quality.colours}[p]",
        f"[b][p]paletteuse=dither={dither}:diff_mode=rectangle",
    )
    cut = ["-t", str(quality.seconds), "-i", str(source)]
    _run_ffmpeg([*cut, "-lavfi", ";".join(steps), str(path)])


def _run_ffmpeg(arguments: Sequence[str]) -> None:
    done = subprocess.run(
        [ffmpeg(), "-loglevel", "error", "-y", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise FilmError(f"ffmpeg failed: {done.stderr.strip()[-300:]}")
