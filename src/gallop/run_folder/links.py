"""Checks for links and special files in folders that commands write to or copy from.

A run that was copied or downloaded may contain symbolic links to anywhere. Resuming it would
delete, overwrite or append to their targets, and an export would publish them. Links that stay
inside the folder are harmless, and the folder itself may be a link.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gallop.errors import RunError
from gallop.reading import kind_of

TRACKERS_OWN = "wandb"  # W&B's folder contains links to its logs; we neither read nor copy it


def check_contents(folder: Path) -> None:
    """Refuse a folder with links that leave it, or with special files; nothing is opened.

    A folder that does not exist or cannot be read passes: opening it will report the error.

    Raises:
        RunError: naming the first link that leaves the folder and its target, or the first pipe,
            socket or device.
    """
    home = os.path.realpath(folder)
    for entry in _entries(home):
        place = folder / Path(entry.path).relative_to(home)
        if _is_link(entry):
            target = os.path.realpath(entry.path)
            if not _is_inside(target, home):
                raise RunError(
                    f"{place} is a link that leaves the folder, to {target}: replace it with a "
                    "copy of its target, or remove it"
                )
        elif not entry.is_dir(follow_symlinks=False):
            kind = kind_of(entry.stat(follow_symlinks=False).st_mode)
            if kind:
                raise RunError(
                    f"{place} is {kind}, which does not belong in a run folder: remove it"
                )


def check_run_around(path: Path) -> None:
    """Check the run folder, if any, that contains a file to be written.

    Raises:
        RunError: as for `check_contents`.
    """
    for folder in path.absolute().parents:
        if (folder / "experiment.yaml").is_file():
            check_contents(folder)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield everything in a folder and its subfolders; links are not followed."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        yield entry
        is_folder = entry.is_dir(follow_symlinks=False) and not _is_link(entry)
        if is_folder and entry.name != TRACKERS_OWN:
            yield from _entries(entry.path)


def _is_link(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a symbolic link, or a junction on Windows."""
    is_junction = getattr(entry, "is_junction", None)  # from Python 3.12 on
    return entry.is_symlink() or bool(is_junction and is_junction())


def _is_inside(target: str, folder: str) -> bool:
    return target == folder or Path(target).is_relative_to(folder)
