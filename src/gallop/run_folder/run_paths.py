"""Paths of the runs in a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

GROUP_FILE = "group.yaml"  # marks a folder as a group of runs, with one subfolder per seed
GRID_FILE = "grid.yaml"  # marks a folder as that of a grid of groups
REPORT = "report.html"  # the page of a run or of a group, in its folder
TEMPORARY = ".new-"  # starts the names of files and folders that are being written or deleted


def run_paths(results: Path) -> list[Path]:
    """Return the paths of all runs in a results folder, including those in groups, oldest first."""
    found = [file.parent for file in results.glob("*/*/experiment.yaml")]
    groups = [file.parent for file in results.glob(f"*/*/{GROUP_FILE}")]
    found += [file.parent for group in groups for file in group.glob("*/experiment.yaml")]
    return _oldest_first(found)


def newest_inside(path: Path) -> str:
    """Return the end of an error message: what is in a folder that is not a run itself.

    Args:
        path: any folder, such as that of all runs, or of those of one algorithm and task.

    Returns:
        The newest run, or how to write a grid's page; empty if there is no run in it.
    """
    if (path / GRID_FILE).is_file():
        return (
            "; it is a grid: name one of its groups or runs, or write its page again with gallop "
            "experiment"
        )
    try:
        found = _oldest_first(file.parent for file in path.glob("*/experiment.yaml"))
        found = found or run_paths(path)
    except OSError:  # an entry that has just disappeared, or cannot be read
        return ""
    return f"; the newest run in it is {found[-1]}" if found else ""


def _oldest_first(paths: Iterable[Path]) -> list[Path]:
    complete = [path for path in paths if not path.name.startswith(".")]  # see `new_folder`
    return sorted(complete, key=lambda path: (path.stat().st_ctime, path.name))
