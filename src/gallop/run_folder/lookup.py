"""Finding runs in a results folder: by name, the newest, the run that contains a file."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from pathlib import Path

from gallop.errors import RunError
from gallop.run_folder.directory import GROUP_FILE, RunDirectory


def run_path(results: Path, algo: str, env: str, name: str) -> Path:
    """Return the path of a run: <results>/<ALGO>_<ENV_ID>/<name>.

    Raises:
        RunError: if the name is not a single path component.
    """
    if not is_a_name(name):
        raise RunError(
            f"--name {name!r}: must be a single folder name, without slashes, backslashes or colons"
        )
    return results / f"{algo.upper()}_{re.sub('[/:]', '-', env)}" / name


def is_a_name(name: str) -> bool:
    """Whether a name is a single path component other than "." and ".."."""
    return bool(re.fullmatch(r"[^/\\:\0]+", name)) and name not in (".", "..")


def name_of_now() -> str:
    """Return the default name of a run: the current time, as YYYYMMDD_HHMMSS."""
    return datetime.datetime.now().strftime("%Y%m%d_%H%M%S")


def all_runs(results: Path) -> list[RunDirectory]:
    """Return all runs in a results folder, including those in groups, oldest first."""
    found = [file.parent for file in results.glob("*/*/experiment.yaml")]
    groups = [file.parent for file in results.glob(f"*/*/{GROUP_FILE}")]
    found += [file.parent for group in groups for file in group.glob("*/experiment.yaml")]
    return _oldest_first(found)


def _oldest_first(found: Iterable[Path]) -> list[RunDirectory]:
    found = [path for path in found if not path.name.startswith(".")]  # incomplete: `new_folder`
    return [RunDirectory(path) for path in sorted(found, key=lambda p: (p.stat().st_ctime, p.name))]


def newest_inside(path: Path) -> str:
    """Return the end of an error message: the newest run in a folder that is not one itself.

    Args:
        path: any folder, such as that of all runs, or of those of one algorithm and task.

    Returns:
        Empty if there is no run in it.
    """
    try:
        runs = _oldest_first(file.parent for file in path.glob("*/experiment.yaml"))
        runs = runs or all_runs(path)
    except OSError:  # an entry that has just disappeared, or cannot be read
        return ""
    return f"; the newest run in it is {runs[-1].path}" if runs else ""


def containing_run(path: Path) -> RunDirectory | None:
    """Return the run that contains a file or folder; None if there is none."""
    for folder in (path, *path.resolve().parents):
        if (folder / "experiment.yaml").is_file():
            return RunDirectory(folder)
    return None


def newest_run(results: Path, unfinished: bool) -> RunDirectory:
    """Return the newest run, or the newest unfinished run.

    Raises:
        RunError: if there is none.
    """
    for folder in reversed(all_runs(results)):
        if not unfinished or not folder.is_finished():
            return folder
    kind = "unfinished run" if unfinished else "run"
    raise RunError(f"{results}: no {kind} found")
