"""Full disks: recognised in the errors of any library, and reported on one line."""

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
    causes,
    described,
    printable,
)

_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# safetensors, torch, SQLite and ffmpeg report it only in words.
_WORDS = re.compile(
    r"no space left on device|disk quota exceeded|file too large|disk is full"
    r"|PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+|os error (28|122|27)\b",
    re.IGNORECASE,
)


class DiskFullError(OSError):
    """The disk has no space for a file; the message is one line."""

    def __init__(
        self, path: Path, rest: str = "", cause: BaseException | None = None, what: str = ""
    ) -> None:
        """
        Args:
            path: the file or folder.
            rest: end of the message after the free space, such as how to resume; it must close
                the bracket.
            cause: the error of the file system or of a library.
            what: replaces the reason given by `cause`.
        """
        self.path = path
        self.says_how_to_go_on = bool(rest)
        self.reason = _reason(cause)
        free = in_words(free_bytes(path))
        what = what or f"cannot be written: {self.reason}"
        super().__init__(printable(f"{path} {what} ({free} free{rest or ')'}"))


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, comes from a full disk.

    The system's error number decides. Words are examined only in errors of libraries, which may
    pass on no number: a path, or a message of a task's own code, may contain any words.
    """
    chain = list(causes(error))
    if any(isinstance(e, DiskFullError) or getattr(e, "errno", None) in _NUMBERS for e in chain):
        return True
    if any(isinstance(each, TaskError | WorkerError | DivergedError) for each in chain):
        return False
    others = [each for each in chain if not isinstance(each, OSError | ExperimentError)]
    return any(_WORDS.search(described(each)) for each in others)


def file_of(error: BaseException | None, default: Path) -> Path:
    """Return the file that could not be written, if the error or one of its causes names it."""
    for each in causes(error):
        if isinstance(each, DiskFullError):
            return each.path
        name = getattr(each, "filename", None)
        if isinstance(each, OSError) and isinstance(name, str | os.PathLike):
            return Path(name)
    return default


@contextlib.contextmanager
def naming_the_file(temporary: Path, folder: Path) -> Iterator[None]:
    """Within the block, turn errors of a full disk into one that names the file being written.

    Args:
        temporary: where files are written before they are moved to `folder`.
        folder: their destination.

    Raises:
        DiskFullError: in place of whatever a library raised.
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
    """Return the free bytes on the disk of a path, which need not exist yet."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def in_words(n_bytes: float) -> str:
    """Return a number of bytes in GB, MB or kB.

    >>> in_words(1_234_000), in_words(96_000), in_words(3.1e9)
    ('1.2 MB', '96 kB', '3.1 GB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:,.1f} {name}"
    return f"{n_bytes / 1e3:,.0f} kB"


def _reason(error: BaseException | None) -> str:
    for each in causes(error):
        if isinstance(each, DiskFullError):
            return each.reason
        if getattr(each, "errno", None) in _NUMBERS:
            return os.strerror(getattr(each, "errno", 0)).lower()
    return os.strerror(errno.ENOSPC).lower()
