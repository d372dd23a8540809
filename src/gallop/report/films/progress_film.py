"""The progress film: the films of a run's milestones side by side, of the same starting state.

python -m gallop.report.films.progress_film JOB.npz RUN     (started by film_queue.py)
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gallop.errors import counted
from gallop.reading import read_npz
from gallop.report.child import answering
from gallop.report.films.captions import line
from gallop.report.films.encoding import encode, ffmpeg, make_gif
from gallop.report.films.frames import FilmError, Frame
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import remove_file, replacing
from gallop.run_folder.manifest import write_npz_result

MOST_COLUMNS, MOST_WIDTH = 4, 960  # panels in a row; pixels of the film
CRF = 30  # coarser than the milestones' own films, which show more
DIM = 0.45  # brightness of the last frame of an episode that ended earlier than others
STRIP, LETTERS = 32, 16  # height of the strip above a panel, and of its letters, in pixels
STRIP_COLOUR = (32, 36, 44)
# A file of somebody's run may be a playlist that names other files: nothing but an mp4 is read.
AS_MP4 = ("-f", "mp4")


class Panel(NamedTuple):
    """One milestone in the progress film."""

    film: Path
    label: str


class Video(NamedTuple):
    """Size and speed of an mp4."""

    width: int
    height: int
    rate: Fraction
    """Frames per second, with the two decimals that ffmpeg tells."""


def write_job(path: Path, milestones: Sequence[int]) -> None:
    """Write what a child process needs to make the progress film of these milestones."""
    write_npz_result(path, {"milestones": np.array(milestones, np.int64)})


def film(job: Path, run: RunDirectory) -> str:
    """Write progress.mp4 and progress.gif into a run's folder.

    Args:
        job: path of the job.
        run: with the milestones' films.

    Returns:
        A remark on the film; empty if there is none.

    Raises:
        FilmError: if fewer than two milestones have films, or ffmpeg fails.
    """
    shown = panels(run, read_npz(job, ["milestones"])["milestones"].tolist())
    if len(shown) < 2:
        raise FilmError("fewer than two milestones have films")
    with replacing(run.path) as temporary:
        target = RunDirectory(temporary)
        side_by_side(shown, target.progress_film)
        columns = min(len(shown), MOST_COLUMNS)
        why_no_gif = make_gif(target.progress_film, target.progress_gif, widest=min(columns, 3))
    if why_no_gif:
        remove_file(run.progress_gif)  # of an earlier film
    return why_no_gif


def panels(run: RunDirectory, milestones: Sequence[int]) -> list[Panel]:
    """Return the milestones that have films; their labels tell the seeds if these differ."""
    found: list[tuple[Panel, int]] = []
    for percent in milestones:
        milestone = run.milestone(int(percent))
        meta, returns = milestone.read_meta(), milestone.read_rewards()
        if meta is None or returns is None or not milestone.film.exists():
            continue
        index = int(np.isfinite(returns).argmax())  # the filmed one, as in stages.py
        told = f"{percent} %, {counted(int(meta['steps']), 'timestep')}"
        label = f"{told}, return {float(returns[index]):,.0f}".replace("-", "−")
        found.append((Panel(milestone.film, label), int(meta["seeds"][index])))
    if len({seed for _, seed in found}) > 1:
        return [Panel(film, f"{label}, seed {seed}") for (film, label), seed in found]
    return [panel for panel, _ in found]


def side_by_side(shown: Sequence[Panel], path: Path) -> None:
    """Write films into one, as panels with labels; a film that ends early stays, dimmed.

    Args:
        shown: the panels.
        path: of the mp4 to write.

    Raises:
        FilmError: if ffmpeg fails.
    """
    first = video_of(shown[0].film)
    columns = min(len(shown), MOST_COLUMNS)
    width = min(first.width, MOST_WIDTH // columns) // 2 * 2
    height = round(first.height * width / first.width / 2) * 2
    frames = _composed(shown, columns, width, height, first.rate)
    encode(frames, path, first.rate, crf=CRF)


def video_of(path: Path) -> Video:
    """Return size and speed of an mp4, as ffmpeg tells them.

    Raises:
        FilmError: if it is no film.
    """
    told = subprocess.run(
        [ffmpeg(), "-hide_banner", *AS_MP4, "-i", str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    ).stderr
    found = re.search(r"Video: .*?, (\d+)x(\d+).*?, ([\d.]+) fps", told)
    if found is None:
        raise FilmError(f"{path} is not a film")
    return Video(int(found[1]), int(found[2]), Fraction(found[3]))


def _composed(
    shown: Sequence[Panel], columns: int, width: int, height: int, rate: Fraction
) -> Iterator[Frame]:
    rows = -(-len(shown) // columns)
    canvas = np.empty((rows * (STRIP + height), columns * width, 3), np.uint8)
    canvas[:] = STRIP_COLOUR
    places = []
    for number, panel in enumerate(shown):
        row, column = divmod(number, columns)
        top, left = row * (STRIP + height), column * width
        _write_label(canvas[top : top + STRIP, left : left + width], panel.label)
        places.append(canvas[top + STRIP : top + STRIP + height, left : left + width])
    playing = {number: _Reader(panel.film, width, height, rate)
               for number, panel in enumerate(shown)}  # fmt: skip
    try:
        while True:
            for number, reader in list(playing.items()):
                frame = reader.read()
                if frame is not None:
                    places[number][:] = frame
                else:
                    del playing[number]
                    if playing:
                        places[number][:] = (places[number] * DIM).astype(np.uint8)
            if not playing:
                return
            yield canvas.copy()
    finally:
        for reader in playing.values():
            reader.close()


def _write_label(strip: Frame, label: str) -> None:
    """Write a label into the middle of a strip, in place, in letters small enough to fit."""
    sizes = range(LETTERS, 6, -1)
    letters = next(
        (drawn for size in sizes if (drawn := line(label, size)).shape[1] <= strip.shape[1]),
        line(label, 6)[:, : strip.shape[1]],
    )
    top, left = ((a - b) // 2 for a, b in zip(strip.shape, letters.shape, strict=False))
    part = strip[top : top + letters.shape[0], left : left + letters.shape[1]]
    part[:] = (part * (1 - letters[..., None]) + 255 * letters[..., None]).astype(np.uint8)


class _Reader:
    """Decodes an mp4, frame by frame, fitted into a size."""

    def __init__(self, path: Path, width: int, height: int, rate: Fraction) -> None:
        fit = f"scale={width}:{height}:force_original_aspect_ratio=decrease"
        pad = f"pad={width}:{height}:-1:-1"
        self._shape = (height, width, 3)
        self._path = path
        self._decoder: Any = subprocess.Popen(
            [
                *(ffmpeg(), "-loglevel", "error", *AS_MP4, "-i", str(path), "-r", str(rate)),
                *("-vf", f"{fit},{pad}", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )

    def read(self) -> Frame | None:
        """Return the next frame; None at the end.

        Raises:
            FilmError: if the film cannot be read to its end.
        """
        n = self._shape[0] * self._shape[1] * self._shape[2]
        raw = self._decoder.stdout.read(n)
        if len(raw) == n:
            return np.frombuffer(raw, np.uint8).reshape(self._shape)
        self._decoder.stdout.close()
        if self._decoder.wait() != 0:
            raise FilmError(f"{self._path} cannot be read to its end")
        return None

    def close(self) -> None:
        """Stop decoding."""
        self._decoder.kill()
        self._decoder.stdout.close()
        self._decoder.wait()


def main(arguments: Sequence[str]) -> int:
    """Make one progress film; answer with the reason if there is none."""
    job, run = arguments
    return answering(lambda: film(Path(job), RunDirectory(run)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
