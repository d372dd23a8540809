"""Who may write to a run folder that several machines share, and whether they are still at work.

A lock is not enough there. A machine that is cut off or suspended may keep its lock and write on,
after another machine has been given the run. So whoever hands out a run first raises a fence: it
writes a new token into the folder and gives the token to the new process. Each write checks it:

    the writer                                  who takes the run from it
    1. makes a temporary folder in the run      1. replaces the token, and deletes the lock
    2. compares the token with its own          2. deletes all temporary folders
    3. moves files from there into place

If the writer compares the token after it was replaced, it stops. If it compared it before, its
temporary folder is gone by the time that the next process starts, and so are the files to move.

Source of the idea: Kleppmann, "How to do distributed locking" (2016), on fencing tokens.

state/fence holds the token, and state/lease what the current process said last:

    {"token": …, "beat": 12, "host": "node-3", "node": "4c72867e…", "pid": 711}
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import uuid
from pathlib import Path
from typing import NamedTuple

from gallop.errors import FencedError, RunError, printable
from gallop.reading import open_regular
from gallop.run_folder.run_paths import TEMPORARY
from gallop.strict_json import dumps

VARIABLE = "GALLOP_FENCE"
"""Environment variable of a process that was given a run: the token, a space, the run's folder."""

MAX_BYTES = 4096


class Lease(NamedTuple):
    """What the process that was given a run said last."""

    token: str
    beat: int
    """Increases as long as the process is at work."""
    host: str
    node: str
    """The engine's name of the machine."""
    pid: int


def fence_file(folder: Path) -> Path:
    """Return the path of a run's fence."""
    return folder / "state" / "fence"


def lease_file(folder: Path) -> Path:
    """Return the path of a run's lease."""
    return folder / "state" / "lease"


# --- whoever hands out the run -------------------------------------------------------------------


def raise_fence(folder: Path, *, break_lock: bool) -> str:
    """Take a run from every process that was given it before; they can write nothing more.

    Args:
        folder: the run.
        break_lock: delete the lock, too, for a process that holds it and does not answer.

    Returns:
        The token of the next process.

    Raises:
        RunError: if a temporary folder cannot be deleted.
    """
    token = uuid.uuid4().hex
    (folder / "state").mkdir(exist_ok=True)  # it may have been deleted
    _write(fence_file(folder), token)
    if break_lock:
        (folder / "state" / "lock").unlink(missing_ok=True)
    removed: set[Path] = set()  # by their new names; open files may keep them there
    while found := [path for path in temporary_folders(folder) if path not in removed]:
        for path in found:
            removed.add(_remove(path))
    return token


def _write(path: Path, content: str) -> None:
    """Write a small file. Who reads it half-written takes it for another token, or for no lease."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o644)
    try:
        os.write(descriptor, content.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_folders(folder: Path) -> list[Path]:
    """Return the temporary folders in a folder, and whatever else is called so."""
    found = []
    for parent, folders, files in os.walk(folder):  # others may delete them meanwhile
        names = (*folders, *files)
        found += [Path(parent, name) for name in names if name.startswith(TEMPORARY)]
        folders[:] = [name for name in folders if not name.startswith(TEMPORARY)]
    return found


def _remove(path: Path) -> Path:
    """Delete a temporary folder; renamed first, so that a writer never moves a part of it.

    Returns:
        Its new name. It may still be there, with files that another process has open.

    Raises:
        RunError: if it cannot be renamed.
    """
    aside = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        path.rename(aside)
    except FileNotFoundError:  # its writer has just deleted it
        return aside
    except OSError as error:
        raise RunError(f"{path} cannot be deleted: {error.strerror}") from None
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)
    return aside


# --- the process that was given it ---------------------------------------------------------------


def variable(folder: Path, token: str) -> dict[str, str]:
    """Return the environment variable of the process that is given a run."""
    return {VARIABLE: f"{token} {folder.absolute()}"}


def enter(folder: Path) -> None:
    """Check, when this process has locked a run, that it may write to it.

    A process to which no engine gave the run, such as a command of the user, takes it from whoever
    was given it before.

    Raises:
        FencedError: if this process was given the run, and it was taken from it.
    """
    if _given()[1] == str(folder.absolute()):
        check(folder)
    elif read_token(folder):
        raise_fence(folder, break_lock=False)


def _given() -> tuple[str, str]:
    """Return token and folder of the run that this process was given; empty if none."""
    token, _, folder = os.environ.get(VARIABLE, "").partition(" ")
    return token, folder


def check(path: Path) -> None:
    """Check, before files are moved into a run, that it was not taken from this process.

    Args:
        path: the temporary folder that holds them.

    Raises:
        FencedError: if it was.
    """
    token, given = _given()
    if not given or not path.absolute().is_relative_to(given):
        return
    if read_token(Path(given)) != token:
        raise FencedError(f"{given} was given to another process; nothing more is written to it")


def read_token(folder: Path) -> str:
    """Return the token of the process that may write; empty if the run was never handed out."""
    try:
        # Opening asks a network file system for the current file; `stat` may be minutes old.
        with open_regular(fence_file(folder)) as file:
            return file.read(MAX_BYTES).decode(errors="replace")
    except OSError:
        return ""


def write_lease(folder: Path, lease: Lease) -> None:
    """Say that the process is at work."""
    _write(lease_file(folder), dumps(lease._asdict()) + "\n")


def our_lease(token: str, beat: int, node: str) -> Lease:
    """Return the lease of this process."""
    return Lease(token, beat, platform.node(), node, os.getpid())


def read_lease(folder: Path) -> Lease | None:
    """Return what the process that was given the run said last; None if it said nothing."""
    try:
        with open_regular(lease_file(folder)) as file:
            data = json.loads(file.read(MAX_BYTES))
        lease = Lease(**{name: data[name] for name in Lease._fields})
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return lease._replace(host=printable(str(lease.host))[:100])
