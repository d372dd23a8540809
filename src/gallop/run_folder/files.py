"""Atomic writes, and lock files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from gallop.errors import HeldError, RunError
from gallop.reading import open_regular
from gallop.reading import read_json as read_json  # exported next to write_json
from gallop.run_folder import fence, holder
from gallop.run_folder.full_disk import naming_the_file
from gallop.run_folder.run_paths import TEMPORARY
from gallop.strict_json import dumps

SECONDS_OF_LEFTOVERS = 24 * 3600.0
PATIENCE = 1.0  # seconds to wait for a process that only checks whether a lock is free

Json: TypeAlias = dict[str, Any]
"""A JSON object, as read from a file or to be written to one."""


class Held:
    """A lock file that this process holds."""

    def __init__(self, file: Path, folder: Path) -> None:
        """
        Args:
            file: the lock file.
            folder: the folder that it protects.
        """
        self._file, self._folder = file, folder
        self._identity = _identity(file)

    def check(self) -> None:
        """Check, before a commit, that the folder is still the one that is held.

        Raises:
            RunError: if the lock file was deleted or replaced, for example because the folder was
                moved or deleted. Its inode cannot be reused while we hold it open.
        """
        if _identity(self._file) != self._identity:
            raise RunError(
                f"{self._folder} was moved, deleted or replaced during the run; nothing more is "
                "written to it"
            )


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def hold(file: Path, folder: Path, busy: RunError, named: bool = True) -> Iterator[Held]:
    """Hold a folder's lock file within the block.

    Args:
        file: the lock file.
        folder: the folder that it protects.
        busy: raised if another process holds it; the holder is added to the message.
        named: record next to the lock which process holds it; not for mere checks.

    Raises:
        RunError: if the folder cannot be written, or the lock is not a regular file in it.
    """
    from filelock import FileLock, Timeout

    # Older versions of filelock truncate the file, even through a link.
    is_inside = Path(os.path.realpath(file)) == Path(
        os.path.realpath(folder), file.relative_to(folder)
    )
    if not is_inside or (os.path.lexists(file) and not file.is_file()):
        raise RunError(f"{file} must be a regular file, not a link: remove it")
    lock: FileLock = FileLock(file)
    try:
        lock.acquire(timeout=PATIENCE if named else 0, poll_interval=0.02)
    except Timeout:
        who = holder.read_beside(file)
        is_known = who is not None and not who.is_gone()
        raise (type(busy)(f"{busy.message} ({who})") if is_known else busy) from None
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}") from None
    if named:
        holder.write_beside(file)
    try:
        yield Held(file, folder)
    finally:
        if named:
            holder.forget_beside(file)
        lock.release()


@contextlib.contextmanager
def hold_folder(folder: Path, lock: str) -> Iterator[None]:
    """Hold the folder of several runs within the block; it is made if needed.

    Args:
        folder: the folder.
        lock: name of the lock file in it.

    Raises:
        HeldError: if another process is running it.
        RunError: if it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}") from None
    busy = HeldError(f"{folder} is being run by another process")
    with hold(folder / lock, folder, busy):
        yield


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file atomically: temporary file, fsync, rename."""
    with replacing(path.parent) as folder:
        (folder / path.name).write_bytes(content)


def write_json(path: Path, data: Mapping[str, object]) -> None:
    """Replace a JSON file, indented; non-finite numbers become strings."""
    write_bytes(path, (dumps(data, indent=2) + "\n").encode())


def npz_bytes(arrays: Mapping[str, ArrayLike]) -> bytes:
    """Return the content of an .npz file of plain arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def write_npz(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Replace an .npz file of plain arrays."""
    write_bytes(path, npz_bytes(arrays))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open_regular(path) as file:
        found = hashlib.sha256()
        while chunk := file.read(1 << 20):
            found.update(chunk)
        return found.hexdigest()


Announce: TypeAlias = Callable[[list[Path]], None]
"""Called with the new files, once they are on disk and before the first is moved into place."""


@contextlib.contextmanager
def replacing(folder: Path, announce: Announce | None = None) -> Iterator[Path]:
    """Yield a temporary folder whose files replace those of `folder` if the block succeeds.

    Each file appears complete: it is synced to disk before it is renamed into place.

    Args:
        folder: where the files go; made if it does not exist.
        announce: called before the files are renamed.
    """
    make_folders(folder)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder))
    try:
        fence.check(temporary)
        with naming_the_file(temporary, folder):
            yield temporary
            files = sorted(temporary.iterdir())
            for file in files:
                sync(file)
            if announce is not None:
                announce(files)
            for file in files:
                file.replace(folder / file.name)
            sync(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def new_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `path` if the block succeeds.

    Args:
        path: the new folder.
        replace: replace an existing folder.

    Raises:
        FileExistsError: if `path` exists, unless `replace`.
    """
    make_folders(path.parent)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
    try:
        fence.check(temporary)
        _remove_old_leftovers(path.parent, temporary.stat().st_mtime)
        with naming_the_file(temporary, path):
            yield temporary
            sync_all(temporary)
            if replace:  # a run killed between this point and its next boundary leaves a folder
                remove_folder(path)
            elif path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            temporary.chmod(0o755)
            temporary.rename(path)
            sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_folders(path: Path) -> None:
    """Make a folder and its parents, and sync their names to disk."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def remove_folder(path: Path) -> None:
    """Delete a folder atomically: no part of it is ever left under its name."""
    if path.is_symlink() or not path.is_dir():
        return
    remove_together([path])


def remove_together(paths: Sequence[Path]) -> None:
    """Delete files or folders of one folder, each atomically."""
    if not paths:
        return
    aside = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=paths[0].parent))
    try:
        fence.check(aside)
        for path in paths:
            path.rename(aside / path.name)
        sync(paths[0].parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_file(path: Path) -> None:
    """Delete a file of a run, if it is there."""
    if os.path.lexists(path):
        remove_together([path])


def move_folder(path: Path, target: Path) -> None:
    """Move a folder to another parent; an existing target is replaced.

    It is in one of the two places, or in both, at all times.
    """
    with new_folder(target, replace=True) as temporary:
        shutil.copytree(path, temporary, copy_function=link_or_copy, dirs_exist_ok=True)
    remove_folder(path)


def link_or_copy(source: str, target: str) -> None:
    """Give a file that never changes another name, or copy it where that is impossible."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def remove_leftovers(folder: Path) -> None:
    """Delete temporary folders left by processes that were killed while writing.

    Raises:
        FencedError: if the run was given to another process.
    """
    leftovers = fence.temporary_folders(folder)
    fence.check(folder)  # after listing, so that folders which our successor makes later stay
    for leftover in leftovers:
        shutil.rmtree(leftover, ignore_errors=True)


def _remove_old_leftovers(folder: Path, now: float) -> None:
    """Delete temporary folders too old to be still in use, left by killed processes.

    Args:
        folder: where they are.
        now: time by the clock of the file system, which may be on another machine.
    """
    for leftover in folder.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):  # another process may be deleting it
            if now - leftover.stat().st_mtime > SECONDS_OF_LEFTOVERS:
                shutil.rmtree(leftover, ignore_errors=True)


def sync_all(folder: Path) -> None:
    """Sync a folder and everything in it to disk."""
    for path in sorted(folder.rglob("*")):
        if not path.is_symlink() and (path.is_dir() or path.is_file()):
            sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Sync a file, or the names in a folder, to disk (fsync)."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
