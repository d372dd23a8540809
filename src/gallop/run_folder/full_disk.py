"""A full disk: recognised whatever library met it, and said in one line."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path

from gallop.errors import RunError

_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# safetensors, torch, SQLite and ffmpeg tell it in words alone.
_WORDS = re.compile(
    r"no space left on device|disk quota exceeded|file too large|disk is full"
    r"|PytorchStreamWriter failed writing|os error (28|122|27)\b",
    re.IGNORECASE,
)


class DiskFullError(OSError):
    """The disk is full; the message is one line."""


class TooLittleSpaceError(RunError):
    """A run is refused before it begins: there is no room for it."""


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk is what an error, or one behind it, comes from."""
    while error is not None:
        if isinstance(error, DiskFullError) or getattr(error, "errno", None) in _NUMBERS:
            return True
        # Only errors of other libraries are told by their words: a path may hold any.
        if not isinstance(error, OSError) and _WORDS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def free_bytes(path: Path) -> int:
    """What is free where a path lies, or will."""
    there = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
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
