"""One-line errors for exceptions of a task's own code: what happened, and in which of its lines."""

from __future__ import annotations

import functools
import inspect
import logging
import sysconfig
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from gallop.environments.spaces import Env
from gallop.errors import TaskError, described

NOTES = "gallop_notes"  # key of `info` under which a worker sends lines for run.log

log = logging.getLogger(__name__)


def failure(task: str, error: BaseException, env: Env | None = None, doing: str = "") -> TaskError:
    """Convert an exception of a task's own code to a `TaskError`.

    Args:
        task: id of the task.
        error: the exception.
        env: the environment that raised it, if there is one.
        doing: the method that was called: "reset", "step" or "render".
    """
    problem = described(error)
    values = _number_of_values(error, doing)
    if values:
        problem = values
    details = "".join(traceback.format_exception(error))
    return TaskError(task, problem, place_of(error, env), details)


def is_ours(error: BaseException) -> bool:
    """Whether an exception is Gallop's own request to stop, passing through a task's code."""
    return type(error).__module__.partition(".")[0] == "gallop"


def place_of(error: BaseException, env: Env | None = None) -> str:
    """File and line of the innermost frame in the task's own code; empty if there is none.

    That is the innermost frame outside of installed packages, else the innermost one in the file of
    the task's class.
    """
    frames = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    for filename, line in reversed(frames):
        if not filename.startswith("<") and not _is_library(filename):
            return f"{_short(filename)}:{line}"
    own = _file_of(env)
    for filename, line in reversed(frames):
        if filename == own:
            return f"{_short(filename)}:{line}"
    return ""


def innermost(error: BaseException) -> str:
    """File and line that raised an exception, wherever they are."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{_short(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""


def close(env: Env) -> None:
    """Close an environment; an exception that its task raises is logged and otherwise ignored."""
    try:
        env.close()
    except (Exception, SystemExit) as error:
        if is_ours(error):
            raise
        say_once(f"close() failed: {described(error)}\n{traceback.format_exc()}")


def as_number(value: Any) -> float | None:
    """Convert a number, or an array or tensor with one element, to a float; None for anything else.

    Gymnasium's type of a reward is `SupportsFloat`, which includes tensors of PyTorch and JAX.

    >>> as_number(3), as_number(np.array([0.5])), as_number("3"), as_number(None)
    (3.0, 0.5, None, None)
    """
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating):
        try:
            return float(value)
        except OverflowError:  # an int of 400 digits
            return float("inf")
    if hasattr(value, "__float__"):
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError):  # more than one element
            return None
    return None


@functools.cache
def say_once(text: str) -> None:
    """Write a line to run.log, once per process."""
    log.info("%s", text)


def _number_of_values(error: BaseException, doing: str) -> str:
    """Describe the error that Gymnasium's wrappers raise for a step or reset in old Gym's style."""
    if not isinstance(error, ValueError) or "values to unpack" not in str(error):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or "gymnasium" not in Path(frames[-1].filename).parts:
        return ""
    wanted = {
        "step": "(observation, reward, terminated, truncated, info)",
        "reset": "(observation, info)",
    }.get(doing)
    return f"{doing} must return {wanted}: {error}" if wanted else ""


def _is_library(filename: str) -> bool:
    """Whether a file belongs to an installed package, to Python or to Gallop."""
    if {"site-packages", "dist-packages"} & set(Path(filename).parts):
        return True
    return filename.startswith(_own_folders())


@functools.cache
def _own_folders() -> tuple[str, ...]:
    paths = {sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib")}
    paths |= {str(Path(path).resolve()) for path in paths}
    return (*sorted(paths), str(Path(__file__).parents[1]))


def _file_of(env: Env | None) -> str:
    if env is None:
        return ""
    try:
        return inspect.getfile(type(env.unwrapped))
    except (TypeError, OSError):
        return ""


def _short(filename: str) -> str:
    """Shorten a path below the current folder to the part below it."""
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
