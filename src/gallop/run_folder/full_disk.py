"""A full disk: recognised whatever library met it, and said in one line."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from gallop.errors import (
    DivergedError,
    ExperimentError,
    TaskError,
    WorkerError,
    described,
    printable,
)

_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# safetensors, torch, SQLite and ffmpeg tell it in words alone.
_WORDS = re.compile(
    r"no space left on device|disk quota exceeded|file too large|disk is full"
    r"|PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+|os error (28|122|27)\b",
    re.IGNORECASE,
)


class DiskFullError(OSError):
    """There is no room for a file; the message is one line."""

    def __init__(
        self, path: Path, rest: str = "", cause: BaseException | None = None, what: str = ""
    ) -> None:
        """
        Args:
            rest: what else to say after how much is free, such as how to go on; it closes the
                bracket.
            cause: what the file system, or a library, said.
            what: instead of what `cause` says.
        """
        self.path = path
        self.says_how_to_go_on = bool(rest)
        self.reason = _reason(cause)
        free = in_words(free_bytes(path))
        what = what or f"cannot be written: {self.reason}"
        super().__init__(printable(f"{path} {what} ({free} free{rest or ')'}"))


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk is what an error, or one behind it, comes from.

    The system's number says so. Only errors of libraries that hand on no number are told by their
    words: a path, or what a task's own code says, may hold any.
    """
    chain = list(_chain(error))
    if any(isinstance(e, DiskFullError) or getattr(e, "errno", None) in _NUMBERS for e in chain):
        return True
    if any(isinstance(each, TaskError | WorkerError | DivergedError) for each in chain):
        return False
    others = [each for each in chain if not isinstance(each, OSError | ExperimentError)]
    return any(_WORDS.search(described(each)) for each in others)


def file_of(error: BaseException | None, default: Path) -> Path:
    """The file that there was no room for, as far as the error, or one behind it, tells."""
    for each in _chain(error):
        if isinstance(each, DiskFullError):
            return each.path
        name = getattr(each, "filename", None)
        if isinstance(each, OSError) and isinstance(name, str | os.PathLike):
            return Path(name)
    return default


@contextlib.contextmanager
def naming_the_file(temporary: Path, folder: Path) -> Iterator[None]:
    """Say which file there was no room for: the one that was being written when it failed.

    Args:
        temporary: where files are written that shall lie in `folder`.

    Raises:
        DiskFullError: instead of whatever a library raised.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFullError) or not is_full(error):
            raise
        written = sorted(temporary.glob("*"), key=lambda path: path.stat().st_mtime_ns)
        path = folder / written[-1].name if written else folder
        raise DiskFullError(path, cause=error) from error


def free_bytes(path: Path) -> int:
    """What is free where a path lies, or will."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def in_words(n_bytes: float) -> str:
    """
    >>> in_words(1_234_000), in_words(96_000), in_words(3.1e9)
    ('1.2 MB', '96 kB', '3.1 GB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:,.1f} {name}"
    return f"{n_bytes / 1e3:,.0f} kB"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those behind it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _reason(error: BaseException | None) -> str:
    for each in _chain(error):
        if isinstance(each, DiskFullError):
            return each.reason
        if getattr(each, "errno", None) in _NUMBERS:
            return os.strerror(getattr(each, "errno", 0)).lower()
    return os.strerror(errno.ENOSPC).lower()
