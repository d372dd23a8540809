"""Links and special files inside a folder that a command writes into or copies from.

A run that was copied or downloaded may hold symbolic links to anywhere. Going on with it would
delete, overwrite or append to what they lead to, and an export would publish it. Links that stay
inside the folder do no harm, and the folder itself may be reached by one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gallop.errors import RunError
from gallop.reading import kind_of

TRACKERS_OWN = "wandb"  # W&B's folder: it links its logs from there; we neither read nor copy it


def check_contents(folder: Path) -> None:
    """Refuse a folder whose contents lead out of it, or are no files; nothing is opened.

    A folder that is not there, or cannot be looked into, is left to whoever opens it.

    Raises:
        RunError: naming the first link that leaves the folder and where it leads, or the first
            pipe, socket or device.
    """
    home = os.path.realpath(folder)
    for entry in _entries(home):
        place = folder / Path(entry.path).relative_to(home)
        if _is_link(entry):
            target = os.path.realpath(entry.path)
            if not _is_inside(target, home):
                raise RunError(
                    f"{place} is a link that leaves the folder, to {target}: put a copy of what it "
                    "leads to in its place, or remove it"
                )
        elif not entry.is_dir(follow_symlinks=False):
            kind = kind_of(entry.stat(follow_symlinks=False).st_mode)
            if kind:
                raise RunError(f"{place} is {kind}, and no file that a run has: remove it")


def check_run_around(path: Path) -> None:
    """Check the run's folder that a file to be written lies in, if it lies in one.

    Raises:
        RunError: as `check_contents` does.
    """
    for folder in path.absolute().parents:
        if (folder / "experiment.yaml").is_file():
            check_contents(folder)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """All that lies below a folder; links are not followed."""
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
    """Windows has junctions besides."""
    is_junction = getattr(entry, "is_junction", None)  # from Python 3.12 on
    return entry.is_symlink() or bool(is_junction and is_junction())


def _is_inside(target: str, folder: str) -> bool:
    return target == folder or Path(target).is_relative_to(folder)
