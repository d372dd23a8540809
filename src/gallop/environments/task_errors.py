"""What a task's own code raises, as one line: what happened, in which of the task's own lines."""

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
    """An exception of a task's own code as a `TaskError`.

    Args:
        env: whose code it is, where there is one.
        doing: what the task was asked for: "reset", "step", "render".
    """
    problem = described(error)
    values = _number_of_values(error, doing)
    if values:
        problem = values
    details = "".join(traceback.format_exception(error))
    return TaskError(task, problem, place_of(error, env), details)


def is_ours(error: BaseException) -> bool:
    """Whether an exception is Gallop's own, on its way through a task's code: a request to stop."""
    return type(error).__module__.partition(".")[0] == "gallop"


def place_of(error: BaseException, env: Env | None = None) -> str:
    """File and line of the innermost frame that is the task's own; empty where there is none.

    The innermost frame outside of installed packages, else in the file of the task's class.
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


def close(env: Env) -> None:
    """Close an environment; what its task raises then is logged, and stops nothing."""
    try:
        env.close()
    except (Exception, SystemExit) as error:
        if is_ours(error):
            raise
        say_once(f"close() failed: {described(error)}\n{traceback.format_exc()}")


def as_number(value: Any) -> float | None:
    """A number, or an array or tensor of one, as a float; None for anything else.

    Gymnasium's type of a reward is `SupportsFloat`: numbers of PyTorch and JAX are some, too.

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
        except (TypeError, ValueError, RuntimeError):  # several numbers
            return None
    return None


@functools.cache
def say_once(text: str) -> None:
    """One line for run.log, once in this process."""
    log.info("%s", text)


def _number_of_values(error: BaseException, doing: str) -> str:
    """What a wrapper of Gymnasium says of a step or reset in the manner of old Gym."""
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
    """Whether a file is of an installed package, Python's own or Gallop."""
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
    """Below the current folder without it."""
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
