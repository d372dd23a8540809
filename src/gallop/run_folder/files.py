"""Writes that are whole or absent, and locks."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from gallop.errors import RunError
from gallop.reading import read_json as read_json  # beside its opposite
from gallop.strict_json import dumps

Json: TypeAlias = dict[str, Any]
"""A JSON object as read from a file, or to be written to one."""


@contextlib.contextmanager
def hold(file: Path, folder: Path, busy: RunError) -> Iterator[None]:
    """Hold a folder by its lock file; `busy` is raised where another process does.

    Raises:
        RunError: if the folder cannot be written, or the lock is no file in it.
    """
    from filelock import FileLock, Timeout

    # Older versions of filelock empty the file, also one that a link leads to.
    is_inside = Path(os.path.realpath(file)) == Path(
        os.path.realpath(folder), file.relative_to(folder)
    )
    if not is_inside or (os.path.lexists(file) and not file.is_file()):
        raise RunError(f"{file} is a link or no file: remove it")
    lock: FileLock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise busy from None
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file: temporary file, fsync, rename."""
    with replacing(path.parent) as folder:
        (folder / path.name).write_bytes(content)


def write_json(path: Path, data: Mapping[str, object]) -> None:
    """Replace a JSON file, indented for people; numbers that are not finite become text."""
    write_bytes(path, (dumps(data, indent=2) + "\n").encode())


def write_npz(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Replace an .npz of plain arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getvalue())


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A temporary folder whose files replace those of `folder` when the block ends well.

    Each file appears whole: it is synced to disk before it is renamed to its place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    try:
        yield temporary
        for file in sorted(temporary.iterdir()):
            _sync(file)
            file.replace(folder / file.name)
        _sync(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path`, whole, when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=path.parent))
    try:
        yield temporary
        for file in sorted(temporary.iterdir()):
            _sync(file)
        _sync(temporary)
        if path.exists():  # left by a run that was killed between here and its next boundary
            shutil.rmtree(path)
        temporary.chmod(0o755)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary folders of processes that were killed while they wrote."""
    for leftover in folder.rglob(".new-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
