"""Checks of this machine, each with a command that fixes the problem it finds.

The checks try things out: they render a sphere, encode a film, write a file.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from gallop import DISTRIBUTION
from gallop.commands import fixes
from gallop.errors import interrupted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GIGABYTE = 1_000_000_000
RUN_MEMORY = GIGABYTE // 2  # of a run, in addition to its replay buffer
RUN_DISK = GIGABYTE  # five times what the reference experiment plans
BUFFER_TRANSITIONS = 1_000_000  # the default of SAC and TD3
# The benchmark and the largest MuJoCo task of Gymnasium: sizes of an observation and an action.
BUFFER_TASKS = {"HalfCheetah-v5": (17, 6), "Humanoid-v5": (348, 17)}
EXTRAS = ("wandb", "mlflow", "trackio", "huggingface_hub")


class Check(NamedTuple):
    """Result of one check."""

    name: str
    """What was checked."""
    state: Literal["works", "missing", "note"]
    """A note is information: no run fails because of it."""
    found: str
    """What was found, or what is wrong."""
    fix: str
    """Command that fixes it, or makes what a note tells better; empty if there is none."""


def examine(
    results: Path, announce: Callable[[str], object] = lambda name: None
) -> Iterator[Check]:
    """Run all checks, which takes a few seconds.

    Args:
        results: folder that runs would be written to.
        announce: called with the name of each check before it starts.

    Yields:
        The result of each check.
    """
    for name, look in _checks(results):
        announce(name)
        try:
            check = look()
        except Exception as error:  # a broken check must not hide the others
            check = Check(name, "missing", f"{type(error).__name__}: {error}", "")
        if check is not None:
            yield check


def _checks(results: Path) -> Iterator[tuple[str, Callable[[], Check | None]]]:
    yield "Python", _python
    yield "dependencies", _dependencies
    yield "kernels", _kernels
    yield "threads", _threads
    yield "memory", _memory
    yield "results folder", partial(_results_folder, results)
    with contextlib.suppress(ImportError):  # reported by the check of dependencies
        from gallop.report.films import video

        for backend in video.candidates():
            yield f"OpenGL {backend}".strip(), partial(_backend, backend)
    yield "films", _films
    yield "ffmpeg", _ffmpeg
    yield "display", _display
    yield "extras", _extras


# --- Python and what is installed ----------------------------------------------------------------


def _python() -> Check:
    from packaging.specifiers import SpecifierSet

    version = ".".join(str(part) for part in sys.version_info[:3])
    wanted = importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"]
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return Check("Python", "works", version, "")
    return Check("Python", "missing", f"{version}; required: {wanted}", fixes.install("Python"))


def _dependencies() -> Check:
    installed, wrong, outside = [], [], []
    for requirement in fixes.requirements():
        name = requirement.name
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = ""
        installed.append(f"{name} {version}")
        if not version or not requirement.specifier.contains(version, prereleases=True):
            required = fixes.version_range(requirement)
            wrong.append(f"{name} {version or 'is not installed'}, required: {required}")
            outside.append(requirement)
    if wrong:
        return Check("dependencies", "missing", "; ".join(wrong), fixes.pip_install(outside))
    return Check("dependencies", "works", ", ".join(installed), "")


def _extras() -> Check | None:
    """Optional packages that are installed; None if there are none."""
    found = []
    for name in EXTRAS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return Check("extras", "note", ", ".join(found), "") if found else None


# --- what training needs -------------------------------------------------------------------------


def _kernels() -> Check:
    from gallop import machine
    from gallop.policies import kernels

    if why := kernels.missing():
        found = f"not built ({why}); runs train on SB3, which is several times slower"
        return Check("kernels", "missing", found, fixes.rebuild_kernels())
    return Check("kernels", "works", f"built; instruction set: {machine.instruction_set()}", "")


def _threads() -> Check:
    from gallop import machine
    from gallop.policies import kernels

    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: one of its shared libraries is missing
        if interrupted(error):
            raise
        found = f"PyTorch cannot be imported: {error}"
        torch_alone = [r for r in fixes.requirements() if r.name == "torch"]
        return Check("threads", "missing", found, fixes.pip_install(torch_alone, force=True))

    usable, default = machine.available_processors(), kernels.n_threads(None)
    found = (
        f"{usable} of {machine.all_processors()} processors usable; default n_threads: "
        f"native {default}, SB3 1 (PyTorch alone: {torch.get_num_threads()})"
    )
    return Check("threads", "works", found, "")


def _memory() -> Check | None:
    """Whether replay buffers fit; None if the available memory is unknown."""
    from gallop import machine
    from gallop.policies import kernels

    memory = machine.available_memory()
    if memory is None:
        return None
    sizes = {
        task: _buffer_bytes(*numbers, native=not kernels.missing())
        for task, numbers in BUFFER_TASKS.items()
    }
    too_large = [task for task, size in sizes.items() if size + RUN_MEMORY > memory]
    shown = ", ".join(f"{size / GIGABYTE:.1f} GB for {task}" for task, size in sizes.items())
    found = f"{memory / GIGABYTE:.1f} GB available; a replay buffer of 1M transitions needs {shown}"
    if not too_large:
        return Check("memory", "works", f"{found}: both fit", "")
    if too_large != list(sizes):
        return Check("memory", "note", f"{found}: not enough for {', '.join(too_large)}", "")
    smaller = "gallop run --algo sac --env HalfCheetah-v5 --hyperparameters.buffer_size 100_000"
    return Check("memory", "missing", f"{found}: not enough for either", smaller)


def _buffer_bytes(n_observation: int, n_action: int, native: bool) -> int:
    """Bytes of 1M transitions.

    The native learner stores each observation once, in float32; SB3 stores it twice, in the task's
    float64. Both add the action, the reward and a flag for the end of the episode.
    """
    observations = 4 * n_observation if native else 2 * 8 * n_observation
    return BUFFER_TRANSITIONS * (observations + 4 * n_action + 4 + 4 + 1)


def _results_folder(results: Path) -> Check:
    """Free disk space, and whether a file can be written to the folder or to its future parent."""
    folder = results
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    name = str(results) if folder == results else f"{results} (to be created in {folder})"
    elsewhere = "gallop run CONFIG --log-folder ANOTHER_FOLDER"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"gallop")
        free = shutil.disk_usage(folder).free
    except PermissionError:
        found = f"{name}: permission denied"
        return Check("results folder", "missing", found, fixes.allow_writing(folder))
    except OSError as error:
        found = f"{name}: cannot be written: {error.strerror}"
        return Check("results folder", "missing", found, elsewhere)
    found = f"{name}: writable, {free / GIGABYTE:,.1f} GB free"
    if free < RUN_DISK:
        return Check("results folder", "missing", f"{found}, which is too little", elsewhere)
    return Check("results folder", "works", found, "")


# --- what films and windows need -----------------------------------------------------------------


def _backend(name: str) -> Check:
    """One OpenGL backend. If it does not work, that is a note: films need only one backend."""
    from gallop.report.films import video

    label = f"OpenGL {name}".strip()
    if backend := video.probe(name):
        return Check(label, "works", _drawn_by(backend.renderer, backend.is_software), "")
    without_display = name == "glfw" and not video.has_display()
    return Check(
        label, "note", "needs a display" if without_display else "does not render here", ""
    )


def _films() -> Check:
    from gallop.report.films import video

    backend = video.find_backend()  # already probed above
    if backend is None:
        if why := video.why_not_plain():
            found = f"{video.NO_BACKEND}, and they cannot be drawn without it: {why}"
            return Check("films", "missing", found, video.how_to_fix())
        found = (
            f"{video.NO_BACKEND}; films work without it: they are drawn by ray casting on the "
            "CPU, which is slower and shows no textures on the robot"
        )
        return Check("films", "note", found, video.how_to_fix())
    how = _drawn_by(backend.renderer, backend.is_software)
    return Check(
        "films", "works", f"rendered with {backend.name or 'the default backend'}: {how}", ""
    )


def _drawn_by(renderer: str, is_software: bool) -> str:
    if renderer == "unknown":
        return "renders with an unknown renderer"
    return f"{renderer}, {'software' if is_software else 'hardware'}"


def _ffmpeg() -> Check:
    """Whether ffmpeg encodes a few frames; that the file exists does not prove it."""
    from gallop.report.films import video
    from gallop.report.films.encoding import ffmpeg
    from gallop.report.films.frames import FilmError

    owner = "system's" if shutil.which("ffmpeg") else "imageio-ffmpeg's"
    try:
        path = ffmpeg()
        done = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=60)
        version = (done.stdout.split() or ["", "", "unknown"])[2]
        with tempfile.TemporaryDirectory() as folder:
            film = Path(folder) / "film.mp4"
            video.record(_moving_square(), film, 20)
            if b"avc1" not in film.read_bytes():  # the name of H.264 in an mp4 file
                raise FilmError("the film is not H.264")
    except (OSError, RuntimeError, IndexError, subprocess.TimeoutExpired) as error:
        # The system's ffmpeg takes precedence, so installing it replaces the one that failed.
        return Check("ffmpeg", "missing", f"no films: {error}", fixes.install("ffmpeg"))
    found = f"{owner} {version} at {_short(path)}; encodes H.264"
    return Check("ffmpeg", "works", found, "")


def _moving_square() -> Iterator[NDArray[np.uint8]]:
    import numpy as np

    for start in range(0, 40, 4):
        frame = np.zeros((64, 64, 3), np.uint8)
        frame[16:48, start : start + 16] = 255
        yield frame


def _display() -> Check:
    from gallop.report.films import video

    if video.has_display():
        return Check("display", "works", "gallop watch opens a window", "")
    return Check(
        "display", "note", "none: gallop watch makes a film instead of opening a window", ""
    )


def _short(path: str) -> str:
    """The path relative to the virtual environment, or with ~ for the home folder."""
    for start, short in ((Path(sys.prefix), ""), (Path.home(), "~")):
        if Path(path).is_relative_to(start):
            return str(short / Path(path).relative_to(start))
    return path
